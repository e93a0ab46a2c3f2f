"""The sessions to fetch, as they become known: left over, asked for by name, listed, missing or watched."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial

import msgspec

from navtalk_async.archive import Archive
from navtalk_async.archive.records import Clock, FetchTask, JournalResult, Round, SyncState
from navtalk_async.archive.rows import format_time, iso
from navtalk_async.events import Event
from navtalk_async.ingest.asking import Asking
from navtalk_async.ingest.progress import Progress
from navtalk_async.ingest.reread_rules import compare_sessions
from navtalk_async.listing import SPECULATION_BUDGET, list_in_parallel
from navtalk_async.listing.sort_key import moment_at
from navtalk_async.models import Place, Request, Session, as_utc, parse_time

__all__ = ["Habits", "Listed"]

LATER_BUDGET = -1
"""The first listing of a project may waste requests on finding out where most of it is. A later one must have
proved long before it may: it seldom brings much."""


ONE_SECOND = timedelta(seconds=1)
"""What was read in the second in which a round began may have been read before it."""


END_OF_TIME = "9999-12-31T23:59:59Z"


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How far a round goes to find what changed; the arguments of `sync` by the same names."""

    overlap: timedelta
    settle: timedelta
    watch_max_age: timedelta | None = None
    reconcile: bool = False


class Listed:
    """What is wanted of one project in one round; every page of its listing is journalled before it is given.

    Arguments:
        walkers: the most pages of the listing at once.
        is_awaited: whether there is nothing else to fetch meanwhile.
        announce: called when the listing is not as it should be.
    """

    def __init__(
        self,
        asking: Asking,
        store: Archive,
        standing: SyncState,
        habits: Habits,
        *,
        project: str,
        progress: Progress,
        walkers: int,
        is_awaited: Callable[[], bool],
        announce: Callable[[Event], None],
    ) -> None:
        self._ask = asking
        self._dialect = asking.dialect
        self._store = store
        self._standing = standing
        self._habits = habits
        self._project = project
        self._scope = asking.scope
        self._matches = asking.scope.status_sieve(asking.dialect)
        self._progress = progress
        self._walkers = walkers
        self._is_awaited = is_awaited
        self._announce = announce
        least = asking.least
        self._by_time = least is not None and self._dialect.starting_at(least, asking.now()) is not None
        """Whether what is new can be listed alone, and a listing gone on with."""
        self._seen: set[str] = set()
        """The sessions that were listed and not written down as seen; in a quiet round, all of them."""
        began = asking.now()
        self.round = standing.round or next_round(standing, habits, began, by_time=self._by_time)
        self._goes_on = is_gone_on_with(standing.round, began)
        # Where no change is told, everything is watched: who was stopped would begin all over again.
        trusted = habits.settle if self._by_time else max(habits.settle, habits.overlap)
        self._fresh = fresh_from(self.round, began, trusted) if self._goes_on else began + ONE_SECOND

    async def wanted(self) -> AsyncGenerator[Sequence[FetchTask], None]:
        """The sessions to fetch, some at a time."""
        # The list may tell more of a session than it does itself; where all are listed, that is waited for.
        later = {each.id for each in self._standing.pending if each.is_unlisted and self._lists_all}
        pending = [each for each in self._standing.pending if each.id not in later]
        self._progress.report.open += len(pending)
        if pending:
            yield pending
        if self._scope.sessions:
            self._progress.all_listed = True
            yield self._to_look_at(self._scope.sessions)
            return
        watched = dict.fromkeys((*await self._watched(), *later))
        if self._was_listed_just_now():
            self._progress.all_listed = True
        else:
            async with aclosing(self._listed()) as pages:
                async for sessions, places in pages:
                    for session in sessions:
                        watched.pop(session.id, None)
                    found = await self._journal(sessions, places)
                    self._progress.report.open += len(found.to_fetch)
                    yield found.to_fetch
        yield self._to_look_at(dict.fromkeys((*watched, *await self._missing())))

    async def look(self, session_id: str) -> Sequence[FetchTask]:
        """Ask for one session, and journal it; what there is to fetch of it.

        Raises:
            NotFound: it is gone.
        """
        session = await self._ask.get_session(self._dialect.get_session(session_id))
        if not session.tells_all_alone and await self._store.contains(self._project, [session_id]):
            # What is kept of it came from the list, and is more than this; unless it is not to be trusted.
            pending = next((each for each in self._standing.pending if each.id == session_id), None)
            if pending is None:
                return [FetchTask(session_id, None)]
            if not pending.is_unlisted:
                return []  # It is being fetched.
        found = await self._journal([session], None)
        return found.to_fetch

    def _to_look_at(self, sessions: Iterable[str]) -> list[FetchTask]:
        wanted = [FetchTask(each, None, is_unlisted=True) for each in sessions]
        self._progress.report.open += len(wanted)
        return wanted

    @property
    def _lists_all(self) -> bool:
        return not self._by_time and not self._scope.sessions

    async def _watched(self) -> list[str]:
        oldest = self._habits.watch_max_age
        return await self._store.watched(
            self._project,
            # In a round that begins nothing has been read, whatever a clock said of it when it was.
            fresh=format_time(self._fresh) if self._goes_on else END_OF_TIME,
            since=None if oldest is None else earlier(format_time(self._ask.now()), oldest),
        )

    async def _missing(self) -> list[str]:
        """Sessions that the listing should have given, and did not."""
        if not self._is_later_round:
            return []
        missing = await self._store.missing(self._project, since=self.round.since)
        return [each for each in missing if each not in self._seen]

    @property
    def _is_later_round(self) -> bool:
        return self._standing.rounds > 0

    def _was_listed_just_now(self) -> bool:
        listed, now = parse_time(self.round.listed), self._ask.now()
        return listed is not None and now - self._habits.settle <= listed <= now

    async def _journal(self, sessions: Sequence[Session], places: Sequence[Place] | None) -> JournalResult:
        """Write down what is new, and how far the round has come."""
        now = self._ask.now()
        if places is not None:
            self.round = msgspec.structs.replace(
                self.round,
                reached=latest(self.round.reached, sessions, now),
                listed=None if places else format_time(now),
            )
            if self._is_later_round:
                self._seen.update(session.id for session in sessions)
        seen = tuple(self._seen)
        found = await self._store.record_listing(
            self._project,
            sessions,
            compare=partial(
                compare_sessions,
                clock=Clock.at(now, self._habits.settle, self._fresh),
                is_listed=places is not None,
                matches=self._matches,
            ),
            now=format_time(now),
            round=self.round,
            places=places,
            seen=seen,
            quiet=places is None or (self._is_later_round and not self.round.is_whole),
            may_wait=self._matches is not None,
        )
        if found.was_written:
            self._seen.difference_update(seen)
        self._note(sessions, places, found)
        return found

    async def _listed(self) -> AsyncGenerator[tuple[list[Session], list[Place]], None]:
        self._progress.range_end = parse_time(self._scope.end) or self._ask.now()
        self._progress.range_start = parse_time(self._scope.start) or first_moment(self._standing.places)
        since = listed_from(self.round, self._habits.overlap) if self._by_time else None
        request = self._listing_from(parse_time(since))
        listing = list_in_parallel(
            self._ask.list_sessions,
            self._dialect,
            request,
            expected_end=self._progress.range_end,
            walkers=self._walkers,
            in_order=False,
            is_awaited=self._is_awaited,
            speculation_budget=(
                LATER_BUDGET if self._is_later_round and not self.round.is_whole else SPECULATION_BUDGET
            ),
            places=[each for each in self._standing.places if self._by_time and each.next.continues(request)],
            announce=self._announce,
        )
        async with aclosing(listing.pages()) as pages:
            async for page in pages:
                sessions = [session for session in page if self._scope.begins_in_time(session)]
                yield sessions, listing.places() if self._by_time else [Place(request)]
        if not self._by_time:
            yield [], []

    def _listing_from(self, moment: datetime | None) -> Request:
        start, end = parse_time(self._scope.start), parse_time(self._scope.end)
        moments = [each for each in (start, moment) if each is not None]
        # A server that ignores the end may have taken us beyond it.
        begin = min([max(moments), *([end] if end else [])]) if moments else None
        return self._scope.listed(self._dialect, self._ask.now()).first_page(self._dialect, begin)

    def _note(
        self, sessions: Sequence[Session], places: Sequence[Place] | None, found: JournalResult
    ) -> None:
        progress, report = self._progress, self._progress.report
        report.listed += len(sessions)
        report.inserted += found.inserted
        report.changed += found.changed
        report.same += found.same
        if places is not None:
            times = (session.start_time for session in sessions)
            if progress.range_start is None:
                progress.range_start = next((time for time in times if time is not None), None)
            progress.listed_up_to(places)


