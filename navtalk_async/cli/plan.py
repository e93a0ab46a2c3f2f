"""What an export would take: `plan`."""

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Literal, NamedTuple

import click
import msgspec

from navtalk_async.archive.rows import iso
from navtalk_async.cli.connection import Shell, talks_to_api
from navtalk_async.cli.exits import Exit
from navtalk_async.cli.options import LISTING, as_name, examples
from navtalk_async.cli.reading import Place, as_place, readable
from navtalk_async.cli.reporting import counting, waits_told
from navtalk_async.cli.running import run
from navtalk_async.cli.scope import check_scope, takes_scope
from navtalk_async.cli.show import put, put_json
from navtalk_async.cli.talk import counted, visible
from navtalk_async.client import Client
from navtalk_async.concurrency import FanOut
from navtalk_async.errors import NavTalkError, NotFound
from navtalk_async.ingest import Scope
from navtalk_async.ingest.fetch import is_of_the_run
from navtalk_async.models import Session, SessionStatus
from navtalk_async.paging import walk
from navtalk_async.pool import Limiter, SessionPool

__all__ = ["Estimate", "Listed", "Sample", "Sampled", "estimate", "plan", "plan_sentences"]

SAMPLE = 50


class Sampled(NamedTuple):
    """What a session's messages took."""

    requests: int
    messages: int
    empty_pages: int
    """Pages without a message behind a short one, which its cursor led to."""


class Sample:
    """Some of all sessions, each as likely as any other, however many there are (reservoir sampling)."""

    def __init__(self, size: int = SAMPLE) -> None:
        self.ids: list[str] = []
        self._size = size
        self._seen = 0

    def add(self, session_id: str) -> None:
        """Another session."""
        self._seen += 1
        if len(self.ids) < self._size:
            self.ids.append(session_id)
        elif (place := random.randrange(self._seen)) < self._size:  # noqa: S311 - no secret
            self.ids[place] = session_id


