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
    "ListedPlainly",
    "Observer",
    "Stats",
    "Waiting",
    "announce",
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


class ListedPlainly(msgspec.Struct, frozen=True, gc=False):
    """A long list is walked page by page, since walking it from many places might lose rows."""

    reason: str


Event = Answered | Failed | Waiting | ListedPlainly


class Observer(Protocol):
    """Any callable of one event; it is called in the event loop, so it should be quick."""

    def __call__(self, event: Event, /) -> None:
        """Take notice of *event*."""


class Stats(msgspec.Struct):
    """What a client has done so far; counts since it was made."""

    requests: int = 0
    """Attempts sent, the failed ones included."""
    retries: int = 0
    """Attempts beyond each call's first."""
    answers: int = 0
    in_flight: int = 0
    waited_seconds: float = 0.0
    """Time that calls spent in pauses the server asked for, or between attempts; added up over calls."""


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


def _any_form(character: str) -> str:
    """A pattern for *character* as it is, percent-encoded in either case, and as an entity."""
    if character.isalnum():
        return character
    number = ord(character)
    entities = {html.escape(character), f"&#{number};", f"&#x{number:x};"} - {character}
    quoted = [f"(?i:%{number:02x})", *(f"(?i:{re.escape(each)})" for each in sorted(entities))]
    return f"(?:{'|'.join([*quoted, re.escape(character)])})"
