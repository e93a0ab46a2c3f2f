"""The filters of a project, in the words of exported files."""

from collections.abc import Mapping
from typing import Any

from navtalk_async.archive.rows import iso
from navtalk_async.models import Role, SessionStatus, format_word

__all__ = ["in_words"]


def in_words(scope: Mapping[str, Any]) -> dict[str, Any]:
    """*scope*, as an archive remembers it, with times and enums as they are written of sessions."""
    told = dict(scope)
    for name in told.keys() & {"start", "end"}:
        told[name] = iso(told[name])
    for name, kind in (("status", SessionStatus), ("role", Role)):
        if name in told:
            told[name] = format_word(kind(told[name]))
    return told
