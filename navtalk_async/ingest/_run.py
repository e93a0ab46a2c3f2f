"""One run of a sync, from what an earlier one left to the last session that is new.

A run fetches what an earlier one left pending, then lists on: from where an interrupted listing stopped,
or else from a day before the latest session known; an API that cannot be asked by time is listed from the
first session on. Each page of the listing is journalled, sessions and places together, before its sessions
are fetched; a session is pending from then until its messages are kept. So whatever a run is killed by, the
next one continues, and asks again for no more than the sessions and pages that were under way.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Literal, Unpack

from navtalk_async.archive import Archive
from navtalk_async.archive.records import RunReport
from navtalk_async.archive.rows import format_time
from navtalk_async.client import Client
from navtalk_async.concurrency import shielded
from navtalk_async.dialects.arguments import one_of
from navtalk_async.errors import (
    NavTalkError,
    StoreError,
    StoreMismatch,
)
from navtalk_async.ingest._discovery import Discovery
from navtalk_async.ingest._fetcher import Fetcher
from navtalk_async.ingest._job import Job, Progress
from navtalk_async.ingest.key_check import check_key
from navtalk_async.ingest.reread_rules import OVERLAP, SETTLE
from navtalk_async.ingest.scope import Filters, Scope
from navtalk_async.listing.fetch import ShortPageAudit, ShortPages
from navtalk_async.pool import limiter_of
from navtalk_async.wire.gate import Concurrency


class SyncOptions(Filters, total=False):
    """The keyword arguments of `sync`."""

    project: str
    concurrency: Concurrency
    listing: Literal["auto", "serial"]
    short_pages: ShortPages
    overlap: timedelta
    settle: timedelta
    watch_max_age: timedelta | None
    reconcile: bool
    retry_failed: bool
    server: str | None
    server_moved: bool


def check_options(options: SyncOptions) -> None:
    """Refuse *options* that cannot be right, before anything is asked or kept.

    Raises:
        ValueError: names the option and its value.
    """
    for name in ("project", "server"):
        text = options.get(name)
        if text is not None and not (isinstance(text, str) and text.strip() and text.isprintable()):
            raise ValueError(f"{name}={text!r} is not a name.")
    for name in ("overlap", "settle", "watch_max_age"):
        span = options.get(name)
        if span is not None and not (isinstance(span, timedelta) and span >= timedelta(0)):
            raise ValueError(f"{name}={span!r} is not a timedelta of zero or more.")
    one_of("auto", "serial")("listing", options.get("listing", "auto"))
    one_of("follow", "audit")("short_pages", options.get("short_pages", "follow"))


async def sync(
    client: Client,
    archive: Archive,
    *,
    project: str = "default",
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
    **filters: Unpack[Filters],
) -> RunReport:
    """Bring *project* in *archive* up to date; run it again to continue, whatever ended it.

    Arguments:
        client: the client to ask with.
        archive: an open archive.
        project: the name under which the key's project is kept.
        concurrency: the most requests in flight at once; `"auto"` leaves it to the client's own limit.
        listing: `"auto"` walks the list of sessions from many places at once where that is faster, `"serial"`
            page by page.
        short_pages: `"follow"` reads a session's messages until the API says that they end; `"audit"` takes
            most short pages for the last ones, and checks a sample.
        overlap: how far behind the latest known session the listing begins; 24 hours.
        settle: how long messages may be under way; 2 minutes. A session that is active, or that ended or
            changed less than that ago, is watched: read again in every run.
        watch_max_age: sessions that began longer ago are no longer watched; None watches them until they end.
        reconcile: list everything again, not only what is new, and compare it with what is kept.
        retry_failed: try again what failed for good in earlier runs.
        server: the name of the server, which the project remembers; by default, the client's `base_url`.
        server_moved: confirms that the API is at another address now, but the same.
        progress: is kept up to date while the run goes on; its report is the one that is returned.
        filters: which sessions and messages, the same in every run of a project: `start_time`, `end_time`,
            `status`, `user_id`, `agent_type`, where the API's list of sessions has them; `role`, only its
            messages; `sessions`, only these, by id. Words, enums and numbers, as for the list itself.

    Raises:
        ValueError: a filter that the API does not have, or an argument that cannot be right; before anything
            is asked or kept.
        StoreMismatch: the project in the archive is of another API, server or key, or has other filters.
        StoreError: the archive does not work.
        NavTalkError: the run cannot go on; what was fetched is kept.
    """
    dialect, progress = client.dialect, progress or Progress()
    scope = Scope.parse(dialect, **filters)
    if not isinstance(archive, Archive):
        raise TypeError(f"archive={archive!r} is not an Archive: open one with Archive.open(place).")
    check_options(
        {
            "project": project,
            "server": server,
            "listing": listing,
            "short_pages": short_pages,
            "overlap": overlap,
            "settle": settle,
            "watch_max_age": watch_max_age,
        }
    )
    server = client.base_url if server is None else server
    audits, limiter = short_pages == "audit", limiter_of(client, concurrency)
    report, stop = progress.report, _start(client, progress.report)
    begin = partial(
        archive.begin,
        project,
        api=dialect.api,
        server=server,
        scope=scope.text(),
        server_moved=server_moved,
        dialect=dialect,
    )
    state = await begin()
    report.failed = state.failed
    report.resumed = state.round is not None or bool(state.pending)
    try:
        await check_key(client, archive, project, scope, watermark=state.watermark)
        if state.server != server:
            # Not before the server is known to have what the project holds.
            await archive.remember_server(project, server)
        if retry_failed or reconcile:
            # Not before the key is known to be this project's: another's leaves everything as it was.
            state = await begin(retry_failed=retry_failed, reconcile=reconcile)
        job = Job(
            client=client.using(lane="bulk"),
            limiter=limiter,
            archive=archive,
            project=project,
            scope=scope,
            state=state,
            overlap=overlap,
            settle=settle,
            watch_max_age=watch_max_age,
            reconcile=reconcile,
            serial=listing == "serial",
            audit=ShortPageAudit(disproved=state.short_pages_disproved) if audits else None,
            progress=progress,
        )
        fetcher = Fetcher(job)
        discovery = Discovery(job, is_awaited=lambda: fetcher.is_idle)
        await fetcher.fetch_all(discovery)
    except StoreMismatch:
        # A run with another project's key is not one of this project.
        raise
    except (NavTalkError, asyncio.CancelledError) as error:
        stop()
        is_ours = isinstance(error, NavTalkError)
        report.error = f"{type(error).__name__}: {error.args[0]}" if is_ours else "stopped"
        with suppress(StoreError):
            await shielded(archive.record_run(project, report))
        raise
    stop()
    report.failed = len(await archive.failures(project))
    await archive.finish(project, discovery.round, report)
    return report


def _start(client: Client, report: RunReport) -> Callable[[], None]:
    """Begin to measure a run; the returned function writes its duration and requests into *report*."""
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
