"""All traffic of a client: a request in, an answer out, after as many attempts as it takes."""

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from os import PathLike
from typing import TypeVar, cast
from urllib.parse import urlsplit

from navtalk_async.errors import ApiError, AttemptTimeout, ClientClosed, NavTalkError, RateLimited
from navtalk_async.events import CallInfo, Event, Observer, Stats, announce, in_short, is_watched
from navtalk_async.models import KeyPlace, Request, Response
from navtalk_async.times import http_date
from navtalk_async.wire._learned_concurrency import START
from navtalk_async.wire._loop_state import Attempt, LoopState, Read
from navtalk_async.wire._streamed import Stream
from navtalk_async.wire._tallies import Tallies
from navtalk_async.wire._transport import AiohttpTransport, LongAnswer, StreamedResponse
from navtalk_async.wire._watched import CALL_IDS, WatchedCall
from navtalk_async.wire.clock import Clock
from navtalk_async.wire.gate import Concurrency, Gate, checked_bytes, checked_concurrency
from navtalk_async.wire.rate import checked_rate
from navtalk_async.wire.retry import LANES, CallOptions
from navtalk_async.wire.route import route_to
from navtalk_async.wire.secret import (
    PlacedKey,
    Secret,
    canonical_root,
    checked_key,
    checked_root,
    hide_frames,
)
from navtalk_async.wire.shared_limit import SharedLimit
from navtalk_async.wire.shared_turns import LimitKeeper, SharedTurns

__all__ = ["BODY_LIMIT", "Key", "Read", "Sender"]

T = TypeVar("T")
Fetch = Callable[[], str | Awaitable[str]]
Key = str | Fetch

LEAST_SECONDS = 0.001  # the least time of an attempt: the clock goes on after the gate has looked
KEY_SECONDS = 60.0  # how long a callable may take to return the key before there is any request
CLOSING_SECONDS = 2.0  # how long another thread's loop may take to close its connections
# Bytes of one inflated answer: 200 messages of half a megabyte each, and no bomb.
BODY_LIMIT = 128 * 1024 * 1024
BYTES_IN_FLIGHT = 128 * 1024 * 1024


