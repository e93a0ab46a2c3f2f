"""The sessions to fetch, as they become known: left over, asked for by name, or given by the list."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import NotFound
from navtalk_async.listing.by_time import ByTime, moment_at
from navtalk_async.listing.listing import WideListing
from navtalk_async.listing.plan import FIRST_WASTE
from navtalk_async.models import Page, Place, Request, Session, moment_of
from navtalk_async.store.store import Journalled, Standing, Store, Wanted
from navtalk_async.sync.progress import Progress
from navtalk_async.sync.scope import Scope

__all__ = ["Listed", "first_page"]

LATER_WASTE = -1
"""The first listing of a project may waste requests on finding out where most of it is. A later one must have
proved long before it may: it seldom brings much."""


class Listed:
    """What is wanted of one project, page by page; every page is journalled before it is given.

    Arguments:
        list_sessions, get_session: ask for a page, and for one session.
        walkers: the most pages of the listing at once.
        is_awaited: whether there is nothing else to fetch meanwhile.
        on_doubt: see `WideListing`.
    """

    def __init__(
        self,
        dialect: Dialect,
        store: Store,
        *,
        project: str,
        scope: Scope,
        progress: Progress,
        list_sessions: Callable[[Request], Awaitable[Page[Session]]],
        get_session: Callable[[Request], Awaitable[Session]],
        walkers: int,
        is_awaited: Callable[[], bool],
        on_doubt: Callable[[str], None],
    ) -> None:
        self._dialect = dialect
        self._store = store
        self._project = project
        self._scope = scope
        self._progress = progress
        self._list_sessions = list_sessions
        self._get_session = get_session
        self._walkers = walkers
        self._is_awaited = is_awaited
        self._on_doubt = on_doubt
        self._began = datetime.now(UTC)

    async def wanted(self, standing: Standing, overlap: timedelta) -> AsyncGenerator[Sequence[Wanted], None]:
        """The sessions to fetch, some at a time."""
        self._progress.open += len(standing.pending)
        if standing.pending:
            yield standing.pending
        pages = self._named() if self._scope.sessions else self._listed(standing, overlap)
        async with aclosing(pages):
            async for sessions, places in pages:
                now = f"{self._began:%Y-%m-%d %H:%M:%S}"
                found = await self._store.journal(self._project, sessions, places, now=now)
                self._note(sessions, places, found)
                yield found.to_fetch

    async def _named(self) -> AsyncGenerator[tuple[list[Session], list[Place]], None]:
        """The sessions that the scope names, one by one: what cannot be had costs no other."""
        for session_id in self._scope.sessions:
            try:
                session = await self._get_session(self._dialect.get_session(session_id))
            except NotFound as error:
                failure = f"{type(error).__name__}: {error.args[0]}"
                await self._store.fail(self._project, [(session_id, failure, error.attempts)])
                continue
            yield [session], []

    async def _listed(
        self, standing: Standing, overlap: timedelta
    ) -> AsyncGenerator[tuple[list[Session], list[Place]], None]:
        self._progress.ends_at = moment_of(self._scope.end) or self._began
        self._progress.began_at = moment_of(self._scope.start) or first_moment(standing.places)
        request = self._listing_from(_earlier(standing.watermark, overlap))
        listing: WideListing[Session] = WideListing(
            self._list_sessions,
            request,
            axis=ByTime.of(self._dialect, request, self._progress.ends_at),
            walkers=self._walkers,
            listed=False,
            full=self._dialect.rows(request),
            is_awaited=self._is_awaited,
            waste=FIRST_WASTE if standing.watermark is None else LATER_WASTE,
            places=standing.places,
            on_doubt=self._on_doubt,
        )
        async with aclosing(listing.pages()) as pages:
            async for sessions in pages:
                yield sessions, listing.places()

    def _listing_from(self, moment: datetime | None) -> Request:
        start, end = moment_of(self._scope.start), moment_of(self._scope.end)
        moments = [each for each in (start, moment) if each is not None]
        # A server that ignores the end may have taken us beyond it.
        begin = min([max(moments), *([end] if end else [])]) if moments else None
        return first_page(self._dialect, self._scope, begin)

    def _note(self, sessions: Sequence[Session], places: Sequence[Place], found: Journalled) -> None:
        progress = self._progress
        progress.listed += len(sessions)
        progress.inserted += len(found.inserted)
        progress.changed += len(found.changed)
        progress.same += len(found.same)
        progress.open += len(found.to_fetch)
        times = (session.start_time for session in sessions)
        progress.began_at = progress.began_at or next((time for time in times if time is not None), None)
        progress.listed_up_to(places)


def first_page(dialect: Dialect, scope: Scope, start: datetime | str | None) -> Request:
    """The question for the first page of the sessions in *scope* that begin at *start* or later.

    Raises:
        ValueError: a filter that cannot be right.
    """
    return dialect.list_sessions(start_time=start, end_time=scope.end, status=scope.status)


def first_moment(places: Sequence[Place]) -> datetime | None:
    """Where the first of *places* goes on; None where that is not known."""
    known = [
        position for place in places for position in (place.begin, place.reached) if position is not None
    ]
    return moment_at(min(known)) if known else None


def _earlier(text: str | None, by: timedelta) -> datetime | None:
    """A moment before the one that *text* means; None where there is none, and the listing starts over."""
    moment = moment_of(text)
    try:
        return None if moment is None else moment - by
    except OverflowError:
        return None
