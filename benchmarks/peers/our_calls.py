"""Single calls through navtalk-async."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.peers.peer import KEY, Call
from navtalk_async import NavTalkClient


@asynccontextmanager
async def opened(address: str, timeout_seconds: float) -> AsyncIterator[Call]:
    async with NavTalkClient(KEY, base_url=address, timeout=timeout_seconds) as client:

        async def count(session_id: str) -> int:
            return len((await client.messages.list(session_id)).items)

        yield count
