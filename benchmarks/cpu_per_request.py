"""What does a request cost in CPU through the whole client, beside a bare, tuned aiohttp + msgspec loop?

Both list the same sessions, 100 a page, and fetch each one's page of messages, 32 at once, on the same event
loop from a local server. The bare loop is what aiohttp allows at best: URLs made in one piece, no cookies, no
timeout, no retries, no gate, no events, no checks. Whatever ours costs more is our own.
"""

import asyncio
import importlib.util
from collections.abc import Iterator
from typing import Generic, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from benchmarks import server
from benchmarks.contender import Job
from navtalk_async.client import NavTalkClient
from navtalk_async.pool import SessionPool

T = TypeVar("T")

KEY = "a-made-up-key"
AT_ONCE = 32
WARM_UP_PAGES = 5


class Session(msgspec.Struct, gc=False, rename="camel"):
    """A session as the plain loop reads it."""

    id: str
    status: int
    start_time: str
    end_time: str | None
    video_url: str | None


class Message(msgspec.Struct, gc=False, rename="camel"):
    """A message as the plain loop reads it."""

    id: str
    role: int
    message_type: int
    content: str
    created_at: str


class Rows(msgspec.Struct, Generic[T], rename="camel"):
    """The rows of a page, and where the next one is."""

    data: list[T]
    next_cursor: str | None = None


class Envelope(msgspec.Struct, Generic[T]):
    """What stands around every answer."""

    data: T


SESSIONS = msgspec.json.Decoder(Envelope[Rows[Session]])
MESSAGES = msgspec.json.Decoder(Envelope[Rows[Message]])


async def bare(job: Job) -> None:
    """The loop one would write for speed alone."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        await bare_walk(http, job.address, WARM_UP_PAGES)
        with job.meter:
            job.meter.units = await bare_walk(http, job.address, job.size)


async def bare_walk(http: aiohttp.ClientSession, address: str, pages: int) -> int:
    sessions = await bare_listing(http, address, pages)
    ids = iter([session.id for session in sessions])
    counts = await asyncio.gather(*(bare_worker(http, address, ids) for _ in range(AT_ONCE)))
    return checked(pages, sessions=len(sessions), messages=sum(counts))


async def bare_listing(http: aiohttp.ClientSession, address: str, pages: int) -> list[Session]:
    asked = {"apikey": KEY, "limit": 100, "startTime": server.begin_of_last(pages)}
    sessions = []
    while True:
        url = URL(f"{address}/api/chat/sessions?{urlencode(asked)}", encoded=True)
        async with http.get(url) as answer:
            page = SESSIONS.decode(await answer.read()).data
        sessions += page.data
        if page.next_cursor is None:
            return sessions
        asked["cursor"] = page.next_cursor


async def bare_worker(http: aiohttp.ClientSession, address: str, ids: Iterator[str]) -> int:
    messages = 0
    before = f"{address}/api/chat/messages?apikey={KEY}&limit=200&sessionId="
    for session_id in ids:
        async with http.get(URL(before + session_id, encoded=True)) as answer:
            messages += len(MESSAGES.decode(await answer.read()).data.data)
    return messages


async def ours(job: Job) -> None:
    """The library, as its README has it."""
    async with NavTalkClient(KEY, base_url=job.address) as client:
        await our_walk(client, WARM_UP_PAGES)
        with job.meter:
            job.meter.units = await our_walk(client, job.size)


async def our_walk(client: NavTalkClient, pages: int) -> int:
    asked = client.stats().requests
    sessions = messages = 0
    # Serial, so that both ask for the same pages.
    pool = SessionPool(client, concurrency=AT_ONCE, listing="serial")
    async with pool.transcripts(start_time=server.begin_of_last(pages)) as transcripts:
        async for transcript in transcripts:
            sessions += 1
            messages += len(transcript.messages)
    requests = checked(pages, sessions=sessions, messages=messages)
    if client.stats().requests - asked != requests:
        raise AssertionError(f"{client.stats().requests - asked} requests instead of {requests}.")
    return requests


def checked(pages: int, *, sessions: int, messages: int) -> int:
    """How many requests that took, if all is there that should be."""
    if sessions != pages * server.SESSIONS_A_PAGE or messages != sessions * server.MESSAGES_A_SESSION:
        raise AssertionError(f"{pages} pages gave {sessions} sessions and {messages} messages.")
    return pages + sessions


CONTENDERS = {"bare": bare, "ours": ours}
"""The first is what the others are measured by."""

VARIANTS = ("uvloop", "asyncio") if importlib.util.find_spec("uvloop") else ("asyncio",)

UNIT, FIGURE, BAR = "request", "cpu_seconds", 1.25
"""Ours may cost so many times the bare loop's CPU."""

SERVED = True
SIZE, QUICK_SIZE = 50, 10
"""Pages of sessions: so many times 101 requests."""

WARM_UP_UNITS = WARM_UP_PAGES * (1 + server.SESSIONS_A_PAGE)
