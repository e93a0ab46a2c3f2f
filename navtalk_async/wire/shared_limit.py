"""One limit for the gates of several clients, in one event loop."""

import asyncio
from typing import Protocol

from navtalk_async.wire.clock import Clock

__all__ = ["SharedLimit"]

# As that of a gate's own rate: timers fire late.
BURST_SECONDS = 0.05


class Admitting(Protocol):
    """A gate, at which requests wait."""

    def admit(self) -> None:
        """Let requests through that wait, as long as nothing holds them back."""


class SharedLimit:
    """At most *concurrency* requests in flight and *rate* a second, of all gates together. Gates that wait
    take turns, one request each, so that none waits behind all that another has to do. A gate that is paused
    is passed over, and takes up nothing.
    """

    def __init__(
        self, concurrency: int | None = None, rate: float | None = None, clock: Clock | None = None
    ) -> None:
        self._most = float("inf") if concurrency is None else concurrency
        self._rate = rate
        self._clock = clock or Clock()
        self.in_flight: int = 0
        self._waiting: dict[Admitting, None] = {}
        self._served: Admitting | None = None
        self._next_at = 0.0
        self._timer: asyncio.Handle | None = None

    def try_acquire(self, gate: Admitting) -> bool:
        """Let a request of *gate* through, and count it; or else have the gate wait for its turn."""
        is_next = self._served is gate or not self._waiting
        if not is_next or not self._has_room():
            self._waiting[gate] = None
            self._look_again()
            return False
        self._served = None
        self.in_flight += 1
        if self._rate is not None:
            self._next_at = max(self._clock.time(), self._next_at) + 1.0 / self._rate
        return True

    def release(self) -> None:
        """End a request that was let through."""
        self.in_flight -= 1
        self._serve()

    def _has_room(self) -> bool:
        is_open = self._rate is None or self._clock.time() >= self._next_at - BURST_SECONDS
        return is_open and self.in_flight < self._most

    def _serve(self) -> None:
        while self._waiting and self._has_room():
            self._served = gate = next(iter(self._waiting))
            del self._waiting[gate]
            # With more to do, it puts itself behind all others.
            gate.admit()
            self._served = None
        self._look_again()

    def _look_again(self) -> None:
        if self._timer is None and self._waiting and self._rate is not None and self.in_flight < self._most:
            self._timer = self._clock.call_at(self._next_at - BURST_SECONDS, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._serve()
