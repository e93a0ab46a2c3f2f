"""What an archive asks of its database, as values, and what a driver does with them.

An operation is a generator of steps, which decides and never waits; a driver runs the steps. So all databases
share every rule and every statement, and a driver fills in these words alone:

    ?           a value
    {any}       equals any of a list, which is the last value
    {is_not}    is another one, None included
    {rows}      the rows of a `Put`, as a table
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias, TypeVar

from navtalk_async.archive._codec import Codec
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker
from navtalk_async.errors import StoreError

T = TypeVar("T")
P = ParamSpec("P")
A = TypeVar("A", bound="Transactions")


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
    types: str
    """Of each column: `t` for text, `i` for a whole number, `b` for a boolean."""


Step: TypeAlias = Query | Write | Put
Steps: TypeAlias = Generator[Step, list[Any], T]
Operation: TypeAlias = Callable[Concatenate[A, str, P], Steps[T]]
Method: TypeAlias = Callable[Concatenate[A, str, P], Coroutine[Any, Any, T]]


class Driver(ABC):
    """One database. It runs one operation after the other, and raises `StoreError`s alone."""

    codec: Codec = Codec()
    path: Path | None = None

    @abstractmethod
    async def open(self) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def read(self, steps: Steps[T]) -> T:
        """What *steps* return, which only read."""

    @abstractmethod
    async def write(self, name: str, project: str, steps: Steps[T]) -> T:
        """What *steps* return, whose writes are all made, or none; *name* is what a failpoint calls them."""

    @abstractmethod
    def walk(self, project: str) -> AsyncGenerator[tuple[list[Any], list[Any]], None]:
        """The rows of some sessions and those of their messages, until all are read; as of one moment."""

    # What only a database in a file has to do; one on a server does it itself.

    def refuse_another_file(self) -> None:  # noqa: B027 - not every database has one
        """Refuse to go on in a file that was removed or replaced."""

    async def rebuild(self) -> None:  # noqa: B027 - not every database needs it
        """Rebuild the indexes."""

    async def find_damage(self) -> list[str]:
        """What the database finds wrong in itself."""
        return []

    async def change_marker(self) -> ChangeMarker | None:
        return None

    async def digest(self) -> ArchiveDigest | None:
        return None


def transaction(name: str) -> Callable[[Operation[A, P, T]], Method[A, P, T]]:
    """Makes a method that returns steps one that has them run, all or none; failpoints call it *name*."""

    def decorate(steps: Operation[A, P, T]) -> Method[A, P, T]:
        @wraps(steps)
        async def run(self: A, project: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
            return await self._write(name, project, steps(self, project, *args, **kwargs))

        return run

    return decorate


class Transactions:
    """What all operations of an archive need, over whatever *driver*."""

    def __init__(self, driver: Driver, *, read_only: bool = False) -> None:
        self._driver = driver
        self._codec = driver.codec
        self._read_only = read_only
        self._apis: dict[str, str] = {}

    def __str__(self) -> str:
        return str(self._driver)

    async def _write(self, name: str, project: str, steps: Steps[T]) -> T:
        if self._read_only:
            raise StoreError(f"{self} is open to be read only.")
        return await self._driver.write(name, project, steps)

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        return await self._driver.read(_rows_of(statement, values))

    async def _ids(self, statement: str, *values: object) -> list[str]:
        return [self._codec.read_id(each) for (each,) in await self._rows(statement, *values)]


def _rows_of(statement: str, values: Sequence[object]) -> Steps[list[Any]]:
    return (yield Query(statement, values))
