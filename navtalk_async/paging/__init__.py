"""One page, then the next: the one loop behind every list."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import msgspec

from navtalk_async.errors import ApiError, BadRequest, RateLimited, Redirected, RepeatedPage, ServerError
from navtalk_async.models import Page, Record, Request
from navtalk_async.paging.compact_set import REMEMBERED, Recent
from navtalk_async.paging.offsets import OffsetWalk
from navtalk_async.paging.tokens import PageTokens

__all__ = ["REMEMBERED", "CycleGuard", "Listing", "OnMove", "Recent", "fetch_all", "walk"]

T = TypeVar("T", bound=Record)

Ask = Callable[[Request], Awaitable[Page[T]]]

StartBehind = Callable[[Request, Sequence[T]], Request | None]
"""Returns the request for the rows of a list from the last one of a page on; None where it cannot be made."""

OnMove = Callable[[str, str], None]
"""Called with a list's path and the reason, where rows moved while it was walked or its total was wrong."""

EMPTY_PAGES_IN_A_ROW = 10
"""How many empty pages with a cursor are followed. Servers that filter after they have paged send some, with
rows behind them."""

SAME_PAGES_IN_A_ROW = 10
"""How many pages may begin and end with the same rows. Some do where rows are added before the offset; of a
server that ignores where a page should begin, all do, for ever."""

USUAL_TOKENS = PageTokens()


class CycleGuard:
    """Where a walk has been: which rows of a page are new, and whether it may go on.

    A cycle of any length is found with two requests in memory: one is remembered, and replaced by the current
    one whenever the number of steps since has doubled (Brent 1980). Without *recent*, a row of a cursor list
    is always new.

    Where the server refuses the cursor of a next page, which may have expired, the list goes on from the last
    row (*start_behind*), or else begins again. Each time it must come further than before.
    """

    def __init__(
        self,
        request: Request,
        recent: Recent | None = None,
        start_behind: StartBehind[Any] | None = None,
    ) -> None:
        self._here = self._begin = request
        self._landmark: Request = request
        self._offsets: OffsetWalk[Any] | None = None
        self._recent = recent
        self._start_behind = start_behind
        self._rows: Sequence[Any] = ()
        self._pages = 0
        self._new = 0
        self._came_to: tuple[float, int] = (-math.inf, 0)
        self.skipped: int = 0
        """How many rows could not be read."""
        self._steps = 0
        self._reach: int = 1
        self._empty = self._alike = 0
        self._first = self._last = object()

    @property
    def has_moved(self) -> bool:
        """Whether a page has come, and was not the last."""
        return self._pages > 0

    async def ask(self, ask: Ask[T], request: Request) -> Page[T]:
        """The page of *request*; if its cursor is refused, the page that the list goes on with."""
        try:
            return await ask(request)
        except ApiError as error:
            again = self.begin_again(error)
        return await ask(again)

    def begin_again(self, error: ApiError) -> Request:
        """The request that the list goes on with if *error* refused the cursor of its next page; or the
        error is raised.
        """
        if not self.has_moved or not refuses_cursor(error):
            raise error
        again = self._request_behind()
        if again is None:
            raise blame_cursor(error)
        self.restart(error, again, None if self._recent is None else (self._new, 0))
        return again

    def _request_behind(self) -> Request | None:
        if self._start_behind is not None:
            return self._start_behind(self._begin, self._rows)
        return self._begin if all(row.ids_are_unique for row in self._rows[:1]) else None

    def restart(self, error: ApiError, request: Request, came_to: tuple[float, int] | None = None) -> None:
        """Go on at *request* since the cursor of the next page was refused. Raises the *error* if the walk
        has not *come* further *to* its end than the last time; by default, by the pages since then.
        """
        came_to = came_to or (-math.inf, self._pages)
        if came_to <= self._came_to:
            raise blame_cursor(error)
        self._came_to, self._pages = came_to, 0
        self._here = self._landmark = request
        self._steps, self._reach, self._empty, self._alike = 0, 1, 0, 0

    def take(self, page: Page[T]) -> tuple[list[T], Request | None]:
        """The rows of *page* that are new, and the next request, as `new_rows` and `after` return them."""
        self.skipped += len(page.skipped)
        return self.new_rows(page).items, self.after(page)

    def new_rows(self, page: Page[T]) -> Page[T]:
        """*page*, which answered the request before, with its new rows alone, and a `next` that leads to the
        rows behind them.
        """
        if page.offset_param is None:
            rows = page.items
            if self._recent is not None and rows and rows[0].ids_are_unique:
                rows = self._recent.new(rows)
            self._new += len(rows)
            return page if rows is page.items else msgspec.structs.replace(page, items=rows)
        if self._offsets is None:
            self._offsets = OffsetWalk(self._begin, page.offset_param)
        rows = self._offsets.take(page)
        return msgspec.structs.replace(page, items=rows, next=self._offsets.reached)

    def report(self, on_move: OnMove | None) -> None:
        """Report, after the walk of a list that is paged by offset, what was wrong with it."""
        if on_move is not None and self._offsets is not None and self._offsets.anomaly is not None:
            on_move(self._begin.path, self._offsets.anomaly)

    def after(self, page: Page[Any]) -> Request | None:
        """The request that follows *page*, which answered the one before; None at the end. It may bring some
        rows again, where a list is paged by offset. Raises a RepeatedPage where the pages lead in a cycle, or
        go on without rows.
        """
        if self._offsets is not None:
            return self._offsets.following
        if page.next is None:
            return None
        items = page.items
        self._pages += 1
        self._rows = items or self._rows
        self._empty = 0 if items or page.skipped else self._empty + 1
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


