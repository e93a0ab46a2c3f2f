"""An archive's file: opened, recognised, held by one writer, and its failures told in our words."""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch, StoreUnreachable

__all__ = ["SCHEMA_VERSION", "Turns", "connect", "hold", "in_our_words", "prepare"]

T = TypeVar("T")

APPLICATION_ID = 0x6E617674  # "navt": how `file` and we tell an archive from any other SQLite file
SCHEMA_VERSION = 2

UNREAD = """
CREATE TABLE sync_unread (
    project TEXT NOT NULL, session_id TEXT NOT NULL, content_hash TEXT,
    next TEXT NOT NULL, first INTEGER NOT NULL,
    PRIMARY KEY (project, session_id)
);
"""

SCHEMA = f"""{UNREAD}
CREATE TABLE sessions (
    project TEXT NOT NULL, id TEXT NOT NULL, api TEXT NOT NULL,
    status, start_time TEXT, end_time TEXT, title TEXT, video_url TEXT,
    raw TEXT NOT NULL, content_hash TEXT NOT NULL,
    first_seen_at TEXT NOT NULL, last_changed_at TEXT NOT NULL, deleted_at TEXT,
    PRIMARY KEY (project, id)
);
CREATE INDEX sessions_in_order ON sessions (project, start_time, id);
CREATE TABLE messages (
    project TEXT NOT NULL, id TEXT NOT NULL, session_id TEXT NOT NULL, position INTEGER NOT NULL,
    role, type, content TEXT, created_at TEXT, raw TEXT NOT NULL,
    PRIMARY KEY (project, id)
);
CREATE INDEX messages_in_order ON messages (project, session_id, position);
CREATE TABLE sync_projects (
    project TEXT PRIMARY KEY, api TEXT NOT NULL, scope TEXT NOT NULL,
    next TEXT, reached TEXT, watermark TEXT, listings INTEGER NOT NULL DEFAULT 0,
    refuted INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE sync_pending (
    project TEXT NOT NULL, session_id TEXT NOT NULL, content_hash TEXT,
    reason TEXT, attempts INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (project, session_id)
);
"""
"""`sync_pending` holds the sessions whose messages are not kept; those with a *reason* have failed.
`sync_unread` holds cursors that were not followed."""

UPGRADES = {1: f"{UNREAD} ALTER TABLE sync_projects ADD COLUMN refuted INTEGER NOT NULL DEFAULT 0;"}
"""What makes a version into the next one."""


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


def connect(path: Path) -> sqlite3.Connection:
    """A connection to *path* that may be used from any thread, by one at a time."""
    db = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


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


def prepare(db: sqlite3.Connection, path: Path) -> None:
    """Make *db* an archive if it is new, and refuse what is none, or a later one."""
    [(application,)], [(version,)] = (
        db.execute(f"PRAGMA {name}").fetchall() for name in ("application_id", "user_version")
    )
    if version > SCHEMA_VERSION and application == APPLICATION_ID:
        raise StoreMismatch(f"{path} was written by a newer version of navtalk-async; please upgrade.")
    if application == APPLICATION_ID:
        for each in range(version, SCHEMA_VERSION):
            db.executescript(f"BEGIN; {UPGRADES[each]} PRAGMA user_version = {each + 1}; COMMIT;")
        return
    if db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone() != (0,):
        raise StoreBroken(f"{path} is a database of something else; choose another place.")
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
    except sqlite3.DatabaseError as failure:
        raise StoreBroken(f"{path} is damaged, or is no archive: {failure}.") from failure
    except OSError as failure:
        raise StoreUnreachable(f"{path} cannot be used: {failure.strerror or failure}.") from failure


def _is_shut_out(failure: str) -> bool:
    return "readonly" in failure or "unable to open" in failure
