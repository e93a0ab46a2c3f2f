"""navtalk-async, as its README has it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from benchmarks.peers.peer import KEY, Haul, Walk
from navtalk_async import NavTalkClient, SessionPool


@asynccontextmanager
async def opened(address: str, at_once: int, **options: str) -> AsyncIterator[Walk]:
    """*options* go to the pool."""
    async with NavTalkClient(KEY, base_url=address, concurrency=at_once) as client:
        yield partial(walk, SessionPool(client, concurrency=at_once, **options))


async def walk(pool: SessionPool, since: str | None) -> Haul:
    sessions = messages = 0
    async with pool.transcripts(start_time=since) as transcripts:
        async for transcript in transcripts:
            # The rest that an audit finds later is not another session.
            sessions += not transcript.is_rest
            messages += len(transcript.messages)
    return Haul(sessions, messages)
