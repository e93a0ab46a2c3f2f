"""The gate: how many requests at once, how many a second, when none at all, and who goes first.

Every request of a client passes here, and one that has to wait costs no more than a future and a timer. Three
things can hold a request back: too many in flight, the rate, and a pause. The rate is GCRA
(https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm). A pause is a moment in time, not a flag: it
ends by itself, so no task that is cancelled meanwhile can leave the gate shut.

Requests wait in one of three lanes. The higher lane goes first, and while it is in use the lower ones leave
a few places free for it; now and then a lower one has its turn all the same, so that none starves. Within a
lane it is first come first served, but for a request that was let through before and is retried.

This file is longer than most: limit, rate, pause and lanes decide together on each request, in one state.
"""

import asyncio
import math
from collections import deque
from functools import partial
from itertools import chain
from typing import Any, Literal

from navtalk_async.errors import ClientClosed, DeadlineExceeded
from navtalk_async.events import LATE_SECONDS
from navtalk_async.rate_headers import Hint
from navtalk_async.wire._bytes_in_flight import BytesInFlight
from navtalk_async.wire._learned_concurrency import (
    ENOUGH_FOR_A_LATE_LOOP,
    LOWER,
    LearningLimit,
    Limit,
)
from navtalk_async.wire.clock import Clock
from navtalk_async.wire.rate import RateEstimator
from navtalk_async.wire.retry import LANES, LONGEST_PAUSE
from navtalk_async.wire.shared_limit import SharedLimit
from navtalk_async.wire.shared_turns import SharedTurns

__all__ = ["AUTO_AT_MOST", "Concurrency", "Gate", "checked_bytes", "checked_concurrency"]

Concurrency = int | Literal["auto"]

NORMAL, BULK = LANES["normal"], LANES["bulk"]

# The most at once that `auto` comes to: each is a socket, and more of them cost us more than they bring.
AUTO_AT_MOST = 256
RESERVED_SHARE = 16  # one place in so many is left free for a higher lane that is in use, and at least one
IN_USE_SECONDS = 5.0  # for how long after its last request a lane is in use
WAITED_FOR = 4.0  # how much more a late loop matters while the interactive lane is in use
OWN_TURN = 16  # of so many that are let in, one is of the lowest lane that waits
# How far requests may run ahead of the rate. Timers fire late; without this, every late one would be
# throughput lost for good.
BURST_SECONDS = 0.05
# Below so many requests a second, a rate that was learned has a burst of a tenth of a request at most: the
# server may count them one by one.
SLOW_RATE = 100.0
ALONE = 2  # after so many refusals in a row, one request at a time finds out whether the server answers again
NEWS_SECONDS = 0.5  # a pause that is made longer by no more than this is still the same pause
SPENT = "Gave up: the time for this call passed while it waited for its turn."


def checked_concurrency(concurrency: Concurrency) -> Concurrency:
    """*concurrency*, if it is `auto` or at least 1; else a ValueError."""
    if concurrency == "auto" or (type(concurrency) is int and concurrency >= 1):
        return concurrency
    raise ValueError(f"concurrency={concurrency!r} is neither 'auto' nor a whole number of at least 1.")


def checked_bytes(count: int) -> int:
    """*count*, if it is a number of bytes; else a ValueError."""
    if type(count) is not int or count < 1:
        raise ValueError(f"bytes_in_flight={count!r} is not a whole number of bytes of at least 1.")
    return count


