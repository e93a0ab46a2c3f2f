"""One run of a sync, from what an earlier one left to the last session that is new.

A run fetches what an earlier one left pending, then lists on: from where an interrupted listing stopped,
or else from a day before the latest session known; an API that cannot be asked by time is listed from the
first session on. Each page of the listing is journalled, sessions and
places together, before it is worked at; a session is pending from then until its messages are kept. So
whatever a run is killed by, the next one continues, and asks again for no more than the sessions and pages
that were under way.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Literal

import msgspec

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FetchResult, RunReport, SyncState
from navtalk_async.archive.rows import format_time
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import Limiter, shielded
from navtalk_async.errors import NavTalkError, NotFound, StoreError, StoreMismatch
from navtalk_async.events import Event, ListedSerially, ListMoved
from navtalk_async.ingest.asking import Asking
from navtalk_async.ingest.fetch import OF_ONE_ANSWER, Fetching
from navtalk_async.ingest.group_commit import GroupCommit
from navtalk_async.ingest.progress import Progress
from navtalk_async.ingest.scope import Scope
from navtalk_async.ingest.wanted import Habits, Listed
from navtalk_async.listing.short_pages import ShortPageAudit, ShortPages, checked_short_pages
from navtalk_async.models import parse_time
from navtalk_async.pool import AUTO_WALKERS, limiter_of
from navtalk_async.soundness import damage
from navtalk_async.wire.gate import Concurrency

__all__ = ["OVERLAP", "SETTLE", "sync"]

OVERLAP = timedelta(hours=24)
"""How far behind the latest known session the next listing begins: rows may be filled in late, and a
session changes after it was listed."""

SETTLE = timedelta(seconds=120)
"""How long messages may be under way: a session is final only when it ended so long ago, and is read once
more then."""


async def sync(
    client: Client,
    store: Archive,
    *,
    project: str = "default",
    scope: Scope | None = None,
    concurrency: Concurrency = "auto",
    listing: Literal["auto", "serial"] = "auto",
    short_pages: ShortPages = "follow",
    overlap: timedelta = OVERLAP,
    settle: timedelta = SETTLE,
    watch_max_age: timedelta | None = None,
    reconcile: bool = False,
    retry_failed: bool = False,
    server: str | None = None,
    server_moved: bool = False,
    progress: Progress | None = None,
) -> RunReport:
    """Bring *project* in *store* up to date; run it again to continue, whatever ended it.

    Arguments:
        client: what to ask with.
        store: an open store.
        project: the name under which the key's project is kept.
        scope: which sessions and messages; the same in every run.
        concurrency: the most requests in flight at once; `"auto"` leaves it to the client's own limit.
        listing: `"auto"` walks the list of sessions from many places at once where it is waited for,
            `"serial"` page by page.
        short_pages: `"follow"` believes that a session's messages have ended when the API says so; `"audit"`
            when a page is short as well, and watches that: see `short_pages`.
        overlap: how far behind the latest known session the listing begins.
        settle: how long messages may be under way. A session that ended or changed less than that ago is
            watched, as one that goes on is: read again in every round.
        watch_max_age: sessions that began longer ago are no longer watched; None watches them until they end.
        reconcile: list everything again, not only what is new, and compare it with what is kept.
        retry_failed: try again what failed for good in earlier runs.
        server: the name of the server, which the project remembers; by default, the client's `base_url`.
        server_moved: confirms that the API is at another address now, but the same.
        progress: is kept up to date while the run goes on; its report is the one that is returned.

    Raises:
        ValueError: a *scope* that cannot be right; before anything is asked or kept.
        StoreMismatch: the project in the store is of another API, server, scope or key.
        StoreError: the store does not work.
        NavTalkError: the run cannot go on; what was fetched is kept.
    """
    scope, progress = scope or Scope(), progress or Progress()
    report = progress.report
    if client.dialect.options:
        scope = msgspec.structs.replace(scope, options=dict(client.dialect.options))
    checked_short_pages(short_pages)
    scope.check(client.dialect)
    stop = _start(client, report)
    server = checked_name("server", client.base_url if server is None else server)
    begin = partial(
        store.begin,
        project,
        api=client.dialect.api,
        server=server,
        scope=scope.text(),
        server_moved=server_moved,
        is_sound=lambda kept: not damage(kept, client.dialect),
        session_of=client.dialect.session_of,
    )
    standing = await begin()
    report.failed = standing.failed
    report.resumed = standing.round is not None or bool(standing.pending)
    habits = Habits(overlap=overlap, settle=settle, watch_max_age=watch_max_age, reconcile=reconcile)
    try:
        await check_key(client, store, standing, project, scope)
        if standing.server != server:
            # Not before it is known to have what the project holds.
            await store.remember_server(project, server)
        if retry_failed or reconcile:
            # Not before the key is known to be this project's: another's leaves everything as it was.
            standing = await begin(retry_failed=retry_failed, reconcile=reconcile)
        listed = await run_round(
            client,
            store,
            standing,
            habits,
            project=project,
            scope=scope,
            width=limiter_of(client, concurrency),
            listing=listing,
            audit=ShortPageAudit(disproved=standing.refuted) if short_pages == "audit" else None,
            progress=progress,
        )
    except StoreMismatch:
        # A run with another project's key is none of this project's.
        raise
    except (NavTalkError, asyncio.CancelledError) as error:
        stop()
        why = f"{type(error).__name__}: {error.args[0]}" if isinstance(error, NavTalkError) else "stopped"
        report.error = why
        with suppress(StoreError):
            await shielded(store.record_run(project, report))
        raise
    stop()
    report.failed = len(await store.failures(project))
    await store.finish(project, listed.round, report)
    return report


def checked_name(what: str, name: str) -> str:
    """*name*, if it is a text that says something; else a ValueError."""
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{what}={name!r} is no name.")
    return name


async def run_round(
    client: Client,
    store: Archive,
    standing: SyncState,
    habits: Habits,
    *,
    project: str,
    scope: Scope,
    width: Limiter,
    listing: Literal["auto", "serial"],
    audit: ShortPageAudit | None,
    progress: Progress,
) -> Listed:
    """Everything that the project wants; what there was to list of it."""
    report = progress.report

    def announce(event: Event) -> None:
        if isinstance(event, ListedSerially):
            report.fallback = event.reason
        elif isinstance(event, ListMoved):
            report.moved = report.moved or f"About the list {event.path}: {event.reason}."
        inside(client).announce(event)

    async def commit(finished: Sequence[FetchResult]) -> None:
        report.count_messages(await store.save_messages(project, finished))

    asking = Asking.of(client.using(lane="bulk"), width, scope, announce)
    commits = GroupCommit(commit)
    fetching = Fetching(asking, store, commits, project=project, audit=audit, report=report)
    listed = Listed(
        asking,
        store,
        standing,
        habits,
        project=project,
        progress=progress,
        walkers=1 if listing == "serial" else width.fixed or AUTO_WALKERS,
        is_awaited=lambda: fetching.is_idle,
        announce=announce,
    )
    async with commits:
        await fetching.all(listed.wanted(), listed.look)
    return listed


def _start(client: Client, report: RunReport) -> Callable[[], None]:
    """Begin to measure a run; what is returned notes in *report* how long it took, and how many requests."""
    began, before = monotonic(), client.stats()
    report.began_at, report.ended_at, report.error = report.began_at or _now(), None, None

    def stop() -> None:
        after = client.stats()
        report.ended_at = _now()
        report.requests += after.requests - before.requests
        report.retries += after.retries - before.retries
        report.seconds = round(report.seconds + monotonic() - began, 3)

    return stop


def _now() -> str:
    return format_time(datetime.now(UTC))


async def check_key(client: Client, store: Archive, standing: SyncState, project: str, scope: Scope) -> None:
    """Make sure that the key belongs to the *project*: sessions that are certainly in it can be seen.

    Should all of them be gone, the end of the listing is looked at before the key is blamed.
    """
    trouble: NavTalkError | None = None
    for session_id in standing.known:
        try:
            await client.ask(client.dialect.get_session(session_id), client.dialect.read_session)
        except NotFound:
            continue
        except OF_ONE_ANSWER as error:
            trouble = error
            continue
        return
    if trouble is not None:
        raise trouble
    if standing.known and not await lists_known(client, store, standing, project, scope):
        raise StoreMismatch(
            f"The server has none of {len(standing.known)} sessions that {project!r} holds: the key is of "
            "another project, or it is another server. Use the right key and address; or another --project, "
            "also if everything was deleted there."
        )


async def lists_known(
    client: Client, store: Archive, standing: SyncState, project: str, scope: Scope
) -> bool:
    """Whether the sessions around the watermark, or first in the list, are this *project*'s."""
    start, dialect = parse_time(standing.watermark), client.dialect
    try:
        whole = Scope(user=scope.user).first_page(dialect)
    except ValueError:
        return False  # An API that wants to know whose sessions they are, asked for some by their ids alone.
    request = whole if start is None else dialect.starting_at(whole, start - OVERLAP) or whole
    page = await inside(client).page_of_sessions(request)
    return await store.contains(project, [session.id for session in page.items])
