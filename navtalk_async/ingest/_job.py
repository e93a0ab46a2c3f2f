"""One run's job: what it asks with, where it keeps what it fetches; and how far it has come."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from navtalk_async.archive import Archive
from navtalk_async.archive.records import RunReport, SyncState
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import Limiter
from navtalk_async.events import Event, ListedSerially, ListMoved
from navtalk_async.ingest._keyed_lock import KeyedLock
from navtalk_async.ingest.scope import CheckedOptions
from navtalk_async.listing import seconds_of
from navtalk_async.listing.fetch import ShortPageAudit
from navtalk_async.models import Request, ResumePoint, Session
from navtalk_async.pool import limiter_of
from navtalk_async.wire.retry import Lane


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; `sync` keeps it up to date."""

    report: RunReport = field(default_factory=RunReport)
    """What the run has done so far."""
    listed_share: float | None = None
    """The part of the time range that is listed, 0 to 1; None where it is not known."""
    listed_from: datetime | None = None
    """Where the listing begins, where that is known."""
    expected_end: datetime | None = None
    """When the last session is expected to begin, where somebody found out; else, by now."""
    total: int | None = None
    """How many sessions the API says that its list has, where somebody asked and it says so."""
    all_listed: bool = False
    """Whether everything is listed; the report's `done` and `open` together are then all there is."""


def listed_share(
    places: Sequence[ResumePoint],
    start: datetime | None,
    end: datetime | None,
    latest: datetime | None = None,
) -> float | None:
    """The part of the time from *start* to *end* that is listed when the listing goes on at *places*; to the
    *latest* session found, where no place goes on behind all others.
    """
    if start is None or end is None or end <= start:
        return None
    first, last = seconds_of(start), seconds_of(end)
    ends = [place.end for place in places if place.end is not None]
    if latest is not None and len(ends) == len(places):
        last = min(last, max(seconds_of(latest), *ends, first + 1))
    unlisted = 0
    for place in places:
        known = [each for each in (place.reached, place.begin) if each is not None]
        if not known:
            return None
        unlisted += max(0, min(last, last if place.end is None else place.end) - max(first, *known))
    return min(1.0, max(0.0, 1 - unlisted / max(1, last - first)))


class Together(NamedTuple):
    """What jobs share that run beside each other on one archive."""

    limiter: Limiter
    sessions: KeyedLock
    """A session is read by one of them at a time, from its first request until it is saved: what is read
    later is never overwritten by what was read earlier.
    """
    poked: set[str]
    """Sessions that pokes asked for since the round began: a page may show them as they were before."""

    @classmethod
    def of(cls, client: Client, options: CheckedOptions) -> "Together":
        return cls(limiter_of(client, options.concurrency), KeyedLock(), set())


class Job:
    """One run's job. All requests stay within its limit, in the lane of jobs."""

    def __init__(
        self,
        client: Client,
        archive: Archive,
        options: CheckedOptions,
        progress: Progress,
        state: SyncState,
        *,
        together: Together,
        lane: Lane = "bulk",
    ) -> None:
        self.client = client = client.using(lane=lane)
        self.dialect = client.dialect
        self.archive, self.options, self.progress, self.state = archive, options, progress, state
        self.project, self.scope, self.report = options.project, options.scope, progress.report
        self._is_begun = False
        self.audit: ShortPageAudit | None = None
        if options.short_pages == "audit":
            self.audit = ShortPageAudit(disproved=state.short_pages_disproved)
        self.limiter, self.lock, self.poked = together
        self.list_sessions = self.limiter.bound(inside(client).page_of_sessions)
        self.list_messages = self.limiter.bound(inside(client).page_of_messages)
        self._ask_for_session = self.limiter.bound(self._session_of)

    async def record_begin(self) -> None:
        """Record, once, that the run began and has not ended; one that writes nothing leaves no trace."""
        if not self._is_begun:
            self._is_begun = True
            await self.archive.record_run(self.project, self.report)

    def get_session(self, session_id: str) -> Awaitable[Session]:
        """*session_id* as the API or the archive gave it, which need not be one that a user may pass."""
        return self._ask_for_session(self.dialect.get_session(session_id))

    def _session_of(self, request: Request) -> Awaitable[Session]:
        return self.client.ask(request, self.dialect.read_session)

    def announce(self, event: Event) -> None:
        if isinstance(event, ListedSerially):
            self.report.fallback = event.reason
        elif isinstance(event, ListMoved):
            self.report.moved = self.report.moved or f"About the list {event.path}: {event.reason}."
        inside(self.client).announce(event)

    def list_moved(self, path: str, reason: str) -> None:
        self.announce(ListMoved(path, reason))
