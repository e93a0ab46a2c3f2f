"""What may be asked: the arguments of lists and calls, checked before anything is sent."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec

from navtalk_async.errors import WrongShape
from navtalk_async.models import OpenEnum

__all__ = [
    "Argument",
    "a_text",
    "an_id",
    "checked_id",
    "filled",
    "instance_of",
    "number_of",
    "one_of",
    "quoted",
    "to_json",
]

Check = Callable[[str, Any], Any]
"""Returns a value as the API takes it, by the argument's name; raises a ValueError for a wrong one."""


class Argument(msgspec.Struct, frozen=True):
    """An argument of a call, or of a list beside those of its paging."""

    check: Check
    param: str = ""
    """Its name on the wire, if that is another one."""
    default: str | None = None
    required: bool = False
    """Whether None is no value; otherwise it leaves the argument out."""
    selects: bool = True
    """Whether it decides which rows a list has, and not only their order."""


def filled(
    path: str, arguments: Mapping[str, Argument], given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """*path* with the values *given* for the places it names, and the parameters that all others are."""
    params: dict[str, Any] = {}
    for name, each in arguments.items():
        value = given.get(name, each.default)
        if value is None and not each.required:
            continue
        checked, place = each.check(name, value), f"{{{name}}}"
        if place in path:
            path = path.replace(place, quoted(checked))
        else:
            params[each.param or name] = checked
    return path, params


def to_json(fields: Mapping[str, Any]) -> bytes:
    """*fields* as the body of a request; a ValueError for what JSON cannot hold."""
    try:
        body = json.dumps(fields, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
        _check_keys(fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as failure:
        raise ValueError(f"This cannot be written as JSON: {failure}.") from None
    return body


def _check_keys(value: Any) -> None:
    # `json` turns some keys that are no text into one.
    inner: Any = value
    if isinstance(value, dict):
        for key in inner:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is no text")
        inner = inner.values()
    if isinstance(value, dict | list | tuple):
        for each in inner:
            _check_keys(each)


LONE_SURROGATE = re.compile("[\\ud800-\\udfff]").search
NO_PART_OF_AN_ID = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff]").search


def a_text(name: str, value: Any) -> str:
    """Check a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r} is blank or no text.")
    if LONE_SURROGATE(value):
        raise ValueError(f"{name}={value!r} holds half of a surrogate pair.")
    return value


def instance_of(kind: type, name_of_kind: str) -> Check:
    """Checks that a value is of the type *kind*."""

    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise ValueError(f"{name}={value!r} is no {name_of_kind}.")
        return value

    return check


def checked_id(what: str, value: object) -> str:
    """*value*, the id of a *what*; a ValueError if it is blank, no text, or holds a control character or half
    of a surrogate pair.
    """
    found = str(value) if isinstance(value, UUID) else value
    if not isinstance(found, str) or not found.strip() or found in (".", "..") or NO_PART_OF_AN_ID(found):
        raise ValueError(f"{value!r} cannot be the id of any {what}.")
    return found


def an_id(what: str) -> Check:
    """Checks the id of a *what*."""
    return lambda _, value: checked_id(what, value)


def quoted(text: str) -> str:
    """*text*, an id, as a single part of a path; a WrongShape for an id of the API that would change it."""
    if text in ("", ".", ".."):
        raise WrongShape(f"{text!r} is no id.")
    return quote(text, safe="")


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
