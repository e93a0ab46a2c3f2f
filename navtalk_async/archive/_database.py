"""What an archive asks of its database, as values, and what a driver does with them.

An operation is a generator of steps, which decides and never waits; a driver runs the steps. So all databases
share every rule and every statement, and a driver fills in these words alone:

    ?           a value
    {any}       equals any of a list, which is the last value
    {is_not}    is another one, None included
    {rows}      the rows of a `Put`, as a table
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial, wraps
from itertools import accumulate
from pathlib import Path
from secrets import token_hex
from typing import Any, Concatenate, Generic, Literal, NamedTuple, ParamSpec, Self, TypeAlias, TypeVar

import msgspec

from navtalk_async.archive._codec import Codec
from navtalk_async.archive._schema import COLUMNS, KEYS
from navtalk_async.archive._statements import (
    BEGIN_EPOCH,
    BYTES_A_READ,
    COUNT_CHANGE,
    FORGET_EPOCHS,
    ID_OF_SESSION,
    LONGEST_COLUMN,
    MESSAGES,
    MESSAGES_A_READ,
    SESSIONS,
)
from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker, ProjectInfo
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError
from navtalk_async.paging.compact_set import CompactSet

C = TypeVar("C")
T = TypeVar("T")
P = ParamSpec("P")
A = TypeVar("A", bound="Transactions")


TYPES = {"BIGINT": "bigint", "BOOLEAN": "boolean"}

Access: TypeAlias = Literal["write", "read", "consume"]
"""What a connection is for: `write` holds the archive, as one at a time may; `read` changes nothing;
`consume` reads, and notes how far a consumer of the change feed has come."""


class Query(NamedTuple):
    """Rows to read; with a list as the last value, in the order of its parts."""

    statement: str
    values: Sequence[object] = ()


class Write(NamedTuple):
    """A statement that changes rows."""

    statement: str
    values: Sequence[object]


class Put(NamedTuple):
    """A statement that changes many rows at once."""

    statement: str
    rows: Sequence[Sequence[object]]
    types: tuple[str, ...]
    """Of each column: `text`, `bigint` or `boolean`."""
    also: tuple[object, ...] = ()
    """The last values of every row; to add them to each costs as much as the rows."""


def update(table: str, *key: str, **columns: object) -> Write:
    """Set *columns* of the rows of which the key begins with *key*."""
    new = ", ".join(f"{name} = ?" for name in columns)
    return Write(f"UPDATE {table} SET {new} WHERE {_has_key(table, key)}", (*columns.values(), *key))


def delete(table: str, *key: str) -> Write:
    """Delete the rows of which the key begins with *key*."""
    return Write(f"DELETE FROM {table} WHERE {_has_key(table, key)}", key)


def insert(
    table: str, columns: str, rows: Sequence[Sequence[object]], else_update: str = "", *also: object
) -> Put:
    """Insert *rows*, each with the values *also*; one that is there, by its key, is updated as `y`, or left
    alone.
    """
    statement, types = _insertion(table, columns, else_update)
    return Put(statement, rows, types, also)


@cache
def _insertion(table: str, columns: str, else_update: str) -> tuple[str, tuple[str, ...]]:
    kinds = dict(each.split()[:2] for each in COLUMNS[table].split(","))
    types = tuple(TYPES.get(kinds[name], "text") for name in columns.split(", "))
    otherwise = f"UPDATE SET {else_update}" if else_update else "NOTHING"
    return f"INSERT INTO {table} AS y ({columns}) {{rows}} ON CONFLICT ({KEYS[table]}) DO {otherwise}", types


def _has_key(table: str, key: Sequence[str]) -> str:
    return " AND ".join(f"{name} = ?" for name in KEYS[table].split(", ")[: len(key)])


class Weight(NamedTuple):
    """How many rows the operation works on, where what it reads does not show that."""

    rows: int


Step: TypeAlias = Query | Write | Put | Weight
Steps: TypeAlias = Generator[Step, list[Any], T]
Operation: TypeAlias = Callable[Concatenate[A, str, P], Steps[T]]
Method: TypeAlias = Callable[Concatenate[A, str, P], Coroutine[Any, Any, T]]


class Driver(ABC, Generic[C]):
    """One database. It runs one operation after the other, and raises `StoreError`s alone."""

    codec: Codec = Codec()
    path: Path | None = None
    _db: C | None = None
    _has_epoch = False

    async def open(self) -> None:
        await self.run(self._open)

    async def close(self) -> None:
        await self.run(self._close)

    async def read(self, steps: Steps[T]) -> T:
        """What *steps* return, which only read."""
        return await self.run(self._run_steps, steps, self._fetch)

    async def snapshot(self, steps: Steps[T]) -> T:
        """What *steps* return, which only read, as of one moment."""
        return await self.run(partial(self._read_at_once, steps))

    async def write(self, name: str, project: str | None, steps: Steps[T]) -> T:
        """What *steps* return, whose writes are all made, or none; *name* is what a failpoint calls them."""
        return await self.run(self._transact, name, project, steps)

    async def walk(
        self, project: str, statement: str = MESSAGES
    ) -> AsyncGenerator[tuple[list[Any], list[Any]], None]:
        """The rows of some sessions, and those that *statement* selects of their messages, until all are
        read; as of one moment.
        """
        async with self.walking(Query(SESSIONS, (project,))) as reader:
            most = 1
            while rows := await reader.run(reader.next_sessions):
                while rows:
                    count = _fitting(rows, most)
                    some, rows = rows[:count], rows[count:]
                    ids = [row[ID_OF_SESSION] for row in some]
                    messages = await reader.read(rows_of(statement, (project, ids)))
                    most = _fit_at_once(messages, LONGEST_COLUMN.get(statement)) or most
                    yield some, messages

    async def walk_sessions(self, query: Query) -> AsyncGenerator[list[Any], None]:
        """The rows of *query*, some at a time; as of one moment."""
        async with self.walking(query) as reader:
            while rows := await reader.run(reader.next_sessions):
                yield rows

    @asynccontextmanager
    async def walking(self, query: Query) -> AsyncGenerator[Self, None]:
        """A connection that has begun to read the rows of *query*."""
        reader = self.beside("read")
        try:
            await reader.open()
            await reader.run(reader.begin_walk, query)
            yield reader
        finally:
            await shielded(reader.close())

    # What only a database in a file has to do; one on a server does it itself.

    def refuse_another_file(self) -> None:
        """Refuse to go on in a file that was removed or replaced."""

    async def rebuild(self) -> None:
        """Rebuild the indexes."""

    async def find_damage(self) -> list[str]:
        """What the database finds wrong in itself."""
        return []

    async def copy_to(self, path: Path) -> None:
        """Write a copy of all, as of one moment, to the new file *path*."""
        raise NotImplementedError

    async def change_marker(self) -> ChangeMarker | None:
        return None

    @abstractmethod
    async def remove_index(self) -> list[str]:
        """Remove the index for searches; sentences about what is left of it."""

    @abstractmethod
    async def indexed_ids(self, project: str) -> list[str]:
        """The ids of the sessions of *project* that the index for searches has, as they are held."""

    @abstractmethod
    async def erase(self) -> list[str]:
        """Leave nothing of deleted rows in free space; sentences about what is left all the same."""

    async def digest(self) -> ArchiveDigest | None:
        return None

    # What a database does in its own way; all but the first two are called by `run` alone.

    @abstractmethod
    async def run(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """Do one piece of *work* after the other, each to its end, and translate its errors."""

    @abstractmethod
    def beside(self, access: Access) -> Self:
        """Another connection to the same archive, which is not open yet."""

    @abstractmethod
    async def wait_for_commit(self) -> None:
        """Return when another connection may have committed since the last call, or since before it."""

    @abstractmethod
    async def _open(self) -> None: ...

    @abstractmethod
    async def _close(self) -> None: ...

    @abstractmethod
    async def _fetch(self, query: Query, *, is_writing: bool = False) -> list[Any]: ...

    @abstractmethod
    async def _change(self, step: "Write | Put") -> int:
        """Do *step*, and return how many rows it touched."""

    @abstractmethod
    async def _execute(self, statement: str) -> None: ...

    @abstractmethod
    async def _roll_back(self) -> None: ...

    @abstractmethod
    async def _begin_to_read(self) -> None:
        """Begin a transaction in which all is read as of one moment."""

    async def _commit(self, *, is_news: bool) -> None:  # noqa: ARG002
        """Commit; where *is_news*, what the change feed hands on may have changed."""
        await self._execute("COMMIT")

    @abstractmethod
    async def begin_walk(self, query: Query) -> None: ...

    @abstractmethod
    async def next_sessions(self) -> list[Any]: ...

    @property
    def _connection(self) -> C:
        if self._db is None:
            raise StoreError(f"{self} is not open; use it in an `async with`.")
        return self._db

    async def _read_at_once(self, steps: Steps[T]) -> T:
        await self._begin_to_read()
        try:
            result = await self._run_steps(steps, self._fetch)
            await self._execute("COMMIT")
        except BaseException:
            await self._roll_back()
            raise
        return result

    async def _transact(self, name: str, project: str | None, steps: Steps[T]) -> T:
        """Run *steps* in one transaction, which begins with the first write.

        Where a row was touched, the commit takes the next number; where none was, nothing is written.
        """
        has_begun, touched = False, 0

        async def do(step: Query | Write | Put) -> list[Any]:
            nonlocal has_begun, touched
            if isinstance(step, Query):
                return await self._fetch(step, is_writing=True)
            if not has_begun:
                has_begun = True
                await self._execute("BEGIN")
            reach(f"{name}: before write")
            touched += await self._change(step)
            reach(f"{name}: after write")
            return []

        try:
            result = await self._run_steps(steps, do)
            if has_begun:
                is_news = touched > 0 and project is not None
                if is_news:
                    await self._number(project)
                reach(f"{name}: before commit")
                await self._commit(is_news=is_news)
                self._has_epoch = self._has_epoch or is_news
        except BaseException:
            if has_begun:
                await self._roll_back()
            raise
        if has_begun:
            reach(f"{name}: after commit")
        return result

    async def _run_steps(self, steps: Steps[T], do: Callable[[Any], Awaitable[list[Any]]]) -> T:
        """What *steps* return, each of which is done by *do*."""
        weight, rows = 0, None
        while True:
            weight = max(weight, len(rows or ()))
            step, result = await self._decide(weight, steps, rows)
            if step is None:
                return result
            if isinstance(step, Weight):
                weight, rows = max(weight, step.rows), []
            else:
                rows = await do(step)

    async def _decide(
        self,
        weight: int,  # noqa: ARG002 - for those that are not in a thread of their own
        steps: Steps[T],
        rows: list[Any] | None,
    ) -> "tuple[Step | None, T]":
        """What `next_step` returns, which takes as long as so many rows take as *weight* says."""
        return next_step(steps, rows)

    async def _number(self, project: str | None) -> None:
        """Give this commit, which changed *project*, the next number; the first one begins an epoch."""
        if not self._has_epoch:
            await self._change(Write(BEGIN_EPOCH, (token_hex(4),)))
            await self._change(Write(FORGET_EPOCHS, ()))
        await self._change(Write(COUNT_CHANGE, (project,)))


def _fitting(sessions: Sequence[Sequence[Any]], most: int) -> int:
    """How many of the first *sessions*, rows of `SESSIONS`, have at the *most* so many messages together; at
    least one.
    """
    # Damage may have made anything of the number of messages.
    counts = (row[-1] if isinstance(row[-1], int) else 1 for row in sessions)
    return next((n for n, total in enumerate(accumulate(counts)) if n and total > most), len(sessions))


def _fit_at_once(messages: Sequence[Sequence[Any]], column: int | None) -> int:
    """How many messages like these may be read at a time, by the length of a *column*; 0 where there are
    none.
    """
    texts = () if column is None else (row[column] for row in messages)
    size = sum(len(text) for text in texts if isinstance(text, str))
    return min(MESSAGES_A_READ, 1 + BYTES_A_READ * len(messages) // (size + 1)) if messages else 0


def next_step(steps: Steps[T], rows: list[Any] | None) -> tuple[Step | None, T]:
    """The step that follows the *rows* of the last one (None before the first); or None, and the result."""
    try:
        return (next(steps) if rows is None else steps.send(rows)), None  # type: ignore[return-value]
    except StopIteration as end:
        return None, end.value


def transaction(steps: Operation[A, P, T]) -> Method[A, P, T]:
    """Makes a method that returns steps one that has them run, all or none; failpoints have its name."""
    name = steps.__name__.strip("_").replace("_", " ")

    @wraps(steps)
    async def run(self: A, project: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._write(name, project, steps(self, project, *args, **kwargs))

    return run


class Transactions:
    """What all operations of an archive need, over whatever *driver*."""

    def __init__(self, driver: Driver[Any], *, read_only: bool = False) -> None:
        self._driver = driver
        self._codec = driver.codec
        self._read_only = read_only
        self._digests: dict[str, tuple[str, CompactSet]] = {}
        """Of each project, the hashes of its forgotten sessions, and their salt; once they are read."""
        self._begun: dict[str, ProjectInfo] = {}
        """Each project as its latest `begin` found it."""

    def __str__(self) -> str:
        return str(self._driver)

    async def _write(self, name: str, project: str, steps: Steps[T]) -> T:
        if self._read_only:
            raise StoreError(f"{self} is open to be read only.")
        return await self._driver.write(name, project, steps)

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        return await self._driver.read(rows_of(statement, values))

    async def _ids(self, statement: str, *values: object) -> list[str]:
        return [self._codec.read_id(each) for (each,) in await self._rows(statement, *values)]


def as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def rows_of(statement: str, values: Sequence[object] = ()) -> Steps[list[Any]]:
    return (yield Query(statement, values))
