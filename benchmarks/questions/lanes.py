"""How long does a web request wait beside a full bulk export, and what does the export lose by it?

Answers are 50 ms away and 32 requests may be under way at once. Twenty interactive calls a second are made by
the clock, whether or not the earlier ones have come back. Beside the lanes, the same through one semaphore.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from benchmarks.meter import percentile
from benchmarks.peers import aiohttp_json
from benchmarks.peers.peer import KEY
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World, session_id
from navtalk_async import NavTalkClient, SessionPool

AT_ONCE = 32
CALLS_A_SECOND = 20
SETTLE_SECONDS = 1.0
SESSIONS_A_SECOND = 1_000
"""More than fits through 32 slots of 50 ms."""

Call = Callable[[str], Awaitable[object]]


class Bulk:
    """How many sessions the export has so far."""

    def __init__(self) -> None:
        self.done = 0


Opened = Callable[[str, Bulk | None], AbstractAsyncContextManager[Call]]


def world(job: Job) -> World:
    return World(sessions=SESSIONS_A_SECOND * (job.size + 3), latency_seconds=0.05)


async def latencies(call: Call, seconds: int) -> list[float]:
    """How long each interactive call takes from the moment it was due."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    due = [began + number / CALLS_A_SECOND for number in range(seconds * CALLS_A_SECOND)]

    async def one(number: int, moment: float) -> float:
        await asyncio.sleep(moment - loop.time())
        await call(session_id(number))
        return loop.time() - moment

    calls = [asyncio.create_task(one(number, moment)) for number, moment in enumerate(due)]
    done, late = await asyncio.wait(calls, timeout=due[-1] - loop.time() + 1.0)
    for task in late:
        task.cancel()
    # What had not come by then had waited at least so long.
    waited = [loop.time() - due[number] for number, task in enumerate(calls) if task in late]
    return [task.result() for task in done] + waited


@asynccontextmanager
async def ours(address: str, bulk: Bulk | None) -> AsyncIterator[Call]:
    """The export in the background, and interactive calls on a lane of their own."""
    async with NavTalkClient(KEY, base_url=address, concurrency=AT_ONCE) as client:

        async def export(bulk: Bulk) -> None:
            pool = SessionPool(client.using(lane="bulk"), concurrency=AT_ONCE)
            async with pool.transcripts() as transcripts:
                async for _ in transcripts:
                    bulk.done += 1

        interactive = client.using(lane="interactive")

        async def call(session: str) -> object:
            return await interactive.messages.list(session)

        async with background(export(bulk) if bulk else None):
            yield call


@asynccontextmanager
async def one_semaphore(address: str, bulk: Bulk) -> AsyncIterator[Call]:
    """Both through one semaphore, as one would bound what a program asks for: the export lists a page, and
    gathers the messages of its sessions.
    """
    semaphore = asyncio.Semaphore(AT_ONCE)
    async with aiohttp.ClientSession(address) as http:

        async def call(session: str) -> object:
            return await aiohttp_json.fetch_all(
                http, semaphore, "/api/chat/messages", limit=200, sessionId=session
            )

        async def fetch(session: str) -> None:
            await call(session)
            bulk.done += 1

        async def export() -> None:
            pages = aiohttp_json.pages(http, semaphore, "/api/chat/sessions", limit=100)
            async for page in pages:
                await asyncio.gather(*(fetch(session["id"]) for session in page))

        async with background(export()):
            yield call


@asynccontextmanager
async def background(export: Coroutine[None, None, None] | None) -> AsyncIterator[None]:
    """Run *export* beside the block; it must not have ended when the block does."""
    task = asyncio.create_task(export) if export else None
    try:
        yield
        if task and task.done():
            raise AssertionError("The export ended too early.") from task.exception()
    finally:
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def side_by_side(opened: Opened, *, calls: bool = True, exports: bool = True) -> Work:
    async def work(job: Job) -> Figures:
        bulk = Bulk()
        async with opened(job.address, bulk if exports else None) as call:
            await asyncio.sleep(SETTLE_SECONDS)
            before, began = bulk.done, asyncio.get_running_loop().time()
            if calls:
                waits = [1000 * seconds for seconds in await latencies(call, job.size)]
            else:
                await asyncio.sleep(job.size)
            rate = (bulk.done - before) / (asyncio.get_running_loop().time() - began)
        figures = {"p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99)} if calls else {}
        return figures | ({"bulk": rate} if exports else {})

    return work


CALLS_ALONE, BULK_ALONE = "calls alone", "export alone"

QUESTION = Question(
    contenders={
        CALLS_ALONE: Contender(work=side_by_side(ours, exports=False)),
        BULK_ALONE: Contender(work=side_by_side(ours, calls=False)),
        OURS: Contender(work=side_by_side(ours)),
        "one semaphore": Contender(work=side_by_side(one_semaphore)),
    },
    figures=(
        Figure(name="p50", unit="ms, median call", form=".1f", against=CALLS_ALONE),
        Figure(name="p99", unit="ms, 99th percentile", form=".1f", against=CALLS_ALONE),
        Figure(name="bulk", unit="sessions/s exported", better="more", against=BULK_ALONE),
    ),
    bars=(
        Bar(
            says="99th percentile of interactive calls under an export, times that of calls alone",
            value=lambda of: of("p99", OURS) / of("p99", CALLS_ALONE),
            at_most=2.0,
        ),
        Bar(
            says="Export's sessions a second beside interactive calls, times the export's alone",
            value=lambda of: of("bulk", OURS) / of("bulk", BULK_ALONE),
            at_least=0.85,
        ),
    ),
    panels=(Panel(title="Interactive calls beside a full export", figure="p99"),),
    world=world,
    rounds=1,
    size=15,
    quick_size=3,
)
