"""Damaged rows: whatever hands rows on refuses them, and a search leaves them out."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from navtalk_async.archive.rows import MessageRow, SessionRow, TextRow
from navtalk_async.errors import StoreBroken
from navtalk_async.lenient_json import DECODE_ERRORS

__all__ = ["checked", "damage_named", "intact"]

R = TypeVar("R", SessionRow, MessageRow, TextRow)


def checked(row: R) -> R:
    """*row*; a msgspec.ValidationError unless its columns are of their types: SQLite keeps any in any."""
    # As a plain tuple: what has the type already is not looked into.
    return msgspec.convert(tuple(row), type(row))


def intact(rows: Iterable[R]) -> list[R]:
    """Those of *rows* whose columns are of their types."""
    return [row for row in rows if _is_intact(row)]


def _is_intact(row: SessionRow | MessageRow | TextRow) -> bool:
    try:
        msgspec.convert(tuple(row), type(row))
    except msgspec.ValidationError:
        return False
    return True


@contextmanager
def damage_named(archive: object) -> Generator[None]:
    """Raise what reading a damaged row of *archive* raises as a StoreBroken."""
    try:
        yield
    except (*DECODE_ERRORS, TypeError, LookupError) as failure:
        # Damage may have made anything of a column.
        raise StoreBroken(f"A row of {archive} is damaged; `navtalk verify {archive}` names it.") from failure
