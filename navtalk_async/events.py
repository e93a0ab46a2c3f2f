"""What a client is doing, as events and as counts."""

import logging
from collections.abc import Callable

import msgspec

from navtalk_async.errors import NavTalkError, counted

__all__ = [
    "Answered",
    "CursorRefused",
    "Event",
    "Failed",
    "ListMoved",
    "ListedSerially",
    "Observer",
    "Outage",
    "RowsSkipped",
    "Stats",
    "Waiting",
    "announce",
    "is_watched",
]

logger: logging.Logger = logging.getLogger("navtalk_async")


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A call got its answer, and the answer was decoded."""

    path: str
    attempts: int
    seconds: float
    """From sending the last attempt to the end of decoding its answer."""


class Failed(msgspec.Struct, frozen=True, gc=False):
    """An attempt failed, and another may follow; or the time for the call passed before its turn came."""

    path: str
    attempt: int
    error: str
    """The error's class and message."""


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """Nothing is sent for a while."""

    seconds: float
    reason: str


class Outage(msgspec.Struct, frozen=True, gc=False):
    """The server is away; calls wait for it to come back. Announced once each time."""

    seconds: float
    """The most that they wait."""
    reason: str
    """The class and message of the latest attempt's error."""

    def __str__(self) -> str:
        span = f"{self.seconds:g}s" if self.seconds % 60 else f"{self.seconds / 60:g}m"
        return f"The API does not answer ({self.reason.rstrip('.')}); trying again for up to {span}."


class ListedSerially(msgspec.Struct, frozen=True, gc=False):
    """A long list is walked page by page, because a walk from many places might lose rows."""

    reason: str


class ListMoved(msgspec.Struct, frozen=True, gc=False):
    """The rows of a list that is paged by offset moved during the walk, so parts were listed again; or the
    list's total differs from the number of its rows. Announced once per list, at its end.
    """

    path: str
    reason: str


class RowsSkipped(msgspec.Struct, frozen=True, gc=False):
    """A page held rows that cannot be read: they are null, or have no id. The others were read."""

    path: str
    rows: int

    def __str__(self) -> str:
        return f"Skipped {counted(self.rows, 'row')} of {self.path} that cannot be read (null, or no id)."


class CursorRefused(msgspec.Struct, frozen=True, gc=False):
    """The server did not accept the cursor of a next page of sessions, which may have expired."""

    path: str
    reason: str
    """What the server answered."""
    since: str | None
    """The time (UTC) from which the list goes on; None where it is listed again from its begin."""

    def __str__(self) -> str:
        where = "from the beginning" if self.since is None else f"from {self.since}"
        return f"The page cursor expired; listing again {where}."


Event = Answered | Failed | Waiting | Outage | ListedSerially | ListMoved | CursorRefused | RowsSkipped


Observer = Callable[[Event], None]
"""Called with each event, in the event loop: it should be quick."""


class Stats(msgspec.Struct):
    """What a client has done since it was made, and how much time its calls spent on what.

    The seconds are added up over all calls, which run at the same time: a hundred calls that wait for one
    second are a hundred seconds.
    """

    requests: int = 0
    """Attempts sent, including failed ones."""
    retries: int = 0
    """Attempts beyond the first of each call."""
    answers: int = 0
    """Calls that got their answer."""
    refused: int = 0
    """Answers of an overloaded server: 429, 503."""
    in_flight: int = 0
    """Attempts on their way now."""
    waiting: int = 0
    """Calls that wait for their turn now."""
    limit: int = 0
    """The most attempts at once that are allowed now, in one event loop; 0 before the first call."""
    rate: float | None = None
    """The most requests a second that are allowed now, set or learned; None for no limit."""
    turn_seconds: float = 0.0
    """Waiting for a turn, by the limit or by the rate."""
    paused_seconds: float = 0.0
    """Waiting because the server asked for a pause."""
    backoff_seconds: float = 0.0
    """Waiting between two attempts of a call."""
    network_seconds: float = 0.0
    """From sending an attempt to the end of its answer."""
    decode_seconds: float = 0.0
    """Decoding answers."""
    loop_lag: float = 0.0
    """How many seconds late the event loop was lately; 0 where the concurrency is a fixed number."""
    paused_for: float = 0.0
    """Seconds until the pause that the server asked for ends, in any event loop."""
    expired: int = 0
    """Calls whose time passed before it was their turn."""

    @property
    def why_slow(self) -> str:
        """What most of the time was spent on, in one sentence."""
        spent = {name: getattr(self, name) for name in REASONS}
        total = sum(spent.values())
        if not total:
            return "No time was spent yet."
        most = max(spent, key=spent.__getitem__)
        rate = "" if self.rate is None else f", and {self.rate:.3g} a second"
        reason = REASONS[most].format(limit=self.limit, rate=rate)
        late = ""
        if self.loop_lag >= LATE_SECONDS:
            late = f" The event loop is {1000 * self.loop_lag:.0f} ms late: this program has much to do."
        return f"{spent[most] / total:.0%} of the time was spent {reason}.{late}"


LATE_SECONDS = 0.010
"""An event loop that takes longer for all that is ready has too much to do."""

REASONS = {
    "turn_seconds": "waiting for a turn: {limit} requests at once are allowed{rate}",
    "paused_seconds": "in pauses that the server asked for",
    "backoff_seconds": "waiting to retry failed attempts",
    "network_seconds": "on the network and the server",
    "decode_seconds": "decoding answers on this machine",
}


def in_short(error: NavTalkError) -> str:
    """The class and the message of *error*."""
    return f"{type(error).__name__}: {error.args[0]}"


def announce(observer: Observer | None, event: Event) -> None:
    """Pass *event* to the log and to *observer*, whose errors are logged and never break a call."""
    logger.debug("%r", event)
    if observer is None:
        return
    try:
        observer(event)
    except Exception:
        logger.exception("The on_event callback raised; the call goes on.")


def is_watched(observer: Observer | None) -> bool:
    """Whether an event has an observer or a log: if not, frequent events need not be made."""
    return observer is not None or logger.isEnabledFor(logging.DEBUG)
