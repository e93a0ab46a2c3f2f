"""An archive in one SQLite file: the embedded default.

One connection writes, in a thread of its own; readers have theirs. WAL lets both work at once, and
`synchronous=FULL` makes a commit outlast the power. WAL needs a local disk.
"""

import os
import sqlite3
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing, suppress
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from typing import Any, Self, TypeVar

from anyio import CapacityLimiter, sleep, to_thread

from navtalk_async.archive._database import Access, Driver, Put, Query, Write, rows_of
from navtalk_async.archive._schema import INDEXES, table_of
from navtalk_async.archive._statements import CHANGES, PROGRESS, SESSIONS_A_READ
from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker
from navtalk_async.archive.sqlite_file import (
    BUSY_MS,
    HeldFile,
    connect,
    connect_to_consume,
    connect_to_read,
    fingerprint,
    identity,
    in_sqlite,
    index_of,
    prepare,
    remove_index,
    translate_errors,
)
from navtalk_async.errors import StoreUnreachable
from navtalk_async.lenient_json import is_list

T = TypeVar("T")

VALUES_AT_ONCE = 900
"""Any SQLite takes 999 in a statement."""

IDS_A_QUERY = 500

READER_MS = 2_000
"""How long to wait for a reader that keeps what was deleted."""

POLL_SECONDS = 0.05
"""How often a reader looks whether there was a commit; one look costs some 0.1 ms."""

READ_WITH_MARKS = partial(str, encoding="utf-8", errors="replace")
"""How to read text that is no UTF-8, as a flipped byte makes it; it takes several times as long."""


