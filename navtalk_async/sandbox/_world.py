"""What the sandbox knows: the sessions and messages its APIs answer with, and every change made to them."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any, TypeVar

from . import _rows
from ._rows import Row, Table

T = TypeVar("T")

_REMEMBERED = 256  # generated sessions whose messages are kept: more than any client has in flight
_FIELDS = {"start_time": "startTime", "end_time": "endTime", "video_url": "videoUrl"}


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
        counts = _message_counts(messages, mean_messages)
        made = list(_rows.sessions(sessions, seed, counts, unknown=unknown_fields))
        self._births = {row["id"]: birth for row, birth in made}
        self._long = _spread([birth.number for _, birth in made if birth.messages], long_messages)
        self._by_id = {row["id"]: row for row, _ in made}
        self.session_table: Table = Table("startTime", self._by_id.values())
        """The sessions themselves, for an API to page through: not to be changed."""
        self.total_messages: int = sum(birth.messages for _, birth in made)
        self._changed: dict[str, Table] = {}
        self._recent: OrderedDict[str, Table] = OrderedDict()
        self._derived: dict[Hashable, Any] = {}
        self._added = sessions
        self.notes: dict[str, Row] = {}
        """What the APIs keep of a session or a message beside its row, by its id: see `note`."""
        self.changes: Counter[str] = Counter()
        """How often a session, or a message in it, was changed, by the session's or the note's id."""
        self.joined: set[str] = set()
        """The ids of sessions with an open websocket; an API may refuse to delete them."""

    def __repr__(self) -> str:
        return (
            f"<World [{len(self.session_table)} sessions, {self.total_messages} messages, seed {self.seed}]>"
        )

    @property
    def sessions(self) -> list[Row]:
        """Every session, by start time and then by id."""
        return [dict(row) for row in self.session_table.rows]

    def session(self, session_id: str) -> Row:
        """One session; `KeyError` for an unknown id."""
        return dict(self._by_id[session_id])

    def messages(self, session_id: str) -> list[Row]:
        """A session's messages, by time and then by id; `KeyError` for an unknown id."""
        return [dict(row) for row in self.message_table(session_id).rows]

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
        latest = self.session_table.rows[-1]["startTime"] if len(self.session_table) else _rows.stamp(0)
        start = _time(start_time or latest)
        row = {
            "id": id or self._new_id(),
            "status": status,
            "startTime": start,
            "endTime": start if status else None,
            "videoUrl": None,
        }
        if row["id"] in self._by_id:
            raise ValueError(f"the world has a session {row['id']} already")
        return dict(self._put_session(row | _named(fields)))

    def change_session(self, session_id: str, **fields: Any) -> Row:
        """Change *fields* of a session, e.g. ``status=1, endTime="2025-11-12 18:20:50"``."""
        old = self._by_id[session_id]
        self.session_table.discard(old)
        return dict(self._put_session(old | _named(fields)))

    def remove_session(self, session_id: str) -> None:
        """Remove a session and its messages: requests for it are answered 404 from now on."""
        self._count_change(session_id)
        self.joined.discard(session_id)
        self.total_messages -= len(self.message_table(session_id))
        self.session_table.discard(self._by_id.pop(session_id))
        for kept in (self._births, self._changed, self._recent, self.notes):
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
        rows = self.message_table(session_id).rows
        latest = rows[-1]["createdAt"] if rows else self._by_id[session_id]["startTime"]
        row: Row = {
            "id": id or self._new_id(),
            "role": role,
            "messageType": message_type,
            "content": content,
            "createdAt": _time(created_at or latest),
        }
        return dict(self._put_message(session_id, row | fields))

    def change_message(self, session_id: str, message_id: str, **fields: Any) -> Row:
        """Change *fields* of a message, named as in the API's JSON."""
        old = self._message(session_id, message_id)
        self.message_table(session_id).discard(old)
        self.total_messages -= 1
        return dict(self._put_message(session_id, old | {name: _time(each) for name, each in fields.items()}))

    def remove_message(self, session_id: str, message_id: str) -> None:
        """Remove a message from its session."""
        old = self._message(session_id, message_id)
        self._own_table(session_id).discard(old)
        self.total_messages -= 1
        self._count_change(session_id)

    def session_row(self, session_id: str) -> Row | None:
        """The session itself, or None: not to be changed."""
        return self._by_id.get(session_id)

    def message_table(self, session_id: str) -> Table:
        """A session's messages themselves, for an API to page through: not to be changed."""
        if session_id in self._changed:
            return self._changed[session_id]
        if session_id in self._recent:
            self._recent.move_to_end(session_id)
            return self._recent[session_id]
        birth = self._births[session_id]
        long = birth.number in self._long
        table = Table("createdAt", _rows.messages(birth, self.seed, unknown=self._unknown, long=long))
        self._recent[session_id] = table
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)
        return table

    def message_count(self, session_id: str) -> int:
        """The number of a session's messages, found without making them; `KeyError` for an unknown id."""
        changed = self._changed.get(session_id)
        return self._births[session_id].messages if changed is None else len(changed)

    def last_message_time(self, session_id: str) -> str | None:
        """The time of a session's last message, or None, found without making any."""
        changed = self._changed.get(session_id)
        if changed is not None:
            return changed.rows[-1]["createdAt"] if changed.rows else None
        birth = self._births[session_id]
        return _rows.message_time(birth, birth.messages - 1) if birth.messages else None

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

    def _message(self, session_id: str, message_id: str) -> Row:
        return next(row for row in self.message_table(session_id).rows if row["id"] == message_id)

    def _put_session(self, row: Row) -> Row:
        self._count_change(row["id"])
        if row["id"] not in self._births:
            self._changed.setdefault(row["id"], Table("createdAt"))
        self._by_id[row["id"]] = row
        self.session_table.put(row)
        return row

    def _put_message(self, session_id: str, row: Row) -> Row:
        self._count_change(session_id)
        self._own_table(session_id).put(row)
        self.total_messages += 1
        return row

    def _own_table(self, session_id: str) -> Table:
        """The messages of a session that can no longer be made again from the seed."""
        table = self._changed[session_id] = self.message_table(session_id)
        self._recent.pop(session_id, None)
        return table

    def _count_change(self, id: str) -> None:  # noqa: A002 - the rows' own name for it
        self._derived.clear()
        self.changes[id] += 1

    def _new_id(self) -> str:
        self._added += 1
        return _rows.session_id(self._added - 1, self.seed)


def _message_counts(messages: int | Callable[[int], int] | None, mean: float) -> Callable[[int, float], int]:
    if messages is None:
        tail = _rows.long_tailed(mean)
        return lambda _, dice: tail(dice)
    if callable(messages):
        return lambda number, _: messages(number)
    return lambda _number, _dice: messages


def _spread(numbers: list[int], wanted: int) -> frozenset[int]:
    if not wanted:
        return frozenset()
    return frozenset(numbers[:: max(1, len(numbers) // wanted)][:wanted])


def _named(fields: Row) -> Row:
    return {_FIELDS.get(name, name): _time(value) for name, value in fields.items()}


def _time(value: Any) -> Any:
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else value