class Listed(msgspec.Struct, kw_only=True):
    """What a listing came to."""

    sessions: int = 0
    active: int = 0
    first: str | None = None
    """The least begin, ISO 8601."""
    last: str | None = None
    requests: int = 0
    seconds: float = 0.0

    def add(self, session: Session) -> None:
        """Count *session*."""
        self.sessions += 1
        self.active += session.status is SessionStatus.ACTIVE
        begin = iso(session.start_time_text)
        if begin is not None:
            self.first = begin if self.first is None else min(self.first, begin)
            self.last = begin if self.last is None else max(self.last, begin)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What it would take to get everything."""

    sampled: int
    """How many sessions were asked for their messages, and gave them."""
    unasked: int = 0
    """How many were asked for them, and could not be had."""
    messages: int
    requests: int
    listing_requests: int
    messages_requests: int
    requests_per_session: float
    cursors_on_last_pages: bool
    """Whether the server puts a cursor on last pages: then most sessions cost a request more."""
    requests_per_second: float
    minutes: float


def estimate(
    listed: Listed, sampled: Sequence[Sampled], *, seconds: float, rate: float | None, unasked: int = 0
) -> Estimate:
    """What all of *listed* takes, if those *sampled*, which took so many *seconds*, are like the others;
    *rate* is a bound of requests a second, and *unasked* how many could not be had.
    """
    count = max(1, len(sampled))
    asked = sum(one.requests for one in sampled)
    each = asked / count
    messages_requests = round(each * listed.sessions)
    requests = listed.requests + messages_requests
    pace = max(asked, 1) / max(seconds, 1e-3)
    if rate is not None:
        pace = min(pace, rate)
    return Estimate(
        sampled=len(sampled),
        unasked=unasked,
        messages=round(sum(one.messages for one in sampled) / count * listed.sessions),
        requests=requests,
        listing_requests=listed.requests,
        messages_requests=messages_requests,
        requests_per_session=round(each, 2),
        cursors_on_last_pages=any(one.empty_pages for one in sampled),
        requests_per_second=round(pace, 1),
        minutes=round(requests / pace / 60, 2),
    )


@click.command(
    epilog=examples(
        "navtalk plan", "navtalk plan --start 2025-11-01 --rate 10", "navtalk plan --sandbox --json"
    )
)
@LISTING
@click.option("--store", type=as_place, metavar="STORE|DEST", help="Tell how much of it is in there already.")
@click.option(
    "--project",
    type=as_name,
    metavar="NAME",
    default="default",
    help="The name the key's project has in that archive.",
)
@takes_scope
@talks_to_api
def plan(
    *,
    shell: Shell,
    scope: Scope,
    listing: Literal["auto", "serial"],
    store: Place | None,
    project: str,
) -> int:
    """Tell what an export would take: sessions, messages, requests and minutes.

    All sessions are listed, and some of them asked for their messages; nothing is kept.
    """

    async def work() -> int:
        observer = waits_told(shell.talk, shell.progress)
        async with shell.connection.client(observer) as client:
            check_scope(client, scope)
            listed, sample = Listed(), Sample()

            def count() -> dict[str, int]:
                return {"sessions listed": listed.sessions, "requests": client.stats().requests}

            what = "Listing sessions, and asking some for their messages; nothing is kept"
            async with counting(shell.talk, shell.progress, what=what, count=count):
                await _list(client, shell, scope, listing=listing, listed=listed, sample=sample)
                began = perf_counter()
                sampled, unasked = await _ask(client, shell, scope, sample.ids)
                seconds = perf_counter() - began
            told = estimate(listed, sampled, seconds=seconds, rate=shell.connection.rate, unasked=unasked)
        kept = None if store is None else await _kept(store, project)
        if shell.as_json:
            await put_json(
                {"command": "plan", "exit_code": 0, "listed": listed, "estimate": told, "kept": kept}
            )
        else:
            sentences = plan_sentences(listed, told, kept)
            await put("".join(f"{visible(each)}\n" for each in sentences))
        return Exit.OK

    return run(work(), shell.talk)


async def _list(
    client: Client,
    shell: Shell,
    scope: Scope,
    *,
    listing: Literal["auto", "serial"],
    listed: Listed,
    sample: Sample,
) -> None:
    """List all sessions in *scope* into *listed* and *sample*."""
    began, asked = perf_counter(), client.stats().requests
    if scope.sessions:
        for session_id in scope.sessions:
            listed.add(await client.get_session(session_id))
            sample.add(session_id)
    else:
        pool = SessionPool(client, concurrency=shell.connection.concurrency, listing=listing)
        pages = pool.session_pages(order="done", **scope.of_sessions)
        async with aclosing(pages):
            async for page in pages:
                for session in page:
                    listed.add(session)
                    sample.add(session.id)
    listed.requests = client.stats().requests - asked
    listed.seconds = round(perf_counter() - began, 3)


async def _ask(client: Client, shell: Shell, scope: Scope, ids: Sequence[str]) -> tuple[list[Sampled], int]:
    """What the messages of some sessions took, and how many of these could not be had.

    Raises:
        NavTalkError: the API cannot be asked, or not for any of them.
    """
    dialect = client.dialect
    errors: list[NavTalkError] = []

    async def ask(session_id: str) -> Sampled | None:
        requests = messages = empty = 0
        first = dialect.list_messages(session_id, **scope.of_messages)
        pages = walk(client.page_of_messages, first, client.moved)
        try:
            async with aclosing(pages):
                async for page in pages:
                    requests += 1
                    messages += len(page.items)
                    empty += not page.items and requests > 1 and page.offset_param is None
        except NotFound:
            return None  # It vanished since it was listed.
        except NavTalkError as error:
            if is_of_the_run(error):
                raise
            errors.append(error)
            return None
        return Sampled(requests, messages, empty)

    async def batch() -> AsyncGenerator[Sequence[str], None]:
        yield ids

    async with FanOut(ask, batch(), at_once=Limiter(client, shell.connection.concurrency)) as answers:
        sampled = [each async for each in answers if each is not None]
    if errors and not sampled:
        raise errors[0]
    return sampled, len(errors)


async def _kept(store: Place, project: str) -> dict[str, int]:
    async with readable(store) as reader:
        counts = await reader.counts(project)
    return {"sessions": counts.sessions, "messages": counts.messages}


def plan_sentences(listed: Listed, told: Estimate, kept: dict[str, int] | None) -> list[str]:
    """The plan for people, a line each."""
    span = f", begun between {listed.first} and {listed.last}" if listed.first else ""
    parts = f"{told.listing_requests:,} to list, {told.requests_per_session:.2f} a session for its messages"
    pace = f"{told.requests_per_second:,.0f} requests a second"
    lines = [
        f"{counted(listed.sessions, 'session')}{span}; {listed.active:,} active.",
        f"About {counted(told.messages, 'message')}, by {counted(told.sampled, 'session')} picked at random.",
        f"About {counted(told.requests, 'request')}: {parts}.",
        f"About {told.minutes:.1f} minutes, at the pace just measured: {pace}.",
    ]
    if told.unasked:
        lines.append(f"Left out, since their messages could not be had: {counted(told.unasked, 'session')}.")
    if told.cursors_on_last_pages:
        lines.append(
            "The server puts a cursor on last pages, which cost a request more each; --short-pages audit "
            "saves most of these."
        )
    if kept is not None:
        lines.append(
            f"Of that, {counted(kept['sessions'], 'session')} with {counted(kept['messages'], 'message')} "
            "are kept already."
        )
    return lines
