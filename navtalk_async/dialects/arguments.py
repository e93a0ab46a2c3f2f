"""What may be asked: ids, texts, page sizes and bodies, checked before anything is sent."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

from navtalk_async.errors import WrongShape
from navtalk_async.models import OpenEnum

__all__ = [
    "an_id",
    "as_json",
    "as_part_of_a_path",
    "name_of_a_thing",
    "number_of",
    "one_of",
    "page_size",
    "text",
]

Check = Callable[[str, Any], str]
"""Returns the text of a value for the API, by the argument's name; raises a ValueError for a wrong one."""


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


def an_id(what: str) -> Check:
    """Checks the id of a *what*."""
    return lambda _, value: name_of_a_thing(what, value)


def one_of(*words: str) -> Check:
    """Checks one of the *words*."""

    def check(name: str, value: Any) -> str:
        if value not in words:
            raise ValueError(f"{name}={value!r} is neither {' nor '.join(map(repr, words))}.")
        return str(value)

    return check


def number_of(kind: type[OpenEnum]) -> Check:
    """Checks a member of *kind*, its word or its number; any number, since the API may have more."""
    words = {member.name.lower(): member.value for member in kind}

    def check(name: str, value: Any) -> str:
        found = words.get(value.lower()) if isinstance(value, str) else value
        if isinstance(found, bool) or not isinstance(found, int):
            raise ValueError(f"{name}={value!r} is neither {', '.join(words)} nor a whole number.")
        return str(int(found))

    return check
