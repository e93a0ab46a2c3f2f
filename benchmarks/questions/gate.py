"""How do 300 calls at once end, on a server that allows 40 a second?

It refuses with a 429 and `Retry-After: 1`, and counts by the second or by a bucket of tokens. The ideal is
every call made as soon as it is allowed.
"""

import asyncio

from benchmarks import server
from benchmarks.limits import ideal_seconds
from benchmarks.meter import Meter
from benchmarks.peers.peer import CALLERS, calls
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World, session_id

RATE = 40
LATENCY_SECONDS = 0.02
TIMEOUT_SECONDS = 60.0
CASES = ("window", "bucket")


def world(job: Job) -> World:
    return World(sessions=job.size, latency_seconds=LATENCY_SECONDS, rate=RATE, rate_by=job.case)


def burst(name: str) -> Work:
    async def work(job: Job) -> Figures:
        ids = map(session_id, range(job.size))
        async with calls(name)(job.address, TIMEOUT_SECONDS) as call:
            with Meter() as meter:
                answers = await asyncio.gather(*map(call, ids), return_exceptions=True)
        succeeded = answers.count(world(job).messages)
        ideal = ideal_seconds(job.size, RATE, job.case) + LATENCY_SECONDS
        figures = {
            "succeeded": 100 * succeeded / job.size,
            "requests": server.counts(job.address)["asked"] / job.size,
        }
        # Whoever gave up on some calls was not fast.
        return figures | ({"times": meter.wall_seconds / ideal} if succeeded == job.size else {})

    return work


QUESTION = Question(
    contenders={name: Contender(work=burst(name), in_quick=name != "aiohttp + tenacity") for name in CALLERS},
    cases=CASES,
    figures=(
        Figure(name="succeeded", unit="% succeeded", form=".1f", better="more"),
        Figure(name="requests", unit="requests a call", form=".2f"),
        Figure(name="times", unit="times the ideal time", form=".2f"),
    ),
    bars=(
        Bar(
            says="Per cent of 300 calls that succeed where 40 a second are allowed",
            value=lambda of: min(of("succeeded", OURS, case) for case in CASES),
            at_least=100.0,
        ),
        Bar(
            says="Requests for 300 calls where 40 a second are allowed, times 300",
            value=lambda of: max(of("requests", OURS, case) for case in CASES),
            at_most=1.2,
        ),
        Bar(
            says="Time for 300 calls where 40 a second are allowed, times the ideal",
            value=lambda of: max(of("times", OURS, case) for case in CASES),
            at_most=1.3,
        ),
    ),
    panels=(
        Panel(
            title="300 calls at once where 40 a second are allowed",
            figure="requests",
            case="window",
        ),
    ),
    world=world,
    rounds=1,
    size=300,
    quick_size=120,
)
