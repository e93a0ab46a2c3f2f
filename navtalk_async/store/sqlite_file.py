"""An archive's file: opened, recognised, held by one writer, and its failures told in our words."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import chain
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio import CapacityLimiter, to_thread

from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch, StoreUnreachable
from navtalk_async.failpoints import reach
from navtalk_async.store.sqlite_schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, UPGRADES

__all__ = [
    "IDS_A_QUERY",
    "READ_WITH_MARKS",
    "Transaction",
    "Turns",
    "all_rows",
    "connect",
    "connect_to_read",
    "hold",
    "identity",
    "is_no_text",
    "prepare",
    "refuse_foreign",
]

T = TypeVar("T")

VALUES_AT_ONCE = 900
"""Any SQLite takes 999 in a statement."""

IDS_A_QUERY = 500

READ_WITH_MARKS = partial(str, encoding="utf-8", errors="replace")
"""How to read text that is no UTF-8, as a flipped byte makes it; it takes several times as long."""


class Turns:
    """Runs work in other threads, one piece after the other, and says in our words what fails.

    The lock is needed beside the limiter: a task that is cancelled from outside leaves its thread at work,
    and two threads in one connection crash the interpreter.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limiter = CapacityLimiter(1)
        self._lock = Lock()

    async def __call__(self, work: Callable[..., T], *arguments: Any) -> T:
        """What *work* gives."""
        return await to_thread.run_sync(self._alone, partial(work, *arguments), limiter=self._limiter)

    def _alone(self, work: Callable[[], T]) -> T:
        with self._lock:
            return in_our_words(work, self._path)


