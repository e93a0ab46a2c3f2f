"""Ask many sessions at once: the listing, and each session's messages while the listing goes on."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, Unpack, overload

from navtalk_async.client import Client, inside
from navtalk_async.concurrency import OUTSIDE, FanOut, Limiter, Order, ParkingLot
from navtalk_async.dialects.arguments import one_of
from navtalk_async.errors import ClientClosed, NavTalkError
from navtalk_async.listing import ParallelListing
from navtalk_async.listing.fetch import ShortPageAudit, ShortPages, fetch_messages
from navtalk_async.models import Message, Page, Request, Role, Session, Transcript
from navtalk_async.paging import fetch_all
from navtalk_async.wire.gate import Concurrency, checked_concurrency

if TYPE_CHECKING:
    from navtalk_async.client.kodey import KodeyClient, KodeyFilters
    from navtalk_async.client.lexicon import LexiconClient, LexiconFilters
    from navtalk_async.client.llamacloud import LlamaCloudClient, LlamaCloudFilters
    from navtalk_async.client.navtalk import NavTalkClient, NavTalkFilters
    from navtalk_async.dialects.kodey import KodeyChat, KodeyMessage
    from navtalk_async.dialects.lexicon import LexiconChat, LexiconMessage
    from navtalk_async.dialects.llamacloud import LlamaCloudMessage, LlamaCloudSession

__all__ = ["AUTO_WALKERS", "OnError", "Results", "SessionPool", "limiter_of"]

T = TypeVar("T")
C = TypeVar("C", bound=Client)

OnError = Literal["raise", "yield"]

Results = AbstractAsyncContextManager[AsyncIterator[T]]
"""An `async with` around an `async for`."""

AUTO_WALKERS = 32
"""The most pages of a listing at once for `concurrency="auto"`, within the client's own limit."""


