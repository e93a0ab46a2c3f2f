"""Bare aiohttp and msgspec, written for speed alone: what aiohttp allows at best.

URLs made in one piece, no cookies, no timeout, no retries, no limits, no events, no checks.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Generic, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from benchmarks.peers.peer import KEY, Haul, Walk

T = TypeVar("T")


class Session(msgspec.Struct, gc=False, rename="camel"):
    id: str
    status: int
    start_time: str
    end_time: str | None
    video_url: str | None


class Message(msgspec.Struct, gc=False, rename="camel"):
    id: str
    role: int
    message_type: int
    content: str
    created_at: str


class Rows(msgspec.Struct, Generic[T], rename="camel"):
    data: list[T]
    next_cursor: str | None = None


class Envelope(msgspec.Struct, Generic[T]):
    data: T


SESSIONS = msgspec.json.Decoder(Envelope[Rows[Session]])
MESSAGES = msgspec.json.Decoder(Envelope[Rows[Message]])


@asynccontextmanager
async def opened(address: str, at_once: int) -> AsyncIterator[Walk]:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield partial(walk, http, address, at_once)


async def walk(http: aiohttp.ClientSession, address: str, at_once: int, since: str | None) -> Haul:
    sessions = await listing(http, address, since)
    ids = iter([session.id for session in sessions])
    counts = await asyncio.gather(*(worker(http, address, ids) for _ in range(at_once)))
    return Haul(len(sessions), sum(counts))


async def listing(http: aiohttp.ClientSession, address: str, since: str | None) -> list[Session]:
    asked = {"apikey": KEY, "limit": 100} | ({"startTime": since} if since else {})
    sessions = []
    while True:
        url = URL(f"{address}/api/chat/sessions?{urlencode(asked)}", encoded=True)
        async with http.get(url) as answer:
            page = SESSIONS.decode(await answer.read()).data
        sessions += page.data
        if page.next_cursor is None:
            return sessions
        asked["cursor"] = page.next_cursor


async def worker(http: aiohttp.ClientSession, address: str, ids: Iterator[str]) -> int:
    messages = 0
    before = f"{address}/api/chat/messages?apikey={KEY}&limit=200&sessionId="
    for session_id in ids:
        async with http.get(URL(before + session_id, encoded=True)) as answer:
            messages += len(MESSAGES.decode(await answer.read()).data.data)
    return messages
