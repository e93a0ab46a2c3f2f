"""Ask only for what is new, and keep it. A first run is a sync that never ran.

A run fetches what an earlier one left pending, then lists on: from where an interrupted listing stopped,
or else from a day before the latest session known. Each page of the listing is journalled, sessions and
place together, before the next one is asked for; a session is pending from then until its messages are
kept. So whatever a run is killed by, the next one continues, and asks again for no more than the sessions
that were under way.
"""

from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import msgspec

from navtalk_async.client import NavTalkClient
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    ClientClosed,
    ConnectFailed,
    NavTalkError,
    NotFound,
    Redirected,
    StoreError,
    StoreMismatch,
)
from navtalk_async.fanout import FanOut
from navtalk_async.models import Message, Page, Request, Session, as_utc
from navtalk_async.paging import walk, whole
from navtalk_async.pool import Slots, at_once
from navtalk_async.store.commits import GroupCommit
from navtalk_async.store.store import Standing, Store
from navtalk_async.wire.limits import Concurrency

__all__ = ["OVERLAP", "Progress", "Scope", "sync"]

OVERLAP = timedelta(hours=24)
"""How far behind the latest known session the next listing begins: rows may be filled in late, and a
session changes after it was listed."""

OF_THE_RUN = (AccessDenied, ClientClosed, ConnectFailed, Redirected, StoreError)
"""Errors that the next session would meet as well; all others may be that one session's."""


A_FEW = 8
"""How many sessions must fail in a row, at the least, before it is the server that is blamed."""


class Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which sessions and messages are wanted. A project in a store has one scope for good."""

    start: str | None = None
    """The least begin, `yyyy-MM-dd HH:mm:ss` in UTC."""
    end: str | None = None
    status: int | None = None
    role: int | None = None
    sessions: tuple[str, ...] = ()
    """Only these, by id; the other filters of sessions then do not apply."""

    def text(self) -> str:
        """The scope as JSON, for comparing."""
        return msgspec.json.encode(self).decode()


class Progress(msgspec.Struct, kw_only=True):
    """How far a run has come; kept up to date while it runs, and its report afterwards."""

    listed: int = 0
    """Sessions that the listing gave."""
    inserted: int = 0
    changed: int = 0
    same: int = 0
    done: int = 0
    """Sessions whose messages were fetched and kept in this run."""
    messages: int = 0
    """Messages fetched in this run."""
    failed: int = 0
    """Sessions in the store whose messages cannot be had."""
    vanished: int = 0
    open: int = 0
    """Sessions that are known to be wanted and not kept yet."""
    began_at: datetime | None = None
    """The first moment of the time range."""
    reached: datetime | None = None
    """The begin of the last session listed."""
    ends_at: datetime | None = None
    """The last moment of the time range: the scope's end, or when the run began."""
    all_listed: bool = False
    """Whether the listing has come to its end; `done` and `open` together are then all there is."""
    resumed: bool = False
    """Whether the run went on with what an earlier one had left."""

    def share(self) -> float | None:
        """The part of the time range that is listed, 0 to 1; the API tells no total, so there is no other."""
        if self.began_at is None or self.reached is None or self.ends_at is None:
            return None
        span = (self.ends_at - self.began_at).total_seconds()
        gone = (self.reached - self.began_at).total_seconds()
        return min(1.0, max(0.0, gone / span)) if span > 0 else None


