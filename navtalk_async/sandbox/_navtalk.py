"""The NavTalk chat records API: three endpoints, as its reference page has them."""

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from ._answers import Answers
from ._api import Api, ApiContext, Refused, SandboxRequest, SandboxResponse
from ._rows import Cursor, Row, Table

# Before every row there can be: where an empty first page says to go on.
_ORIGIN: Final = ("0001-01-01 00:00:00", "00000000-0000-0000-0000-000000000000")
_ENDS: Final[dict[str, Row]] = {"null": {"nextCursor": None}, "empty": {"nextCursor": ""}, "missing": {}}


class _Query(msgspec.Struct, rename="camel"):
    session_id: str = ""
    start_time: str | None = None
    end_time: str | None = None
    status: int | None = None
    role: int | None = None
    limit: int | None = None
    cursor: str = ""


class _Listing(NamedTuple):
    """The rows of a listing, and what it is narrowed to: *number* is a status or a role."""

    table: Table
    end_field: str
    number_field: str
    start: str
    end: str
    number: str


class NavTalkApi(Api):
    """NavTalk, whose failures are an envelope, by status or by the code inside it."""

    name = "navtalk"
    prefix = base_path = "/api/chat"
    routes: ClassVar = {
        "GET /sessions": "sessions",
        "GET /sessions/{id}": "session",
        "GET /messages": "messages",
    }
    paged = frozenset({"sessions", "messages"})
    cursor = "cursor"
    wrong_key = (400, "Invalid API key")
    expired_key = (403, "API key expired or project not active")
    not_found = "Session not found or does not belong to the project"

    def session_id_of(self, request: SandboxRequest) -> str:
        if request.kind == "messages":
            return request.query.get("sessionId", "")
        return super().session_id_of(request)

    def key_of(self, request: SandboxRequest) -> str:
        return request.query.get("apikey", "")

    def refusal(self, refused: Refused, request: SandboxRequest, answers: Answers) -> SandboxResponse:
        response = super().refusal(refused, request, answers)
        if answers.errors == "body" or (answers.errors == "both" and request.number % 2 == 0):
            response.status = 200
        return response

    def error_body(self, refused: Refused, answers: Answers) -> Row:  # noqa: ARG002
        return {"code": refused.code, "message": refused.message, "data": None}

    def encoded(self, found: Any) -> bytes:
        return b'{"code":200,"message":"SUCCESS","data":' + msgspec.json.encode(found) + b"}"

    def session(self, request: SandboxRequest, context: ApiContext) -> Row:  # noqa: ARG002
        return request.row

    def sessions(self, request: SandboxRequest, context: ApiContext) -> Row:
        query = self.parameters(request, context, _Query)
        end_field = "endTime" if context.answers.end_bounds == "end" else "startTime"
        filters = _filters(query, query.status)
        listing = _Listing(request.world.session_table, end_field, "status", *filters)
        return _page(listing, query, _limit(query, context.answers, usual=20, most=100), request, context)

    def messages(self, request: SandboxRequest, context: ApiContext) -> Row:
        query = self.parameters(request, context, _Query)
        if not query.session_id:
            raise Refused(400, "Missing required parameter: sessionId")
        self.find_session(request.world, query.session_id)
        table = request.world.message_table(query.session_id)
        listing = _Listing(table, "createdAt", "role", *_filters(query, query.role))
        return _page(listing, query, _limit(query, context.answers, usual=50, most=200), request, context)


def _limit(query: _Query, answers: Answers, *, usual: int, most: int) -> int:
    limit = usual if query.limit is None else query.limit
    if limit < 1 or (limit > most and answers.over_limit == "refuse"):
        raise Refused(400, f"limit must be between 1 and {most}")
    return min(limit, most, answers.max_page or most)


def _filters(query: _Query, number: int | None) -> tuple[str, str, str]:
    for name, text in (("startTime", query.start_time), ("endTime", query.end_time)):
        if text is not None and not _is_time(text):
            raise Refused(400, f"{name} must have the format yyyy-MM-dd HH:mm:ss")
    return query.start_time or "", query.end_time or "", "" if number is None else str(number)


@lru_cache(1024)
def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).isoformat(" ") == text
    except ValueError:
        return False


def _page(listing: _Listing, query: _Query, limit: int, request: SandboxRequest, context: ApiContext) -> Row:
    answers, fault = context.answers, request.fault
    try:
        cursor = Cursor.read(query.cursor) if query.cursor else None
    except ValueError:
        raise Refused(400, "Invalid cursor") from None
    if cursor and not _is_time(cursor.key[0]):
        raise Refused(400, "Invalid cursor")
    filters = {"start": listing.start, "end": listing.end, "number": listing.number}
    if cursor and cursor.memory:
        filters = {name: cursor.memory.get(name, "") for name in filters}
        listing = listing._replace(start=filters["start"], end=filters["end"], number=filters["number"])
    memory = {} if answers.cursor_needs_filters or not any(filters.values()) else filters
    if fault == "empty-page":
        here = cursor or Cursor(_ORIGIN)
        return {"data": [], "nextCursor": str(Cursor(here.key, memory, here.again + 1))}
    begin = listing.table.after(cursor.key) if cursor else 0
    found = _matching(listing, begin, answers)
    rows = list(islice(found, limit))
    following = None
    if fault == "repeat-cursor":
        following = query.cursor
    elif fault == "cycle":
        # Where the page before this one was asked from.
        keys = [listing.table.key(row) for row in _matching(listing, 0, answers)]
        before = [key for key in keys if listing.table.after(key) <= begin]
        following = str(Cursor(before[-limit - 1] if len(before) > limit else _ORIGIN, memory))
    elif rows and (answers.cursor_on_last_page or next(found, None) is not None):
        following = str(Cursor(listing.table.key(rows[-1]), memory))
    end = _ENDS[answers.last_cursor] if following is None else {"nextCursor": following}
    return {"data": rows, **end}


def _matching(listing: _Listing, begin: int, answers: Answers) -> Iterator[Row]:
    """The rows from index *begin* on that the filters let through."""
    table, end_field, number_field, start, end, _ = listing
    number = int(listing.number) if listing.number else None
    if answers.filters_ignored:
        start = end = ""
    if start:
        # No id sorts after U+FFFF: the place behind the last row of that second.
        begin = max(begin, table.after((start, "" if answers.start_inclusive else "\uffff")))
    rows = table.rows
    for at in range(begin, len(rows)):
        row = rows[at]
        if end:
            time = row[end_field]
            if time is None or time > end or (time == end and not answers.end_inclusive):
                if end_field == "endTime":
                    continue
                return
        if number is None or row[number_field] == number:
            yield row