def refuses_cursor(error: ApiError) -> bool:
    """Whether *error* may mean that the cursor of a next page has expired. A wrong key may be refused in the
    same way: then the first page is refused as well.
    """
    return not isinstance(error, RateLimited | ServerError | Redirected)


def blame_cursor(error: ApiError) -> ApiError:
    """*error*, after it is known that it is not the key that is refused."""
    if isinstance(error, BadRequest):
        error.may_be_key = False
    error.next_step = "The server does not accept the cursor or page token: list again from the beginning."
    return error


async def walk(
    ask: Ask[T],
    request: Request,
    on_move: OnMove | None = None,
    start_behind: StartBehind[T] | None = None,
) -> AsyncGenerator[Page[T], None]:
    """Yield the page that *request* asks for, and every page after it, with new rows alone: it may have none.
    Of a list that is paged by offset, each row comes once, even if rows come and go meanwhile. *start_behind*
    is for a list in order of time: see `CycleGuard`.

    Raises:
        RepeatedPage: the pages lead in a cycle, or go on without rows; the rows before were yielded.
    """
    # Where the list would begin again, all of its rows may come twice.
    recent = Recent(None if start_behind is None else REMEMBERED)
    guard = CycleGuard(request, recent, start_behind)
    following: Request | None = request
    while following is not None:
        page = await guard.ask(ask, following)
        yield guard.new_rows(page)
        following = guard.after(page)
    guard.report(on_move)


async def fetch_all(
    ask: Ask[T],
    request: Request,
    on_move: OnMove | None = None,
    on_skip: Callable[[int], None] = lambda _: None,
) -> list[T]:
    """All rows from the page that *request* asks for to the end of its list, each once; raises as `walk`.
    *on_skip* is called with how many rows could not be read, if any.
    """
    page = await ask(request)
    if page.next is None and page.offset_param is None:
        if page.skipped:
            on_skip(len(page.skipped))
        return page.items
    guard = CycleGuard(request, Recent(None))
    rows, following = guard.take(page)
    every = [*rows]
    while following is not None:
        rows, following = guard.take(await guard.ask(ask, following))
        every += rows
    guard.report(on_move)
    if guard.skipped:
        on_skip(guard.skipped)
    return every


async def _nothing(_: Request) -> Page[Any]:
    return Page([])


class Listing(Generic[T]):
    """A list on the server, not yet asked for.

    Awaiting it returns its first page; `async for` iterates over its items, `pages()` over its pages. It has
    no state, so that it can be walked any number of times, also at once. What `first()` and `all()` return is
    good for `create_task`.
    """

    def __init__(
        self,
        ask: Ask[T],
        request: Request,
        *,
        tokens: PageTokens = USUAL_TOKENS,
        on_move: OnMove | None = None,
        start_behind: StartBehind[T] | None = None,
    ) -> None:
        self.ask = ask
        self.request = request
        self._start_behind = start_behind
        self._tokens = tokens
        self._on_move = on_move

    def __repr__(self) -> str:
        return f"<Listing {self.request.path} {self.request.params}>"

    def __await__(self) -> Generator[Any, None, Page[T]]:
        return self._with_token((yield from self._ask(self.request).__await__()))

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        async with aclosing(self._walk()) as pages:
            async for page in pages:
                for row in page.items:
                    yield row

    async def first(self) -> T | None:
        """Its first item; None if it has none."""
        async with aclosing(self.__aiter__()) as items:
            return await anext(items, None)

    async def all(self) -> list[T]:
        """All of its items."""
        return [item async for item in self]

    def pages(self, token: str | msgspec.UnsetType | None = msgspec.UNSET) -> AsyncGenerator[Page[T], None]:
        """Every page from the first on, or from *token* on, as for `resume`. No row comes twice."""
        return self._pages() if token is msgspec.UNSET else self.resume(token).pages()

    def resume(self, token: str | None) -> "Listing[T]":
        """The rest of this list after a page with that `token`; after the last page, whose token is None,
        nothing. The token may come from another client, process or page size.

        Raises:
            ValueError: *token* is no page token, a damaged one, or one of another list: another API, session
                or filter. Nothing is sent.
        """
        if token is None:
            return Listing(_nothing, self.request)
        position = self._tokens.read(token, self.request.path, self.request.params)
        return Listing(
            self.ask,
            self.request.having(**position),
            tokens=self._tokens,
            on_move=self._on_move,
            start_behind=self._start_behind,
        )

    def _walk(self) -> AsyncGenerator[Page[T], None]:
        return walk(self._ask, self.request, self._on_move, self._start_behind)

    async def _ask(self, request: Request) -> Page[T]:
        """The page of *request*. Where the user's own cursor is refused, the first page tells whether it is
        the key that is refused.
        """
        try:
            return await self.ask(request)
        except ApiError as error:
            first = request.having(**dict.fromkeys(self._tokens.position))
            if request != self.request or request == first or not refuses_cursor(error):
                raise
            await self.ask(first)
            raise blame_cursor(error) from None

    async def _pages(self) -> AsyncGenerator[Page[T], None]:
        async with aclosing(self._walk()) as pages:
            async for page in pages:
                yield self._with_token(page)

    def _with_token(self, page: Page[T]) -> Page[T]:
        if page.next is None:
            return page
        own = self.request
        token = self._tokens.write(own.path, own.params, page.next.params)
        return msgspec.structs.replace(page, token=token)
