"""List one long span from many places at once, as many as its reader has use for."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import date, datetime

from navtalk_async.concurrency import ParkingLot
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import ApiError, DecodeFailed
from navtalk_async.events import CursorRefused, Event, ListedSerially, ListMoved
from navtalk_async.listing._scheduler import SPECULATION_BUDGET, SplitScheduler, Task
from navtalk_async.listing._segment import SortKey, moment_at, seconds_of
from navtalk_async.models import Page, Request, ResumePoint, Session

__all__ = ["SPECULATION_BUDGET", "ParallelListing", "moment_at", "seconds_of"]


class ParallelListing:
    """The sessions of the list that *request* asks for. Iterate its `pages()`, and close them (`aclosing`) to
    leave early; its `places()` say at any time where a later run continues.

    It begins with one walker, and keeps to that while its reader is busy: no request is spent on speed that
    nobody needs. When the reader waits, the list is split and its segments are walked at the same time; see
    `SplitScheduler` for how, and for why no row is lost.

    Arguments:
        ask: fetches the page of a request.
        expected_end: when the last session is expected to start; by default, now.
        walkers: the most requests at once.
        in_order: whether rows come in the order of the list, or each page as soon as it is there.
        is_awaited: whether the reader has nothing else to do; called when it wants rows, and when they come.
            Default: whether more time went into waiting for rows than into using them.
        speculation_budget: how many requests may be wasted before anything is known of the list.
        places: where an earlier walk of the same list stopped.
        announce: called with a `ListedSerially` when the server makes a serial walk necessary, with a
            `CursorRefused` when a cursor has expired, and with a `ListMoved` when the rows of a list that is
            paged by offset moved.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Page[Session]]],
        dialect: Dialect,
        request: Request,
        *,
        expected_end: datetime | date | str | None,
        walkers: int,
        in_order: bool,
        is_awaited: Callable[[], bool] | None = None,
        speculation_budget: int = SPECULATION_BUDGET,
        places: Sequence[ResumePoint] = (),
        announce: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._ask = ask
        self._scheduler = SplitScheduler(
            request,
            sort_key=SortKey.of(dialect, request, expected_end),
            walkers=walkers,
            in_order=in_order,
            page_size=dialect.page_limit(request),
            speculation_budget=speculation_budget,
            places=places,
        )
        self._is_awaited = is_awaited or self._waits_most
        self._announce = announce
        self._walkers: set[asyncio.Task[None]] = set()
        self._has_delivered = self._came_late = False
        self._waiting_seconds = self._using_seconds = 0.0
        self._reader = ParkingLot()
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"<ParallelListing by {len(self._walkers) or 1}>"

    def places(self) -> list[ResumePoint]:
        """Where a later run continues with the rows that were not delivered; empty when all were."""
        return self._scheduler.places()

    async def pages(self) -> AsyncGenerator[list[Session], None]:
        """The rows of one page after the other; a page may have none."""
        loop = asyncio.get_running_loop()
        # Tasks and no task group, which must not be open around a yield (PEP 789).
        try:
            while True:
                rows = self._scheduler.next_rows()
                if rows is not None:
                    delivered_at = loop.time()
                    yield rows
                    self._using_seconds += loop.time() - delivered_at
                    is_late = self._came_late or self._is_awaited()
                    self._scheduler.is_parallel = self._scheduler.walkers > 1 and is_late
                    self._has_delivered, self._came_late = True, False
                    self._start_walkers()
                elif self._scheduler.is_over:
                    return
                elif self._error is not None:
                    raise self._error
                else:
                    wanted_at = loop.time()
                    await self._more()
                    self._waiting_seconds += loop.time() - wanted_at
        finally:
            for walker in self._walkers:
                walker.cancel()
            await asyncio.gather(*self._walkers, return_exceptions=True)

    def _waits_most(self) -> bool:
        return self._waiting_seconds > self._using_seconds

    async def _more(self) -> None:
        """Wait until there may be more rows."""
        self._start_walkers()
        if self._walkers:
            await self._reader.park()
        elif (task := self._scheduler.next_task()) is not None:
            await self._fetch(task)
        else:
            # A bug of ours; without this, it would keep the event loop busy for ever.
            raise RuntimeError(f"{self!r} has nothing to fetch, and is not over.")
        # Every reader waits for the first page.
        self._came_late = self._has_delivered and self._is_awaited()

    def _start_walkers(self) -> None:
        scheduler = self._scheduler
        # A single walk needs no task: the reader fetches its next page.
        most = scheduler.walkers if scheduler.max_pages_ahead > 1 else 0
        while len(self._walkers) < most and (task := scheduler.next_task()) is not None:
            self._walkers.add(asyncio.create_task(self._walk(task)))

    async def _walk(self, task: Task) -> None:
        following: Task | None = task
        try:
            while following is not None and self._error is None:
                await self._fetch(following)
                self._reader.unpark()
                following = self._scheduler.next_task()
                self._start_walkers()
        except Exception as error:  # noqa: BLE001 - the reader gets it, whatever it is
            self._error = self._error or error
            self._reader.unpark()
        finally:
            # At once: the reader waits only while a walker is at work.
            walker = asyncio.current_task()
            if walker is not None:
                self._walkers.discard(walker)

    async def _fetch(self, task: Task) -> None:
        scheduler = self._scheduler
        try:
            page = await self._ask(task.request)
        except (ApiError, DecodeFailed) as error:
            if not scheduler.can_retry(task, error):
                raise
            if isinstance(error, ApiError):
                self._announce(CursorRefused(task.request.path, error.message, task.segment.since_text))
            return
        was_trusted = scheduler.fallback_reason is None
        scheduler.add(task, page)
        if was_trusted and scheduler.fallback_reason is not None:
            self._announce(ListedSerially(scheduler.fallback_reason))
        task.segment.guard.report(lambda path, reason: self._announce(ListMoved(path, reason)))
