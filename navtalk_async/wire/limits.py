"""The gate: how many requests at once, how many a second, and when none at all.

Every request of a client passes here, first come first served, and whoever has to wait costs nothing but
a future. Three things can hold a request back: too many in flight, the rate, and a pause. The rate is GCRA
(https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). A pause is a moment in time, not a flag: it
ends by itself, so no task that is cancelled meanwhile can leave the gate shut.
"""

import asyncio
import math
from collections import deque
from typing import Literal

from navtalk_async.errors import ClientClosed, DeadlineExceeded

__all__ = ["AUTO_AT_MOST", "Concurrency", "Gate", "Limit", "checked_concurrency", "checked_rate"]

Concurrency = int | Literal["auto"]

AUTO_AT_MOST = 128
"""How many at once `auto` begins with and never exceeds. What asks in bulk has a smaller bound of its own;
this one is against a thousand calls started at once."""

BURST_SECONDS = 0.05
"""How far requests may run ahead of the rate. Timers fire late; without this, every late one would be
throughput lost for good."""

SPENT = "The time for this call was spent waiting for its turn."


def checked_concurrency(concurrency: Concurrency) -> Concurrency:
    """*concurrency*, if it is `auto` or at least 1; else a ValueError."""
    if concurrency != "auto" and (isinstance(concurrency, bool) or not isinstance(concurrency, int)):
        raise ValueError(f"concurrency={concurrency!r} is neither a number nor 'auto'.")
    if concurrency != "auto" and concurrency < 1:
        raise ValueError(f"concurrency={concurrency} lets no request through; the least is 1.")
    return concurrency


def checked_rate(rate: float | None) -> float | None:
    """*rate*, if it is None or above 0; else a ValueError."""
    if rate is not None and not rate > 0:
        raise ValueError(f"rate={rate} lets no request through; it is requests a second.")
    return rate


class Limit:
    """How many requests at once: a fixed number, or one that yields while the server refuses."""

    def __init__(self, concurrency: Concurrency) -> None:
        self.most = AUTO_AT_MOST if concurrency == "auto" else concurrency
        self.learns = concurrency == "auto"
        self.now = self.most
        self._credit = 0

    def __repr__(self) -> str:
        return f"<Limit {self.now} of {self.most}{' auto' if self.learns else ''}>"

    def refused(self) -> None:
        """The server had too much: half as many from now on."""
        if self.learns:
            self.now = max(1, self.now // 2)
            self._credit = 0

    def answered(self) -> None:
        """The server coped: after as many good answers as there are requests at once, one more."""
        if self.now < self.most:
            self._credit += 1
            if self._credit >= self.now:
                self.now += 1
                self._credit = 0


class Gate:
    """The gate of one client in one event loop."""

    def __init__(self, concurrency: Concurrency = "auto", rate: float | None = None) -> None:
        self.limit = Limit(concurrency)
        self.in_flight = 0
        self._interval = 0.0 if rate is None else 1.0 / rate
        self._next_at = 0.0
        self._paused_until = 0.0
        self._opens_at = 0.0
        """Until then nobody is let through: the later of what pause and rate say; when closed, for ever."""
        self._refused_at = float("-inf")
        self._strikes = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._resting: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Gate [{self.in_flight} in flight, {len(self._waiting)} waiting] {self.limit!r}>"

    def entered(self, now: float) -> bool:
        """Let a request through at once, and count it, if nothing holds it back; who enters must `leave`."""
        if self._waiting or self.in_flight >= self.limit.now or now < self._opens_at:
            return False
        self._count_in(now)
        return True

    async def enter(self, deadline: float | None = None, *, first: bool = False) -> None:
        """Wait until a request may leave, and count it; whoever enters must `leave`.

        *deadline* is in the event loop's time. *first* goes before those who wait already: for a request
        that was let through once, and refused.

        Raises:
            DeadlineExceeded: *deadline* comes before the turn.
            ClientClosed: the gate was closed.
        """
        now = asyncio.get_running_loop().time()
        if self._closed:
            raise ClientClosed("The client is closed.")
        if not self.entered(now):
            if deadline is not None and self._opens_at > deadline:
                wait, left = min(self._opens_at - now, 1e9), max(deadline - now, 0.0)
                whose = "The server wants" if self._paused_until > deadline else "The rate allows"
                raise DeadlineExceeded(
                    f"{whose} nothing asked for {wait:.0f} s more, and this call has {left:.1f} s left."
                )
            await self._wait_turn(deadline, first=first)
        # A busy loop wakes us late.
        if deadline is not None and asyncio.get_running_loop().time() >= deadline:
            self.leave()
            raise DeadlineExceeded(SPENT)

    def leave(self) -> None:
        """The request that entered is over."""
        self.in_flight -= 1
        if self._waiting:
            self._let_in()

    def answered(self) -> None:
        """A good answer came."""
        self._strikes = 0
        self.limit.answered()

    def refused(self, *, asked_at: float) -> int:
        """The server had too much; how many times in a row, this one included.

        *asked_at* is when the refused request was sent. Refusals of requests that were on their way when
        an earlier one came are no further sign of anything, and are not counted.
        """
        if asked_at >= self._refused_at:
            self._refused_at = asyncio.get_running_loop().time()
            self._strikes += 1
            self.limit.refused()
        return self._strikes

    def pause(self, seconds: float) -> bool:
        """Let nobody through for *seconds*; False where an earlier pause lasts as long anyway."""
        until = asyncio.get_running_loop().time() + seconds
        longer = until > self._paused_until
        self._paused_until = max(self._paused_until, until)
        self._opens_at = max(self._opens_at, self._paused_until)
        return longer

    async def rest(self, seconds: float) -> None:
        """Wait for *seconds*; unlike a sleep, it ends with `ClientClosed` when the gate is closed."""
        loop = asyncio.get_running_loop()
        if self._closed:
            raise ClientClosed("The client is closed.")
        rested: asyncio.Future[None] = loop.create_future()
        alarm = loop.call_later(seconds, _resolve, rested)
        self._resting.add(rested)
        try:
            await rested
        finally:
            alarm.cancel()
            self._resting.discard(rested)

    def close(self) -> None:
        """Turn everybody away, those who wait as well."""
        self._closed = True
        self._opens_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
        for future in (*self._waiting, *self._resting):
            if not future.done():
                future.set_exception(ClientClosed("The client was closed while this call waited."))
        self._waiting.clear()

    def _count_in(self, now: float) -> None:
        self.in_flight += 1
        if self._interval:
            self._next_at = max(now, self._next_at) + self._interval
            self._opens_at = max(self._paused_until, self._next_at - BURST_SECONDS)

    async def _wait_turn(self, deadline: float | None, *, first: bool) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        alarm = None if deadline is None else loop.call_at(deadline, _expire, turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            # Let in and cancelled in the same moment: the place goes to the next.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()

    def _let_in(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting and self.in_flight < self.limit.now:
            if self._waiting[0].done():
                self._waiting.popleft()
                continue
            if self._opens_at > now:
                self._look_again(loop, self._opens_at)
                return
            self._count_in(now)
            self._waiting.popleft().set_result(None)

    def _look_again(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(when, self._let_in)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded(SPENT))
