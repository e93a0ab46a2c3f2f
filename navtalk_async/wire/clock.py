"""The clock by which calls wait for each other and for the server: one for each event loop."""

import asyncio
from collections.abc import Callable

__all__ = ["Clock", "JumpingClock"]


class Clock:
    """The event loop's own clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # No method: it is asked several times for each request.
        self.time: Callable[[], float] = self._loop.time

    def call_at(self, when: float, call: Callable[[], object]) -> asyncio.Handle:
        """Have *call* called then."""
        return self._loop.call_at(when, call)


class JumpingClock(Clock):
    """A clock for tests, in which nobody waits: it jumps to the end of each pause."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0.0
        self.time: Callable[[], float] = lambda: self._loop.time() + self._ahead

    def call_at(self, when: float, call: Callable[[], object]) -> asyncio.Handle:
        """Make it then, and have *call* called at once."""
        self._ahead += max(0.0, when - self.time())
        return self._loop.call_soon(call)
