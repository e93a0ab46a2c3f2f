"""How NavTalk's chat record API speaks (source: its reference, "Chat Record Query API")."""

import re
from datetime import UTC, date, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from navtalk_async.dialects.checks import as_part_of_a_path, page_size, text
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.refusals import api_error
from navtalk_async.dialects.rows import NOT_TO_THE_LETTER, loads, patiently, whole_surrogates
from navtalk_async.errors import ApiError, BadRequest
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

__all__ = ["MESSAGES_A_PAGE", "SESSIONS_A_PAGE", "NavTalk", "seconds_text"]

T = TypeVar("T")
R = TypeVar("R", bound=Record)

SESSIONS_A_PAGE = 100
MESSAGES_A_PAGE = 200
"""The most rows a page may hold (source: "Query Parameters"); more is never asked for, since whether a
server then gives fewer or refuses is not documented."""

UUID_FORM = re.compile(r"[0-9A-Fa-f]{8}(?:-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}").fullmatch

When = datetime | date | str


class NavTalkSession(Session, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A session as NavTalk writes it. Any other field makes the row be read `patiently`."""

    is_read_on = True

    status: SessionStatus | str | None
    start_time_text: str | None = msgspec.field(name="startTime")
    end_time_text: str | None = msgspec.field(name="endTime")
    video_url: str | None = msgspec.field(name="videoUrl")


class NavTalkMessage(Message, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A message as NavTalk writes it. Any other field makes the row be read `patiently`."""

    role: Role | str | None
    type: MessageType | str | None = msgspec.field(name="messageType")
    content: str | None
    created_at_text: str | None = msgspec.field(name="createdAt")


class Envelope(msgspec.Struct, Generic[T]):
    data: T
    code: int | None = 200


class Rows(msgspec.Struct, Generic[T]):
    data: list[T]
    next_cursor: str | None = msgspec.field(default=None, name="nextCursor")


class Refusal(msgspec.Struct):
    code: int | None = None
    message: Any = None


SESSIONS = msgspec.json.Decoder(Envelope[Rows[NavTalkSession]])
SESSION = msgspec.json.Decoder(Envelope[NavTalkSession])
MESSAGES = msgspec.json.Decoder(Envelope[Rows[NavTalkMessage]])


class NavTalk(Dialect):
    """The dialect of `transfer.navtalk.ai`."""

    api = "navtalk"
    name = "NavTalk"
    default_base_url = "https://transfer.navtalk.ai/api/chat"
    key_place = KeyPlace("query", "apikey")
    key_variable = "NAVTALK_API_KEY"
    base_url_variable = "NAVTALK_BASE_URL"
    # Whether `endTime` bounds a session's end, which an open one does not have yet, is not documented.
    changing_filters = frozenset({"status", "end_time"})
    record_kinds = (NavTalkSession, NavTalkMessage)

    def root(self, base_url: str) -> str:
        """*base_url* without `/api/chat`, which the reference writes in the base and again in each path."""
        return base_url.strip().rstrip("/").removesuffix("/api/chat")

    def checked_id(self, session_id: str | UUID) -> str:
        if not UUID_FORM(str(session_id)):
            raise ValueError(f"{session_id!r} is not a session id: NavTalk's are UUIDs.")
        return str(session_id)

    def list_sessions(
        self,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        status: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Request:
        params = span(start_time, end_time)
        if status is not None:
            params["status"] = number("status", status)
        params["limit"] = page_size(limit, most=SESSIONS_A_PAGE)
        if cursor is not None:
            params["cursor"] = text("cursor", cursor)
        return Request(path="/api/chat/sessions", params=params)

    def beginning(self, request: Request, moment: datetime) -> Request | None:
        return request.having(startTime=seconds_text(moment), cursor=None)

    def get_session(self, session_id: str) -> Request:
        # The API itself may give an id that is no UUID.
        return Request(path=f"/api/chat/sessions/{as_part_of_a_path(session_id)}")

    def list_messages(
        self,
        session_id: str,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        role: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Request:
        params = span(start_time, end_time)
        params["sessionId"] = session_id
        if role is not None:
            params["role"] = number("role", role)
        params["limit"] = page_size(limit, most=MESSAGES_A_PAGE)
        if cursor is not None:
            params["cursor"] = text("cursor", cursor)
        return Request(path="/api/chat/messages", params=params)

    def rows(self, request: Request) -> int:
        return int(request.params["limit"])

    def smaller(self, request: Request) -> Request | None:
        rows = self.rows(request) // 2
        return request.having(limit=str(rows)) if rows else None

    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        return read_page(request, response, SESSIONS, NavTalkSession)

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        return read_page(request, response, MESSAGES, NavTalkMessage)

    def read_session(self, request: Request, response: Response) -> Session:
        answer = to_the_letter(response, SESSION)
        return answer.data if answer else patiently(NavTalkSession, data_of(response, msgspec.Raw))


def read_page(
    request: Request, response: Response, decoder: msgspec.json.Decoder[Envelope[Rows[R]]], kind: type[R]
) -> Page[Any]:
    """A page of *kind*: at full speed where it is as documented, row by row where it is not."""
    answer = to_the_letter(response, decoder)
    if answer:
        return Page(answer.data.data, after(request, answer.data.next_cursor))
    rows = data_of(response, Rows[msgspec.Raw])
    return Page([patiently(kind, row) for row in rows.data], after(request, rows.next_cursor))


def to_the_letter(response: Response, decoder: msgspec.json.Decoder[Envelope[T]]) -> Envelope[T] | None:
    """The answer, if it is a success and exactly of the documented shape."""
    if response.status != 200:
        return None
    try:
        answer = decoder.decode(response.body)
    except NOT_TO_THE_LETTER:
        return None
    return answer if answer.code == 200 else None


def after(request: Request, cursor: str | None) -> Request | None:
    """The question for the page after *request*'s: with all its filters again, since whether a cursor
    remembers them is not documented. A null, empty or missing cursor ends the list ("Usage Guide", 5).
    """
    return request.having(cursor=cursor) if cursor else None


def data_of(response: Response, kind: Any) -> Any:
    """What the envelope holds, as *kind*.

    Whether a failure is told by the HTTP status or by the envelope's `code` is not documented; both are
    believed.
    """
    body = whole_surrogates(response.body)
    if response.status != 200:
        refusal = why(body)
        raise refused(response, refusal)
    answer = loads(body, Refusal)
    if answer.code not in (200, None):
        raise refused(response, answer)
    return loads(body, Envelope[kind]).data


def refused(response: Response, refusal: Refusal) -> ApiError:
    """The error that *refusal* stands for. A wrong key is answered 400 (source: "Error Codes")."""
    error = api_error(response, code=refusal.code, message=refusal.message)
    if isinstance(error, BadRequest):
        error.suspect_key()
    return error


def why(body: bytes) -> Refusal:
    """What the *body* of a refusal says; the reference shows none, and it may not be JSON."""
    try:
        return msgspec.json.decode(body, type=Refusal)
    except NOT_TO_THE_LETTER:
        return Refusal()


def number(name: str, value: int) -> str:
    """*value* as the API takes it; a ValueError if it is no whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}={value!r} is not a whole number, nor a member of the enum for it.")
    return str(int(value))


def span(start: When | None, end: When | None) -> dict[str, str]:
    """The two time filters; whether the API takes them as inclusive is not documented."""
    times: dict[str, str] = {}
    if start is not None:
        times["startTime"] = seconds_text(start)
    if end is not None:
        times["endTime"] = seconds_text(end)
        if times["endTime"] < times.get("startTime", ""):
            raise ValueError(f"The end, {times['endTime']}, lies before the start, {times['startTime']}.")
    return times


SECONDS = "%Y-%m-%d %H:%M:%S"


def seconds_text(moment: When) -> str:
    """*moment* as `yyyy-MM-dd HH:mm:ss` in UTC; a date is its first second.

    Raises:
        ValueError: a naive datetime, which could mean any zone, or a text of another form.
    """
    if isinstance(moment, str):
        return _checked(moment)
    if not isinstance(moment, date):
        raise ValueError(f"{moment!r} is no time: give an aware datetime, a date, or 2025-11-12 18:20:38.")
    if not isinstance(moment, datetime):
        return f"{moment.isoformat()} 00:00:00"
    if moment.tzinfo is None:
        raise ValueError(
            f"{moment!r} has no time zone and could mean any: "
            f"give it tzinfo=timezone.utc, or write '{moment:{SECONDS}}' if you mean UTC."
        )
    try:
        return _written(moment.astimezone(UTC))
    except OverflowError:
        raise ValueError(f"{moment!r} is outside of the years that there are in UTC.") from None


def _written(moment: datetime) -> str:
    # Not by strftime: its %Y gives the year 1 one digit on Linux, and four elsewhere.
    return moment.replace(tzinfo=None).isoformat(" ", "seconds")


def _checked(text: str) -> str:
    try:
        return _written(datetime.strptime(text, SECONDS).replace(tzinfo=UTC))
    except ValueError:
        raise ValueError(f"{text!r} is not a time: write it as 2025-11-12 18:20:38 (UTC).") from None
