"""An archive's file: made for its owner alone, held by one writer, opened, recognised, upgraded, and known
again byte for byte.
"""

import errno
import os
import sqlite3
import stat
import sys
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from hashlib import file_digest
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, ClassVar

from navtalk_async.archive._schema import APPLICATION_ID, SCHEMA_VERSION, refuse_version, schema, upgrade
from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreUnreachable

if sys.platform == "win32":
    import msvcrt

    LOCK, SHARED, UNLOCK = msvcrt.LK_NBLCK, msvcrt.LK_NBLCK, msvcrt.LK_UNLCK
else:
    import fcntl

    LOCK, SHARED = fcntl.LOCK_EX | fcntl.LOCK_NB, fcntl.LOCK_SH | fcntl.LOCK_NB
    UNLOCK = fcntl.LOCK_UN

__all__ = [
    "BUSY_MS",
    "INDEX_ID",
    "HeldFile",
    "connect",
    "connect_to_consume",
    "connect_to_read",
    "fingerprint",
    "identity",
    "in_sqlite",
    "index_of",
    "last_write",
    "lock",
    "make_folder",
    "open_file",
    "prepare",
    "remove_index",
    "translate_errors",
]

BUSY_MS = 30_000
"""How long to wait for another connection's lock."""

ELSEWHERE = "Use another path, or change its permissions."

WORDS = {
    "text": "TEXT",
    "word": "",
    "nulls_first": "",
    "random": "lower(hex(randomblob(8)))",
    "seconds": "(86400.0 * julianday(",
    "of": "))",
}
"""The words of the schema."""

LOCKED_BYTE = 0x7FFFFFFF
"""Behind every byte that SQLite locks: where locks keep others from reading (Windows), no reader comes."""


class HeldFile:
    """The right to write to the archive at *path*, whatever other names it has, until it is closed or the
    process dies. The file is made, for its owner alone, where it is not there.

    The lock is the file's own and none of SQLite's, so readers are not kept out. It is closed after every
    connection to the file: closing it ends the locks that SQLite has on it in this process (POSIX). For the
    same reason a file that this process holds is not opened a second time.
    """

    _held: ClassVar[set[tuple[int, ...]]] = set()

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        if path.exists() and not path.is_file():
            raise StoreUnreachable(f"{path} is no regular file, and would keep nothing. Use another path.")
        if identity(path) in self._held:
            raise _locked(path)
        self._file = open(path, "r+b", opener=_made_for_its_owner)  # noqa: SIM115 - closed in `close`
        self._identity = identity(self._file.fileno())
        try:
            lock(self._file, path)
            _refuse_foreign(self._file.read(100), path)
            _refuse_log_of_other_name(path)
            _refuse_older_writer(path)
        except BaseException:
            self._file.close()
            raise
        self._held.add(self._identity)

    def close(self) -> None:
        """Give the right up; in a fork of the process, which has it no more than any other, nothing."""
        if os.getpid() == self._identity[0]:
            # A fork may have the file open for longer.
            _set_lock(self._file, UNLOCK)
        self._file.close()
        self._held.discard(self._identity)

    def refuse_another(self, path: Path) -> None:
        """Refuse to go on where *path* is another file by now."""
        if identity(path) != self._identity:
            raise StoreUnreachable(f"{path} was removed or replaced while it was being written to.")


def last_write(path: Path) -> tuple[bool, float]:
    """Whether a run is writing to the archive at *path*, and when it was last written to; to be asked while
    this process has no connection to it.
    """
    with open_file(path) as file:
        try:
            _set_lock(file, SHARED)
        except OSError:
            is_held = True
        else:
            _set_lock(file, UNLOCK)
            is_held = False
    found = [each for each in (path, _log_of(path.resolve())) if each.exists()]
    return is_held, max(each.stat().st_mtime for each in found)


