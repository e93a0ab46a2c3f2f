"""What a client is doing, as events and as counts."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from navtalk_async.errors import NavTalkError, counted

__all__ = [
    "Answered",
    "CallInfo",
    "Counts",
    "CursorRefused",
    "Event",
    "Failed",
    "GaveUp",
    "ListMoved",
    "ListedSerially",
    "Observer",
    "Outage",
    "RowsSkipped",
    "Sent",
    "Started",
    "Stats",
    "Waiting",
    "announce",
    "is_watched",
]

logger: logging.Logger = logging.getLogger("navtalk_async")
event_logger: logging.Logger = logging.getLogger("navtalk_async.events")
# A program that sets up no logging sees none of the events.
event_logger.addHandler(logging.NullHandler())


class CallInfo(msgspec.Struct, frozen=True, gc=False):
    """A call: one request, with all its attempts."""

    id: int
    """A number that no other call of this process has."""
    operation: str
    """What is asked for, as `sessions.list`."""
    api: str
    method: str
    """The HTTP method."""
    path: str
    """It may hold ids."""
    lane: str
    base_url: str


class Started(msgspec.Struct, frozen=True, gc=False):
    """A call began. It ends with `Answered` or `GaveUp`."""

    call: CallInfo


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An attempt leaves. It ends with `Answered` or `Failed`, or with `GaveUp` if it is cancelled."""

    call: CallInfo
    attempt: int
    queue_seconds: float
    """Waiting for its turn and in pauses, since the call began or since the last attempt failed."""


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A call got its answer, and the answer was decoded; of a stream, the answer began."""

    call: CallInfo
    attempts: int
    seconds: float
    """From sending the last attempt to the end of decoding its answer."""
    status: int = 200
    """The HTTP status."""
    queue_seconds: float = 0.0
    """As that of the last `Sent`."""
    decode_seconds: float = 0.0
    """Decoding the answer; the rest of `seconds` was spent on the network and the server."""


class Failed(msgspec.Struct, frozen=True, gc=False):
    """An attempt failed, and another may follow; or a stream broke after its answer began."""

    call: CallInfo
    attempt: int
    error: str
    """The error's class and message."""
    status: int = 0
    """The HTTP status; 0 for no answer."""
    seconds: float = 0.0
    """From sending the attempt to its error."""
    queue_seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.call.path}, attempt {self.attempt}: {self.error}"


class GaveUp(msgspec.Struct, frozen=True, gc=False):
    """A call ended without an answer: its error is raised, or its task was cancelled."""

    call: CallInfo
    attempts: int
    error: str
    """The error's class and message."""
    seconds: float
    """Since the call began."""

    @property
    def is_cancelled(self) -> bool:
        """Whether its task was cancelled; else its error is raised."""
        return self.error in ("CancelledError", "GeneratorExit")

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""
        return self.error.startswith("ClientClosed:")

    def __str__(self) -> str:
        return f"{self.call.path} failed after {counted(self.attempts, 'attempt')}: {self.error}"


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """Nothing is sent for a while."""

    seconds: float
    reason: str

    def __str__(self) -> str:
        return f"waiting {self.seconds:.1f} s: {self.reason}"


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

    def __str__(self) -> str:
        return f"listing page by page, because {self.reason}"


class ListMoved(msgspec.Struct, frozen=True, gc=False):
    """The rows of a list that is paged by offset moved during the walk, so parts were listed again; or the
    list's total differs from the number of its rows. Announced once per list, at its end.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


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


Event = (
    Started
    | Sent
    | Answered
    | Failed
    | GaveUp
    | Waiting
    | Outage
    | ListedSerially
    | ListMoved
    | CursorRefused
    | RowsSkipped
)


Observer = Callable[[Event], None]
"""Called with each event, in the event loop and in the task of the call: it should be quick."""


class Counts(msgspec.Struct):
    """What calls have done, and how much time they spent on what.

    The seconds are added up over all calls, which run at the same time: a hundred calls that wait for one
    second are a hundred seconds.
    """

    requests: int = 0
    """Attempts sent, including failed ones."""
    retries: int = 0
    """Attempts beyond the first of each call."""
    answers: int = 0
    """Calls that got their answer."""
    errors: int = 0
    """Calls that ended in an error."""
    refused: int = 0
    """Answers of an overloaded server: 429, 503."""
    expired: int = 0
    """Calls whose time passed before it was their turn."""
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

    def add(self, other: "Counts") -> None:
        """Count what *other* counted, too."""
        for name in Counts.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Stats(Counts):
    """What a client has done since it was made: all of it, and by operation and lane."""

    in_flight: int = 0
    """Attempts on their way now."""
    waiting: int = 0
    """Calls that wait for their turn now."""
    limit: int = 0
    """The most attempts at once that are allowed now, in one event loop; 0 before the first call."""
    rate: float | None = None
    """The most requests a second that are allowed now, set or learned; None for no limit."""
    loop_lag: float = 0.0
    """How many seconds late the event loop was lately; 0 where the concurrency is a fixed number."""
    paused_for: float = 0.0
    """Seconds until the pause that the server asked for ends, in any event loop."""
    operations: dict[str, Counts] = {}
    """By operation, as `sessions.list`; `other` for a request without one."""
    lanes: dict[str, Counts] = {}

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


def announce(observers: Iterable[Observer], event: Event) -> None:
    """Pass *event* to the log and to *observers*, whose errors are logged and never break a call."""
    level = _level(event)
    if event_logger.isEnabledFor(level):
        event_logger.log(level, "%s", event, extra=_facts(event))
    for observer in observers:
        try:
            observer(event)
        except Exception:
            logger.exception("The on_event callback raised; the call goes on.")


def is_watched(observers: Sequence[Observer]) -> bool:
    """Whether an event has an observer or a log: if not, frequent events need not be made."""
    return bool(observers) or event_logger.isEnabledFor(logging.DEBUG)


def _level(event: Event) -> int:
    """A warning is what a person wants to know; an error at the first attempt is for the caller to handle."""
    match event:
        case Started() | Sent() | Answered():
            return logging.DEBUG
        case GaveUp() if event.is_cancelled or event.is_closed or event.attempts == 1:
            return logging.DEBUG
        case Failed():
            return logging.INFO
        case _:
            return logging.WARNING


def _facts(event: Event) -> dict[str, Any]:
    """The fields of *event*, for logs with structure, by names that no log record has."""
    facts = msgspec.structs.asdict(event)
    call = facts.pop("call", None)
    if call is not None:
        facts |= {f"call_{name}": fact for name, fact in msgspec.structs.asdict(call).items()}
    facts["event"] = type(event).__name__
    return {f"navtalk_{name}": fact for name, fact in facts.items()}
