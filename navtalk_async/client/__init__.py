"""Ask: what the clients of all APIs have in common. The client of one API is in the module of its name."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from os import PathLike
from types import TracebackType
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypedDict, TypeVar, Unpack, cast
from uuid import UUID

import msgspec

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import BodyTooLarge
from navtalk_async.events import Event, ListMoved, Observer, RowsSkipped, Stats
from navtalk_async.models import M_co, Message, Page, Record, Request, Response, S_co, Session, Transcript
from navtalk_async.paging import Listing, OnMove, StartBehind, fetch_all
from navtalk_async.paging.compact_set import CompactSet
from navtalk_async.paging.skipped import skipped_rows
from navtalk_async.wire.gate import Concurrency
from navtalk_async.wire.retry import CallOptions, Lane, Retry
from navtalk_async.wire.secret import Secret, hide_frames
from navtalk_async.wire.sender import Key, Read, Sender
from navtalk_async.wire.shared_turns import LimitKeeper

__all__ = ["ApiClient", "Client", "Inside", "Options", "Resource", "ViewOptions", "inside"]

T = TypeVar("T")
R = TypeVar("R", bound=Record)
C = TypeVar("C", bound="Client[Any, Any]")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ViewOptions(TypedDict, total=False):
    """How a client calls, for `using` too."""

    timeout: float | None
    """One budget in seconds for a call: waiting for its turn, every attempt, every pause; None for no end.
    Default 300."""
    attempt_timeout: float
    """Seconds for a single attempt; default 60."""
    retry: Retry | None
    """How often and how fast to try again; None, the default, for `Retry()`."""
    lane: Lane
    """Who goes first where calls have to wait for each other: `"interactive"` for what somebody waits for,
    then `"normal"`, the default, then `"bulk"` for long jobs. Lower lanes leave a sixteenth of the places in
    flight free for higher ones that were in use within the last 5 seconds, and get one turn in 16 themselves
    however much the higher ones ask."""


class Options(ViewOptions, total=False):
    """What every client takes beside its key and its address."""

    concurrency: Concurrency
    """The most requests in flight, of everything this client does in one event loop. `"auto"`, the default,
    learns what the server can use: it begins with 16, grows by half with every round of answers as long as
    more are answered a second and none is refused, up to 256, and keeps trying now and then. A number above
    128 is reached after the first round trips."""
    rate: float | None
    """The most requests a second in one event loop; None, the default, for no limit. Where the server refuses
    what is too fast, a lower rate is learned from that."""
    limits: LimitKeeper | None
    """Where this client shares its rate, and what is learned of it, with those of the same server and key in
    other processes: a `SharedLimits`. With a `rate`, it is set for all of them; without one, that which was
    set last holds. The most in flight, `concurrency`, stays each process's own. Default None."""
    body_limit: int
    """The most bytes of an answer, inflated, that are held in memory; default 128 MiB."""
    bytes_in_flight: int
    """How many bytes of answers above 64 KiB are held in memory at once, in one event loop: bodies, and what
    was decoded from them until it is returned, or a pool's reader takes it, or a sync has saved it. Over it,
    only the answer that began first is read on, however long it is. Default 128 MiB."""
    trust_env: bool
    """Whether the environment's proxy settings hold; for this machine, they never do. Default False."""
    proxy: str | None
    """The URL of an http proxy, as `http://host:port`, for a base URL with https; None, the default, for
    none but the environment's."""
    cacert: str | PathLike[str] | None
    """A PEM file with certificates of authorities to trust beside those of the system; default None. (The
    variable `SSL_CERT_FILE` replaces the system's.)"""
    on_event: Observer | Sequence[Observer] | None
    """Called with an `events.Event` whenever something happens on the wire; or several that are."""


class Inside(NamedTuple):
    """What jobs need of a client, beside its methods."""

    page_of_sessions: Callable[[Request], Awaitable[Page[Session]]]
    """Asks for the page that another had as its `next`; for fewer rows, where they are too long together."""
    page_of_messages: Callable[[Request], Awaitable[Page[Message]]]
    expect: Callable[[int], None]
    """Takes how many requests are about to come at once: `concurrency="auto"` begins with up to 128 of them,
    unless it has learned better."""
    at_once: Callable[[], int]
    """Returns how many requests may be in flight now, in this event loop."""
    announce: Callable[[Event], None]
    """Passes an event to `on_event`, or else to the log."""
    skipped: Callable[[], int]
    """Returns how many rows that this view asked for could not be read."""
    moved: OnMove
    """Announces that a list moved while it was walked, or that its total was wrong."""
    wire: Sender
    """What all views of a client have in common."""


