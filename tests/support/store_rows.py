"""Rows as an API gives them, and what a store is told with them."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from postgres_box import run_sql

from navtalk_async.archive.records import Clock, FailedSession, FetchResult, FetchTask, Round, RunReport
from navtalk_async.archive.rows import content_hash, digest, format_time, row_digest
from navtalk_async.dialects.navtalk import NavTalkMessage, NavTalkSession
from navtalk_async.ingest._reread_rules import compare_sessions
from navtalk_async.models import Request, ResumePoint, Role, SessionStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SETTLE = timedelta(seconds=120)
LATER = ResumePoint(Request(path="/api/chat/sessions", params={"cursor": "abc", "limit": "100"}), 0, 9, 7)
FURTHER = Request(path="/api/chat/messages", params={"cursor": "abc", "limit": "200"})
ROUND = Round(began=format_time(NOW))
RUN = RunReport(began_at=format_time(NOW), ended_at=format_time(NOW), inserted=3)
ENDED = "2025-11-12 18:30:00"


class TitledSession(NavTalkSession, frozen=True, kw_only=True, gc=False):
    title: str | None = None


def session(number, *, status=None, started=None, ended=ENDED, **fields):
    """One that is completed, or goes on where it has no end."""
    status = int(ended is not None) if status is None else status
    kind = TitledSession if "title" in fields else NavTalkSession
    return kind(
        id=f"{number:08x}-dede-11f0-92bc-000e1eed4a72",
        status=SessionStatus(status),
        start_time_text=started or f"2025-11-12 18:20:{number % 60:02}",
        end_time_text=ended,
        **{"video_url": None, **fields},
    )


def message(number, content="hello", *, created="2025-11-12 18:20:43", **fields):
    said = {"role": Role(number % 2), "type": 0, "created_at_text": created}
    return NavTalkMessage(id=f"{number:08x}-e000-11f0-92bc-000e1eed4a72", content=content, **said | fields)


def messages(*numbers):
    return [message(number) for number in numbers]


def clock(minutes=0):
    """The times of a new round, so long after the first one."""
    now = NOW + timedelta(minutes=minutes)
    return Clock.at(now, SETTLE, now + timedelta(seconds=1))


def wanted(kept, **how):
    return FetchTask(kept.id, content_hash(kept), **how)


def fetched(kept, *numbers, minutes=0, **how):
    """Messages of those *numbers*, as all that was read of the session *kept*."""
    return FetchResult(
        wanted(kept), messages(*numbers), at=format_time(NOW + timedelta(minutes=minutes)), **how
    )


async def journal(store, *sessions, project="default", minutes=0, **how):
    how = {"round": ROUND, "places": [], "clock": clock(minutes), "matches": None, **how}
    times, matches = how.pop("clock"), how.pop("matches")
    compare = partial(compare_sessions, clock=times, is_listed=how["places"] is not None, matches=matches)
    return await store.record_listing(
        project, sessions, compare=compare, now=times.now, may_wait=matches is not None, **how
    )


async def everything(store, project="default"):
    return [each async for some in store.transcript_batches(project) for each in some]


async def begin(store, project="default", *, api="navtalk", scope="{}", **how):
    return await store.begin(project, api=api, scope=scope, **how)


async def changes(store):
    return {about.project: about.changes for about in await store.projects()}["default"]


async def ids(store, project="default"):
    """The ids of the messages of the first session that is kept."""
    [first, *_] = await everything(store, project)
    assert [row.position for row in first.messages] == list(range(len(first.messages)))
    assert first.digest == digest(first.messages)
    assert first.row_digest == row_digest(first.session)
    return [int(row.id[:8], 16) for row in first.messages]


async def asked(place, query):
    """The rows that the database at *place* itself finds."""
    if not isinstance(place, Path):
        return await run_sql(place, query)
    with closing(sqlite3.connect(place)) as db, db:
        return db.execute(query).fetchall()


async def lived(store, project):
    """A little of everything that a store is asked to write."""
    await begin(store, project)
    seen = [session(1).id]
    await journal(store, session(1, ended=None), session(2), project=project, places=[LATER], seen=seen)
    await store.save_messages(project, [fetched(session(1, ended=None), 1, 2, 3), fetched(session(2), 4)])
    await journal(store, session(1, video_url="new"), session(3), project=project)
    await store.save_messages(project, [fetched(session(1, video_url="new"), 1, 3, 5, minutes=3)])
    await store.record_failures(project, [FailedSession(session(3).id, "ServerError: 500", 8)])
    await store.distrust_short_pages(project)
    await store.mark_deleted(project, session(2).id)
    await begin(store, project, reconcile=True, retry_failed=True)
    await journal(store, project=project)
    await store.record_run(project, RUN)
    await store.finish(project, ROUND, RUN)
