"""One limit for many processes: what a keeper of it promises, and how a gate lives by it.

A turn is the moment at which one request may leave. A gate reserves a few of them at once, as many as it has
requests that wait, and none that is far away: a process that dies takes no more than that with it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, NamedTuple, Protocol

from navtalk_async.wire.clock import Clock
from navtalk_async.wire.shared_limit import Admitting, SharedLimit

__all__ = ["LimitKeeper", "Reservation", "SharedTurns"]

EARLY_SECONDS = 0.001
LATE_SECONDS = 0.03
"""How late a turn may be used; what comes later is lost, since it would come close to the turns of others."""
LATE_SHARE = 0.1  # of the time between two turns, where that is longer
LOOK_SECONDS = 0.5
"""Requests that wait see after so long what other processes have learned."""


class Reservation(NamedTuple):
    """The turns that one gate may use, and what all gates know; in seconds after `at`."""

    at: float
    """In `time.monotonic()`."""
    turns: Sequence[float]
    again: float
    """When to ask for more turns."""
    paused_for: float
    between: float
    """From one turn of all processes to the next."""


class LimitKeeper(Protocol):
    """Keeps the limits of many processes, each under a name that says nothing of its key."""

    async def join(self, name: str, rate: float | None) -> float:
        """Set the requests a second of *name*, for all who share it; with None, they stay. Return them.

        Raises:
            ValueError: none were ever set.
        """
        ...

    async def reserve(self, name: str, most: int) -> Reservation:
        """Reserve up to *most* turns, all of them within a tenth of a second or so; during a pause, none."""
        ...

    async def pause(self, name: str, seconds: float, *, refused: bool) -> None:
        """Have all wait for *seconds*; if a request was *refused*, also have them go slower afterwards."""


class Reserving(Admitting, Protocol):
    """A gate whose turns are reserved."""

    clock: Clock

    def wanted(self) -> int:
        """How many requests could leave now, if there were turns."""
        ...

    def fail(self, error: Exception) -> None:
        """End with *error* what waits."""

    def pause(self, seconds: float) -> bool:
        """Let no request through for *seconds*."""
        ...


class SharedTurns:
    """The turns of one *gate*; *join* is awaited before the first one, and returns the name of its limit."""

    def __init__(self, gate: Reserving, keeper: LimitKeeper, join: Callable[[], Awaitable[str]]) -> None:
        self._gate = gate
        self._clock = gate.clock
        self._keeper = keeper
        self._join = join
        self._name = ""
        self._held: deque[float] = deque()
        self._late = LATE_SECONDS
        self._again_at = -math.inf
        self._asking: asyncio.Task[None] | None = None
        self._writing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self.within: SharedLimit | None = None
        """A limit of several gates in this process, which holds, too."""

    def try_acquire(self, gate: Admitting) -> bool:
        """Take a turn, if there is one now; or else have the gate look again when there is."""
        now = self._clock.time()
        held = self._held
        while held and held[0] < now - self._late:
            held.popleft()
        if not held or held[0] > now + EARLY_SECONDS:
            self._look_again(now)
            return False
        if self.within is not None and not self.within.try_acquire(gate):
            return False
        held.popleft()
        return True

    def release(self) -> None:
        """End a request that was let through."""
        if self.within is not None:
            self.within.release()

    def pause(self, seconds: float, *, refused: bool) -> None:
        """Have all other processes pause, too."""
        self._held.clear()
        if self._name:
            writing = self._started(self._keeper.pause(self._name, seconds, refused=refused))
            self._writing.add(writing)
            writing.add_done_callback(self._writing.discard)

    def close(self) -> None:
        """Reserve no more."""
        for each in (self._timer, self._asking):
            if each is not None:
                each.cancel()

    def _look_again(self, now: float) -> None:
        if self._asking is None and now >= self._again_at and self._gate.wanted() > len(self._held):
            self._asking = self._started(self._reserve())
        when = self._held[0] if self._held else math.inf
        if self._asking is None and self._again_at > now:
            when = min(when, self._again_at)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when == math.inf else self._clock.call_at(when, self._gate.admit)

    def _started(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(self._done(work))

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - it ends the calls that wait, which raise it
            self._asking = None
            self._again_at = self._clock.time() + LOOK_SECONDS
            self._gate.fail(error)

    async def _reserve(self) -> None:
        if not self._name:
            self._name = await self._join()
        found = await self._keeper.reserve(self._name, max(1, self._gate.wanted() - len(self._held)))
        self._asking = None
        began = self._clock.time() - max(0.0, monotonic() - found.at)
        self._held.extend(began + each for each in found.turns)
        self._late = max(LATE_SECONDS, LATE_SHARE * found.between)
        self._again_at = began + min(found.again, LOOK_SECONDS)
        if found.paused_for > 0:
            self._held.clear()
            self._gate.pause(found.paused_for)
        self._gate.admit()
