"""Single calls through the client of OpenAI's SDK, which retries and heeds `Retry-After`.

It is a generated client like those of most vendors, and accepts any address.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI

from benchmarks.peers.peer import KEY, Call

RETRIES = 5
"""Two, where nothing is said."""


@asynccontextmanager
async def opened(address: str, timeout_seconds: float) -> AsyncIterator[Call]:
    async with AsyncOpenAI(
        api_key=KEY, base_url=address, max_retries=RETRIES, timeout=timeout_seconds
    ) as client:

        async def count(session_id: str) -> int:
            params = {"apikey": KEY, "sessionId": session_id, "limit": 200}
            answer: Any = await client.get("/api/chat/messages", cast_to=object, options={"params": params})
            return len(answer["data"]["data"])

        yield count
