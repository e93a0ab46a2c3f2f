"""What the server hands to the part that speaks an API, and what it gets back."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .answers import Answers
from .world import World


@dataclass(slots=True)
class Asked:
    """A request as it arrived; *kind* says which endpoint it is for, *number* how many had come."""

    method: str
    path: str
    query: Mapping[str, str]
    url: str = ""
    kind: str = ""
    number: int = 0


@dataclass(slots=True)
class Answered:
    """A whole answer, before anything goes wrong with it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


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


class Api(Protocol):
    """What each API of the sandbox promises: to know its addresses, and to answer there."""

    def kind(self, path: str) -> str:
        """The endpoint *path* belongs to, or an empty string when it is none of this API's."""

    def secret(self, asked: Asked) -> str:
        """The key that came with a request."""

    def can_play(self, fault: str, asked: Asked) -> bool:
        """Whether *fault* makes sense for this request."""

    def answer(self, asked: Asked, room: Room, fault: str | None) -> Answered:
        """The answer; *fault* is one of those that happen inside a page, or None."""

    def refusal(self, code: int, message: str, asked: Asked, answers: Answers) -> Answered:
        """A failure, told as this API tells it."""
