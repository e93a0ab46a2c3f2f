"""An archive in PostgreSQL: the schema of a database, for an archive that many read.

One connection writes. It holds the right to do so, which the server takes back when the connection ends; so
it is never made anew, and a run that loses it ends. That asks for a connection of its own: behind a pooler
that shares connections among transactions, two runs would not exclude each other.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from navtalk_async.archive._codec import PostgresCodec
from navtalk_async.archive._database import Driver, Put, Query, Step, Steps, Write
from navtalk_async.archive._postgres_server import (
    ServerAddress,
    Timeouts,
    close,
    connect,
    connect_to_read,
    hold,
    prepare,
    silent,
    translate_errors,
)
from navtalk_async.archive._statements import (
    COUNT_CHANGE,
    ID_OF_SESSION,
    MESSAGES,
    SESSIONS,
    SESSIONS_A_READ,
)
from navtalk_async.archive.failpoints import reach
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError

if TYPE_CHECKING:
    from navtalk_async.archive._postgres_server import Connection

T = TypeVar("T")

ROWS_A_STATEMENT = 500
"""A statement has a bound of 1 GiB, and rows may be large."""

TIMEOUTS = Timeouts()

TYPES = {"t": "text", "i": "bigint", "b": "boolean"}


class PostgresDriver(Driver):
    """The archive in the current schema of the database at *url*."""

    codec = PostgresCodec()

    def __init__(self, url: str, *, read_only: bool = False, timeouts: Timeouts = TIMEOUTS) -> None:
        self._address = ServerAddress(url)
        self._read_only = read_only
        self._timeouts = timeouts
        self._run = _WorkQueue(self._address, self._hang_up, grace=timeouts.grace)
        self._db: Connection | None = None
        self._is_silent = False

    def __str__(self) -> str:
        return str(self._address)

    async def open(self) -> None:
        await self._run(self._open)

    async def close(self) -> None:
        """Close the connection; what is under way is given a few seconds to end."""
        self._run.hurry()
        await self._run(self._close)

    async def read(self, steps: Steps[T]) -> T:
        return await self._run(self._read, steps)

    async def write(self, name: str, project: str, steps: Steps[T]) -> T:
        return await self._run(self._write, name, project, steps)

    async def walk(self, project: str) -> AsyncGenerator[tuple[list[Any], list[Any]], None]:
        with translate_errors(self._address):
            db = await connect_to_read(self._address, self._timeouts)
        try:
            with translate_errors(self._address):
                await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                sessions = await db.cursor(_numbered(SESSIONS), project)
            while True:
                with translate_errors(self._address):
                    rows = await sessions.fetch(SESSIONS_A_READ)
                    ids = [row[ID_OF_SESSION] for row in rows]
                    messages = await db.fetch(_numbered(MESSAGES), project, ids) if rows else []
                if not rows:
                    return
                yield rows, messages
        finally:
            await shielded(close(db, self._timeouts))

    # What follows runs one at a time.

    async def _open(self) -> None:
        self._is_silent = False
        if self._read_only:
            self._db = await connect_to_read(self._address, self._timeouts)
            return
        self._db = await connect(self._address, self._timeouts)
        await hold(self._db, self._address)
        await prepare(self._db, self._address)

    async def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await close(db, self._timeouts)

    def _hang_up(self) -> None:
        self._is_silent = True
        if self._db is not None:
            self._db.terminate()

    @property
    def _connection(self) -> "Connection":
        if self._is_silent:
            raise silent(self._address)
        if self._db is None:
            raise StoreError(f"{self._address} is not open; use it in an `async with`.")
        return self._db

    async def _read(self, steps: Steps[T]) -> T:
        return await _await_steps(steps, self._found)

    async def _found(self, step: Step) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(_numbered(step.statement), *step[1])
        return rows

    async def _write(self, name: str, project: str, steps: Steps[T]) -> T:
        async with _transaction(self._connection, name, project, self._timeouts) as do:
            return await _await_steps(steps, do)


class _WorkQueue:
    """Does one piece of work after the other, each to its end, and translates its errors.

    A caller who is cancelled does not wait for the end of what has begun; the next one does. What has begun
    is then given *grace* seconds. *hang_up* is called when there is no answer in time.
    """

    def __init__(self, address: ServerAddress, hang_up: Callable[[], None], *, grace: float) -> None:
        self._address = address
        self._hang_up = hang_up
        self._grace = grace
        self._lock = asyncio.Lock()
        self._bound: asyncio.Timeout | None = None

    async def __call__(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        await self._lock.acquire()
        task = asyncio.create_task(self._bounded(work, *arguments))
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.hurry()
            raise

    def hurry(self) -> None:
        """Give what has begun its grace, and no more."""
        # What was begun just now has not entered its bound yet.
        asyncio.get_running_loop().call_soon(self._hurry)

    def _hurry(self) -> None:
        if self._bound is not None and self._bound.when() is None:
            self._bound.reschedule(asyncio.get_running_loop().time() + self._grace)

    async def _bounded(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        with translate_errors(self._address):
            try:
                async with asyncio.timeout(None) as self._bound:
                    return await work(*arguments)
            except TimeoutError:
                self._hang_up()
                raise
            finally:
                self._bound = None

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._lock.release()
        if not task.cancelled():
            # Who would have raised it may have been cancelled.
            task.exception()


@asynccontextmanager
async def _transaction(
    db: "Connection", name: str, project: str, timeouts: Timeouts
) -> AsyncIterator[Callable[[Step], Awaitable[list[Any]]]]:
    """Gives a function that does one step; in the end all of *project* is written, or nothing. *name* is what
    a failpoint calls it. It begins with the first write.

    Where a row was touched, the project's `changes` are counted; where none was, nothing is written.
    """
    has_begun, touched = False, 0

    async def execute(statement: str, *values: object) -> str:
        status: str = await db.execute(statement, *values, timeout=timeouts.write)
        return status

    async def do(step: Step) -> list[Any]:
        nonlocal has_begun, touched
        if isinstance(step, Query):
            rows: list[Any] = await db.fetch(_numbered(step.statement), *step.values, timeout=timeouts.write)
            return rows
        if not has_begun:
            has_begun = True
            await execute("BEGIN")
        reach(f"{name}: before write")
        for statement, values in _statements_of(step):
            touched += _touched(await execute(statement, *values))
        reach(f"{name}: after write")
        return []

    try:
        yield do
        if has_begun:
            await _count_change(db, project, touched, timeouts)
            reach(f"{name}: before commit")
            await execute("COMMIT")
    except BaseException:
        if has_begun:
            await _roll_back(db, timeouts)
        raise
    if has_begun:
        reach(f"{name}: after commit")


def _statements_of(step: Write | Put) -> Iterator[tuple[str, Iterable[object]]]:
    if isinstance(step, Write):
        yield _numbered(step.statement), step.values
        return
    statement = _with_lists(step.statement, step.types)
    for begin in range(0, len(step.rows), ROWS_A_STATEMENT):
        yield statement, zip(*step.rows[begin : begin + ROWS_A_STATEMENT], strict=True)


async def _count_change(db: "Connection", project: str, touched: int, timeouts: Timeouts) -> None:
    if touched:
        await db.execute(_numbered(COUNT_CHANGE), project, timeout=timeouts.write)


async def _roll_back(db: "Connection", timeouts: Timeouts) -> None:
    try:
        await db.execute("ROLLBACK", timeout=timeouts.farewell)
    except Exception:  # noqa: BLE001 - with the connection, the server ends the transaction
        db.terminate()


async def _await_steps(steps: Steps[T], do: Callable[[Step], Awaitable[list[Any]]]) -> T:
    """What *steps* return, each of which is done by *do*."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await do(step))
    except StopIteration as end:
        value: T = end.value
        return value


def _touched(status: str) -> int:
    """The number of rows that a statement touched, by what the server says of it: `INSERT 0 7`."""
    return int(status.rpartition(" ")[2])


@cache
def _numbered(statement: str) -> str:
    """*statement* in PostgreSQL's words, its values numbered."""
    numbers = count(1)
    plain = statement.replace("{any}", "= ANY(?)").replace("{is_not}", "IS DISTINCT FROM")
    return re.sub(r"\?", lambda _: f"${next(numbers)}", plain)


@cache
def _with_lists(statement: str, types: str) -> str:
    """*statement* with a table of columns of those *types*, which are given as a list each."""
    lists = ", ".join(f"${n}::{TYPES[each]}[]" for n, each in enumerate(types, 1))
    return _numbered(statement).replace("{rows}", f"SELECT * FROM unnest({lists})")
