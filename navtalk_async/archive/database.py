"""What an archive asks of its database, as values.

An operation is a generator of steps, which decides and never waits; a driver runs the steps. So all databases
share every rule and every statement, and a driver fills in these words alone:

    ?           a value
    {any}       equals any of a list, which is the last value
    {is_not}    is another one, None included
    {rows}      the rows of a `Put`, as a table
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from navtalk_async.archive.rows import MessageRow, SessionRow

__all__ = ["Codec", "Put", "Query", "Step", "Steps", "Write"]

T = TypeVar("T")


class Query(NamedTuple):
    """Rows that are wanted; with a list as the last value, in the order of its parts."""

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


class Codec(NamedTuple):
    """How rows are written to the database, and read from it, where it cannot hold every text."""

    written_id: Callable[[str], str]
    read_id: Callable[[str], str]
    written_session: Callable[[SessionRow], SessionRow]
    read_session: Callable[[SessionRow], SessionRow]
    written_messages: Callable[[list[MessageRow]], list[MessageRow]]
    read_messages: Callable[[list[MessageRow]], list[MessageRow]]
    plain: Callable[[str], str]
    """A text that is meant to be read."""
