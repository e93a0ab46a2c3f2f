"""The NavTalk chat records API: three endpoints, as its reference page has them."""

from bisect import bisect_right
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final

import msgspec

from ._api import Answers, Api, Refused, SandboxRequest, SandboxResponse
from ._generated import Row
from ._world import Cursor, Table

# Before every row there can be: where an empty first page says to go on.
_ORIGIN: Final = ("0001-01-01 00:00:00", "00000000-0000-0000-0000-000000000000")
_AFTER_ALL_IDS: Final = "\uffff"


class _Query(msgspec.Struct, rename="camel"):
    session_id: str = ""
    start_time: str = ""
    end_time: str = ""
    status: int | None = None
    role: int | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


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
    next_cursor = "nextCursor"
    wrong_key = (400, "Invalid API key")
    expired_key = (403, "API key expired or project not active")
    not_found = "Session not found or does not belong to the project"

    def session_id_of(self, request: SandboxRequest) -> str:
        if request.kind == "messages":
            return request.query.get("sessionId", "")
        return super().session_id_of(request)

    def key_of(self, request: SandboxRequest) -> str:
        return request.query.get("apikey", "")

    def refusal(self, refused: Refused, request: SandboxRequest) -> SandboxResponse:
        response, errors = super().refusal(refused, request), request.answers.errors
        if errors == "body" or (errors == "both" and request.number % 2 == 0):
            response.status = 200
        return response

    def error_body(self, refused: Refused, answers: Answers) -> Row:  # noqa: ARG002
        return {"code": refused.code, "message": refused.message, "data": None}

    def encoded(self, found: Any) -> bytes:
        return b'{"code":200,"message":"SUCCESS","data":' + msgspec.json.encode(found) + b"}"

    def session(self, request: SandboxRequest) -> Row:
        return request.row

    def sessions(self, request: SandboxRequest) -> Row:
        query = self.parameters(request, _Query)
        size = self.page_size(request, "limit", query.limit or 20, 100)
        end_field = "endTime" if request.answers.end_bounds == "end" else "startTime"
        return self._page(
            request, request.world.session_table, size, query, ("startTime", end_field, "status")
        )

    def messages(self, request: SandboxRequest) -> Row:
        query = self.parameters(request, _Query)
        size = self.page_size(request, "limit", query.limit or 50, 200)
        if not query.session_id:
            raise Refused(400, "Missing required parameter: sessionId")
        self.find_session(request.world, query.session_id)
        table = request.world.message_table(query.session_id)
        return self._page(request, table, size, query, ("createdAt", "createdAt", "role"))

    def _page(
        self, request: SandboxRequest, table: Table, size: int, query: _Query, fields: tuple[str, str, str]
    ) -> Row:
        filters = _filters(query, fields[2])
        cursor = self.cursor_of(request)
        if cursor and not _is_time(cursor.key[0]):
            raise Refused(400, "Invalid cursor")
        if cursor and cursor.memory:
            filters = dict(cursor.memory)
        memory = {} if request.answers.cursor_needs_filters else filters
        rows = _matching(table, fields, filters, request.answers)
        begin = bisect_right(rows, cursor.key, key=table.key) if cursor else 0
        here = Cursor(cursor.key, memory, cursor.again) if cursor else Cursor(_ORIGIN, memory)
        cursors = here, Cursor(_ORIGIN, memory)
        page, following = self.cursor_page(request, rows, table.key, (begin, size), cursors)
        return {"data": page, **following}


def _filters(query: _Query, number_field: str) -> dict[str, str]:
    for name, text in (("startTime", query.start_time), ("endTime", query.end_time)):
        if text and not _is_time(text):
            raise Refused(400, f"{name} must have the format yyyy-MM-dd HH:mm:ss")
    number = query.status if number_field == "status" else query.role
    filters = {
        "start": query.start_time,
        "end": query.end_time,
        "number": "" if number is None else str(number),
    }
    return {name: text for name, text in filters.items() if text}


@lru_cache(1024)
def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).isoformat(" ") == text
    except ValueError:
        return False


def _matching(
    table: Table, fields: tuple[str, str, str], filters: dict[str, str], answers: Answers
) -> list[Row]:
    """The rows that the filters let through; *fields* are those of the start, the end and the number."""
    start, end = ("", "") if answers.filters_ignored else (filters.get("start", ""), filters.get("end", ""))
    start_field, end_field, number_field = fields
    after_start = (start, "" if answers.start_inclusive else _AFTER_ALL_IDS)
    rows = table.rows[table.after(after_start) :] if start else table.rows
    if end and end_field == start_field:
        before_end = (end, _AFTER_ALL_IDS if answers.end_inclusive else "")
        rows = rows[: bisect_right(rows, before_end, key=table.key)]
    elif end:
        last = end if answers.end_inclusive else None
        rows = [row for row in rows if row[end_field] and (row[end_field] < end or row[end_field] == last)]
    if "number" in filters:
        rows = [row for row in rows if row[number_field] == int(filters["number"])]
    return rows
