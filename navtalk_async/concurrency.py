"""Many at once, bounded: one function over a stream of items, its results back as they come or in order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from anyio import CancelScope

__all__ = ["READ_AHEAD", "WINDOW", "FanOut", "Order", "ParkingLot", "shielded"]

T = TypeVar("T")
R = TypeVar("R")

Order = Literal["done", "listed"]

WINDOW = {"done": 2, "listed": 4}
"""How many items may be under way or waiting to be taken, in multiples of *at_once*. In listed order a slow
first item holds back all others, so more of them may wait."""

READ_AHEAD = 2
"""With how many items left the next batch is asked for, in multiples of *at_once*: a batch may take twice as
long as an item does before anybody idles."""


class FanOut(Generic[T, R]):
    """An `async with` in which *work* runs over the items of *batches*, at most *at_once* at a time, which is
    a number, or asked for again and again: whoever is at work stays so when it falls.

    What comes out of the `async with` is iterated for the results: as they are done, or in the order of the
    items. *batches* is read ahead by one batch. A slow reader slows the work, so memory holds a number of
    items that depends on *at_once* and the size of a batch alone. Leaving the `async with` stops the rest.

    An error of *work* is raised where its result would have come; one of *batches*, after all results of
    the items before it. Neither is ever wrapped in a group, and neither cancels the reader's own awaits.
    """

    def __init__(
        self,
        work: Callable[[T], Awaitable[R]],
        batches: AsyncGenerator[Sequence[T], None],
        *,
        at_once: int | Callable[[], int],
        order: Order = "done",
    ) -> None:
        if isinstance(at_once, int) and at_once < 1:
            raise ValueError(f"at_once={at_once} does nothing; the least is 1.")
        if order not in WINDOW:
            raise ValueError(f"order={order!r} is neither 'done' nor 'listed'.")
        self._work = work
        self._batches = batches
        self._at_once = _always(at_once) if isinstance(at_once, int) else at_once
        self._window = WINDOW[order]
        self._listed = order == "listed"
        self._todo: deque[T] = deque()
        self._results: dict[int, R | _Error] = {}
        self._taken_up = self._finished = self._handed_over = 0
        self._all_listed = False
        self._listing_error: Exception | None = None
        self._feeder = ParkingLot()
        self._workers = ParkingLot()
        self._readers = ParkingLot()
        self._hired = 0
        self._left = False
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        doing = self._taken_up - self._finished
        return f"<FanOut [{doing} under way, {len(self._results)} done, {self._handed_over} handed over]>"

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("A fan-out runs once; make another for another run.")
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._start(self._group, self._feed(self._group))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._group is not None:
            self._left = True
            for task in self._tasks:
                task.cancel()
            # The body's own error is not told to the group, which would wrap it: it passes us by.
            await self._group.__aexit__(None, None, None)

    @property
    def is_hungry(self) -> bool:
        """Whether what is listed, and not handed over yet, is less than could run at once."""
        return len(self._todo) + self._taken_up - self._handed_over < self._at_once()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        if self._group is None or self._left:
            raise RuntimeError("Results come only within the `async with` of what gives them.")
        while self._handed_over not in self._results:
            if self._all_listed and not self._todo and self._finished == self._taken_up:
                raise self._listing_error or StopAsyncIteration
            await self._readers.park()
        result = self._results.pop(self._handed_over)
        self._handed_over += 1
        self._workers.unpark(1)
        if isinstance(result, _Error):
            raise result.error
        return result

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        try:
            async with aclosing(self._batches) as batches:
                async for batch in batches:
                    self._todo.extend(batch)
                    self._workers.unpark(len(batch))
                    self._hire(group)
                    while len(self._todo) > self._at_once() * READ_AHEAD:
                        await self._feeder.park()
        except Exception as error:  # noqa: BLE001 - the reader gets it, whatever it is
            self._listing_error = error
        self._all_listed = True
        self._workers.unpark()
        self._readers.unpark()

    def _start(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hire(self, group: asyncio.TaskGroup) -> None:
        # As many as there is work for: a million at once, asked for three items, are three.
        for _ in range(min(len(self._todo), self._at_once() - self._hired)):
            self._start(group, self._labour(group))
            self._hired += 1

    async def _labour(self, group: asyncio.TaskGroup) -> None:
        while self._todo or not self._all_listed:
            at_once = self._at_once()
            if at_once > self._hired:
                self._hire(group)
            if not self._todo or self._taken_up - self._handed_over >= at_once * self._window:
                await self._workers.park()
                continue
            item = self._todo.popleft()
            number = self._taken_up
            self._taken_up += 1
            self._feeder.unpark()
            result: R | _Error
            try:
                result = await self._work(item)
            except Exception as error:  # noqa: BLE001 - the reader gets it, whatever it is
                result = _Error(error)
            self._results[number if self._listed else self._finished] = result
            self._finished += 1
            self._readers.unpark()


def _always(number: int) -> Callable[[], int]:
    return lambda: number


class _Error:
    """What stands in for a result that did not come."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class ParkingLot:
    """Wakes those who wait for something to have changed; each looks for itself whether it has.

    An `asyncio.Condition` without its lock, which nobody here needs, since nobody here awaits in between.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def park(self) -> None:
        """Return at the next ring."""
        rung: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(rung)
        await rung

    def unpark(self, at_most: int | None = None) -> None:
        """Wake *at_most* so many of those who wait, the first ones first; all, if it is not given."""
        while self._waiting and at_most != 0:
            rung = self._waiting.popleft()
            if not rung.done():
                rung.set_result(None)
                at_most = None if at_most is None else at_most - 1


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives. Whoever is cancelled while it is done is so after it: a scope alone would hold off
    anyio's cancelling, and not that of asyncio.
    """
    task = asyncio.create_task(work)
    stopped: asyncio.CancelledError | None = None
    with CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as stop:
                stopped = stop
    if stopped is None:
        return task.result()
    if not task.cancelled():
        # Nobody is left who would hear of its error.
        task.exception()
    raise stopped