class SqliteDriver(Driver[sqlite3.Connection]):
    """The archive in the file *path*. All its work is done in other threads, one piece after the other."""

    def __init__(self, path: Path, access: Access = "write", *, immutable: bool = False) -> None:
        self.path = self._path = path
        self._access: Access = access
        self._immutable = immutable
        self._version: object = None
        self._identity: tuple[int, ...] = ()
        self._limiter = CapacityLimiter(1)
        # Needed beside the limiter: a task that is cancelled from outside leaves its thread at work, and two
        # threads in one connection crash the interpreter.
        self._lock = Lock()
        self._file: HeldFile | None = None
        self._walk: Iterator[list[Any]] = iter(())
        self._is_closed = True

    def __str__(self) -> str:
        return str(self._path)

    async def open(self) -> None:
        self._is_closed = False
        await super().open()

    async def close(self) -> None:
        # A cancelled opening may be left behind in its thread, not yet begun.
        self._is_closed = True
        await super().close()

    def refuse_another_file(self) -> None:
        if self._file is not None:
            self._file.refuse_another(self._path)

    async def rebuild(self) -> None:
        await self.run(self._rebuild)

    async def find_damage(self) -> list[str]:
        rows = await self.read(rows_of("PRAGMA integrity_check"))
        return [f"The database says: {text}." for (text,) in rows if text != "ok"]

    async def copy_to(self, path: Path) -> None:
        await self.run(self._copy_to, path)

    async def remove_index(self) -> list[str]:
        return await self.run(self._remove_index)

    async def indexed_ids(self, project: str) -> list[str]:
        return await self.run(self._indexed_ids, project)

    async def erase(self) -> list[str]:
        return await self.run(self._erase)

    async def change_marker(self) -> ChangeMarker:
        return await self.run(self._marker)

    async def digest(self) -> ArchiveDigest | None:
        return await self.run(self._digest)

    async def run(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        return await to_thread.run_sync(self._alone, partial(work, *arguments), limiter=self._limiter)

    def _alone(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._lock, translate_errors(self._path):
            return _finish(work())

    def beside(self, access: Access) -> Self:
        return type(self)(self._path, access, immutable=self._immutable)

    async def wait_for_commit(self) -> None:
        # Another process cannot set an event.
        while (version := await self.run(self._data_version)) == self._version:  # noqa: ASYNC110
            await sleep(POLL_SECONDS)
        self._version = version

    async def _data_version(self) -> object:
        if identity(self._path) != self._identity:
            raise StoreUnreachable(f"{self._path} was removed or replaced while it was being read.")
        return _all_rows(self._connection, "PRAGMA data_version")

    # What follows runs in the thread, and waits for nothing.

    async def _open(self) -> None:
        if self._is_closed:
            return
        self._identity = identity(self._path)
        if self._access != "write":
            is_read = self._access == "read"
            self._db = (
                connect_to_read(self._path, immutable=self._immutable)
                if is_read
                else connect_to_consume(self._path)
            )
            return
        self._file = HeldFile(self._path)
        self._db = connect(self._path)
        prepare(self._db)

    async def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._db = None
        if self._file is not None:
            self._file.close()
        self._file = None

    async def _fetch(self, query: Query, *, is_writing: bool = False) -> list[Any]:  # noqa: ARG002
        return _rows(self._connection, query)

    async def _change(self, step: Write | Put) -> int:
        db = self._connection
        before = db.total_changes
        if isinstance(step, Write):
            for piece in _pieces(*step):
                db.execute(*piece)
        else:
            columns = len(step.types)
            for some in cut(step.rows, columns):
                values: list[object] = []
                for row in some:
                    values += row
                    values += step.also
                db.execute(with_rows(step.statement, len(some), columns), values)
        return db.total_changes - before

    async def _execute(self, statement: str) -> None:
        self._connection.execute(statement)

    async def _roll_back(self) -> None:
        self._connection.rollback()

    async def _begin_to_read(self) -> None:
        self._connection.execute("BEGIN")

    async def begin_walk(self, query: Query) -> None:
        await self._begin_to_read()
        self._walk = _sessions(self._connection, query)

    async def next_sessions(self) -> list[Any]:
        return next(self._walk, list[Any]())

    async def _marker(self) -> ChangeMarker:
        changes = [each for (each,) in _all_rows(self._connection, CHANGES)]
        if not all(isinstance(each, int) for each in changes):
            raise sqlite3.DatabaseError("the changes of a project are no number")
        state = blake2b(digest_size=16)
        for query in PROGRESS:
            for row in _all_rows(self._connection, query):
                state.update(repr(row).encode())
        return ChangeMarker(sum(changes), state.hexdigest())

    async def _digest(self) -> ArchiveDigest | None:
        reach("digest: before checkpoint")
        [(is_busy, _, _)] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        reach("digest: after checkpoint")
        marker = await self._marker()
        self._connection.close()
        self._db = None
        try:
            size, sha256 = fingerprint(self._path)
        finally:
            self._db = connect(self._path)
        if is_busy:
            return None
        return ArchiveDigest(name=self._path.name, bytes=size, sha256=sha256, **marker._asdict())

    async def _erase(self) -> list[str]:
        # Zeroing what is deleted is not enough: pages that were split before have copies of it.
        reach("erase: before vacuum")
        self._connection.execute("VACUUM")
        reach("erase: after vacuum")
        self._connection.execute(f"PRAGMA busy_timeout = {READER_MS}")
        try:
            [(is_busy, _, _)] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        reach("erase: after checkpoint")
        still = f"{self._path.name}-wal still holds what was deleted: forget the same again when it has ended"
        return [f"Another process is reading {self._path}; {still}."] if is_busy else []

    async def _copy_to(self, path: Path) -> None:
        # SQLite would make the file as the umask says, and it takes an empty one.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        reach("backup: before copy")
        self._connection.execute("VACUUM INTO ?", (str(path),))
        reach("backup: after copy")

    async def _remove_index(self) -> list[str]:
        reach("forget: before the index is removed")
        remove_index(index_of(self._path))
        reach("forget: after the index is removed")
        return []

    async def _indexed_ids(self, project: str) -> list[str]:
        index = index_of(self._path)
        if not index.exists():
            return []
        with (
            suppress(sqlite3.DatabaseError),
            closing(sqlite3.connect(f"{index.as_uri()}?mode=ro", uri=True)) as db,
        ):
            return [each for (each,) in db.execute("SELECT id FROM sessions WHERE project = ?", (project,))]
        return []

    async def _rebuild(self) -> None:
        """Rebuild all indexes; and a table of which rows are doubled, since its index hid them, or cannot be
        found any more, since their keys are no text: those are removed. Then pages that are not in order.
        """
        db = self._connection
        db.create_function("is_text", 1, _is_text, deterministic=True)
        try:
            db.execute("REINDEX")
            are_alone = True
        except sqlite3.IntegrityError:
            are_alone = False
        for table, keys in (("messages", ("session_id", "id")), ("sessions", ("id",))):
            found = " AND ".join(f"is_text(CAST({key} AS BLOB))" for key in keys)
            query = f"SELECT 1 FROM {table} WHERE NOT ({found}) LIMIT 1"
            if not are_alone or db.execute(query).fetchall():
                db.executescript(_remade(table, found))
        db.execute("DELETE FROM sync_sessions WHERE NOT is_text(CAST(session_id AS BLOB))")
        if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            # Damage that remains after that is reported by the next read of it.
            with suppress(sqlite3.DatabaseError):
                db.execute("VACUUM")


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """What *work* returns, which waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("Work in a thread must not wait.")


def _sessions(db: sqlite3.Connection, query: Query) -> Iterator[list[Any]]:
    """The rows of *query*, some at a time; what is no UTF-8, in a damaged file, is read with U+FFFD."""
    cursor, count = db.execute(*query), 0
    while True:
        try:
            rows = cursor.fetchmany(SESSIONS_A_READ)
        except sqlite3.OperationalError as failure:
            _read_with_marks(db, failure)
            cursor = db.execute(f"{query.statement} LIMIT -1 OFFSET ?", (*query.values, count))
            continue
        if not rows:
            return
        count += len(rows)
        yield rows


def _rows(db: sqlite3.Connection, query: Query) -> list[Any]:
    return [row for piece in _pieces(*query) for row in _all_rows(db, *piece)]


def _pieces(statement: str, values: Sequence[object]) -> Iterator[tuple[str, Sequence[object]]]:
    """*statement* with its *values*; where the last one is a list, for some of that at a time."""
    *others, last = values or (None,)
    if not is_list(last):
        yield statement, values
        return
    # Not by json_each, which ends a text at its first NUL.
    for begin in range(0, len(last), IDS_A_QUERY):
        some = last[begin : begin + IDS_A_QUERY]
        yield _with_ids(statement, len(some)), [*others, *some]


def _all_rows(db: sqlite3.Connection, statement: str, values: Any = ()) -> list[Any]:
    try:
        return db.execute(statement, values).fetchall()
    except sqlite3.OperationalError as failure:
        _read_with_marks(db, failure)
        return db.execute(statement, values).fetchall()


def _read_with_marks(db: sqlite3.Connection, failure: sqlite3.OperationalError) -> None:
    """From now on, read what is no UTF-8 with U+FFFD; raise *failure* where it is another."""
    if "decode to UTF-8" not in str(failure) or db.text_factory is READ_WITH_MARKS:
        raise failure
    db.text_factory = READ_WITH_MARKS


def _is_text(value: bytes) -> bool:
    return value.decode(errors="replace").encode() == value


@cache
def _with_ids(statement: str, count: int) -> str:
    return statement.format(any=f"IN ({', '.join('?' * count)})", is_not="IS NOT")


def cut(rows: Sequence[Sequence[object]], columns: int) -> Iterator[Sequence[Sequence[object]]]:
    """*rows* in pieces of few different lengths, since each length is a statement to be understood: many at
    once take half as long as one after the other.
    """
    begin = 0
    for size in (VALUES_AT_ONCE // columns, 32, 16, 8, 4, 2, 1):
        while begin + size <= len(rows):
            yield rows[begin : begin + size]
            begin += size


@cache
def with_rows(statement: str, rows: int, columns: int) -> str:
    """*statement* with question marks for so many *rows*."""
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=f"VALUES {', '.join([row] * rows)}", is_not="IS NOT")


def _remade(table: str, found: str) -> str:
    """The statements that make *table* anew of its rows that are *found*."""
    indexes = "".join(
        f"CREATE INDEX {name} ON {of};" for name, of in INDEXES.items() if of.startswith(f"{table} ")
    )
    # The row that was written last is the right one. Without the pragma, views would follow the old table.
    return f"""PRAGMA legacy_alter_table = ON; BEGIN; ALTER TABLE {table} RENAME TO damaged;
    {in_sqlite(table_of(table))}
    INSERT OR REPLACE INTO {table} SELECT * FROM damaged NOT INDEXED WHERE {found} ORDER BY rowid;
    DROP TABLE damaged; {in_sqlite(indexes)} COMMIT; PRAGMA legacy_alter_table = OFF;"""
