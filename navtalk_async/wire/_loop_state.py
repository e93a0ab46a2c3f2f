"""What a sender has in one event loop, and what it does about each attempt there."""

import asyncio
import random
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from time import perf_counter
from typing import NamedTuple, TypeVar

import msgspec
from multidict import istr

from navtalk_async.concurrency import HELD
from navtalk_async.errors import (
    ApiError,
    AttemptTimeout,
    ClientClosed,
    DeadlineExceeded,
    DecodeFailed,
    NavTalkError,
    RateLimited,
    ServerError,
    TransportError,
)
from navtalk_async.events import Counts, Event, Waiting, in_short
from navtalk_async.models import Request, Response
from navtalk_async.rate_headers import SPELLINGS, Hint, hint
from navtalk_async.wire._outage import Absence
from navtalk_async.wire._tallies import Tallies
from navtalk_async.wire._transport import AiohttpTransport, LongAnswer
from navtalk_async.wire._watched import WatchedCall
from navtalk_async.wire.gate import Gate
from navtalk_async.wire.retry import (
    LONGEST_PAUSE,
    Budget,
    CallOptions,
    Retry,
    asked_pause,
    asks_for_a_pause,
    backoff,
    is_overloaded,
    may_have_changed,
    shared_pause,
    should_retry,
)
from navtalk_async.wire.secret import PlacedKey, redact

T = TypeVar("T")
E = TypeVar("E", bound=NavTalkError)

Read = Callable[[Request, Response], T]

DATE = istr("Date")
LIMIT_HEADERS = tuple(tuple(map(istr, names)) for names in SPELLINGS)


THREAD_BYTES = 1 << 20
"""A longer body is decoded in a thread, that the event loop does not stand still for it."""

NO_ACCIDENT = 3
"""An answer that is wrong in the same way so many times in a row is not asked for again."""


class Attempt(NamedTuple):
    """An attempt that failed."""

    error: NavTalkError
    number: int
    counted: int  # how many attempts have counted so far
    sent_at: float
    rank: int  # how many requests were in flight with it, itself included
    alike: int = 1  # how many in a row failed in the same way


