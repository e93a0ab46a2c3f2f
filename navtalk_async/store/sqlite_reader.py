"""An archive that is read, and not written to."""

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from navtalk_async.errors import StoreError
from navtalk_async.store.progress_rows import about, counts
from navtalk_async.store.rows import MessageRow, SessionRow, StoredTranscript
from navtalk_async.store.seal import Mark, mark
from navtalk_async.store.sqlite_file import (
    IDS_A_QUERY,
    READ_WITH_MARKS,
    Turns,
    all_rows,
    connect_to_read,
    is_no_text,
)
from navtalk_async.store.statements import COUNTS, FAILURES, FLAWS, PROJECTS, SESSIONS_A_READ
from navtalk_async.store.store import About, Counts, Failed, Flaw
from navtalk_async.surely import surely

__all__ = ["SqliteReader"]

SESSIONS = f"""
SELECT {", ".join(f"s.{name}" for name in SessionRow._fields)}, y.digest, y.row_digest,
       y.state <> 'kept' OR y.watched
FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? ORDER BY s.start_time, s.id
"""

THERE = (
    "SELECT id FROM sessions WHERE project = ? AND id IN ({ids})",
    "SELECT session_id FROM sync_sessions WHERE project = ? AND session_id IN ({ids}) AND state <> 'kept'",
)
"""What finds sessions that are kept, or are known to be fetched yet."""


class SqliteReader:
    """An `async with` to read the archive *path* in; others may read it and write to it meanwhile.

    Who reads *at_a_glance* makes no file beside an archive that nobody has open, and is done before anybody
    writes to it.

    Raises:
        StoreUnreachable: it is not there, or cannot be opened.
        StoreBroken: the file is damaged, or is no archive.
        StoreMismatch: it was written by another version.
    """

    def __init__(self, path: str | Path, *, at_a_glance: bool = False) -> None:
        self.path = Path(path)
        self._run = Turns(self.path)
        self._at_a_glance = at_a_glance
        self._db: sqlite3.Connection | None = None
        self._is_left = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    async def __aenter__(self) -> Self:
        self._is_left = False
        try:
            await self._run(self._open_unless_left)
        except BaseException:
            # Whoever is cancelled here may leave the opening behind in its thread, not yet begun.
            self._is_left = True
            await surely(self.close())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await surely(self.close())

    async def close(self) -> None:
        """Let go of the file."""
        await self._run(self._close)

    async def projects(self) -> list[About]:
        """See `Reader.projects`."""
        return [about(row) for row in await self._run(self._all, PROJECTS)]

    async def counts(self, project: str) -> Counts:
        """See `Reader.counts`."""
        [row] = await self._run(self._all, COUNTS, (project,) * COUNTS.count("?"))
        return counts(row)

    async def failures(self, project: str) -> list[Failed]:
        """See `Reader.failures`."""
        return [Failed(*row) for row in await self._run(self._all, FAILURES, (project,))]

    async def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """See `Reader.transcripts`."""
        run = Turns(self.path)
        reader = await run(partial(connect_to_read, self.path, at_a_glance=self._at_a_glance))
        try:
            sessions = await run(_Sessions, reader, project)
            while rows := await run(sessions.some):
                yield await run(_with_messages, reader, project, rows)
        finally:
            await surely(run(reader.close))

    async def flaws(self, project: str, *, is_thorough: bool = True) -> list[Flaw]:
        """See `Reader.flaws`."""
        known = await self._run(self._all, "PRAGMA integrity_check") if is_thorough else []
        told = [Flaw(None, f"The database says: {text}.") for (text,) in known if text != "ok"]
        for sentence, query in FLAWS.items():
            found = await self._run(self._all, query, (project,))
            told += [Flaw(session_id, sentence.format(session_id)) for (session_id,) in found]
        return told

    async def lacks(self, project: str, sessions: Sequence[str]) -> list[str]:
        """See `Reader.lacks`."""
        there = {
            session_id
            for query in THERE
            for (session_id,) in await self._run(self._all_of, query, project, sessions)
        }
        return [each for each in sessions if each not in there]

    async def mark(self) -> Mark:
        """How far the archive has come."""
        return await self._run(self._mark)

    # What follows runs in the archive's thread, one at a time.

    def _open_unless_left(self) -> None:
        if not self._is_left:
            self._open()

    def _open(self) -> None:
        self._db = connect_to_read(self.path, at_a_glance=self._at_a_glance)

    def _mark(self) -> Mark:
        return mark(self._connection)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(f"{self.path} is not open; use it in an `async with`.")
        return self._db

    def _all(self, query: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        return all_rows(self._connection, query, values)

    def _all_of(self, query: str, project: str, ids: Sequence[str]) -> list[Any]:
        """The rows that *query* finds of *project* and `{ids}`."""
        # Not by json_each, which ends a text at its first NUL.
        pieces = [ids[begin : begin + IDS_A_QUERY] for begin in range(0, len(ids), IDS_A_QUERY)]
        return [
            row
            for some in pieces
            for row in self._all(query.format(ids=", ".join("?" * len(some))), (project, *some))
        ]


class _Sessions:
    """The rows of `SESSIONS` as of one moment; what is no UTF-8, in a damaged file, is read with U+FFFD."""

    def __init__(self, reader: sqlite3.Connection, project: str) -> None:
        self._reader, self._project, self._read = reader, project, 0
        reader.execute("BEGIN")
        self._cursor = reader.execute(SESSIONS, (project,))

    def some(self) -> list[tuple[Any, ...]]:
        try:
            rows = self._cursor.fetchmany(SESSIONS_A_READ)
        except sqlite3.OperationalError as failure:
            if not is_no_text(failure) or self._reader.text_factory is READ_WITH_MARKS:
                raise
            self._reader.text_factory = READ_WITH_MARKS
            query = f"{SESSIONS} LIMIT -1 OFFSET ?"
            self._cursor = self._reader.execute(query, (self._project, self._read))
            return self.some()
        self._read += len(rows)
        return rows


def _with_messages(
    reader: sqlite3.Connection, project: str, rows: list[tuple[Any, ...]]
) -> list[StoredTranscript]:
    marks = ", ".join("?" * len(rows))
    ids = [row[SessionRow._fields.index("id")] for row in rows]
    found = all_rows(
        reader,
        f"SELECT {', '.join(MessageRow._fields)} FROM messages WHERE project = ? "
        f"AND session_id IN ({marks}) ORDER BY session_id, position",
        (project, *ids),
    )
    messages = groupby((MessageRow(*row) for row in found), key=lambda row: row.session_id)
    by_session = {session_id: list(group) for session_id, group in messages}
    return [
        StoredTranscript(SessionRow(*row), by_session.get(session_id, []), noted, row_noted, bool(is_due))
        for session_id, (*row, noted, row_noted, is_due) in zip(ids, rows, strict=True)
    ]
