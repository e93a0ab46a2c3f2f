"""How fast is an archive of a million messages handed on, and verified, every row checked as it is read?

In SQLite, in sessions of ten, a hundred and a thousand messages. Beside it, how fast DuckDB alone copies the
same messages from a table of its own to Parquet, checking nothing. On all cores, since nothing serves.
"""

import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.meter import peak_kib
from benchmarks.question import Bar, Contender, Figure, Figures, Job, Question
from benchmarks.world import BEGIN, SAYINGS, session_id, text_of
from navtalk_async.archive import Archive
from navtalk_async.archive.rows import MessageRow, SessionRow, digest, message_rows, row_digest, session_row
from navtalk_async.dialects.navtalk import NavTalkMessage, NavTalkSession
from navtalk_async.formats import export
from navtalk_async.models import MessageType, Role, SessionStatus
from navtalk_async.verification import verify

EACH = {"10 messages each": 10, "100 messages each": 100, "1,000 messages each": 1_000}
USUAL = "100 messages each"
DUCKDB, VERIFY = "DuckDB's COPY", "verify"
NOW = "2026-01-01T00:00:00Z"
MESSAGES_AT_ONCE = 5_000

TABLES = {
    "sessions": ", ".join(SessionRow._fields),
    "messages": ", ".join(MessageRow._fields),
    "sync_sessions": "project, session_id, state, content_hash, messages, digest, row_digest",
}


def transcript(number: int, messages: int) -> tuple[SessionRow, list[MessageRow]]:
    """A session with so many messages, as an archive keeps it."""
    begin = BEGIN + timedelta(seconds=30 * number)
    name = session_id(number)
    session = NavTalkSession(
        id=name,
        status=SessionStatus.COMPLETED,
        start_time_text=text_of(begin),
        end_time_text=text_of(begin + timedelta(seconds=20)),
        video_url=None,
    )
    said = [
        NavTalkMessage(
            id=f"{number:08x}-0000-4000-9000-{place * 7919 % 1_000_003:012x}",
            content=SAYINGS[place % 2],
            role=Role(place % 2),
            type=MessageType.TEXT,
            created_at_text=text_of(begin + timedelta(seconds=place)),
        )
        for place in range(messages)
    ]
    return session_row("default", "navtalk", session, NOW), message_rows("default", name, 0, said)


def groups(sessions: int, messages: int) -> Iterator[range]:
    """The numbers of sessions with so many messages each, some at a time."""
    step = MESSAGES_AT_ONCE // messages
    for first in range(0, sessions, step):
        yield range(first, min(first + step, sessions))


async def make(place: Path, sessions: int, messages: int) -> None:
    """An archive as a sync leaves it, written several times as fast as by a sync."""
    async with Archive.open(place) as archive:
        await archive.begin("default", api="navtalk", scope="{}")
    db = sqlite3.connect(place)
    for numbers in groups(sessions, messages):
        some = [transcript(number, messages) for number in numbers]
        noted = [
            (row.project, row.id, "kept", row.content_hash, len(said), digest(said), row_digest(row))
            for row, said in some
        ]
        said = [row for _, rows in some for row in rows]
        for (table, columns), rows in zip(
            TABLES.items(), ([row for row, _ in some], said, noted), strict=True
        ):
            marks = ", ".join("?" * len(rows[0]))
            db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows)
        db.commit()
    db.close()


async def handed_on(name: str, job: Job) -> Figures:
    """The figures of an export in the format *name*."""
    return await measured(job, lambda archive, folder: export(archive, folder, formats=name))


async def verified(job: Job) -> Figures:
    """The figures of verifying an archive and its file."""
    return await measured(job, verify_folder, first=export)


async def verify_folder(_: Archive, folder: Path) -> None:
    report = await verify(folder)
    assert not report.findings, report.findings


Step = Callable[[Archive, Path], Awaitable[object]]


async def measured(job: Job, work: Step, first: Step | None = None) -> Figures:
    use_all_cores()
    each = EACH[job.case]
    with TemporaryDirectory() as folder:
        place = Path(folder) / "archive.db"
        await make(place, job.size // each, each)
        async with Archive.open(place) as archive:
            if first is not None:
                await first(archive, Path(folder))
        async with Archive.open(place, read_only=True) as archive:
            began = perf_counter()
            await work(archive, Path(folder))
            seconds = perf_counter() - began
    return {"messages": job.size // each * each / seconds, "peak": peak_kib() / 1024}


def copied(job: Job) -> Figures:
    """The figures of DuckDB's own `COPY` of the same columns to Parquet."""
    import duckdb  # noqa: PLC0415 - an extra
    import pyarrow as pa  # noqa: PLC0415 - an extra

    use_all_cores()
    each = EACH[job.case]
    with TemporaryDirectory() as folder:
        db = duckdb.connect(str(Path(folder) / "messages.duckdb"))
        db.execute(f"CREATE TABLE messages ({DUCKDB_COLUMNS})")
        for numbers in groups(job.size // each, each):
            rows = [row[:-1] for number in numbers for row in transcript(number, each)[1]]
            part = pa.table(list(map(list, zip(*rows, strict=True))), MessageRow._fields[:-1])
            db.register("part", part)
            db.execute("INSERT INTO messages SELECT * FROM part")
        began = perf_counter()
        db.execute(f"COPY messages TO '{folder}/messages.parquet' (FORMAT parquet, COMPRESSION zstd)")
        seconds = perf_counter() - began
        db.close()
    return {"messages": job.size // each * each / seconds, "peak": peak_kib() / 1024}


def use_all_cores() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


DUCKDB_COLUMNS = (
    "project TEXT, id TEXT, session_id TEXT, position BIGINT, role TEXT, type TEXT, content TEXT, "
    "created_at TIMESTAMPTZ"
)

FORMATS = ("jsonl", "csv", "parquet")

QUESTION = Question(
    contenders={
        DUCKDB: Contender(work=copied, cases=(USUAL,)),
        **{name: Contender(work=partial(handed_on, name), ours=True) for name in FORMATS},
        VERIFY: Contender(work=verified, ours=True),
    },
    cases=tuple(EACH),
    figures=(
        Figure(name="messages", unit="messages/s", better="more"),
        Figure(name="peak", unit="MiB at the peak"),
    ),
    bars=tuple(
        Bar(
            says=f"Messages a second, {name}, sessions of 100 each",
            value=lambda of, name=name: of("messages", name, USUAL),
            at_least=least,
        )
        for name, least in {"jsonl": 1e5, "csv": 1e5, "parquet": 1.5e5, VERIFY: 8e4}.items()
    )
    + tuple(
        Bar(
            says=f"MiB at the peak, {name}, sessions of 1,000 each",
            value=lambda of, name=name: of("peak", name, "1,000 messages each"),
            at_most=most,
        )
        for name, most in {"jsonl": 100, "csv": 300, "parquet": 300, VERIFY: 100}.items()
    ),
    in_quick=False,
    size=1_000_000,
    quick_size=100_000,
)
