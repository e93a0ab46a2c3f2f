"""A request in, an answer out that was understood, however many attempts that takes."""

import asyncio
import inspect
import math
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import msgspec

from navtalk_async.errors import (
    ApiError,
    AttemptTimeout,
    ClientClosed,
    DeadlineExceeded,
    NavTalkError,
    RateLimited,
    ServerError,
    TransportError,
)
from navtalk_async.events import Answered, Event, Failed, Observer, Stats, Waiting, announce, is_watched
from navtalk_async.models import KeyPlace, Request, Response, http_date
from navtalk_async.wire.address import address, canonical_root, checked_root, is_loopback, without_secret
from navtalk_async.wire.hints import hint
from navtalk_async.wire.key import PlacedKey
from navtalk_async.wire.learning import START
from navtalk_async.wire.limits import LANES, Concurrency, Gate, Lane, checked_concurrency, checked_rate
from navtalk_async.wire.line import Line
from navtalk_async.wire.retry import (
    LONGEST_PAUSE,
    Retry,
    asked_pause,
    backoff,
    leaves_open,
    overloaded,
    pause_after,
    too_much,
    worth_repeating,
)
from navtalk_async.wire.secret import Secret, checked_key, discreet
from navtalk_async.wire.single_use import Flowing, SingleUseTransport
from navtalk_async.wire.stream import Stream
from navtalk_async.wire.transport import AiohttpTransport

__all__ = ["BODY_LIMIT", "Key", "Patience", "Read", "Sender"]

T = TypeVar("T")
E = TypeVar("E", bound=NavTalkError)

Fetch = Callable[[], str | Awaitable[str]]
Key = str | Fetch
Read = Callable[[Request, Response], T]

LEAST_SECONDS = 0.001
"""What an attempt is given at least: the clock goes on after the gate has looked."""

CLOSING_SECONDS = 2.0
"""How long another thread's loop may take to close its connections."""

BODY_LIMIT = 128 * 1024 * 1024
"""Bytes of one inflated answer: 200 messages of half a megabyte each, and no bomb."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a call may take, and how stubborn it is."""

    timeout: float | None = 300.0
    """Seconds for the whole call: its turn, every attempt and every pause. None: no end."""
    attempt_timeout: float = 60.0
    """Seconds for one attempt, its connection included."""
    retry: Retry = Retry()
    lane: Lane = "normal"
    """Who goes first where calls have to wait for each other."""

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout={self.timeout} leaves no time to ask; it is in seconds.")
        if not self.attempt_timeout > 0:
            raise ValueError(f"attempt_timeout={self.attempt_timeout} leaves no time to ask.")
        if self.lane not in LANES:
            raise ValueError(f"lane={self.lane!r} is none of {', '.join(map(repr, LANES))}.")


class Failure(NamedTuple):
    """An attempt that came to nothing."""

    error: NavTalkError
    counted: int
    """How many attempts have counted so far."""
    sent_at: float
    place: int
    """How many were in flight with it."""