class LoopState:
    """The connections, the gate and the retry budget of one event loop.

    What it holds of the latest answer is for the call that got it, which reads it before anything else runs.
    """

    def __init__(
        self,
        transport: AiohttpTransport,
        gate: Gate,
        *,
        tallies: Tallies,
        announce: Callable[[Event], None],
    ) -> None:
        self.transport = transport
        self.gate = gate
        self.budget = Budget()
        self._absence = Absence(gate, announce)
        self.is_outage = False  # whether the latest failed call waits for the server to come back
        self._tallies = tallies
        self._announce = announce
        self.closed = False
        self.time = self._clock = gate.clock.time
        # Of the names of an answer's headers, without any of a limit.
        self._plain_names: int | None = None
        self.received_at = 0.0
        self.attempts = 0
        self.watched: WatchedCall | None = None
        # One thread: more would take their turns all the same, and the event loop's turn with them.
        self._decoding = ThreadPoolExecutor(1, "navtalk-decoding")
        # Other headers are not kept: they may quote the key.
        self.date: str | None = None  # the latest date of an answer, which came at `dated_at`
        self.dated_at = 0.0

    async def close(self) -> None:
        """Refuse every call, and end every connection."""
        if not self.closed:
            self.closed = True
            self.gate.close()
            self._decoding.shutdown(wait=False)
            await self.transport.close()

    async def turn(self, tally: Counts, deadline: float | None, lane: int, last: NavTalkError | None) -> int:
        """Wait at the gate, return the rank, and count the time; *last* is the error of the last attempt."""
        gate = self.gate
        began = self._clock()
        paused_before = gate.paused_seconds(began)
        try:
            return await gate.acquire(deadline, lane, first=last is not None)
        except DeadlineExceeded as late:
            tally.expired += 1
            raise self._gave_up(late.args[0], last) from last
        except NavTalkError as closed:
            if last is not None:
                _instead(last, closed)
            raise
        finally:
            now = self._clock()
            paused = gate.paused_seconds(now) - paused_before
            tally.paused_seconds += paused
            tally.turn_seconds += now - began - paused

    def understood(  # noqa: PLR0917 - by name, they cost more
        self,
        request: Request,
        read: Read[T],
        response: Response | LongAnswer | TransportError | asyncio.CancelledError,
        key: PlacedKey,
        attempt: int,
        sent_at: float,
        rank: int,
        tally: Counts,
        watched: WatchedCall | None,
    ) -> T | LongAnswer | NavTalkError | asyncio.CancelledError:
        """What *read* makes of *response*, then counted as a good answer; or its error as a value."""
        self.received_at = now = self._clock()
        if not isinstance(response, Response):
            return _marked(request, response) if isinstance(response, NavTalkError) else response
        headers = response.headers
        if watched is not None:
            watched.status = response.status
        if date := headers.get(DATE):
            self.date, self.dated_at = date, now
        began = perf_counter()
        body = key.echo.masked(response.body)
        if body is not response.body:
            response = Response(status=response.status, headers=headers, body=body)
        try:
            found = read(request, response)
        except NavTalkError as refusal:
            return redact(_marked(request, refusal), key.secret)
        finally:
            decoding = perf_counter() - began
            tally.decode_seconds += decoding
        # Most answers have the headers of the one before, and those say nothing of limits.
        names = hash(tuple(headers))
        found_hint = None if names == self._plain_names else self._hint(headers, names)
        # A change takes its own time, and that of making its connection.
        self.gate.answered(now, sent_at, rank, found_hint, is_typical=request.method == "GET")
        if self.budget.left < Budget.MOST:
            self.budget.earn()
        self.attempts, self.watched = attempt, watched
        tally.answers += 1
        tally.network_seconds += now - sent_at
        if watched is not None:
            watched.answered(attempt, self._clock() - sent_at, decoding)
        return found

    async def read_on(  # noqa: PLR0917 - by name, they cost more
        self,
        request: Request,
        read: Read[T],
        begun: LongAnswer,
        key: PlacedKey,
        attempt: int,
        sent_at: float,
        rank: int,
        tally: Counts,
        watched: WatchedCall | None,
        *,
        seconds: float,
        deadline: float | None,
    ) -> T | LongAnswer | NavTalkError | asyncio.CancelledError:
        """What `understood` makes of an answer that has *begun*. Its bytes are counted until the caller has
        the result; or, where that is a job that holds results, until it hands them over.
        """
        job = HELD.get()
        reading = self.gate.bytes.begin(job)
        try:
            response = await self.transport.read_on(begun, request.path, seconds, deadline, reading)
            read_at = self._clock()
            if isinstance(response, Response):
                reading.add(len(response.body))
                if len(response.body) > THREAD_BYTES:
                    found = await self._in_thread(request, read, response, key, tally)
                    if isinstance(found, asyncio.CancelledError):
                        return found
                    response, read = msgspec.structs.replace(response, body=b""), _returns(found)
            # Neither its turns nor its decoding are the server's.
            sent_at += reading.waited + self._clock() - read_at
            outcome = self.understood(request, read, response, key, attempt, sent_at, rank, tally, watched)
            if job is not None and not isinstance(outcome, BaseException):
                reading.rest()
                job.held.append(reading)
            return outcome
        finally:
            if job is None or reading not in job.held:
                reading.release()

    async def _in_thread(
        self, request: Request, read: Read[T], response: Response, key: PlacedKey, tally: Counts
    ) -> T | NavTalkError | asyncio.CancelledError:
        """What *read* makes of *response*, or its error, or a cancellation, as values."""

        def work() -> T | NavTalkError:
            masked = msgspec.structs.replace(response, body=key.echo.masked(response.body))
            try:
                return read(request, masked)
            except NavTalkError as refusal:
                return redact(_marked(request, refusal), key.secret)

        began = perf_counter()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoding, copy_context().run, work)
        except asyncio.CancelledError as leaving:
            leaving.__context__ = leaving.__cause__ = None
            return leaving.with_traceback(None)
        finally:
            tally.decode_seconds += perf_counter() - began

    def _hint(self, headers: Mapping[str, str], names: int) -> Hint | None:
        """What *headers* say of limits; *names* is the hash of their names."""
        if not any(name in headers for spelling in LIMIT_HEADERS for name in spelling):
            self._plain_names = names
        return hint(headers, LIMIT_HEADERS)

    def failed(  # noqa: PLR0917 - by name, they cost more
        self,
        request: Request,
        failed: Attempt,
        options: CallOptions,
        deadline: float | None,
        tally: Counts,
        watched: WatchedCall,
    ) -> NavTalkError:
        """The error of *failed*, after which to `pause` and to try again; else raise what the call ends with.

        It is called before the place at the gate is free, so that nobody gets it whom the pause holds back.
        """
        error, now = failed.error, self._clock()
        if isinstance(error, AttemptTimeout) and deadline is not None and now >= deadline:
            error = self._out_of_time(error, options, max(0.0, deadline - now))
            failed = failed._replace(error=error)
        error.attempts = failed.number
        tally.network_seconds += max(0.0, self.received_at - failed.sent_at)
        watched.failed(failed.number, error, now)
        if self.closed:
            raise _instead(error, ClientClosed("The client was closed while this call was in flight."))
        if is_overloaded(error):
            tally.refused += 1
            self._refused(failed)
        elif isinstance(error, ApiError) and not isinstance(error, ServerError):
            self.gate.coped()
        absence, retry = self._absence, options.retry
        absence.count(request, failed.sent_at, self._tallies.answers)
        waits = absence.waits(request, error, now, options)
        if waits is None and not self._may_retry(request, failed, retry):
            waits = absence.waits(request, error, now, options, used_up=failed.counted) or False
        if waits is False:
            raise error
        self.is_outage = waits is True
        return error

    def _may_retry(self, request: Request, failed: Attempt, retry: Retry) -> bool:
        error, known = failed.error, self._tallies.answers > 0
        if not should_retry(retry, request, error, attempt=failed.counted, known_server=known):
            return False
        if isinstance(error, DecodeFailed) and failed.alike >= NO_ACCIDENT:
            return False
        # A 429 is waited out: that makes nothing worse.
        return isinstance(error, RateLimited) or self.budget.spend()

    def _refused(self, failed: Attempt) -> None:
        """Send fewer requests; and none at all for a while, if the server wants that."""
        error, gate = failed.error, self.gate
        now = self._clock()
        contradicts_cap = gate.limit.refused(now, failed.sent_at, failed.rank)
        if not asks_for_a_pause(error):
            return
        refusals, asked = gate.count_refusal(now, failed.sent_at), asked_pause(error)
        chance = random.random()  # noqa: S311 - jitter is no secret
        seconds = shared_pause(error, refusals, chance, gate.limit.latency)
        is_news = gate.pause(seconds, at_least=asked or 0.0, named=bool(asked))
        if gate.turns is not None:
            gate.turns.pause(seconds, refused=True)
        paused = min(asked or LONGEST_PAUSE, gate.paused_for(now))
        gate.learned_rate.refused(now, failed.sent_at, paused, rank=failed.rank, cap=not contradicts_cap)
        if is_news:
            rate = gate.rate(now)
            allowed = "" if rate is None else f" At most {rate:.3g} requests a second are sent now."
            self._announce(Waiting(seconds, in_short(error) + allowed))

    async def pause(
        self,
        error: NavTalkError,
        counted: int,
        options: CallOptions,
        deadline: float | None,
        tally: Counts,
    ) -> None:
        """Wait before the next attempt: at the gate, if all calls pause; else here."""
        now = self._clock()
        shared = self.is_outage or asks_for_a_pause(error)
        chance = random.random()  # noqa: S311 - jitter is no secret
        seconds = self.gate.paused_for(now) if shared else backoff(options.retry, counted, chance)
        if deadline is not None and seconds > (left := max(0.0, deadline - now)):
            raise self._out_of_time(error, options, left)
        if not shared:
            try:
                await self.gate.rest(seconds)
            except NavTalkError as closed:
                _instead(error, closed)
                raise
            tally.backoff_seconds += seconds
        tally.retries += 1

    def _out_of_time(self, error: NavTalkError, options: CallOptions, left: float) -> DeadlineExceeded:
        """The end of a call for whose next attempt the seconds *left* are too few."""
        timeout = options.timeout or 0.0
        spent = timeout - left
        rounded = f"{spent:.1g}" if spent < 1 else f"{spent:.1f}"
        return self._gave_up(f"Gave up after {rounded} of {timeout:g} s.", error)

    def _gave_up(self, text: str, last: NavTalkError | None) -> DeadlineExceeded:
        """A DeadlineExceeded that says *text*, and has the *last* error as its cause."""
        pause = self.gate.paused_for(self._clock())
        if last is None:
            return DeadlineExceeded(text, retry_after=pause or None)
        error = DeadlineExceeded(
            f"{text} The last attempt: {last.args[0]}",
            last_error=last,
            retry_after=asked_pause(last) or pause or None,
        )
        error.__cause__ = last
        return _instead(last, error)


def _returns(found: T | NavTalkError) -> Read[T]:
    def read(_: Request, __: Response) -> T:
        if isinstance(found, NavTalkError):
            raise found
        return found

    return read


def _instead(error: NavTalkError, other: E) -> E:
    """*other*, which the call of *error* ends with instead."""
    other.attempts, other.may_have_happened = error.attempts, error.may_have_happened
    return other


def _marked(request: Request, error: E) -> E:
    """*error*, marked if *request* may have changed something all the same."""
    if may_have_changed(request, error):
        error.may_have_happened = True
    return error
