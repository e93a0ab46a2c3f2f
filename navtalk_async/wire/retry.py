"""When to retry, and how long to wait first: judgement only, on values."""

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
    UnknownHost,
    UntrustedCertificate,
)
from navtalk_async.models import Request

__all__ = ["LANES", "CallOptions", "Lane", "Retry"]

Lane = Literal["interactive", "normal", "bulk"]

# The lanes, in the order in which they go.
LANES: dict[Lane, int] = {"interactive": 0, "normal": 1, "bulk": 2}
# Errors that a retry may well cure. A garbled 200 is here too: proxies cut and replace bodies.
PASSING = (ServerError, Disconnected, BrokenBody, AttemptTimeout, ConnectFailed, DecodeFailed)
# The proof that the request never arrived, so that even a POST may be sent again. A 429 did arrive.
NEVER_ARRIVED = ConnectFailed
WRONG_ADDRESS = (ConnectFailed, DecodeFailed)  # the errors of a wrong base URL
# The errors of a server that is away, or of the proxy before it; and those that no waiting cures.
AWAY = (ServerError, Disconnected, BrokenBody, AttemptTimeout, ConnectFailed)
WRONG_NAME = (UnknownHost, UntrustedCertificate)
LONGEST_PAUSE = 3600.0  # the most seconds that a server can ask for; after them, one request finds out
# Seconds of the first pauses where the server names none; in between, as long as it takes to answer.
SHORTEST_PAUSE, LONGEST_FIRST_PAUSE = 0.01, 0.5


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often to retry. With the defaults a call that keeps failing gives up after some 12 seconds.

    A call that changes something is only retried where no server was reached: all else may have happened, or
    was refused, a 429 included.
    """

    attempts: int = 8
    """The most attempts for a call. 429 answers are waited out and do not count. One answer in ten being
    bad, eight attempts leave one call in a hundred million unanswered."""
    attempts_at_first: int = 4
    """The most for a server that has never yet answered well, where the failure looks like a wrong base
    URL: a typing error should be reported soon."""
    base_seconds: float = 0.25
    cap_seconds: float = 8.0
    outage: float = 0.0
    """Seconds for which a call that changes nothing waits for a server that is away, after its attempts:
    since the first failure after the latest good answer of any call. Meanwhile one request at a time finds
    out whether it is back, with pauses of up to 5 s. The call's `timeout` ends it all the same. An unknown
    host name or an untrusted certificate is no outage."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.attempts_at_first < 1:
            raise ValueError("A call needs at least one attempt.")
        if not 0 <= self.base_seconds <= self.cap_seconds:
            raise ValueError("base_seconds is not from 0 to cap_seconds.")
        if not self.outage >= 0:
            raise ValueError(f"outage={self.outage} is no number of seconds from 0.")


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How long a call may take, how often it is retried, and its lane."""

    timeout: float | None = 300.0
    """Seconds for the whole call: its turn, every attempt and every pause. None: no end."""
    attempt_timeout: float = 60.0
    """Seconds for one attempt, its connection included."""
    retry: Retry = Retry()
    lane: Lane = "normal"
    """Which calls go first where they have to wait for each other."""
    shows_outage: bool = True
    """Whether a 5xx or a broken connection of this call alone may be an outage; not for one of many things to
    fetch, which can be left out."""

    def __post_init__(self) -> None:
        for name, seconds in (("timeout", self.timeout), ("attempt_timeout", self.attempt_timeout)):
            if seconds is None and name == "timeout":
                continue
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
                raise TypeError(f"{name}={seconds!r} is not a number of seconds.")
            if not seconds > 0:
                raise ValueError(f"{name}={seconds} leaves no time to ask; it is in seconds.")
        if not isinstance(self.retry, Retry):
            raise TypeError(f"retry={self.retry!r} is not a Retry: pass Retry(attempts=3), say.")
        if self.lane not in LANES:
            raise ValueError(f"lane={self.lane!r} is none of {', '.join(map(repr, LANES))}.")


def should_retry(
    retry: Retry, request: Request, error: NavTalkError, *, attempt: int, known_server: bool
) -> bool:
    """Whether to retry after *attempt* attempts that count, the last of which ended in *error*."""
    if not isinstance(error, (*PASSING, RateLimited) if request.repeatable else NEVER_ARRIVED):
        return False
    if isinstance(error, UntrustedCertificate):
        return False
    if isinstance(error, RateLimited):
        return True
    at_most = retry.attempts
    if not known_server and isinstance(error, WRONG_ADDRESS):
        at_most = min(at_most, retry.attempts_at_first)
    return attempt < at_most


def is_absence(error: NavTalkError) -> bool:
    """Whether *error* may mean that the server is away."""
    return isinstance(error, AWAY) and not isinstance(error, WRONG_NAME)


def may_have_changed(request: Request, error: NavTalkError) -> bool:
    """Whether *request*, which ended in *error*, may have changed something all the same.

    A server may fail half way, and an answer that cannot be read is an answer; only a request that never
    connected, or was refused, has certainly changed nothing.
    """
    if request.repeatable:
        return False
    return isinstance(error, ServerError) or not isinstance(error, (ApiError, ConnectFailed))


def backoff(retry: Retry, attempt: int, chance: float) -> float:
    """The seconds to wait after *attempt* failed attempts; *chance* is from 0 to 1.

    Full jitter: clients that failed together do not come back together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    exponent = min(attempt - 1, 30)
    return chance * min(retry.cap_seconds, retry.base_seconds * 2.0**exponent)


