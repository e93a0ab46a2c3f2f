"""Ends what takes too long: one timer for all that is watched in an event loop."""

import asyncio
import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Watchdog"]

K = TypeVar("K", bound=Hashable)


class Watchdog(Generic[K]):
    """Calls *end* with everything whose time is up, and watches it no longer.

    A timer of its own for every attempt costs a tenth of the attempt, and nearly all are cancelled unused.
    Here an attempt is an entry in a dictionary, and the one timer that there is looks through all of them
    when the first that was entered may be due. At most a few hundred are on their way at once.
    """

    def __init__(self, end: Callable[[K], object]) -> None:
        self._end = end
        self._due: dict[K, float] = {}
        self._ended: set[K] = set()
        self._looks_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, what: K, due: float, loop: asyncio.AbstractEventLoop) -> None:
        """End *what* at the time *due* of the *loop*, unless `forget` comes first."""
        self._due[what] = due
        if due < self._looks_at:
            self._look_at(due, loop)

    def forget(self, what: K) -> bool:
        """Watch *what* no longer; whether its time was up, and it has been ended for that."""
        if self._due.pop(what, None) is not None or what not in self._ended:
            return False
        self._ended.discard(what)
        return True

    def close(self) -> None:
        """Watch nothing any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = when
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # A loop calls a timer that is due within its clock's resolution.
        due_by = max(self._looks_at, loop.time())
        self._timer, self._looks_at = None, math.inf
        for what in [what for what, due in self._due.items() if due <= due_by]:
            del self._due[what]
            self._ended.add(what)
            self._end(what)
        if self._due:
            self._look_at(min(self._due.values()), loop)
