"""An archive that is read, and not written to."""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from navtalk_async.archive.database import Codec, Query, Steps
from navtalk_async.archive.records import Flaw
from navtalk_async.archive.rows import SessionRow, StoredTranscript
from navtalk_async.archive.seal import ChangeMarker, mark
from navtalk_async.archive.sqlite_file import READ_WITH_MARKS, Turns, connect_to_read, found, is_no_text
from navtalk_async.archive.statements import MESSAGES, SESSIONS, SESSIONS_A_READ
from navtalk_async.archive.store import Reader
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError

__all__ = ["SqliteReader", "completed"]

T = TypeVar("T")

UNCHANGED = Codec(*[lambda same: same] * 7)
"""SQLite holds every text."""


class SqliteReader(Reader):
    """An `async with` to read the archive *path* in; others may read it and write to it meanwhile.

    Who reads *at_a_glance* makes no file beside an archive that nobody has open, and is done before anybody
    writes to it.

    Raises:
        StoreUnreachable: it is not there, or cannot be opened.
        StoreBroken: the file is damaged, or is no archive.
        StoreMismatch: it was written by another version.
    """

    _text = UNCHANGED

    def __init__(self, path: str | Path, *, at_a_glance: bool = False) -> None:
        super().__init__()
        self.path = Path(path)
        self._run = Turns(self.path)
        self._at_a_glance = at_a_glance
        self._db: sqlite3.Connection | None = None
        self._is_left = False

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    async def __aenter__(self) -> Self:
        self._is_left = False
        try:
            await self._run(self._open_unless_left)
        except BaseException:
            # Whoever is cancelled here may leave the opening behind in its thread, not yet begun.
            self._is_left = True
            await shielded(self.close())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await shielded(self.close())

    async def close(self) -> None:
        """Let go of the file."""
        await self._run(self._close)

    async def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """See `Reader.transcripts`."""
        run = Turns(self.path)
        reader = await run(partial(connect_to_read, self.path, at_a_glance=self._at_a_glance))
        try:
            sessions = await run(_Sessions, reader, project)
            while rows := await run(sessions.some):
                yield await run(self._with_messages, reader, project, rows)
        finally:
            await shielded(run(reader.close))

    async def _ask(self, steps: Steps[T]) -> T:
        return await self._run(self._read, steps)

    async def _damage(self) -> list[Flaw]:
        rows = await self._all("PRAGMA integrity_check")
        return [Flaw(None, f"The database says: {text}.") for (text,) in rows if text != "ok"]

    async def mark(self) -> ChangeMarker:
        """How far the archive has come."""
        return await self._run(self._mark)

    # What follows runs in the archive's thread, one at a time.

    def _open_unless_left(self) -> None:
        if not self._is_left:
            self._open()

    def _open(self) -> None:
        self._db = connect_to_read(self.path, at_a_glance=self._at_a_glance)

    def _with_messages(
        self, reader: sqlite3.Connection, project: str, rows: Sequence[Sequence[Any]]
    ) -> list[StoredTranscript]:
        ids = [row[SessionRow._fields.index("id")] for row in rows]
        return self._transcripts(rows, found(reader, Query(MESSAGES, (project, ids))))

    def _mark(self) -> ChangeMarker:
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

    def _read(self, steps: Steps[T]) -> T:
        return completed(steps, lambda step: found(self._connection, step))


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


def completed(steps: Steps[T], do: Callable[[Any], list[Any]]) -> T:
    """What *steps* return, each of which is done by *do*."""
    try:
        step = next(steps)
        while True:
            step = steps.send(do(step))
    except StopIteration as end:
        value: T = end.value
        return value
