"""What may go wrong, how often, and how that is written in one line."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, Self

PAGE_FAULTS: Final = frozenset({"repeat-cursor", "empty-page", "cycle"})
"""Faults inside a page of a listing; all others can befall any request."""

ALL: Final = ("500", "429", "reset", "cut", "garbage")
"""What ``all=10%`` mixes evenly: what a client meets in an ordinary bad week."""

_AMOUNTS: Final = frozenset({"retry_after", "slow_seconds", "huge_bytes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How likely each fault is, from 0 to 1, for every request; what is not named does not happen.

    `Faults.parse` reads them from text, where they have their short names: ``500=5%,reset=0.01``.
    """

    http_500: float = 0.0
    http_503: float = 0.0
    http_429: float = 0.0
    """Too many requests, with a ``Retry-After`` of *retry_after* seconds."""
    http_429_bare: float = 0.0
    """Too many requests, and no word on how long to wait."""
    http_400: float = 0.0
    http_403: float = 0.0
    http_404: float = 0.0
    echo_key: float = 0.0
    """A 400 whose message repeats the key and the whole address."""
    reset: float = 0.0
    """The connection is reset before any answer, though what was asked is done; a stream is, half way."""
    drop: float = 0.0
    """The connection is closed before any answer, and nothing was done."""
    cut: float = 0.0
    """The body ends before its Content-Length does; a stream, within a chunk."""
    cut_chunked: float = 0.0
    """A chunked body ends before its last chunk; a stream, after half of its pieces."""
    slow: float = 0.0
    """A right body, dripping for *slow_seconds*; so does a stream."""
    hang: float = 0.0
    """No answer, ever, though what was asked is done; a stream stands still half way."""
    garbage: float = 0.0
    """HTTP 200, and random bytes."""
    html: float = 0.0
    """HTTP 200, and a page for people."""
    truncated: float = 0.0
    """JSON cut in the middle, with a Content-Length that says so."""
    wrong_shape: float = 0.0
    """JSON, but not what was documented."""
    huge: float = 0.0
    """A body of *huge_bytes*, chunk after chunk."""
    deep: float = 0.0
    """JSON nested a hundred thousand levels deep."""
    bomb: float = 0.0
    """A small gzip body that inflates to 320 MB."""
    redirect: float = 0.0
    """A 302 to the same address, key and all, on another host name."""
    repeat_cursor: float = 0.0
    """The next cursor is the one that was asked with."""
    empty_page: float = 0.0
    """No rows, and a cursor that goes on where this page should have begun."""
    cycle: float = 0.0
    """The next cursor leads back to an earlier page."""
    lost_answer: float = 0.0
    """What was asked is done, and the connection closed without any answer."""

    retry_after: float = 0.0
    """The seconds a 429 says to wait."""
    slow_seconds: float = 1.0
    """How long a slow body takes."""
    huge_bytes: int = 1 << 30
    """How large a huge body is."""

    def __post_init__(self) -> None:
        for name, chance in self.chances().items():
            if not 0 <= chance <= 1:
                raise ValueError(f"the chance of {name} must be between 0 and 1, not {chance}")
        if sum(self.chances().values()) > 1 + 1e-9:
            raise ValueError("the chances of all faults together must not exceed 1")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Faults as a command line has them: ``500=5%,reset=0.01``, ``all=10%``, or only ``10%``.

        ``all``, or a figure alone, is an even mix of 500, 429, reset, cut and garbage. ``retry-after=2``,
        ``slow-seconds=5`` and ``huge-bytes=1000`` set amounts. `ValueError` says what is not understood.
        """
        found: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, figure = part.rpartition("=")
            if name.strip() in {"", "all"} and (equals == "=") == (name.strip() == "all"):
                for each in ALL:
                    found[_field(each)] = found.get(_field(each), 0) + _figure(figure) / len(ALL)
            else:
                found[_field(name.strip())] = _figure(figure)
        size = int(found.pop("huge_bytes", cls().huge_bytes))
        return cls(huge_bytes=size, **found)

    def chances(self) -> dict[str, float]:
        """The chance of each kind of fault, by the short name."""
        return {kind: getattr(self, name) for kind, name in _FIELDS.items()}

    def choose(self, dice: float, can_play: Callable[[str], bool]) -> str | None:
        """The fault a number from [0, 1) stands for, or None; one that *can_play* denies does not happen."""
        reach = 0.0
        for kind, name in _FIELDS.items():
            reach += getattr(self, name)
            if dice < reach:
                return kind if can_play(kind) else None
        return None


def check(kind: str) -> str:
    """The *kind* itself when there is such a fault; `ValueError`, with all there are, when not."""
    if kind not in _FIELDS:
        raise ValueError(f"no such fault: {kind!r}; there are {', '.join(_FIELDS)}")
    return kind


def _kind(name: str) -> str:
    return name.removeprefix("http_").replace("_", "-")


def _field(kind: str) -> str:
    if kind.replace("-", "_") in _AMOUNTS:
        return kind.replace("-", "_")
    return _FIELDS[check(kind)]


def _figure(text: str) -> float:
    try:
        return float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise ValueError(f"not a figure: {text!r}; write 0.05 or 5%") from None


_FIELDS: Final = {_kind(field.name): field.name for field in fields(Faults) if field.name not in _AMOUNTS}

KINDS: Final = tuple(_FIELDS)
"""The short names of all faults."""
