"""Single calls with aiohttp, each tried again by tenacity."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from benchmarks.peers.peer import KEY, Call

ATTEMPTS = 6


@asynccontextmanager
async def opened(address: str, timeout_seconds: float) -> AsyncIterator[Call]:
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    async with aiohttp.ClientSession(address, timeout=timeout) as http:

        @retry(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=1, max=10),
            retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError)),
            reraise=True,
        )
        async def count(session_id: str) -> int:
            params = {"apikey": KEY, "sessionId": session_id, "limit": 200}
            async with http.get("/api/chat/messages", params=params) as response:
                response.raise_for_status()
                return len((await response.json())["data"]["data"])

        yield count
