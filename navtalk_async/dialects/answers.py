"""What an answer holds: JSON, rows that may differ from the reference, and refusals in all their forms."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NoReturn, TypeVar

import msgspec

from navtalk_async.errors import (
    AccessDenied,
    ApiError,
    BadRequest,
    Conflict,
    DecodeFailed,
    NotFound,
    NotJson,
    RateLimited,
    Redirected,
    ServerError,
    WrongShape,
)
from navtalk_async.lenient_json import DECODE_ERRORS, decode_json, is_list, is_object, valid_utf8
from navtalk_async.models import Record, Request, Response, sort_out
from navtalk_async.rate_headers import wait_of

__all__ = [
    "accepted",
    "decode_lenient",
    "differs",
    "loads",
    "object_of",
    "parse_each",
    "parse_record",
    "parse_records",
    "read_done",
    "reader",
    "refuse",
    "refused",
]

R = TypeVar("R", bound=Record)
T = TypeVar("T")

LONG = 1 << 16
"""The most bytes of a field of a long refusal."""

BACKSLASH = ord("\\")
SPARE_ESCAPE = re.compile(rb"\\[u/]")
# A number that may be too large to be one: with an exponent, or of many digits.
MAY_BE_NO_NUMBER = re.compile(rb"[0-9][eE]|[0-9]{19}")


def loads(body: bytes | msgspec.Raw, kind: Any) -> Any:
    """*body*, made strict where need be, as *kind*; a NotJson or a WrongShape for anything else."""
    try:
        return decode_json(body, kind)
    except msgspec.ValidationError as failure:
        shape = str(failure)
    except (msgspec.DecodeError, UnicodeDecodeError) as failure:
        is_page = bytes(body)[:200].lstrip().startswith(b"<")
        look = "It is an HTML page." if is_page else f"It has {len(bytes(body))} bytes."
        raise NotJson(f"The answer is not JSON: {failure}. {look}") from None
    except RecursionError:
        shape = "it is nested too deeply"
    raise differs(shape)


def differs(how: str) -> WrongShape:
    """The error of an answer that is not as documented."""
    return WrongShape(f"The answer is not what the API's reference says: {how}.")


def parse_record(kind: type[R], row: bytes | msgspec.Raw) -> R:
    """One *row* as *kind*, at full speed where every field fits, else by `decode_lenient`.

    A kind that takes fields it does not know keeps the bytes of its row.
    """
    try:
        record = msgspec.json.decode(row, type=kind)
    except DECODE_ERRORS:
        return decode_lenient(kind, row)
    if not record.id:
        raise WrongShape("The answer holds a row without an id.")
    if not kind.__struct_config__.forbid_unknown_fields:
        msgspec.structs.force_setattr(record, "kept", bytes(row))
    return record


def parse_each(kind: type[R], rows: Sequence[bytes]) -> list[R]:
    """Each of *rows* as by `parse_record`, in a third of the time where every field of every row fits."""
    try:
        records = list(map(msgspec.json.Decoder(kind).decode, rows))
    except DECODE_ERRORS:
        records = []
    if len(records) < len(rows) or not all(map(attrgetter("id"), records)):
        return [parse_record(kind, row) for row in rows]
    if not kind.__struct_config__.forbid_unknown_fields:
        for record, row in zip(records, rows, strict=True):
            msgspec.structs.force_setattr(record, "kept", row)
    return records


def parse_records(kind: type[R], rows: Iterable[bytes | msgspec.Raw]) -> Iterable[R | None]:
    """Each of *rows* as by `parse_record`, which is slow where every row has a field more; None for a row
    that is no object or has no id.
    """
    if not kind.__struct_config__.forbid_unknown_fields:
        yield from (_parse(parse_record, kind, row) for row in rows)
        return
    decode, set_field = _with_new_fields(kind).decode, msgspec.structs.force_setattr
    is_compact, clue = None, b""
    for each in rows:
        row = bytes(each)
        try:
            record = decode(row)
        except DECODE_ERRORS:
            yield _parse(decode_lenient, kind, row)
            continue
        set_field(record, "__class__", kind)
        try:
            if is_compact is None:
                is_compact, clue = _normal(row) == row, _new_name(kind, row)
            elif MAY_BE_NO_NUMBER.search(row):
                msgspec.json.decode(row)
            # One server writes all rows alike, but for what it escapes without need.
            if not is_compact or (BACKSLASH in row and SPARE_ESCAPE.search(row)):
                row = _normal(row)
        except DECODE_ERRORS:
            # A field that was passed over, such as 1e999, is not what every reader takes.
            yield _parse(decode_lenient, kind, row)
            continue
        # Within a text, the quotes of a name would be escaped.
        is_new = clue and row.find(clue) >= 0
        if not is_new and len(row) == len(msgspec.json.encode(record)):
            yield _parse(parse_record, kind, row)
        else:
            set_field(record, "kept", row)
            yield record if record.id else None


def _new_name(kind: type[R], row: bytes) -> bytes:
    """How a field of *row* that *kind* does not know begins; empty where it has none."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    names = msgspec.json.decode(row, type=dict[str, msgspec.Raw])
    # All fields of these kinds are plain values, which hold no other names.
    return next((msgspec.json.encode(name) + b":" for name in names if name not in known), b"")


def _parse(
    parse: Callable[[type[R], bytes | msgspec.Raw], R], kind: type[R], row: bytes | msgspec.Raw
) -> R | None:
    try:
        return parse(kind, row)
    except DecodeFailed:
        return None


