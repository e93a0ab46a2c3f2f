"""The order LlamaCloud lists its sessions in, and the tokens that walk it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final, Self
from weakref import WeakKeyDictionary
from zlib import crc32

import msgspec

from .answers import Answers
from .table import Key, Row
from .world import World

# No time sorts before the empty one, none after U+FFFF.
_FIRST: Final[Key] = ("", "")
_LAST: Final[Key] = ("\uffff", "")

_State = tuple[bool, int]
_orders: WeakKeyDictionary[World, tuple[_State, list[Key]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Token:
    """Where a page left off: behind the session of that *key*; *again* tells apart two that stand there."""

    key: Key
    again: int = 0

    def __str__(self) -> str:
        return urlsafe_b64encode(msgspec.json.encode([*self.key, self.again])).decode()

    @classmethod
    def read(cls, text: str) -> Self:
        """The token *text* was made from; `ValueError` when it is none of ours."""
        time, name, again = msgspec.json.decode(urlsafe_b64decode(text), type=tuple[str, str, int])
        return cls((time, name), again)


def updated(world: World, row: Row) -> str:
    """When a session was last updated: began, ended, or was spoken in; each change is told apart."""
    name = row["id"]
    moment: str = max(row["startTime"], row["endTime"] or "", world.last_said(name) or "")
    return f"{moment.replace(' ', 'T')}.{crc32(name.encode()) % 500_000 + world.changes[name]:06d}"


def page(world: World, size: int, text: str, answers: Answers, fault: str | None) -> tuple[list[str], str]:
    """The ids of one page, at most *size*, from the token *text* on, and the token of the next, or none.

    `ValueError` for a token that is none of ours.
    """
    newest_first = answers.llamacloud_order == "newest"
    start = Token(_LAST if newest_first else _FIRST)
    token = Token.read(text) if text else start
    if fault == "empty-page":
        return [], str(Token(token.key, token.again + 1))
    keys = _order(world, by_id=answers.llamacloud_order == "id")
    if newest_first:
        reach = bisect_left(keys, token.key)
        found, more = keys[max(0, reach - size) : reach][::-1], reach > size
        earlier = keys[reach + size : reach + size + 1]
    else:
        begin = bisect_right(keys, token.key)
        found, more = keys[begin : begin + size], begin + size < len(keys)
        earlier = keys[begin - size - 1 : begin - size] if begin > size else []
    following = ""
    if fault == "repeat-cursor":
        following = text
    elif fault == "cycle":
        following = str(Token(earlier[0]) if earlier else start)
    elif found and (more or answers.cursor_on_last_page):
        following = str(Token(found[-1]))
    return [name for _, name in found], following


def _order(world: World, *, by_id: bool) -> list[Key]:
    """What every session is ordered by, in order: kept until the world changes."""
    state = (by_id, world.version)
    kept = _orders.get(world)
    if kept is None or kept[0] != state:
        rows = world.session_table.rows
        keys = sorted(("" if by_id else updated(world, row), row["id"]) for row in rows)
        kept = _orders[world] = state, keys
    return kept[1]
