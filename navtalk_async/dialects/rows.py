"""What is read out of an answer: JSON, and rows that may not be to the letter."""

import re
from typing import Any, TypeVar

import msgspec

from navtalk_async.errors import NotJson, WrongShape
from navtalk_async.models import Record, sort_out

__all__ = ["NOT_TO_THE_LETTER", "as_record", "loads", "patiently", "whole_surrogates"]


R = TypeVar("R", bound=Record)


NOT_TO_THE_LETTER = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for what is not as the reference has it."""


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
