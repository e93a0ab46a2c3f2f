"""How much does a cursor on every page cost, and is every message found behind short pages?

With a cursor on each page that is not empty, an honest walk asks for a second, empty page of every session.
The audit may trust short pages once it has seen enough of them, but not where one session in ten gives its
ten messages in two pages.
"""

from functools import partial

from benchmarks.peers.ours import opened
from benchmarks.peers.peer import whole_walk
from benchmarks.question import Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World

NOTHING, MORE = "nothing behind", "more behind"


def world(job: Job) -> World:
    return World(sessions=job.size, cursor="always", short_every=10 if job.case == MORE else 0)


def walked(**options: str) -> Work:
    """The whole job, with *options* of the pool; it fails if a message is missing."""

    async def work(job: Job) -> Figures:
        figures = await whole_walk(partial(opened, **options), job, world(job), at_once=32)
        return {
            "requests": figures["requests"],
            "times": figures["requests"] / world(job).fewest_requests,
            "seconds": figures["wall_seconds"],
        }

    return work


QUESTION = Question(
    contenders={
        "follow": Contender(work=walked(), ours=True),
        "audit": Contender(work=walked(short_pages="audit"), ours=True),
    },
    cases=(NOTHING, MORE),
    figures=(
        Figure(name="requests", unit="requests"),
        Figure(name="times", unit="times the fewest", form=".3f"),
        Figure(name="seconds", unit="s", form=".1f"),
    ),
    bars=(
        Bar(
            says="Requests with audited short pages, times the fewest",
            value=lambda of: of("times", "audit", NOTHING),
            at_most=1.05,
        ),
        Bar(
            says="Requests with audited short pages, times those of following, where more is behind",
            value=lambda of: of("requests", "audit", MORE) / of("requests", "follow", MORE),
            at_most=1.0,
        ),
    ),
    panels=(Panel(title="Requests of a job with a cursor on every page", figure="times", case=NOTHING),),
    world=world,
    rounds=1,
    size=5_000,
    quick_size=2_000,
)
