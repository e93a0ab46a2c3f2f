"""How the NavTalk chat records API answers: three endpoints, as its reference page has them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from .answers import Answers
from .exchange import NOTHING, Answered, Asked, Refused, Room, opened
from .faults import PAGE_FAULTS
from .navtalk_cursor import ORIGIN, Cursor, Filters, is_time
from .table import Row, Table
from .world import World

NAME: Final = "navtalk"
BASE: Final = "/api/chat"
PREFIX: Final = BASE
WRONG_SHAPES: Final = (
    b"null",
    b"[]",
    b'"SUCCESS"',
    b'{"items":[],"total":0}',
    b'{"code":200,"message":"SUCCESS","data":"none"}',
    b'{"code":200,"message":"SUCCESS","data":{"data":{"0":1},"nextCursor":7}}',
    b'{"code":200,"message":"SUCCESS","data":{"data":[{"id":[7],"startTime":null}],"nextCursor":null}}',
)
_SESSIONS: Final = f"{BASE}/sessions"
_MESSAGES: Final = f"{BASE}/messages"
_LONGEST_NUMBER: Final = 9

_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Listing:
    """What one of the two listings pages through, and by which of a row's fields it is narrowed."""

    table: Table
    end_field: str
    number_field: str
    filters: Filters
    limit: int


def kind(asked: Asked) -> str:
    """The endpoint *asked* is for: sessions, session, messages, or an empty string."""
    path = asked.path
    if path == _MESSAGES:
        return "messages"
    if path == _SESSIONS:
        return "sessions"
    name = path.removeprefix(_SESSIONS + "/")
    return "session" if name != path and name and "/" not in name else ""


def session(asked: Asked) -> str:
    """The id of the session that is asked about, or an empty string."""
    if asked.kind == "messages":
        return asked.query.get("sessionId", "")
    return asked.path.rpartition("/")[2] if asked.kind == "session" else ""


def secret(asked: Asked) -> str:
    """The key that came with a request."""
    return asked.query.get("apikey", "")


def can_play(fault: str, asked: Asked) -> bool:
    """Whether *fault* makes sense for this request: only a listing can be paged wrongly."""
    if fault not in PAGE_FAULTS:
        return True
    listing = asked.kind in {"sessions", "messages"}
    return listing and (fault == "empty-page" or bool(asked.query.get("cursor")))


def answer(asked: Asked, room: Room, fault: str | None = None) -> Answered:
    """The answer to *asked*; *fault* is one of those that happen inside a page."""
    try:
        data = _data(asked, _world(asked, room), room.answers, fault)
    except Refused as no:
        return refusal(no.code, no.message, asked, room.answers)
    return Answered(200, b'{"code":200,"message":"SUCCESS","data":' + data + b"}")


def refusal(code: int, message: str, asked: Asked, answers: Answers, wait: float | None = None) -> Answered:
    """A failure, told by status, by body, or by either, as *answers* has it; *wait* is in ``Retry-After``."""
    headers = {} if wait is None else {"Retry-After": f"{wait:g}"}
    if answers.errors == "bare":
        return Answered(code, message.encode(), "text/plain", headers)
    by_body = answers.errors == "body" or (answers.errors == "both" and asked.number % 2 == 0)
    body = _json({"code": code, "message": message, "data": None})
    return Answered(200 if by_body else code, body, headers=headers)


def headers(asked: Asked, room: Room) -> Mapping[str, str]:  # noqa: ARG001 - what any API may need
    """Nothing: its reference knows no rate limit."""
    return NOTHING


def _world(asked: Asked, room: Room) -> World:
    if not asked.kind:
        raise Refused(404, "Not Found")
    if asked.method != "GET":
        raise Refused(405, "Method Not Allowed")
    key = secret(asked)
    if key == "expired":
        raise Refused(403, "API key expired or project not active")
    world = opened(key, room)
    if world is None:
        raise Refused(400, "Invalid API key")
    return world


