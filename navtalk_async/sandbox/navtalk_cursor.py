"""NavTalk's cursor: base64 of the time and id of the last row of a page, as its reference page shows it."""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode

from .table import Key

# Before every row there can be: where an empty first page says to go on.
ORIGIN: Final = ("0001-01-01 00:00:00", "00000000-0000-0000-0000-000000000000")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a listing is narrowed to; *number* is the status of sessions or the role of messages."""

    start: str = ""
    end: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page left off, and the filters when it has to remember them.

    *again* tells apart cursors that stand at the same row: an empty page must not look like a repeated one.
    """

    key: Key
    filters: Filters | None = None
    again: int = 0

    def __str__(self) -> str:
        parts = [self.key[0].replace(" ", "T"), self.key[1]]
        memory: dict[str, str] = {"again": str(self.again)} if self.again else {}
        if self.filters:
            memory |= {"start": self.filters.start, "end": self.filters.end, "number": self.filters.number}
        if memory:
            parts.append(urlencode(memory))
        return b64encode("|".join(parts).encode()).decode()

    @classmethod
    def read(cls, text: str) -> Self:
        """The cursor *text* was made from; `ValueError` when it is none of ours."""
        time, name, *rest = b64decode(text, validate=True).decode("ascii").split("|", 2)
        key = (time.replace("T", " "), name)
        if not is_time(key[0]):
            raise ValueError(text)
        memory = dict(parse_qsl(rest[0], keep_blank_values=True)) if rest else {}
        again = int(memory.pop("again", "0"))
        return cls(key, Filters(**memory) if memory else None, again)


@lru_cache(1024)
def is_time(text: str) -> bool:
    """Whether *text* is a real time written ``yyyy-MM-dd HH:mm:ss``."""
    try:
        return datetime.fromisoformat(text).isoformat(" ") == text
    except ValueError:
        return False
