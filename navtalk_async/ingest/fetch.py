"""A session's messages, fetched and kept; and what it means when they cannot be had."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession, FetchResult, FetchTask, RunReport, UnfollowedCursor
from navtalk_async.archive.rows import format_time
from navtalk_async.concurrency import FanOut
from navtalk_async.dialects.dialect import smallest_page
from navtalk_async.errors import (
    AccessDenied,
    AttemptTimeout,
    BadRequest,
    BodyTooLarge,
    BrokenBody,
    ClientClosed,
    ConnectFailed,
    DecodeFailed,
    NavTalkError,
    NotFound,
    Redirected,
    RepeatedPage,
    ServerError,
    StoreError,
    WrongShape,
)
from navtalk_async.ingest.asking import Asking
from navtalk_async.ingest.group_commit import GroupCommit
from navtalk_async.listing.short_pages import RowsRead, ShortPageAudit
from navtalk_async.models import Message, Request, as_utc
from navtalk_async.paging import whole

__all__ = ["OF_ONE_ANSWER", "Fetching", "is_of_the_run"]

T = TypeVar("T")

OF_THE_RUN = (AccessDenied, ClientClosed, ConnectFailed, Redirected, StoreError)
"""Errors that the next session would meet as well; all others may be that one session's."""

OF_ONE_SESSION = (BadRequest, NotFound, WrongShape, RepeatedPage, BodyTooLarge)
"""Errors that say nothing about the next session, however many of them there are."""

OF_ONE_ANSWER = (ServerError, DecodeFailed, BrokenBody, AttemptTimeout)
"""Errors by which one question may be hit, and another one not."""

A_FEW = 8
"""How many sessions must fail in a row, at the least, before the server is looked into."""

UNPROVEN = 4
"""So many times as many must fail before a server that has given no messages at all is given up."""

Look = Callable[[str], Awaitable[Sequence[FetchTask]]]
"""Asks for a session itself, and says what there is to fetch of it."""

OnError = Callable[[FetchTask, NavTalkError], Awaitable[None]]
"""What becomes of a session that failed."""


