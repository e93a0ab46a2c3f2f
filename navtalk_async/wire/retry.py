"""When to try again, and how long to wait first: judgement only, on values."""

from typing import Literal

import msgspec

from navtalk_async.errors import (
    ApiError,
    AttemptTimeout,
    BrokenBody,
    ConnectFailed,
    DecodeFailed,
    Disconnected,
    NavTalkError,
    RateLimited,
    ServerError,
)
from navtalk_async.models import Request

__all__ = [
    "LANES",
    "LONGEST_PAUSE",
    "Budget",
    "CallOptions",
    "Lane",
    "Retry",
    "asked_pause",
    "asks_for_a_pause",
    "backoff",
    "is_overloaded",
    "may_have_changed",
    "shared_pause",
    "should_retry",
]

Lane = Literal["interactive", "normal", "bulk"]

LANES: dict[Lane, int] = {"interactive": 0, "normal": 1, "bulk": 2}
"""The lanes, the one that goes first first."""

PASSING = (ServerError, Disconnected, BrokenBody, AttemptTimeout, ConnectFailed, DecodeFailed)
"""What another attempt may well cure. A garbled 200 is here too: proxies cut and replace bodies."""

NEVER_ARRIVED = ConnectFailed
"""What proves that the question never arrived, so that even a POST may be sent again. A 429 did arrive."""

WRONG_ADDRESS = (ConnectFailed, DecodeFailed)
"""What a wrong base URL looks like."""


LONGEST_PAUSE = 3600.0
"""Seconds for which a server is believed that it wants nothing asked; after them, one request finds out."""


SHORTEST_PAUSE, LONGEST_FIRST_PAUSE = 0.01, 0.5
"""Seconds of the first pauses where the server names none; in between, as long as it takes to answer."""


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How stubborn to be. With the defaults a call that keeps failing gives up after some 12 seconds.

    A call that changes something is only made again where nobody was reached: all else may have happened, or
    was refused, a 429 included.
    """

    attempts: int = 8
    """The most attempts for a call. 429 answers are waited out and do not count. One answer in ten being
    bad, eight attempts leave one call in a hundred million unanswered."""
    attempts_at_first: int = 4
    """The most for a server that has never yet answered well, where the failure looks like a wrong base
    URL: nobody should wait long to be told of a typing error."""
    base_seconds: float = 0.25
    cap_seconds: float = 8.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.attempts_at_first < 1:
            raise ValueError("A call needs at least one attempt.")
        if not 0 <= self.base_seconds <= self.cap_seconds:
            raise ValueError("base_seconds is not from 0 to cap_seconds.")


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How long a call may take, and how stubborn it is."""

    timeout: float | None = 300.0
    """Seconds for the whole call: its turn, every attempt and every pause. None: no end."""
    attempt_timeout: float = 60.0
    """Seconds for one attempt, its connection included."""
    retry: Retry = Retry()
    lane: Lane = "normal"
    """Who goes first where calls have to wait for each other."""

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout={self.timeout} leaves no time to ask; it is in seconds.")
        if not self.attempt_timeout > 0:
            raise ValueError(f"attempt_timeout={self.attempt_timeout} leaves no time to ask.")
        if self.lane not in LANES:
            raise ValueError(f"lane={self.lane!r} is none of {', '.join(map(repr, LANES))}.")


def should_retry(
    retry: Retry, request: Request, error: NavTalkError, *, attempt: int, known_server: bool
) -> bool:
    """Whether to ask again after *attempt* attempts that count, the last of which ended in *error*."""
    if not isinstance(error, (*PASSING, RateLimited) if request.repeatable else NEVER_ARRIVED):
        return False
    if isinstance(error, RateLimited):
        return True
    at_most = retry.attempts
    if not known_server and isinstance(error, WRONG_ADDRESS):
        at_most = min(at_most, retry.attempts_at_first)
    return attempt < at_most


def may_have_changed(request: Request, error: NavTalkError) -> bool:
    """Whether *request*, which was sent, was to change something and may have, although *error* came of it.

    A server that fails may do so half way, and an answer that cannot be read is one all the same; only who
    never connected, or was told no, knows that nothing happened.
    """
    if request.repeatable:
        return False
    match error:
        case ServerError():
            return True
        case ApiError() | ConnectFailed():
            return False
        case _:
            return True


def backoff(retry: Retry, attempt: int, chance: float) -> float:
    """The seconds to wait after *attempt* failed attempts; *chance* is from 0 to 1.

    Full jitter: clients that failed together do not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    exponent = min(attempt - 1, 30)
    return chance * min(retry.cap_seconds, retry.base_seconds * 2.0**exponent)


def asks_for_a_pause(error: NavTalkError) -> bool:
    """Whether the server refused for being asked too much, by anybody: then nobody should ask for a while."""
    return isinstance(error, RateLimited) or (
        isinstance(error, ServerError) and error.retry_after is not None
    )


def is_overloaded(error: NavTalkError) -> bool:
    """Whether the server refused for having too much to do, so that fewer should be asked at once."""
    return asks_for_a_pause(error) or (isinstance(error, ServerError) and 503 in (error.status, error.code))


def shared_pause(
    error: NavTalkError, strikes: int, chance: float, latency: float = LONGEST_FIRST_PAUSE
) -> float:
    """The seconds for which nobody should ask, after *strikes* refusals in a row (from 1).

    A server that names no time gets hardly any at first: where only too many were asking at once, the next
    answer makes room again. If it refuses again before it has answered anybody, it gets as long as its
    answers take, its *latency*, and twice as long every time, up to half a minute.
    """
    doubled = 2.0 ** min(strikes - 1, 12)
    asked = asked_pause(error)
    if not asked:
        latency = min(max(latency, SHORTEST_PAUSE), LONGEST_FIRST_PAUSE) if strikes > 1 else SHORTEST_PAUSE
        return min(30.0, latency * doubled * (0.75 + 0.5 * chance))
    # A little more than was asked, since all who were told the same second would be there in it; and more
    # each time, since a server that refuses again means something else.
    return min(asked, LONGEST_PAUSE) + chance * min(30.0, 0.1 * doubled)


def asked_pause(error: NavTalkError) -> float | None:
    """The seconds that the server named; None where it named none."""
    return error.retry_after if isinstance(error, ApiError) else None


class Budget:
    """What all calls together may spend on repeated attempts, so that an outage is not made worse.

    It holds up to 1,000 attempts. Every repeated attempt takes one, every good answer gives half a one back,
    so that a server of which every third answer is bad never exhausts it. In an outage, 1,000 attempts beyond
    the first of each call are made, and then each call is given up with its first error, until answers come
    again: over a long outage, a call costs the server one request and not eight. A 429 that is waited out
    costs nothing. There is one budget for each event loop.
    """

    MOST = 1000.0
    GIVEN_BACK = 0.5

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = self.MOST

    def spend(self) -> bool:
        """Take one attempt; False if there is none left."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True

    def earn(self) -> None:
        """A good answer came."""
        if self.left < self.MOST:
            self.left += self.GIVEN_BACK
