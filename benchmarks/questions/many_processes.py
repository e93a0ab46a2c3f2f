"""Do many processes keep one limit, and use it, even where one of them is killed?

Two and eight processes ask as fast as they may, under one limit of 100 requests a second in a file or in
PostgreSQL. Then the server refuses a single request, and wants a pause of 2 s; then one of them is killed.
"""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

from benchmarks import server
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.world import page

RATE = 100
SETTLE_SECONDS = 1.0
PAUSE_SECONDS = 2
COUNTS = (2, 8)
CASES = {f"{count} processes, {kind}": (kind, count) for kind in ("file", "PostgreSQL") for count in COUNTS}

WORKER = """
import asyncio, sys
from navtalk_async import NavTalkClient, SharedLimits

async def ask(client):
    while True:
        await client.messages.list("709b712f-dede-11f0-92bc-000e1eed4a72")

async def main(address, place):
    async with SharedLimits.open(place) as limits, NavTalkClient(
        "key", base_url=address, rate=100, limits=limits, timeout=None, concurrency=8
    ) as client:
        await asyncio.gather(*(ask(client) for _ in range(8)))

asyncio.run(main(*sys.argv[1:]))
"""

REFUSAL = server.http(b"{}", "429 Too Many Requests", f"Retry-After: {PAUSE_SECONDS}")


class Arrivals(asyncio.Protocol):
    """A server that notes when requests come, and refuses the next one where it is told to."""

    moments: list[float]
    refuses: list[Callable[[], object]]

    def __init__(self, moments: list[float], refuses: list[Callable[[], object]]) -> None:
        self.moments, self.refuses = moments, refuses
        self._answer = server.http(page([], None))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in server
        """Keep the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request."""
        for _ in range(data.count(b"\r\n\r\n")):
            self.moments.append(asyncio.get_running_loop().time())
            if self.refuses:
                self._transport.write(REFUSAL)
                self.refuses.pop()()
            else:
                self._transport.write(self._answer)


@asynccontextmanager
async def processes(count: int, address: str, place: str) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, address, place)
        for _ in range(count)
    ]
    try:
        yield running
    finally:
        for each in running:
            if each.returncode is None:
                each.kill()
            await each.wait()


def most_in_a_second(moments: list[float]) -> int:
    """The most within any second, wherever it begins."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


async def measured(job: Job, count: int, place: str) -> Figures:
    loop, moments = asyncio.get_running_loop(), list[float]()
    refuses: list[Callable[[], object]] = []
    serving = await loop.create_server(lambda: Arrivals(moments, refuses), "127.0.0.1", 0)
    address = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    async with serving, processes(count, address, place) as running:
        while len(moments) < RATE:  # noqa: ASYNC110 - all of them have begun soon after
            await asyncio.sleep(0.1)
        await asyncio.sleep(SETTLE_SECONDS)
        began = loop.time()
        await asyncio.sleep(job.size)
        seen = [each for each in moments if began <= each < began + job.size]
        refused = loop.create_future()
        refuses.append(lambda: refused.set_result(loop.time()))
        at = await refused
        await asyncio.sleep(PAUSE_SECONDS - 0.3)
        late = [each for each in moments if each > at]
        # They go on, all of them.
        await asyncio.sleep(SETTLE_SECONDS)
        running[0].kill()
        killed = loop.time()
        await asyncio.sleep(1.5)
        after = [killed, *(each for each in moments if each >= killed), loop.time()]
    return {
        "share": 100.0 * len(seen) / (RATE * job.size),
        "most": most_in_a_second(seen),
        "gap": 1000.0 * max(later - earlier for earlier, later in pairwise(after)),
        "latest": 1000.0 * (max(late, default=at) - at),
    }


async def keep(job: Job) -> Figures:
    kind, count = CASES[job.case]
    with ExitStack() as stack:
        place = str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "limits.db"))
        if kind == "PostgreSQL":
            sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
            from postgres_box import running_postgres  # noqa: PLC0415

            place = stack.enter_context(running_postgres())
        return await measured(job, count, place)


QUESTION = Question(
    contenders={OURS: Contender(work=keep)},
    cases=tuple(CASES),
    figures=(
        Figure(name="share", unit="% of the rate over 10 s", form=".1f", better="more"),
        Figure(name="most", unit="requests, the most in any second"),
        Figure(name="gap", unit="ms, the longest without a request after one is killed"),
        Figure(name="latest", unit="ms from a refusal to the latest request of any of them"),
    ),
    bars=tuple(
        bar
        for case in CASES
        for bar in (
            Bar(
                says=f"% of the rate ({case})",
                value=lambda of, case=case: of("share", OURS, case),
                at_least=97,
            ),
            Bar(
                says=f"Most in any second ({case})",
                value=lambda of, case=case: of("most", OURS, case),
                at_most=105,
            ),
            Bar(
                says=f"ms without requests after a kill ({case})",
                value=lambda of, case=case: of("gap", OURS, case),
                at_most=1000,
            ),
            Bar(
                says=f"ms until all pause ({case})",
                value=lambda of, case=case: of("latest", OURS, case),
                at_most=1000,
            ),
        )
    ),
    rounds=3,
    size=10,
    in_quick=False,
)
