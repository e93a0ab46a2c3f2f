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
    http: aiohttp.ClientSession,
    semaphore: asyncio.Semaphore,
    path: str,
    **params: Any,
) -> list[dict[str, Any]]:
    return [row async for page in pages(http, semaphore, path, **params) for row in page]


async def pages(
    http: aiohttp.ClientSession, semaphore: asyncio.Semaphore, path: str, **params: Any
) -> AsyncIterator[list[dict[str, Any]]]:
    params["apikey"] = KEY
    while True:
        async with semaphore, http.get(path, params=params) as response:
            response.raise_for_status()
            data = (await response.json())["data"]
        yield data["data"]
        if not data["nextCursor"]:
            return
        params["cursor"] = data["nextCursor"]
