"""Ask many sessions at once: the listing, and each session's messages while it still goes on."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import date, datetime
from typing import Literal, TypeVar

from navtalk_async.client import NavTalkClient
from navtalk_async.errors import ClientClosed, NavTalkError
from navtalk_async.fanout import FanOut, Order
from navtalk_async.models import Page, Role, Session, SessionStatus, Transcript
from navtalk_async.paging import walk, whole
from navtalk_async.wire.limits import Concurrency, checked_concurrency

__all__ = ["SessionPool", "Slots", "at_once"]

Q = TypeVar("Q")
T = TypeVar("T")

When = datetime | date | str

AUTO = 32
"""How many at once is `auto`: enough to hide 50 ms of latency, and few enough for a small server."""


def at_once(concurrency: Concurrency) -> int:
    """How many at once *concurrency* means; a ValueError if it is neither `auto` nor at least 1."""
    concurrency = checked_concurrency(concurrency)
    return AUTO if concurrency == "auto" else concurrency


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


class SessionPool:
    """Lists sessions and fetches their messages, many at once.

        async with SessionPool(nt, concurrency=32).transcripts(start_time=since) as transcripts:
            async for transcript in transcripts:
                print(transcript.session.id, len(transcript.messages))

    Arguments:
        client: what to ask with; its own limits hold too.
        concurrency: the most requests in flight at once, those of the listing included; `"auto"` is 32,
            or what the client's own limit leaves of them while the server refuses.
        listing: `"serial"` walks the list page by page; `"auto"` leaves the choice to the pool, which so
            far walks page by page as well.
    """

    def __init__(
        self,
        client: NavTalkClient,
        *,
        concurrency: Concurrency = "auto",
        listing: Literal["auto", "serial"] = "auto",
    ) -> None:
        if listing not in ("auto", "serial"):
            raise ValueError(f"listing={listing!r} is neither 'auto' nor 'serial'.")
        self._client = client
        self._concurrency = at_once(concurrency)

    def __repr__(self) -> str:
        return f"<SessionPool of {self._concurrency} on {self._client!r}>"

    def transcripts(
        self,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        status: SessionStatus | int | None = None,
        role: Role | int | None = None,
        order: Order = "done",
        on_error: Literal["raise", "yield"] = "raise",
    ) -> FanOut[Session, Transcript]:
        """Every session with its messages; an `async with` around an `async for`.

        The first messages are asked for as soon as the first page of sessions has come. Memory holds a few
        transcripts for each request at once, however many sessions there are; a slow reader slows the
        fetching; leaving early, by `break` or by an error, stops the rest.

        Arguments:
            start_time, end_time, status: as for `sessions.list`.
            role: only messages of this role.
            order: `"done"` as they are complete, `"listed"` in the order of the listing.
            on_error: `"raise"` raises the error of a session in its place; `"yield"` yields a transcript
                with that `error` and goes on. An error of the listing itself is always raised, after the
                transcripts of all sessions that were listed.
        """
        if on_error not in ("raise", "yield"):
            raise ValueError(f"on_error={on_error!r} is neither 'raise' nor 'yield'.")
        client, bound = self._client, Slots(self._concurrency).bound
        listing = client.sessions.list(start_time=start_time, end_time=end_time, status=status)
        ask = bound(client.messages.page)

        async def fetch(session: Session) -> Transcript:
            request = client.dialect.list_messages(session.id, role=role)
            try:
                return Transcript(session=session, messages=await whole(ask, request))
            except ClientClosed:
                raise
            except NavTalkError as error:
                if on_error == "raise":
                    raise
                return Transcript(session=session, error=error)

        pages = _items(walk(bound(listing.ask), listing.request))
        return FanOut(fetch, pages, at_once=self._concurrency, order=order)

    def sessions(
        self,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        status: SessionStatus | int | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Session]]:
        """The listing alone; an `async with` around an `async for`, in listed order."""
        listing = self._client.sessions.list(start_time=start_time, end_time=end_time, status=status)
        return aclosing(listing.__aiter__())


async def _items(pages: AsyncGenerator[Page[Session], None]) -> AsyncGenerator[list[Session], None]:
    async with aclosing(pages):
        async for page in pages:
            yield page.items
