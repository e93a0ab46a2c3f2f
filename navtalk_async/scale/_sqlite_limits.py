"""Limits in a SQLite file, for the processes of one machine.

Each transaction has the file's lock from its beginning (`BEGIN IMMEDIATE`), which no process keeps that
dies. The file outlasts any process, but need not outlast the power: nothing in it is old.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from navtalk_async.archive.sqlite_file import make_folder
from navtalk_async.errors import StoreBroken, StoreError, StoreUnreachable
from navtalk_async.scale import SharedLimits, no_rate
from navtalk_async.scale._rule import LimitState, after_pause, reserved
from navtalk_async.wire.rate import checked_rate
from navtalk_async.wire.shared_turns import Reservation

T = TypeVar("T")
Work = Callable[[LimitState | None], tuple[LimitState | None, T]]

LIMITS_ID = 0x6E61766C  # "navl", as `application_id`
BUSY_SECONDS = 5.0

TABLE = (
    "CREATE TABLE limits (name TEXT PRIMARY KEY, rate REAL NOT NULL, next_at REAL NOT NULL,"
    " paused_until REAL NOT NULL, share REAL NOT NULL, share_at REAL NOT NULL) WITHOUT ROWID"
)
PUT = "INSERT OR REPLACE INTO limits VALUES (?, ?, ?, ?, ?, ?)"
GET = "SELECT rate, next_at, paused_until, share, share_at FROM limits WHERE name = ?"


class SqliteLimits(SharedLimits):
    """The limits in the file *path*; *now* is its clock. All work is done in a thread."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._thread = ThreadPoolExecutor(1, "navtalk-limits")
        self._db: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"<SharedLimits in {self._path}>"

    async def aclose(self) -> None:
        if self._db is not None:
            await self._in_thread(self._db.close)
            self._db = None
        self._thread.shutdown(wait=False)

    async def join(self, name: str, rate: float | None) -> float:
        checked_rate(rate)

        def work(state: LimitState | None) -> tuple[LimitState | None, float]:
            if rate is None and state is None:
                raise no_rate(self._path)
            if rate is not None:
                state = LimitState(rate) if state is None else state._replace(rate=rate)
            return state, 0.0 if state is None else state.rate

        return await self._change(name, work)

    async def reserve(self, name: str, most: int) -> Reservation:
        def work(state: LimitState | None) -> tuple[LimitState | None, Reservation]:
            return reserved(self._known(state), self._now(), most)

        return await self._change(name, work)

    async def pause(self, name: str, seconds: float, *, refused: bool) -> None:
        def work(state: LimitState | None) -> tuple[LimitState | None, None]:
            return after_pause(self._known(state), self._now(), seconds, refused=refused), None

        await self._change(name, work)

    async def _open(self) -> None:
        await self._in_thread(self._connect)

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._said, work, arguments)

    def _said(self, work: Callable[..., T], arguments: tuple[object, ...]) -> T:
        with translated(self._path):
            return work(*arguments)

    def _connect(self) -> None:
        make_folder(self._path.parent)
        # A relative name such as `:memory:` would not mean a file to SQLite.
        db = sqlite3.connect(
            self._path.absolute(), timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            with transaction(db):
                self._prepare(db)
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA journal_mode = TRUNCATE")
        except BaseException:
            db.close()
            raise
        self._db = db

    def _prepare(self, db: sqlite3.Connection) -> None:
        [(application,)] = db.execute("PRAGMA application_id").fetchall()
        [(tables,)] = db.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if tables and application != LIMITS_ID:
            raise _foreign(self._path)
        if not tables:
            db.execute(TABLE)
            db.execute(f"PRAGMA application_id = {LIMITS_ID}")

    async def _change(self, name: str, work: Work[T]) -> T:
        if self._db is None:
            raise StoreError(f"The limits in {self._path} are not open: use their `async with`.")
        return await self._in_thread(self._changed, self._db, name, work)

    def _changed(self, db: sqlite3.Connection, name: str, work: Work[T]) -> T:
        with transaction(db):
            rows = db.execute(GET, (name,)).fetchall()
            state = LimitState(*rows[0]) if rows else None
            left, found = work(state)
            if left is not None and left != state:
                db.execute(PUT, (name, *left))
        return found

    def _known(self, state: LimitState | None) -> LimitState:
        if state is None:
            raise StoreBroken(f"The limit was removed from {self._path} while it was in use.")
        return state


@contextmanager
def transaction(db: sqlite3.Connection) -> Generator[None, None, None]:
    """One that nobody else works beside; undone after an error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path) -> Generator[None, None, None]:
    """Raise the failures of SQLite and of the system as `StoreError`s that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as failure:
        said = str(failure)
        if "readonly" in said or "unable to open" in said:
            raise StoreUnreachable(
                f"{path} cannot hold limits: {failure}. Use another path, or change its permissions."
            ) from failure
        raise StoreError(f"{path} cannot be used: {failure}.") from failure
    except sqlite3.Error as failure:
        raise _foreign(path) from failure
    except OSError as failure:
        why = failure.strerror or failure
        raise StoreUnreachable(f"{path} cannot hold limits: {why}. Use another path.") from failure


def _foreign(path: Path) -> StoreBroken:
    return StoreBroken(f"{path} is no file of limits; choose another path, where a new one is made.")
