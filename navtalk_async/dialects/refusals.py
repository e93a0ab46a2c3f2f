"""What a refusal means, whichever form it has."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from navtalk_async.dialects.rows import NOT_TO_THE_LETTER, loads, whole_surrogates
from navtalk_async.errors import (
    AccessDenied,
    ApiError,
    BadRequest,
    Conflict,
    NotFound,
    RateLimited,
    Redirected,
    ServerError,
)
from navtalk_async.models import Response, http_date

__all__ = ["accepted", "api_error", "done", "refused", "retry_after"]


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
