"""Work on a connection to PostgreSQL: piece after piece, each all or nothing, within bounds of time."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from functools import cache
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

from navtalk_async.archive._database import Query, Step, Steps, Write
from navtalk_async.archive._postgres_address import Address, translate_errors
from navtalk_async.archive._statements import COUNT_CHANGE
from navtalk_async.archive.failpoints import reach

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection

__all__ = ["PATIENCE", "Patience", "Transaction", "Turns", "completed", "numbered"]

T = TypeVar("T")

ROWS_A_STATEMENT = 500
"""A statement has a bound of 1 GiB, and rows may be large."""


class Patience(NamedTuple):
    """How many seconds are waited for a server that may be silent, before its connection is ended."""

    read: float = 300.0
    """For a statement that reads, which may go through a whole table, or makes tables."""
    write: float = 60.0
    """For a statement of a transaction, which is of few rows; a run that is stopped waits for its commit."""
    grace: float = 5.0
    """For a piece of work whose caller was cancelled, or that is under way when the store is closed."""
    farewell: float = 2.0
    """For a transaction to be rolled back, or the connection to be closed."""


PATIENCE = Patience()


class Turns:
    """Does one piece of work after the other, each to its end, and says in our words what fails.

    A caller who is cancelled does not wait for the end of what has begun; the next one does. What has begun
    is then given *grace* seconds. *hang_up* is called when there is no answer in time.
    """

    def __init__(self, address: Address, hang_up: Callable[[], None], *, grace: float) -> None:
        self._address = address
        self._hang_up = hang_up
        self._grace = grace
        self._lock = asyncio.Lock()
        self._bound: asyncio.Timeout | None = None

    async def __call__(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """What *work* gives."""
        await self._lock.acquire()
        task = asyncio.create_task(self._told(work, *arguments))
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

    async def _told(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
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


class Transaction:
    """An `async with` in which everything of *project* is written, or nothing; *name* is what a failpoint
    calls it. It begins with the first write.

    Where a row was touched, the project's `changes` are counted; where none was, nothing is written.
    """

    def __init__(self, db: "Connection", name: str, project: str, patience: Patience) -> None:
        self._db = db
        self._patience = patience
        self._name = name
        self._project = project
        self._has_begun = False
        self._touched = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._has_begun:
            return
        if error is not None:
            await self._undo()
            return
        try:
            await self._commit()
        except BaseException:
            await self._undo()
            raise
        reach(f"{self._name}: after commit")

    async def do(self, step: Step) -> list[Any]:
        """Do one *step*; the rows that it finds."""
        if isinstance(step, Query):
            rows: list[Any] = await self._db.fetch(
                numbered(step.statement), *step.values, timeout=self._patience.write
            )
            return rows
        if not self._has_begun:
            self._has_begun = True
            await self._execute("BEGIN")
        reach(f"{self._name}: before write")
        if isinstance(step, Write):
            self._touched += touched(await self._execute(numbered(step.statement), *step.values))
        else:
            statement = with_lists(step.statement, step.types)
            for begin in range(0, len(step.rows), ROWS_A_STATEMENT):
                columns = zip(*step.rows[begin : begin + ROWS_A_STATEMENT], strict=True)
                self._touched += touched(await self._execute(statement, *columns))
        reach(f"{self._name}: after write")
        return []

    async def _execute(self, statement: str, *values: object) -> str:
        status: str = await self._db.execute(statement, *values, timeout=self._patience.write)
        return status

    async def _commit(self) -> None:
        if self._touched:
            await self._execute(numbered(COUNT_CHANGE), self._project)
        reach(f"{self._name}: before commit")
        await self._execute("COMMIT")

    async def _undo(self) -> None:
        try:
            await self._db.execute("ROLLBACK", timeout=self._patience.farewell)
        except Exception:  # noqa: BLE001 - with the connection, the server ends the transaction
            self._db.terminate()


async def completed(steps: Steps[T], do: Callable[[Step], Awaitable[list[Any]]]) -> T:
    """What *steps* return, each of which is done by *do*."""
    try:
        step = next(steps)
        while True:
            step = steps.send(await do(step))
    except StopIteration as end:
        value: T = end.value
        return value


def touched(status: str) -> int:
    """The number of rows that a statement touched, by what the server says of it: `INSERT 0 7`."""
    return int(status.rpartition(" ")[2])


@cache
def numbered(statement: str) -> str:
    """*statement* in PostgreSQL's words, its values numbered."""
    numbers = count(1)
    plain = statement.replace("{any}", "= ANY(?)").replace("{is_not}", "IS DISTINCT FROM")
    return re.sub(r"\?", lambda _: f"${next(numbers)}", plain)


TYPES = {"t": "text", "i": "bigint", "b": "boolean"}


@cache
def with_lists(statement: str, types: str) -> str:
    """*statement* with a table of columns of those *types*, which are given as a list each."""
    lists = ", ".join(f"${n}::{TYPES[each]}[]" for n, each in enumerate(types, 1))
    return numbered(statement).replace("{rows}", f"SELECT * FROM unnest({lists})")
