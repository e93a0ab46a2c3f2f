"""What a server says about its limits in headers, in every usual spelling."""

import re
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from navtalk_async.times import http_date, parse_time

__all__ = ["SPELLINGS", "Hint", "hint", "wait_of"]

SPELLINGS = (
    ("X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Reset-After"),
    ("RateLimit-Remaining", "RateLimit-Reset"),
    ("X-Rate-Limit-Remaining", "X-Rate-Limit-Reset", "X-Rate-Limit-Reset-After"),
    ("RateLimit",),
)
"""The header that says how many requests are left, and those that say when there are more again; or the one
header that says both."""

WAITS = {"Retry-After": 1.0, "Retry-After-Ms": 1e-3, "X-Ms-Retry-After-Ms": 1e-3}
"""The headers that say how long to wait, and their unit in seconds."""

SINCE_1970 = 1e8
SINCE_1970_MS = 1e11
"""A number above these is a moment, and not seconds to go: three years are no window of a limit."""

# `"default";r=50;t=30, "day";r=9;t=3600` and `limit=10, remaining=3, reset=30`, of the drafts
# (https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/).
IN_ONE = re.compile(r"(?:^|[;,])\s*(r|t)\s*=\s*(\d+)(?=\s*(?:[;,]|$))").findall
SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


class Hint(NamedTuple):
    """How many requests a server will take, and for how long no more than these."""

    remaining: int
    seconds: float


def hint(
    headers: Mapping[str, str], spellings: Iterable[tuple[str, ...]] = SPELLINGS, missing: str | None = None
) -> Hint | None:
    """The hint that *headers* hold; None without one that makes sense. *missing* is how many are left where
    only the end is said.
    """
    for name, *resets in spellings:
        found = headers.get(name, missing if resets else None)
        if found is None:
            continue
        if not resets:
            return _combined(found, headers)
        reset = next(filter(None, (headers.get(each) for each in resets)), None)
        if reset is not None or missing is None:
            return _made(found, reset, headers)
    return None


def wait_of(headers: Mapping[str, str], *, is_full: bool) -> float | None:
    """The seconds that a refusal asks to wait; None where it names none.

    `Retry-After` (RFC 9110, section 10.2.3) or the same in milliseconds; where the server *is full*, also the
    end of a limit of which nothing is left.
    """
    for name, unit in WAITS.items():
        seconds = _seconds_in(headers.get(name, ""), headers, unit)
        if seconds is not None:
            return max(0.0, seconds)
    left = hint(headers, missing="0") if is_full else None
    return left.seconds if left is not None and left.remaining == 0 else None


def _combined(text: str, headers: Mapping[str, str]) -> Hint | None:
    """The tightest of the limits in one header."""
    text = text.replace("remaining", "r").replace("reset", "t")
    limits = [dict(IN_ONE(each)) for each in text.split(",")]
    if all(len(limit) < 2 for limit in limits):
        limits = [dict(IN_ONE(text))]
    hints = [_made(limit.get("r"), limit.get("t"), headers) for limit in limits]
    return min(filter(None, hints), key=lambda each: (each.remaining, -each.seconds), default=None)


def _made(remaining: str | None, reset: str | None, headers: Mapping[str, str]) -> Hint | None:
    seconds = _seconds_in(reset or "", headers)
    try:
        left = float(remaining or "")
    except ValueError:
        return None
    return Hint(int(left), seconds) if 0 <= left < 1e12 and seconds is not None and seconds > 0 else None


def _seconds_in(text: str, headers: Mapping[str, str], unit: float = 1.0) -> float | None:
    """The seconds from now that *text* means: a number, a span such as `1m30s`, or a moment. Moments are
    measured by the server's own clock where it tells it, so that ours need not be right.
    """
    text = text.strip()
    try:
        number = float(text) * unit
    except ValueError:
        return _until(text, headers) if text else None
    if not abs(number) < 1e15:  # nan too
        return None
    if number > SINCE_1970:
        return number / (1000 if number > SINCE_1970_MS else 1) - _served_at(headers)
    return number


def _until(text: str, headers: Mapping[str, str]) -> float | None:
    if span := SPAN.fullmatch(text):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in span.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    moment = parse_time(text)
    return None if moment is None else moment.timestamp() - _served_at(headers)


def _served_at(headers: Mapping[str, str]) -> float:
    date = http_date(headers.get("Date") or "")
    return time.time() if date is None else date.timestamp()
