"""What a server says of its own limits in the headers of an answer; nonsense is not believed."""

import email.utils
import re
import time
from collections.abc import Mapping
from typing import NamedTuple

from multidict import istr

__all__ = ["Hint", "hint"]

NAMES = (
    (istr("X-RateLimit-Remaining"), istr("X-RateLimit-Reset")),
    (istr("RateLimit-Remaining"), istr("RateLimit-Reset")),
)
WHOLE = istr("RateLimit")

SECONDS_SINCE_1970 = 1e8
"""A reset above this is a moment, and not a number of seconds to go: three years are no window of a limit."""

IN_ONE = re.compile(r"(?:^|;)\s*([rt])\s*=\s*(\d+)(?=\s*(?:;|,|$))").findall
"""`RateLimit: "default";r=50;t=30`, of the later drafts
(https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/)."""


class Hint(NamedTuple):
    """How many requests a server will take, and for how long no more than these."""

    remaining: int
    seconds: float


def hint(headers: Mapping[str, str]) -> Hint | None:
    """The hint that *headers* hold; None without one that makes sense."""
    for remaining_name, reset_name in NAMES:
        remaining = headers.get(remaining_name)
        if remaining is not None:
            return _made(remaining, headers.get(reset_name), headers)
    whole = headers.get(WHOLE)
    if whole is None:
        return None
    parts = dict(IN_ONE(whole))
    return _made(parts.get("r"), parts.get("t"), headers)


def _made(remaining: str | None, reset: str | None, headers: Mapping[str, str]) -> Hint | None:
    left, seconds = _number(remaining), _number(reset)
    if left is None or seconds is None:
        return None
    if seconds > SECONDS_SINCE_1970:
        # Measured by the server's own clock where it tells it, so that ours need not be right.
        served_at = _date(headers.get("Date"))
        seconds -= time.time() if served_at is None else served_at
    return Hint(int(left), seconds) if seconds > 0 else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < 1e12 else None


def _date(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
