"""`navtalk plan`: estimate an export."""

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from time import perf_counter

import msgspec

from navtalk_async.archive.rows import format_api_time
from navtalk_async.cli._options import CONNECTION, SCOPE, Place, command
from navtalk_async.cli._output import put_json, put_lines
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings
from navtalk_async.cli._status import readable
from navtalk_async.cli.app import Exit, run
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import FanOut
from navtalk_async.errors import NavTalkError, NotFound, counted
from navtalk_async.ingest.scope import Scope
from navtalk_async.listing.fetch import fault_scope, fetch_messages
from navtalk_async.models import Message, Page, Request, Session, SessionStatus
from navtalk_async.pool import SessionPool, limiter_of

SAMPLE = 50


class Sample:
    """Some of all sessions, each as likely as any other, however many there are (reservoir sampling)."""

    def __init__(self, size: int = SAMPLE) -> None:
        self.ids: list[str] = []
        self._size = size
        self._seen = 0

    def add(self, session_id: str) -> None:
        self._seen += 1
        if len(self.ids) < self._size:
            self.ids.append(session_id)
        elif (place := random.randrange(self._seen)) < self._size:  # noqa: S311 - no secret
            self.ids[place] = session_id


class Listed(msgspec.Struct, kw_only=True):
    """What a listing found."""

    sessions: int = 0
    active: int = 0
    first: str | None = None
    """The earliest begin, ISO 8601."""
    last: str | None = None
    requests: int = 0
    seconds: float = 0.0

    def add(self, session: Session) -> None:
        self.sessions += 1
        self.active += session.status is SessionStatus.ACTIVE
        begin = format_api_time(session.start_time_text)
        if begin is not None:
            self.first = begin if self.first is None else min(self.first, begin)
            self.last = begin if self.last is None else max(self.last, begin)