async def sync(
    client: NavTalkClient,
    store: Store,
    *,
    project: str = "default",
    scope: Scope | None = None,
    concurrency: Concurrency = "auto",
    overlap: timedelta = OVERLAP,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Progress:
    """Bring *project* in *store* up to date; run it again to continue, whatever ended it.

    Arguments:
        client: what to ask with.
        store: an open store.
        project: the name under which the key's project is kept.
        scope: which sessions and messages; the same in every run.
        concurrency: the most requests in flight at once, `"auto"` is 32.
        overlap: how far behind the latest known session the listing begins.
        retry_failed: try again what failed for good in earlier runs.
        progress: is kept up to date while the run goes on.

    Raises:
        StoreMismatch: the project in the store is of another API, scope or key.
        StoreError: the store does not work.
        NavTalkError: the run cannot go on; what was fetched is kept.
    """
    run = _Run(
        client,
        store,
        project=project,
        scope=scope or Scope(),
        at_once=at_once(concurrency),
        progress=progress or Progress(),
    )
    return await run.run(overlap, retry_failed=retry_failed)


class _Run:
    """One run: what it asks, and what it makes of the errors."""

    def __init__(
        self,
        client: NavTalkClient,
        store: Store,
        *,
        project: str,
        scope: Scope,
        at_once: int,
        progress: Progress,
    ) -> None:
        self._client = client
        self._store = store
        self._project = project
        self._scope = scope
        self._at_once = at_once
        self._progress = progress
        slots = Slots(at_once)
        self._list_sessions = slots.bound(client.sessions.page)
        self._get_session = slots.bound(self._get)
        self._list_messages = slots.bound(client.messages.page)
        self._failures: dict[str, NavTalkError] = {}
        self._failures_in_a_row = 0
        self._commits = GroupCommit(self._keep)

    async def run(self, overlap: timedelta, *, retry_failed: bool) -> Progress:
        standing = await self._store.claim(
            self._project, api=self._client.dialect.api, scope=self._scope.text(), retry_failed=retry_failed
        )
        self._progress.failed = standing.failed
        self._progress.resumed = standing.next is not None or bool(standing.pending)
        await self._check_key(standing)
        async with self._commits:
            await self._fetch_all(self._ids(standing, overlap))
            await self._second_chance()
        return self._progress

    async def _fetch_all(self, ids: AsyncGenerator[Sequence[str], None]) -> None:
        async with FanOut(self._fetch, ids, at_once=self._at_once) as fetched:
            async for _ in fetched:
                pass

    async def _check_key(self, standing: Standing) -> None:
        """Make sure that the key belongs to the project: sessions that are surely in it can be seen."""
        for session_id in standing.known:
            try:
                await self._get_session(session_id)
            except NotFound:
                continue
            return
        if standing.known:
            raise StoreMismatch(
                f"The key belongs to another project: it sees none of {len(standing.known)} sessions that "
                f"{self._project!r} holds. Use that project's key, or another --project."
            )

    # The listing.

    async def _ids(self, standing: Standing, overlap: timedelta) -> AsyncGenerator[Sequence[str], None]:
        """The sessions to fetch, as they become known."""
        self._progress.open += len(standing.pending)
        if standing.pending:
            yield standing.pending
        async with aclosing(self._pages(standing, overlap)) as pages:
            async for page in pages:
                found = await self._store.journal(self._project, page.items, page.next)
                self._listed(page)
                self._progress.inserted += len(found.inserted)
                self._progress.changed += len(found.changed)
                self._progress.same += len(found.same)
                self._progress.open += len(found.to_fetch)
                self._progress.all_listed = page.next is None
                yield found.to_fetch

    async def _pages(self, standing: Standing, overlap: timedelta) -> AsyncGenerator[Page[Session], None]:
        if self._scope.sessions:
            ids = [self._client.dialect.checked_id(each) for each in self._scope.sessions]
            yield Page([await self._get_session(each) for each in ids])
            return
        self._progress.ends_at = _moment(self._scope.end) or datetime.now(UTC)
        self._progress.began_at = _moment(self._scope.start)
        ask = self._list_sessions
        first = standing.next or self._listing_from(_earlier(standing.watermark, overlap))
        try:
            page = await ask(first)
        except BadRequest:
            if standing.next is None:
                raise
            # A cursor may be refused when it has grown old: the time beside it says where to go on.
            first = self._listing_from(_earlier(standing.reached, timedelta(seconds=1)))
            page = await ask(first)
        yield page
        async with aclosing(walk(ask, page.next)) as pages:
            async for page in pages:
                yield page

    def _listing_from(self, moment: datetime | None) -> Request:
        start, end = _moment(self._scope.start), _moment(self._scope.end)
        moments = [each for each in (start, moment) if each is not None]
        return self._client.dialect.list_sessions(
            # A server that ignores the end may have taken us beyond it.
            start_time=min([max(moments), *([end] if end else [])]) if moments else None,
            end_time=end,
            status=self._scope.status,
        )

    def _listed(self, page: Page[Session]) -> None:
        self._progress.listed += len(page.items)
        times = [session.started for session in page.items if session.started is not None]
        if times:
            self._progress.reached = _moment(times[-1])
            self._progress.began_at = self._progress.began_at or _moment(times[0])

    # A session.

    async def _fetch(self, session_id: str) -> None:
        request = self._client.dialect.list_messages(session_id, role=self._scope.role)
        try:
            messages = await whole(self._list_messages, request)
        except OF_THE_RUN:
            raise
        except NavTalkError as error:
            await self._weigh(session_id, error)
            return
        await self._commits.add((session_id, messages))
        self._failures_in_a_row = 0
        self._progress.done += 1
        self._progress.open -= 1
        self._progress.messages += len(messages)

    async def _weigh(self, session_id: str, error: NavTalkError) -> None:
        """Find out whether *error* is this session's alone, and remember it if so.

        If more fail in a row than run at once, the server is in trouble: the run ends, and nobody is told
        that those sessions cannot be had.
        """
        if isinstance(error, BadRequest):
            await self._prove_the_server_well()
        if isinstance(error, NotFound) and await self._is_gone(session_id):
            return
        self._failures[session_id] = error
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= max(self._at_once, A_FEW):
            raise error

    async def _second_chance(self) -> None:
        """Try once more what failed; what fails again, while the server lists well, has failed for good."""
        first, self._failures = self._failures, {}
        if not first:
            return
        self._failures_in_a_row = -len(first)
        await self._fetch_all(_once(list(first)))
        await self._prove_the_server_well()
        rows = [
            (each, f"{type(error).__name__}: {error.args[0]}", error.attempts + first[each].attempts)
            for each, error in self._failures.items()
        ]
        await self._store.fail(self._project, rows)
        self._progress.failed += len(rows)
        self._progress.open -= len(rows)

    async def _prove_the_server_well(self) -> None:
        """Raise what a listing raises, with a key that is refused, for one."""
        await self._list_sessions(self._client.dialect.list_sessions(limit=1))

    def _get(self, session_id: str) -> Awaitable[Session]:
        dialect = self._client.dialect
        return self._client.ask(dialect.get_session(session_id), dialect.read_session)

    async def _is_gone(self, session_id: str) -> bool:
        try:
            await self._get_session(session_id)
        except NotFound:
            await self._store.vanish(self._project, session_id)
            self._progress.vanished += 1
            self._progress.open -= 1
            return True
        return False

    async def _keep(self, finished: Sequence[tuple[str, list[Message]]]) -> None:
        await self._store.keep(self._project, finished)


async def _once(ids: list[str]) -> AsyncGenerator[list[str], None]:
    yield ids


def _moment(text: str | None) -> datetime | None:
    """The moment that an API's *text* means; None if it means none."""
    try:
        return None if text is None else as_utc(text)
    except ValueError:
        return None


def _earlier(text: str | None, by: timedelta) -> datetime | None:
    moment = _moment(text)
    return None if moment is None else moment - by
