"""How much does it cost to save everything in SQLite, compared to a walk that saves nothing?

Each from an empty archive, 32 requests at once: sessions of 200 messages, where the rows weigh, and of ten,
where the requests do.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import server
from benchmarks.meter import Meter
from benchmarks.peers import ours
from benchmarks.peers.peer import KEY, Haul, check, whole_walk
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.world import World
from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive
from navtalk_async.ingest import sync

AT_ONCE = 32
DENSE, SPARSE = "200 messages each", "10 messages each"
NOT_KEPT = "walk, keeping nothing"


def world(job: Job) -> World:
    """A dense session weighs as much as four sparse ones."""
    if job.case == DENSE:
        return World(sessions=job.size // 4, messages=200)
    return World(sessions=job.size, messages=10)


async def kept(job: Job) -> Figures:
    with TemporaryDirectory() as folder:
        async with (
            NavTalkClient(KEY, base_url=job.address, concurrency=AT_ONCE) as client,
            Archive.open(Path(folder) / "archive.db") as store,
        ):
            with Meter() as meter:
                report = await sync(client, store, concurrency=AT_ONCE)
            counts = await store.counts("default")
    check(Haul(report.inserted, report.messages), world(job))
    check(Haul(counts.sessions, counts.messages), world(job))
    return rates(job, server.counts(job.address)["asked"], meter.wall_seconds)


async def not_kept(job: Job) -> Figures:
    figures = await whole_walk(ours.opened, job, world(job), at_once=AT_ONCE)
    return rates(job, figures["requests"], figures["wall_seconds"])


def rates(job: Job, requests: float, seconds: float) -> Figures:
    messages = world(job).sessions * world(job).messages
    return {"messages": messages / seconds, "requests": requests / seconds}


QUESTION = Question(
    contenders={NOT_KEPT: Contender(work=not_kept), OURS: Contender(work=kept)},
    cases=(DENSE, SPARSE),
    figures=(
        Figure(name="messages", unit="messages/s", better="more", against=NOT_KEPT),
        Figure(name="requests", unit="requests/s", better="more", against=NOT_KEPT),
    ),
    bars=(
        Bar(
            says="Messages a second into SQLite, sessions of 200 each",
            value=lambda of: of("messages", OURS, DENSE),
            at_least=60_000.0,
        ),
        Bar(
            says="Requests a second into SQLite, times those of a walk without it, sessions of 10 each",
            value=lambda of: of("requests", OURS, SPARSE) / of("requests", NOT_KEPT, SPARSE),
            at_least=0.65,
        ),
    ),
    world=world,
    size=6_000,
    quick_size=2_000,
)
