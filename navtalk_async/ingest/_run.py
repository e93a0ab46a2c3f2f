"""One run of a sync, from what an earlier one left to the last session that is new.

A run fetches what an earlier one left pending, then lists on: from where an interrupted listing stopped,
or else from a day before the latest session known; an API that cannot be asked by time is listed from the
first session on. Each page of the listing is journalled, sessions and places together, before its sessions
are fetched; a session is pending from then until its messages are kept. So whatever a run is killed by, the
next one continues, and asks again for no more than the pages and sessions that were under way, and as many
sessions that were fetched and waited for their commit.
"""

import asyncio
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Unpack

from navtalk_async.archive import Archive
from navtalk_async.archive.records import RunReport
from navtalk_async.archive.rows import format_time
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import shielded
from navtalk_async.errors import (
    BadRequest,
    DeadlineExceeded,
    NavTalkError,
    NotFound,
    StoreError,
    StoreMismatch,
)
from navtalk_async.ingest._fetcher import Fetcher
from navtalk_async.ingest._job import Job, Progress, Together
from navtalk_async.ingest._reread_rules import OVERLAP
from navtalk_async.ingest.scope import CheckedOptions, Scope, SyncOptions
from navtalk_async.listing.fetch import fault_scope
from navtalk_async.times import parse_time
from navtalk_async.wire.retry import Lane

COUNTED: ContextVar[RunReport | None] = ContextVar("navtalk_async.counted", default=None)
"""The report of the run that a request is for, where each is counted: runs may share a client, which counts
for all of them.
"""


async def sync(
    client: Client, archive: Archive, *, progress: Progress | None = None, **options: Unpack[SyncOptions]
) -> RunReport:
    """Bring *project* in *archive* up to date; run it again to continue, whatever ended it.

    Arguments:
        client: the client to ask with.
        archive: an open archive.
        project: the name under which the key's project is kept; `"default"`.
        concurrency: the most requests in flight at once; `"auto"`, the default, leaves it to the client.
        listing: `"auto"`, the default, walks the list of sessions from many places at once where that is
            faster, `"serial"` page by page.
        short_pages: `"follow"`, the default, reads a session's messages until the API says that they end;
            `"audit"` takes most short pages for the last ones, and checks a sample.
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
        TypeError, ValueError: a filter that the API does not have, or an argument that cannot be right;
            before anything is asked or kept.
        StoreMismatch: the project in the archive is of another API, server or key, or has other filters.
        StoreError: the archive does not work.
        NavTalkError: the run cannot go on; what was fetched is kept.
    """
    checked = CheckedOptions.parse(client, options)
    if not isinstance(archive, Archive):
        raise TypeError(f"archive={archive!r} is not an Archive: open one with Archive.open(place).")
    together = Together.of(client, checked)
    return await run_once(client, archive, checked, progress or Progress(), together)


async def run_once(
    client: Client, archive: Archive, options: CheckedOptions, progress: Progress, together: Together
) -> RunReport:
    """`sync`, once its arguments are known to be right."""
    report = progress.report
    together.poked.intersection_update([each for each in together.poked if each in together.sessions])
    try:
        with _measured(client, report):
            job = await begin_job(client, archive, options, progress, together=together)
            if job.state.pending:
                await job.record_begin()
            last_round = await Fetcher(job).fetch_all()
    except StoreMismatch:
        # A run with another project's key is not one of this project.
        raise
    except (NavTalkError, asyncio.CancelledError) as error:
        is_ours = isinstance(error, NavTalkError)
        report.error = f"{type(error).__name__}: {error.args[0]}" if is_ours else "stopped"
        with suppress(StoreError):
            await shielded(archive.record_run(options.project, report))
        raise
    report.failed = len(await archive.failures(options.project))
    await archive.finish(options.project, last_round, report)
    return report


async def begin_job(
    client: Client,
    archive: Archive,
    options: CheckedOptions,
    progress: Progress,
    *,
    together: Together,
    lane: Lane = "bulk",
    is_checked: bool = False,
) -> Job:
    """Make sure that client and archive belong together, unless that *is_checked*, and learn how far the
    project has come.
    """
    project, scope, report = options.project, options.scope, progress.report
    server = client.base_url if options.server is None else options.server
    begin = partial(
        archive.begin,
        project,
        api=client.dialect.api,
        server=server,
        scope=scope.text(),
        server_moved=options.server_moved,
        dialect=client.dialect,
    )
    state = await begin()
    report.failed = state.failed
    report.resumed = state.round is not None or bool(state.pending)
    if not is_checked:
        await check_key(client, archive, project, scope, watermark=state.watermark)
    if state.server != server:
        # Not before the server is known to have what the project holds.
        await archive.remember_server(project, server)
    if options.retry_failed or options.reconcile:
        # Not before the key is known to be this project's: another's leaves everything as it was.
        state = await begin(retry_failed=options.retry_failed, reconcile=options.reconcile)
    return Job(client, archive, options, progress, state, together=together, lane=lane)


@contextmanager
def _measured(client: Client, report: RunReport) -> Generator[None, None, None]:
    """Write into *report* how long the block takes, and how many requests it sends."""
    began, before = monotonic(), client.stats()
    report.began_at, report.ended_at, report.error = report.began_at or _now(), None, None
    report.process = f"{os.getpid()} on {socket.gethostname()}"
    try:
        yield
    finally:
        after = client.stats()
        report.ended_at = _now()
        if COUNTED.get() is not report:
            report.requests += after.requests - before.requests
            report.retries += after.retries - before.retries
        report.seconds = round(report.seconds + monotonic() - began, 3)


def _now() -> str:
    return format_time(datetime.now(UTC))


async def check_key(
    client: Client, archive: Archive, project: str, scope: Scope, *, watermark: str | None
) -> None:
    """Make sure that the key belongs to the *project*: it can see sessions that are certainly in it.

    Should all of them be gone, the end of the listing is read before the key is blamed.

    Raises:
        StoreMismatch: the key is of another project.
        NavTalkError: the API cannot be asked.
    """
    known_sessions = await archive.known_sessions(project)
    trouble: NavTalkError | None = None
    for session_id in known_sessions:
        try:
            await client.ask(client.dialect.get_session(session_id), client.dialect.read_session)
        except NotFound:
            continue
        except NavTalkError as error:
            # These would cost as much for the next session.
            if fault_scope(error) == "run" or isinstance(error, BadRequest | DeadlineExceeded):
                raise
            trouble = error
            continue
        return
    if trouble is not None:
        raise trouble
    if known_sessions and not await _lists_known(client, archive, project, scope, watermark):
        raise StoreMismatch(
            f"The server has none of {len(known_sessions)} sessions that {project!r} holds: the key is "
            "of another project, or it is another server. Use the right key and address; or another "
            "project=, also if everything was deleted there."
        )


async def _lists_known(
    client: Client, archive: Archive, project: str, scope: Scope, watermark: str | None
) -> bool:
    """Whether the sessions around the watermark, or first in the list, are this *project*'s."""
    start, dialect = parse_time(watermark), client.dialect
    try:
        whole = Scope(user_id=scope.user_id).first_page(dialect)
    except ValueError:
        return False  # An API that wants to know whose sessions they are, asked for some by their ids alone.
    request = whole if start is None else dialect.starting_at(whole, start - OVERLAP) or whole
    page = await inside(client).page_of_sessions(request)
    return await archive.contains(project, [session.id for session in page.items])
