"""Ask many sessions at once: the listing, and each session's messages while it still goes on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Literal, NamedTuple, TypeVar

from navtalk_async.client import Client
from navtalk_async.concurrency import WINDOW, FanOut, Order, ParkingLot
from navtalk_async.dialects.dialect import Dialect, filtered, messages_filtered
from navtalk_async.errors import ClientClosed, NavTalkError
from navtalk_async.listing import ParallelListing, list_in_parallel
from navtalk_async.listing.short_pages import ShortPageAudit, ShortPages, checked_short_pages
from navtalk_async.models import Message, Page, Request, Role, Session, Transcript
from navtalk_async.paging import OnMove, whole
from navtalk_async.wire.limits import Concurrency, checked_concurrency

__all__ = ["Limiter", "SessionPool", "Slots"]

Q = TypeVar("Q")
T = TypeVar("T")

OnError = Literal["raise", "yield"]

AUTO_WALKERS = 32
"""The most pages of a listing at once for `auto`: the client's limit holds for them as well."""


class Slots:
    """At most so many requests at once, whoever makes them, first come first served.

    A semaphore around every page. `asyncio.Semaphore` is one as well; with a listing beside the workers there
    is always somebody waiting, and then a turn costs twice as much there as one that is simply handed on.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    def bound(self, ask: Callable[[Q], Awaitable[T]]) -> Callable[[Q], Awaitable[T]]:
        """*ask*, waiting for a free slot first."""

        async def ask_in_a_slot(question: Q) -> T:
            if self._free:
                self._free -= 1
            else:
                await self._turn()
            try:
                return await ask(question)
            finally:
                self._hand_on()

        return ask_in_a_slot

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            # Given a slot and cancelled in the same moment: it goes to the next.
            if not turn.cancelled():
                self._hand_on()
            raise

    def _hand_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Limiter:
    """How many at once a *concurrency* means for a job on *client*.

    A number is a bound of the job's own; `auto` leaves it to the client's limit, and has always a little more
    at hand than that lets through: a limit that is never reached learns nothing.

    Raises:
        ValueError: it is neither `auto` nor at least 1.
    """

    def __init__(self, client: Client, concurrency: Concurrency) -> None:
        self._client = client
        self._fixed = checked_concurrency(concurrency)
        self._slots = None if self._fixed == "auto" else Slots(self._fixed)
        if self._fixed != "auto":
            client.expect(self._fixed)

    def __call__(self) -> int:
        """How many at once, at present."""
        if self._fixed != "auto":
            return self._fixed
        allowed = self._client.at_once()
        return allowed + allowed // 8 + 2

    def __repr__(self) -> str:
        return str(self._fixed)

    @property
    def walkers(self) -> int:
        """The most pages of a listing at once."""
        return AUTO_WALKERS if self._fixed == "auto" else self._fixed

    def bound(self, ask: Callable[[Q], Awaitable[T]]) -> Callable[[Q], Awaitable[T]]:
        """*ask*, within the job's own bound, if it has one."""
        return ask if self._slots is None else self._slots.bound(ask)


