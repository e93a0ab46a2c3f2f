"""An archive's file: opened, recognised, held by one writer, and its failures told in our words."""

import errno
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cache, partial
from itertools import chain
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, BinaryIO, ClassVar, Self, TypeVar

from anyio import CapacityLimiter, to_thread

from navtalk_async.archive._database import Query, Step, Write
from navtalk_async.archive._schema import APPLICATION_ID, SCHEMA_VERSION, schema, upgrade
from navtalk_async.archive._statements import COUNT_CHANGE
from navtalk_async.archive.failpoints import reach
from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch, StoreUnreachable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = [
    "ELSEWHERE",
    "READ_WITH_MARKS",
    "HeldFile",
    "Transaction",
    "Turns",
    "connect",
    "connect_to_read",
    "found",
    "is_no_text",
    "make_folder",
    "prepare",
    "translate_errors",
]

T = TypeVar("T")

VALUES_AT_ONCE = 900
"""Any SQLite takes 999 in a statement."""

IDS_A_QUERY = 500

ELSEWHERE = "Use another path, or change its permissions."

LOCKED_BYTE = 0x7FFFFFFF
"""Behind every byte that SQLite locks: where locks keep others from reading (Windows), no reader comes."""

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
            return translate_errors(work, self._path)


class Transaction:
    """A `with` in which everything of *project* is written, or nothing; *name* is what a failpoint calls it.

    Where a row was touched, the project's `changes` are counted; where none was, the file is left alone.
    """

    def __init__(self, db: sqlite3.Connection, name: str, project: str) -> None:
        self._db = db
        self._name = name
        self._project = project
        self._before = db.total_changes
        self._has_written = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._db.rollback()
        elif self._has_written:
            try:
                self._commit()
            except BaseException:
                self._db.rollback()
                raise
            reach(f"{self._name}: after commit")

    def _commit(self) -> None:
        if self._db.total_changes != self._before:
            self._db.execute(COUNT_CHANGE, (self._project,))
        reach(f"{self._name}: before commit")
        self._db.commit()

    def do(self, step: Step) -> list[Any]:
        """Do one *step*; the rows that it finds."""
        if isinstance(step, Query):
            return found(self._db, step)
        self._has_written = True
        reach(f"{self._name}: before write")
        if isinstance(step, Write):
            self._db.execute(step.statement, step.values)
        else:
            for some in cut(step.rows):
                filled = with_rows(step.statement, len(some), len(some[0]))
                self._db.execute(filled, list(chain.from_iterable(some)))
        reach(f"{self._name}: after write")
        return []


def found(db: sqlite3.Connection, query: Query) -> list[Any]:
    """The rows that *query* finds."""
    *values, last = query.values or (None,)
    if not isinstance(last, list):
        return all_rows(db, query.statement, query.values)
    # Not by json_each, which ends a text at its first NUL.
    pieces = [last[begin : begin + IDS_A_QUERY] for begin in range(0, len(last), IDS_A_QUERY)]
    return [
        row for some in pieces for row in all_rows(db, with_ids(query.statement, len(some)), [*values, *some])
    ]


