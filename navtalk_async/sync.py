"""Ask only for what is new, and keep it. A first run is a sync that never ran.

A run fetches what an earlier one left pending, then lists on: from where an interrupted listing stopped,
or else from a day before the latest session known. Each page of the listing is journalled, sessions and
place together, before the next one is asked for; a session is pending from then until its messages are
kept. So whatever a run is killed by, the next one continues, and asks again for no more than the sessions
that were under way.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec

from navtalk_async.client import NavTalkClient
from navtalk_async.errors import (
    AccessDenied,
    ApiError,
    AttemptTimeout,
    BadRequest,
    BodyTooLarge,
    BrokenBody,
    ClientClosed,
    ConnectFailed,
    DecodeFailed,
    NavTalkError,
    NotFound,
    RateLimited,
    Redirected,
    RepeatedPage,
    ServerError,
    StoreError,
    StoreMismatch,
    WrongShape,
)
from navtalk_async.fanout import FanOut
from navtalk_async.models import Page, Request, Session, moment_of
from navtalk_async.paging import Trail, walk, whole
from navtalk_async.pool import Slots, at_once
from navtalk_async.store.commits import GroupCommit
from navtalk_async.store.store import Journalled, Standing, Store, Wanted
from navtalk_async.wire.limits import Concurrency

__all__ = ["OVERLAP", "Progress", "Scope", "sync"]

OVERLAP = timedelta(hours=24)
"""How far behind the latest known session the next listing begins: rows may be filled in late, and a
session changes after it was listed."""

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

OnError = Callable[[Wanted, NavTalkError], Awaitable[None]]


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
        ValueError: a *scope* that cannot be right; before anything is asked or kept.
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
        self._dialect = client.dialect
        self._store = store
        self._project = project
        self._scope = scope
        self._at_once = at_once
        self._progress = progress
        self._began = datetime.now(UTC)
        slots = Slots(at_once)
        self._list_sessions = slots.bound(client.sessions.page)
        self._list_messages = slots.bound(client.messages.page)

        def get(request: Request) -> Awaitable[Session]:
            return client.ask(request, client.dialect.read_session)

        self._get_session = slots.bound(get)
        self._commits = GroupCommit(partial(store.keep, project))
        self._failures: dict[Wanted, NavTalkError] = {}
        self._failures_in_a_row = 0
        self._fetched: str | None = None
        """A session whose messages were had in this run: what a well server gives again."""

    async def run(self, overlap: timedelta, *, retry_failed: bool) -> Progress:
        self._check_scope()
        standing = await self._store.claim(
            self._project, api=self._dialect.api, scope=self._scope.text(), retry_failed=retry_failed
        )
        self._progress.failed = standing.failed
        self._progress.resumed = standing.next is not None or bool(standing.pending)
        await self._check_key(standing)
        async with self._commits:
            await self._fetch_all(self._wanted(standing, overlap), self._weigh)
            await self._second_chance()
        self._progress.failed = (await self._store.counts(self._project)).failed
        return self._progress

    def _check_scope(self) -> None:
        """Refuse filters that cannot be right, before the project is bound to them."""
        self._first_page(self._scope.start)
        for each in self._scope.sessions:
            self._dialect.checked_id(each)

    async def _check_key(self, standing: Standing) -> None:
        """Make sure that the key belongs to the project: sessions that are surely in it can be seen."""
        trouble: NavTalkError | None = None
        for session_id in standing.known:
            try:
                await self._get_session(self._dialect.get_session(session_id))
            except NotFound:
                continue
            except OF_ONE_ANSWER as error:
                trouble = error
                continue
            return
        if trouble is not None:
            raise trouble
        if standing.known:
            raise StoreMismatch(
                f"The key belongs to another project: it sees none of {len(standing.known)} sessions that "
                f"{self._project!r} holds. Use that project's key, or another --project."
            )

    async def _fetch_all(self, wanted: AsyncGenerator[Sequence[Wanted], None], on_error: OnError) -> None:
        async with FanOut(partial(self._fetch, on_error), wanted, at_once=self._at_once) as fetched:
            async for _ in fetched:
                pass

    # The listing.

    async def _wanted(self, standing: Standing, overlap: timedelta) -> AsyncGenerator[Sequence[Wanted], None]:
        """The sessions to fetch, as they become known."""
        self._progress.open += len(standing.pending)
        if standing.pending:
            yield standing.pending
        pages = self._named() if self._scope.sessions else self._pages(standing, overlap)
        async with aclosing(pages):
            async for page in pages:
                now = f"{self._began:%Y-%m-%d %H:%M:%S}"
                found = await self._store.journal(self._project, page.items, page.next, now=now)
                self._listed(page, found)
                yield found.to_fetch

    async def _named(self) -> AsyncGenerator[Page[Session], None]:
        """The sessions that the scope names, one by one: what cannot be had costs no other."""
        for session_id in self._scope.sessions:
            try:
                session = await self._get_session(self._dialect.get_session(session_id))
            except NotFound as error:
                await self._store.fail(self._project, [_failure(session_id, error)])
                continue
            yield Page([session])

    async def _pages(self, standing: Standing, overlap: timedelta) -> AsyncGenerator[Page[Session], None]:
        self._progress.ends_at = moment_of(self._scope.end) or self._began
        self._progress.began_at = moment_of(self._scope.start)
        first = standing.next or self._listing_from(_earlier(standing.watermark, overlap))
        try:
            page = await self._list_sessions(first)
        except (AccessDenied, RateLimited):
            raise
        except (ApiError, DecodeFailed):
            if standing.next is None:
                raise
            # A cursor may be refused when it has grown old: the time beside it says where to go on.
            first = self._listing_from(_earlier(standing.reached, timedelta(seconds=1)))
            page = await self._list_sessions(first)
        yield page
        trail = Trail(first)
        async with aclosing(walk(self._list_sessions, trail.after(page))) as pages:
            async for page in pages:
                yield page

    def _listing_from(self, moment: datetime | None) -> Request:
        start, end = moment_of(self._scope.start), moment_of(self._scope.end)
        moments = [each for each in (start, moment) if each is not None]
        # A server that ignores the end may have taken us beyond it.
        return self._first_page(min([max(moments), *([end] if end else [])]) if moments else None)

    def _first_page(self, start: datetime | str | None) -> Request:
        return self._dialect.list_sessions(
            start_time=start, end_time=self._scope.end, status=self._scope.status
        )

    def _listed(self, page: Page[Session], found: Journalled) -> None:
        progress = self._progress
        progress.listed += len(page.items)
        progress.inserted += len(found.inserted)
        progress.changed += len(found.changed)
        progress.same += len(found.same)
        progress.open += len(found.to_fetch)
        progress.all_listed = page.next is None
        times = [session.start_time for session in page.items if session.start_time is not None]
        if times:
            progress.reached = times[-1]
            progress.began_at = progress.began_at or times[0]

    # A session.

    async def _fetch(self, on_error: OnError, wanted: Wanted) -> None:
        request = self._dialect.list_messages(wanted.id, role=self._scope.role)
        try:
            messages = await whole(self._list_messages, request)
        except OF_THE_RUN:
            raise
        except NavTalkError as error:
            if not (isinstance(error, NotFound) and await self._is_gone(wanted)):
                await on_error(wanted, error)
            return
        await self._commits.add((wanted, messages))
        self._failures_in_a_row = 0
        self._fetched = wanted.id
        self._progress.done += 1
        self._progress.open -= 1
        self._progress.messages += len(messages)

    async def _weigh(self, wanted: Wanted, error: NavTalkError) -> None:
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
        patience = max(self._at_once, A_FEW)
        if self._fetched is None and self._failures_in_a_row >= UNPROVEN * patience:
            raise error
        if self._failures_in_a_row % patience == 0:
            await self._prove_the_server_well()

    async def _second_chance(self) -> None:
        """Try once more what failed; what fails again, while the server is well, has failed for good."""
        first, self._failures = self._failures, {}
        if not first:
            return
        await self._fetch_all(_once(list(first)), self._remember)
        await self._prove_the_server_well()
        rows = [
            _failure(wanted.id, error, before=first[wanted].attempts)
            for wanted, error in self._failures.items()
        ]
        await self._store.fail(self._project, rows)
        self._progress.open -= len(rows)

    async def _remember(self, wanted: Wanted, error: NavTalkError) -> None:
        self._failures[wanted] = error

    async def _prove_the_server_well(self) -> None:
        """Raise what a question raises that was answered before; with a key that is refused, any does."""
        if self._fetched is None:
            await self._list_sessions(self._dialect.list_sessions(limit=1))
        else:
            await self._list_messages(self._dialect.list_messages(self._fetched, limit=1))

    async def _is_gone(self, wanted: Wanted) -> bool:
        try:
            await self._get_session(self._dialect.get_session(wanted.id))
        except NotFound:
            await self._store.vanish(self._project, wanted.id)
            self._progress.vanished += 1
            self._progress.open -= 1
            return True
        return False


async def _once(wanted: list[Wanted]) -> AsyncGenerator[list[Wanted], None]:
    yield wanted


def _failure(session_id: str, error: NavTalkError, *, before: int = 0) -> tuple[str, str, int]:
    return session_id, f"{type(error).__name__}: {error.args[0]}", error.attempts + before


def _earlier(text: str | None, by: timedelta) -> datetime | None:
    """A moment before the one that *text* means; None where there is none, and the listing starts over."""
    moment = moment_of(text)
    try:
        return None if moment is None else moment - by
    except OverflowError:
        return None
