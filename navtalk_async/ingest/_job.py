"""One run's job: what it fetches, how it asks, where it keeps it; and how far it has come."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property

from navtalk_async.archive import Archive
from navtalk_async.archive.records import JournalResult, RunReport, SyncState
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import Limiter
from navtalk_async.events import Event, ListedSerially, ListMoved
from navtalk_async.ingest.scope import Scope
from navtalk_async.listing import seconds_of
from navtalk_async.listing.fetch import ShortPageAudit
from navtalk_async.models import Message, Page, Request, ResumePoint, Session


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; `sync` keeps it up to date."""

    report: RunReport = field(default_factory=RunReport)
    """What the run has done so far."""
    range_start: datetime | None = None
    """The first moment of the time range that is listed."""
    range_end: datetime | None = None
    """Its last moment: the end that was asked for, or when the run began."""
    unlisted_seconds: float | None = None
    """The seconds of the time range that are not listed yet."""
    all_listed: bool = False
    """Whether everything is listed; the report's `done` and `open` together are then all there is."""

    def share(self) -> float | None:
        """The part of the time range that is listed, 0 to 1; None where it is not known."""
        if self.range_start is None or self.range_end is None or self.unlisted_seconds is None:
            return None
        span = (self.range_end - self.range_start).total_seconds()
        return min(1.0, max(0.0, 1 - self.unlisted_seconds / span)) if span > 0 else None

    def count_listed(
        self, sessions: Sequence[Session], places: Sequence[ResumePoint] | None, found: JournalResult
    ) -> None:
        """Count *sessions*; with *places* given, they were listed, and the listing goes on there."""
        self.report.listed += len(sessions)
        self.report.inserted += found.inserted
        self.report.changed += found.changed
        self.report.same += found.same
        if places is not None:
            if self.range_start is None:
                times = (session.start_time for session in sessions)
                self.range_start = next((time for time in times if time is not None), None)
            self.all_listed = not places
            self.unlisted_seconds = self._unlisted(places)

    def _unlisted(self, places: Sequence[ResumePoint]) -> float | None:
        if self.range_start is None or self.range_end is None:
            return None
        start, end = seconds_of(self.range_start), seconds_of(self.range_end)
        unlisted = 0
        for place in places:
            known = [each for each in (place.reached, place.begin) if each is not None]
            if not known:
                return None
            unlisted += max(0, min(end, end if place.end is None else place.end) - max(start, *known))
        return unlisted


@dataclass(frozen=True, kw_only=True)
class Job:
    client: Client
    limiter: Limiter
    archive: Archive
    project: str
    scope: Scope
    state: SyncState
    overlap: timedelta
    settle: timedelta
    watch_max_age: timedelta | None
    reconcile: bool
    serial: bool
    audit: ShortPageAudit | None
    progress: Progress

    @cached_property
    def list_sessions(self) -> Callable[[Request], Awaitable[Page[Session]]]:
        return self.limiter.bound(inside(self.client).page_of_sessions)

    @cached_property
    def list_messages(self) -> Callable[[Request], Awaitable[Page[Message]]]:
        return self.limiter.bound(inside(self.client).page_of_messages)

    def get_session(self, session_id: str) -> Awaitable[Session]:
        """*session_id* as the API or the archive gave it, which need not be one that a user may pass."""
        dialect = self.client.dialect
        return self._ask_for_session(dialect.get_session(session_id))

    @cached_property
    def _ask_for_session(self) -> Callable[[Request], Awaitable[Session]]:
        return self.limiter.bound(lambda request: self.client.ask(request, self.client.dialect.read_session))

    def announce(self, event: Event) -> None:
        report = self.progress.report
        if isinstance(event, ListedSerially):
            report.fallback = event.reason
        elif isinstance(event, ListMoved):
            report.moved = report.moved or f"About the list {event.path}: {event.reason}."
        inside(self.client).announce(event)
