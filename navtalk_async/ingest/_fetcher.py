"""Fetch sessions, many at once, and save them; and what it means when one cannot be fetched."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from navtalk_async.archive.records import FailedSession, FetchResult, FetchTask, Round, UnfollowedCursor
from navtalk_async.archive.rows import format_time
from navtalk_async.client import inside
from navtalk_async.concurrency import A_FEW_ROWS, FanOut, off_the_loop, shielded
from navtalk_async.dialects.dialect import smallest_page
from navtalk_async.errors import BadRequest, DecodeFailed, NavTalkError, NotFound, StoreError
from navtalk_async.ingest._discovery import Discovery
from navtalk_async.ingest._job import Job
from navtalk_async.listing.fetch import RowsRead, ShortPageAudit, fault_scope, fetch_messages
from navtalk_async.models import Message, Request
from navtalk_async.times import parse_utc

T = TypeVar("T")

A_FEW = 8
"""How many sessions must fail in a row, at the least, before the server is probed."""

MESSAGES_A_COMMIT = 4_000
"""To write more at once saves nothing, and other work waits for it."""

UNPROVEN = 4
"""So many times as many must fail before a server that has given no messages at all is given up."""


class Fetcher:
    """Fetches the sessions of one project, many at once, and saves them.

    A session that fails has a second chance at the end of the run. One that fails again, while the server is
    well, has failed for good and is recorded; errors that show that the server is not well end the run.
    """

    def __init__(self, job: Job) -> None:
        self._job, self._archive, self._project, self._report = job, job.archive, job.project, job.report
        self._lock = job.lock
        self._discovery = Discovery(job, is_awaited=lambda: self._fan is None or self._fan.is_hungry)
        self._fan: FanOut[Any, FetchResult | None] | None = None
        self._failures: dict[FetchTask, NavTalkError] = {}
        self._failures_in_a_row = self._refused_in_a_row = 0
        self._followed: set[FetchTask] = set()
        """Those whose unfollowed cursors failed."""
        self._is_second_chance = False
        self._fetched: str | None = None
        """A session whose messages were fetched in this run: a server that is well gives them again."""

    async def fetch_all(self) -> Round:
        """Fetch all that is to be fetched, and what an audit of short pages shows to be missing; the round
        that is complete then.

        Raises:
            NavTalkError: the run cannot go on; what was fetched is kept.
        """
        await self._each(self._fetch, self._discovery.tasks())
        await self._second_chance()
        if self._job.audit is None or self._job.audit.disproved:
            unfollowed = await self._archive.unfollowed_cursors(self._project)
            await self._each(self._follow, _once(unfollowed))
            await self._second_chance()
        return self._discovery.round

    async def _each(
        self, work: Callable[[T], Awaitable[FetchResult | None]], items: AsyncGenerator[Sequence[T], None]
    ) -> None:
        """Do *work* on all *items*, and save what it fetches. What comes during one commit goes into the
        next: it costs a trip to the disk, whether it has one session or fifty.
        """
        self._fan = fan = FanOut(work, items, at_once=self._job.limiter)
        try:
            async with fan:
                while fetched := await fan.ready():
                    await shielded(self._save(fetched))
        except BaseException:
            # Also where the run is cancelled, or has an error: what was fetched is not fetched again.
            with suppress(StoreError):
                await shielded(self._save(fan.left()))
            raise

    async def _save(self, fetched: Sequence[FetchResult | None]) -> None:
        found, report = [each for each in fetched if each is not None], self._report
        if found:
            try:
                for some in in_groups(found):
                    report.count_messages(await self._archive.save_messages(self._project, some))
            finally:
                for each in found:
                    self._lock.release(each.wanted.id)
            report.skipped_rows = inside(self._job.client).skipped()
            messages = sum(len(each.messages) for each in found)
            report.messages += messages
            report.done += len(found)
            report.open -= len(found)
            await off_the_loop(messages, _free, found)

    async def _alone(
        self, session_id: str, fetch: Callable[[], Awaitable[FetchResult | None]]
    ) -> FetchResult | None:
        """What *fetch* returns, while nobody else reads the session; nor until it is saved, by `_save`."""
        result = None
        await self._lock.acquire(session_id)
        try:
            result = await fetch()
        finally:
            if result is None or result.wanted.id != session_id:
                self._lock.release(session_id)
        return result

    def _fetch(self, task: FetchTask) -> Awaitable[FetchResult | None]:
        return self._alone(task.id, partial(self._fetch_alone, task))

    def _follow(self, cursor: UnfollowedCursor) -> Awaitable[FetchResult | None]:
        return self._alone(cursor.wanted.id, partial(self._follow_alone, cursor))

    async def _fetch_alone(self, task: FetchTask) -> FetchResult | None:
        if await self._archive.forgotten(self._project, [task.id]):
            self._report.forgotten += 1
            self._report.open -= 1
            return None
        # Once it was asked for, a session is pending: its messages are then tried again, and not itself.
        current, result = task, None
        try:
            found = await self._discovery.look_at(task.id) if task.is_unlisted else [task]
            for current in found:
                result = await self._read(current, self._first_page(current), audit=self._job.audit)
        except NavTalkError as error:
            await self._failed(current, error)
            return None
        self._failures_in_a_row = self._refused_in_a_row = 0
        if result is None:
            self._report.done += len(found)
            self._report.open -= 1
        return result

    async def _follow_alone(self, cursor: UnfollowedCursor) -> FetchResult | None:
        """Read what follows a short page after all."""
        task, whole = cursor.wanted, self._first_page(cursor.wanted)
        self._report.done -= 1
        self._report.open += 1
        try:
            if cursor.next.continues(whole):
                return await self._read(task, cursor.next, first=cursor.first)
            return await self._read(task, whole)
        except NavTalkError as error:
            # The cursor may have expired: the second chance fetches the whole session.
            self._followed.add(task)
            await self._failed(task, error)
            return None

    async def _read(
        self, task: FetchTask, request: Request, *, first: int = 0, audit: ShortPageAudit | None = None
    ) -> FetchResult:
        """Fetch the messages of *task* from *request* on."""
        at = format_time(self._job.client.now())
        rows = await self._rows(request, None if task.since is not None else audit)
        self._fetched = task.id
        return FetchResult(
            task, rows.items, first, unfollowed=rows.unfollowed, at=at, has_gaps=rows.skipped > 0
        )

    def _first_page(self, task: FetchTask) -> Request:
        filters = self._job.scope.of_messages
        if task.since is not None:
            # A second earlier, in case the bound is exclusive; messages before it are not taken.
            filters["start_time"] = parse_utc(task.since) - timedelta(seconds=1)
        return self._job.dialect.list_messages(task.id, **filters)

    async def _rows(self, request: Request, audit: ShortPageAudit | None) -> RowsRead[Message]:
        job, report = self._job, self._report
        was_disproved = audit is None or audit.disproved
        rows = await fetch_messages(
            job.client, request, ask=job.list_messages, audit=audit, on_move=job.list_moved
        )
        if audit is not None:
            if audit.disproved and not was_disproved:
                # For the next run, should this one end before it has followed the skipped cursors.
                await self._archive.distrust_short_pages(self._project)
            report.short_pages_followed, report.short_pages_skipped = audit.followed, audit.skipped
            report.short_pages_disproved = audit.disproved
        return rows

    async def _failed(self, task: FetchTask, error: NavTalkError) -> None:
        """Remember what failed, for its second chance; or end the run, where it is the server that fails.

        The server is probed when more sessions fail in a row than run at once. An answer that is about this
        session alone says nothing about the server.
        """
        scope = fault_scope(error)
        if scope == "run":
            raise error
        if isinstance(error, NotFound) and await self._is_gone(task):
            return
        self._failures[task] = error
        if self._is_second_chance:
            return
        if isinstance(error, BadRequest):
            # A wrong key is refused like this, too, for every session.
            self._refused_in_a_row += 1
            if _is_power_of_two(self._refused_in_a_row) and self._refused_in_a_row > 1:
                await self._prove_the_server_well()
        if scope == "session":
            return
        self._failures_in_a_row += 1
        patience = max(self._job.limiter(), A_FEW)
        if self._fetched is None and self._failures_in_a_row >= UNPROVEN * patience:
            raise error
        if self._failures_in_a_row % patience == 0:
            await self._prove_the_server_well()

    async def _second_chance(self) -> None:
        """Try once more what failed, unless the answer would be the same; what fails again, while the server
        is well, has failed for good.
        """
        if not self._failures:
            return
        first = {task: error for task, error in self._failures.items() if not self._is_final(task, error)}
        self._failures = {task: error for task, error in self._failures.items() if task not in first}
        self._is_second_chance = True
        await self._each(self._fetch, _once(list(first)))
        self._is_second_chance = False
        await self._prove_the_server_well()
        # A session that could not be read itself the first time may have failed for its messages the second.
        before = {task.id: error.attempts for task, error in first.items()}
        failed, self._failures = self._failures, {}
        rows = [
            FailedSession(
                task.id, f"{type(error).__name__}: {error.args[0]}", error.attempts + before.get(task.id, 0)
            )
            for task, error in failed.items()
        ]
        await self._archive.record_failures(self._project, rows)
        self._report.open -= len(rows)

    def _is_final(self, task: FetchTask, error: NavTalkError) -> bool:
        """Whether the answer would be the same. What was refused may have been a cursor that had expired."""
        is_refusal = isinstance(error, BadRequest) and task not in self._followed
        return is_refusal or isinstance(error, DecodeFailed)

    async def _prove_the_server_well(self) -> None:
        """Raise what a request raises that was answered before; with a key that is refused, any does."""
        if self._fetched is None or await self._archive.forgotten(self._project, [self._fetched]):
            await self._discovery.probe_server()
        else:
            dialect = self._job.dialect
            await self._job.list_messages(smallest_page(dialect, dialect.list_messages(self._fetched)))

    async def _is_gone(self, task: FetchTask) -> bool:
        """Whether the API no longer has the session; then it is marked. A session that it never had is a
        failure, as is one that it goes on listing.
        """
        if task.came_back:
            return False
        try:
            await self._job.get_session(task.id)
        except NotFound:
            was = await self._archive.mark_deleted(self._project, task.id)
            if was is None:
                return False
            self._report.vanished += was == "kept"
            self._report.open -= 1
            return True
        except NavTalkError as error:
            if fault_scope(error) == "run":
                raise
        return False


def in_groups(
    fetched: Sequence[FetchResult], most: int = MESSAGES_A_COMMIT
) -> Iterator[Sequence[FetchResult]]:
    """*fetched* in groups of whole sessions; one of several sessions has at *most* so many messages."""
    begin = count = 0
    for end, each in enumerate(fetched):
        count += len(each.messages)
        if end > begin and count > most:
            yield fetched[begin:end]
            begin, count = end, len(each.messages)
    yield fetched[begin:]


def _free(saved: Sequence[FetchResult]) -> None:
    """Free what was *saved*, some at a time: of thousands at once, it takes long."""
    for each in saved:
        while each.messages:
            del each.messages[-A_FEW_ROWS:]


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


async def _once(items: Sequence[T]) -> AsyncGenerator[Sequence[T], None]:
    yield items
