"""How long does it take to list 50,000 sessions of busy and idle days, 100 a page and 50 ms each?

A walk by cursor is serial. Many walkers, each with a lower bound of its own, must find every session once and
in order, for few requests more.
"""

from benchmarks import server
from benchmarks.meter import Meter
from benchmarks.peers.peer import KEY
from benchmarks.question import Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World, session_id
from navtalk_async import NavTalkClient, SessionPool

PLAIN = "plain walk"


def world(job: Job) -> World:
    return World(sessions=job.size, latency_seconds=0.05)


def listed(at_once: int, *, listing: str) -> Work:
    """A listing alone, with *at_once* requests at once."""

    async def work(job: Job) -> Figures:
        async with NavTalkClient(KEY, base_url=job.address, concurrency=at_once) as client:
            pool = SessionPool(client, concurrency=at_once, listing=listing)
            with Meter() as meter:
                async with pool.sessions() as sessions:
                    ids = [session.id async for session in sessions]
        if ids != [session_id(number) for number in range(job.size)]:
            raise AssertionError(f"{len(ids)} of {job.size} sessions, or in another order.")
        return {
            "seconds": meter.wall_seconds,
            "requests": server.counts(job.address)["asked"],
            "cpu": meter.cpu_seconds,
        }

    return work


def faster(walkers: str) -> Bar:
    return Bar(
        says=f"Speed of listing with {walkers}, times the plain walk's",
        value=lambda of: of("seconds", PLAIN) / of("seconds", walkers),
        at_least=20.0 if walkers == "32 walkers" else 40.0,
    )


QUESTION = Question(
    contenders={
        PLAIN: Contender(work=listed(1, listing="serial")),
        "32 walkers": Contender(work=listed(32, listing="auto"), ours=True),
        "128 walkers": Contender(work=listed(128, listing="auto"), ours=True),
    },
    figures=(
        Figure(name="seconds", unit="s", form=".2f", against=PLAIN),
        Figure(name="requests", unit="requests", against=PLAIN),
        Figure(name="cpu", unit="s of CPU", form=".2f"),
    ),
    bars=(
        faster("32 walkers"),
        faster("128 walkers"),
        Bar(
            says="Requests of listing with 32 walkers, times the plain walk's",
            value=lambda of: of("requests", "32 walkers") / of("requests", PLAIN),
            at_most=1.25,
        ),
    ),
    panels=(Panel(title="Listing 50,000 sessions, 50 ms a page", figure="seconds"),),
    world=world,
    rounds=1,
    size=50_000,
    quick_size=5_000,
)
