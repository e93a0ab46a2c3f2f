"""Pokes: hints that a session changed, each of them followed by asking for that session.

A poke says which session, and nothing of what it says is ever kept. Every poke is followed by an ask that
began after it; a session is asked for at most once a second, so the pokes of a second share one.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
from functools import partial
from math import inf
from typing import Any, NamedTuple

from navtalk_async.archive.records import Clock, FetchResult, FetchTask
from navtalk_async.archive.rows import format_time
from navtalk_async.concurrency import FanOut, ParkingLot, shielded
from navtalk_async.errors import NavTalkError, NotFound
from navtalk_async.ingest._job import Job
from navtalk_async.ingest._reread_rules import compare_poked
from navtalk_async.ingest._run import check_key
from navtalk_async.listing.fetch import fault_scope, fetch_messages
from navtalk_async.models import Session

logger = logging.getLogger("navtalk_async")

SECONDS_APART = 1.0

MOST_WAITING = 10_000
"""So many sessions may wait to be asked for; a poke for one more is left to the rounds."""

ENDED = "The watch ended before the session was asked for and kept."


class Poke(Coroutine[Any, Any, None]):
    """What `poke` returns: awaited, it returns once the sessions are kept as they were after the poke, and
    raises the error of the first that cannot be. The sessions are asked for whether it is awaited or not.
    """

    # No coroutine of Python's own: that would complain where nobody awaits it. One all the same, so that it
    # can be made a task.

    def __init__(self, asks: Sequence[asyncio.Future[None]]) -> None:
        self._asks = asks
        self._steps: Coroutine[Any, Any, None] | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    def send(self, value: Any) -> Any:
        self._steps = self._steps or self._wait()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        self._steps = self._steps or self._wait()
        return self._steps.throw(*error)

    def close(self) -> None:
        if self._steps is not None:
            self._steps.close()

    async def _wait(self) -> None:
        for ask in self._asks:
            # Others may wait for the same one.
            await asyncio.shield(ask)


class Reading(NamedTuple):
    """A session as it was asked for, with its messages."""

    session: Session
    messages: FetchResult


class UnsavedReading(NamedTuple):
    """What came of a session, and the poke that ends when it is saved."""

    id: str
    poke: asyncio.Future[None]
    reading: Reading


class PokeQueue:
    """Has sessions asked for: each at most once a second, *at_once* at a time, in the order of the pokes; and
    what comes kept, all that is ready in one commit.

    A session that waits to be asked for waits once, however often it is poked, so memory is bounded.

    Arguments:
        ask: returns what came of a session; None where there is nothing to keep.
        keep: keeps what came of some sessions.
    """

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Reading | None]],
        keep: Callable[[Sequence[Reading]], Coroutine[Any, Any, None]],
        at_once: Callable[[], int],
    ) -> None:
        self._ask, self._keep, self._at_once = ask, keep, at_once
        self._waiting: dict[str, asyncio.Future[None]] = {}
        """Those for which an ask is to begin."""
        self._free_at: dict[str, float] = {}
        """When those that were asked for a moment ago may be asked for again; never, while they are."""
        self._due: deque[str] = deque()
        self._bell = ParkingLot()
        self._left: dict[str, None] = {}
        """Those that could not be asked for or kept; a bounded number of them."""
        self._work: asyncio.Task[None] | None = None

    def add(self, session_id: str) -> asyncio.Future[None]:
        """What is done once *session_id* was asked for and is kept; an error of it need not be retrieved."""
        waiting = self._waiting.get(session_id)
        if waiting is not None:
            return waiting
        poke: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._waiting) >= MOST_WAITING:
            _fail(poke, NavTalkError(f"{MOST_WAITING:,} sessions wait to be asked for already."))
            return poke
        if self._work is None:
            self._work = asyncio.create_task(self._ask_for_all())
        self._waiting[session_id] = poke
        self._schedule(session_id)
        return poke

    async def ask_left(self) -> None:
        """Ask once more for those that could not be asked for or kept."""
        left = list(self._left)
        if left:
            await asyncio.wait([self.add(each) for each in left])
        for each in left:
            self._left.pop(each, None)

    async def close(self) -> None:
        """Stop, and say so to who waits; what has come is kept."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        for each in self._waiting.values():
            _fail(each, NavTalkError(ENDED))
        self._waiting.clear()

    def _schedule(self, session_id: str) -> None:
        loop = asyncio.get_running_loop()
        free_at = self._free_at.get(session_id, 0.0)
        if free_at <= loop.time():
            self._fall_due(session_id)
        elif free_at < inf:
            loop.call_at(free_at, self._fall_due, session_id)

    def _fall_due(self, session_id: str) -> None:
        self._due.append(session_id)
        self._bell.unpark()

    async def _batches(self) -> AsyncGenerator[Sequence[str], None]:
        while True:
            while not self._due:
                await self._bell.park()
            due, self._due = self._due, deque()
            yield due

    async def _ask_for_all(self) -> None:
        fan = FanOut(self._ask_for, self._batches(), at_once=self._at_once)
        try:
            async with fan:
                while asked := await fan.ready():
                    await shielded(self._keep_all(asked))
        finally:
            await shielded(self._keep_all(fan.left()))

    async def _ask_for(self, session_id: str) -> UnsavedReading | None:
        poke, reading = self._waiting.pop(session_id), None
        self._free_at[session_id] = inf
        try:
            reading = await self._ask(session_id)
        except asyncio.CancelledError:
            _fail(poke, NavTalkError(ENDED))
            raise
        except Exception as error:  # noqa: BLE001 - it is raised to who awaits the poke
            self._failed(session_id, poke, error)
            return None
        finally:
            # From the end, so that no request of the next ask comes sooner after any of this one.
            self._rest(session_id)
        if reading is None:
            poke.set_result(None)
            return None
        return UnsavedReading(session_id, poke, reading)

    async def _keep_all(self, asked: Sequence[UnsavedReading | None]) -> None:
        some = [each for each in asked if each is not None]
        if not some:
            return
        try:
            await self._keep([each.reading for each in some])
        except Exception as error:  # noqa: BLE001 - it is raised to who awaits the poke
            for each in some:
                self._failed(each.id, each.poke, error)
        else:
            for each in some:
                each.poke.set_result(None)

    def _failed(self, session_id: str, poke: asyncio.Future[None], error: Exception) -> None:
        logger.info("Session %s was poked, and: %s: %s", session_id, type(error).__name__, error)
        _fail(poke, error)
        is_final = isinstance(error, NavTalkError) and fault_scope(error) == "session"
        if not is_final and len(self._left) < MOST_WAITING:
            self._left[session_id] = None

    def _rest(self, session_id: str) -> None:
        """Let *session_id* not be asked for again before a second is over."""
        now = asyncio.get_running_loop().time()
        del self._free_at[session_id]
        self._free_at[session_id] = now + SECONDS_APART
        while self._free_at[first := next(iter(self._free_at))] <= now:
            del self._free_at[first]
        if session_id in self._waiting:
            self._schedule(session_id)


