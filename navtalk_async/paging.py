"""One page, then the next: the one loop behind every list."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import msgspec

from navtalk_async.errors import RepeatedPage
from navtalk_async.models import Page, Request

__all__ = ["EMPTY_PAGES_IN_A_ROW", "Listing", "walk"]

T = TypeVar("T")

Ask = Callable[[Request], Awaitable[Page[T]]]

EMPTY_PAGES_IN_A_ROW = 10
"""How many empty pages with a cursor are followed before we stop believing in rows behind them.

One or two come from servers that filter after they have paged; who stops at the first loses the rows
behind it."""


async def walk(ask: Ask[T], request: Request | None) -> AsyncGenerator[Page[T], None]:
    """Yield the page that *request* asks for, and every page after it.

    Raises:
        RepeatedPage: the pages lead in a circle, or go on without rows.
    """
    # A circle of any length is found by remembering one request, moved on to the present one whenever the
    # number of steps since has doubled (Brent 1980): two requests in memory, however long the list.
    landmark, steps, reach = request, 0, 1
    empty = 0
    while request is not None:
        page = await ask(request)
        empty = 0 if page.items else empty + 1
        if page.next is not None and page.next in (request, landmark):
            raise RepeatedPage(f"{request.path} leads back to a page it has already given.")
        if page.next is not None and empty >= EMPTY_PAGES_IN_A_ROW:
            raise RepeatedPage(f"{request.path} gave {empty} empty pages in a row, each promising more.")
        yield page
        request = page.next
        steps += 1
        if steps == reach:
            landmark, steps, reach = request, 0, reach * 2


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

    def resume(self, start: Request) -> "Listing[T]":
        """The rest of this list from *start* on, which is some earlier page's `next`."""
        return Listing(self.ask, start)

    def via(self, wrap: Callable[[Ask[T]], Ask[T]]) -> "Listing[T]":
        """The same list, every page of it asked for through *wrap*."""
        return Listing(wrap(self.ask), self.request)
