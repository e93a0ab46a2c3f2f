"""What may be asked: ids, texts, page sizes and bodies, checked before anything is sent."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

from navtalk_async.errors import WrongShape
from navtalk_async.models import OpenEnum

__all__ = ["an_id", "checked_id", "number_of", "one_of", "page_size", "quoted", "text", "to_json"]

Check = Callable[[str, Any], str]
"""Returns the text of a value for the API, by the argument's name; raises a ValueError for a wrong one."""


def page_size(limit: int | None, *, most: int, usual: int | None = None, name: str = "limit") -> str:
    """*limit*, or else the *usual* one, or *most*; a ValueError below 1 and above *most*."""
    if limit is None:
        return str(usual or most)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= most:
        raise ValueError(f"{name}={limit!r} is not from 1 to {most}, the most the API gives in a page.")
    return str(limit)


def to_json(fields: Mapping[str, Any]) -> bytes:
    """*fields* as the body of a request, without those that are None; a ValueError for what JSON cannot hold,
    or `metadata` that is no dict.
    """
    fields = {name: value for name, value in fields.items() if value is not None}
    if not isinstance(fields.get("metadata", {}), dict):
        raise ValueError(f"metadata={fields['metadata']!r} is no dict.")
    try:
        body = json.dumps(fields, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        _check_keys(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as failure:
        raise ValueError(f"This cannot be written as JSON: {failure}.") from None
    return body


def _check_keys(value: Any) -> None:
    # `json` turns some keys that are no text into one.
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is no text")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            _check_keys(each)


LONE_SURROGATE = re.compile("[\\ud800-\\udfff]").search
NO_PART_OF_AN_ID = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]").search


def text(name: str, value: str) -> str:
    """*value*; a ValueError if it is blank, no text, or holds half of a surrogate pair."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r} is blank or no text.")
    if LONE_SURROGATE(value):
        raise ValueError(f"{name}={value!r} holds half of a surrogate pair.")
    return value


def checked_id(what: str, value: object) -> str:
    """*value*, the id of a *what*; a ValueError if it is blank, no text, or holds a control character or half
    of a surrogate pair.
    """
    found = str(value) if isinstance(value, UUID) else value
    if not isinstance(found, str) or not found.strip() or found in (".", "..") or NO_PART_OF_AN_ID(found):
        raise ValueError(f"{value!r} cannot be the id of any {what}.")
    return found


def quoted(text: str) -> str:
    """*text*, an id, as a single part of a path; a WrongShape for an id of the API that would change it."""
    if text in ("", ".", ".."):
        raise WrongShape(f"{text!r} is no id.")
    return quote(text, safe="")


def an_id(what: str) -> Check:
    """Checks the id of a *what*."""
    return lambda _, value: checked_id(what, value)


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
