"""The phrases that all dialects share: refusals, JSON, rows that are not to the letter, and checks."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote
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
from navtalk_async.models import Record, Response, http_date, sort_out

__all__ = [
    "NOT_TO_THE_LETTER",
    "accepted",
    "api_error",
    "as_json",
    "as_part_of_a_path",
    "as_record",
    "done",
    "loads",
    "name_of_a_thing",
    "page_size",
    "patiently",
    "refused",
    "retry_after",
    "text",
    "whole_surrogates",
]

R = TypeVar("R", bound=Record)

NOT_TO_THE_LETTER = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for what is not as the reference has it."""

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


def api_error(
    response: Response,
    *,
    code: int | None = None,
    message: object = None,
    wait: float | None = None,
    details: Mapping[str, Any] | None = None,
) -> ApiError:
    """The error that *response* stands for, by its status and its envelope's *code*.

    *wait* is what its body asks for in seconds, *details* what else it says.
    """
    number = _decisive(response.status, code)
    kind = ERRORS.get(number) or _by_hundred(number)
    text = str(message or "no reason given").rstrip(".")
    if kind is Redirected:
        target = response.headers.get("Location", "an unnamed place").partition("?")[0]
        text = f"it wants us to go to {target}"
    return kind(
        f"The server answered {number}: {text}.",
        status=response.status,
        code=code,
        retry_after=_most(retry_after(response.headers), wait),
        details=dict(details or {}),
    )


def _most(*waits: float | None) -> float | None:
    return max((each for each in waits if each is not None), default=None)


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


def accepted(response: Response, kind: Any, refusal: Callable[[Response], ApiError]) -> Any:
    """What an answer holds, as *kind*; or what *refusal* makes of one that is no success.

    Raises:
        ApiError: it is none.
        DecodeFailed: it is one, and of another shape.
    """
    if not 200 <= response.status < 300:
        raise refusal(response)
    return loads(whole_surrogates(response.body), kind)


def done(response: Response, refusal: Callable[[Response], ApiError]) -> None:
    """Nothing, out of an answer that says no more than that it was done; a page of a proxy says less.

    Raises:
        ApiError: what *refusal* makes of an answer that is no success.
        DecodeFailed: it is one, and no JSON.
    """
    if response.body.strip() or not 200 <= response.status < 300:
        accepted(response, msgspec.Raw, refusal)


def refused(response: Response) -> ApiError:
    """What a refusal means, whichever of the usual forms it has: `{"detail": …}`, `{"error", "message"}`, and
    a wait in `retryAfter` or `retry_after`. What is no JSON is a refusal all the same.

    The error's `details` are the whole object.
    """
    fields = refusal_fields(response)
    try:
        told = [reason(fields.get(name)) for name in ("detail", "message", "error")]
    except RecursionError:
        told = []
    waits = [seconds(fields.get(name)) for name in ("retryAfter", "retry_after")]
    error = api_error(response, message=next(filter(None, told), None), wait=_most(*waits), details=fields)
    if isinstance(error, AccessDenied) and error.upgrade_instructions:
        error.next_step = error.upgrade_instructions
    return error


def refusal_fields(response: Response) -> dict[str, Any]:
    """The fields of the JSON object that the body of a refusal is; none where it is something else."""
    try:
        fields = msgspec.json.decode(whole_surrogates(response.body))
    except NOT_TO_THE_LETTER:
        return {}
    return fields if isinstance(fields, dict) else {}


def reason(detail: object) -> str | None:
    """What *detail* says: a text; or a list of what is wrong with each part of the question."""
    if isinstance(detail, list):
        return "; ".join(told.rstrip(".") for told in map(reason, detail) if told)
    if isinstance(detail, dict):
        place, told = detail.get("loc"), detail.get("msg")
        where = ".".join(map(str, place)) + ": " if isinstance(place, list) and place else ""
        return f"{where}{told}" if told else str(detail)
    return None if detail is None else str(detail)


