"""Which sessions and messages a project in an archive is made of."""

from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, TypedDict, Unpack, cast

import msgspec

from navtalk_async.dialects.arguments import number_of
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import When, time_text
from navtalk_async.models import Request, Role, Session, SessionStatus
from navtalk_async.times import parse_time

__all__ = ["Filters", "Scope"]

_STATUS, _ROLE = number_of(SessionStatus), number_of(Role)

PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "start_time": time_text,
    "end_time": time_text,
    "status": lambda name, status: int(_STATUS(name, status)),
    "role": lambda name, role: int(_ROLE(name, role)),
    "user_id": lambda _, user: user,
    "agent_type": lambda _, kind: kind,
}


class Filters(TypedDict, total=False):
    """Which sessions and messages are wanted, by the names of the API's own filters."""

    start_time: When | None
    """The least begin of a session: an aware datetime, a date, or `yyyy-MM-dd HH:mm:ss` in UTC."""
    end_time: When | None
    status: SessionStatus | int | str | None
    role: Role | int | str | None
    """Only messages of this role."""
    user_id: str | None
    agent_type: str | None
    sessions: Collection[str]
    """Only these sessions, by id; the other filters of sessions then do not apply."""


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The filters of a project as an archive remembers them; they stay the same for good."""

    start_time: str | None = msgspec.field(default=None, name="start")
    """`yyyy-MM-dd HH:mm:ss` in UTC."""
    end_time: str | None = msgspec.field(default=None, name="end")
    status: int | None = None
    role: int | None = None
    user_id: str | None = msgspec.field(default=None, name="user")
    agent_type: str | None = None
    options: dict[str, str] = {}
    """Those of the dialect, see `Dialect.options`."""
    sessions: tuple[str, ...] = ()
    others: dict[str, Any] = {}
    """Filters that only the API of another package has."""

    @classmethod
    def parse(cls, dialect: Dialect, **filters: Unpack[Filters]) -> "Scope":
        """The scope that *filters* mean for an API.

        Raises:
            TypeError: the API has no such filter.
            ValueError: it needs another one, or one cannot be right.
        """
        given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
        ids = given.pop("sessions", ())
        known = {name: given.pop(name) for name in PARSERS.keys() & given.keys()}
        if partial := sorted(given.keys() & set(dialect.sessions.paging.arguments)):
            raise ValueError(f"An archive keeps whole lists: leave out {' and '.join(partial)}.")
        scope = cls(
            **{name: PARSERS[name](name, value) for name, value in known.items()},
            options=dict(dialect.options),
            # The same sessions in another order are the same scope.
            sessions=tuple(sorted({ids} if isinstance(ids, str) else {str(each) for each in ids})),
            others=given,
        )
        if not scope.sessions:
            scope.first_page(dialect)
        for each in scope.sessions:
            dialect.checked_id(each)
        dialect.list_messages("any", **scope.of_messages)
        return scope

    @property
    def filters(self) -> Filters:
        """The arguments of `parse` that mean this scope."""
        of_messages: Filters = {"role": self.role, "sessions": self.sessions}
        return {**cast("Filters", self.of_sessions), **of_messages}

    @property
    def of_sessions(self) -> dict[str, Any]:
        """The filters of a list of sessions."""
        return {name: getattr(self, name) for name in PARSERS if name != "role"} | self.others

    @property
    def of_messages(self) -> dict[str, Any]:
        """The filters of a list of messages."""
        return {} if self.role is None else {"role": self.role}

    def first_page(self, dialect: Dialect, start: datetime | None = None) -> Request:
        """The request for the first page of its sessions, or of those that begin at *start* or later.

        Raises:
            TypeError: the API has no such filter.
            ValueError: it needs another one, or one cannot be right.
        """
        filters = self.of_sessions if start is None else {**self.of_sessions, "start_time": start}
        return dialect.list_sessions(**filters)

    def listed(self, dialect: Dialect, now: datetime) -> "Scope":
        """The scope to list sessions by: without a filter that a session may come to match long after it
        began, when it would not be listed any more. `begins_in_time` then applies the end.
        """
        status = None if self.status_filter(dialect) else self.status
        is_over = "end_time" not in dialect.changing_filters or (parse_time(self.end_time) or now) <= now
        return msgspec.structs.replace(self, status=status, end_time=self.end_time if is_over else None)

    def begins_in_time(self, session: Session) -> bool:
        """Whether *session* begins by the end, if there is one."""
        if self.end_time is None:
            return True
        begin, end = session.start_time, parse_time(self.end_time)
        return begin is None or end is None or begin <= end

    def status_filter(self, dialect: Dialect) -> Callable[[Session], bool] | None:
        """Whether a session that is listed by `listed` has the status; None where every session has.

        A session without a status that we know may have the wanted one, so it is taken.
        """
        if self.status is None or self.sessions or "status" not in dialect.changing_filters:
            return None
        status = SessionStatus(self.status)
        return lambda session: _known_status(session.status) in (status, None)

    def text(self) -> str:
        """The scope as JSON, for comparing."""
        return msgspec.json.encode(self).decode()


def _known_status(status: SessionStatus | str | None) -> SessionStatus | None:
    """*status*, which a server may have written as a text; None where it is not known."""
    if not isinstance(status, str):
        return status
    text = status.strip()
    try:
        return SessionStatus(int(_STATUS("status", int(text) if text.isdecimal() else text)))
    except ValueError:
        return None
