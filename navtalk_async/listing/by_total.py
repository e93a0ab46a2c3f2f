"""The walk of a list that is paged by offset and tells its total, from many places at once.

What came in the first page is the step, and what the total promises beyond it is cut into chunks of one step.
Neither is believed further than that: a chunk whose page was short is walked on, a list that goes on behind
its last chunk as well, and nothing more is asked for behind a place where nothing came.

Offsets shift when rows come and go before them, so a walk of a list that moves may miss some. The totals give
it away, and the list is walked again.
"""

import math
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from navtalk_async.fanout import FanOut, Order
from navtalk_async.models import Page, Place, Record, Request
from navtalk_async.paging import walk

__all__ = ["WALKS", "OffsetListing", "Seen", "Tally"]

T = TypeVar("T", bound=Record)

WALKS = 3
"""How often a list is walked in the hope that it keeps still meanwhile."""


class Seen:
    """The ids of any number of rows, at 16 to 32 bytes each: their hashes, in an open table."""

    def __init__(self) -> None:
        self._table = array("q", bytes(8 * 1024))
        self._count = 0

    def add(self, name: str) -> bool:
        """Remember *name*; whether it is new."""
        number = hash(name) or 1
        place = self._place(number)
        if self._table[place]:
            return False
        self._table[place] = number
        self._count += 1
        if 2 * self._count > len(self._table):
            self._grow()
        return True

    def _place(self, number: int) -> int:
        """Where *number* is, or where there is room for it."""
        table, last = self._table, len(self._table) - 1
        place = number & last
        while table[place] and table[place] != number:
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        numbers, self._table = self._table, array("q", bytes(2 * 8 * len(self._table)))
        for number in numbers:
            if number:
                self._table[self._place(number)] = number


