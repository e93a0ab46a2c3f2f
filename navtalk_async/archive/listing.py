"""What is read of an archive page by page: lists of sessions, in an order, and the messages of one."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from navtalk_async.archive._codec import Codec
from navtalk_async.archive._database import Query, Steps
from navtalk_async.archive._statements import MESSAGE_COLUMNS, SESSION_COLUMNS
from navtalk_async.archive.rows import MessageRow, SessionRow, format_time

__all__ = [
    "COLUMNS",
    "Order",
    "SessionFilter",
    "SessionPage",
    "TranscriptPage",
    "list_query",
    "read_page",
    "read_transcript_page",
]

Order: TypeAlias = Literal["started", "title", "status", "user", "messages", "lasted"]

COLUMNS: dict[Order, str] = {
    "started": "s.start_time",
    "title": "s.title",
    "status": "s.status",
    "user": "s.user_id",
    "messages": "y.messages",
    "lasted": "{seconds}s.end_time{of} - {seconds}s.start_time{of}",
}
"""By what a list may be ordered. Only the first is read from an index, as fast from a large archive as from a
small one."""

FROM = "FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id"


class SessionFilter(NamedTuple):
    """Which sessions are wanted; all, without any of these.

    Attributes:
        start_time, end_time: those that started in this time (aware), its ends included.
        status: a word, or the number of a status without one.
        words: each of which is in their title, id, user or start; in capitals or not (of ASCII).
    """

    project: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    status: str | int | None = None
    user_id: str | None = None
    words: Sequence[str] = ()


class SessionPage(NamedTuple):
    """Some of the sessions that are wanted, each with the number of its messages, and how many there are."""

    rows: list[tuple[SessionRow, int | None]]
    total: int


class TranscriptPage(NamedTuple):
    """Some messages of a session, the time of the one before them, how many the session has, and the sessions
    of its project that began before and after it.
    """

    session: SessionRow
    messages: list[MessageRow]
    before: str | None
    total: int
    earlier: SessionRow | None
    later: SessionRow | None


def list_query(codec: Codec, wanted: SessionFilter, *, newest: bool = False) -> Query:
    """The rows of sessions by their starts, each with the number of its messages where that is known."""
    return _ordered(codec, wanted, f"{SESSION_COLUMNS}, y.messages", "started", newest=newest)


def read_page(
    codec: Codec, wanted: SessionFilter, order: Order, *, newest: bool, first: int, count: int
) -> Steps[SessionPage]:
    """So many sessions from the *first* on, from 0."""
    keys = _ordered(codec, wanted, "s.project, s.id", order, newest=newest)
    # Whole rows would take several times as long to sort.
    found = yield Query(f"{keys.statement} LIMIT ? OFFSET ?", (*keys.values, count, first))
    rows: dict[tuple[str, Any], Any] = {}
    for project in dict.fromkeys(each for each, _ in found):
        some = [own_id for each, own_id in found if each == project]
        columns = f"SELECT {SESSION_COLUMNS}, y.messages {FROM} WHERE s.project = ? AND s.id {{any}}"
        for row in (yield Query(columns, (project, some))):
            rows[row[0], row[1]] = row
    [(total,)] = yield _filtered(codec, wanted, "COUNT(*)")
    return SessionPage(codec.counted([rows[each, own_id] for each, own_id in found]), total)


def read_transcript_page(
    codec: Codec, project: str, session_id: str, first: int, count: int
) -> Steps[TranscriptPage | None]:
    """So many messages from the position *first* on; None where there is no such session."""
    key = (project, codec.write_id(session_id))
    found = codec.sessions(
        (yield Query(f"SELECT {SESSION_COLUMNS} {FROM} WHERE s.project = ? AND s.id = ?", key))
    )
    if not found:
        return None
    session = found[0]
    [(total,)] = yield Query("SELECT COUNT(*) FROM messages WHERE project = ? AND session_id = ?", key)
    some = f"""SELECT {MESSAGE_COLUMNS} FROM messages
        WHERE project = ? AND session_id = ? AND position >= ? AND position < ? ORDER BY position"""
    rows = yield Query(some, (*key, first - 1, first + count))
    said = codec.by_session(rows).get(session.id, [])
    before = said.pop(0).created_at if said and said[0].position < first else None
    around: list[SessionRow | None] = []
    for sign, order in (("<", "DESC"), (">", "ASC")):
        near = codec.sessions((yield _beside(session, key[1], sign, order)))
        around.append(near[0] if near else None)
    return TranscriptPage(session, said, before, total, *around)


def _beside(session: SessionRow, held_id: str, sign: str, order: str) -> Query:
    """The next session of the project, by start and id; of those without a start, by change and id."""
    values: list[object] = [session.project]
    if session.start_time is not None:
        column, where, moment = "s.start_time", "", session.start_time
    elif session.updated_at is not None:
        column, where, moment = "s.updated_at", "s.start_time IS NULL AND ", session.updated_at
    else:
        column, where, moment = (
            "s.project",
            "s.start_time IS NULL AND s.updated_at IS NULL AND ",
            session.project,
        )
    condition = f"{where}({column}, s.id) {sign} (?, ?)"
    return Query(
        f"SELECT {SESSION_COLUMNS} FROM sessions AS s WHERE s.project = ? AND {condition} "
        f"ORDER BY {column} {order}, s.id {order} LIMIT 1",
        [*values, moment, held_id],
    )


def _ordered(codec: Codec, wanted: SessionFilter, columns: str, order: Order, *, newest: bool) -> Query:
    """The *columns* of sessions by their values in *order*, then by their starts; the largest and the newest
    first if they are to be.
    """
    down = "DESC NULLS LAST" if newest else "NULLS FIRST"
    column = codec.in_own_words(COLUMNS[order])
    first = f"{column} {down}"
    if order != "started":
        # Without a value, rows stand last in either order; an index has starts in its own.
        first = f"{column} IS NULL, {first}, s.start_time {down}"
    query = _filtered(codec, wanted, columns)
    by = f"{first}, s.updated_at {down}, s.id {'DESC' if newest else ''}"
    return Query(f"{query.statement} ORDER BY {by}", query.values)


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
    for word in wanted.words:
        escaped = "".join(f"\\{each}" if each in "\\%_" else each for each in word)
        likes = [
            f"LOWER(s.{name}) LIKE LOWER(?) ESCAPE '\\'" for name in ("title", "id", "user_id", "start_time")
        ]
        yield f"({' OR '.join(likes)})", *[f"%{codec.write_text(escaped)}%"] * 4
