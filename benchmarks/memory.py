"""How much memory does a job of 20,000 sessions take, beside one of 500?

Both stream transcripts through the pool, 32 at once. A reader that is slower than the server must not make
the library collect what it has not taken yet.
"""

import asyncio
from functools import partial

from benchmarks import server
from benchmarks.contender import Job
from navtalk_async.client import NavTalkClient
from navtalk_async.pool import SessionPool

KEY = "a-made-up-key"
FEW, MANY = 5, 200
"""Pages of sessions."""


async def stream(job: Job, *, pages: int, rest_seconds: float = 0.0) -> None:
    """Take every transcript, and rest after each hundredth."""
    taken = 0
    async with NavTalkClient(KEY, base_url=job.address) as client:
        pool = SessionPool(client, concurrency=32)
        with job.meter:
            async with pool.transcripts(start_time=server.begin_of_last(pages)) as transcripts:
                async for _ in transcripts:
                    taken += 1
                    if rest_seconds and taken % server.SESSIONS_A_PAGE == 0:
                        await asyncio.sleep(rest_seconds)
    if taken != pages * server.SESSIONS_A_PAGE:
        raise AssertionError(f"{pages} pages gave {taken} transcripts.")
    job.meter.units = 1


CONTENDERS = {
    "500 sessions": partial(stream, pages=FEW),
    "20,000 sessions": partial(stream, pages=MANY),
    "20,000, slow reader": partial(stream, pages=MANY, rest_seconds=0.02),
}
"""The first is what the others are measured by."""

VARIANTS = ("asyncio",)
UNIT, FIGURE, BAR = "job", "peak_kib", 1.1
SERVED = True
SIZE = QUICK_SIZE = 1
