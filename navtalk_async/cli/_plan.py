"""`navtalk plan`: what an export would take; counted, sampled and estimated."""

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from math import sqrt
from time import perf_counter
from typing import Any

import click
import msgspec

from navtalk_async.archive import Archive
from navtalk_async.archive.rows import format_api_time
from navtalk_async.cli._config import code_of_all, every_project
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._options import CONNECTION, SCOPE, Place, command
from navtalk_async.cli._output import amount, put_json, put_lines
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.cli.app import Exit, report_error, run
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import FanOut
from navtalk_async.errors import NavTalkError, NotFound, counted
from navtalk_async.ingest.scope import Scope
from navtalk_async.listing.fetch import fault_scope, fetch_messages
from navtalk_async.models import Message, Page, Request, Session, SessionStatus
from navtalk_async.pool import SessionPool, limiter_of

SAMPLE = 50
LARGER_SAMPLE = 600
"""For a long export: only a speed that is kept up tells how a server limits, and how far it can be asked."""

LONG_SECONDS = 5.0
TIME_MARGIN = 0.25


class Listed(msgspec.Struct, kw_only=True):
    sessions: int = 0
    to_fetch: int = 0
    """Those of which the messages are to be fetched: all, or what an archive does not hold."""
    active: int = 0
    first: str | None = None
    """The earliest begin, ISO 8601."""
    last: str | None = None
    requests: int = 0
    seconds: float = 0.0

    def add(self, session: Session) -> None:
        self.sessions += 1
        self.to_fetch += 1
        self.active += session.status is SessionStatus.ACTIVE
        begin = format_api_time(session.start_time_text)
        if begin is not None:
            self.first = begin if self.first is None else min(self.first, begin)
            self.last = begin if self.last is None else max(self.last, begin)