def _fail(poke: asyncio.Future[None], error: Exception) -> None:
    poke.set_exception(error)
    # Retrieved: nobody need await a poke.
    poke.exception()


class PokedSessions:
    """Asks for sessions of one project by their ids, and keeps them as a round does.

    Arguments:
        begin: returns the job whose client and archive are used, which is the same until the archive is
            closed.
    """

    def __init__(self, begin: Callable[[], Awaitable[Job]]) -> None:
        self._begin = begin

    async def ask(self, session_id: str) -> Reading | None:
        """Ask for a session and its messages, which nobody else reads until they are kept. One that the API
        no longer has is marked as deleted: None. One that was forgotten is not asked for: None.

        Raises:
            NotFound: the API does not have it, and the archive neither.
            NavTalkError: it cannot be asked for.
        """
        job, reading = await self._begin(), None
        if await job.archive.forgotten(job.project, [session_id]):
            return None
        await job.lock.acquire(session_id)
        job.poked.add(session_id)
        try:
            reading = await self._ask_alone(job, session_id)
        finally:
            if reading is None or reading.session.id != session_id:
                job.lock.release(session_id)
        return reading

    async def _ask_alone(self, job: Job, session_id: str) -> Reading | None:
        try:
            session = await job.get_session(session_id)
        except NotFound:
            if not await job.archive.contains(job.project, [session_id]):
                raise
            # Another project's key finds none of this one's sessions.
            await check_key(job.client, job.archive, job.project, job.scope, watermark=job.state.watermark)
            await job.archive.mark_deleted(job.project, session_id)
            return None
        at = format_time(job.client.now())
        request = job.dialect.list_messages(session.id, **job.scope.of_messages)
        rows = await fetch_messages(job.client, request, ask=job.list_messages, on_move=job.list_moved)
        task = FetchTask(session.id, None)
        return Reading(session, FetchResult(task, rows.items, at=at, has_gaps=rows.skipped > 0))

    async def keep(self, readings: Sequence[Reading]) -> None:
        """Keep *readings*: first the sessions, which are pending then, and in a second commit."""
        job = await self._begin()
        try:
            await self._keep(job, readings)
        finally:
            for each in readings:
                job.lock.release(each.session.id)

    async def _keep(self, job: Job, readings: Sequence[Reading]) -> None:
        now, matches = job.client.now(), job.scope.status_filter(job.dialect)
        compare = partial(
            compare_poked,
            clock=Clock.at(now, job.options.settle, now),
            matches=matches,
            lists=partial(job.scope.surely_lists, dialect=job.dialect),
        )
        diff = await job.archive.record_listing(
            job.project,
            [each.session for each in readings],
            compare=compare,
            now=format_time(now),
            round=None,
            quiet=True,
            may_wait=matches is not None,
        )
        wanted = {task.id: task for task in diff.to_fetch}
        found = [each.messages for each in readings if each.session.id in wanted]
        if found:
            found = [each._replace(wanted=wanted[each.wanted.id]) for each in found]
            await job.archive.save_messages(job.project, found)
