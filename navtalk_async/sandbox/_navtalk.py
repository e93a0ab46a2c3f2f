"""The NavTalk chat records API: three endpoints, as its reference page has them."""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final

import msgspec

from ._api import Answers, Api, Refused, SandboxRequest, SandboxResponse
from ._generated import Row
from ._world import Cursor, row_key

# Before every row there can be: where an empty first page says to go on.
_ORIGIN: Final = ("0001-01-01 00:00:00", "00000000-0000-0000-0000-000000000000")
_AFTER_ALL_IDS: Final = "\uffff"


class _Query(msgspec.Struct):
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
    session_parameter = "sessionId"
    wrong_key = (400, "Invalid API key")
    expired_key = (403, "API key expired or project not active")
    not_found = "Session not found or does not belong to the project"

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
        end_field = "endTime" if request.answers.end_bounds == "end" else "startTime"
        return self._page(request, request.world.session_rows, (20, 100), end_field, "status")

    def messages(self, request: SandboxRequest) -> Row:
        if not request.session_id:
            raise Refused(400, "Missing required parameter: sessionId")
        self.find_session(request.world, request.session_id)
        rows = request.world.message_rows(request.session_id)
        return self._page(request, rows, (50, 200), "createdAt", "role")

    def _page(
        self,
        request: SandboxRequest,
        rows: list[Row],
        limits: tuple[int, int],
        end_field: str,
        number_field: str,
    ) -> Row:
        usual, most = limits
        size = self.page_size(request, "limit", self.parameters(request, _Query).limit or usual, most)
        cursor = self.cursor_of(request)
        if cursor and not _is_time(cursor.key[0]):
            raise Refused(400, "Invalid cursor")
        filters = _filters(request.query, number_field)
        if cursor and cursor.memory:
            filters = dict(cursor.memory)
        first = Cursor(_ORIGIN, {} if request.answers.cursor_needs_filters else filters)
        rows = _matching(rows, filters, end_field, request.answers)
        page, following = self.cursor_page(request, rows, row_key, size, first)
        return {"data": page, **following}


def _filters(query: Mapping[str, str], number_field: str) -> dict[str, str]:
    filters = {name: query[name] for name in ("startTime", "endTime", number_field) if query.get(name)}
    for name, text in filters.items():
        if name != number_field and not _is_time(text):
            raise Refused(400, f"{name} must have the format yyyy-MM-dd HH:mm:ss")
    return filters


@lru_cache(1024)
def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).isoformat(" ") == text
    except ValueError:
        return False


def _matching(rows: list[Row], filters: dict[str, str], end_field: str, answers: Answers) -> list[Row]:
    """The rows that the filters let through."""
    start, end = filters.get("startTime"), filters.get("endTime")
    if start and not answers.filters_ignored:
        before = start, "" if answers.start_inclusive else _AFTER_ALL_IDS
        rows = rows[bisect_right(rows, before, key=row_key) :]
    if end and not answers.filters_ignored:
        # A session that has not ended is in no span that bounds the end.
        last = end if answers.end_inclusive else ""
        if end_field == "endTime":
            rows = [
                row for row in rows if row[end_field] and (row[end_field] < end or row[end_field] == last)
            ]
        else:
            rows = rows[: bisect_right(rows, (end, last and _AFTER_ALL_IDS), key=row_key)]
    for field in filters.keys() & {"status", "role"}:
        rows = [row for row in rows if row[field] == int(filters[field])]
    return rows
