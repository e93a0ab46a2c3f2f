"""aiohttp and its `json()`, with a semaphore and gather."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp

from benchmarks.peers.peer import KEY, Haul, Walk


@asynccontextmanager
async def opened(address: str, at_once: int) -> AsyncIterator[Walk]:
    async with aiohttp.ClientSession(address) as http:
        yield partial(walk, http, at_once)


async def walk(http: aiohttp.ClientSession, at_once: int, since: str | None) -> Haul:
    semaphore = asyncio.Semaphore(at_once)
    sessions = await fetch_all(http, semaphore, "/api/chat/sessions", limit=100, since=since)
    chats = await asyncio.gather(
        *(
            fetch_all(http, semaphore, "/api/chat/messages", limit=200, sessionId=session["id"])
            for session in sessions
        )
    )
    return Haul(len(sessions), sum(len(messages) for messages in chats))


async def fetch_all(
    http: aiohttp.ClientSession,
    semaphore: asyncio.Semaphore,
    path: str,
    *,
    since: str | None = None,
    **params: Any,
) -> list[dict[str, Any]]:
    rows = []
    params["apikey"] = KEY
    if since:
        params["startTime"] = since
    while True:
        async with semaphore, http.get(path, params=params) as response:
            response.raise_for_status()
            data = (await response.json())["data"]
        rows.extend(data["data"])
        if not data["nextCursor"]:
            return rows
        params["cursor"] = data["nextCursor"]
