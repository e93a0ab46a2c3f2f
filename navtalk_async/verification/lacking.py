"""Whether the API lists sessions that an archive does not hold."""

from contextlib import aclosing

from navtalk_async.archive import Archive
from navtalk_async.archive.records import ProjectInfo
from navtalk_async.archive.rows import iso
from navtalk_async.client import Client
from navtalk_async.ingest import OVERLAP, Scope
from navtalk_async.ingest.wanted import earlier
from navtalk_async.models import Session
from navtalk_async.pool import SessionPool
from navtalk_async.verification.report import Finding, Remedy, Report, sessions, some
from navtalk_async.wire.limits import Concurrency

__all__ = ["find_lacking", "is_listed_next"]


async def find_lacking(
    client: Client,
    reader: Archive,
    about: ProjectInfo,
    scope: Scope,
    report: Report,
    *,
    concurrency: Concurrency = "auto",
) -> None:
    """List the sessions of a project, and add to *report* those that the archive does not hold.

    Sessions that the next sync lists as well are a note: nobody expects them to be there before.
    """
    if scope.sessions:
        return
    dialect, now = client.dialect, client.now()
    listed, has_status = scope.listed(dialect, now), scope.status_sieve(dialect)
    by_time = dialect.starting_at(listed.first_page(dialect), now) is not None
    since = earlier(about.watermark, OVERLAP) if by_time else None
    lost: dict[str, None] = {}
    new: dict[str, None] = {}
    pool = SessionPool(client.using(lane="bulk"), concurrency=concurrency)
    async with aclosing(pool.session_pages(order="done", **listed.of_sessions)) as pages:
        async for page in pages:
            report.checked.listed += len(page)
            lacking = set(await reader.lacks(about.project, [each.id for each in page]))
            for session in page:
                is_wanted = scope.begins_in_time(session) and (has_status is None or has_status(session))
                if is_wanted and session.id in lacking:
                    (new if is_listed_next(session, since) else lost)[session.id] = None
    what = "the API lists it, and the archive does not hold it"
    report.found(
        Finding(f"{about.project}, session {each}", what, Remedy.SYNC, about.project, each) for each in lost
    )
    report.expected |= {(about.project, each) for each in new}
    if new:
        report.notes.append(
            f"{about.project}: {sessions(len(new))} at the API not in the archive yet; the next sync "
            f"fetches {'it' if len(new) == 1 else 'them'}: {some(new)}."
        )


def is_listed_next(session: Session, since: str | None) -> bool:
    """Whether a sync that lists what began *since* then, or everything, lists *session*."""
    begin = iso(session.start_time_text)
    return since is None or begin is None or begin >= since
