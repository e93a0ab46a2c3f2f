"""Steps of an event loop that keep all others waiting: the CPU that each takes.

CPU of the thread, and not time: what other programs on the machine do does not count, and neither do the
collections of garbage, which depend on what else the process holds.
"""

import asyncio
import gc
from threading import get_ident
from time import thread_time
from typing import NamedTuple

LOOP_OF_A_MILLISECOND = 36_000
"""So many turns take a millisecond on the machine of the README's figures."""


class Step(NamedTuple):
    """One callback of the loop, most of them a task up to its next wait."""

    seconds: float
    up_to: str


class LoopSteps:
    """The steps of this thread's event loop, while it is open: `with LoopSteps() as steps`."""

    def __init__(self) -> None:
        self.count = 0
        self.longest = Step(0.0, "")
        self._collecting = self._began = 0.0

    def __enter__(self):
        self._thread, self._run = get_ident(), asyncio.Handle._run
        asyncio.Handle._run = self._measured(self._run)
        gc.callbacks.append(self._collects)
        return self

    def __exit__(self, *_):
        asyncio.Handle._run = self._run
        gc.callbacks.remove(self._collects)

    def _measured(self, run):
        def measured(handle):
            if get_ident() != self._thread:
                run(handle)
                return
            collecting, began = self._collecting, thread_time()
            run(handle)
            seconds = thread_time() - began - (self._collecting - collecting)
            self.count += 1
            if seconds > self.longest.seconds:
                self.longest = Step(seconds, where(handle))

        return measured

    def _collects(self, phase, _):
        if get_ident() == self._thread:
            if phase == "start":
                self._began = thread_time()
            else:
                self._collecting += thread_time() - self._began


def where(handle):
    """What has run, and where a task waits behind it."""
    task = getattr(handle._callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return repr(handle._callback)
    waits, found = task.get_coro(), []
    while waits is not None:
        if frame := getattr(waits, "cr_frame", None) or getattr(waits, "ag_frame", None):
            found.append(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
        waits = getattr(waits, "cr_await", None) or getattr(waits, "ag_await", None)
    return " > ".join(found[-5:])


def slowness():
    """How many times as long this machine takes as that of the README's figures; at least 1."""

    def once():
        began = thread_time()
        for _ in range(LOOP_OF_A_MILLISECOND):
            pass
        return thread_time() - began

    return max(1.0, min(once() for _ in range(5)) * 1000)
