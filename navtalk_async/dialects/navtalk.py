"""How NavTalk's chat record API speaks (source: its reference, "Chat Record Query API")."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

import msgspec

from navtalk_async.dialects.answers import differs, loads, refused
from navtalk_async.dialects.arguments import Argument, number_of
from navtalk_async.dialects.dialect import ByCursor, Dialect, Endpoint
from navtalk_async.errors import BadRequest, DecodeFailed
from navtalk_async.lenient_json import DECODE_ERRORS, valid_utf8
from navtalk_async.models import (
    KeyPlace,
    Message,
    MessageType,
    Page,
    Record,
    Request,
    Response,
    Role,
    Session,
    SessionStatus,
)

__all__ = [
    "MESSAGES_A_PAGE",
    "SESSIONS_A_PAGE",
    "NavTalk",
    "NavTalkMessage",
    "NavTalkSession",
    "seconds_text",
    "time_text",
]

T = TypeVar("T")

SESSIONS_A_PAGE = 100
MESSAGES_A_PAGE = 200
"""The most rows a page may hold (source: "Query Parameters"); more is never asked for, since whether a
server then gives fewer or refuses is not documented."""

UUID_FORM = re.compile(r"[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}").fullmatch

When = datetime | date | str


class NavTalkSession(Session, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A session as NavTalk writes it. A row with any other field is read by `decode_lenient`."""

    supports_since = True

    status: SessionStatus | str | None
    start_time_text: str | None = msgspec.field(name="startTime")
    end_time_text: str | None = msgspec.field(name="endTime")
    video_url: str | None = msgspec.field(name="videoUrl")


