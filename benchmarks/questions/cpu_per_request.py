"""How much CPU does a request cost, through the whole client and with the usual alternatives?

Every contender lists the same sessions, 100 a page, and fetches a page of ten messages for each, 32 at once.
The bare loop is the best that aiohttp allows; the rest of our cost is our own.
"""

from functools import partial

from benchmarks.loops import run_on
from benchmarks.peers.peer import WALKERS, peer, whole_walk
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World

AT_ONCE = 32


def world(job: Job) -> World:
    return World(sessions=job.size)


def cost(name: str) -> Work:
    """The cost of a request in the peer of this *name*, on the event loop of the case."""
    # A walk page by page, so that all ask for the same pages.
    options = {"listing": "serial"} if name == OURS else {}

    async def work(job: Job) -> Figures:
        opened = partial(peer(name), **options)
        figures = await whole_walk(opened, job, world(job), at_once=AT_ONCE)
        if figures["requests"] != world(job).fewest_requests:
            raise AssertionError(f"{figures['requests']} requests, not {world(job).fewest_requests}.")
        return {"cpu": 1e6 * figures["cpu_seconds"] / figures["requests"], "units": figures["requests"]}

    return lambda job: run_on(job.case, work(job))


ON_BOTH_LOOPS = ("bare", OURS)
SHARES = {"niquests": 0.2, "requests + threads": 0.2, "httpx + pydantic": 0.1, "dlt": 0.1}
SLOW = ("niquests", "requests + threads", "dlt")
NOT_IN_QUICK = ("niquests", "dlt")

QUESTION = Question(
    contenders={
        name: Contender(
            work=cost(name),
            cases=None if name in ON_BOTH_LOOPS else ("uvloop",),
            share=SHARES.get(name, 1.0),
            once=name in SLOW,
            in_quick=name not in NOT_IN_QUICK,
        )
        for name in WALKERS
    },
    cases=("uvloop", "asyncio"),
    figures=(Figure(name="cpu", unit="µs of CPU a request", against="bare"),),
    bars=(
        Bar(
            says="CPU of a request, times the bare loop's, on uvloop",
            value=lambda of: of("cpu", OURS, "uvloop") / of("cpu", "bare", "uvloop"),
            at_most=1.2,
        ),
        Bar(
            says="CPU of a request, times the bare loop's, on asyncio's own loop",
            value=lambda of: of("cpu", OURS, "asyncio") / of("cpu", "bare", "asyncio"),
            at_most=1.2,
        ),
        Bar(
            says="CPU of a request with httpx and pydantic, times ours",
            value=lambda of: of("cpu", "httpx + pydantic", "uvloop") / of("cpu", OURS, "uvloop"),
            at_least=9.0,
        ),
    ),
    panels=(Panel(title="A request, 32 at once", figure="cpu", case="uvloop"),),
    world=world,
    rounds=5,
    size=5_000,
    quick_size=2_000,
)
