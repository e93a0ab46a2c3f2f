"""A page token: where a list goes on after a page, as an opaque text that only the same list takes."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

import msgspec

__all__ = ["POSITION", "SIZE", "PageTokens"]

POSITION = frozenset({"cursor", "offset", "page_token", "page", "after"})
"""The parameters that usually say where a page begins."""

SIZE = frozenset({"limit", "page_size", "count"})
"""The parameters that usually say how many rows a page has."""

DAMAGED = "This is no page token, or a damaged one: pass page.token exactly as it was."

CHECKSUM_BYTES = 9
LIST_BYTES = 12

WHOLE_NUMBER = re.compile("[0-9]{1,18}").fullmatch


class PageTokens(NamedTuple):
    """Writes and reads the page tokens of one API's lists.

    A token holds the position, a digest of the list (API, path, every parameter but position and size), and a
    checksum. It never holds a path or a method: a request is always built from the list that is asked for.
    """

    api: str = ""
    position: frozenset[str] = POSITION
    size: frozenset[str] = SIZE

    def write(self, path: str, params: Mapping[str, str], following: Mapping[str, str]) -> str:
        """The token of a page of the list at *path* with *params*; *following* are those of the next page."""
        moved = {
            name: value
            for name, value in following.items()
            if name not in self.size and (name in self.position or value != params.get(name))
        }
        content = msgspec.json.encode([self._digest(path, params).hex(), moved])
        return _as_token(content)

    def read(self, token: object, path: str, params: Mapping[str, str]) -> dict[str, str]:
        """The position that *token* holds; a ValueError if it is damaged, or of another list than the one at
        *path* with *params*.
        """
        digest, position = _content(token)
        if digest != self._digest(path, params).hex():
            raise ValueError(
                "This page token is of another list (another API, session or filter). "
                "Resume the list that it came from."
            )
        if unknown := position.keys() - self.position:
            raise ValueError(
                f"This page token sets {', '.join(sorted(unknown))!r}, "
                "which the dialect does not name as a position of its pages."
            )
        if not WHOLE_NUMBER(position.get("offset", "0")):
            raise ValueError(DAMAGED)
        return position

    def _digest(self, path: str, params: Mapping[str, str]) -> bytes:
        filters = sorted(each for each in params.items() if each[0] not in self.position | self.size)
        return sha256(msgspec.json.encode([self.api, path, filters])).digest()[:LIST_BYTES]


def _content(token: object) -> tuple[str, dict[str, str]]:
    if not isinstance(token, str):
        raise ValueError(f"A page token is a text or None, not a {type(token).__name__}: pass page.token.")
    try:
        content = urlsafe_b64decode(token + "=" * (-len(token) % 4))[CHECKSUM_BYTES:]
        # Base64 reads several texts as the same bytes; only the one that was written counts.
        if _as_token(content) == token:
            return msgspec.json.decode(content, type=tuple[str, dict[str, str]])
    except (ValueError, RecursionError):
        pass
    raise ValueError(DAMAGED)


def _as_token(content: bytes) -> str:
    checksum = sha256(content).digest()[:CHECKSUM_BYTES]
    return urlsafe_b64encode(checksum + content).rstrip(b"=").decode()
