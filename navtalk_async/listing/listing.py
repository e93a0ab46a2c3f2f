"""Walk a list from as many places at once as there is demand for."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from navtalk_async.concurrency import ParkingLot
from navtalk_async.errors import AccessDenied, ApiError, DecodeFailed, RateLimited
from navtalk_async.events import Event, ListedSerially, ListMoved
from navtalk_async.listing.plan import FIRST_WASTE, Ask, Plan
from navtalk_async.listing.stretch import Axis
from navtalk_async.models import Page, Place, Record, Request

__all__ = ["WideListing"]

T = TypeVar("T", bound=Record)


class WideListing(Generic[T]):
    """The rows of a list, page by page, from one walk or from many.

    It begins with one walk. As long as whoever takes the rows has enough to do meanwhile, it stays with that:
    no request is spent on haste that nobody needs. When they are waited for, the list is cut, and its
    stretches are walked at the same time; see `plan` for how, and for why no row is lost by that.

    Arguments:
        ask: gets the page that a request asks for.
        request: the question for the whole list.
        axis: what it may be cut by; None if it may not be cut.
        walkers: the most requests at once.
        listed: whether rows come in the order of the list, or each page as soon as it is there.
        full: how many rows are asked for at once.
        is_awaited: whether whoever takes the rows has nothing else to do; asked when the next are wanted, and
            when they come. Default: whether more time went into waiting for rows than into using them.
        waste: how many requests may come to nothing before anything is known of the list.
        places: where an earlier walk of the same list had come to.
        announce: called with a `ListedSerially` when the server makes it necessary to walk in the plain way,
            and with a `ListMoved` when a list that is paged by offset moved meanwhile.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Page[T]]],
        request: Request,
        *,
        axis: Axis[T] | None,
        walkers: int,
        listed: bool,
        full: int,
        is_awaited: Callable[[], bool] | None = None,
        waste: int = FIRST_WASTE,
        places: Iterable[Place] = (),
        announce: Callable[[Event], None] | None = None,
    ) -> None:
        self._ask = ask
        self._plan: Plan[T] = Plan(
            request, axis=axis, walkers=walkers, listed=listed, full=full, waste=waste, places=places
        )
        self._most = walkers
        self._is_awaited = is_awaited or self._waits_most
        self._announce = announce
        self._walkers: set[asyncio.Task[None]] = set()
        self._has_given = self._came_late = False
        self._waiting_seconds = self._using_seconds = 0.0
        self._came = ParkingLot()
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"<WideListing {self._plan!r} by {len(self._walkers) or 1}>"

    def places(self) -> list[Place]:
        """Where to go on with what was not given so far; none when all was."""
        return self._plan.places()

    async def pages(self) -> AsyncGenerator[list[T], None]:
        """The rows of one page after the other; a page may have none.

        Raises:
            RepeatedPage: the pages of a walk lead in a circle, or go on without rows.
        """
        loop = asyncio.get_running_loop()
        # Tasks, and no task group: there must be none around a yield. Who leaves early closes the generator.
        try:
            while True:
                rows = self._plan.give()
                if rows is not None:
                    given_at = loop.time()
                    yield rows
                    self._using_seconds += loop.time() - given_at
                    self._plan.is_wide = self._most > 1 and (self._came_late or self._is_awaited())
                    self._has_given, self._came_late = True, False
                    self._read_ahead()
                elif self._plan.is_over:
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
        self._read_ahead()
        if self._walkers:
            await self._came.park()
        elif (ask := self._plan.take()) is not None:
            await self._step(ask)
        else:
            # A bug of ours; without this, it would keep the whole event loop busy for ever.
            raise RuntimeError(f"{self!r} has nothing to ask, and is not over.")
        # Everybody waits for the first page.
        self._came_late = self._has_given and self._is_awaited()

    def _read_ahead(self) -> None:
        # A single walk needs nobody to be sent out: whoever wants its next page asks for it.
        if self._plan.room > 1:
            self._send_out()

    def _send_out(self) -> None:
        """Have as many walkers as there is to ask, and may be."""
        while len(self._walkers) < self._most and (ask := self._plan.take()) is not None:
            self._walkers.add(asyncio.create_task(self._walk(ask)))

    async def _walk(self, ask: Ask[T]) -> None:
        following: Ask[T] | None = ask
        try:
            while following is not None and self._error is None:
                await self._step(following)
                self._came.unpark()
                following = self._plan.take()
                self._send_out()
        except Exception as error:  # noqa: BLE001 - whoever takes the rows gets it, whatever it is
            self._error = self._error or error
            self._came.unpark()
        finally:
            # At once, since whoever waits for rows counts on those who are still at work.
            walker = asyncio.current_task()
            if walker is not None:
                self._walkers.discard(walker)

    async def _step(self, ask: Ask[T]) -> None:
        try:
            page = await self._ask(ask.request)
        except (AccessDenied, RateLimited):
            raise
        except (ApiError, DecodeFailed):
            if not self._plan.refused(ask):
                raise
            return
        trusted = self._plan.doubt is None
        self._plan.answered(ask, page)
        if self._announce is None:
            return
        if trusted and self._plan.doubt is not None:
            self._announce(ListedSerially(self._plan.doubt))
        ask.stretch.trail.tell(self._moved)

    def _moved(self, path: str, reason: str) -> None:
        if self._announce is not None:
            self._announce(ListMoved(path, reason))
