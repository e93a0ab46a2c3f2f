"""What is happening: events for whoever wants to watch, with secrets removed."""

import html
import logging
import re
from collections.abc import Iterable
from typing import Protocol

import msgspec

__all__ = [
    "LEAST_UNMISTAKABLE",
    "Answered",
    "Event",
    "Failed",
    "ListMoved",
    "ListedSerially",
    "Observer",
    "Stats",
    "Waiting",
    "announce",
    "escapes",
    "is_watched",
    "scrub",
]

logger = logging.getLogger("navtalk_async")


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A question was answered, and the answer understood."""

    path: str
    attempts: int
    seconds: float
    """From sending the last attempt to having its answer decoded."""


class Failed(msgspec.Struct, frozen=True, gc=False):
    """An attempt came to nothing; another may follow."""

    path: str
    attempt: int
    error: str
    """The error's class and message."""


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """Nothing is sent for a while."""

    seconds: float
    reason: str


class ListedSerially(msgspec.Struct, frozen=True, gc=False):
    """A long list is walked page by page, since walking it from many places might lose rows."""

    reason: str


class ListMoved(msgspec.Struct, frozen=True, gc=False):
    """The rows of a list that is paged by offset moved while it was walked, so parts were listed again; or it
    says that it has more or fewer rows than it gives. Said once a list, at its end.
    """

    path: str
    reason: str


Event = Answered | Failed | Waiting | ListedSerially | ListMoved


class Observer(Protocol):
    """Any callable of one event; it is called in the event loop, so it should be quick."""

    def __call__(self, event: Event, /) -> None:
        """Take notice of *event*."""


class Stats(msgspec.Struct):
    """What a client has done so far, and where the time of its calls went; counts since it was made.

    The seconds are of all calls added up, and calls go on side by side: a hundred calls that wait for one
    second are a hundred seconds.
    """

    requests: int = 0
    """Attempts sent, the failed ones included."""
    retries: int = 0
    """Attempts beyond each call's first."""
    answers: int = 0
    """Good ones, each the end of a call."""
    refused: int = 0
    """Answers that said the server has too much to do: 429, 503."""
    in_flight: int = 0
    """Attempts on their way just now."""
    waiting: int = 0
    """Calls that wait for their turn just now."""
    limit: int = 0
    """The most in flight that are let through just now, in one event loop; 0 before the first call."""
    rate: float | None = None
    """The most requests a second just now, asked for or learned; None for any number."""
    turn_seconds: float = 0.0
    """Waiting for a place among those in flight, or for the rate."""
    paused_seconds: float = 0.0
    """Waiting because the server wanted nothing asked."""
    backoff_seconds: float = 0.0
    """Waiting between two attempts of a call that failed."""
    network_seconds: float = 0.0
    """From sending an attempt to the end of its answer."""
    decode_seconds: float = 0.0
    """Making sense of answers."""

    @property
    def why_slow(self) -> str:
        """What most of the time went into, in one sentence."""
        spent = {name: getattr(self, name) for name in REASONS}
        whole = sum(spent.values())
        if not whole:
            return "Nothing has taken any time yet."
        most = max(spent, key=spent.__getitem__)
        told = REASONS[most].format(limit=self.limit, rate=self._rate_told)
        return f"{spent[most] / whole:.0%} of the time went into {told}."

    @property
    def _rate_told(self) -> str:
        return "" if self.rate is None else f", or for the rate of {self.rate:.3g} requests a second"


REASONS = {
    "turn_seconds": "waiting for one of {limit} places in flight{rate}",
    "paused_seconds": "pauses that the server wanted",
    "backoff_seconds": "waiting to try again after failed attempts",
    "network_seconds": "the network and the server, which answers as fast as it does",
    "decode_seconds": "decoding answers, which takes this machine's own time",
}


def announce(observer: Observer | None, event: Event) -> None:
    """Tell *observer* and the log; an observer that raises is logged, and never breaks a call."""
    logger.debug("%r", event)
    if observer is None:
        return
    try:
        observer(event)
    except Exception:
        logger.exception("The on_event callback raised; the call goes on.")


def is_watched(observer: Observer | None) -> bool:
    """Whether anybody would notice an event: the frequent ones need not even be made."""
    return observer is not None or logger.isEnabledFor(logging.DEBUG)


LEAST_UNMISTAKABLE = 8
"""Characters from which on a secret is a secret wherever it stands. A shorter one, as only tests have, would
be found inside of words."""


def scrub(text: str, secrets: Iterable[str]) -> str:
    """*text* with every secret replaced, also where it stands quoted, as in a URL or in HTML."""
    for secret in filter(None, secrets):
        form = "".join(map(_any_form, secret))
        if len(secret) < LEAST_UNMISTAKABLE:
            form = rf"(?<![^\W_]){form}(?![^\W_])"
        text = re.sub(form, "[key]", text)
    return text


def escapes(character: str) -> list[str]:
    """How *character* may be escaped in a URL or in HTML, in lower case; either case means the same."""
    number = ord(character)
    entities = {html.escape(character), f"&#{number};", f"&#x{number:x};"} - {character}
    return [f"%{number:02x}", *sorted(entities)]


def _any_form(character: str) -> str:
    """A pattern for *character* as it is, percent-encoded in either case, and as an entity."""
    if character.isalnum():
        return character
    quoted = [f"(?i:{re.escape(each)})" for each in escapes(character)]
    return f"(?:{'|'.join([*quoted, re.escape(character)])})"
