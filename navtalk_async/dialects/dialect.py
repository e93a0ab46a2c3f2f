"""The promise of a dialect, and the phrases that all dialects share."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from navtalk_async.errors import (
    AccessDenied,
    ApiError,
    BadRequest,
    Conflict,
    NotFound,
    NotJson,
    RateLimited,
    Redirected,
    ServerError,
    WrongShape,
)
from navtalk_async.models import (
    KeyPlace,
    Message,
    Page,
    Record,
    Request,
    Response,
    Session,
    http_date,
    sort_out,
)

__all__ = [
    "Dialect",
    "api_error",
    "loads",
    "patiently",
    "retry_after",
    "whole_surrogates",
]

R = TypeVar("R", bound=Record)


class Dialect(Protocol):
    """What the client needs to know of an API, to ask it and to understand its answers.

    Each `read_…` raises an `ApiError` where the answer is a refusal, and a `DecodeFailed` where it is not
    what the reference says.
    """

    api: str
    """The API's short name, as stores and commands write it."""
    default_base_url: str
    key_place: KeyPlace
    key_variable: str
    """The environment variable that holds the key."""
    record_kinds: tuple[type[Session], type[Message]]
    """The structs that its sessions and messages are read into; they refuse fields they do not know."""

    def root(self, base_url: str) -> str:
        """*base_url* without what the paths of requests begin with."""
        ...

    def checked_id(self, session_id: str | UUID) -> str:
        """*session_id*, if it can be one; else a ValueError that says what one looks like."""
        ...

    def list_sessions(self, *args: Any, **filters: Any) -> Request:
        """The question for a first page of sessions."""
        ...

    def beginning(self, request: Request, moment: datetime) -> Request | None:
        """The question for the first page of those sessions of a list that begin at *moment* or later; None
        where the API cannot be asked that.
        """
        ...

    def get_session(self, session_id: str) -> Request:
        """The question for one session, by an id that is checked or comes from the API itself."""
        ...

    def list_messages(self, session_id: str, *args: Any, **filters: Any) -> Request:
        """The question for a first page of a session's messages, by an id as for `get_session`."""
        ...

    def rows(self, request: Request) -> int:
        """The most rows that the answer to *request*, a page of a list, may have."""
        ...

    def smaller(self, request: Request) -> Request | None:
        """The same question for a page of half as many rows; None where there is no smaller one."""
        ...

    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        """A page of sessions, out of the answer to *request*."""
        ...

    def read_session(self, request: Request, response: Response) -> Session:
        """One session, out of the answer to *request*."""
        ...

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        """A page of messages, out of the answer to *request*."""
        ...


ERRORS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    422: BadRequest,
    408: ServerError,
    425: ServerError,
    429: RateLimited,
}


def api_error(response: Response, *, code: int | None = None, message: object = None) -> ApiError:
    """The error that *response* stands for, by its status and its envelope's *code*."""
    number = _decisive(response.status, code)
    kind = ERRORS.get(number) or _by_hundred(number)
    text = str(message or "no reason given")[:500].rstrip(".")
    if kind is Redirected:
        target = response.headers.get("Location", "an unnamed place").partition("?")[0]
        text = f"it wants us to go to {target}"
    return kind(
        f"The server answered {number}: {text}.",
        status=response.status,
        code=code,
        retry_after=retry_after(response.headers),
    )


def _decisive(status: int, code: int | None) -> int:
    # A gateway's own 3xx and 429 outrank whatever stands in the body; else the body is the more precise.
    if code is None or status == 429 or 300 <= status < 400:
        return status
    return code if status == 200 or 400 <= code < 600 else status


def _by_hundred(number: int) -> type[ApiError]:
    kinds: dict[int, type[ApiError]] = {3: Redirected, 5: ServerError}
    return kinds.get(number // 100, ApiError)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a `Retry-After` header asks for (RFC 9110, section 10.2.3); None without one.

    A date is measured against the answer's own `Date`, so that our clock does not matter.
    """
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        then, now = http_date(value), http_date(headers.get("Date", ""))
        return None if then is None or now is None else max(0.0, (then - now).total_seconds())
    return max(0.0, seconds) if seconds < float("inf") else None


def loads(body: bytes, kind: Any) -> Any:
    """*body* decoded into *kind*.

    Raises:
        NotJson: *body* is no JSON.
        WrongShape: it is JSON of another shape; the message names the place.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as failure:
        shape = str(failure)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        raise NotJson(f"The answer is not JSON: {failure}. {_look(body)}") from None
    except RecursionError:
        shape = "it is nested too deeply"
    raise WrongShape(f"The answer is not what the API's reference says: {shape}.")


def _look(body: bytes) -> str:
    start = body[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<")):
        return "It is an HTML page."
    return f"It has {len(body)} bytes."


def patiently(kind: type[R], row: msgspec.Raw) -> R:
    """One *row* that does not fit *kind* to the letter: what fits is taken, the rest is kept in `raw`.

    Raises:
        WrongShape: it is no object, or has no id; without one it could not be told from another row.
    """
    fields = loads(bytes(row), dict[str, Any])
    values, _ = sort_out(kind, fields)
    if not isinstance(values["id"], str) or not values["id"]:
        raise WrongShape("The answer holds a row without an id.")
    return kind(**values, kept=evenly(fields, row))


def evenly(fields: dict[str, Any], row: msgspec.Raw) -> bytes:
    """*row* as a row that fits to the letter would be written, so that both compare equal; a number that
    nothing else can write stays as it is.
    """
    try:
        return msgspec.json.encode(fields)
    except (OverflowError, ValueError):
        return bytes(row)


ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def whole_surrogates(body: bytes) -> bytes:
    r"""*body* with every lone half of a surrogate pair (`\ud83d`) replaced by U+FFFD.

    Servers that cut a text after so many UTF-16 units leave such halves behind. They are no characters,
    no database takes them, and one of them would cost us the whole page.
    """
    return ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)
