"""Fetch sessions, many at once, and save them; and what it means when one cannot be fetched."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, TypeVar

from navtalk_async.archive.records import FailedSession, FetchResult, FetchTask, UnfollowedCursor
from navtalk_async.archive.rows import format_time
from navtalk_async.concurrency import FanOut, shielded
from navtalk_async.dialects.dialect import smallest_page
from navtalk_async.errors import BadRequest, NavTalkError, NotFound
from navtalk_async.events import ListMoved
from navtalk_async.ingest._discovery import Discovery
from navtalk_async.ingest._job import Job
from navtalk_async.listing.fetch import RowsRead, ShortPageAudit, fault_scope, fetch_messages
from navtalk_async.models import Message, Request
from navtalk_async.times import parse_utc

T = TypeVar("T")

A_FEW = 8
"""How many sessions must fail in a row, at the least, before the server is probed."""

UNPROVEN = 4
"""So many times as many must fail before a server that has given no messages at all is given up."""

OnError = Callable[[FetchTask, NavTalkError], Awaitable[None]]
"""What becomes of a session that failed."""


@dataclass
class Batch(Generic[T]):
    items: list[T] = field(default_factory=list)
    is_done: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None


class GroupCommit(Generic[T]):
    """Many small writes, few commits: what is added while one commit runs goes into the next.

    *commit* never runs twice at once. It costs a trip to the disk, whether it gets one item or fifty.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        self._commit = commit
        self._turn = asyncio.Lock()
        self._batch = Batch[T]()

    async def add(self, item: T) -> None:
        """Return when *item* is safe; raise what its commit raises."""
        batch = self._batch
        batch.items.append(item)
        if len(batch.items) == 1:
            # Also where the run is cancelled: what was added is fetched, and others wait for this commit.
            await shielded(self._commit_next())
        else:
            await batch.is_done.wait()
        if batch.error is not None:
            raise batch.error

    async def _commit_next(self) -> None:
        async with self._turn:
            batch, self._batch = self._batch, Batch()
            try:
                await self._commit(batch.items)
            except Exception as error:  # noqa: BLE001 - each adder raises it
                batch.error = error
        batch.is_done.set()


