"""Ask: a client for each API, with the resources and calls of that API."""

import os
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

import msgspec

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.errors import BodyTooLarge
from navtalk_async.models import Message, Page, Request, Response, Role, Session, SessionStatus
from navtalk_async.observe import Event, Observer, Stats
from navtalk_async.paging import Listing
from navtalk_async.wire.address import checked_key
from navtalk_async.wire.engine import Engine
from navtalk_async.wire.limits import Concurrency, Lane
from navtalk_async.wire.retry import Retry
from navtalk_async.wire.wire import BODY_LIMIT, Key, Patience, Wire

__all__ = ["Messages", "NavTalkClient", "Sessions"]

T = TypeVar("T")

When = datetime | date | str

UNSET = msgspec.UNSET


class NavTalkClient:
    """A client of NavTalk's chat record API.

        async with NavTalkClient() as nt:
            async for session in nt.sessions.list(status=SessionStatus.COMPLETED):
                print(session.id, session.start_time)

    It may be made anywhere, used from any number of tasks and event loops, and closed from any of them.

    Arguments:
        key: the API key; or a callable, plain or async, that is asked for it before every attempt, for
            keys that change. Default: the environment's `NAVTALK_API_KEY`.
        base_url: with or without `/api/chat` at its end. Default: the environment's `NAVTALK_BASE_URL`,
            or else NavTalk's own. It must be https, except on this machine.
        concurrency: the most requests in flight at once, of everything this client does in one event loop.
            `"auto"` learns what the server can use: it begins with 16, grows by half with every round of
            answers as long as more are answered a second and none is refused, up to 256, and keeps trying
            now and then. A number above 128 is reached after the first round trips.
        rate: the most requests a second, in one event loop; None for no such limit. Where the server refuses
            what is too fast, a lower rate is learned from that.
        timeout: seconds for a call as a whole (its turn, all attempts, all pauses); None for no end.
        attempt_timeout: seconds for a single attempt.
        retry: how often to try again, and how patiently.
        body_limit: the most bytes of an answer, inflated, that are held in memory.
        trust_env: whether the environment's proxy settings hold.
        engine: what carries the requests: `"aiohttp"`, or `"fast"`, a client in Rust that needs about half
            the CPU a request and the extra `fast` (`pip install 'navtalk-async[fast]'`). Default: the
            environment's `NAVTALK_ENGINE`, or else aiohttp.
        on_event: called with an `observe.Event` whenever something happens on the wire.

    Raises:
        ValueError: no key, an engine that is not installed, or something that cannot be right; before
            anything is sent.
    """

    def __init__(
        self,
        key: Key | None = None,
        *,
        base_url: str | None = None,
        concurrency: Concurrency = "auto",
        rate: float | None = None,
        timeout: float | None = 300.0,
        attempt_timeout: float = 60.0,
        retry: Retry | None = None,
        body_limit: int = BODY_LIMIT,
        trust_env: bool = False,
        engine: Engine | None = None,
        on_event: Observer | None = None,
    ) -> None:
        self.dialect: Dialect = NavTalk()
        key = _given_key(key, self.dialect.key_variable)
        if base_url is None:
            base_url = os.environ.get("NAVTALK_BASE_URL") or self.dialect.default_base_url
        self._patience = Patience(timeout=timeout, attempt_timeout=attempt_timeout, retry=retry or Retry())
        self._wire = Wire(
            root=self.dialect.root(base_url),
            key=key,
            key_place=self.dialect.key_place,
            concurrency=concurrency,
            rate=rate,
            body_limit=body_limit,
            trust_env=trust_env,
            engine=engine or os.environ.get("NAVTALK_ENGINE") or "aiohttp",
            observer=on_event,
        )
        self._name_resources()

    def _name_resources(self) -> None:
        self.sessions = Sessions(self)
        self.messages = Messages(self)

    def __repr__(self) -> str:
        # One that could not be made has no wire; and is shown, in a report of why.
        return f"<{type(self).__name__} on {vars(self).get('_wire')!r}>"

    def __reduce__(self) -> str:
        return self._wire.__reduce__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection. Calls still on their way raise `ClientClosed`; closing twice is fine."""
        await self._wire.aclose()

    def using(
        self,
        *,
        timeout: float | msgspec.UnsetType | None = UNSET,
        attempt_timeout: float | msgspec.UnsetType = UNSET,
        retry: Retry | msgspec.UnsetType = UNSET,
        lane: Lane | msgspec.UnsetType = UNSET,
    ) -> Self:
        """The same client with another patience: same connections, same limits, closed with this one.

        Arguments:
            timeout: one budget in seconds for a call: waiting for its turn, every attempt, every pause.
            attempt_timeout, retry: as for the client.
            lane: who goes first where calls have to wait for each other: `"interactive"` for what somebody
                waits for, then `"normal"`, the default, then `"bulk"` for long jobs. Lower lanes leave a
                sixteenth of the places in flight free for higher ones that were in use within the last
                5 seconds, and get one turn in 16 themselves however much the higher ones ask.

        Raises:
            ValueError: no time to ask, or no such lane.
        """
        given = {"timeout": timeout, "attempt_timeout": attempt_timeout, "retry": retry, "lane": lane}
        view = object.__new__(type(self))
        view.dialect = self.dialect
        view._wire = self._wire
        view._patience = Patience(
            **(msgspec.structs.asdict(self._patience) | {k: v for k, v in given.items() if v is not UNSET})
        )
        view._name_resources()
        return view

    def stats(self) -> Stats:
        """What has been done so far, as a copy."""
        return self._wire.stats()

    def ask(self, request: Request, read: Callable[[Request, Response], T]) -> Awaitable[T]:
        """What *read* makes of the answer to *request*; for calls that have no method yet."""
        return self._wire.ask(request, read, self._patience)

    def expect(self, at_once: int) -> None:
        """Say that so many requests at once are about to come: `concurrency="auto"` begins with them then, up
        to 128, unless it has learned better.
        """
        self._wire.expect(at_once)

    def at_once(self) -> int:
        """How many requests are allowed in flight at once, at present and in this event loop."""
        return self._wire.at_once()

    def now(self) -> datetime:
        """This moment, aware and UTC, by the server's clock as its latest answer in this event loop told
        it; by this machine's, where none did.
        """
        return self._wire.now()

    def announce(self, event: Event) -> None:
        """Tell whoever watches, by `on_event` or in the log, that *event* happened."""
        self._wire.announce(event)


def _given_key(key: Key | None, variable: str) -> Key:
    key = key if key is not None else os.environ.get(variable)
    if key is None:
        raise ValueError(f"No API key: pass one, or set {variable} in the environment.")
    return checked_key(key) if isinstance(key, str) else key


class Sessions:
    """The sessions of the key's project."""

    def __init__(self, client: NavTalkClient) -> None:
        self._client = client

    def list(
        self,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        status: SessionStatus | int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Listing[Session]:
        """Sessions in the order of their begin, then id (`GET /api/chat/sessions`).

        Arguments:
            start_time, end_time: aware datetimes, dates (their first second) or `yyyy-MM-dd HH:mm:ss` in
                UTC. Whether the API takes them as inclusive, and whether `end_time` bounds a session's
                begin or its end, is not documented.
            status: only sessions of this status.
            limit: rows a page, 1 to 100; default 100, the fewest requests.
            cursor: where to begin, as an earlier page gave it.

        Raises:
            ValueError: a naive datetime, a limit out of range; before anything is sent.
        """
        request = self._client.dialect.list_sessions(
            start_time=start_time, end_time=end_time, status=status, limit=limit, cursor=cursor
        )
        return Listing(self.page, request)

    async def get(self, session_id: str | UUID) -> Session:
        """One session (`GET /api/chat/sessions/{sessionId}`).

        Raises:
            ValueError: *session_id* is no UUID.
            NotFound: there is none of this id in the key's project.
        """
        dialect = self._client.dialect
        return await self._client.ask(
            dialect.get_session(dialect.checked_id(session_id)), dialect.read_session
        )

    async def page(self, request: Request) -> Page[Session]:
        """The page that *request* asks for, which some earlier page had as its `next`; with fewer rows, if
        its rows are so long that they do not fit into memory together.
        """
        dialect = self._client.dialect
        try:
            return await self._client.ask(request, dialect.read_sessions)
        except BodyTooLarge:
            if (smaller := dialect.smaller(request)) is None:
                raise
        return await self.page(smaller)


class Messages:
    """The messages of sessions."""

    def __init__(self, client: NavTalkClient) -> None:
        self._client = client

    def list(
        self,
        session_id: str | UUID,
        *,
        start_time: When | None = None,
        end_time: When | None = None,
        role: Role | int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Listing[Message]:
        """A session's messages in the order of their time, then id (`GET /api/chat/messages`).

        Arguments:
            start_time, end_time: as for `Sessions.list`, of the message's `created_at`.
            role: only what this role said.
            limit: rows a page, 1 to 200; default 200, the fewest requests.
            cursor: where to begin, as an earlier page gave it.

        Raises:
            ValueError: an id that is no UUID, a naive datetime, a limit out of range; before anything is
                sent.
        """
        dialect = self._client.dialect
        request = dialect.list_messages(
            dialect.checked_id(session_id),
            start_time=start_time,
            end_time=end_time,
            role=role,
            limit=limit,
            cursor=cursor,
        )
        return Listing(self.page, request)

    async def page(self, request: Request) -> Page[Message]:
        """The page that *request* asks for; see `Sessions.page`."""
        dialect = self._client.dialect
        try:
            return await self._client.ask(request, dialect.read_messages)
        except BodyTooLarge:
            if (smaller := dialect.smaller(request)) is None:
                raise
        return await self.page(smaller)
