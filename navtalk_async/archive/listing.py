"""Which sessions of an archive are listed, and in which order, as a statement."""

from collections.abc import Iterator
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from navtalk_async.archive._codec import Codec
from navtalk_async.archive._database import Query
from navtalk_async.archive._statements import SESSION_COLUMNS
from navtalk_async.archive.rows import format_time

__all__ = ["ORDERS", "Order", "SessionFilter", "count_query", "list_query"]

Order: TypeAlias = Literal["oldest", "newest", "longest", "title"]

ORDERS: dict[Order, str] = {
    "oldest": "s.start_time NULLS FIRST, s.updated_at NULLS FIRST, s.id",
    "newest": "s.start_time DESC NULLS LAST, s.updated_at DESC NULLS LAST, s.id DESC",
    "longest": "y.messages DESC NULLS LAST, s.start_time DESC NULLS LAST, s.id DESC",
    "title": "s.title NULLS LAST, s.start_time DESC NULLS LAST, s.id DESC",
}
"""Only the first two are read from an index, and so as fast from a large archive as from a small one."""

FROM = "FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id"


class SessionFilter(NamedTuple):
    """Which sessions are wanted; all, without any of these.

    Attributes:
        start_time, end_time: those that started in this time (aware), its ends included.
        status: a word, or the number of a status without one.
        text: what their title, id or user contains, in capitals or not (of ASCII).
    """

    project: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    status: str | int | None = None
    user_id: str | None = None
    text: str | None = None


def list_query(codec: Codec, wanted: SessionFilter, order: Order) -> Query:
    """The rows of sessions, each with the number of its messages, where that is known."""
    query = _filtered(codec, wanted, f"{SESSION_COLUMNS}, y.messages")
    return Query(f"{query.statement} ORDER BY {ORDERS[order]}", query.values)


def count_query(codec: Codec, wanted: SessionFilter, most: int) -> Query:
    """How many there are, counted up to *most*."""
    query = _filtered(codec, wanted, "1")
    return Query(f"SELECT COUNT(*) FROM ({query.statement} LIMIT ?) AS found", (*query.values, most))


def _filtered(codec: Codec, wanted: SessionFilter, columns: str) -> Query:
    conditions = list(_conditions(codec, wanted))
    where = " AND ".join(["TRUE", *(condition for condition, *_ in conditions)])
    values = [value for _, *values in conditions for value in values]
    return Query(f"SELECT {columns} {FROM} WHERE {where}", values)


def _conditions(codec: Codec, wanted: SessionFilter) -> Iterator[tuple[str, *tuple[object, ...]]]:
    if wanted.project is not None:
        yield "s.project = ?", wanted.project
    if wanted.start_time is not None:
        # Without its Z, it is before all fractions of its second.
        yield "s.start_time >= ?", format_time(wanted.start_time)[:-1]
    if wanted.end_time is not None:
        # The first of the two is found by the index.
        end = format_time(wanted.end_time)
        yield "s.start_time <= ? AND RTRIM(s.start_time, 'Z') <= ?", end, end[:-1]
    if wanted.status is not None:
        yield "s.status = ?", codec.write_word(wanted.status)
    if wanted.user_id is not None:
        yield "s.user_id = ?", codec.write_text(wanted.user_id)
    if wanted.text is not None:
        escaped = "".join(f"\\{each}" if each in "\\%_" else each for each in wanted.text)
        columns = " OR ".join(
            f"LOWER(s.{name}) LIKE LOWER(?) ESCAPE '\\'" for name in ("title", "id", "user_id")
        )
        yield f"({columns})", *[f"%{codec.write_text(escaped)}%"] * 3
