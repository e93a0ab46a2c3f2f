"""Many at once, bounded: one function over a stream of items, its results back as they come or in order."""

import asyncio
import sys
from abc import abstractmethod
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Generic, Literal, NamedTuple, Protocol, Self, TypeVar
from weakref import WeakKeyDictionary

from anyio import CancelScope, to_thread

__all__ = [
    "A_FEW_ROWS",
    "HELD",
    "OUTSIDE",
    "WINDOW",
    "FanOut",
    "Holder",
    "Limiter",
    "Order",
    "ParkingLot",
    "Rotation",
    "SharedLimiter",
    "off_the_loop",
    "shielded",
]

Q = TypeVar("Q")
T = TypeVar("T")
R = TypeVar("R")

Order = Literal["done", "listed"]

WINDOW = {"done": 2, "listed": 4}
"""How many items may be in work or waiting for the reader, in multiples of *at_once*. In listed order a slow
first item holds back all others, so more of them may wait."""

A_FEW_ROWS = 200
"""To work on so many takes less than a millisecond; in a thread, that is as long again."""

READ_AHEAD = 2
"""The next batch is read when this many items are left, in multiples of *at_once*: a batch may take twice as
long as an item before a worker idles."""

OUTSIDE = "Results are read inside an `async with`: write `async with … as results:` around the `async for`."


class Held(Protocol):
    """Memory that is counted until it is released."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether too much is held, with all others."""

    def finish(self) -> None:
        """Let others go on, since the result is there."""

    def release(self) -> None:
        """Count it no longer."""


class Holder:
    """Where the work on an item adds what its result holds, which is released when that is handed over.

    Arguments:
        is_ahead: returns whether results that hold something are at hand for the reader.
    """

    __slots__ = ("held", "is_ahead")

    def __init__(self, is_ahead: Callable[[], bool]) -> None:
        self.held: list[Held] = []
        self.is_ahead: Callable[[], bool] = is_ahead


HELD: ContextVar[Holder | None] = ContextVar("navtalk_async.held", default=None)
"""None outside of a fan-out."""


