"""What the server hands to the part that speaks an API, and what it gets back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

import msgspec

from .answers import Answers
from .limits import Window
from .world import World

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
"""No headers."""


@dataclass(slots=True)
class Asked:
    """A request as it arrived; *kind* says which endpoint it is for, *number* how many had come.

    *path* is decoded and *url* is not; *headers* heed no case; *body* is read for what is no GET.
    """

    method: str
    path: str
    query: Mapping[str, str]
    url: str = ""
    kind: str = ""
    number: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def steps(self, prefix: str) -> list[str]:
        """The steps of the path below *prefix*, each decoded: one may hold a slash, which came as %2F.

        Those of a path that is not below it begin with an empty one.
        """
        path = urlsplit(self.url).path if self.url else self.path
        below = path.removeprefix(prefix)
        if below in {"", "/"}:
            return []
        if not path.startswith(f"{prefix}/"):
            return ["", path]
        return [unquote(step) for step in below[1:].split("/")]

    def fields(self) -> dict[str, Any]:
        """The JSON object that came as the body, where nothing is an empty one; `Refused` (400) if none."""
        try:
            return msgspec.json.decode(self.body or b"{}", type=dict[str, Any])
        except msgspec.DecodeError:
            raise Refused(400, "The body must be a JSON object") from None


@dataclass(slots=True)
class Answered:
    """A whole answer, before anything goes wrong with it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Streamed:
    """An answer that is sent piece by piece, *pause* seconds apart, each a chunk of its own."""

    status: int
    content_type: str
    pieces: Sequence[bytes]
    pause: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """All pieces together."""
        return b"".join(self.pieces)


class Refused(Exception):
    """The API says no, with a code of its table, and with more *fields* where its words have some."""

    def __init__(self, code: int, message: str, **fields: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.fields = fields


class Room(Protocol):
    """What an API answers from."""

    @property
    def world(self) -> World:
        """The data behind every key that has none of its own."""

    @property
    def keys(self) -> Mapping[str, World] | Collection[str] | None:
        """The keys that open a door; a mapping says to which world; None lets anyone in."""

    @property
    def answers(self) -> Answers:
        """The answers to what the reference leaves open."""

    @property
    def rate(self) -> int | None:
        """How many requests a second are let in, or None for any number."""

    def window(self, name: str = "", seconds: float = 1.0) -> Window:
        """The window of that *name*, the same each time; the one without a name keeps the `rate`."""

    def ticks(self) -> float:
        """Seconds on the clock that windows go by."""

    def now(self) -> datetime:
        """The moment, in UTC, as the answer's ``Date`` will tell it, where it tells one."""


@runtime_checkable
class Api(Protocol):
    """What a module of this folder has when it is an API: the sandbox then serves it unasked."""

    @property
    def NAME(self) -> str:  # noqa: N802 - a module's constant
        """What it is called, e.g. ``kodey``."""

    @property
    def BASE(self) -> str:  # noqa: N802
        """The path at the end of its base URL, or an empty string."""

    @property
    def PREFIX(self) -> str:  # noqa: N802
        """How the paths of all its endpoints begin."""

    @property
    def WRONG_SHAPES(self) -> Sequence[bytes]:  # noqa: N802
        """JSON that is none of its answers."""

    def kind(self, asked: Asked) -> str:
        """The endpoint *asked* is for, or an empty string when it is none of this API's.

        Reading calls are called ``sessions``, ``session`` and ``messages``, whatever the API's own words.
        """

    def session(self, asked: Asked) -> str:
        """The id of the session that is asked about, or an empty string."""

    def secret(self, asked: Asked) -> str:
        """The key that came with a request."""

    def can_play(self, fault: str, asked: Asked) -> bool:
        """Whether *fault* makes sense for this request."""

    def answer(self, asked: Asked, room: Room, fault: str | None) -> Answered | Streamed:
        """The answer; *fault* is one of those that happen inside a page, or None."""

    def refusal(
        self, code: int, message: str, asked: Asked, answers: Answers, wait: float | None = None
    ) -> Answered:
        """A failure, told as this API tells it; *wait* is the seconds it says to wait, or None."""

    def headers(self, asked: Asked, room: Room) -> Mapping[str, str]:
        """What every answer has in its head, refusals too."""


def opened(key: str, room: Room) -> World | None:
    """The world that *key* opens, or None."""
    if not key or (room.keys is not None and key not in room.keys):
        return None
    return room.keys[key] if isinstance(room.keys, Mapping) else room.world