def is_gone_on_with(open_round: Round | None, now: datetime) -> bool:
    """Whether what was read in a round that was left open counts; not where the clock has gone back since."""
    began = None if open_round is None else parse_time(open_round.began)
    return began is not None and began <= now


def fresh_from(open_round: Round, now: datetime, trusted: timedelta) -> datetime:
    """From when on what was read in a round that was left open need not be read again in it; what was read so
    long ago is *trusted*.
    """
    return max(as_utc(open_round.began), now - trusted)


def listed_from(open_round: Round, overlap: timedelta) -> str | None:
    """Where the listing of a round begins; one that had come to its end before, lists what came since."""
    if open_round.listed is None or open_round.reached is None:
        return open_round.since
    again = earlier(min(open_round.reached, open_round.began), overlap)
    return max((each for each in (open_round.since, again) if each is not None), default=None)


def next_round(standing: SyncState, habits: Habits, now: datetime, *, by_time: bool) -> Round:
    """A round that begins *now*; one that lists everything, where it cannot be listed *by_time*."""
    is_partial = by_time and not habits.reconcile
    since = earlier(standing.watermark, habits.overlap) if is_partial else None
    return Round(began=format_time(now), since=since, is_whole=habits.reconcile)


def first_moment(places: Sequence[Place]) -> datetime | None:
    """Where the first of *places* goes on; None where that is not known."""
    known = [
        position for place in places for position in (place.begin, place.reached) if position is not None
    ]
    return moment_at(min(known)) if known else None


def latest(reached: str | None, sessions: Sequence[Session], now: datetime) -> str | None:
    """The latest begin among *sessions* and what was *reached* before, in ISO 8601.

    A session that is dated in the future tells nothing of how far the others have come.
    """
    begins = [iso(session.start_time_text) for session in sessions]
    past = (each for each in (reached, *begins) if each is not None and each <= format_time(now))
    return max(past, default=None)


def earlier(text: str | None, by: timedelta) -> str | None:
    """A moment before the one that *text* means; None where there is none, and the listing starts over."""
    moment = parse_time(text)
    try:
        return None if moment is None else format_time(moment - by)
    except OverflowError:
        return None