class Fetching:
    """Fetches what is wanted of one project, many sessions at once, and keeps it.

    What fails has a second chance at the end of the run. What fails again, while the server is well, has
    failed for good and is recorded; what shows that the server is not well ends the run.
    """

    def __init__(
        self,
        asking: Asking,
        store: Archive,
        commits: GroupCommit[FetchResult],
        *,
        project: str,
        audit: ShortPageAudit | None,
        report: RunReport,
    ) -> None:
        self._ask = asking
        self._dialect = asking.dialect
        self._store = store
        self._commits = commits
        self._project = project
        self._filters = asking.scope.of_messages
        self._audit = audit
        self._report = report
        self._look: Look
        self._fan: FanOut[FetchTask, None] | None = None
        self._failures: dict[FetchTask, NavTalkError] = {}
        self._failures_in_a_row = 0
        self._gone: set[str] = set()
        self._latest: dict[str, object] = {}
        """The latest reading under way of each session."""
        self._fetched: str | None = None
        """A session whose messages were had in this run: what a well server gives again."""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to fetch, and nobody who does not wait for it."""
        return self._fan is None or self._fan.is_hungry

    async def all(self, wanted: AsyncGenerator[Sequence[FetchTask], None], look: Look) -> None:
        """Fetch all that is *wanted*, and what an audit shows to be missing; *look* at a session that was not
        listed.

        Raises:
            NavTalkError: the run cannot go on; what was fetched is kept.
        """
        self._look = look
        await self._each(wanted, self._weigh)
        await self._second_chance()
        if self._audit is None or self._audit.disproved:
            await self._finish_unread()
            await self._second_chance()

    async def _each(self, wanted: AsyncGenerator[Sequence[FetchTask], None], on_error: OnError) -> None:
        async def fetch(one: FetchTask) -> None:
            await self._fetch(one, on_error)

        self._fan = FanOut(fetch, wanted, at_once=self._ask.width)
        async with self._fan as fetched:
            async for _ in fetched:
                pass

    async def _fetch(self, wanted: FetchTask, on_error: OnError) -> None:
        # Once looked at, a session is pending: what is to be tried again then is its messages, not the look.
        current = wanted
        try:
            found = await self._look(wanted.id) if wanted.is_unlisted else [wanted]
            for current in found:
                await self._read(current)
        except OF_THE_RUN:
            raise
        except NavTalkError as error:
            if not (isinstance(error, NotFound) and await self._is_gone(current)):
                await on_error(current, error)
            return
        self._failures_in_a_row = 0
        self._report.done += len(found)
        self._report.open -= 1

    async def _read(self, wanted: FetchTask) -> None:
        """Ask for the messages that are *wanted*, and keep them."""
        at, reading = format_time(self._ask.now()), object()
        self._latest[wanted.id] = reading
        try:
            rows = await self._rows(self._question(wanted), audited=wanted.since is None)
            if self._latest.get(wanted.id) is not reading:
                # It changed meanwhile, and is being read again: what that brings is newer.
                return
        finally:
            if self._latest.get(wanted.id) is reading:
                del self._latest[wanted.id]
        await self._commits.add(FetchResult(wanted, rows.items, unread=rows.unread, at=at))
        self._fetched = wanted.id
        self._report.messages += len(rows.items)

    def _question(self, wanted: FetchTask) -> Request:
        if wanted.since is None:
            return self._dialect.list_messages(wanted.id, **self._filters)
        # A second earlier, in case that the bound is exclusive; what lies before is not taken.
        start = as_utc(wanted.since) - timedelta(seconds=1)
        return self._dialect.list_messages(wanted.id, **self._filters, start_time=start)

    async def _rows(self, request: Request, *, audited: bool) -> RowsRead[Message]:
        if self._audit is None or not audited:
            return RowsRead(await whole(self._ask.list_messages, request, self._ask.on_move))
        known = self._audit.disproved
        rows = await self._audit.fetch_all(
            self._ask.list_messages, request, page_limit=self._dialect.page_limit, on_move=self._ask.on_move
        )
        if self._audit.disproved and not known:
            # For the next run, should this one not come to follow what it left alone.
            await self._store.distrust_short_pages(self._project)
        self._report.short_pages_followed = self._audit.followed
        self._report.short_pages_skipped = self._audit.skipped
        self._report.short_pages_disproved = self._audit.disproved
        return rows

    async def _finish_unread(self) -> None:
        """Follow every cursor that was ever left alone."""
        unread = await self._store.unfollowed_cursors(self._project)

        async def finish(one: UnfollowedCursor) -> None:
            at, question = format_time(self._ask.now()), self._question(one.wanted)
            is_rest = one.next.continues(question)
            try:
                messages = await whole(self._ask.list_messages, one.next if is_rest else question)
            except OF_THE_RUN:
                raise
            except NavTalkError as error:
                # The cursor may have grown too old: the second chance asks for the session from its begin.
                self._report.open += 1
                if not (isinstance(error, NotFound) and await self._is_gone(one.wanted)):
                    await self._weigh(one.wanted, error)
                return
            await self._commits.add(FetchResult(one.wanted, messages, one.first if is_rest else 0, at=at))
            self._report.messages += len(messages)

        async with FanOut(finish, _once(unread), at_once=self._ask.width) as finished:
            async for _ in finished:
                pass

    async def _weigh(self, wanted: FetchTask, error: NavTalkError) -> None:
        """Remember what failed, for its second chance; or end the run, where it is the server that fails.

        That is looked into when more fail in a row than run at once. An answer that is about this session
        alone says nothing about the server.
        """
        self._failures[wanted] = error
        if isinstance(error, BadRequest):
            await self._prove_the_server_well()
        if isinstance(error, OF_ONE_SESSION):
            return
        self._failures_in_a_row += 1
        patience = max(self._ask.width(), A_FEW)
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
        # What was to be looked at the first time may have failed for its messages the second.
        before = {wanted.id: error.attempts for wanted, error in first.items()}
        rows = [
            FailedSession(
                wanted.id, f"{type(error).__name__}: {error.args[0]}", error.attempts + before[wanted.id]
            )
            for wanted, error in self._failures.items()
        ]
        await self._store.record_failures(self._project, rows)
        self._report.open -= len(rows)
        self._failures = {}

    async def _remember(self, wanted: FetchTask, error: NavTalkError) -> None:
        self._failures[wanted] = error

    async def _prove_the_server_well(self) -> None:
        """Raise what a question raises that was answered before; with a key that is refused, any does."""
        dialect = self._dialect
        if self._fetched is None:
            if self._ask.least is not None:
                await self._ask.list_sessions(self._ask.least)
        else:
            await self._ask.list_messages(smallest_page(dialect, dialect.list_messages(self._fetched)))

    async def _is_gone(self, wanted: FetchTask) -> bool:
        """Whether the session is there no more; then it is marked. One that was never there is a failure, as
        is one that the list goes on giving.
        """
        if wanted.came_back:
            return False
        try:
            await self._ask.get_session(self._dialect.get_session(wanted.id))
        except NotFound:
            was = await self._store.mark_deleted(self._project, wanted.id)
            if was is None:
                return False
            # One that is pending and watched is met twice.
            self._report.vanished += was == "kept" and wanted.id not in self._gone
            self._gone.add(wanted.id)
            self._report.open -= 1
            return True
        except OF_THE_RUN:
            raise
        except NavTalkError:
            # Whether it is there, this does not tell; that it cannot be had, the caller knows.
            return False
        return False


def is_of_the_run(error: NavTalkError) -> bool:
    """Whether the next session would meet *error* as well."""
    return isinstance(error, OF_THE_RUN)


async def _once(items: Sequence[T]) -> AsyncGenerator[Sequence[T], None]:
    yield items
