"""An archive in one SQLite file: the embedded default.

One connection writes, in a thread of its own; readers have theirs. WAL lets both work at once, and
`synchronous=FULL` makes a commit outlast the power. WAL needs a local disk.
"""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from navtalk_async.archive._database import Driver, Query, Step, Steps, Write
from navtalk_async.archive._schema import INDEXES, table_of
from navtalk_async.archive._statements import (
    CHANGES,
    COUNT_CHANGE,
    ID_OF_SESSION,
    MESSAGES,
    PROGRESS,
    SESSIONS,
    SESSIONS_A_READ,
)
from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker
from navtalk_async.archive.sqlite_file import (
    HeldFile,
    connect,
    connect_to_read,
    fingerprint,
    in_sqlite,
    prepare,
    translate_errors,
)
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError

T = TypeVar("T")

VALUES_AT_ONCE = 900
"""Any SQLite takes 999 in a statement."""

IDS_A_QUERY = 500

READ_WITH_MARKS = partial(str, encoding="utf-8", errors="replace")
"""How to read text that is no UTF-8, as a flipped byte makes it; it takes several times as long."""


class SqliteDriver(Driver):
    """The archive in the file *path*; its methods run one after the other, in another thread."""

    def __init__(self, path: Path, *, read_only: bool, immutable: bool = False) -> None:
        self.path: Path = path
        self._read_only = read_only
        self._immutable = immutable
        self._run = _WorkerThread(path)
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
        return await self._run(lambda: _run_steps(steps, lambda step: _found(self._connection, step)))

    async def write(self, name: str, project: str, steps: Steps[T]) -> T:
        return await self._run(self._write, name, project, steps)

    async def walk(self, project: str) -> AsyncGenerator[tuple[list[Any], list[Any]], None]:
        run = _WorkerThread(self.path)
        db = await run(lambda: connect_to_read(self.path, immutable=self._immutable))
        try:
            sessions = await run(_Sessions, db, project)
            while rows := await run(sessions.some):
                ids = [row[ID_OF_SESSION] for row in rows]
                yield rows, await run(_found, db, Query(MESSAGES, (project, ids)))
        finally:
            await shielded(run(db.close))

    async def rebuild(self) -> None:
        await self._run(lambda: _rebuild(self._connection))

    async def find_damage(self) -> list[str]:
        rows = await self._run(lambda: _all_rows(self._connection, "PRAGMA integrity_check"))
        return [f"The database says: {text}." for (text,) in rows if text != "ok"]

    async def change_marker(self) -> ChangeMarker:
        return await self._run(lambda: _marker(self._connection))

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
        with _transaction(self._connection, name, project) as do:
            return _run_steps(steps, do)

    def _digest(self) -> ArchiveDigest | None:
        reach("digest: before checkpoint")
        [(is_busy, _, _)] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        reach("digest: after checkpoint")
        marker = _marker(self._connection)
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


