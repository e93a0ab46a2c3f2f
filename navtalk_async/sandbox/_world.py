"""What the sandbox knows: the sessions and messages its APIs answer with, and every change made to them."""

from base64 import b64decode, b64encode
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

from ._generated import Birth, Row, made_up_id, make_messages, make_sessions, message_time, row_time, stamp

T = TypeVar("T")
RowKey = tuple[str, str]

_REMEMBERED = 256  # generated sessions whose messages are kept: more than any client has in flight
_FIELDS = {"start_time": "startTime", "end_time": "endTime", "video_url": "videoUrl"}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page left off: the last row's time and id in base64, as NavTalk's reference shows it.

    *memory* is what else an API keeps in it. *again* tells apart cursors that stand at the same row: an
    empty page must not look like a repeated one.
    """

    key: RowKey
    memory: Mapping[str, str] = field(default_factory=dict[str, str])
    again: int = 0

    def __str__(self) -> str:
        parts = [self.key[0].replace(" ", "T"), self.key[1].replace("%", "%25").replace("|", "%7C")]
        if more := ({"again": str(self.again)} if self.again else {}) | {**self.memory}:
            parts.append(urlencode(more))
        return b64encode("|".join(parts).encode()).decode()

    @classmethod
    def read(cls, text: str) -> Self:
        """The cursor *text* was made from; `ValueError` for a text that no cursor makes."""
        time, name, *rest = b64decode(text, validate=True).decode().split("|", 2)
        memory = dict(parse_qsl(rest[0], keep_blank_values=True)) if rest else {}
        again = int(memory.pop("again", "0"))
        return cls((time.replace("T", " "), unquote(name)), memory, again)


class World:
    """Sessions and messages made from a seed: the same arguments give the same data, everywhere and always.

    *sessions* is how many there are; they begin on 2025-11-01 and are clustered over five weeks. Message
    counts are long-tailed, 0 to 1,000, about *mean_messages* on average; *messages* fixes them instead, with
    a number or a function of the session's position. *long_messages* makes that many messages a megabyte
    long, and *unknown_fields* adds fields, and numbers for status, role and type, that the API's reference
    does not know.

    Rows are plain dicts exactly as NavTalk's JSON, and reading returns copies. The methods that add, change
    and remove sessions and messages may be called at any time, also while the world is served.
    """

    def __init__(
        self,
        sessions: int = 500,
        seed: int = 0,
        *,
        mean_messages: float = 10.0,
        messages: int | Callable[[int], int] | None = None,
        long_messages: int = 0,
        unknown_fields: bool = False,
    ) -> None:
        self.seed = seed
        self._unknown = unknown_fields
        made = list(make_sessions(sessions, seed, messages, mean_messages, unknown=unknown_fields))
        self._births = {row["id"]: birth for row, birth in made}
        speaking = [birth.number for _, birth in made if birth.messages]
        every = max(1, len(speaking) // max(1, long_messages))
        self._long = frozenset(speaking[::every][:long_messages])
        self.rows_by_id: dict[str, Row] = {row["id"]: row for row, _ in made}
        self.session_rows: list[Row] = sorted(self.rows_by_id.values(), key=row_key)
        """The sessions themselves, for an API to page through: not to be changed."""
        self.total_messages: int = sum(birth.messages for _, birth in made)
        self._changed: dict[str, list[Row]] = {}
        self._generated = lru_cache(_REMEMBERED)(self._generate)
        self._derived: dict[Hashable, Any] = {}
        self._added = sessions
        self.notes: dict[str, Row] = {}
        """What the APIs keep of a session or a message beside its row, by its id: see `note`."""
        self.changes: Counter[str] = Counter()
        """How often a session, or a message in it, was changed, by the session's or the note's id."""
        self.joined: set[str] = set()
        """The ids of sessions with an open websocket; an API may refuse to delete them."""

    def __repr__(self) -> str:
        return f"<World [{len(self.rows_by_id)} sessions, {self.total_messages} messages, seed {self.seed}]>"

    @property
    def sessions(self) -> list[Row]:
        """Every session, by start time and then by id."""
        return [dict(row) for row in self.session_rows]

    def session(self, session_id: str) -> Row:
        """One session; `KeyError` for an unknown id."""
        return dict(self.rows_by_id[session_id])

    def messages(self, session_id: str) -> list[Row]:
        """A session's messages, by time and then by id; `KeyError` for an unknown id."""
        return [dict(row) for row in self.message_rows(session_id)]

    def add_session(
        self,
        start_time: str | datetime | None = None,
        *,
        id: str | None = None,  # noqa: A002 - the API's own name for it
        status: int = 1,
        **fields: Any,
    ) -> Row:
        """Add a session without messages; by default it starts, and ends, when the latest one started.

        Other *fields* are named as in the API's JSON (``endTime``) or as in Python (``end_time``).
        `ValueError` for an id that is there already.
        """
        latest = self.session_rows[-1]["startTime"] if self.rows_by_id else stamp(0)
        start = _time(start_time or latest)
        row: Row = {
            "id": id or self._new_id(),
            "status": status,
            "startTime": start,
            "endTime": start if status else None,
            "videoUrl": None,
        }
        if row["id"] in self.rows_by_id:
            raise ValueError(f"the world has a session {row['id']} already")
        self._changed[row["id"]] = []
        return dict(self._put_session(None, row | _named(fields)))

    def change_session(self, session_id: str, **fields: Any) -> Row:
        """Change *fields* of a session, e.g. ``status=1, endTime="2025-11-12 18:20:50"``."""
        old = self.rows_by_id[session_id]
        return dict(self._put_session(old, old | _named(fields)))

    def remove_session(self, session_id: str) -> None:
        """Remove a session and its messages: requests for it are answered 404 from now on."""
        self._count_change(session_id)
        self.joined.discard(session_id)
        self.total_messages -= len(self.message_rows(session_id))
        _replace(self.session_rows, self.rows_by_id.pop(session_id), None)
        for kept in (self._births, self._changed, self.notes):
            kept.pop(session_id, None)

    def add_message(
        self,
        session_id: str,
        content: str = "Hello",
        *,
        role: int = 0,
        created_at: str | datetime | None = None,
        message_type: int = 0,
        id: str | None = None,  # noqa: A002 - the API's own name for it
        **fields: Any,
    ) -> Row:
        """Add a message to a session; by default it has the time of the session's last one."""
        rows = self.message_rows(session_id)
        latest = rows[-1]["createdAt"] if rows else self.rows_by_id[session_id]["startTime"]
        row: Row = {
            "id": id or self._new_id(),
            "role": role,
            "messageType": message_type,
            "content": content,
            "createdAt": _time(created_at or latest),
        } | fields
        self._put_message(session_id, None, row)
        return dict(row)

    def change_message(self, session_id: str, message_id: str, **fields: Any) -> Row:
        """Change *fields* of a message, named as in the API's JSON."""
        old = self._message(session_id, message_id)
        new = old | {name: _time(each) for name, each in fields.items()}
        self._put_message(session_id, old, new)
        return dict(new)

    def remove_message(self, session_id: str, message_id: str) -> None:
        """Remove a message from its session."""
        self._put_message(session_id, self._message(session_id, message_id), None)

    def message_rows(self, session_id: str) -> list[Row]:
        """A session's messages themselves, for an API to page through: not to be changed."""
        changed = self._changed.get(session_id)
        return self._generated(self._births[session_id]) if changed is None else changed

    def last_message_time(self, session_id: str) -> str | None:
        """The time of a session's last message, or None, found without making any."""
        if session_id in self._changed:
            return next((row["createdAt"] for row in reversed(self._changed[session_id])), None)
        birth = self._births[session_id]
        return message_time(birth, birth.messages - 1) if birth.messages else None

    def last_change_time(self, session: Row) -> str:
        """When a *session* last began, ended or got a message."""
        times = (session["startTime"], session["endTime"], self.last_message_time(session["id"]))
        return max(time for time in times if time)

    def note(self, id: str, **fields: Any) -> Row:  # noqa: A002 - the rows' own name for it
        """Add *fields* to what is kept of a session or a message beside its row, and return all of it.

        The names belong to no API: ``user``, ``agent``, ``team``, ``tenant``, ``title``, ``metadata``,
        ``index_ids`` and ``shared_access`` of a session, ``metadata``, ``media_type``, ``media_url`` and
        ``stop`` of a message.
        """
        self._count_change(id)
        self.notes[id] = self.notes.get(id, {}) | fields
        return self.notes[id]

    def noted(self, id: str, name: str, default: T) -> T:  # noqa: A002 - see `note`
        """The field *name* of what is kept beside the row of that id, or *default*."""
        found: T = self.notes.get(id, {}).get(name, default)
        return found

    def derived(self, name: Hashable, make: Callable[[], T]) -> T:
        """What *make* returns, kept by that *name* until anything in the world changes."""
        if name not in self._derived:
            self._derived[name] = make()
        found: T = self._derived[name]
        return found

    def _generate(self, birth: Birth) -> list[Row]:
        is_long = birth.number in self._long
        return sorted(make_messages(birth, self.seed, unknown=self._unknown, long=is_long), key=row_key)

    def _message(self, session_id: str, message_id: str) -> Row:
        return next(row for row in self.message_rows(session_id) if row["id"] == message_id)

    def _put_session(self, old: Row | None, new: Row) -> Row:
        self._count_change(new["id"])
        self.rows_by_id[new["id"]] = new
        _replace(self.session_rows, old, new)
        return new

    def _put_message(self, session_id: str, old: Row | None, new: Row | None) -> None:
        # These rows are no longer made again from the seed.
        rows = self._changed[session_id] = self.message_rows(session_id)
        _replace(rows, old, new)
        self.total_messages += (new is not None) - (old is not None)
        self._count_change(session_id)

    def _count_change(self, id: str) -> None:  # noqa: A002 - the rows' own name for it
        self._derived.clear()
        self.changes[id] += 1

    def _new_id(self) -> str:
        self._added += 1
        return made_up_id(self._added - 1, self.seed)


def row_key(row: Row) -> RowKey:
    """What rows are sorted by, and what a cursor holds: the time, then the id."""
    return row.get("createdAt") or row["startTime"], row["id"]


def _replace(rows: list[Row], old: Row | None, new: Row | None) -> None:
    if old is not None:
        del rows[bisect_left(rows, row_key(old), key=row_key)]
    if new is not None:
        insort(rows, new, key=row_key)


def _named(fields: Row) -> Row:
    return {_FIELDS.get(name, name): _time(value) for name, value in fields.items()}


def _time(value: Any) -> Any:
    return row_time(value) if isinstance(value, datetime) else value