class FanOut(Generic[T, R]):
    """An `async with` in which *work* runs over the items of *batches*, at most *at_once* at a time: a
    number, or a function that returns the current one. Work that has begun goes on when the number falls.

    Iterate it for the results: as they are done, or in the order of the items. *batches* is read ahead by one
    batch. A slow reader slows the work, so memory holds a number of items that depends on *at_once* and the
    size of a batch alone; fewer, where results that wait for the reader hold too much (`HELD`). Leaving the
    `async with` stops the rest.

    An error of *work* is raised in the place of its result; an error of *batches*, after all results of the
    items before it. Neither is wrapped in a group, and neither cancels what the reader awaits.
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
        self._at_once = at_once if callable(at_once) else lambda: at_once
        self._window = WINDOW[order]
        self._listed = order == "listed"
        self._todo: deque[T] = deque()
        self._results: dict[int, R | _Error] = {}
        self._held: dict[int, list[Held]] = {}
        self._begun = self._finished = self._delivered = self._lent = 0
        self._end: Exception | None = None
        """What the reader gets behind all results, once all batches were read."""
        self._feeder, self._readers = ParkingLot(), ParkingLot()
        self._is_open: bool | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        doing = self._begun - self._finished
        return f"<FanOut [{doing} in work, {len(self._results)} done, {self._delivered} delivered]>"

    async def __aenter__(self) -> Self:
        if self._is_open is not None:
            raise RuntimeError("A fan-out runs once; make another for another run.")
        self._is_open = True
        self._start(self._feed())
        return self

    async def __aexit__(self, *error: object) -> None:
        # Tasks and no task group, which would wrap the body's own error.
        self._is_open = False
        for task in self._tasks:
            task.cancel()
        await shielded(_settled(self._tasks))
        for held in self._held.values():
            _release(held)
        self._held.clear()

    @property
    def is_hungry(self) -> bool:
        """Whether fewer items are listed and not delivered than could be in work at once."""
        return len(self._todo) + self._begun - self._delivered < self._at_once()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        await self._arrival()
        result = self._results.pop(self._delivered)
        self._deliver(1)
        if isinstance(result, _Error):
            raise result.error
        return result

    async def ready(self) -> list[R]:
        """All results that are done, at least one; empty at the end. They are delivered, and let others be
        worked on in their place, when the next are asked for.
        """
        self._deliver(self._lent)
        self._lent = 0
        try:
            await self._arrival()
        except StopAsyncIteration:
            return []
        found: list[R] = []
        while (place := self._delivered + len(found)) in self._results:
            result = self._results[place]
            if isinstance(result, _Error):
                break
            found.append(result)
            del self._results[place]
        self._lent = len(found)
        return found or [await anext(self)]

    def left(self) -> list[R]:
        """The results that nobody has read, once the fan-out is left."""
        return [each for each in self._results.values() if not isinstance(each, _Error)]

    async def _arrival(self) -> None:
        """Wait until the next result is there; raise what comes behind all of them."""
        if not self._is_open:
            raise RuntimeError(OUTSIDE)
        while self._delivered not in self._results:
            if self._end is not None and not self._todo and self._finished == self._begun:
                raise self._end
            await self._readers.park()

    def _deliver(self, count: int) -> None:
        for place in range(self._delivered, self._delivered + count) if self._held else ():
            _release(self._held.pop(place, []))
        self._delivered += count
        if self._todo and self._begun - self._finished < self._at_once():
            self._hire()

    async def _feed(self) -> None:
        end: Exception = StopAsyncIteration()
        try:
            async with aclosing(self._batches) as batches:
                async for batch in batches:
                    self._todo.extend(batch)
                    self._hire()
                    while len(self._todo) > self._at_once() * READ_AHEAD:
                        await self._feeder.park()
        except Exception as error:  # noqa: BLE001 - the reader gets it, whatever it is
            end = error
        self._end = end
        self._readers.unpark()

    def _hire(self) -> None:
        # As many as there is work for: a million at once, asked for three items, are three.
        while (following := self._next()) is not None:
            self._start(self._labour(following))

    def _next(self) -> tuple[int, T] | None:
        """The next item and its number, if work on it may begin."""
        at_once, number = self._at_once(), self._begun
        is_full = number - self._finished >= at_once or number - self._delivered >= at_once * self._window
        if is_full or not self._todo or (self._held and next(iter(self._held.values()))[0].is_over):
            return None
        self._begun += 1
        item = self._todo.popleft()
        if len(self._todo) <= at_once * READ_AHEAD:
            self._feeder.unpark()
        return number, item

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _is_ahead(self) -> bool:
        place = self._delivered
        while place in self._results:
            if place in self._held:
                return True
            place += 1
        return False

    async def _labour(self, following: tuple[int, T] | None) -> None:
        holder = Holder(self._is_ahead)
        HELD.set(holder)
        try:
            await self._work_off(following, holder)
        finally:
            _release(holder.held)

    async def _work_off(self, following: tuple[int, T] | None, holder: Holder) -> None:
        while following is not None:
            number, item = following
            result: R | _Error
            try:
                result = await self._work(item)
            except Exception as error:  # noqa: BLE001 - the reader gets it, whatever it is
                result = _Error(error)
            place = number if self._listed else self._finished
            self._results[place] = result
            if holder.held:
                self._held[place], holder.held = holder.held, []
                for held in self._held[place]:
                    held.finish()
            self._finished += 1
            self._readers.unpark()
            following = self._next()


def _release(held: Iterable[Held]) -> None:
    for each in held:
        each.release()


async def _settled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


class _Error(NamedTuple):
    """Stands in the place of a result."""

    error: Exception


class Limiter:
    """At most *limit* requests of a job at once in each event loop, first come, first served.

    Arguments:
        limit: the number; or a function that returns how many are allowed now, for a job whose bound is kept
            elsewhere.
    """

    def __init__(self, limit: int | Callable[[], int]) -> None:
        self._limit = limit
        self._turns: WeakKeyDictionary[AbstractEventLoop, _Turns] = WeakKeyDictionary()

    def __call__(self) -> int:
        """How many at once, now."""
        return self._limit() if callable(self._limit) else self._limit

    @property
    def fixed(self) -> int | None:
        """The limit, if it is a number."""
        return None if callable(self._limit) else self._limit

    def bound(self, ask: Callable[[Q], Awaitable[T]]) -> Callable[[Q], Awaitable[T]]:
        """*ask*, within the limit; to be used in one event loop."""
        limit = self.fixed
        if limit is None:
            return ask
        turns: _Turns | None = None

        async def ask_in_turn(question: Q) -> T:
            nonlocal turns
            if turns is None:
                turns = self._turns.setdefault(asyncio.get_running_loop(), _Turns(limit))
            if turns.free:
                turns.free -= 1
            else:
                await turns.acquire()
            try:
                return await ask(question)
            finally:
                turns.release()

        return ask_in_turn


class SharedLimiter(Limiter):
    """The limiter of one of several jobs that share one limit, and take turns: a job with little to do does
    not wait behind all that another has to do. For one event loop.

    Arguments:
        rotation: what the jobs share.
    """

    def __init__(self, rotation: "Rotation") -> None:
        super().__init__(rotation.share)
        self._rotation = rotation
        rotation.jobs += 1

    def bound(self, ask: Callable[[Q], Awaitable[T]]) -> Callable[[Q], Awaitable[T]]:
        """*ask*, within the limit of all."""
        rotation = self._rotation

        async def ask_in_turn(question: Q) -> T:
            await rotation.acquire(self)
            try:
                return await ask(question)
            finally:
                rotation.release()

        return ask_in_turn

    def close(self) -> None:
        """Leave this job's share to the others."""
        self._rotation.jobs -= 1


