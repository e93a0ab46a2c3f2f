"""How long does the whole job take, when every answer is 50 ms away?

The ideal is requests x latency / requests at once. Every contender fetches every session with all its
messages; slow peers have fewer sessions to fetch, and are compared with the ideal for those.
"""

from benchmarks.peers.peer import WALKERS, peer, whole_walk
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World

LATENCY_SECONDS = 0.05


def world(job: Job) -> World:
    return World(sessions=job.size, latency_seconds=LATENCY_SECONDS)


def walked(name: str) -> Work:
    """How the peer of that *name* does, with as many requests at once as the case says."""

    async def work(job: Job) -> Figures:
        at_once = int(job.case)
        figures = await whole_walk(peer(name), job, world(job), at_once=at_once)
        ideal = world(job).fewest_requests * LATENCY_SECONDS / at_once
        times = figures["wall_seconds"] / ideal
        return {
            "times": times,
            "seconds": times * World(sessions=QUESTION.size).fewest_requests * LATENCY_SECONDS / at_once,
            "requests": figures["requests"] / world(job).fewest_requests,
        }

    return work


SHARES = {"niquests": 0.4, "requests + threads": 0.4, "httpx + pydantic": 0.1, "dlt": 0.1}
NOT_IN_QUICK = ("niquests", "dlt")

QUESTION = Question(
    contenders={
        name: Contender(
            work=walked(name),
            share=SHARES.get(name, 1.0),
            once=name != OURS,
            in_quick=name not in NOT_IN_QUICK,
        )
        for name in WALKERS
        if name != "bare"
    },
    cases=("32", "128"),
    figures=(
        Figure(name="times", unit="times the ideal", form=".2f"),
        Figure(name="seconds", unit="s for 5,000 sessions", form=".1f"),
        Figure(name="requests", unit="requests, times the fewest", form=".2f"),
    ),
    bars=(
        Bar(
            says="Wall time of the whole job, times the ideal, 32 at once",
            value=lambda of: of("times", OURS, "32"),
            at_most=1.06,
        ),
        Bar(
            says="Wall time of the whole job, times the ideal, 128 at once",
            value=lambda of: of("times", OURS, "128"),
            at_most=1.2,
        ),
    ),
    panels=tuple(
        Panel(title=f"5,000 sessions, 50 ms an answer, {case} at once", figure="seconds", case=case)
        for case in ("32", "128")
    ),
    world=world,
    size=5_000,
    quick_size=500,
)