@dataclass(kw_only=True)
class Sample:
    """Some of all sessions, and what their messages took."""

    size: int = SAMPLE
    ids: list[str] = field(default_factory=list[str])
    offered: int = 0
    fetched: int = 0
    failed: int = 0
    messages: int = 0
    requests: int = 0
    empty_pages: int = 0
    """Pages without a message, which the cursor of a short page led to."""
    seconds: float = 0.0
    squares: int = 0
    """The squares of how many messages each session has, added up."""
    ends: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """When sessions were fetched, in seconds since the beginning, and how many requests that made."""

    @property
    def speed(self) -> float:
        """Requests a second, of the later half: the first ones leave all at once, or carefully."""
        speed = max(self.requests, 1) / max(self.seconds, 1e-3)
        if len(self.ends) <= SAMPLE:
            return speed
        (began, before), (ended, after) = self.ends[len(self.ends) // 2], self.ends[-1]
        return (after - before) / max(ended - began, 1e-3)

    def add(self, messages: int, requests: int, seconds: float) -> None:
        self.fetched += 1
        self.messages += messages
        self.squares += messages * messages
        self.requests += requests
        self.ends.append((seconds, self.requests))

    def messages_margin(self, sessions: int) -> int:
        """How far the messages of so many *sessions* may be from the estimate (in 19 of 20 samples)."""
        if self.fetched < 2 or sessions <= 0:
            return 0
        mean = self.messages / self.fetched
        variance = max(0.0, self.squares - self.fetched * mean * mean) / (self.fetched - 1)
        unseen = max(0.0, 1 - self.fetched / sessions)
        return round(1.96 * sessions * sqrt(variance / self.fetched * unseen))

    def offer(self, session_id: str) -> None:
        """Sample a session as likely as any other, however many there are (reservoir sampling)."""
        self.offered += 1
        if len(self.ids) < self.size:
            self.ids.append(session_id)
        elif (place := random.randrange(self.offered)) < self.size:  # noqa: S311 - no secret
            self.ids[place] = session_id


def estimate(listed: Listed, sample: Sample, rate: float | None = None) -> dict[str, Any]:
    """What all of *listed* takes, if it is like *sample*; *rate* is a bound of requests a second."""
    each, to_fetch = sample.requests / max(1, sample.fetched), listed.to_fetch
    messages_requests = round(each * to_fetch)
    # A later run lists only what began since.
    listing_requests = (
        -(-listed.requests * to_fetch // listed.sessions) if listed.sessions else listed.requests
    )
    requests = listing_requests + messages_requests
    speed = sample.speed if rate is None else min(sample.speed, rate)
    messages, margin = (
        round(sample.messages / max(1, sample.fetched) * to_fetch),
        sample.messages_margin(to_fetch),
    )
    minutes = requests / speed / 60
    return {
        "sampled": sample.fetched,
        "unasked": sample.failed,
        "sessions": to_fetch,
        "messages": messages,
        "messages_margin": margin,
        "requests": requests,
        "listing_requests": listing_requests,
        "messages_requests": messages_requests,
        "requests_per_session": round(each, 2),
        # Where the server puts a cursor on last pages, most sessions cost a request more.
        "cursors_on_last_pages": sample.empty_pages > 0,
        "requests_per_second": round(speed, 1),
        "minutes": round(minutes, 2),
        "minutes_margin": round(minutes * TIME_MARGIN, 2),
    }


def plan_sentences(listed: Listed, found: dict[str, Any], kept: dict[str, int] | None) -> list[str]:
    span = f", begun between {listed.first} and {listed.last}" if listed.first else ""
    each = f"{found['requests_per_session']:.2f} a session for its messages"
    duration = _duration(found["minutes"], found["minutes_margin"])
    margin = f" (± {found['messages_margin']:,})" if found["messages_margin"] else ""
    sampled = counted(found["sampled"], "session")
    lines = [
        f"{counted(listed.sessions, 'session')}{span}; {listed.active:,} active.",
        f"About {counted(found['messages'], 'message')}{margin}, by {sampled} at random.",
        f"About {counted(found['requests'], 'request')}: {found['listing_requests']:,} to list, {each}.",
        f"About {duration}, at {counted(round(found['requests_per_second']), 'request')} a second.",
    ]
    if found["unasked"]:
        lines.append(f"Left out, because their messages failed: {counted(found['unasked'], 'session')}.")
    if found["cursors_on_last_pages"]:
        lines.append(
            "The server puts a cursor on last pages, which cost a request more each; --short-pages audit "
            "saves most of these."
        )
    if kept is not None:
        saved = amount(kept["sessions"], kept["messages"])
        left = counted(found["sessions"], "session")
        lines.append(f"{saved} are saved already; the figures are of what is left: {left}.")
    return lines


def _duration(minutes: float, margin: float) -> str:
    if minutes >= 2:
        return f"{minutes:,.1f} minutes (± {margin:,.1f})"
    return f"{counted(max(1, round(minutes * 60)), 'second')} (± {max(1, round(margin * 60))})"


@command("listing", "known_store", "project", SCOPE, CONNECTION, needs_key=False)
def plan_command(*, settings: Settings, known_store: Place | None) -> int:
    """Estimate an export: sessions, messages, requests, minutes.

    All sessions are listed, and the messages of some of them fetched; nothing is saved. With --config, that
    is done for each project of the file in turn, or for that of --project.

    Examples:
      navtalk plan
      navtalk plan --start 2025-11-01 --rate 10
      navtalk plan --sandbox --json
    """
    several, reporter = every_project(), settings.reporter
    for each in several:
        # The keys are read before there is a loop to hold up; of several, one may be missing.
        with usage_errors() if len(several) == 1 else suppress(click.UsageError):
            each.key.read()

    async def plan(each: Settings) -> int:
        try:
            async with each.client(waits_reported(each.reporter, each.progress_mode)) as client:
                await _plan(client, each, known_store, is_named=len(several) > 1)
        except (NavTalkError, click.UsageError) as error:
            if len(several) == 1:
                raise
            if isinstance(error, NavTalkError):
                return report_error(error, reporter, before=f"{each.project} failed: ")
            reporter.note(f"{each.project} is left out: {error.message}")
            return Exit.USAGE
        return Exit.OK

    async def work() -> int:
        return code_of_all([await plan(each) for each in several])

    return run(work(), reporter)


async def _plan(client: Client, settings: Settings, known_store: Place | None, *, is_named: bool) -> None:
    scope, listed, sample = settings.scope(client), Listed(), Sample(size=LARGER_SAMPLE)

    def count() -> dict[str, int]:
        return {"sessions listed": listed.sessions, "requests": client.stats().requests}

    doing = "Listing sessions, and fetching the messages of some; nothing is saved"
    async with counting(settings.reporter, settings.progress_mode, doing=doing, look=count):
        kept = None
        async with AsyncExitStack() as stack:
            archive = None
            if known_store is not None:
                archive = await stack.enter_async_context(readable(known_store))
                counts = await archive.counts(settings.project)
                kept = {"sessions": counts.sessions, "messages": counts.messages}
            await _list(client, settings, scope, listed, sample, archive)
            if archive is not None:
                listed.to_fetch += counts.pending + counts.watched
        await _fetch_enough(client, settings, scope, listed, sample)
    found = estimate(listed, sample, settings.rate)
    if settings.as_json:
        facts = {"listed": listed, "estimate": found, "kept": kept}
        await put_json({"command": "plan", "exit_code": 0, "project": settings.project, **facts})
    else:
        title = [f"{settings.project}:"] if is_named else []
        await put_lines([*title, *plan_sentences(listed, found, kept)])


async def _list(  # noqa: PLR0917 - what is written to, and from what
    client: Client, settings: Settings, scope: Scope, listed: Listed, sample: Sample, archive: Archive | None
) -> None:
    """List all sessions; those that *archive* holds are not to be fetched."""
    began, asked = perf_counter(), client.stats().requests

    async def add(sessions: Sequence[Session]) -> None:
        for session in sessions:
            listed.add(session)
            sample.offer(session.id)
        if archive is not None:
            ids = [session.id for session in sessions]
            listed.to_fetch -= len(ids) - len(await archive.lacks(settings.project, ids))

    for session_id in scope.sessions:
        await add([await client.get_session(session_id)])
    if not scope.sessions:
        pool = SessionPool(
            client, concurrency=settings.concurrency, listing=settings.options.get("listing", "auto")
        )
        async with aclosing(pool.session_pages(order="done", **scope.of_sessions)) as pages:
            async for page in pages:
                await add(page)
    listed.requests = client.stats().requests - asked
    listed.seconds = round(perf_counter() - began, 3)


async def _fetch_enough(
    client: Client, settings: Settings, scope: Scope, listed: Listed, sample: Sample
) -> None:
    """Fetch the messages of some sessions, and where an export takes long, of a fifth of them or more."""
    random.shuffle(sample.ids)
    first, more = sample.ids[:SAMPLE], sample.ids[SAMPLE : max(SAMPLE, listed.sessions // 5)]
    await _fetch(client, settings, scope, sample, first)
    if more and estimate(listed, sample, settings.rate)["minutes"] * 60 > LONG_SECONDS:
        await _fetch(client, settings, scope, sample, more)


async def _fetch(
    client: Client, settings: Settings, scope: Scope, sample: Sample, ids: Sequence[str]
) -> None:
    """Fetch the messages of *ids*; where all of them fail, the first error is raised."""
    failed, began = list[NavTalkError](), perf_counter() - sample.seconds

    async def fetch(session_id: str) -> None:
        pages: list[Page[Message]] = []

        async def ask(request: Request) -> Page[Message]:
            pages.append(await inside(client).page_of_messages(request))
            return pages[-1]

        try:
            first = client.dialect.list_messages(session_id, **scope.of_messages)
            found = await fetch_messages(client, first, ask=ask)
        except NotFound:
            return  # It was deleted since it was listed.
        except NavTalkError as error:
            if fault_scope(error) == "run":
                raise
            failed.append(error)
            return
        sample.add(len(found.items), len(pages), perf_counter() - began)
        sample.empty_pages += sum(not page.items and page.offset_param is None for page in pages[1:])

    async def batch() -> AsyncGenerator[Sequence[str], None]:
        yield ids

    async with FanOut(fetch, batch(), at_once=limiter_of(client, settings.concurrency)) as answers:
        async for _ in answers:
            pass
    if failed and not sample.fetched:
        raise failed[0]
    sample.failed, sample.seconds = sample.failed + len(failed), perf_counter() - began