class SampledSessions(msgspec.Struct, kw_only=True):
    """What the messages of a sample took."""

    sessions: int = 0
    failed: int = 0
    messages: int = 0
    requests: int = 0
    empty_pages: int = 0
    """Pages without a message, which the cursor of a short page led to."""
    seconds: float = 0.0


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to fetch everything."""

    sampled: int
    """How many sessions of the sample were fetched."""
    unasked: int
    """How many of the sample failed."""
    messages: int
    requests: int
    listing_requests: int
    messages_requests: int
    requests_per_session: float
    cursors_on_last_pages: bool
    """Whether the server puts a cursor on last pages: then most sessions cost a request more."""
    requests_per_second: float
    minutes: float


def estimate(listed: Listed, sample: SampledSessions, rate: float | None = None) -> Estimate:
    """What all of *listed* takes, if it is like *sample*; *rate* is a bound of requests a second."""
    each = sample.requests / max(1, sample.sessions)
    messages_requests = round(each * listed.sessions)
    requests = listed.requests + messages_requests
    speed = max(sample.requests, 1) / max(sample.seconds, 1e-3)
    if rate is not None:
        speed = min(speed, rate)
    return Estimate(
        sampled=sample.sessions,
        unasked=sample.failed,
        messages=round(sample.messages / max(1, sample.sessions) * listed.sessions),
        requests=requests,
        listing_requests=listed.requests,
        messages_requests=messages_requests,
        requests_per_session=round(each, 2),
        cursors_on_last_pages=sample.empty_pages > 0,
        requests_per_second=round(speed, 1),
        minutes=round(requests / speed / 60, 2),
    )


@command("listing", "known_store", "project", SCOPE, CONNECTION)
def plan(*, settings: Settings, known_store: Place | None) -> int:
    """Estimate an export: sessions, messages, requests, minutes.

    All sessions are listed, and the messages of some of them fetched; nothing is saved.

    Examples:
      navtalk plan
      navtalk plan --start 2025-11-01 --rate 10
      navtalk plan --sandbox --json
    """

    async def work() -> int:
        observer = waits_reported(settings.reporter, settings.progress_mode)
        async with settings.client(observer) as client:
            scope = settings.scope(client)
            listed, sample = Listed(), Sample()

            def count() -> dict[str, int]:
                return {"sessions listed": listed.sessions, "requests": client.stats().requests}

            doing = "Listing sessions, and fetching the messages of some; nothing is saved"
            async with counting(settings.reporter, settings.progress_mode, doing=doing, count=count):
                await _list(client, settings, scope, listed, sample)
                fetched = await _fetch(client, settings, scope, sample.ids)
            found = estimate(listed, fetched, settings.rate)
        kept = None if known_store is None else await _kept(known_store, settings.project)
        if settings.as_json:
            await put_json(
                {"command": "plan", "exit_code": 0, "listed": listed, "estimate": found, "kept": kept}
            )
        else:
            await put_lines(plan_sentences(listed, found, kept))
        return Exit.OK

    return run(work(), settings.reporter)


async def _list(client: Client, settings: Settings, scope: Scope, listed: Listed, sample: Sample) -> None:
    began, asked = perf_counter(), client.stats().requests
    if scope.sessions:
        for session_id in scope.sessions:
            listed.add(await client.get_session(session_id))
            sample.add(session_id)
    else:
        pool = SessionPool(client, concurrency=settings.concurrency, listing=settings.listing)
        pages = pool.session_pages(order="done", **scope.of_sessions)
        async with aclosing(pages):
            async for page in pages:
                for session in page:
                    listed.add(session)
                    sample.add(session.id)
    listed.requests = client.stats().requests - asked
    listed.seconds = round(perf_counter() - began, 3)


async def _fetch(client: Client, settings: Settings, scope: Scope, ids: Sequence[str]) -> SampledSessions:
    """Fetch the messages of these sessions; where all of them fail, the first error is raised."""
    fetched, failed = SampledSessions(), list[NavTalkError]()
    began = perf_counter()

    async def fetch(session_id: str) -> None:
        requests = empty = 0

        async def ask(request: Request) -> Page[Message]:
            nonlocal requests, empty
            page = await inside(client).page_of_messages(request)
            requests += 1
            empty += not page.items and requests > 1 and page.offset_param is None
            return page

        first = client.dialect.list_messages(session_id, **scope.of_messages)
        try:
            found = await fetch_messages(client, first, ask=ask)
        except NotFound:
            return  # It was deleted since it was listed.
        except NavTalkError as error:
            if fault_scope(error) == "run":
                raise
            failed.append(error)
            return
        fetched.sessions += 1
        fetched.messages += len(found.items)
        fetched.requests += requests
        fetched.empty_pages += empty

    async def batch() -> AsyncGenerator[Sequence[str], None]:
        yield ids

    async with FanOut(fetch, batch(), at_once=limiter_of(client, settings.concurrency)) as answers:
        async for _ in answers:
            pass
    if failed and not fetched.sessions:
        raise failed[0]
    fetched.failed, fetched.seconds = len(failed), perf_counter() - began
    return fetched


async def _kept(place: Place, project: str) -> dict[str, int]:
    async with readable(place) as archive:
        counts = await archive.counts(project)
    return {"sessions": counts.sessions, "messages": counts.messages}


def _duration(found: Estimate) -> str:
    if found.minutes < 2:
        return counted(max(1, round(found.minutes * 60)), "second")
    return f"{found.minutes:,.1f} minutes"


def plan_sentences(listed: Listed, found: Estimate, kept: dict[str, int] | None) -> list[str]:
    span = f", begun between {listed.first} and {listed.last}" if listed.first else ""
    parts = f"{found.listing_requests:,} to list, {found.requests_per_session:.2f} a session for its messages"
    lines = [
        f"{counted(listed.sessions, 'session')}{span}; {listed.active:,} active.",
        f"About {counted(found.messages, 'message')}, by {counted(found.sampled, 'session')} at random.",
        f"About {counted(found.requests, 'request')}: {parts}.",
        f"About {_duration(found)}, at {counted(round(found.requests_per_second), 'request')} a second.",
    ]
    if found.unasked:
        lines.append(f"Left out, because their messages failed: {counted(found.unasked, 'session')}.")
    if found.cursors_on_last_pages:
        lines.append(
            "The server puts a cursor on last pages, which cost a request more each; --short-pages audit "
            "saves most of these."
        )
    if kept is not None:
        lines.append(
            f"Of that, {counted(kept['sessions'], 'session')} with {counted(kept['messages'], 'message')} "
            "are saved already."
        )
    return lines