class SessionPool:
    """Lists sessions and fetches their messages, many at once.

        async with SessionPool(nt, concurrency=32).transcripts(start_time=since) as transcripts:
            async for transcript in transcripts:
                print(transcript.session.id, len(transcript.messages))

    Arguments:
        client: what to ask with; its own limits hold too.
        concurrency: the most requests in flight at once, those of the listing included; `"auto"` leaves it
            to the client's own limit, which by default learns how many the server can use.
        listing: `"serial"` walks the list page by page; `"auto"` from many places at once where it is waited
            for, and the server does what that takes; else page by page as well.
        short_pages: `"follow"` believes that a session's messages have ended when the API says so; `"audit"`
            when a page is short as well, and watches that: see `transcripts`.
    """

    def __init__(
        self,
        client: Client,
        *,
        concurrency: Concurrency = "auto",
        listing: Literal["auto", "serial"] = "auto",
        short_pages: ShortPages = "follow",
    ) -> None:
        if listing not in ("auto", "serial"):
            raise ValueError(f"listing={listing!r} is neither 'auto' nor 'serial'.")
        self._concurrency = checked_concurrency(concurrency)
        self._serial = listing == "serial"
        self._short_pages = checked_short_pages(short_pages)
        self._client = client.using(lane="bulk")

    def __repr__(self) -> str:
        return f"<SessionPool of {self._concurrency} on {self._client!r}>"

    def transcripts(
        self,
        *,
        role: Role | int | None = None,
        order: Order = "done",
        on_error: OnError = "raise",
        **filters: Any,
    ) -> AbstractAsyncContextManager[AsyncIterator[Transcript]]:
        """Every session with its messages; an `async with` around an `async for`.

        The first messages are asked for as soon as the first page of sessions has come. Memory holds a few
        transcripts for each request at once, however many sessions there are; a slow reader slows the
        fetching; leaving early, by `break` or by an error, stops the rest.

        With `short_pages="audit"`, most short pages are taken for the last ones. Should a message turn up
        behind one that was followed, all others are followed after all, and whatever is found is given at the
        end, in another transcript of the same session with `is_rest` set. For that, about a kilobyte is held
        for each session whose page was trusted.

        Arguments:
            filters: those of the API's list of sessions: on NavTalk `start_time`, `end_time` and `status`, on
                Kodey.ai `user_id` and `agent_type`, on Lexicon `user_id`, which it needs.
            role: only messages of this role, where the API can be asked for that.
            order: `"done"` as they are complete, `"listed"` in the order of the listing.
            on_error: `"raise"` raises the error of a session in its place; `"yield"` yields a transcript
                with that `error` and goes on. An error of the listing itself is always raised, after the
                transcripts of all sessions that were listed.

        Raises:
            ValueError: a filter that the API does not have, or that cannot be right; before anything is sent.
        """
        if on_error not in ("raise", "yield"):
            raise ValueError(f"on_error={on_error!r} is neither 'raise' nor 'yield'.")
        width = Limiter(self._client, self._concurrency)
        first = filtered(self._client.dialect, filters)
        fetching = _Fetching(
            width.bound(self._client.page_of_messages),
            self._client.dialect,
            role=role,
            on_error=on_error,
            audit=ShortPageAudit() if self._short_pages == "audit" else None,
            on_move=self._client.moved,
        )
        listing = self._listing(width, first, filters, order=order, is_awaited=lambda: fan.is_hungry)
        fan = FanOut(fetching.fetch, fetching.wanted(listing), at_once=width, order=order)
        return fan

    def sessions(
        self, *, order: Order = "listed", **filters: Any
    ) -> AbstractAsyncContextManager[AsyncIterator[Session]]:
        """The listing alone; an `async with` around an `async for`.

        Arguments:
            filters: as for `transcripts`.
            order: `"listed"` in the order of the listing; `"done"` page by page as they come, which needs
                less memory.
        """
        return aclosing(_each(self.session_pages(order=order, **filters)))

    def session_pages(
        self, *, order: Order = "listed", **filters: Any
    ) -> AsyncGenerator[list[Session], None]:
        """As `sessions`, page by page, some of them empty. To leave it early, close it (`aclosing`)."""
        if order not in WINDOW:
            raise ValueError(f"order={order!r} is neither 'done' nor 'listed'.")
        width = Limiter(self._client, self._concurrency)
        return self._listing(width, filtered(self._client.dialect, filters), filters, order=order).pages()

    def _listing(
        self,
        width: Limiter,
        first: Request,
        filters: Mapping[str, Any],
        *,
        order: Order,
        is_awaited: Callable[[], bool] | None = None,
    ) -> ParallelListing:
        return list_in_parallel(
            width.bound(self._client.page_of_sessions),
            self._client.dialect,
            first,
            expected_end=filters.get("end_time"),
            walkers=1 if self._serial else width.walkers,
            in_order=order == "listed",
            split=not self._serial,
            is_awaited=is_awaited,
            announce=self._client.announce,
        )


class _Wanted(NamedTuple):
    """A session whose messages are to be fetched: all of them, or the rest from a request on."""

    session: Session
    rest: Request | None = None


class _Fetching:
    """Fetches transcripts, and remembers which may have a rest."""

    def __init__(
        self,
        ask: Callable[[Request], Awaitable[Page[Message]]],
        dialect: Dialect,
        *,
        role: int | None,
        on_error: OnError,
        audit: ShortPageAudit | None,
        on_move: OnMove,
    ) -> None:
        self._ask = ask
        self._dialect = dialect
        self._filters = {} if role is None else {"role": role}
        messages_filtered(dialect, "any", self._filters)
        self._on_error = on_error
        self._audit = audit
        self._on_move = on_move
        self._unread: list[_Wanted] = []
        self._open = 0
        self._fetched = ParkingLot()

    async def wanted(self, listing: ParallelListing) -> AsyncGenerator[list[_Wanted], None]:
        """What to fetch: the listed sessions, and in the end the rests that an audit shows to be likely."""
        async with aclosing(listing.pages()) as pages:
            async for sessions in pages:
                self._open += len(sessions)
                yield [_Wanted(session) for session in sessions]
        if self._audit is not None:
            while self._open:
                await self._fetched.park()
            if self._audit.disproved:
                yield self._unread

    async def fetch(self, wanted: _Wanted) -> Transcript:
        """The transcript that is *wanted*, or one with the error that keeps its messages away."""
        try:
            messages = await self._messages(wanted)
            return Transcript(session=wanted.session, messages=messages, is_rest=wanted.rest is not None)
        except ClientClosed:
            raise
        except NavTalkError as error:
            if self._on_error == "raise":
                raise
            return Transcript(session=wanted.session, error=error, is_rest=wanted.rest is not None)
        finally:
            self._open -= 1
            self._fetched.unpark()

    async def _messages(self, wanted: _Wanted) -> list[Message]:
        request = wanted.rest or self._dialect.list_messages(wanted.session.id, **self._filters)
        if self._audit is None or wanted.rest is not None:
            return await whole(self._ask, request, self._on_move)
        rows = await self._audit.fetch_all(
            self._ask, request, page_limit=self._dialect.rows, on_move=self._on_move
        )
        if rows.unread is not None:
            self._unread.append(_Wanted(wanted.session, rows.unread))
        return rows.items


async def _each(pages: AsyncGenerator[list[Session], None]) -> AsyncGenerator[Session, None]:
    async with aclosing(pages):
        async for sessions in pages:
            for session in sessions:
                yield session
