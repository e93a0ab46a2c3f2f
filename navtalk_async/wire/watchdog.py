"""Ends what takes too long: one timer for all attempts in an event loop."""

import asyncio
import math

__all__ = ["Watchdog"]


class Watchdog:
    """Cancels the tasks whose time is up; whoever is watched tells by `expired` that it was the watchdog.

    A timer of its own for every attempt costs a tenth of the attempt, and nearly all are cancelled unused.
    Here an attempt is an entry in a dictionary, and the one timer that there is looks through all of them
    when the first that was entered may be due. At most a few hundred are on their way at once.
    """

    def __init__(self) -> None:
        self._due: dict[asyncio.Task[object], float] = {}
        self._looks_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, task: asyncio.Task[object], loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Cancel *task* after so many *seconds*, unless `forget` comes first."""
        due = loop.time() + seconds
        self._due[task] = due
        if due < self._looks_at:
            self._look_at(due, loop)

    def forget(self, task: asyncio.Task[object]) -> bool:
        """Watch *task* no longer; whether its time was up, and it has been cancelled for that."""
        return self._due.pop(task, None) is None

    def close(self) -> None:
        """Watch nobody any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = when
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._looks_at = None, math.inf
        now = loop.time()
        for task in [task for task, due in self._due.items() if due <= now]:
            del self._due[task]
            task.cancel()
        if self._due:
            self._look_at(min(self._due.values()), loop)