LEAST_SHARE = 16


class Rotation:
    """The turns of several jobs, within a *limit*."""

    def __init__(self, limit: Callable[[], int]) -> None:
        self._limit = limit
        self.jobs = 0
        self._taken = 0
        self._waiting: dict[object, deque[asyncio.Future[None]]] = {}

    def share(self) -> int:
        """How much one job should have in work: twice its part, since others have less to do, or nothing; and
        enough to go on while what it has done is being saved.
        """
        return min(self._limit(), max(LEAST_SHARE, 2 * self._limit() // max(1, self.jobs)))

    async def acquire(self, job: object) -> None:
        """Wait for a turn of *job*; then `release` it."""
        if not self._waiting and self._taken < self._limit():
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            # Cancelled in the moment in which it got its turn: the turn goes to the next.
            if not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """End a turn; the next one is of the job that has waited longest since its last."""
        self._taken -= 1
        while self._waiting and self._taken < self._limit():
            job = next(iter(self._waiting))
            turns = self._waiting.pop(job)
            turn = turns.popleft()
            if turns:
                self._waiting[job] = turns
            if not turn.done():
                turn.set_result(None)
                self._taken += 1


class ParkingLot:
    """Wakes tasks that wait for a change; each checks for itself whether the change has come.

    It is an `asyncio.Condition` without the lock: no caller awaits between the check and the wait.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def park(self) -> "asyncio.Future[None]":
        """What is done at the next `unpark`, to be awaited."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(woken)
        return woken

    def unpark(self, at_most: int = sys.maxsize) -> bool:
        """Wake *at_most* parked tasks, in the order they came; return whether there were any."""
        woken = 0
        while self._waiting and woken < at_most:
            parked = self._waiting.popleft()
            if not parked.done():
                parked.set_result(None)
                woken += 1
        return woken > 0


class _Turns(ParkingLot):
    """The turns of a limiter in one event loop.

    `asyncio.Semaphore` does the same. But with a listing beside the workers there is always a waiter, and
    then a turn costs twice as much there as one that is handed on.
    """

    def __init__(self, free: int) -> None:
        super().__init__()
        self.free = free

    async def acquire(self) -> None:
        turn = self.park()
        try:
            await turn
        except asyncio.CancelledError:
            # Cancelled in the moment in which it got its turn: the turn goes to the next.
            if not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        if not self.unpark(1):
            self.free += 1


async def shielded(work: Coroutine[Any, Any, T] | asyncio.Task[T]) -> T:
    """The result of *work*, which runs to its end: a cancellation of the caller is raised after that.

    A shielded scope alone would hold off anyio's cancellation, but not asyncio's.
    """
    task = asyncio.ensure_future(work)
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
        # The caller is gone; without this, asyncio would log the error as never retrieved.
        task.exception()
    raise stopped


async def off_the_loop(rows: int, work: Callable[..., T], *arguments: Any) -> T:
    """The result of *work*, which takes as long as so many *rows* take: of more than a few, it is done in
    another thread, so that the event loop does not stand still for it.
    """
    if rows <= A_FEW_ROWS:
        return work(*arguments)
    return await to_thread.run_sync(work, *arguments)