class Fetcher:
    """Fetches the sessions of one project, many at once, and saves them.

    A session that fails has a second chance at the end of the run. One that fails again, while the server is
    well, has failed for good and is recorded; errors that show that the server is not well end the run.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._client, self._dialect = job.client, job.client.dialect
        self._archive, self._project = job.archive, job.project
        self._filters = job.scope.of_messages
        self._report = job.progress.report
        self._commits = GroupCommit(self._save)
        self._discovery: Discovery
        self._fan: FanOut[FetchTask, None] | None = None
        self._failures: dict[FetchTask, NavTalkError] = {}
        self._failures_in_a_row = 0
        self._gone: set[str] = set()
        self._latest: dict[str, object] = {}
        """The latest reading under way of each session."""
        self._fetched: str | None = None
        """A session whose messages were fetched in this run: a server that is well gives them again."""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to fetch at present."""
        return self._fan is None or self._fan.is_hungry

    async def fetch_all(self, discovery: Discovery) -> None:
        """Fetch all that *discovery* finds, and what an audit of short pages shows to be missing.

        Raises:
            NavTalkError: the run cannot go on; what was fetched is kept.
        """
        self._discovery = discovery
        await self._each(discovery.tasks(), self._weigh)
        await self._second_chance()
        if self._job.audit is None or self._job.audit.disproved:
            await self._follow_cursors()
            await self._second_chance()

    async def _save(self, finished: Sequence[FetchResult]) -> None:
        self._report.count_messages(await self._archive.save_messages(self._project, finished))

    async def _each(self, tasks: AsyncGenerator[Sequence[FetchTask], None], on_error: OnError) -> None:
        async def fetch(one: FetchTask) -> None:
            await self._fetch(one, on_error)

        self._fan = FanOut(fetch, tasks, at_once=self._job.limiter)
        async with self._fan as fetched:
            async for _ in fetched:
                pass

    async def _fetch(self, task: FetchTask, on_error: OnError) -> None:
        # Once looked at, a session is pending: its messages are then tried again, not the look.
        current = task
        try:
            found = await self._discovery.look_at(task.id) if task.is_unlisted else [task]
            for current in found:
                await self._read(current)
        except NavTalkError as error:
            if fault_scope(error) == "run":
                raise
            if not (isinstance(error, NotFound) and await self._is_gone(current)):
                await on_error(current, error)
            return
        self._failures_in_a_row = 0
        self._report.done += len(found)
        self._report.open -= 1

    async def _read(self, task: FetchTask) -> None:
        """Fetch the messages that *task* names, and save them."""
        at, reading = format_time(self._client.now()), object()
        self._latest[task.id] = reading
        try:
            rows = await self._rows(
                self._first_page(task), audit=self._job.audit if task.since is None else None
            )
            if self._latest.get(task.id) is not reading:
                # It changed meanwhile, and is being read again: what that brings is newer.
                return
        finally:
            if self._latest.get(task.id) is reading:
                del self._latest[task.id]
        await self._commits.add(FetchResult(task, rows.items, unfollowed=rows.unfollowed, at=at))
        self._fetched = task.id
        self._report.messages += len(rows.items)

    def _first_page(self, task: FetchTask) -> Request:
        if task.since is None:
            return self._dialect.list_messages(task.id, **self._filters)
        # A second earlier, in case the bound is exclusive; messages before it are not taken.
        start = parse_utc(task.since) - timedelta(seconds=1)
        return self._dialect.list_messages(task.id, **self._filters, start_time=start)

    async def _rows(self, request: Request, *, audit: ShortPageAudit | None = None) -> RowsRead[Message]:
        was_disproved = audit is None or audit.disproved
        rows = await fetch_messages(
            self._client, request, ask=self._job.list_messages, audit=audit, on_move=self._moved
        )
        if audit is not None:
            if audit.disproved and not was_disproved:
                # For the next run, should this one end before it has followed the skipped cursors.
                await self._archive.distrust_short_pages(self._project)
            self._report.short_pages_followed = audit.followed
            self._report.short_pages_skipped = audit.skipped
            self._report.short_pages_disproved = audit.disproved
        return rows

    def _moved(self, path: str, reason: str) -> None:
        self._job.announce(ListMoved(path, reason))

    async def _follow_cursors(self) -> None:
        """Follow every cursor that was ever skipped."""
        unfollowed = await self._archive.unfollowed_cursors(self._project)

        async def finish(one: UnfollowedCursor) -> None:
            at, whole = format_time(self._client.now()), self._first_page(one.wanted)
            is_rest = one.next.continues(whole)
            try:
                rows = await self._rows(one.next if is_rest else whole)
            except NavTalkError as error:
                if fault_scope(error) == "run":
                    raise
                # The cursor may have expired: the second chance fetches the whole session.
                self._report.open += 1
                if not (isinstance(error, NotFound) and await self._is_gone(one.wanted)):
                    await self._weigh(one.wanted, error)
                return
            first = one.first if is_rest else 0
            await self._commits.add(FetchResult(one.wanted, rows.items, first, at=at))
            self._report.messages += len(rows.items)

        async with FanOut(finish, _once(unfollowed), at_once=self._job.limiter) as finished:
            async for _ in finished:
                pass

    async def _weigh(self, task: FetchTask, error: NavTalkError) -> None:
        """Remember what failed, for its second chance; or end the run, where it is the server that fails.

        The server is probed when more sessions fail in a row than run at once. An answer that is about this
        session alone says nothing about the server.
        """
        self._failures[task] = error
        if isinstance(error, BadRequest):
            await self._prove_the_server_well()
        if fault_scope(error) == "session":
            return
        self._failures_in_a_row += 1
        patience = max(self._job.limiter(), A_FEW)
        if self._fetched is None and self._failures_in_a_row >= UNPROVEN * patience:
            raise error
        if self._failures_in_a_row % patience == 0:
            await self._prove_the_server_well()

    async def _second_chance(self) -> None:
        """Try once more what failed; what fails again, while the server is well, has failed for good."""
        first, self._failures = self._failures, {}
        if not first:
            return
        await self._each(_once(list(first)), self._remember)
        await self._prove_the_server_well()
        # A session that failed to be looked at the first time may have failed for its messages the second.
        before = {task.id: error.attempts for task, error in first.items()}
        rows = [
            FailedSession(
                task.id, f"{type(error).__name__}: {error.args[0]}", error.attempts + before[task.id]
            )
            for task, error in self._failures.items()
        ]
        await self._archive.record_failures(self._project, rows)
        self._report.open -= len(rows)
        self._failures = {}

    async def _remember(self, task: FetchTask, error: NavTalkError) -> None:
        self._failures[task] = error

    async def _prove_the_server_well(self) -> None:
        """Raise what a request raises that was answered before; with a key that is refused, any does."""
        if self._fetched is None:
            await self._discovery.probe_server()
        else:
            await self._job.list_messages(
                smallest_page(self._dialect, self._dialect.list_messages(self._fetched))
            )

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
            # A session that is pending and watched is met twice.
            self._report.vanished += was == "kept" and task.id not in self._gone
            self._gone.add(task.id)
            self._report.open -= 1
            return True
        except NavTalkError as error:
            if fault_scope(error) == "run":
                raise
        return False


async def _once(items: Sequence[T]) -> AsyncGenerator[Sequence[T], None]:
    yield items