class _WorkerThread:
    """Runs work in other threads, one piece after the other, and translates its errors.

    The lock is needed beside the limiter: a task that is cancelled from outside leaves its thread at work,
    and two threads in one connection crash the interpreter.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limiter = CapacityLimiter(1)
        self._lock = Lock()

    async def __call__(self, work: Callable[..., T], *arguments: Any) -> T:
        return await to_thread.run_sync(self._alone, partial(work, *arguments), limiter=self._limiter)

    def _alone(self, work: Callable[[], T]) -> T:
        with self._lock:
            return translate_errors(work, self._path)


@contextmanager
def _transaction(db: sqlite3.Connection, name: str, project: str) -> Iterator[Callable[[Step], list[Any]]]:
    """Gives a function that does one step; in the end all of *project* is written, or nothing. *name* is what
    a failpoint calls it.

    Where a row was touched, the project's `changes` are counted; where none was, the file is left alone.
    """
    before, has_written = db.total_changes, False

    def do(step: Step) -> list[Any]:
        nonlocal has_written
        if isinstance(step, Query):
            return _found(db, step)
        has_written = True
        reach(f"{name}: before write")
        if isinstance(step, Write):
            db.execute(step.statement, step.values)
        else:
            for some in cut(step.rows):
                filled = with_rows(step.statement, len(some), len(some[0]))
                db.execute(filled, list(chain.from_iterable(some)))
        reach(f"{name}: after write")
        return []

    try:
        yield do
        if has_written:
            if db.total_changes != before:
                db.execute(COUNT_CHANGE, (project,))
            reach(f"{name}: before commit")
            db.commit()
    except BaseException:
        db.rollback()
        raise
    if has_written:
        reach(f"{name}: after commit")


def _run_steps(steps: Steps[T], do: Callable[[Any], list[Any]]) -> T:
    """What *steps* return, each of which is done by *do*."""
    try:
        step = next(steps)
        while True:
            step = steps.send(do(step))
    except StopIteration as end:
        value: T = end.value
        return value


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
            if not _is_no_text(failure) or self._reader.text_factory is READ_WITH_MARKS:
                raise
            self._reader.text_factory = READ_WITH_MARKS
            query = f"{SESSIONS} LIMIT -1 OFFSET ?"
            self._cursor = self._reader.execute(query, (self._project, self._read))
            return self.some()
        self._read += len(rows)
        return rows


def _found(db: sqlite3.Connection, step: Step) -> list[Any]:
    *values, last = step[1] or (None,)
    if not isinstance(last, list):
        return _all_rows(db, step.statement, step[1])
    # Not by json_each, which ends a text at its first NUL.
    pieces = [last[begin : begin + IDS_A_QUERY] for begin in range(0, len(last), IDS_A_QUERY)]
    return [
        row
        for some in pieces
        for row in _all_rows(db, _with_ids(step.statement, len(some)), [*values, *some])
    ]


def _all_rows(db: sqlite3.Connection, query: str, values: Any = ()) -> list[Any]:
    """All rows that *query* finds; what is no UTF-8, in a damaged file, is read with U+FFFD."""
    try:
        return db.execute(query, values).fetchall()
    except sqlite3.OperationalError as failure:
        if not _is_no_text(failure):
            raise
    usual, db.text_factory = db.text_factory, READ_WITH_MARKS
    try:
        return db.execute(query, values).fetchall()
    finally:
        db.text_factory = usual


def _is_no_text(failure: sqlite3.OperationalError) -> bool:
    return "decode to UTF-8" in str(failure)


def _is_text(value: bytes) -> bool:
    return value.decode(errors="replace").encode() == value


@cache
def _with_ids(statement: str, count: int) -> str:
    return statement.format(any=f"IN ({', '.join('?' * count)})", is_not="IS NOT")


def cut(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    """*rows* in pieces of few different lengths, since each length is a statement to be understood: many at
    once take half as long as one after the other.
    """
    begin = 0
    for size in (VALUES_AT_ONCE // len(rows[0]), 10, 1) if rows else ():
        while begin + size <= len(rows):
            yield rows[begin : begin + size]
            begin += size


@cache
def with_rows(statement: str, rows: int, columns: int) -> str:
    """*statement* with question marks for so many *rows*."""
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=f"VALUES {', '.join([row] * rows)}", is_not="IS NOT")


def _marker(db: sqlite3.Connection) -> ChangeMarker:
    changes = [each for (each,) in _all_rows(db, CHANGES)]
    if not all(isinstance(each, int) for each in changes):
        raise sqlite3.DatabaseError("the changes of a project are no number")
    state = blake2b(digest_size=16)
    for query in PROGRESS:
        for row in _all_rows(db, query):
            state.update(repr(row).encode())
    return ChangeMarker(sum(changes), state.hexdigest())


def _rebuild(db: sqlite3.Connection) -> None:
    """Rebuild all indexes; and a table of which rows are doubled, since its index hid them, or cannot be
    found any more, since their keys are no text: those are removed. Then pages, where they are not in order.
    """
    db.create_function("is_text", 1, _is_text, deterministic=True)
    try:
        db.execute("REINDEX")
        are_alone = True
    except sqlite3.IntegrityError:
        are_alone = False
    for table, keys in (("messages", ("session_id", "id")), ("sessions", ("id",))):
        found = " AND ".join(f"is_text(CAST({key} AS BLOB))" for key in keys)
        if are_alone and not db.execute(f"SELECT 1 FROM {table} WHERE NOT ({found}) LIMIT 1").fetchall():
            continue
        indexes = "".join(
            f"CREATE INDEX {name} ON {of};" for name, of in INDEXES.items() if of.startswith(f"{table} ")
        )
        # The row that was written last is the right one.
        db.executescript(
            f"""BEGIN; ALTER TABLE {table} RENAME TO damaged;
            {in_sqlite(table_of(table))}
            INSERT OR REPLACE INTO {table} SELECT * FROM damaged NOT INDEXED WHERE {found} ORDER BY rowid;
            DROP TABLE damaged; {in_sqlite(indexes)} COMMIT;"""
        )
    db.execute("DELETE FROM sync_sessions WHERE NOT is_text(CAST(session_id AS BLOB))")
    db.commit()
    if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        # Damage that remains after that is reported by the next read of it.
        with suppress(sqlite3.DatabaseError):
            db.execute("VACUUM")
