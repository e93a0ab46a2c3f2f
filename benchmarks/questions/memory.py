"""How much memory does a job of 100,000 sessions take, beside one of 1,000?

Both stream transcripts through the pool, 32 at once. A reader that is slower than the server must not make
the library keep transcripts that it has not taken yet. Beside it, gather, which collects everything; and a
sync of 1,000,000 messages into SQLite, beside one of 100,000.
"""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.meter import peak_kib
from benchmarks.peers.peer import KEY, Haul, check, peer, whole_walk
from benchmarks.question import Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World
from navtalk_async import NavTalkClient, SessionPool
from navtalk_async.archive import Archive
from navtalk_async.ingest import sync

AT_ONCE = 32
FEW = 0.01
"""The share of the sessions that a small job has."""
REST_SECONDS = 0.04
"""After every hundredth transcript, which takes the server about 25 ms."""


def world(job: Job) -> World:
    return World(sessions=job.size)


def streamed(*, rest_seconds: float = 0.0) -> Work:
    """Take every transcript, and keep none."""

    async def work(job: Job) -> Figures:
        sessions = messages = 0
        async with (
            NavTalkClient(KEY, base_url=job.address, concurrency=AT_ONCE) as client,
            SessionPool(client, concurrency=AT_ONCE).transcripts() as transcripts,
        ):
            async for transcript in transcripts:
                sessions += 1
                messages += len(transcript.messages)
                if rest_seconds and sessions % 100 == 0:
                    await asyncio.sleep(rest_seconds)
        check(Haul(sessions, messages), world(job))
        return {"peak": peak_kib() / 1024}

    return work


async def synced(job: Job) -> Figures:
    """Bring everything into an empty archive."""
    with TemporaryDirectory() as folder:
        async with (
            NavTalkClient(KEY, base_url=job.address, concurrency=AT_ONCE) as client,
            Archive.open(Path(folder) / "archive.db") as store,
        ):
            report = await sync(client, store, concurrency=AT_ONCE)
    check(Haul(report.inserted, report.messages_inserted), world(job))
    return {"peak": peak_kib() / 1024}


def gathered(name: str) -> Work:
    async def work(job: Job) -> Figures:
        figures = await whole_walk(peer(name), job, world(job), at_once=AT_ONCE)
        return {"peak": figures["peak_kib"] / 1024}

    return work


SMALL, LARGE, SLOW = "1,000 sessions", "100,000 sessions", "100,000, slow reader"
SYNCED, SYNCED_LARGE = "SQLite, 100,000 messages", "SQLite, 1,000,000 messages"


def grown(large: str, reader: str) -> Bar:
    return Bar(
        says=f"Peak memory of 100,000 sessions, times that of 1,000, {reader} reader",
        value=lambda of: of("peak", large) / of("peak", SMALL),
        at_most=1.1,
    )


QUESTION = Question(
    contenders={
        SMALL: Contender(work=streamed(), share=FEW, ours=True),
        LARGE: Contender(work=streamed(), ours=True),
        SLOW: Contender(work=streamed(rest_seconds=REST_SECONDS), ours=True),
        SYNCED: Contender(work=synced, share=0.1, ours=True),
        SYNCED_LARGE: Contender(work=synced, ours=True),
        "aiohttp + json, 1,000": Contender(work=gathered("aiohttp + json"), share=FEW),
        "aiohttp + json, 20,000": Contender(work=gathered("aiohttp + json"), share=0.2),
    },
    figures=(Figure(name="peak", unit="MiB at the peak", form=".1f", against=SMALL),),
    bars=(
        grown(LARGE, "fast"),
        grown(SLOW, "slow"),
        Bar(
            says="Peak memory of a sync of 1,000,000 messages, times that of one of 100,000",
            value=lambda of: of("peak", SYNCED_LARGE) / of("peak", SYNCED),
            at_most=1.1,
        ),
    ),
    panels=(Panel(title="Memory of small and large jobs", figure="peak"),),
    world=world,
    rounds=1,
    size=100_000,
    quick_size=10_000,
)