def asks_for_a_pause(error: NavTalkError) -> bool:
    """Whether the server got too many requests, from anywhere: then no call should be sent for a while."""
    return isinstance(error, RateLimited) or (
        isinstance(error, ServerError) and error.retry_after is not None
    )


def is_overloaded(error: NavTalkError) -> bool:
    """Whether the server has too much to do, so that fewer requests should be sent at once."""
    return asks_for_a_pause(error) or (isinstance(error, ServerError) and 503 in (error.status, error.code))


def shared_pause(
    error: NavTalkError, refusals: int, chance: float, latency: float = LONGEST_FIRST_PAUSE
) -> float:
    """The seconds for which no call should be sent, after *refusals* in a row (from 1).

    A server that names no time gets hardly any at first: where only too many requests came at once, the next
    answer makes room again. If it refuses again before any good answer, it gets as long as its answers take,
    its *latency*, and twice as long every time, up to half a minute.
    """
    doubled = 2.0 ** min(refusals - 1, 12)
    asked = asked_pause(error)
    if not asked:
        latency = min(max(latency, SHORTEST_PAUSE), LONGEST_FIRST_PAUSE) if refusals > 1 else SHORTEST_PAUSE
        return min(30.0, latency * doubled * (0.75 + 0.5 * chance))
    # A little more than was asked, since every client with the same second would come in it; and more each
    # time, since a server that refuses again means something else.
    return min(asked, LONGEST_PAUSE) + chance * min(30.0, 0.1 * doubled)


def asked_pause(error: NavTalkError) -> float | None:
    """The seconds that the server named; None where it named none."""
    return error.retry_after if isinstance(error, ApiError) else None


class Budget:
    """The retries that all calls together may make, so that an outage is not made worse.

    It holds up to 1,000 attempts. Every repeated attempt takes one, every good answer gives half a one back,
    so that a server of which every third answer is bad never exhausts it. In an outage, 1,000 attempts beyond
    the first of each call are made, and then each call is given up with its first error, until answers come
    again: over a long outage, a call costs the server one request and not eight. A 429 that is waited out
    costs nothing. There is one budget for each event loop.
    """

    MOST = 1000.0

    def __init__(self) -> None:
        self.left: float = self.MOST

    def spend(self) -> bool:
        """Take one attempt; False if there is none left."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True

    def earn(self) -> None:
        """Count a good answer."""
        if self.left < self.MOST:
            self.left += 0.5
