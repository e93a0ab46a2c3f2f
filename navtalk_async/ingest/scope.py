"""Which sessions and messages a project in a store is made of."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.models import Request, Session, SessionStatus, parse_time

__all__ = ["Scope"]


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which sessions and messages are wanted. A project in a store has one scope for good."""

    start: str | None = None
    """The least begin, `yyyy-MM-dd HH:mm:ss` in UTC."""
    end: str | None = None
    status: int | None = None
    role: int | None = None
    user: str | None = None
    """Only sessions of this user."""
    agent_type: str | None = None
    """Only sessions with agents of this type."""
    options: dict[str, str] = {}
    """Those of the dialect, see `Dialect.options`; a sync sets them."""
    sessions: tuple[str, ...] = ()
    """Only these, by id; the other filters of sessions then do not apply."""

    @property
    def of_sessions(self) -> dict[str, Any]:
        """The filters of sessions, as `Client.list_sessions` takes them."""
        return {
            "start_time": self.start,
            "end_time": self.end,
            "status": self.status,
            "user_id": self.user,
            "agent_type": self.agent_type,
        }

    @property
    def of_messages(self) -> dict[str, Any]:
        """The filters of messages, as `Client.list_messages` takes them."""
        return {} if self.role is None else {"role": self.role}

    def first_page(self, dialect: Dialect, start: datetime | None = None) -> Request:
        """The question for the first page of its sessions, or of those that begin at *start* or later.

        Raises:
            ValueError: the API has no such filter, needs another one, or it cannot be right.
        """
        filters = self.of_sessions if start is None else {**self.of_sessions, "start_time": start}
        return dialect.list_sessions(**filters)

    def listed(self, dialect: Dialect, now: datetime) -> "Scope":
        """The scope to list sessions by: without a filter that a session may come to match long after it
        began, when it would not be listed any more. Which begin after the end, `begins_in_time` says.
        """
        status = None if self.status_sieve(dialect) else self.status
        is_over = "end_time" not in dialect.changing_filters or (parse_time(self.end) or now) <= now
        return msgspec.structs.replace(self, status=status, end=self.end if is_over else None)

    def begins_in_time(self, session: Session) -> bool:
        """Whether *session* begins by the end, if there is one."""
        if self.end is None:
            return True
        begin, end = session.start_time, parse_time(self.end)
        return begin is None or end is None or begin <= end

    def status_sieve(self, dialect: Dialect) -> Callable[[Session], bool] | None:
        """Whether a session that is listed by `listed` has the status; None where all do.

        One whose status the API leaves out, or has another word for, is taken: it may be the one.
        """
        if self.status is None or self.sessions or "status" not in dialect.changing_filters:
            return None
        status = SessionStatus(self.status)
        return lambda session: known_status(session.status) in (status, None)

    def check(self, dialect: Dialect) -> None:
        """See that the API can be asked for it.

        Raises:
            ValueError: it cannot.
        """
        if not self.sessions:
            self.first_page(dialect)
        for each in self.sessions:
            dialect.checked_id(each)
        dialect.list_messages("any", **self.of_messages)

    def text(self) -> str:
        """The scope as JSON, for comparing."""
        return msgspec.json.encode(self).decode()


def known_status(status: SessionStatus | str | None) -> SessionStatus | None:
    """The *status*, which a server may have written as a text; None for one that is not known."""
    if not isinstance(status, str):
        return status
    words = {each.name.lower(): each for each in SessionStatus}
    text = status.strip().lower()
    return SessionStatus(int(text)) if text.isdecimal() else words.get(text)