def _data(asked: Asked, world: World, answers: Answers, fault: str | None) -> bytes:
    query = asked.query
    if asked.kind == "session":
        return _json(_session(world, session(asked)))
    if asked.kind == "sessions":
        end_field = "endTime" if answers.end_bounds == "end" else "startTime"
        limit = _limit(query, answers, usual=20, most=100)
        listing = Listing(world.session_table, end_field, "status", _filters(query, "status"), limit)
    else:
        name = query.get("sessionId")
        if not name:
            raise Refused(400, "Missing required parameter: sessionId")
        limit = _limit(query, answers, usual=50, most=200)
        filters = _filters(query, "role")
        _session(world, name)
        listing = Listing(world.message_table(name), "createdAt", "role", filters, limit)
    return _page(listing, query.get("cursor"), answers, fault)


def _session(world: World, name: str) -> Row:
    row = world.session_row(name)
    if row is None:
        raise Refused(404, "Session not found or does not belong to the project")
    return row


def _limit(query: Mapping[str, str], answers: Answers, *, usual: int, most: int) -> int:
    asked = int(_number(query, "limit") or usual)
    if asked < 1 or (asked > most and answers.over_limit == "refuse"):
        raise Refused(400, f"limit must be between 1 and {most}")
    return min(asked, most, answers.max_page or most)


def _filters(query: Mapping[str, str], number_field: str) -> Filters:
    return Filters(_time(query, "startTime"), _time(query, "endTime"), _number(query, number_field))


def _number(query: Mapping[str, str], name: str) -> str:
    text = query.get(name)
    if text is None:
        return ""
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= _LONGEST_NUMBER):
        raise Refused(400, f"{name} must be an integer")
    return text


def _time(query: Mapping[str, str], name: str) -> str:
    text = query.get(name)
    if text is None:
        return ""
    if not is_time(text):
        raise Refused(400, f"{name} must have the format yyyy-MM-dd HH:mm:ss")
    return text


def _page(listing: Listing, text: str | None, answers: Answers, fault: str | None) -> bytes:
    try:
        cursor = Cursor.read(text) if text else None
    except (ValueError, TypeError):
        raise Refused(400, "Invalid cursor") from None
    filters = (cursor and cursor.filters) or listing.filters
    memory = None if answers.cursor_needs_filters or filters == Filters() else filters
    if fault == "empty-page":
        here = cursor or Cursor(ORIGIN)
        return _encoded([], str(Cursor(here.key, memory, here.again + 1)), answers)
    begin = listing.table.after(cursor.key) if cursor else 0
    found = _matching(listing, filters, begin, answers)
    rows = list(islice(found, listing.limit))
    following = None
    if fault == "repeat-cursor":
        following = text
    elif fault == "cycle":
        following = str(Cursor(_earlier(listing, filters, begin, answers), memory))
    elif rows and (answers.cursor_on_last_page or next(found, None) is not None):
        following = str(Cursor(listing.table.key(rows[-1]), memory))
    return _encoded(rows, following, answers)


def _encoded(rows: list[Row], following: str | None, answers: Answers) -> bytes:
    body = b'{"data":' + _json(rows)
    if following is not None:
        return body + b',"nextCursor":"' + following.encode() + b'"}'
    ends = {"null": b',"nextCursor":null}', "empty": b',"nextCursor":""}', "missing": b"}"}
    return body + ends[answers.last_cursor]


def _earlier(listing: Listing, filters: Filters, begin: int, answers: Answers) -> tuple[str, str]:
    """Where the page before the one that begins at *begin* was asked from."""
    table = listing.table
    keys = [table.key(row) for row in _matching(listing, filters, 0, answers)]
    before = [key for key in keys if table.after(key) <= begin]
    return before[-listing.limit - 1] if len(before) > listing.limit else ORIGIN


def _matching(listing: Listing, filters: Filters, begin: int, answers: Answers) -> Iterator[Row]:
    """The rows from index *begin* on that the filters let through."""
    table, end_field, number_field = listing.table, listing.end_field, listing.number_field
    start, end = ("", "") if answers.filters_ignored else (filters.start, filters.end)
    number = int(filters.number) if filters.number else None
    if start:
        # No id sorts after U+FFFF: the place behind the last row of that second.
        begin = max(begin, table.after((start, "" if answers.start_inclusive else "\uffff")))
    rows = table.rows
    for at in range(begin, len(rows)):
        row = rows[at]
        if end:
            told = row[end_field]
            if told is None or told > end or (told == end and not answers.end_inclusive):
                if end_field == "endTime":
                    continue
                return
        if number is None or row[number_field] == number:
            yield row
