"""The walk of a list that is paged by offset and tells its total, from many places at once.

What the total promises beyond the first page is cut into chunks of as many rows as came in that page. Neither
is believed further than that: a chunk whose page was short is walked on, a list that goes on behind its last
chunk as well, and nothing more is asked for behind a place where nothing came.

Offsets shift when rows come and go before them, so a walk of a list that moves may miss some. So neighbouring
pages share a row: whatever is in the list throughout stays on one side of it, and if both pages show the same
row at the same place, nothing between them was missed. Where they do not, or where the totals tell of a
change, the list is walked again. Pages of a single row have none to share, and there the totals are all that
tells.
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from navtalk_async.fanout import FanOut, Order
from navtalk_async.listing.tally import Tally
from navtalk_async.models import Page, Place, Record, Request
from navtalk_async.paging import SAME_PAGES_IN_A_ROW, Trail

__all__ = ["WALKS", "OffsetListing"]

T = TypeVar("T", bound=Record)

WALKS = 3
"""How often a list is walked in the hope that it keeps still meanwhile."""


class Strand(Generic[T]):
    """A walk from page to page from the place *at* on, where *following* asks for the first one.

    After a page of several rows, the next is asked for from the last of them on, and must begin with that
    one. After a page of one row it is asked for from behind it, or it might be the same page for ever.
    """

    def __init__(
        self, asked_from: Callable[[int], Request | None], following: Request | None, at: int
    ) -> None:
        self._asked_from = asked_from
        self._shared: T | None = None
        self.following = following
        """What to ask next; None at the end."""
        self.at = at
        """How many rows of the list there are up to here."""
        self.has_moved = False
        """Whether some page did not begin with the row that the one before it ended with."""
        self.has_ended = False
        """Whether nothing came, and nothing more is promised."""

    def take(self, page: Page[T]) -> list[T]:
        """The rows that *page* adds to those before it."""
        rows, shared = page.items, self._shared
        if not rows:
            self.following, self.has_ended = page.next, page.next is None
            self.has_moved |= self.has_ended and shared is not None
            return []
        self.at += len(rows) - (shared is not None)
        self._go_on_after(page)
        if shared is not None and rows[0].id == shared.id:
            return rows[1:]
        self.has_moved |= shared is not None
        return rows

    def _go_on_after(self, page: Page[T]) -> None:
        self.following = self._shared = None
        if page.next is None and (page.total or 0) <= self.at:
            return
        if len(page.items) > 1 and (overlapping := self._asked_from(self.at - 1)) is not None:
            self.following, self._shared = overlapping, page.items[-1]
        else:
            self.following = page.next or self._asked_from(self.at)


class Cut:
    """The chunks of a list beyond its first page of so many *rows*, as far as its *total* promises."""

    def __init__(self, rows: int, total: int) -> None:
        self.rows = rows
        self.shared = 1 if rows > 1 else 0
        """How many rows neighbours have in common."""
        self.step = rows - self.shared
        self.begins = range(self.step, total - self.shared, self.step)
        self.end = math.inf
        """Where nothing came; the list has ended there, whatever it promised."""

    async def in_turn(self) -> AsyncGenerator[list[int], None]:
        """Where each chunk begins, one after the other, up to the end."""
        for begin in self.begins:
            if begin >= self.end:
                return
            yield [begin]


class Chunk(NamedTuple, Generic[T]):
    """The rows from *begin* on up to where their *strand* is; an error may have cut it off."""

    begin: int
    rows: list[T]
    strand: Strand[T]
    error: Exception | None = None

    def shared(self, cut: Cut) -> Iterator[tuple[int, str]]:
        """The place and the id of each row that it has in common with another chunk of *cut*."""
        if self.rows and cut.shared:
            if self.begin > 0:
                yield self.begin, self.rows[0].id
            place, behind = self.begin + cut.step, self.strand.at
            if place < behind and self.begin < cut.begins[-1]:
                yield place, self.rows[place - behind].id


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
            walk = self._widely(tally) if number == 0 else self._on(tally, self._strand(self._request, 0))
            async with aclosing(walk) as pages:
                async for rows in pages:
                    yield tally.new(rows)
            if tally.doubt is None:
                return
            if self._on_doubt is not None:
                self._on_doubt(tally.doubt)

    def _strand(self, request: Request | None, at: int) -> Strand[T]:
        return Strand(self._asked_from, request, at)

    async def _widely(self, tally: Tally[T]) -> AsyncGenerator[list[T], None]:
        strand = self._strand(self._request, 0)
        page, rows = await self._step(tally, strand, self._request)
        yield rows
        # Where the page says that it is the last, its total alone is not worth more than one request.
        if page.next is not None and 0 < 2 * strand.at < (page.total or 0) and self._walkers > 1:
            cut = Cut(strand.at, page.total or 0)
            tally.share(Chunk(0, rows, strand).shared(cut))
            strand.following = None
            work = partial(self._chunk, tally, cut)
            async with FanOut(work, cut.in_turn(), at_once=self._walkers, order=self._order) as chunks:
                async for chunk in chunks:
                    tally.share(chunk.shared(cut))
                    yield chunk.rows
                    if chunk.error is not None:
                        raise chunk.error
                    if chunk.begin == cut.begins[-1]:
                        strand = chunk.strand
                    if tally.stale >= SAME_PAGES_IN_A_ROW:
                        break
        async with aclosing(self._on(tally, strand)) as pages:
            async for rows in pages:
                yield rows

    async def _chunk(self, tally: Tally[T], cut: Cut, begin: int) -> Chunk[T]:
        rows: list[T] = []
        strand = self._strand(self._asked_from(begin) if begin < cut.end else None, begin)
        try:
            async with aclosing(self._on(tally, strand)) as pages:
                async for more in pages:
                    rows += more
                    if strand.at >= min(begin + cut.rows, cut.end):
                        break
        except Exception as error:
            if not rows:
                raise
            return Chunk(begin, rows, strand, error)
        if strand.has_ended:
            cut.end = min(cut.end, strand.at)
        if strand.at >= cut.end:
            strand.following = None
        return Chunk(begin, rows, strand)

    async def _on(self, tally: Tally[T], strand: Strand[T]) -> AsyncGenerator[list[T], None]:
        """What each page adds, up to the end of *strand*."""
        trail = None if strand.following is None else Trail(strand.following)
        while trail is not None and strand.following is not None:
            page, rows = await self._step(tally, strand, strand.following)
            yield rows
            trail.after(Page(page.items, strand.following))

    async def _step(self, tally: Tally[T], strand: Strand[T], request: Request) -> tuple[Page[T], list[T]]:
        """The page that *request* asks for, and what it adds to *strand*."""
        page = await self._ask(request)
        rows = strand.take(page)
        tally.note(page.total, has_moved=strand.has_moved)
        return page, rows
