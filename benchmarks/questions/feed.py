"""How soon does another process see a commit, and what does it cost to read what changed?

An archive of a million messages in SQLite, 100 in each session. A reader in another process waits for changes
while 300 commits are made, one after the other; then 1,000 sessions get a message each, and are read; and
somebody new reads everything.
"""

import asyncio
import multiprocessing
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.meter import peak_kib
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.world import session_id
from navtalk_async.archive import Archive
from navtalk_async.archive.records import Clock, FetchResult, FetchTask, Round
from navtalk_async.archive.rows import content_hash
from navtalk_async.dialects.navtalk import NavTalkMessage, NavTalkSession
from navtalk_async.ingest._reread_rules import ONE_SECOND, SETTLE, compare_sessions
from navtalk_async.models import Role, SessionStatus
from navtalk_async.times import parse_utc

EACH, CHANGED, COMMITS = 100, 1_000, 300
AT_ONCE = 50
TEXT = "Hello, how can I help you today? " * 4
NOW = parse_utc("2026-01-01T00:00:00Z")
SPAWNED = multiprocessing.get_context("spawn")


def session(number: int) -> NavTalkSession:
    times = {"start_time_text": "2025-11-12 18:20:38", "end_time_text": "2025-11-12 18:30:00"}
    return NavTalkSession(id=session_id(number), status=SessionStatus.COMPLETED, video_url=None, **times)


def reading(number: int, messages: int) -> FetchResult:
    """A session with so many messages."""
    said = [
        NavTalkMessage(
            id=f"{number}-{place}",
            content=TEXT,
            role=Role.USER,
            type=0,
            created_at_text="2025-11-12 18:20:43",
        )
        for place in range(messages)
    ]
    return FetchResult(FetchTask(session_id(number), content_hash(session(number))), said, at="2026-01-01")


async def fill(archive: Archive, sessions: int) -> None:
    await archive.begin("default", api="navtalk", scope="{}")
    compare = partial(compare_sessions, clock=Clock.at(NOW, SETTLE, NOW + ONE_SECOND), is_listed=True)
    for first in range(0, sessions, AT_ONCE):
        some = range(first, min(first + AT_ONCE, sessions))
        await archive.record_listing(
            "default",
            [session(number) for number in some],
            compare=compare,
            now="2026-01-01T00:00:00Z",
            round=Round(began="2026-01-01T00:00:00Z"),
            places=[],
        )
        await archive.save_messages("default", [reading(number, EACH) for number in some])


async def follow(place: Path, token: str, seen: Connection) -> None:
    async with Archive.open(place, read_only=True) as archive, archive.changes(token, follow=True) as batches:
        seen.send(0.0)
        async for batch in batches:
            for _ in batch.changes:
                seen.send(perf_counter())


def follower(place: Path, token: str, seen: Connection) -> None:
    asyncio.run(follow(place, token, seen))


async def seconds_to_seen(archive: Archive, place: Path) -> Sequence[float]:
    """How long after each of many commits another process has read it."""
    ours, theirs = SPAWNED.Pipe()
    reader = SPAWNED.Process(target=follower, args=(place, await archive.latest_token(), theirs), daemon=True)
    reader.start()
    try:
        await asyncio.to_thread(ours.recv)
        waits = []
        for number in range(COMMITS):
            await archive.save_messages("default", [reading(number, EACH + 1)])
            committed = perf_counter()
            waits.append(await asyncio.to_thread(ours.recv) - committed)
    finally:
        reader.kill()
    return waits


async def read(archive: Archive, token: str | None) -> tuple[int, int]:
    """How many sessions changed, with how many new messages."""
    sessions = messages = 0
    async with archive.changes(token) as batches:
        async for batch in batches:
            sessions += len(batch.changes)
            messages += sum(len(each.new) for each in batch.changes)
    return sessions, messages


async def feed(job: Job) -> Figures:
    sessions = job.size // EACH
    with TemporaryDirectory() as folder:
        place = Path(folder) / "archive.db"
        async with Archive.open(place) as archive:
            await fill(archive, sessions)
            waits = await seconds_to_seen(archive, place)
            token = await archive.latest_token()
            numbers = range(0, sessions, max(1, sessions // CHANGED))[:CHANGED]
            for first in range(0, len(numbers), AT_ONCE):
                some = [reading(number, EACH + 2) for number in numbers[first : first + AT_ONCE]]
                await archive.save_messages("default", some)
            began = perf_counter()
            changed, new = await read(archive, token)
            middle = perf_counter()
            assert changed == len(numbers) <= new, (changed, new)
            _, messages = await read(archive, None)
            return {
                "seen": 1e3 * quantiles(waits, n=100)[-1],
                "changed": 1e3 * (middle - began),
                "first": messages / (perf_counter() - middle),
                "peak": peak_kib() / 1024,
            }


QUESTION = Question(
    contenders={OURS: Contender(work=feed)},
    figures=(
        Figure(name="seen", unit="ms from a commit to its reader, p99"),
        Figure(name="changed", unit="ms for 1,000 changes"),
        Figure(name="first", unit="messages/s, read for the first time", better="more"),
        Figure(name="peak", unit="MiB at the peak", form=".1f"),
    ),
    bars=(
        Bar(
            says="Milliseconds from a commit to its reader in another process, p99",
            value=lambda of: of("seen", OURS),
            at_most=200.0,
        ),
        Bar(
            says="Milliseconds to read 1,000 changes out of 1,000,000 messages",
            value=lambda of: of("changed", OURS),
            at_most=50.0,
        ),
        Bar(
            says="Messages a second, read for the first time",
            value=lambda of: of("first", OURS),
            at_least=50_000.0,
        ),
    ),
    in_quick=False,
    size=1_000_000,
    quick_size=100_000,
)
