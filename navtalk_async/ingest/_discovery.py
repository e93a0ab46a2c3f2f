"""The sessions to fetch, as they become known: left over, asked for by id, listed, missing or watched."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import partial

import msgspec

from navtalk_async.archive.records import Clock, FetchTask, Round, SessionDiff
from navtalk_async.archive.rows import format_time
from navtalk_async.client import inside
from navtalk_async.dialects.dialect import smallest_page
from navtalk_async.ingest._job import Job, listed_share
from navtalk_async.ingest._reread_rules import (
    ONE_SECOND,
    compare_sessions,
    earlier,
    fresh_since,
    latest,
    listed_since,
)
from navtalk_async.listing import SPECULATION_BUDGET, ParallelListing, moment_at
from navtalk_async.models import Request, ResumePoint, Session
from navtalk_async.paging.compact_set import CompactSet
from navtalk_async.pool import AUTO_WALKERS
from navtalk_async.times import parse_time

LATER_BUDGET = -1
"""The first listing of a project may spend requests on finding out where most of it is. A later one brings
little, so it must prove to be long before it may."""

IDS_AT_ONCE = 1_000
"""How many ids of the archive are in memory at a time."""

END_OF_TIME = "9999-12-31T23:59:59Z"


class Discovery:
    """Finds the sessions that one round fetches; a page of the listing is journalled before it is yielded.

    *is_awaited* says whether there is nothing else to fetch meanwhile.
    """

    def __init__(self, job: Job, *, is_awaited: Callable[[], bool]) -> None:
        self._job, self._state, self._scope, self._dialect = job, job.state, job.scope, job.dialect
        self._progress, self._is_awaited = job.progress, is_awaited
        began, options = job.client.now(), job.options
        self._smallest_page = self._request_of_smallest_page(began)
        self._by_time = (
            self._smallest_page is not None
            and self._dialect.starting_at(self._smallest_page, began) is not None
        )
        """Whether the API can list what began since a moment, so that a listing can be resumed."""
        self._matches = job.scope.status_filter(self._dialect)
        self._seen = CompactSet()
        """The sessions that this run has listed."""
        self._unwritten: list[str] = []
        """Those of them that are not written down as seen. A list that begins again in the next run, since it
        has no order of time, needs none written down."""
        is_whole, watermark = options.reconcile, job.state.watermark
        since = earlier(watermark, options.overlap) if self._by_time and not is_whole else None
        left_open = job.state.round
        self.round = left_open or Round(began=format_time(began), since=since, is_whole=is_whole)
        fresh = fresh_since(
            left_open, began, settle=options.settle, overlap=options.overlap, by_time=self._by_time
        )
        # In a round that begins nothing has been read, whatever a clock said of it when it was.
        self._watched_before = END_OF_TIME if fresh is None else format_time(fresh)
        self._fresh = fresh or began + ONE_SECOND
        self._listed_from: datetime | None = None
        self._listed_to: datetime | None = None
        """The time range that is listed: from its first session, to when the run began."""
        self._is_later_round = job.state.rounds > 0
        self._expects_little = self._is_later_round and not self.round.is_whole

    async def tasks(self) -> AsyncGenerator[Sequence[FetchTask], None]:
        """The sessions to fetch, some at a time."""
        # A list may say more of a session than the session does itself; where all are listed, we wait for it.
        lists_all = not self._by_time and not self._scope.sessions
        later = {each.id for each in self._state.pending if each.is_unlisted and lists_all}
        pending = [each for each in self._state.pending if each.id not in later]
        self._progress.report.open += len(pending)
        if pending:
            yield pending
        if self._scope.sessions:
            self._progress.all_listed = True
            yield self._unlisted(self._scope.sessions)
            return
        oldest = self._oldest_watched()
        if oldest is not None:
            await self._job.archive.unwatch(self._job.project, oldest)
        if self._was_just_listed():
            self._progress.all_listed = True
        else:
            async with aclosing(self._listed()) as pages:
                async for page, places in pages:
                    poked = [each.id for each in page if self._was_poked(each) and self._seen.add(each.id)]
                    sessions = [each for each in page if not self._was_poked(each)]
                    found = await self._record_listing(sessions, places)
                    self._progress.report.open += len(found.to_fetch)
                    yield [*found.to_fetch, *self._unlisted(poked)]
        watched = await self._unseen(
            partial(self._job.archive.watched, fresh=self._watched_before, since=oldest)
        )
        watched += [each for each in later if each not in self._seen]
        yield self._unlisted(dict.fromkeys((*watched, *await self._missing())))

    def _was_poked(self, session: Session) -> bool:
        """Whether a poke may have brought a later state of *session*, which is then asked for by its id."""
        return session.id in self._job.poked and session.detail_is_complete

    async def look_at(self, session_id: str) -> Sequence[FetchTask]:
        """Fetch one session, and journal it; the messages to fetch of it."""
        session = await self._job.get_session(session_id)
        if not session.detail_is_complete and await self._job.archive.contains(
            self._job.project, [session_id]
        ):
            # What is kept of it came from the list, and is more than this; unless it is not to be trusted.
            pending = next((each for each in self._state.pending if each.id == session_id), None)
            if pending is None:
                return [FetchTask(session_id, None)]
            if not pending.is_unlisted:
                return []  # It is being fetched.
        found = await self._record_listing([session], None)
        return found.to_fetch

    async def probe_server(self) -> None:
        """Ask for the smallest page: a server that answers anything answers that."""
        if self._smallest_page is not None:
            await self._job.list_sessions(self._smallest_page)

    def _request_of_smallest_page(self, now: datetime) -> Request | None:
        """The request for the smallest first page of sessions; None where the API lists one user's sessions
        only, and no user is given.
        """
        try:
            return smallest_page(
                self._dialect, self._scope.listed(self._dialect, now).first_page(self._dialect)
            )
        except ValueError:
            return None

    def _unlisted(self, sessions: Iterable[str]) -> list[FetchTask]:
        tasks = [FetchTask(each, None, is_unlisted=True) for each in sessions]
        self._progress.report.open += len(tasks)
        return tasks

    def _oldest_watched(self) -> str | None:
        age = self._job.options.watch_max_age
        return None if age is None else earlier(format_time(self._job.client.now()), age)

    async def _unseen(self, ask: Callable[..., Awaitable[list[str]]]) -> list[str]:
        """The ids that *ask* reads out of the archive, some at a time, and that this run has not listed."""
        found, after = list[str](), ""
        while some := await ask(self._job.project, after=after, limit=IDS_AT_ONCE):
            found += [each for each in some if each not in self._seen]
            if some[-1] == after or len(some) < IDS_AT_ONCE:
                break  # Damaged ids have no order.
            after = some[-1]
        return found

    async def _missing(self) -> list[str]:
        """Sessions that the listing should have given, and did not."""
        if not self._is_later_round:
            return []
        return await self._unseen(partial(self._job.archive.missing, since=self.round.since))

    def _was_just_listed(self) -> bool:
        listed, now = parse_time(self.round.listed), self._job.client.now()
        return listed is not None and now - self._job.options.settle <= listed <= now

    async def _record_listing(
        self, sessions: Sequence[Session], places: Sequence[ResumePoint] | None
    ) -> SessionDiff:
        """Record the new sessions, and how far the round has come."""
        now = self._job.client.now()
        if places is not None:
            self.round = msgspec.structs.replace(
                self.round,
                reached=latest(self.round.reached, sessions, now),
                listed=None if places else format_time(now),
            )
            new = [session.id for session in sessions if self._seen.add(session.id)]
            self._unwritten += new if self._by_time and self._is_later_round else ()
        # Not copied for every page; pages of the listing come one by one, and others bring none.
        seen: list[str] = []
        if places is not None:
            seen, self._unwritten = self._unwritten, []
        found = await self._job.archive.record_listing(
            self._job.project,
            sessions,
            compare=partial(
                compare_sessions,
                clock=Clock.at(now, self._job.options.settle, self._fresh),
                is_listed=places is not None,
                matches=self._matches,
            ),
            now=format_time(now),
            round=self.round,
            places=places,
            seen=seen,
            quiet=places is None or self._expects_little,
            may_wait=self._matches is not None,
        )
        if places is not None and not found.was_written:
            self._unwritten = seen
        self._count(sessions, places, found)
        if found.was_written:
            await self._job.record_begin()
        return found

    def _count(
        self, sessions: Sequence[Session], places: Sequence[ResumePoint] | None, found: SessionDiff
    ) -> None:
        report, progress = self._job.report, self._progress
        report.listed += len(sessions)
        report.forgotten += found.forgotten
        report.skipped_rows = inside(self._job.client).skipped()
        report.inserted += len(found.inserted)
        report.changed += len(found.changed)
        report.same += len(found.same)
        if places is not None:
            if self._listed_from is None:
                times = (session.start_time for session in sessions)
                self._listed_from = next((time for time in times if time is not None), None)
            progress.all_listed = not places
            reached = parse_time(self.round.reached)
            progress.listed_from, end = self._listed_from, progress.expected_end or self._listed_to
            progress.listed_share = listed_share(places, self._listed_from, end, reached)

    async def _listed(self) -> AsyncGenerator[tuple[list[Session], list[ResumePoint]], None]:
        self._listed_to = parse_time(self._scope.end_time) or self._job.client.now()
        self._listed_from = parse_time(self._scope.start_time) or _first_moment(self._state.places)
        since = listed_since(self.round, self._job.options.overlap) if self._by_time else None
        request = self._listing_from(parse_time(since))
        listing = ParallelListing(
            self._job.list_sessions,
            self._dialect,
            request,
            expected_end=self._listed_to,
            walkers=1 if self._job.options.listing == "serial" else self._job.limiter.fixed or AUTO_WALKERS,
            in_order=False,
            is_awaited=self._is_awaited,
            speculation_budget=LATER_BUDGET if self._expects_little else SPECULATION_BUDGET,
            places=[each for each in self._state.places if self._by_time and each.next.continues(request)],
            announce=self._job.announce,
        )
        async with aclosing(listing.pages()) as pages:
            async for page in pages:
                sessions = [session for session in page if self._scope.begins_in_time(session)]
                yield sessions, listing.places() if self._by_time else [ResumePoint(request)]
        if not self._by_time:
            yield [], []

    def _listing_from(self, moment: datetime | None) -> Request:
        start, end = parse_time(self._scope.start_time), parse_time(self._scope.end_time)
        moments = [each for each in (start, moment) if each is not None]
        # A server that ignores the end may have taken us beyond it.
        begin: datetime | None = min([max(moments), *([end] if end else [])]) if moments else None
        return self._scope.listed(self._dialect, self._job.client.now()).first_page(self._dialect, begin)


def _first_moment(places: Sequence[ResumePoint]) -> datetime | None:
    """Where the first of *places* goes on; None where that is not known."""
    known = [
        position for place in places for position in (place.begin, place.reached) if position is not None
    ]
    return moment_at(min(known)) if known else None