def make_folder(folder: Path) -> None:
    """Make *folder*, and all missing ones above it, for their owner alone."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def open_file(path: Path) -> BufferedReader:
    """Open the file *path* to read it from its beginning; an OSError where it is none: a pipe would block."""
    return open(path, "rb", opener=_opened_without_waiting)


def fingerprint(path: Path) -> tuple[int, str]:
    """The size and the SHA-256 of the file *path*.

    Nothing of this process may have it open as a database: closing a file gives up all locks that the
    process has on it (POSIX).
    """
    with open_file(path) as file:
        sha256 = file_digest(file, "sha256").hexdigest()
        return file.tell(), sha256


def _opened_without_waiting(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no file")


def _made_for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)


def identity(file: Path | int) -> tuple[int, ...]:
    """Tells a file from one that takes its place, in this process; empty where there is none."""
    try:
        found = file.stat() if isinstance(file, Path) else os.fstat(file)
    except FileNotFoundError:
        return ()
    return os.getpid(), found.st_dev, found.st_ino


def _locked(path: Path) -> StoreLocked:
    return StoreLocked(f"Another run is writing to {path}.")


def lock(file: BinaryIO, path: Path) -> None:
    """Take the lock of *file*, which is open, until it is closed; a StoreLocked if another run has it."""
    try:
        _set_lock(file, LOCK)
    except OSError as failure:
        if failure.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise
        raise _locked(path) from None


def _set_lock(file: BinaryIO, how: int) -> None:
    """Take the lock of *file*, or release it, also for other processes that have it open."""
    if sys.platform == "win32":
        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), how, 1)
        file.seek(0)
    else:
        fcntl.flock(file, how)


def _refuse_log_of_other_name(path: Path) -> None:
    """Refuse a file of several names whose latest commits may be in the log beside another one: SQLite looks
    for the log beside the name that it is given, and would write over what it does not see.
    """
    path = path.resolve()
    names = path.stat().st_nlink
    if names < 2 or has_log(path):
        return
    same = [each for each in path.parent.iterdir() if identity(each) == identity(path)]
    for other in same:
        if has_log(other):
            raise StoreUnreachable(
                f"{path} has commits in {_log_of(other)}, under its other name: use {other}."
            )
    if len(same) < names:
        raise StoreUnreachable(
            f"{path} has a second name in another folder (a hard link), and what was committed under that one"
            " cannot be seen here. Remove one of them; to keep a copy, use cp."
        )


def _refuse_older_writer(path: Path) -> None:
    """Refuse an archive that a version before 0.2 is writing to, which holds the file beside it."""
    beside = path.resolve().with_name(f"{path.resolve().name}.lock")
    if not beside.exists():
        return
    with closing(sqlite3.connect(beside, timeout=0.0, isolation_level=None)) as db:
        try:
            db.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as failure:
            if "locked" in str(failure):
                raise _locked(path) from None
            raise


INDEX_ID = 0x6E617673  # "navs", as `application_id`


def index_of(path: Path) -> Path:
    """Where the index for searches of the archive at *path* is: `archive.search.db`."""
    return path.resolve().with_suffix(".search.db")


def remove_index(path: Path) -> None:
    """Remove the index *path*, whatever it holds, if there is one; but no database of something else."""
    try:
        with open_file(path) as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    if header.startswith(b"SQLite format 3\0") and int.from_bytes(header[68:72]) != INDEX_ID:
        raise StoreBroken(f"{path} is a database of something else, and in the place of the index.")
    path.unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    """Where SQLite keeps what was committed last, until it is copied into the file *path*."""
    return path.with_name(f"{path.name}-wal")


def has_log(path: Path) -> bool:
    """Whether commits of the file *path* stand in the log beside it alone."""
    log = _log_of(path)
    return log.exists() and log.stat().st_size > 0


def _refuse_foreign(header: bytes, path: Path) -> None:
    """Refuse a database of something else, or of a later version, before anything of it is touched.

    That goes by the file's first 100 bytes (source: sqlite.org, "Database File Format"): even a connection
    that only reads leaves files behind.
    """
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        return
    pages, version, application = (int.from_bytes(header[at : at + 4]) for at in (28, 60, 68))
    if application != APPLICATION_ID and pages > 1:
        raise StoreBroken(f"{path} is a database of something else; choose another place.")
    if application == APPLICATION_ID:
        refuse_version(version, path, read_only=False)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to *path* that may be used from any thread, by one at a time."""
    # A relative name such as `:memory:` or `file:x?mode=memory` would not mean a file to SQLite.
    db = sqlite3.connect(
        path.absolute(), check_same_thread=False, timeout=BUSY_MS / 1000, isolation_level=None
    )
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        # For macOS alone, where a commit else reaches the cache of the disk, and not the disk.
        db.execute("PRAGMA fullfsync = ON")
        # What is deleted is zeroed; `forget` also leaves none of it in pages that were split.
        db.execute("PRAGMA secure_delete = ON")
        # Copying the log into the file stops the writing meanwhile: seldom, and 16 MB at a time.
        db.execute("PRAGMA wal_autocheckpoint = 4000")
    except BaseException:
        db.close()
        raise
    return db