class Gate:
    """The gate of one client in one event loop."""

    def __init__(
        self,
        concurrency: Concurrency = "auto",
        rate: float | None = None,
        bytes_in_flight: float = math.inf,
        clock: Clock | None = None,
    ) -> None:
        self.clock: Clock = clock or Clock()
        self.bytes: BytesInFlight = BytesInFlight(bytes_in_flight, self._weighed, self._yielded)
        self._is_heavy = False
        self.limit: Limit = (
            LearningLimit(AUTO_AT_MOST, self._time_loop) if concurrency == "auto" else Limit(concurrency)
        )
        self.in_flight: int = 0
        # How many of them are in the lowest lane, and the most that may be: fewer, where the loop is late.
        self._bulk = 0
        self._bulk_most = math.inf
        self._highest_rate = rate
        self.learned_rate: RateEstimator = RateEstimator()
        self._next_at = 0.0
        self._paused_until = 0.0
        self._paused_since = 0.0
        self._paused_before = 0.0
        # Until then no request passes: the later of what pause and rate say; infinite when closed.
        self._opens_at = 0.0
        self._refused_at = float("-inf")
        self._refusals = 0
        # What the server said it will still take; None where it says nothing.
        self._remaining: int | None = None
        self._remaining_until = 0.0
        self.waiting: int = 0  # how many wait for their turn
        self._lanes: tuple[deque[_Turn], ...] = tuple(deque() for _ in LANES)
        # Until when each lane leaves places free for the lanes above it.
        self._in_use_until = [0.0 for _ in LANES]
        self._passed_over = 0
        self._resting: set[asyncio.Future[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._closed = False
        self._shared: SharedLimit | SharedTurns | None = None
        self._shared_in_flight = 0
        self.turns: SharedTurns | None = None

    def __repr__(self) -> str:
        return f"<Gate [{self.in_flight} in flight, {self.waiting} waiting] {self.limit!r}>"

    def rate(self, now: float) -> float | None:
        """The requests a second that are let through at most, asked for or learned; None for any number."""
        rates = [rate for rate in (self._highest_rate, self.learned_rate.rate(now)) if rate is not None]
        return min(rates, default=None)

    def paused_seconds(self, now: float) -> float:
        """Total seconds paused so far."""
        return self._paused_before + max(0.0, min(now, self._paused_until) - self._paused_since)

    def paused_for(self, now: float) -> float:
        """The seconds until the pause ends."""
        return max(0.0, self._paused_until - now)

    def try_acquire(self, now: float, lane: int = NORMAL) -> bool:
        """Let a request through at once, and count it, if nothing holds it back; then `release` it."""
        if now < self._opens_at or self.in_flight >= self.limit.now:
            return False
        if lane == BULK and self._bulk >= self._bulk_most:
            return False
        if (
            self._remaining is not None or self._refusals or now < self._in_use_until[lane] or self._is_heavy
        ) and self.in_flight >= self._room(now, lane):
            return False
        if self.waiting and any(self._lanes[: lane + 1]):
            return False
        if self._shared is not None and not self._admitted_by_all(self._shared):
            return False
        self._admitted(now, lane)
        return True

    async def acquire(self, deadline: float | None = None, lane: int = NORMAL, *, first: bool = False) -> int:
        """Wait until a request may leave, and count it; then `release` it. Its rank: how many are
        in flight then, itself included.

        *deadline* is in the time of `clock`. *first* goes to the head of its *lane*: for a request that was
        let through before, and is retried.
        """
        now = self.clock.time()
        if self._closed:
            raise ClientClosed("The client is closed.")
        if self.try_acquire(now, lane):
            rank = self.in_flight
        else:
            if deadline is not None and self._opens_at > deadline:
                wait, left = min(self._opens_at - now, 1e9), max(deadline - now, 0.0)
                what = "server" if self._paused_until > deadline else "rate"
                raise DeadlineExceeded(
                    f"The {what} allows no request for another {wait:.0f} s; this call has {left:.1f} s left."
                )
            rank = await self._wait(deadline, lane, first=first)
        # A busy loop wakes us late.
        if deadline is not None and self.clock.time() >= deadline:
            self.release(lane)
            raise DeadlineExceeded(SPENT)
        return rank

    def release(self, lane: int = NORMAL) -> None:
        """End a request that was let through."""
        self.in_flight -= 1
        if lane == BULK:
            self._bulk -= 1
        if self._shared is not None and self._shared_in_flight:
            self._shared_in_flight -= 1
            self._shared.release()
        if self.waiting:
            self.admit()

    def share(self, limit: SharedLimit | None) -> None:
        """Have *limit*, which other gates have too, hold from now on; or none."""
        self._shared_in_flight = 0
        if self.turns is None:
            self._shared = limit
        else:
            self.turns.within = limit
        self.admit()

    def share_turns(self, turns: SharedTurns) -> None:
        """Have a limit hold, too, that other processes share: a request leaves in one of the *turns*."""
        self.turns = self._shared = turns

    def wanted(self) -> int:
        """How many requests could leave now, if there were turns."""
        return min(self.waiting, self.limit.now - self.in_flight)

    def fail(self, error: Exception) -> None:
        """End with *error* what waits."""
        for turn in chain(*self._lanes):
            if not turn.done():
                turn.set_exception(error)

    def _admitted_by_all(self, shared: SharedLimit | SharedTurns) -> bool:
        is_admitted = shared.try_acquire(self)
        self._shared_in_flight += is_admitted
        return is_admitted

    def answered(
        self, now: float, sent_at: float, rank: int, hint: Hint | None = None, *, is_typical: bool = True
    ) -> None:
        """Count a good answer to a request that left at *sent_at* and is not released yet; *is_typical* is
        whether the time it took says anything of the others.
        """
        self._refusals = 0
        self.learned_rate.accepted += 1
        room = self.limit.now
        full = self.in_flight >= room - (room // RESERVED_SHARE or 1)
        self.limit.answered(now, sent_at, rank, full=full, is_typical=is_typical)
        if hint is not None or self._remaining is not None:
            self._heed(hint, now)

    def _time_loop(self) -> None:
        """Find out how long the event loop takes for all that is ready now."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        loop.call_soon(lambda: self._timed(loop.time() - began))

    def _timed(self, seconds: float) -> None:
        is_awaited = self.clock.time() < self._in_use_until[NORMAL]
        if not is_awaited:
            self._bulk_most = math.inf
            self.limit.lagged(seconds)
            return
        # Somebody waits for what this loop does, who would see it. With a lower limit they would wait all the
        # more, so it is the bulk alone that makes way for them.
        self.limit.lagged(WAITED_FOR * seconds, heed=False)
        if self.limit.lag < LATE_SECONDS:
            self._bulk_most += 1
        else:
            fewer = int(LOWER * min(self._bulk, self._bulk_most))
            self._bulk_most = max(ENOUGH_FOR_A_LATE_LOOP, fewer)

    def coped(self) -> None:
        """Note that the server answered, with a refusal that is not for overload."""
        self._refusals = 0

    def count_refusal(self, now: float, sent_at: float) -> int:
        """Count a refusal that makes all calls pause; return how many there were in a row.

        A refusal of a request that was in flight when an earlier one came is no further sign that the server
        still has too much, and is not counted.
        """
        if sent_at >= self._refused_at:
            self._refused_at = now
            self._refusals += 1
        return self._refusals

    def pause(self, seconds: float, *, at_least: float | None = None, named: bool = True) -> bool:
        """Let no request through for *seconds*; False where an earlier pause lasts as long anyway, or as
        *at_least*, or nearly. *named* is whether the server said how long.
        """
        now = self.clock.time()
        until, is_paused = now + seconds, now < self._paused_until
        shortest = until if at_least is None else min(until, now + at_least)
        if is_paused and shortest <= self._paused_until:
            return False
        is_news = not is_paused or until > self._paused_until + NEWS_SECONDS
        if not is_paused:
            self._paused_before = self.paused_seconds(now)
            self._paused_since = now
        self._paused_until = until
        self._opens_at = max(self._opens_at, until)
        self.limit.paused(now, seconds, named=named)
        return is_news

    async def rest(self, seconds: float) -> None:
        """Wait for *seconds*; unlike a sleep, it ends with `ClientClosed` when the gate is closed."""
        if self._closed:
            raise ClientClosed("The client is closed.")
        rested: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.add(rested)
        timer = self.clock.call_at(self.clock.time() + seconds, partial(_end, rested))
        try:
            await rested
        finally:
            timer.cancel()
            self._resting.discard(rested)

    def close(self) -> None:
        """Refuse every request, also those that wait."""
        self._closed = True
        self.bytes.close()
        if self.turns is not None:
            self.turns.close()
        self._opens_at = math.inf
        if self._timer is not None:
            self._timer.cancel()
        waiting: list[asyncio.Future[Any]] = [*self._resting, *chain(*self._lanes)]
        self.waiting = 0
        for queue in self._lanes:
            queue.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(ClientClosed("The client was closed while this call waited."))

    def _room(self, now: float, lane: int) -> int:
        """The number in flight below which another request of *lane* is let in."""
        if self._refusals >= ALONE:
            return 1
        if self._is_heavy and lane:
            # One beside those that wait for room: it may be of the oldest, for which they wait.
            return len(self.bytes.waiting) + 1
        room = self.limit.now
        if self._remaining is not None and self._remaining < room and now < self._remaining_until:
            room = self._remaining
        return max(1, room - (room // RESERVED_SHARE or 1)) if now < self._in_use_until[lane] else room

    def _has_room(self, now: float, lane: int, *, as_lane: int) -> bool:
        """Whether a request of *lane* may be let in now, with as many places free as for *as_lane*."""
        return self.in_flight < self._room(now, as_lane) and (lane < BULK or self._bulk < self._bulk_most)

    def _weighed(self, is_over: bool) -> None:  # noqa: FBT001 - it is called with nothing else
        self._is_heavy = is_over
        if self.waiting:
            self.admit()

    def _yielded(self, count: int) -> None:
        self.in_flight -= count
        if self.waiting and count > 0:
            self.admit()

    def _admitted(self, now: float, lane: int) -> None:
        self.in_flight += 1
        if lane == BULK:
            self._bulk += 1
        learned = self.learned_rate
        if not learned.is_running:
            learned.began(now)
        if lane <= NORMAL:
            self._in_use_until[2] = now + IN_USE_SECONDS
            if lane < NORMAL:
                self._in_use_until[1] = now + IN_USE_SECONDS
        if learned.base is None and self._highest_rate is None:
            return
        rate = self.rate(now)
        if rate is not None:
            asked_for = self._highest_rate is not None and rate >= self._highest_rate
            burst = BURST_SECONDS if asked_for or rate > SLOW_RATE else 0.1 / rate
            self._next_at = max(now, self._next_at) + 1.0 / rate
            self._opens_at = max(self._paused_until, self._next_at - burst)

    def _heed(self, hint: Hint | None, now: float) -> None:
        if now >= self._remaining_until:
            self._remaining = None
        if hint is None:
            return
        seconds = min(hint.seconds, LONGEST_PAUSE)
        # Answers overtake each other: within one window, the lowest figure is the latest.
        self._remaining = hint.remaining if self._remaining is None else min(self._remaining, hint.remaining)
        self._remaining_until = now + seconds
        if not self._remaining:
            self._remaining = None
            self.pause(seconds)
            if self.turns is not None:
                self.turns.pause(seconds, refused=False)

    async def _wait(self, deadline: float | None, lane: int, *, first: bool) -> int:
        loop = asyncio.get_running_loop()
        turn: _Turn = loop.create_future()
        queue = self._lanes[lane]
        (queue.appendleft if first else queue.append)(turn)
        self.waiting += 1
        timer = None if deadline is None else loop.call_later(deadline - self.clock.time(), _expire, turn)
        self.admit()
        try:
            return await turn
        except BaseException:
            # Let in and cancelled in the same moment: the place goes to the next.
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release(lane)
            elif not self._closed:
                self.waiting -= 1
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def admit(self) -> None:
        """Let requests through that wait, as long as nothing holds them back."""
        now = self.clock.time()
        while (lane := self._next_lane(now)) is not None:
            if self._opens_at > now:
                self._look_again(self._opens_at)
                return
            if self._shared is not None and not self._admitted_by_all(self._shared):
                return
            self._admitted(now, lane)
            self.waiting -= 1
            self._lanes[lane].popleft().set_result(self.in_flight)

    def _next_lane(self, now: float) -> int | None:
        """The lane whose first request is next, if there is room for it."""
        for queue in self._lanes:
            while queue and queue[0].done():
                queue.popleft()
        waiting = [number for number, queue in enumerate(self._lanes) if queue]
        if not waiting:
            return None
        if len(waiting) > 1:
            self._passed_over += 1
            if self._passed_over >= OWN_TURN and self._has_room(now, waiting[-1], as_lane=0):
                self._passed_over = 0
                return waiting[-1]
        lane = waiting[0]
        if self._has_room(now, lane, as_lane=lane):
            return lane
        if now < self._in_use_until[lane]:
            self._look_again(self._in_use_until[lane])
        return None

    def _look_again(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.clock.call_at(when, self.admit)


_Turn = asyncio.Future[int]


def _end(rested: asyncio.Future[None]) -> None:
    if not rested.done():
        rested.set_result(None)


def _expire(turn: _Turn) -> None:
    if not turn.done():
        turn.set_exception(DeadlineExceeded(SPENT))
