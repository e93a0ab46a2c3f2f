"""requests with one Session, and a thread for each request at once."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from benchmarks.peers.peer import KEY, Haul, Walk


@asynccontextmanager
async def opened(address: str, at_once: int) -> AsyncIterator[Walk]:
    with requests.Session() as http:
        http.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=at_once))

        # It blocks the event loop, on which nothing else runs.
        async def walk(since: str | None) -> Haul:
            return export(http, address, at_once, since)

        yield walk


def export(http: requests.Session, address: str, at_once: int, since: str | None) -> Haul:
    filters = {"startTime": since} if since else {}
    sessions = fetch_all(http, f"{address}/api/chat/sessions", limit=100, **filters)

    def messages_of(session: dict[str, Any]) -> list[dict[str, Any]]:
        return fetch_all(http, f"{address}/api/chat/messages", limit=200, sessionId=session["id"])

    with ThreadPoolExecutor(at_once) as threads:
        chats = list(threads.map(messages_of, sessions))
    return Haul(len(sessions), sum(len(messages) for messages in chats))


def fetch_all(http: requests.Session, url: str, **params: Any) -> list[dict[str, Any]]:
    rows = []
    params["apikey"] = KEY
    while True:
        response = http.get(url, params=params)
        response.raise_for_status()
        data = response.json()["data"]
        rows.extend(data["data"])
        if not data["nextCursor"]:
            return rows
        params["cursor"] = data["nextCursor"]