@cache
def with_ids(statement: str, count: int) -> str:
    """*statement* with so many question marks for a list."""
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
    # A relative name such as `:memory:` or `file:x?mode=memory` would not mean a file to SQLite.
    db = sqlite3.connect(path.absolute(), check_same_thread=False, timeout=30.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # Copying the log into the file stops the writing meanwhile: seldom, and 16 MB at a time.
        db.execute("PRAGMA wal_autocheckpoint = 4000")
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection to the archive at *path* that changes nothing, and may be used as `connect`'s.

    With *immutable*, no file is made beside it where nobody has it open.

    Raises:
        StoreUnreachable: there is no such file.
        StoreBroken, StoreMismatch: it is no archive, or not of this version.
    """
    if not path.is_file():
        raise StoreUnreachable(f"There is no archive at {path}.")
    # A reader writes to the files beside the archive; where it may not, and nobody writes, none is needed.
    ways = ["mode=ro", "mode=ro&immutable=1"]
    log = log_of(path.resolve())
    if log.exists() and log.stat().st_size:
        # What was committed last is in there alone.
        ways.pop()
    elif immutable and not log.exists():
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
        return identity_of(path.stat())
    except FileNotFoundError:
        return None


def identity_of(found: os.stat_result) -> tuple[int, int]:
    """What tells a file from all others, whatever its names."""
    return found.st_dev, found.st_ino


class HeldFile:
    """The right to write to the archive at *path*, whatever other names it has, until it is closed or the
    process dies. The file is made, for its owner alone, where it is not there.

    The lock is the file's own and none of SQLite's, so readers are not kept out. It is closed after every
    connection to the file: closing it ends the locks that SQLite has on it in this process (POSIX). For the
    same reason a file that this process holds is not opened a second time.

    Raises:
        StoreLocked: another run has the right.
        StoreUnreachable: it is no regular file; or has commits in a log beside another of its names.
        StoreBroken: it is a database of something else.
        StoreMismatch: it is of a later version.
    """

    _held: ClassVar[set[tuple[int, int, int]]] = set()

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        if path.exists() and not path.is_file():
            raise StoreUnreachable(f"{path} is no regular file, and would keep nothing. Use another path.")
        if (os.getpid(), *(identity(path) or ())) in self._held:
            raise locked(path)
        self._file = open(path, "r+b", opener=_made_for_its_owner)  # noqa: SIM115 - closed in `close`
        self._process = os.getpid()
        self._identity = identity_of(os.fstat(self._file.fileno()))
        self._key = (self._process, *self._identity)
        try:
            lock(self._file, path)
            refuse_foreign(self._file.read(100), path)
            refuse_log_of_other_name(path)
            refuse_older_writer(path)
        except BaseException:
            self._file.close()
            raise
        self._held.add(self._key)

    def close(self) -> None:
        """Give the right up; in a fork of the process, which has it no more than any other, nothing."""
        if os.getpid() == self._process:
            # A fork may have the file open for longer.
            unlock(self._file)
        self._file.close()
        self._held.discard(self._key)

    def refuse_another(self, path: Path) -> None:
        """Refuse to go on where *path* is another file by now.

        Raises:
            StoreUnreachable: it is, or there is none.
        """
        if identity(path) != self._identity:
            raise StoreUnreachable(f"{path} was removed or replaced while it was being written to.")


def make_folder(folder: Path) -> None:
    """Make *folder*, and all above it that are not there, for their owner alone."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _made_for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)


def locked(path: Path) -> StoreLocked:
    return StoreLocked(f"Another run is writing to {path}.")


def lock(file: BinaryIO, path: Path) -> None:
    """Lock *file*.

    Raises:
        StoreLocked: another process has.
    """
    try:
        if sys.platform == "win32":
            file.seek(LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        if failure.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise
        raise locked(path) from None


def unlock(file: BinaryIO) -> None:
    """Unlock *file*, whoever else has it open."""
    if sys.platform == "win32":
        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_UN)


def refuse_log_of_other_name(path: Path) -> None:
    """Refuse a file of several names whose latest commits may be in the log beside another one: SQLite looks
    for the log beside the name that it is given, and would write over what it does not see.
    """
    path = path.resolve()
    names, log = path.stat().st_nlink, log_of(path)
    if names < 2 or (log.exists() and log.stat().st_size):
        return
    same = [each for each in path.parent.iterdir() if identity(each) == identity(path)]
    for other in same:
        log = log_of(other)
        if log.exists() and log.stat().st_size:
            raise StoreUnreachable(f"{path} has commits in {log}, under its other name: use {other}.")
    if len(same) < names:
        raise StoreUnreachable(
            f"{path} has a second name in another folder (a hard link), and what was committed under that one"
            " cannot be seen here. Remove one of them; to keep a copy, use cp."
        )


def refuse_older_writer(path: Path) -> None:
    """Refuse an archive that a version before 0.2 is writing to, which holds the file beside it.

    Raises:
        StoreLocked: one is.
    """
    beside = path.resolve().with_name(f"{path.resolve().name}.lock")
    if not beside.exists():
        return
    with closing(sqlite3.connect(beside, timeout=0.0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as failure:
            if "locked" in str(failure):
                raise locked(path) from None
            raise


def log_of(path: Path) -> Path:
    """Where SQLite keeps what was committed last, until it is copied into the file *path*."""
    return path.with_name(f"{path.name}-wal")


def refuse_foreign(header: bytes, path: Path) -> None:
    """Refuse a database of something else, or of a later version, before anything of it is touched.

    That goes by the file's first 100 bytes (source: sqlite.org, "Database File Format"): even a connection
    that only reads leaves files behind.
    """
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
    if application == APPLICATION_ID and version == SCHEMA_VERSION:
        return
    steps = schema() if application != APPLICATION_ID else upgrade(version, columns_in(db))
    db.executescript(
        f"BEGIN; {in_sqlite(''.join(steps))} PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def columns_in(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        table: [column for _, column, *_ in db.execute(f"PRAGMA table_info({table})")] for (table,) in tables
    }


def in_sqlite(statements: str) -> str:
    """*statements* of the schema in SQLite's words."""
    return statements.format(text="TEXT", word="", nulls_first="")


def translate_errors(work: Callable[[], T], path: Path) -> T:
    """What *work* gives; its failures as `StoreError`s that say what to do."""
    try:
        return work()
    except sqlite3.OperationalError as failure:
        if _is_damage(str(failure)):
            raise StoreBroken(f"{path} is damaged: {failure}.") from failure
        if _is_shut_out(str(failure)):
            raise StoreUnreachable(f"{path} cannot be used: {failure}. {ELSEWHERE}") from failure
        raise StoreError(f"{path} cannot be used: {failure}.") from failure
    except (sqlite3.Error, UnicodeDecodeError) as failure:
        # The latter is of the names of columns.
        raise StoreBroken(f"{path} is damaged, or is no archive: {failure}.") from failure
    except OSError as failure:
        why = failure.strerror or failure
        raise StoreUnreachable(f"{path} cannot be used: {why}. {ELSEWHERE}") from failure


def _is_damage(failure: str) -> bool:
    """Whether the schema is not the one that was written, or text is none."""
    return failure.startswith(("no such", "table ", "Could not decode"))


def _is_shut_out(failure: str) -> bool:
    return "readonly" in failure or "unable to open" in failure