class Sender:
    """Sends requests over any number of event loops: one gate and one set of connections for each."""

    @hide_frames
    def __init__(
        self,
        *,
        root: str,
        key: Key | Secret[str],
        key_place: KeyPlace,
        api: str = "",
        concurrency: Concurrency = "auto",
        rate: float | None = None,
        limits: LimitKeeper | None = None,
        body_limit: int = BODY_LIMIT,
        bytes_in_flight: int = BYTES_IN_FLIGHT,
        trust_env: bool = False,
        proxy: str | None = None,
        cacert: str | PathLike[str] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._api = api
        self._tallies = Tallies()
        self._root = checked_root(root)
        self._base = urlsplit(self._root)
        self._key_place = key_place
        self._latest: PlacedKey | None = None
        self._key = Secret(key) if callable(key) else self._placed(checked_key(key))
        self._concurrency: Concurrency = checked_concurrency(concurrency)
        self._rate = checked_rate(rate)
        self._limits = limits
        self._body_limit = body_limit
        self._bytes_in_flight = checked_bytes(bytes_in_flight)
        self._route = route_to(self._base, trust_env=trust_env, proxy=proxy, cacert=cacert)
        self._observers = tuple(observers)
        self._states: dict[asyncio.AbstractEventLoop, LoopState] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._expected = 0
        self._closed = False
        self.new_clock: Callable[[], Clock] = Clock
        """Makes the clock of an event loop; tests may replace it."""

    def __repr__(self) -> str:
        # A sender whose construction failed has no root, and is shown in a report of why.
        return f"<Sender to {vars(self).get('_root')}>"

    def __reduce__(self) -> str:
        raise TypeError("A client holds a key and connections: make one where it is used, do not pickle it.")

    def stream(
        self, request: Request, refuse: Callable[[Request, Response], object], options: CallOptions
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The answer to *request*, for `async with`, in chunks of up to 64 KiB as they come. Any answer but a
        2xx is read whole and passed to *refuse*, which raises what it means.

        Until the answer begins, all is as for `ask`, and there the `timeout` of *options* ends. From then on
        `attempt_timeout` bounds the wait for each chunk, nothing bounds their number, and nothing is retried.
        """

        def read(_: Request, response: Response) -> StreamedResponse:
            if isinstance(response, StreamedResponse):
                return response
            refuse(request, response)
            raise ApiError(f"The server answered {response.status}.", status=response.status)

        async def begin() -> tuple[LoopState, WatchedCall, StreamedResponse]:
            loop = asyncio.get_running_loop()
            state = self._states.get(loop) or await self._open(loop)
            began = state.time()
            answer = await self.ask(request, read, options, streamed=True)
            return state, state.watched or self._watch(request, options, began), answer

        tally = self._tallies[request.operation, options.lane]
        return Stream(request, begin, options.attempt_timeout, tally)

    async def ask(  # noqa: C901, PLR0912, PLR0915 - a call of our own for each attempt would cost more
        self, request: Request, read: Read[T], options: CallOptions, *, streamed: bool = False
    ) -> T:
        """Return what *read* makes of the answer to *request*. A request that changes something is sent again
        only if it certainly never arrived.
        """
        loop = asyncio.get_running_loop()
        state = self._states.get(loop) or await self._open(loop)
        gate, lane = state.gate, LANES[options.lane]
        tally = self._tallies[request.operation, options.lane]
        began = sent_at = state.time()
        watched = self._watch(request, options, began) if is_watched(self._observers) else None
        if watched is not None:
            watched.started()
        deadline = None if options.timeout is None else sent_at + options.timeout
        attempts = counted = alike = 0
        last: NavTalkError | None = None
        outcome: T | LongAnswer | NavTalkError | asyncio.CancelledError
        try:
            while True:
                if attempts or not gate.try_acquire(sent_at, lane):
                    rank = await state.turn(tally, deadline, lane, last)
                    sent_at = state.time()
                else:
                    rank = gate.in_flight
                attempts += 1
                if watched is not None:
                    watched.sent(attempts, sent_at)
                try:
                    seconds = options.attempt_timeout
                    if deadline is not None and deadline - sent_at < seconds:
                        seconds = max(deadline - sent_at, LEAST_SECONDS)
                    key: PlacedKey | AttemptTimeout
                    if isinstance(self._key, PlacedKey):
                        key = self._key
                    else:
                        key, seconds = await self._fetched(self._key, seconds)
                    if isinstance(key, AttemptTimeout):
                        state.received_at, outcome = state.time(), key
                    else:
                        tally.requests += 1
                        is_fresh = streamed or request.method != "GET"
                        # The answer has no name here: this frame is shown.
                        outcome = state.understood(
                            request,
                            read,
                            await state.transport.exchange(request, key, seconds, is_fresh, streamed),
                            key,
                            attempts,
                            sent_at,
                            rank,
                            tally,
                            watched,
                        )
                    if not isinstance(outcome, BaseException):
                        return outcome
                    if isinstance(outcome, LongAnswer) and isinstance(key, PlacedKey):
                        outcome = await state.read_on(
                            request,
                            read,
                            outcome,
                            key,
                            attempts,
                            sent_at,
                            rank,
                            tally,
                            watched,
                            seconds=seconds,
                            deadline=deadline,
                        )
                        if not isinstance(outcome, BaseException):
                            return outcome
                    if not isinstance(outcome, NavTalkError):
                        raise outcome
                    counted += not isinstance(outcome, RateLimited)
                    alike = alike + 1 if last is not None and in_short(last) == in_short(outcome) else 1
                    failed = Attempt(outcome, attempts, counted, sent_at, rank, alike)
                    watched = watched or self._watch(request, options, began)
                    last = state.failed(request, failed, options, deadline, tally, watched)
                    # After an outage, the call has all its attempts again.
                    counted *= not state.is_outage
                finally:
                    gate.release(lane)
                await state.pause(last, counted, options, deadline, tally)
        except BaseException as error:
            tally.errors += isinstance(error, NavTalkError)
            (watched or self._watch(request, options, began)).gave_up(attempts, error, state.time())
            raise

    def _watch(self, request: Request, options: CallOptions, now: float) -> WatchedCall:
        call = CallInfo(
            next(CALL_IDS),
            request.operation or "other",
            self._api,
            request.method,
            request.path,
            options.lane,
            self.base_url,
        )
        return WatchedCall(self.announce, call, now)

    @cached_property
    def base_url(self) -> str:
        """The address of the API, written in its one way."""
        return canonical_root(self._base)

    def announce(self, event: Event) -> None:
        """Pass *event* to the observer and the log."""
        announce(self._observers, event)

    def expect(self, at_once: int) -> None:
        """Begin with so many requests at once, where nothing is known of the server yet."""
        self._expected = max(self._expected, at_once)
        for state in list(self._states.values()):
            state.gate.limit.expect(at_once)

    def at_once(self) -> int:
        """How many requests the limit allows at once, at present and in this event loop."""
        state = self._states.get(asyncio.get_running_loop())
        return START if state is None else state.gate.limit.now

    def now(self) -> datetime:
        """This moment by the server's clock, from its latest dated answer; else by ours."""
        loop = asyncio.get_running_loop()
        state = self._states.get(loop)
        date = None if state is None or state.date is None else http_date(state.date)
        if state is None or date is None:
            return datetime.now(UTC)
        return date + timedelta(seconds=state.time() - state.dated_at)

    def stats(self) -> Stats:
        """The counters so far, as a copy."""
        gates = [state.gate for state in list(self._states.values())]
        states = list(self._states.values())
        rates = [rate for state in states if (rate := state.gate.rate(state.time()))]
        pauses = [state.gate.paused_for(state.time()) for state in states]
        stats = Stats(
            paused_for=max(pauses, default=0.0),
            in_flight=sum(gate.in_flight for gate in gates),
            waiting=sum(gate.waiting for gate in gates),
            limit=max((gate.limit.now for gate in gates), default=0),
            rate=min(rates, default=self._rate),
            loop_lag=max((gate.limit.lag for gate in gates), default=0.0),
        )
        self._tallies.add_to(stats)
        return stats

    @asynccontextmanager
    async def sharing(
        self, limit: SharedLimit, observers: Sequence[Observer] = ()
    ) -> AsyncGenerator[None, None]:
        """An `async with` in which *limit*, which other senders have too, holds in this event loop, and
        *observers* see every event.
        """
        loop = asyncio.get_running_loop()
        state = self._states.get(loop) or await self._open(loop)
        state.gate.share(limit)
        before, self._observers = self._observers, (*self._observers, *observers)
        try:
            yield
        finally:
            state.gate.share(None)
            self._observers = before

    async def join_limits(self) -> str:
        """Tell the keeper of the `limits` this client's rate; the name of its limit there, which is made of
        the server and the key, and shows neither. A ValueError if there is no rate.
        """
        key: PlacedKey | AttemptTimeout
        if isinstance(self._key, PlacedKey):
            key = self._key
        else:
            key, _ = await self._fetched(self._key, KEY_SECONDS)
        if isinstance(key, AttemptTimeout):
            raise key
        # No name here holds the key.
        name = sha256(f"{self.base_url}\0{key.secret.reveal()}".encode()).hexdigest()[:32]
        if self._limits is not None:
            await self._limits.join(name, self._rate)
        return name

    async def aclose(self) -> None:
        """End every connection in every loop; calls in flight raise `ClientClosed`. It may be called from any
        task of any loop, and again.
        """
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, state in list(self._states.items()):
            if loop is here:
                await state.close()
            elif loop.is_running():
                await _closed_elsewhere(loop, state)
            else:
                # It stands still. When it goes on, it closes what would else be lost without being closed.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(_begin_to_close, loop, state)
        keeper = self._keepers.pop(here, None)
        self._states.clear()
        if keeper is not None:
            await keeper.aclose()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> LoopState:
        if self._closed:
            raise ClientClosed("The client is closed.")
        transport = AiohttpTransport(
            self._base,
            body_limit=self._body_limit,
            route=self._route,
            traced=not any(getattr(each, "replaces_aiohttp_tracing", False) for each in self._observers),
        )
        state = LoopState(
            transport,
            Gate(self._concurrency, self._rate, self._bytes_in_flight, self.new_clock()),
            tallies=self._tallies,
            announce=self.announce,
        )
        state.gate.limit.expect(self._expected)
        if self._limits is not None:
            state.gate.share_turns(SharedTurns(state.gate, self._limits, self.join_limits))
        self._states[loop] = state
        self._keepers[loop] = self._keep(loop, state)
        await anext(self._keepers[loop])
        return state

    async def _keep(self, loop: asyncio.AbstractEventLoop, state: LoopState) -> AsyncGenerator[None, None]:
        """Close *state* when its *loop* ends, if it is still open.

        A loop that ends well closes the asynchronous generators that began in it (`asyncio.run` and
        `shutdown_asyncgens`). This one waits for that, so that a client may be used in one `asyncio.run`
        after the other without leaving connections behind.
        """
        try:
            yield
        finally:
            await state.close()
            if self._states.get(loop) is state:
                del self._states[loop]
                self._keepers.pop(loop, None)

    def _placed(self, secret: Secret[str]) -> PlacedKey:
        """*secret* in its place; it is nearly always the same one."""
        if self._latest is None or not self._latest.is_of(secret):
            self._latest = PlacedKey(secret, self._key_place)
        return self._latest

    async def _fetched(
        self, fetch: Secret[Fetch], seconds: float
    ) -> tuple[PlacedKey | AttemptTimeout, float]:
        """The key that *fetch* returns within *seconds*, and the seconds left."""
        began = time.monotonic()
        try:
            # No name here, and none below, holds the key: a traceback of a bad one begins in this frame.
            async with asyncio.timeout(seconds):
                key = self._placed(checked_key(await _awaited(Secret(fetch.reveal()()))))
        except TimeoutError:
            late = AttemptTimeout(f"The callable that returns the key took longer than {seconds:.3g} s.")
            return late, LEAST_SECONDS
        return key, max(seconds - (time.monotonic() - began), LEAST_SECONDS)


async def _closed_elsewhere(loop: asyncio.AbstractEventLoop, state: LoopState) -> None:
    """Close *state* in its own *loop*. A loop that is just ending closes it by itself, and cancels or never
    runs our request; neither is the caller's trouble.
    """
    closing = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(state.close(), loop))
    await asyncio.wait([closing], timeout=CLOSING_SECONDS)
    closing.cancel()


def _begin_to_close(loop: asyncio.AbstractEventLoop, state: LoopState) -> None:
    closing = loop.create_task(state.close())
    _CLOSING.add(closing)
    closing.add_done_callback(_CLOSING.discard)


_CLOSING: set[asyncio.Task[None]] = set()


async def _awaited(found: Secret[str | Awaitable[str]]) -> str:
    if inspect.isawaitable(found.reveal()):
        return await cast("Awaitable[str]", found.reveal())
    return cast("str", found.reveal())