def connect_to_read(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection to the archive at *path* that changes nothing, and may be used as `connect`'s.

    With *immutable*, no file is made beside it where nobody has it open.
    """
    # A reader writes to the files beside the archive; where it may not, and nobody writes, none is needed.
    ways = ["mode=ro", "mode=ro&immutable=1"]
    if has_log(path.resolve()):
        # What was committed last is in there alone.
        ways.pop()
    elif immutable and not _log_of(path.resolve()).exists():
        ways.reverse()
    return _connected(path, ways)


def connect_to_consume(path: Path) -> sqlite3.Connection:
    """A connection to the archive at *path* that reads beside the writer, and notes what was acknowledged."""
    db = _connected(path, ["mode=rw"])
    # What a loss of power takes back is handed on once more.
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def _connected(path: Path, ways: Sequence[str]) -> sqlite3.Connection:
    """A connection to the archive at *path*, in the first of *ways* (query parameters) that works."""
    if not path.is_file():
        raise StoreUnreachable(f"There is no archive at {path}.")
    for how in ways:
        address = f"{path.resolve().as_uri()}?{how}"
        db = sqlite3.connect(
            address, uri=True, check_same_thread=False, timeout=BUSY_MS / 1000, isolation_level=None
        )
        try:
            application, version = _written_by(db)
            if application != APPLICATION_ID:
                raise StoreBroken(f"{path} is no archive.")  # noqa: TRY301
            refuse_version(version, path, read_only=True)
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


def _written_by(db: sqlite3.Connection) -> tuple[int, int]:
    """The application that wrote *db*, and in which version of its schema."""
    [(application,)], [(version,)] = (
        db.execute(f"PRAGMA {name}").fetchall() for name in ("application_id", "user_version")
    )
    return application, version


def prepare(db: sqlite3.Connection) -> None:
    """Make *db* an archive if it is new, and one of this version if it is older."""
    application, version = _written_by(db)
    if application == APPLICATION_ID and version == SCHEMA_VERSION:
        return
    steps = schema() if application != APPLICATION_ID else upgrade(version, _columns_in(db))
    db.executescript(
        f"BEGIN; {in_sqlite(''.join(steps))} PRAGMA application_id = {APPLICATION_ID};"
        f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def _columns_in(db: sqlite3.Connection) -> dict[str, list[str]]:
    tables = db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
    return {
        table: [column for _, column, *_ in db.execute(f"PRAGMA table_info({table})")] for (table,) in tables
    }


def in_sqlite(statements: str) -> str:
    """*statements* of the schema in SQLite's words."""
    return statements.format(**WORDS)


@contextmanager
def translate_errors(path: Path) -> Generator[None]:
    """Raise the failures of SQLite and of the system as `StoreError`s that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as failure:
        said = str(failure)
        # The schema is not the one that was written, or text is no text.
        if said.startswith(("no such", "table ", "Could not decode")):
            raise StoreBroken(f"{path} is damaged: {failure}.") from failure
        if "readonly" in said or "unable to open" in said:
            raise StoreUnreachable(f"{path} cannot be used: {failure}. {ELSEWHERE}") from failure
        raise StoreError(f"{path} cannot be used: {failure}.") from failure
    except (sqlite3.Error, UnicodeDecodeError) as failure:
        # The latter is of the names of columns.
        raise StoreBroken(f"{path} is damaged, or is no archive: {failure}.") from failure
    except OSError as failure:
        why = failure.strerror or failure
        raise StoreUnreachable(f"{path} cannot be used: {why}. {ELSEWHERE}") from failure