class NavTalkMessage(Message, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A message as NavTalk writes it. A row with any other field is read by `decode_lenient`."""

    role: Role | str | None
    type: MessageType | str | None = msgspec.field(name="messageType")
    content: str | None
    created_at_text: str | None = msgspec.field(name="createdAt")


SECONDS = "%Y-%m-%d %H:%M:%S"
FORMS = "2025-11-12 18:20:38 (UTC) or 2025-11-12T18:20:38+01:00"


def seconds_text(moment: When) -> str:
    """*moment* as `yyyy-MM-dd HH:mm:ss` in UTC; a date is its first second, and a text is in that form, or in
    ISO 8601 with a zone. A ValueError for a naive datetime or a text of another form.
    """
    if isinstance(moment, str):
        try:
            moment = _parsed(moment)
        except ValueError:
            raise ValueError(f"{moment!r} is not a time: write it as {FORMS}.") from None
    if not isinstance(moment, date):
        raise ValueError(f"{moment!r} is no time: give an aware datetime, a date, or {FORMS}.")
    if not isinstance(moment, datetime):
        return f"{moment.isoformat()} 00:00:00"
    # Not by strftime: its %Y gives the year 1 one digit on Linux, and four elsewhere.
    text = moment.replace(tzinfo=None).isoformat(" ", "seconds")
    if moment.tzinfo is None:
        raise ValueError(
            f"{moment!r} has no time zone and could mean any: "
            f"give it tzinfo=timezone.utc, or write '{text}' if you mean UTC."
        )
    try:
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")
    except OverflowError:
        raise ValueError(f"{moment!r} is outside of the years that there are in UTC.") from None


def _parsed(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else datetime.strptime(text, SECONDS).replace(tzinfo=UTC)


def time_text(name: str, moment: When) -> str:  # noqa: ARG001
    """`seconds_text` as the check of an argument."""
    return seconds_text(moment)


# Whether the API takes them as inclusive is not documented.
SPAN = {
    "start_time": Argument(time_text, "startTime"),
    "end_time": Argument(time_text, "endTime"),
}


class NavTalk(Dialect):
    """The dialect of `transfer.navtalk.ai`."""

    api = "navtalk"
    name = "NavTalk"
    default_base_url: ClassVar[str | None] = "https://transfer.navtalk.ai/api/chat"
    # The reference writes it in the base and again in each path.
    base_path = "/api/chat"
    key_place: ClassVar[KeyPlace] = KeyPlace("query", "apikey")
    key_variable = "NAVTALK_API_KEY"
    base_url_variable = "NAVTALK_BASE_URL"
    # Whether `endTime` bounds a session's end, which an open one does not have yet, is not documented.
    changing_filters: ClassVar[frozenset[str]] = frozenset({"status", "end_time"})
    record_kinds: ClassVar[tuple[type[Session], type[Message]]] = (NavTalkSession, NavTalkMessage)
    sessions: ClassVar[Endpoint] = Endpoint(
        "/api/chat/sessions",
        rows="data",
        paging=ByCursor(most=SESSIONS_A_PAGE),
        filters=SPAN | {"status": Argument(number_of(SessionStatus))},
    )
    # The API itself may send an id that is no UUID, so that the path quotes it.
    session_path = "/api/chat/sessions/{id}"
    messages: ClassVar[Endpoint] = Endpoint(
        "/api/chat/messages",
        rows="data",
        paging=ByCursor(most=MESSAGES_A_PAGE),
        filters=SPAN | {"role": Argument(number_of(Role))},
        id_param="sessionId",
    )

    def checked_id(self, session_id: str | UUID) -> str:
        if not UUID_FORM(str(session_id)):
            raise ValueError(f"{session_id!r} is not a session id: NavTalk's are UUIDs.")
        return str(session_id)

    def check_filters(self, params: Mapping[str, str]) -> None:
        """Raise a ValueError for an end before the start."""
        start, end = params.get("startTime", ""), params.get("endTime")
        if end is not None and end < start:
            raise ValueError(f"The end, {end}, lies before the start, {start}.")

    def starting_at(self, request: Request, moment: datetime) -> Request | None:
        # No earlier than the list itself begins; times of this form are ordered as texts.
        start = max(seconds_text(moment), request.params.get("startTime", ""))
        return request.having(startTime=start, cursor=None)

    def rows_in(self, response: Response, endpoint: Endpoint) -> tuple[list[msgspec.Raw], Any]:
        try:
            answer = RAW[endpoint].decode(valid_utf8(response.body))
        except DECODE_ERRORS:
            answer = None
        if answer is None or response.status != 200 or answer.code != 200:
            return super().rows_in(response, endpoint)
        return answer.data.rows, answer.data

    def decoded(self, response: Response, kind: Any) -> Any:
        # Whether the HTTP status or the envelope's `code` tells of a failure is not documented; both count.
        body = valid_utf8(response.body)
        try:
            found = loads(body, Anything)
        except DecodeFailed:
            if response.status == 200:
                raise
            found = Anything()
        code = number_in(found.code)
        if response.status != 200 or (code is not None and code != 200):
            error = refused(response, code)
            # A wrong key is answered 400 (source: "Error Codes").
            if isinstance(error, BadRequest):
                error.suspect_key()
            raise error
        if not bytes(found.data):
            raise differs("`data` is missing")
        is_empty_list = bytes(found.data) in NOTHING and kind is not msgspec.Raw
        return loads(b"{}" if is_empty_list else found.data, kind)

    def _page(
        self, endpoint: Endpoint, kind: type[Record], request: Request, response: Response
    ) -> Page[Any]:
        """A page at full speed where it is exactly as documented, row by row where it is not."""
        try:
            answer = STRICT[kind].decode(response.body)
        except DECODE_ERRORS:
            answer = None
        if answer is None or response.status != 200 or answer.code != 200:
            return super()._page(endpoint, kind, request, response)
        return endpoint.paging.page(request, answer.data.rows, answer.data)


def number_in(code: Any) -> int | None:
    """The whole number that *code* is, or that its text is; None where it is none."""
    try:
        return None if isinstance(code, bool) or int(code) != float(code) else int(code)
    except (TypeError, ValueError, OverflowError):
        return None


NOTHING = (b"null", b"[]", b'""')
"""What stands for an empty list of rows as well."""


class Anything(msgspec.Struct):
    """An envelope whose data may be of any kind."""

    code: Any = None
    data: msgspec.Raw = msgspec.Raw()


class Envelope(msgspec.Struct, Generic[T]):
    data: T
    code: int | None = 200


STRICT: dict[type[Record], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(Envelope[endpoint.answer_of(kind)])  # type: ignore[misc]
    for kind, endpoint in zip(NavTalk.record_kinds, (NavTalk.sessions, NavTalk.messages), strict=True)
}

RAW: dict[Endpoint, msgspec.json.Decoder[Any]] = {
    endpoint: msgspec.json.Decoder(Envelope[endpoint.answer_of(msgspec.Raw)])  # type: ignore[misc]
    for endpoint in (NavTalk.sessions, NavTalk.messages)
}
