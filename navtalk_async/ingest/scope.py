"""What a sync is asked for: which sessions and messages a project in an archive is made of, and how to
fetch them.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Self, TypedDict, Unpack, cast

import msgspec

from navtalk_async.client import Client
from navtalk_async.dialects.arguments import number_of, one_of
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import When, time_text
from navtalk_async.ingest._reread_rules import OVERLAP, SETTLE
from navtalk_async.listing.fetch import ShortPages
from navtalk_async.models import Request, Role, Session, SessionStatus
from navtalk_async.times import parse_time
from navtalk_async.wire.gate import Concurrency, checked_concurrency

__all__ = ["CheckedOptions", "Filters", "Scope", "SyncOptions"]

SESSION_FILTERS = ("start_time", "end_time", "status", "user_id", "agent_type")

STATUS, ROLE = number_of(SessionStatus), number_of(Role)

PARSERS: dict[str, Callable[[str, Any], Any]] = {
    "start_time": time_text,
    "end_time": time_text,
    "status": lambda name, status: int(STATUS(name, status)),
    "role": lambda name, role: int(ROLE(name, role)),
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
        known = {name: given.pop(name) for name in (*SESSION_FILTERS, "role") if name in given}
        if partial := sorted(given.keys() & set(dialect.sessions.paging.arguments)):
            raise ValueError(f"An archive keeps whole lists: leave out {' and '.join(partial)}.")
        scope = cls(
            **{name: PARSERS[name](name, each) if name in PARSERS else each for name, each in known.items()},
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
        return {name: getattr(self, name) for name in SESSION_FILTERS} | self.others

    @property
    def of_messages(self) -> dict[str, Any]:
        """The filters of a list of messages."""
        return {} if self.role is None else {"role": self.role}

    def first_page(self, dialect: Dialect, start: datetime | None = None) -> Request:
        """The request for the first page of its sessions, from *start* on; raises as `parse`."""
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

    def surely_lists(self, session: Session, dialect: Dialect) -> bool:
        """Whether the list of these filters has *session*, but for a filter that it may come to match; False
        where only the list itself can tell.
        """
        if self.sessions:
            return session.id in self.sessions
        if self.agent_type is not None or self.others:
            return False
        if self.user_id not in (None, session.user_id):
            return False
        is_status = "status" in dialect.changing_filters or _number(session.status) in (self.status, None)
        begin, start = session.start_time, parse_time(self.start_time)
        is_late_enough = start is None or (begin is not None and begin >= start)
        return is_late_enough and self.begins_in_time(session) and (self.status is None or is_status)

    def status_filter(self, dialect: Dialect) -> Callable[[Session], bool] | None:
        """Whether a session that is listed by `listed` has the status; None where every session has.

        A session without a status that we know may have the wanted one, so it is taken.
        """
        if self.status is None or self.sessions or "status" not in dialect.changing_filters:
            return None
        return lambda session: _number(session.status) in (self.status, None)

    def text(self) -> str:
        """The scope as JSON, for comparing."""
        return msgspec.json.encode(self).decode()


def _number(status: SessionStatus | str | None) -> int | None:
    """*status*, which a server may have written as a text, as a number; None where it is not known."""
    found = status.strip() if isinstance(status, str) else status
    try:
        return int(STATUS("status", int(found) if isinstance(found, str) and found.isdecimal() else found))
    except ValueError:
        return None


class SyncOptions(Filters, total=False):
    """The keyword arguments of `sync`."""

    project: str
    concurrency: Concurrency
    listing: Literal["auto", "serial"]
    short_pages: ShortPages
    overlap: timedelta
    settle: timedelta
    watch_max_age: timedelta | None
    reconcile: bool
    retry_failed: bool
    server: str | None
    server_moved: bool


def _check_name(name: str, value: object) -> None:
    if not (isinstance(value, str) and value.strip() and value.isprintable()):
        raise ValueError(f"{name}={value!r} is not a name.")


def _check_span(name: str, value: object) -> None:
    if not (isinstance(value, timedelta) and value >= timedelta(0)):
        raise ValueError(f"{name}={value!r} is not a timedelta of zero or more.")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is neither True nor False.")


CHECKS: dict[Callable[[str, Any], object], Sequence[str]] = {
    _check_name: ("project", "server"),
    lambda _, number: checked_concurrency(number): ("concurrency",),
    one_of("auto", "serial"): ("listing",),
    one_of("follow", "audit"): ("short_pages",),
    _check_span: ("overlap", "settle", "watch_max_age"),
    _check_flag: ("reconcile", "retry_failed", "server_moved"),
}


class CheckedOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `sync`, once they are known to be right."""

    scope: Scope
    project: str = "default"
    concurrency: Concurrency = "auto"
    listing: Literal["auto", "serial"] = "auto"
    short_pages: ShortPages = "follow"
    overlap: timedelta = OVERLAP
    settle: timedelta = SETTLE
    watch_max_age: timedelta | None = None
    reconcile: bool = False
    retry_failed: bool = False
    server: str | None = None
    server_moved: bool = False

    @classmethod
    def parse(cls, client: Client, options: SyncOptions) -> Self:
        """Check *options*, before anything is asked or kept.

        Raises:
            TypeError: *client* is no client.
            ValueError: names the option and its value.
        """
        if not isinstance(client, Client):
            raise TypeError(f"client={client!r} is not a client: make one with NavTalkClient(), say.")
        filters: dict[str, Any] = dict(options)
        own = {name: filters.pop(name) for name in cls.__struct_fields__[1:] if name in filters}
        for check, names in CHECKS.items():
            for name in (each for each in names if each in own):
                if own[name] is not None or name not in ("server", "watch_max_age"):
                    check(name, own[name])
        return cls(scope=Scope.parse(client.dialect, **filters), **own)
