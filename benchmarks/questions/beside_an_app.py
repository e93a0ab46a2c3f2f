"""How long do a web app's endpoints take beside an export in the same event loop, with `auto` and with 32?

Answers are 50 ms away. One endpoint asks the API through the client, in the interactive lane, and one does
nothing at all. Twenty requests a second are made to each, from a thread of their own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from benchmarks.meter import percentile
from benchmarks.peers.peer import KEY
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question, Work
from benchmarks.questions.lanes import Bulk, background, latencies
from benchmarks.world import World, session_id
from navtalk_async import NavTalkClient, SessionPool
from navtalk_async.wire.gate import Concurrency

SETTLE_SECONDS = 3.0
"""So long `auto` takes to learn."""
SESSIONS_A_SECOND = 2_000
ENDPOINTS = ("plain", "asking")


def world(job: Job) -> World:
    return World(sessions=SESSIONS_A_SECOND * (job.size + 6), latency_seconds=0.05)


@asynccontextmanager
async def app(client: NavTalkClient) -> AsyncIterator[str]:
    """The address of the app."""
    interactive = client.using(lane="interactive")

    async def plain(_: web.Request) -> web.Response:
        return web.Response()

    async def asking(_: web.Request) -> web.Response:
        await interactive.messages.list(session_id(0))
        return web.Response()

    routes = web.Application()
    routes.add_routes([web.get("/plain", plain), web.get("/asking", asking)])
    runner = web.AppRunner(routes)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def ask(address: str, endpoint: str, seconds: int) -> list[float]:
    async with aiohttp.ClientSession() as http:

        async def call(_: str) -> None:
            async with http.get(f"{address}/{endpoint}") as answer:
                await answer.read()

        return await latencies(call, seconds)


def beside(concurrency: Concurrency | None) -> Work:
    """The app beside an export with so many requests at once; alone where there is None."""

    async def export(client: NavTalkClient, bulk: Bulk) -> None:
        async with SessionPool(client.using(lane="bulk")).transcripts() as transcripts:
            async for _ in transcripts:
                bulk.done += 1

    async def work(job: Job) -> Figures:
        bulk, loop = Bulk(), asyncio.get_running_loop()
        at_once = concurrency or "auto"
        async with (
            NavTalkClient(KEY, base_url=job.address, concurrency=at_once) as client,
            app(client) as address,
            background(export(client, bulk) if concurrency else None),
        ):
            await asyncio.sleep(SETTLE_SECONDS)
            before, began = bulk.done, loop.time()
            waits = await asyncio.gather(
                *(asyncio.to_thread(asyncio.run, ask(address, each, job.size)) for each in ENDPOINTS)
            )
            rate = (bulk.done - before) / (loop.time() - began)
        p99 = {each: 1000 * percentile(found, 0.99) for each, found in zip(ENDPOINTS, waits, strict=True)}
        return p99 | ({"bulk": rate} if concurrency else {})

    return work


ALONE, AT_32 = "app alone", "32 at once"

QUESTION = Question(
    contenders={
        ALONE: Contender(work=beside(None)),
        OURS: Contender(work=beside("auto")),
        AT_32: Contender(work=beside(32)),
    },
    figures=(
        Figure(name="asking", unit="ms, 99th percentile of what asks the API", form=".1f", against=ALONE),
        Figure(name="plain", unit="ms, 99th percentile of what does not", form=".1f", against=ALONE),
        Figure(name="bulk", unit="sessions/s exported", better="more", against=AT_32),
    ),
    bars=(
        Bar(
            says="99th percentile of an endpoint that asks the API beside an export, times that alone",
            value=lambda of: of("asking", OURS) / of("asking", ALONE),
            at_most=2.0,
        ),
        Bar(
            says="Export's sessions a second with auto, times those with 32 at once",
            value=lambda of: of("bulk", OURS) / of("bulk", AT_32),
            at_least=0.95,
        ),
    ),
    world=world,
    rounds=1,
    size=10,
    quick_size=3,
)
