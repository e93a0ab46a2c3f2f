"""One page, then the next: the one loop behind every list."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import msgspec

from navtalk_async.errors import RepeatedPage
from navtalk_async.models import Page, Request

__all__ = ["EMPTY_PAGES_IN_A_ROW", "Listing", "walk", "whole"]

T = TypeVar("T")

Ask = Callable[[Request], Awaitable[Page[T]]]

EMPTY_PAGES_IN_A_ROW = 10
"""How many empty pages with a cursor are followed before we stop believing in rows behind them.

One or two come from servers that filter after they have paged; who stops at the first loses the rows
behind it."""


SAME_PAGES_IN_A_ROW = 10
"""How many pages may begin and end with the same rows before a list is no more believed to go on. One or two
are alike where rows are added before the place that is counted from; a server that ignores where a page
should begin gives nothing else, for ever."""


class Trail:
    """Where a walk has been, and so whether it may go on.

    A circle of any length is found by remembering one request, moved on to the present one whenever the
    number of steps since has doubled (Brent 1980): two requests in memory, however long the list.
    """

    def __init__(self, request: Request) -> None:
        self._here = self._landmark = request
        self._steps = 0
        self._reach = 1
        self._empty = self._alike = 0
        self._first = self._last = object()

    @property
    def has_moved(self) -> bool:
        """Whether a page has come, and was not the last."""
        return self._steps > 0 or self._reach > 1

    def after(self, page: Page[Any]) -> Request | None:
        """The question that follows on *page*, which answered the one before; None at the end.

        Raises:
            RepeatedPage: the pages lead in a circle, or go on without rows.
        """
        if page.next is None:
            return None
        items = page.items
        self._empty = 0 if items else self._empty + 1
        if page.next in (self._here, self._landmark):
            raise RepeatedPage(f"{page.next.path} leads back to a page it has already given.")
        if self._empty >= EMPTY_PAGES_IN_A_ROW:
            raise RepeatedPage(
                f"{page.next.path} gave {self._empty} empty pages in a row, each promising more."
            )
        if items:
            self._alike = self._alike + 1 if items[0] == self._first and items[-1] == self._last else 0
            self._first, self._last = items[0], items[-1]
            if self._alike >= SAME_PAGES_IN_A_ROW:
                raise RepeatedPage(f"{page.next.path} gives the same rows again and again.")
        self._here = page.next
        self._steps += 1
        if self._steps == self._reach:
            self._landmark, self._steps, self._reach = page.next, 0, self._reach * 2
        return page.next


async def walk(ask: Ask[T], request: Request | None) -> AsyncGenerator[Page[T], None]:
    """Yield the page that *request* asks for, and every page after it.

    Raises:
        RepeatedPage: see `Trail`; the rows before were given.
    """
    trail = None if request is None else Trail(request)
    while request is not None and trail is not None:
        page = await ask(request)
        yield page
        request = trail.after(page)


async def whole(ask: Ask[T], request: Request) -> list[T]:
    """All rows from the page that *request* asks for to the end of its list.

    Raises:
        RepeatedPage: see `Trail`.
    """
    page = await ask(request)
    if page.next is None:
        return page.items
    trail, items = Trail(request), [*page.items]
    while (following := trail.after(page)) is not None:
        page = await ask(following)
        items += page.items
    return items


async def _nothing(_: Request) -> Page[Any]:
    return Page([])


class Listing(Generic[T]):
    """A list on the server, not yet asked for.

    Awaiting it gives its first page; `async for` gives its items, `pages()` its pages. It holds a question
    and no state, so it can be walked any number of times, and by several at once.
    """

    def __init__(self, ask: Ask[T], request: Request) -> None:
        self.ask = ask
        self.request = request

    def __repr__(self) -> str:
        return f"<Listing {self.request.path} {self.request.params}>"

    def __await__(self) -> Generator[Any, None, Page[T]]:
        return self.ask(self.request).__await__()

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for item in page.items:
                    yield item

    def pages(
        self, start: Request | msgspec.UnsetType | None = msgspec.UNSET
    ) -> AsyncGenerator[Page[T], None]:
        """Every page from the first on, or from *start*, which is some earlier page's `next`: after the last
        page, where that is None, there is nothing left.
        """
        return walk(self.ask, self.request if start is msgspec.UNSET else start)

    def resume(self, start: Request | None) -> "Listing[T]":
        """The rest of this list from *start* on, an earlier page's `next`; after the last one, nothing."""
        return Listing(self.ask if start is not None else _nothing, start or self.request)
