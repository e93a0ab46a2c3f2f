"""An archive in one SQLite file: the embedded default.

One connection writes, in a thread of its own; readers have theirs. WAL lets both work at once, and
`synchronous=FULL` makes a commit outlast the power. WAL needs a local disk.
"""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, TypeVar

from navtalk_async.archive._database import Codec, Query, Steps
from navtalk_async.archive._sqlite_file import (
    READ_WITH_MARKS,
    HeldFile,
    Transaction,
    Turns,
    connect,
    connect_to_read,
    found,
    is_no_text,
    prepare,
)
from navtalk_async.archive._sqlite_mending import rebuild
from navtalk_async.archive._statements import ID_OF_SESSION, MESSAGES, SESSIONS, SESSIONS_A_READ
from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker
from navtalk_async.archive.seal import fingerprint, mark
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError

T = TypeVar("T")


class SqliteDriver:
    """The archive in the file *path*; its methods run one after the other, in another thread."""

    codec = Codec()

    def __init__(self, path: Path, *, read_only: bool, immutable: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._immutable = immutable
        self._run = Turns(path)
        self._file: HeldFile | None = None
        self._db: sqlite3.Connection | None = None
        self._is_closed = True

    def __str__(self) -> str:
        return str(self.path)

    async def open(self) -> None:
        self._is_closed = False
        await self._run(self._open)

    async def close(self) -> None:
        # A cancelled opening may be left behind in its thread, not yet begun.
        self._is_closed = True
        await self._run(self._close)

    async def read(self, steps: Steps[T]) -> T:
        return await self._run(lambda: completed(steps, lambda step: found(self._connection, step)))

    async def write(self, name: str, project: str, steps: Steps[T]) -> T:
        return await self._run(self._write, name, project, steps)

    async def walk(self, project: str) -> AsyncGenerator[tuple[list[Any], list[Any]], None]:
        run = Turns(self.path)
        db = await run(lambda: connect_to_read(self.path, immutable=self._immutable))
        try:
            sessions = await run(_Sessions, db, project)
            while rows := await run(sessions.some):
                ids = [row[ID_OF_SESSION] for row in rows]
                yield rows, await run(found, db, Query(MESSAGES, (project, ids)))
        finally:
            await shielded(run(db.close))

    async def rebuild(self) -> None:
        await self._run(lambda: rebuild(self._connection))

    async def find_damage(self) -> list[str]:
        rows = await self._run(lambda: found(self._connection, Query("PRAGMA integrity_check")))
        return [f"The database says: {text}." for (text,) in rows if text != "ok"]

    async def change_marker(self) -> ChangeMarker:
        return await self._run(lambda: mark(self._connection))

    async def digest(self) -> ArchiveDigest | None:
        return await self._run(self._digest)

    # What follows runs in the thread, one at a time.

    def refuse_another_file(self) -> None:
        if self._file is not None:
            self._file.refuse_another(self.path)

    def _open(self) -> None:
        if self._is_closed:
            return
        if self._read_only:
            self._db = connect_to_read(self.path, immutable=self._immutable)
            return
        self._file = HeldFile(self.path)
        self._db = connect(self.path)
        prepare(self._db)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None
        if self._file is not None:
            self._file.close()
        self._file = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(f"{self.path} is not open; use it in an `async with`.")
        return self._db

    def _write(self, name: str, project: str, steps: Steps[T]) -> T:
        with Transaction(self._connection, name, project) as change:
            return completed(steps, change.do)

    def _digest(self) -> ArchiveDigest | None:
        reach("digest: before checkpoint")
        [(is_busy, _, _)] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        reach("digest: after checkpoint")
        marker = mark(self._connection)
        self._connection.close()
        self._db = None
        try:
            size, sha256 = fingerprint(self.path)
        finally:
            self._db = connect(self.path)
        if is_busy:
            return None
        return ArchiveDigest(
            name=self.path.name, bytes=size, sha256=sha256, changes=marker.changes, state=marker.state
        )


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