class Tally(Generic[T]):
    """What came of a list in one walk after the other, and whether that is all there is."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._total: int | None = None
        self._has_moved = False
        self._walks = self._rows = self._new = 0

    def begin(self) -> None:
        """Count what comes from here on as another walk."""
        self._walks += 1
        self._total, self._has_moved = None, False
        self._rows = self._new = 0

    def note(self, total: int | None) -> None:
        """Note what some page of this walk said to be the *total*."""
        if total is not None:
            self._has_moved |= self._total not in (None, total)
            self._total = total

    def new(self, rows: list[T]) -> list[T]:
        """Those of *rows* that were never given before; they are, from now on."""
        new = [row for row in rows if self._seen.add(row.id)]
        self._rows += len(rows)
        self._new += len(new)
        return new

    @property
    def doubt(self) -> str | None:
        """Why rows may be missing after this walk; None if it was a quiet one."""
        if self._has_moved:
            return "its total changed while it was walked"
        # In the first walk, whatever came twice has taken the place of something else.
        came = self._new if self._walks == 1 else self._rows
        if self._total is not None and came < self._total and (self._new or self._walks == 1):
            return f"it gave {came:,} rows of {self._total:,}"
        return None


class Cut:
    """The chunks of a list beyond its first page, one *step* of rows each, as far as its *total* promises."""

    def __init__(self, step: int, total: int) -> None:
        self.step = step
        self.begins = range(step, total, step or 1)
        self.end = math.inf
        """Where nothing came; the list has ended there, whatever it promised."""

    async def in_turn(self) -> AsyncGenerator[list[int], None]:
        """Where each chunk begins, one after the other, up to the end."""
        for begin in self.begins:
            if begin >= self.end:
                return
            yield [begin]


class Chunk(NamedTuple, Generic[T]):
    """The rows of a chunk, and the question for what follows on it where that is promised."""

    begin: int
    rows: list[T]
    at: int
    following: Request | None


class OffsetListing(Generic[T]):
    """The rows of such a list, page by page, each once.

    What is found only when a list that moves is walked again is given last, whatever the order.

    Arguments:
        ask: gets the page that a request asks for.
        request: the question for the whole list, from its first row on.
        asked_from: the question for the page behind the first so many rows; None where there is none, and
            the list is walked in the plain way.
        walkers: the most requests at once.
        listed: whether rows come in the order of the list, or each chunk as soon as it is there.
        on_doubt: called with the reason whenever rows may have been missed by a walk.
    """

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Page[T]]],
        request: Request,
        *,
        asked_from: Callable[[int], Request | None],
        walkers: int,
        listed: bool,
        on_doubt: Callable[[str], None] | None = None,
    ) -> None:
        self._ask = ask
        self._request = request
        self._asked_from = asked_from
        self._walkers = walkers
        self._order: Order = "listed" if listed else "done"
        self._on_doubt = on_doubt

    def __repr__(self) -> str:
        return f"<OffsetListing {self._request.path} {self._request.params} by {self._walkers}>"

    def places(self) -> list[Place]:
        """None: offsets shift, so who was stopped begins again."""
        return []

    async def pages(self) -> AsyncGenerator[list[T], None]:
        """The rows of one page or chunk after the other; there may be none in one.

        Raises:
            RepeatedPage: see `paging.Trail`.
        """
        tally: Tally[T] = Tally()
        for number in range(WALKS):
            tally.begin()
            async with aclosing(self._widely(tally) if number == 0 else self._plainly(tally)) as pages:
                async for rows in pages:
                    yield tally.new(rows)
            if tally.doubt is None:
                return
            if self._on_doubt is not None:
                self._on_doubt(tally.doubt)

    def _plainly(self, tally: Tally[T]) -> AsyncGenerator[list[T], None]:
        return self._on(tally, self._request, 0)

    async def _widely(self, tally: Tally[T]) -> AsyncGenerator[list[T], None]:
        first = await self._page(tally, self._request)
        yield first.items
        at = len(first.items)
        following = self._after(first, at)
        cut = Cut(at, first.total or 0)
        # Where the page says that it is the last, its total alone is not worth more than one request.
        if first.next is not None and len(cut.begins) > 1 and self._walkers > 1:
            following = None
            work = partial(self._chunk, tally, cut)
            async with FanOut(work, cut.in_turn(), at_once=self._walkers, order=self._order) as chunks:
                async for chunk in chunks:
                    yield chunk.rows
                    if chunk.begin == cut.begins[-1]:
                        at, following = chunk.at, chunk.following
        async with aclosing(self._on(tally, following, at)) as pages:
            async for rows in pages:
                yield rows

    async def _chunk(self, tally: Tally[T], cut: Cut, begin: int) -> Chunk[T]:
        rows: list[T] = []
        at, following = begin, self._asked_from(begin)
        while following is not None and at < min(begin + cut.step, cut.end):
            page = await self._page(tally, following)
            rows += page.items
            at += len(page.items)
            following = self._after(page, at)
            if not page.items and following is None:
                cut.end = min(cut.end, at)
        return Chunk(begin, rows, at, following if at < cut.end else None)

    async def _on(self, tally: Tally[T], request: Request | None, at: int) -> AsyncGenerator[list[T], None]:
        """The rows of the page that *request* asks for, behind the first *at* rows, and of all after it."""

        async def ask(request: Request) -> Page[T]:
            nonlocal at
            page = await self._page(tally, request)
            at += len(page.items)
            return Page(page.items, self._after(page, at))

        async with aclosing(walk(ask, request)) as pages:
            async for page in pages:
                yield page.items

    async def _page(self, tally: Tally[T], request: Request) -> Page[T]:
        page = await self._ask(request)
        tally.note(page.total)
        return page

    def _after(self, page: Page[T], at: int) -> Request | None:
        """What to ask after *page*, which ends behind the first *at* rows; None where nothing is promised."""
        if page.next is not None or not page.items:
            return page.next
        return self._asked_from(at) if page.total is not None and page.total > at else None
