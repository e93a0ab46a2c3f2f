"""How an archive's file is known again, byte for byte, as long as nobody has written to it."""

import errno
import os
import sqlite3
import stat
from hashlib import blake2b, file_digest
from io import BufferedReader
from pathlib import Path

from navtalk_async.archive._sqlite_file import all_rows
from navtalk_async.archive.records import ChangeMarker

__all__ = ["fingerprint", "mark", "open_file"]

STATE = (
    """SELECT project, api, server, scope, watermark, places, round, last_run, rounds, refuted
    FROM sync_projects ORDER BY project""",
    "SELECT * FROM sync_sessions ORDER BY project, session_id",
    "SELECT * FROM sync_waiting ORDER BY project, session_id",
    "SELECT project, COUNT(*), COUNT(deleted_at) FROM sessions GROUP BY project ORDER BY project",
)
"""Whatever a transaction writes, it changes something of this."""


def mark(db: sqlite3.Connection) -> ChangeMarker:
    """How far the archive has come.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    changes = [each for (each,) in all_rows(db, "SELECT changes FROM sync_projects")]
    if not all(isinstance(each, int) for each in changes):
        raise sqlite3.DatabaseError("the changes of a project are no number")
    state = blake2b(digest_size=16)
    for query in STATE:
        for row in all_rows(db, query):
            state.update(repr(row).encode())
    return ChangeMarker(sum(changes), state.hexdigest())


def fingerprint(path: Path) -> tuple[int, str]:
    """The size and the SHA-256 of the file *path*.

    Nothing of this process may have it open as a database: closing a file gives up all locks that the
    process has on it (POSIX).
    """
    with open_file(path) as file:
        sha256 = file_digest(file, "sha256").hexdigest()
        return file.tell(), sha256


def open_file(path: Path) -> BufferedReader:
    """The file *path*, to be read from its beginning.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would be waited for.
    """
    return open(path, "rb", opener=_opened)


def _opened(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no file")