class Client(Generic[S_co, M_co]):
    """A client of the API that *dialect* speaks.

        async with Client(dialect_of("kodey"), key) as client:
            async for session in client.list_sessions(user_id="u1"):
                print(session.id, len(await client.list_messages(session.id).all()))

    It may be made anywhere, used from any number of tasks and event loops, and closed from any of them. The
    client of one API (`NavTalkClient`, say) also has the resources and calls of that API.

    Arguments:
        dialect: how the API speaks.
        key: the API key; or a callable, plain or async, that returns it and is called before every attempt.
            Default: the environment variable of the dialect's `key_variable`.
        base_url: where the API is, https except on this machine. Default: the environment variable of the
            dialect's `base_url_variable`, or else the vendor's address; required where none is known.
        options: see `Options`.

    Raises:
        ValueError: no key, no address, or an option that cannot be right; before anything is sent.
        TypeError: an option of another type.
    """

    @hide_frames
    def __init__(
        self,
        dialect: Dialect,
        key: Key | Secret[str] | None = None,
        *,
        base_url: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self.dialect = dialect
        others: Any = dict(options)
        if others.pop("engine", "aiohttp") != "aiohttp":
            raise ValueError("There is no engine but aiohttp any more: leave `engine=` out.")
        if unknown := others.keys() - Options.__annotations__:
            known = ", ".join(Options.__annotations__)
            raise TypeError(f"{type(self).__name__} has no option {min(unknown)!r}; it has {known}.")
        observers = _observers(others.pop("on_event", None))
        call = {name: others.pop(name) for name in ViewOptions.__annotations__ if name in others}
        self._call_options = _changed(CallOptions(), call)
        self._wire = Sender(
            key=_given_key(key, dialect.key_variable),
            root=dialect.root(_given_address(base_url, dialect)),
            key_place=dialect.key_place,
            api=dialect.api,
            observers=observers,
            **others,
        )
        self._take_up()

    def _take_up(self) -> None:
        """Make what belongs to a client, or to a view of it."""
        wire = self._wire
        self._skipped = CompactSet()

        def moved(path: str, reason: str) -> None:
            wire.announce(ListMoved(path, reason))

        self._inside = Inside(
            self._paging(self.dialect.read_sessions),
            self._paging(self.dialect.read_messages, shows_outage=self._call_options.lane != "bulk"),
            wire.expect,
            wire.at_once,
            wire.announce,
            lambda: len(self._skipped),
            moved,
            wire,
        )
        self._name_resources()

    def _paging(
        self, read: Read[Page[R]], *, shows_outage: bool = True
    ) -> Callable[[Request], Awaitable[Page[R]]]:
        wire, dialect, skip = self._wire, self.dialect, self._skipped.add
        options = msgspec.structs.replace(self._call_options, shows_outage=shows_outage)

        # Every page of every list comes this way, so that method calls are looked up once.
        async def page(request: Request) -> Page[R]:
            if request.method != "GET":
                raise ValueError(f"A page is asked for by GET, not by {request.method}.")
            try:
                found = await wire.ask(request, read, options)
                if found.skipped and (new := [each for each in skipped_rows(request, found) if skip(each)]):
                    wire.announce(RowsSkipped(request.path, len(new)))
                return found
            except BodyTooLarge:
                if (halved := dialect.halved(request)) is None:
                    raise
            found = await page(halved)
            if found.next is None:
                return found
            # Only these rows were too long together.
            return msgspec.structs.replace(found, next=dialect.sized_like(found.next, request))

        return page

    def _name_resources(self) -> None:
        """Make the resources that the client of one API has."""

    def __repr__(self) -> str:
        # A client whose constructor failed has no wire, and is shown in the report of that failure.
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
        """Close every connection. Calls in flight raise `ClientClosed`; closing twice is fine."""
        await self._wire.aclose()

    def using(self, **options: Unpack[ViewOptions]) -> Self:
        """The same client with other options, those of `ViewOptions`: same connections, same limits, closed
        with this one.

        Raises:
            ValueError: no time to ask, or no such lane.
            TypeError: an option of another type.
        """
        view = object.__new__(type(self))
        view.dialect, view._wire = self.dialect, self._wire
        view._call_options = _changed(self._call_options, options)
        view._take_up()
        return view

    @property
    def base_url(self) -> str:
        """The address of the API in normal form, without the path that all requests begin with."""
        return self._wire.base_url

    def stats(self) -> Stats:
        """What has been done so far, as a copy."""
        return self._wire.stats()

    def now(self) -> datetime:
        """This moment, aware and UTC, by the clock of the server's latest answer in this event loop; before
        the first answer, by this machine's.
        """
        return self._wire.now()

    def ask(self, request: Request, read: Callable[[Request, Response], T]) -> Awaitable[T]:
        """What *read* returns for the answer to *request*; for calls that have no method yet. For an answer
        of more than 1 MiB, *read* is called in a thread.
        """
        return self._wire.ask(request, read, self._call_options)

    def stream(
        self, request: Request, refuse: Callable[[Request, Response], object]
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The answer to *request* chunk by chunk, as it comes; for calls that have no method yet. *refuse* is
        called with any answer but a 2xx, and raises what it means.

        The client's `timeout` bounds the time until the answer begins, and its `attempt_timeout` the wait for
        each chunk. Once it has begun, it takes no place in flight.
        """
        return self._wire.stream(request, refuse, self._call_options)

    def list_sessions(self, **filters: Any) -> Listing[S_co]:
        """The sessions that match *filters*, named as the API's client names them; None is no filter.

        Raises:
            TypeError: the API has no such filter.
            ValueError: it requires another one, or does not take the value of one. Nothing was sent.
        """
        request, dialect = self.dialect.list_sessions(**filters), self.dialect
        by_time = dialect.starting_at(request, EPOCH) is not None
        return self._list(
            self._inside.page_of_sessions, request, dialect.starting_behind if by_time else None
        )

    def list_messages(self, session_id: str | UUID, **filters: Any) -> Listing[M_co]:
        """The messages of a session, in the API's order; *filters* as for `list_sessions`.

        Raises:
            ValueError: *session_id* cannot be one, or as for `list_sessions`.
        """
        request = self.dialect.list_messages(self.dialect.checked_id(session_id), **filters)
        return self._list(self._inside.page_of_messages, request)

    def _list(
        self,
        ask: Callable[[Request], Awaitable[Page[Any]]],
        request: Request,
        start_behind: StartBehind[Any] | None = None,
    ) -> Listing[Any]:
        return Listing(
            ask,
            request,
            tokens=self.dialect.page_tokens,
            on_move=self._inside.moved,
            start_behind=start_behind,
        )

    async def get_session(self, session_id: str | UUID) -> S_co:
        """One session, as the list of sessions has it.

        Raises:
            ValueError: *session_id* cannot be one.
            NotFound: there is none of this id for the key.
        """
        request = self.dialect.get_session(self.dialect.checked_id(session_id))
        return cast("S_co", await self.ask(request, self.dialect.read_session))

    async def transcript(self, session_id: str | UUID) -> Transcript[S_co, M_co]:
        """One session with all its messages; raises as `get_session`."""
        session = await self.get_session(session_id)
        request = self.dialect.list_messages(self.dialect.checked_id(session_id))
        messages = await fetch_all(self._inside.page_of_messages, request, self._inside.moved)
        return Transcript(session=session, messages=cast("list[M_co]", messages))


def inside(client: Client[Any, Any]) -> Inside:
    """What jobs need of *client*, beside its methods."""
    return client._inside  # noqa: SLF001


class ApiClient(Client[S_co, M_co]):
    """A client of one API, whose class says which dialect it *speaks*, with the arguments of `Client`."""

    speaks: ClassVar[type[Dialect]]

    @hide_frames
    def __init__(
        self, key: Key | None = None, *, base_url: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(self.speaks(), key, base_url=base_url, **options)


class Resource(Generic[C]):
    """Some calls of a client, under a name.

    Each raises a ValueError, before anything is sent, for an argument that the API cannot take; and a
    NotFound if there is no session of the id for the key. Calls that change something are sent once; where
    one fails, the error's `may_have_happened` says whether the server may have done it.
    """

    def __init__(self, client: C) -> None:
        self._client = client

    def _id(self, session_id: str | UUID) -> str:
        return self._client.dialect.checked_id(session_id)


def _changed(options: CallOptions, others: Any) -> CallOptions:
    if others.get("retry", options) is None:
        others = {**others, "retry": Retry()}
    return msgspec.structs.replace(options, **others)


def _observers(on_event: Any) -> Sequence[Observer]:
    several: Any = [] if on_event is None else on_event
    given: Sequence[Any] = several if isinstance(on_event, list | tuple | None) else [on_event]
    for each in given:
        if not callable(each):
            raise TypeError(f"on_event={each!r} cannot be called: pass a function that takes an event.")
    return given


def _given_key(key: Key | Secret[str] | None, variable: str) -> Key | Secret[str]:
    key = key if key is not None else os.environ.get(variable)
    if key is None:
        raise ValueError(f"No API key: pass one, or set {variable} in the environment.")
    return key


def _given_address(base_url: str | None, dialect: Dialect) -> str:
    found = base_url or os.environ.get(dialect.base_url_variable) or dialect.default_base_url
    if found is None:
        raise ValueError(f"No address of {dialect.name}: pass base_url=, or set {dialect.base_url_variable}.")
    if not isinstance(found, str):
        raise ValueError(f"The base URL is a {type(found).__name__}, and not a text.")
    return found