class Transaction:
    """A `with` in which everything of *project* is written, or nothing; *name* is what a failpoint calls it.

    Where a row was touched, the project's `changes` are counted; where none was, the file is left alone.
    """

    def __init__(self, db: sqlite3.Connection, name: str, project: str) -> None:
        self._db = db
        self._name = name
        self._project = project
        self._before = db.total_changes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._db.rollback()
            return
        try:
            self._commit()
        except BaseException:
            self._db.rollback()
            raise
        reach(f"{self._name}: after commit")

    def _commit(self) -> None:
        if self._db.total_changes != self._before:
            counted = "UPDATE sync_projects SET changes = changes + 1 WHERE project = ?"
            self._db.execute(counted, (self._project,))
        reach(f"{self._name}: before commit")
        self._db.commit()

    def all(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that *query* finds."""
        return all_rows(self._db, query, values)

    def write(self, statement: str, rows: Iterable[Sequence[object] | Mapping[str, object]]) -> None:
        """Execute *statement* for each of *rows*."""
        reach(f"{self._name}: before write")
        self._db.executemany(statement, rows)
        reach(f"{self._name}: after write")

    def put(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute *statement*, an insertion of `{rows}`, for *rows* of one length, many at once: that takes
        half as long as one after the other.
        """
        reach(f"{self._name}: before write")
        for some in cut(rows):
            self._db.execute(inserting(statement, len(some), len(some[0])), list(chain.from_iterable(some)))
        reach(f"{self._name}: after write")


def cut(rows: Sequence[Sequence[object]]) -> Iterator[Sequence[Sequence[object]]]:
    """*rows* in pieces of few different lengths, since each length is a statement to be understood."""
    begin = 0
    for size in (VALUES_AT_ONCE // len(rows[0]), 10, 1) if rows else ():
        while begin + size <= len(rows):
            yield rows[begin : begin + size]
            begin += size


@cache
def inserting(statement: str, rows: int, columns: int) -> str:
    """*statement* with so many question marks."""
    row = f"({', '.join('?' * columns)})"
    return statement.format(rows=", ".join([row] * rows))


def all_rows(db: sqlite3.Connection, query: str, values: Any = ()) -> list[Any]:
    """All rows that *query* finds; what is no UTF-8, in a damaged file, is read with U+FFFD."""
    try:
        return db.execute(query, values).fetchall()
    except sqlite3.OperationalError as failure:
        if not is_no_text(failure):
            raise
    usual, db.text_factory = db.text_factory, READ_WITH_MARKS
    try:
        return db.execute(query, values).fetchall()
    finally:
        db.text_factory = usual


def is_no_text(failure: sqlite3.OperationalError) -> bool:
    """Whether a column holds what is no UTF-8."""
    return "decode to UTF-8" in str(failure)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to *path* that may be used from any thread, by one at a time."""
    db = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # Copying the log into the file stops the writing meanwhile: seldom, and 16 MB at a time.
        db.execute("PRAGMA wal_autocheckpoint = 4000")
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: Path, *, at_a_glance: bool = False) -> sqlite3.Connection:
    """A connection to the archive at *path* that changes nothing, and may be used as `connect`'s.

    With *at_a_glance*, no file is made beside it where nobody has it open.

    Raises:
        StoreUnreachable: there is no such file.
        StoreBroken, StoreMismatch: it is no archive, or not of this version.
    """
    if not path.is_file():
        raise StoreUnreachable(f"There is no archive at {path}.")
    # A reader writes to the files beside the archive; where it may not, and nobody writes, none is needed.
    ways = ["mode=ro", "mode=ro&immutable=1"]
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        # What was committed last is in there alone.
        ways.pop()
    elif at_a_glance and not log.exists():
        ways.reverse()
    for how in ways:
        address = f"{path.resolve().as_uri()}?{how}"
        db = sqlite3.connect(address, uri=True, check_same_thread=False, timeout=30.0)
        try:
            refuse_others(*recognised(db), path)
        except sqlite3.OperationalError:
            db.close()
            if how == ways[-1]:
                raise
        except BaseException:
            db.close()
            raise
        else:
            break
    return db


def refuse_others(application: int, version: int, path: Path) -> None:
    """Refuse to read what another program wrote, or another version."""
    if application != APPLICATION_ID:
        raise StoreBroken(f"{path} is no archive.")
    if version > SCHEMA_VERSION:
        raise StoreMismatch(f"{path} was written by a newer version of navtalk-async; please upgrade.")
    if version < SCHEMA_VERSION:
        raise StoreMismatch(f"{path} was written by an older version; `navtalk sync {path}` upgrades it.")


def recognised(db: sqlite3.Connection) -> tuple[int, int]:
    """What wrote *db*, and in which version."""
    [(application,)], [(version,)] = (
        db.execute(f"PRAGMA {name}").fetchall() for name in ("application_id", "user_version")
    )
    return application, version


def identity(path: Path) -> tuple[int, int] | None:
    """What tells the file at *path* from one that takes its place; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def hold(path: Path) -> sqlite3.Connection:
    """The right to write, held until the connection is closed or its process dies, however it dies.

    SQLite's own locks work alike on every system, and leave the archive itself open to readers.
    """
    lock = sqlite3.connect(path, check_same_thread=False, timeout=0.0, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as failure:
        lock.close()
        if "locked" in str(failure):
            raise StoreLocked(f"Another run is writing to {path.with_suffix('')}.") from None
        raise
    return lock


def refuse_foreign(path: Path) -> None:
    """Refuse a database of something else, or of a later version, before anything of it is touched.

    That goes by the file's header (source: sqlite.org, "Database File Format"): even a connection that only
    reads leaves files behind.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return
    pages, version, application = (int.from_bytes(header[at : at + 4]) for at in (28, 60, 68))
    if application != APPLICATION_ID and pages > 1:
        raise StoreBroken(f"{path} is a database of something else; choose another place.")
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise StoreMismatch(f"{path} was written by a newer version of navtalk-async; please upgrade.")


def prepare(db: sqlite3.Connection) -> None:
    """Make *db* an archive if it is new, and one of this version if it is older."""
    application, version = recognised(db)
    if application == APPLICATION_ID:
        while version < SCHEMA_VERSION:
            upgrade, version = UPGRADES[version]
            db.executescript(f"BEGIN; {upgrade} PRAGMA user_version = {version}; COMMIT;")
        return
    db.executescript(
        f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def in_our_words(work: Callable[[], T], path: Path) -> T:
    """What *work* gives; its failures as `StoreError`s that say what to do."""
    try:
        return work()
    except sqlite3.OperationalError as failure:
        kind = StoreUnreachable if _is_shut_out(str(failure)) else StoreError
        raise kind(f"{path} cannot be used: {failure}.") from failure
    except (sqlite3.Error, UnicodeDecodeError) as failure:
        # The latter is of the names of columns.
        raise StoreBroken(f"{path} is damaged, or is no archive: {failure}.") from failure
    except OSError as failure:
        raise StoreUnreachable(f"{path} cannot be used: {failure.strerror or failure}.") from failure


def _is_shut_out(failure: str) -> bool:
    return "readonly" in failure or "unable to open" in failure
