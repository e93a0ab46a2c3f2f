"""niquests' async session, with a semaphore and gather."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import niquests

from benchmarks.peers.peer import KEY, Haul, Walk


@asynccontextmanager
async def opened(address: str, at_once: int) -> AsyncIterator[Walk]:
    async with niquests.AsyncSession(base_url=address, pool_maxsize=at_once) as http:
        yield partial(walk, http, at_once)


async def walk(http: niquests.AsyncSession, at_once: int, since: str | None) -> Haul:
    semaphore = asyncio.Semaphore(at_once)
    filters = {"startTime": since} if since else {}
    sessions = await fetch_all(http, semaphore, "/api/chat/sessions", limit=100, **filters)
    chats = await asyncio.gather(
        *(
            fetch_all(http, semaphore, "/api/chat/messages", limit=200, sessionId=session["id"])
            for session in sessions
        )
    )
    return Haul(len(sessions), sum(len(messages) for messages in chats))


async def fetch_all(
    http: niquests.AsyncSession, semaphore: asyncio.Semaphore, path: str, **params: Any
) -> list[dict[str, Any]]:
    rows = []
    params["apikey"] = KEY
    while True:
        async with semaphore:
            response = await http.get(path, params=params)
        response.raise_for_status()
        data = response.json()["data"]
        rows.extend(data["data"])
        if not data["nextCursor"]:
            return rows
        params["cursor"] = data["nextCursor"]
