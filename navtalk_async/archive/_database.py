"""What an archive asks of its database, as values, and what a driver does with them.

An operation is a generator of steps, which decides and never waits; a driver runs the steps. So all databases
share every rule and every statement, and a driver fills in these words alone:

    ?           a value
    {any}       equals any of a list, which is the last value
    {is_not}    is another one, None included
    {rows}      the rows of a `Put`, as a table
"""

from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from navtalk_async.archive.records import ArchiveDigest, ChangeMarker
from navtalk_async.archive.rows import MessageRow, SessionRow

T = TypeVar("T")


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


class Codec:
    """How rows are written to the database, and read from it; this one, for a database that holds every
    text, changes nothing.
    """

    def write_id(self, text: str) -> str:
        return text

    def read_id(self, held: str) -> str:
        return held

    def write_session(self, row: SessionRow) -> SessionRow:
        return row

    def read_session(self, held: SessionRow) -> SessionRow:
        return held

    def write_messages(self, rows: list[MessageRow]) -> list[MessageRow]:
        return rows

    def read_messages(self, held: list[MessageRow]) -> list[MessageRow]:
        return held

    def write_text(self, text: str) -> str:
        """A text for people."""
        return text

    def write_ids(self, ids: Iterable[str]) -> list[str]:
        return [self.write_id(each) for each in ids]


class Driver(Protocol):
    """One database. It runs one operation after the other, and raises `StoreError`s alone."""

    @property
    def codec(self) -> Codec: ...

    @property
    def path(self) -> Path | None: ...

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def read(self, steps: Steps[T]) -> T:
        """What *steps* return, which only read."""

    async def write(self, name: str, project: str, steps: Steps[T]) -> T:
        """What *steps* return, whose writes are all made, or none; *name* is what a failpoint calls them."""

    def walk(self, project: str) -> AsyncGenerator[tuple[list[Any], list[Any]], None]:
        """The rows of some sessions and those of their messages, until all are read; as of one moment."""

    def refuse_another_file(self) -> None:
        """Refuse to go on in a file that was removed or replaced."""

    async def rebuild(self) -> None:
        """Rebuild the indexes."""

    async def find_damage(self) -> list[str]:
        """What the database finds wrong in itself."""

    async def change_marker(self) -> ChangeMarker | None: ...

    async def digest(self) -> ArchiveDigest | None: ...