def limiter_of(client: Client, concurrency: Concurrency) -> Limiter:
    """The limiter of a job on *client*.

    `"auto"` leaves the bound to the client, and always offers it a little more than it lets through: a limit
    that is never reached learns nothing.

    Raises:
        ValueError: *concurrency* is neither `"auto"` nor at least 1.
    """
    fixed = checked_concurrency(concurrency)
    if fixed == "auto":
        return Limiter(lambda: inside(client).at_once() * 9 // 8 + 2)
    inside(client).expect(fixed)
    return Limiter(fixed)


class SessionPool(Generic[C]):
    """Lists sessions and fetches their messages, many at once.

        async with SessionPool(nt, concurrency=32).transcripts(start_time=since) as transcripts:
            async for transcript in transcripts:
                print(transcript.session.id, len(transcript.messages))

    Its methods take the filters of the client's API and return the sessions and messages of that API. For a
    client class of your own, annotate the pool as `SessionPool[Client]`.

    Arguments:
        client: what to ask with; its own limits hold too. Anything else is a TypeError.
        concurrency: the most requests of the pool in flight at once, whatever is called on it; `"auto"`
            leaves it to the client's own limit, which by default learns how many the server can use.
        listing: `"serial"` walks the list page by page; `"auto"` from many places at once while a reader
            waits for it, where the server supports that.
        short_pages: `"follow"` reads a session's messages until the API says that they end; `"audit"` takes
            most short pages for the last ones, and checks a sample: see `transcripts`.
    """

    def __init__(
        self,
        client: C,
        *,
        concurrency: Concurrency = "auto",
        listing: Literal["auto", "serial"] = "auto",
        short_pages: ShortPages = "follow",
    ) -> None:
        if not isinstance(client, Client):
            raise TypeError(f"SessionPool({client!r}) has no client to ask with: pass a NavTalkClient, say.")
        one_of("auto", "serial")("listing", listing)
        one_of("follow", "audit")("short_pages", short_pages)
        self._short_pages = short_pages
        self._client = client.using(lane="bulk")
        self._limiter = limiter_of(self._client, concurrency)
        self._is_serial = listing == "serial"

    def __repr__(self) -> str:
        return f"<SessionPool of {self._limiter.fixed or 'auto'} on {self._client!r}>"

    @property
    def skipped_rows(self) -> int:
        """How many rows of sessions and messages could not be read so far (null, or without an id)."""
        return inside(self._client).skipped()

    @overload
    def transcripts(
        self: "SessionPool[NavTalkClient]",
        *,
        role: Role | int | str | None = ...,
        order: Order = ...,
        on_error: OnError = ...,
        **filters: "Unpack[NavTalkFilters]",
    ) -> "Results[Transcript]": ...
    @overload
    def transcripts(
        self: "SessionPool[KodeyClient]",
        *,
        order: Order = ...,
        on_error: OnError = ...,
        **filters: "Unpack[KodeyFilters]",
    ) -> "Results[Transcript[KodeyChat, KodeyMessage]]": ...
    @overload
    def transcripts(
        self: "SessionPool[LexiconClient]",
        *,
        order: Order = ...,
        on_error: OnError = ...,
        **filters: "Unpack[LexiconFilters]",
    ) -> "Results[Transcript[LexiconChat, LexiconMessage]]": ...
    @overload
    def transcripts(
        self: "SessionPool[LlamaCloudClient]",
        *,
        order: Order = ...,
        on_error: OnError = ...,
        **filters: "Unpack[LlamaCloudFilters]",
    ) -> "Results[Transcript[LlamaCloudSession, LlamaCloudMessage]]": ...
    @overload
    def transcripts(
        self: "SessionPool[Client]", *, order: Order = ..., on_error: OnError = ..., **filters: Any
    ) -> "Results[Transcript]": ...
    def transcripts(
        self,
        *,
        role: Role | int | str | None = None,
        order: Order = "done",
        on_error: OnError = "raise",
        **filters: Any,
    ) -> Results[Any]:
        """Every session with its messages; an `async with` around an `async for`.

        The first messages are fetched as soon as the first page of sessions has come. Memory holds a few
        transcripts for each request at once, however many sessions there are; a slow reader slows the
        fetching; leaving early, by `break` or by an error, stops the rest.

        With `short_pages="audit"`, most short pages are taken for the last ones. If a message turns up behind
        a page that was followed, all skipped pages are followed after all, and the messages found come at the
        end, in another transcript of the same session with `is_rest` set. For that, about a kilobyte is held
        for each session with a skipped page.

        Arguments:
            filters: those of the API's list of sessions: on NavTalk `start_time`, `end_time` and `status`, on
                Kodey.ai `user_id` and `agent_type`, on Lexicon `user_id`, which it needs.
            role: only messages of this role, where the API has that filter.
            order: `"done"` as transcripts are complete, `"listed"` in the order of the listing.
            on_error: `"raise"` raises the error of a session in its place; `"yield"` yields a transcript with
                that `error` and goes on. An error of the listing itself is always raised, after the
                transcripts of all sessions that were listed.

        Raises:
            TypeError: a filter that the API does not have; before anything is sent.
            ValueError: a wrong value; before anything is sent.
        """
        one_of("raise", "yield")("on_error", on_error)
        audit = ShortPageAudit() if self._short_pages == "audit" else None
        messages = {} if role is None else {"role": role}
        # A wrong role is refused before any request.
        self._client.dialect.list_messages("any", **messages)
        ask = self._limiter.bound(inside(self._client).page_of_messages)
        fetching = _Fetching(self._client, ask, messages, on_error, audit)
        listing = self._listing(filters, order=order, is_awaited=lambda: fan.is_hungry)
        fan = FanOut(fetching.fetch, fetching.listed(listing), at_once=self._limiter, order=order)
        return fan

    @overload
    def sessions(
        self: "SessionPool[NavTalkClient]", *, order: Order = ..., **filters: "Unpack[NavTalkFilters]"
    ) -> "Results[Session]": ...
    @overload
    def sessions(
        self: "SessionPool[KodeyClient]", *, order: Order = ..., **filters: "Unpack[KodeyFilters]"
    ) -> "Results[KodeyChat]": ...
    @overload
    def sessions(
        self: "SessionPool[LexiconClient]", *, order: Order = ..., **filters: "Unpack[LexiconFilters]"
    ) -> "Results[LexiconChat]": ...
    @overload
    def sessions(
        self: "SessionPool[LlamaCloudClient]", *, order: Order = ..., **filters: "Unpack[LlamaCloudFilters]"
    ) -> "Results[LlamaCloudSession]": ...
    @overload
    def sessions(
        self: "SessionPool[Client]", *, order: Order = ..., **filters: Any
    ) -> "Results[Session]": ...
    def sessions(self, *, order: Order = "listed", **filters: Any) -> Results[Any]:
        """The listing alone; an `async with` around an `async for`.

        Arguments:
            filters: as for `transcripts`.
            order: `"listed"` in the order of the listing; `"done"` page by page as they come, which needs
                less memory.

        Raises:
            TypeError, ValueError: as for `transcripts`.
        """
        return _SessionResults(_each(self.session_pages(order=order, **filters)))

    def session_pages(
        self, *, order: Order = "listed", **filters: Any
    ) -> AsyncGenerator[list[Session], None]:
        """As `sessions`, page by page, some of them empty. To leave it early, close it (`aclosing`)."""
        return self._listing(filters, order=order).pages()

    def _listing(
        self, filters: Mapping[str, Any], *, order: Order, is_awaited: Callable[[], bool] | None = None
    ) -> ParallelListing:
        dialect = self._client.dialect
        return ParallelListing(
            self._limiter.bound(inside(self._client).page_of_sessions),
            dialect,
            dialect.list_sessions(**filters),
            expected_end=filters.get("end_time"),
            walkers=1 if self._is_serial else self._limiter.fixed or AUTO_WALKERS,
            in_order=one_of("done", "listed")("order", order) == "listed",
            is_awaited=is_awaited,
            announce=inside(self._client).announce,
        )


class _SessionResults(aclosing[AsyncGenerator[Session, None]]):
    def __aiter__(self) -> NoReturn:
        raise RuntimeError(OUTSIDE)


async def _each(pages: AsyncGenerator[list[Session], None]) -> AsyncGenerator[Session, None]:
    async with aclosing(pages):
        async for sessions in pages:
            for session in sessions:
                yield session


_ListedSession = tuple[Session, Request | None]
"""A session, and where the rest of its messages begins, if only that is wanted."""


@dataclass
class _Fetching:
    """Fetches transcripts, and remembers which of them may have a rest."""

    client: Client
    ask: Callable[[Request], Awaitable[Page[Message]]]
    filters: Mapping[str, Any]
    on_error: OnError
    audit: ShortPageAudit | None
    unfollowed: list[_ListedSession] = field(default_factory=list[_ListedSession])
    open: int = 0
    fetched: ParkingLot = field(default_factory=ParkingLot)

    async def listed(self, listing: ParallelListing) -> AsyncGenerator[list[_ListedSession], None]:
        """The listed sessions; and at the end the rests, if the audit was disproved."""
        async with aclosing(listing.pages()) as pages:
            async for sessions in pages:
                self.open += len(sessions)
                yield [(session, None) for session in sessions]
        if self.audit is not None:
            while self.open:
                await self.fetched.park()
            if self.audit.disproved:
                yield self.unfollowed

    async def fetch(self, listed: _ListedSession) -> Transcript:
        session, rest = listed
        try:
            request = rest or self.client.dialect.list_messages(session.id, **self.filters)
            if self.audit is None:
                messages = await fetch_all(self.ask, request, inside(self.client).moved)
                return Transcript(session=session, messages=messages)
            audit = self.audit if rest is None else None
            rows = await fetch_messages(self.client, request, ask=self.ask, audit=audit)
        except NavTalkError as error:
            if self.on_error == "raise" or isinstance(error, ClientClosed):
                raise
            return Transcript(session=session, error=error, is_rest=rest is not None)
        finally:
            self.open -= 1
            if self.audit is not None:
                self.fetched.unpark()
        if rows.unfollowed is not None:
            self.unfollowed.append((session, rows.unfollowed))
        return Transcript(session=session, messages=rows.items, is_rest=rest is not None)
