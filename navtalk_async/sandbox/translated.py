"""From NavTalk's rows to those of the other APIs: what all of them have to say in another way."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zlib import crc32

from .table import Row

_SESSION: Final = frozenset({"id", "status", "startTime", "endTime", "videoUrl"})
_MESSAGE: Final = frozenset({"id", "role", "messageType", "content", "createdAt"})
_ROLES: Final = ("user", "assistant")


def zoned(time: str | None) -> str | None:
    """``2024-01-15 10:30:00`` as ``2024-01-15T10:30:00Z``."""
    return None if time is None else time.replace(" ", "T", 1) + "Z"


def stamped(moment: datetime) -> str:
    """The moment as a row has it, ``2024-01-15 10:30:00``."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def following(latest: str | None, moment: datetime) -> str:
    """When a new message is said: at *moment*, or a second after the *latest*, since ties have no order."""
    now = stamped(moment)
    if latest is None or latest < now:
        return now
    return (datetime.fromisoformat(latest) + timedelta(seconds=1)).isoformat(" ")


def role(number: int) -> str:
    """``user`` or ``assistant``, or for a number that NavTalk does not know either, a word nobody knows."""
    return _ROLES[number] if 0 <= number < len(_ROLES) else f"role-{number}"


def unknown(row: Row) -> dict[str, Any]:
    """The fields of a row that NavTalk's reference does not know, which no other API's does."""
    known = _MESSAGE if "createdAt" in row else _SESSION
    return {name: value for name, value in row.items() if name not in known}


def share(text: str, parts: int) -> int:
    """A number below *parts* that is always the same for the same *text*: how a world is split up."""
    return crc32(text.encode()) % parts


def user(session_id: str) -> str:
    """Whose a made-up session is: ``user-0`` has six of ten, ``user-1`` two, the other two one each."""
    return f"user-{'0000001123'[share(session_id, 10)]}"