class Sender:
    """All traffic of a client, over however many event loops: one gate and one connection pool for each."""

    @discreet
    def __init__(
        self,
        *,
        root: str,
        key: Key | Secret[str],
        key_place: KeyPlace,
        concurrency: Concurrency = "auto",
        rate: float | None = None,
        body_limit: int = BODY_LIMIT,
        trust_env: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self._stats = Stats()
        self._root = checked_root(root)
        self._base = urlsplit(self._root)
        self._key_place = key_place
        self._latest: PlacedKey | None = None
        self._key = Secret(key) if callable(key) else self._placed(checked_key(key))
        self._concurrency = checked_concurrency(concurrency)
        self._rate = checked_rate(rate)
        self._body_limit = body_limit
        # What is plain http here would be plain http on the way to a proxy, too, with the key.
        self._trust_env = trust_env and not is_loopback(self._base.hostname or "")
        self._observer = observer
        self._lines: dict[asyncio.AbstractEventLoop, Line] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = {}
        self._known_server = False
        self._expected = 0
        self._closed = False

    def __repr__(self) -> str:
        # One that could not be made has no root; and is shown, in a report of why.
        return f"<Sender to {vars(self).get('_root')}>"

    def __reduce__(self) -> str:
        raise TypeError("A client holds a key and connections: make one where it is used, do not pickle it.")

    def stream(
        self, request: Request, refuse: Callable[[Request, Response], object], patience: Patience
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The answer to *request*, for `async with`, whose chunks of up to 64 KiB are given as they come. Any
        answer but a 2xx is read whole and given to *refuse*, which raises what it means.

        Until the answer begins, all is as for `ask`, and there the `timeout` of *patience* ends. From then on
        its `attempt_timeout` bounds the wait for each chunk, nothing bounds their number, and nothing is
        asked again. It then takes no place in flight any more. Leaving the `async with` ends the connection.

        Raises:
            NavTalkError: as `ask`. A next chunk: BrokenBody, where the connection ended; AttemptTimeout;
                ClientClosed.
        """

        async def begin(stream: Stream) -> None:
            await self.ask(request, stream.read, patience, stream)

        return Stream(
            request,
            begin=begin,
            refuse=refuse,
            seconds=patience.attempt_timeout,
            stats=self._stats,
            observer=self._observer,
        )

    async def ask(
        self, request: Request, read: Read[T], patience: Patience, stream: Stream | None = None
    ) -> T:
        """What *read* makes of the answer to *request*. One that changes something is sent again only where
        it certainly never arrived. Where a *stream* is to take the answer, it is one that has just begun.

        Raises:
            NavTalkError: any of them but a `StoreError`; when *patience* is at its end, the last one. Its
                `may_have_happened` tells whether a change may have been made.
        """
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop) or await self._open(loop)
        gate, lane = line.gate, LANES[patience.lane]
        sent_at = loop.time()
        deadline = None if patience.timeout is None else sent_at + patience.timeout
        attempts = counted = 0
        while True:
            if attempts or not gate.entered(sent_at, lane):
                place = await self._turn(gate, deadline, lane, attempts)
                sent_at = loop.time()
            else:
                place = gate.in_flight
            attempts += 1
            try:
                seconds = patience.attempt_timeout
                if deadline is not None and deadline - sent_at < seconds:
                    seconds = max(deadline - sent_at, LEAST_SECONDS)
                if isinstance(self._key, PlacedKey):
                    # The answer has no name here: this frame is shown.
                    outcome = self._understood(
                        line,
                        request,
                        read,
                        await self._exchange(line, request, self._key, seconds, stream),
                        self._key,
                    )
                else:
                    outcome = await self._attempt(line, request, read, seconds, self._key, stream=stream)
                if not isinstance(outcome, BaseException):
                    self._well_answered(line, request, attempts, sent_at, place)
                    if stream is not None:
                        stream.has_begun(line, attempts)
                    return outcome
            finally:
                gate.leave()
            if not isinstance(outcome, NavTalkError):
                raise outcome
            if isinstance(outcome, AttemptTimeout) and deadline is not None and loop.time() >= deadline:
                outcome = _too_late(outcome)
            counted += not isinstance(outcome, RateLimited)
            failed = Failure(outcome, counted, sent_at, place)
            self._failed(line, request, failed, attempts)
            if not self._worth_repeating(line, request, failed, patience.retry):
                raise outcome
            await self._pause(line, failed, patience.retry, deadline)
            self._stats.retries += 1

    @property
    def base_url(self) -> str:
        """See `Client.base_url`."""
        return canonical_root(self._base)

    def announce(self, event: Event) -> None:
        """Tell whoever watches that *event* happened."""
        announce(self._observer, event)

    def expect(self, at_once: int) -> None:
        """Begin with so many at once, where nothing is known of the server yet."""
        self._expected = max(self._expected, at_once)
        for line in list(self._lines.values()):
            line.gate.limit.expect(at_once)

    def at_once(self) -> int:
        """How many requests the limit allows at once, at present and in this event loop."""
        line = self._lines.get(asyncio.get_running_loop())
        return START if line is None else line.gate.limit.now

    def now(self) -> datetime:
        """This moment by the server's clock, as its latest answer told it; by ours, if none did."""
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        date = None if line is None or line.date is None else http_date(line.date)
        if line is None or date is None:
            return datetime.now(UTC)
        return date + timedelta(seconds=loop.time() - line.dated_at)

    def stats(self) -> Stats:
        """What has been done so far, as a copy."""
        gates = [line.gate for line in list(self._lines.values())]
        rates = [rate for loop, line in list(self._lines.items()) if (rate := line.gate.rate(loop.time()))]
        return msgspec.structs.replace(
            self._stats,
            in_flight=sum(gate.in_flight for gate in gates),
            waiting=sum(gate.waiting for gate in gates),
            limit=max((gate.limit.now for gate in gates), default=0),
            rate=min(rates, default=self._rate),
        )

    async def aclose(self) -> None:
        """End every connection in every loop; calls on their way raise `ClientClosed`. It may be called
        from any task of any loop, and again.
        """
        self._closed = True
        here = asyncio.get_running_loop()
        for loop, line in list(self._lines.items()):
            if loop is here:
                await line.close()
            elif loop.is_running():
                await _closed_elsewhere(loop, line)
        keeper = self._keepers.pop(here, None)
        self._lines.clear()
        if keeper is not None:
            await keeper.aclose()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Line:
        if self._closed:
            raise ClientClosed("The client is closed.")
        line = Line(
            transport=AiohttpTransport(body_limit=self._body_limit, trust_env=self._trust_env),
            single_use=SingleUseTransport(body_limit=self._body_limit, trust_env=self._trust_env),
            gate=Gate(self._concurrency, self._rate),
        )
        line.gate.limit.expect(self._expected)
        self._lines[loop] = line
        self._keepers[loop] = self._keep(loop, line)
        await anext(self._keepers[loop])
        return line

    async def _keep(self, loop: asyncio.AbstractEventLoop, line: Line) -> AsyncGenerator[None, None]:
        """Close *line* when its *loop* ends, if nobody has before.

        A loop that ends well closes the asynchronous generators that began in it (`asyncio.run` and
        `shutdown_asyncgens`). This one waits for that, so that a client may be used in one `asyncio.run`
        after the other without leaving connections behind.
        """
        try:
            yield
        finally:
            await line.close()
            if self._lines.get(loop) is line:
                del self._lines[loop]
                self._keepers.pop(loop, None)

    async def _attempt(
        self,
        line: Line,
        request: Request,
        read: Read[T],
        seconds: float,
        fetch: Secret[Fetch],
        *,
        stream: Stream | None,
    ) -> T | NavTalkError | asyncio.CancelledError:
        """One attempt with a key that has to be fetched: its result, or its error as a value, by the rules at
        the top of `transport`.
        """
        asked_at = time.monotonic()
        try:
            key = self._placed(await _fetched(fetch, seconds))
        except TimeoutError:
            line.received_at = asyncio.get_running_loop().time()
            return AttemptTimeout(f"The callable that gives the key took longer than {seconds:.3g} s.")
        seconds = max(seconds - (time.monotonic() - asked_at), LEAST_SECONDS)
        return self._understood(
            line, request, read, await self._exchange(line, request, key, seconds, stream), key
        )

    def _understood(
        self,
        line: Line,
        request: Request,
        read: Read[T],
        response: Response | TransportError | asyncio.CancelledError,
        key: PlacedKey,
    ) -> T | NavTalkError | asyncio.CancelledError:
        """What *read* makes of *response*, or its error as a value."""
        line.received_at = asyncio.get_running_loop().time()
        if not isinstance(response, Response):
            return response if isinstance(response, asyncio.CancelledError) else _told(request, response)
        line.hint = hint(response.headers)
        if date := response.headers.get("Date"):
            line.date, line.dated_at = date, line.received_at
        began = time.perf_counter()
        body = key.echo.masked(response.body)
        if body is not response.body:
            response = Response(status=response.status, headers=response.headers, body=body)
        elif isinstance(response, Flowing):
            response.flow.echo = key.echo.in_chunks()
        try:
            return read(request, response)
        except NavTalkError as refusal:
            return without_secret(_told(request, refusal), key.secret)
        finally:
            self._stats.decode_seconds += time.perf_counter() - began

    def _exchange(
        self, line: Line, request: Request, key: PlacedKey, seconds: float, stream: Stream | None
    ) -> Awaitable[Response | TransportError | asyncio.CancelledError]:
        url = address(self._base, request)
        self._stats.requests += 1
        if stream is not None:
            return line.single_use.begin(request, url, key, seconds)
        if request.method == "GET":
            return line.transport.exchange(request, url, key, seconds)
        return line.single_use.exchange(request, url, key, seconds)

    def _placed(self, secret: Secret[str]) -> PlacedKey:
        """*secret* in its place; it is nearly always the same one."""
        if self._latest is None or not self._latest.is_of(secret):
            self._latest = PlacedKey(secret, self._key_place)
        return self._latest

    async def _turn(self, gate: Gate, deadline: float | None, lane: int, attempts: int) -> int:
        """Wait for a place in flight, which is what it gives; and take the time."""
        loop, stats = asyncio.get_running_loop(), self._stats
        began = loop.time()
        paused_before = gate.paused_seconds(began)
        try:
            return await gate.enter(deadline, lane, first=attempts > 0)
        except NavTalkError as error:
            error.attempts = attempts
            raise
        finally:
            now = loop.time()
            paused = gate.paused_seconds(now) - paused_before
            stats.paused_seconds += paused
            stats.turn_seconds += now - began - paused

    def _well_answered(self, line: Line, request: Request, attempts: int, sent_at: float, place: int) -> None:
        stats, received_at = self._stats, line.received_at
        # A change takes its own time, and that of making its connection.
        line.gate.answered(received_at, sent_at, place, line.hint, is_typical=request.method == "GET")
        line.budget.earn()
        self._known_server = True
        stats.answers += 1
        stats.network_seconds += received_at - sent_at
        if is_watched(self._observer):
            seconds = asyncio.get_running_loop().time() - sent_at
            announce(self._observer, Answered(request.path, attempts, seconds))

    def _failed(self, line: Line, request: Request, failure: Failure, attempts: int) -> None:
        error = failure.error
        error.attempts = attempts
        self._stats.network_seconds += max(0.0, line.received_at - failure.sent_at)
        announce(self._observer, Failed(request.path, attempts, f"{type(error).__name__}: {error.args[0]}"))
        if line.closed:
            raise _like(error, ClientClosed("The client was closed while this call was on its way."))
        if overloaded(error):
            self._refused(line, failure)
        elif isinstance(error, ApiError) and not isinstance(error, ServerError):
            line.gate.coped()

    def _refused(self, line: Line, failure: Failure) -> None:
        """Ask less; and nothing at all for a while, if that is what the server wants."""
        error, gate = failure.error, line.gate
        self._stats.refused += 1
        now = asyncio.get_running_loop().time()
        contradicts_cap = gate.refused(now, failure.sent_at, failure.place)
        if not too_much(error):
            return
        strikes, asked = gate.strike(now, failure.sent_at), asked_pause(error)
        chance = random.random()  # noqa: S311 - jitter is no secret
        seconds = pause_after(error, strikes, chance, gate.limit.latency)
        is_news = gate.pause(seconds, least=asked or 0.0, named=bool(asked))
        paused = min(asked or LONGEST_PAUSE, gate.paused_for(now))
        gate.learn_rate(now, failure.sent_at, paused, place=failure.place, cap=not contradicts_cap)
        if is_news:
            rate = gate.rate(now)
            allowed = "" if rate is None else f" It is asked {rate:.3g} times a second at most."
            announce(self._observer, Waiting(seconds, f"{type(error).__name__}: {error.args[0]}{allowed}"))

    def _worth_repeating(self, line: Line, request: Request, failure: Failure, retry: Retry) -> bool:
        error, known = failure.error, self._known_server
        if not worth_repeating(retry, request, error, attempt=failure.counted, known_server=known):
            return False
        # A 429 is waited out: that makes nothing worse.
        return isinstance(error, RateLimited) or line.budget.spend()

    async def _pause(self, line: Line, failure: Failure, retry: Retry, deadline: float | None) -> None:
        """Wait before the next attempt: at the gate, if everybody pauses; else here."""
        error, now = failure.error, asyncio.get_running_loop().time()
        shared = too_much(error)
        chance = random.random()  # noqa: S311 - jitter is no secret
        seconds = line.gate.paused_for(now) if shared else backoff(retry, failure.counted, chance)
        left = math.inf if deadline is None else max(0.0, deadline - now)
        if seconds > left:
            raise DeadlineExceeded(
                f"The next attempt would begin in {seconds:.1f} s, and this call has {left:.1f} s left.",
                attempts=error.attempts,
            ) from error
        if not shared:
            await _counting(error.attempts, line.gate.rest(seconds))
            self._stats.backoff_seconds += seconds


def _too_late(error: AttemptTimeout) -> DeadlineExceeded:
    """What an attempt's timeout is where the whole call had no more time to give it."""
    exceeded = _like(error, DeadlineExceeded("The time for this call was spent waiting for an answer."))
    exceeded.__cause__ = error
    return exceeded


def _like(error: NavTalkError, other: E) -> E:
    """*other*, as what the call of *error* ends with instead."""
    other.attempts, other.may_have_happened = error.attempts, error.may_have_happened
    return other


def _told(request: Request, error: E) -> E:
    """*error*, which knows now whether what *request* was to change may have been changed."""
    if leaves_open(request, error):
        error.may_have_happened = True
    return error


async def _closed_elsewhere(loop: asyncio.AbstractEventLoop, line: Line) -> None:
    """Close *line* in its own *loop*. If that one is just ending, it closes the line by itself, and what we
    asked of it is cancelled, or never done; neither is the caller's trouble.
    """
    closing = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(line.close(), loop))
    await asyncio.wait([closing], timeout=CLOSING_SECONDS)
    closing.cancel()


async def _counting(attempts: int, wait: Awaitable[T]) -> T:
    """Wait; an error that ends the wait counts the *attempts* that were made before it."""
    try:
        return await wait
    except NavTalkError as error:
        error.attempts = attempts
        raise


async def _fetched(fetch: Secret[Fetch], seconds: float) -> Secret[str]:
    # No name here, and none below, holds the key: a traceback of a bad one begins in this frame.
    async with asyncio.timeout(seconds):
        return checked_key(await _awaited(Secret(fetch.reveal()())))


async def _awaited(found: Secret[str | Awaitable[str]]) -> str:
    if inspect.isawaitable(found.reveal()):
        return await cast("Awaitable[str]", found.reveal())
    return cast("str", found.reveal())