@lru_cache
def _with_new_fields(kind: type[Record]) -> msgspec.json.Decoder[Any]:
    """What reads a *kind* that refuses fields it does not know, with such fields."""
    # A subclass without fields of its own has the layout of its base, so that its instances may become those.
    return msgspec.json.Decoder(
        msgspec.defstruct(
            kind.__name__, [], bases=(kind,), forbid_unknown_fields=False, frozen=True, kw_only=True, gc=False
        )
    )


def _normal(row: bytes) -> bytes:
    """*row* as a row of which every field fits would be written, so that both compare equal."""
    return msgspec.json.encode(msgspec.json.decode(row))


def decode_lenient(kind: type[R], row: bytes | msgspec.Raw) -> R:
    """One *row* of which some field does not fit *kind*: the fields that fit are taken, `raw` keeps the rest.
    An id that is a whole number becomes its text; a WrongShape if it has no id, or is no object.
    """
    fields = loads(row, dict[str, Any])
    values, _ = sort_out(kind, fields)
    if not isinstance(values["id"], str) or not values["id"]:
        raise WrongShape("The answer holds a row without an id.")
    try:
        # As a row of which every field fits would be written, so that both compare equal.
        kept = msgspec.json.encode(fields)
    except (OverflowError, ValueError):
        kept = bytes(row)
    return kind(**values, kept=kept)


ERRORS: dict[int, type[ApiError]] = {
    **dict.fromkeys((400, 422), BadRequest),
    **dict.fromkeys((401, 403), AccessDenied),
    **dict.fromkeys((408, 425), ServerError),
    404: NotFound,
    409: Conflict,
    429: RateLimited,
}
BY_HUNDRED: dict[int, type[ApiError]] = {3: Redirected, 5: ServerError}


def _decisive(status: int, code: int | None) -> int:
    # A gateway's own 3xx and 429 outrank whatever stands in the body; else the body is the more precise.
    if code is None or status == 429 or 300 <= status < 400:
        return status
    return code if status == 200 or 400 <= code < 600 else status


def accepted(response: Response, kind: Any) -> Any:
    """What an answer holds, as *kind*; an ApiError for a refusal, a DecodeFailed for another shape."""
    if not 200 <= response.status < 300:
        raise refused(response)
    return loads(valid_utf8(response.body), kind)


def reader(kind: type[T]) -> Callable[[Request, Response], T]:
    """What reads the one *kind* that an answer holds, as by `accepted`."""

    def read(_: Request, response: Response) -> T:
        if issubclass(kind, Record):
            return parse_record(kind, accepted(response, msgspec.Raw))
        found: T = accepted(response, kind)
        return found

    return read


def read_done(_: Request, response: Response) -> None:
    """Check an answer that says no more than that something was done, as by `accepted`; it may be empty."""
    if response.body.strip() or not 200 <= response.status < 300:
        accepted(response, msgspec.Raw)


def refused(response: Response, code: int | None = None) -> ApiError:
    """The error of a refusal in any of the usual forms: `{"detail": …}`, `{"error", "message"}`, a wait in
    `retryAfter` or `retry_after`, or no JSON at all. Its `details` are the whole object; *code* is that of an
    envelope.
    """
    fields, number = object_of(response), _decisive(response.status, code)
    kind = ERRORS.get(number) or BY_HUNDRED.get(number // 100, ApiError)
    waits = [_seconds(fields.get(name)) for name in ("retryAfter", "retry_after")]
    waits.append(wait_of(response.headers, is_full=number in (429, 503)))
    error = kind(
        f"The server answered {number}: {_reason_of(kind, response, fields)}.",
        status=response.status,
        code=code,
        retry_after=max((wait for wait in waits if wait is not None), default=None),
        details=fields,
    )
    if isinstance(error, AccessDenied) and error.upgrade_instructions:
        error.next_step = error.upgrade_instructions
    return error


def _reason_of(kind: type[ApiError], response: Response, fields: Mapping[str, Any]) -> str:
    if kind is Redirected:
        target = response.headers.get("Location", "an unnamed place").partition("?")[0]
        return f"it wants us to go to {target}"
    try:
        reasons = [_detail_text(fields.get(name)) for name in ("detail", "message", "error")]
    except RecursionError:
        reasons = []
    return next(filter(None, reasons), "no reason given").rstrip(".")


def refuse(_: Request, response: Response) -> NoReturn:
    """Raise what an answer means that is no stream."""
    raise refused(response)


def object_of(response: Response) -> dict[str, Any]:
    """The object that an answer is; empty where it is none. Of a long one, texts are cut, and other long
    fields are left out: they would take fifty times the body.
    """
    try:
        if len(response.body) <= LONG:
            fields = decode_json(response.body)
        else:
            raws = decode_json(response.body, dict[str, msgspec.Raw])
            fields = {name: _cut(raw) for name, raw in raws.items() if _is_short(raw) or _is_text(raw)}
    except DECODE_ERRORS:
        return {}
    return fields if is_object(fields) else {}


def _is_short(raw: msgspec.Raw) -> bool:
    return memoryview(raw).nbytes <= LONG


def _is_text(raw: msgspec.Raw) -> bool:
    return memoryview(raw)[0] == ord('"')


def _cut(raw: msgspec.Raw) -> Any:
    return decode_json(raw) if _is_short(raw) else decode_json(raw, str)[:LONG]


def _detail_text(detail: object) -> str | None:
    if is_list(detail):
        return "; ".join(each.rstrip(".") for each in map(_detail_text, detail) if each)
    if is_object(detail):
        place, message = detail.get("loc"), detail.get("msg")
        where = ".".join(map(str, place)) + ": " if is_list(place) and place else ""
        return f"{where}{message}" if message else str(detail)
    return None if detail is None else str(detail)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, number) if math.isfinite(number) else None
