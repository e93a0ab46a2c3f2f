"""Callers of a gate in a virtual time, and the strategies that make them."""

import asyncio
from dataclasses import dataclass

from hypothesis import strategies as st

from navtalk_async.errors import DeadlineExceeded
from navtalk_async.wire.gate import LANES

TINY = 1e-6


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer; where nothing can happen any more, it says so."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready:
            if not self._scheduled:
                raise RuntimeError("Everybody waits, and for nothing.")
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def run(main):
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(main)


def now():
    return asyncio.get_running_loop().time()


async def quiet():
    for _ in range(5):
        await asyncio.sleep(0)


@dataclass
class Caller:
    """One who comes after some time, stays a while, and may be cancelled or out of time before."""

    comes: float
    stays: float
    cancelled_after: float | None = None
    patience: float | None = None
    lane: str = "normal"
    came_as: int = -1
    let_in: float | None = None
    ended: str = ""

    async def call(self, gate, log):
        await asyncio.sleep(self.comes)
        deadline = None if self.patience is None else now() + self.patience
        self.came_as = log.came
        log.came += 1
        try:
            await gate.acquire(deadline, LANES[self.lane])
        except DeadlineExceeded:
            assert now() <= deadline + TINY
            self.ended = "late"
            return
        self.let_in = now()
        assert deadline is None or self.let_in < deadline
        log.entered.append(self)
        log.inside += 1
        log.peak = max(log.peak, log.inside)
        try:
            await asyncio.sleep(self.stays)
        finally:
            log.inside -= 1
            gate.release(LANES[self.lane])
        self.ended = "done"


class Log:
    def __init__(self):
        self.came = self.inside = self.peak = 0
        self.entered = []


async def play(gate, callers, pauses=()):
    log = Log()
    loop = asyncio.get_running_loop()
    tasks = []
    for caller in callers:
        task = asyncio.create_task(caller.call(gate, log))
        tasks.append(task)
        if caller.cancelled_after is not None:
            loop.call_later(caller.cancelled_after, task.cancel)
    for at, seconds in pauses:
        loop.call_later(at, gate.pause, seconds)
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    return log


moments = st.integers(0, 40).map(lambda n: n / 8)
callers = st.lists(
    st.builds(
        Caller,
        comes=moments,
        stays=moments,
        cancelled_after=st.none() | moments,
        patience=st.none() | moments.filter(bool),
        lane=st.sampled_from(list(LANES)),
    ),
    min_size=1,
    max_size=25,
)
rates = st.none() | st.sampled_from([0.5, 2.0, 7.0, 100.0])
pauses = st.lists(st.tuples(moments, moments), max_size=3)