def seconds(value: object) -> float | None:
    """The seconds that *value*, of a body, asks to wait; None where it asks for nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, number) if math.isfinite(number) else None


def as_record(kind: type[R], row: bytes | msgspec.Raw) -> R:
    """One *row* as *kind*, at full speed where it fits to the letter; see `patiently`.

    A kind that takes fields it does not know keeps the bytes of its row.
    """
    try:
        record = msgspec.json.decode(row, type=kind)
    except NOT_TO_THE_LETTER:
        return patiently(kind, row)
    if not record.id:
        raise WrongShape("The answer holds a row without an id.")
    if not kind.__struct_config__.forbid_unknown_fields:
        msgspec.structs.force_setattr(record, "kept", bytes(row))
    return record


def patiently(kind: type[R], row: bytes | msgspec.Raw) -> R:
    """One *row* that does not fit *kind* to the letter: what fits is taken, the rest is kept in `raw`. An id
    that is a whole number is its text.

    Raises:
        WrongShape: it is no object, or has no id; without one it could not be told from another row.
    """
    fields = loads(bytes(row), dict[str, Any])
    values, _ = sort_out(kind, fields)
    if not isinstance(values["id"], str) or not values["id"]:
        raise WrongShape("The answer holds a row without an id.")
    return kind(**values, kept=evenly(fields, row))


def evenly(fields: dict[str, Any], row: bytes | msgspec.Raw) -> bytes:
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


def page_size(limit: int | None, *, most: int, usual: int | None = None, name: str = "limit") -> str:
    """*limit*, or the *usual* one: by default *most*, the fewest requests for a walk.

    Raises:
        ValueError: *limit* is below 1 or above *most*; it is called *name* in the error.
    """
    if limit is None:
        return str(usual or most)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
        raise ValueError(f"{name}={limit!r} is not from 1 to {most}, the most the API gives in a page.")
    return str(limit)


def as_json(fields: Mapping[str, Any]) -> bytes:
    """*fields* as the body of a request.

    Raises:
        ValueError: JSON has no form for something in them, or their `metadata` is no object.
    """
    if not isinstance(fields.get("metadata", {}), dict):
        raise ValueError(f"metadata={fields['metadata']!r} is no dict.")
    try:
        body = json.dumps(fields, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        check_keys(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as failure:
        raise ValueError(f"This cannot be written as JSON: {failure}.") from None
    return body


def check_keys(value: Any) -> None:
    """Raise a ValueError for a key in *value* that JSON would have to make a text of."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is no text")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            check_keys(each)


HALF_OF_A_CHARACTER = re.compile("[\\ud800-\\udfff]").search


def text(name: str, value: str) -> str:
    """*value*, if it says anything.

    Raises:
        ValueError: it does not, is no text, or holds half of a character; *name* is told in the error.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r} says nothing.")
    if HALF_OF_A_CHARACTER(value):
        raise ValueError(f"{name}={value!r} holds half of a character.")
    return value


NO_PART_OF_A_NAME = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]").search
"""Control characters and halves of surrogate pairs (the Unicode categories Cc and Cs)."""


def name_of_a_thing(what: str, text: object) -> str:
    """*text*, if it can be the id of anything; *what* it is the id of is told in the error.

    Raises:
        ValueError: it is empty, no text, or holds a control character or half of a character.
    """
    told = str(text) if isinstance(text, UUID) else text
    if not isinstance(told, str) or not told.strip() or told in (".", "..") or NO_PART_OF_A_NAME(told):
        raise ValueError(f"{text!r} cannot be the id of any {what}.")
    return told


def as_part_of_a_path(text: str) -> str:
    """*text*, an id, as a single part of a path: whatever it holds, it leads nowhere else.

    Raises:
        WrongShape: it would lead to another place, as the API's own id may.
    """
    if text in ("", ".", ".."):
        raise WrongShape(f"{text!r} is no id.")
    return quote(text, safe="")
