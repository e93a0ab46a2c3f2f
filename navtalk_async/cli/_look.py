"""Commands that ask the API and save nothing: `sessions`, `session`, `messages`, `transcript` and `plan`."""

import random
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial, wraps
from time import perf_counter
from typing import Any, TypeVar

import click
import msgspec

from navtalk_async.archive.rows import format_api_time, message_row, session_row
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._options import CONNECTION, SCOPE, Place, command
from navtalk_async.cli._output import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    amount,
    details_text,
    put,
    put_json,
    put_lines,
    tab_separated,
    table,
    transcript_text,
)
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.cli.app import run
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import FanOut
from navtalk_async.errors import NavTalkError, NotFound, counted
from navtalk_async.formats import message_fields, session_fields
from navtalk_async.ingest.scope import Scope
from navtalk_async.listing.fetch import fault_scope, fetch_messages
from navtalk_async.models import Message, Page, Request, Session, SessionStatus
from navtalk_async.pool import SessionPool, limiter_of

T = TypeVar("T")

Fields = dict[str, Any]

SESSION_CELLS = ("id", "status", "start_time", "end_time", "video_url", "updated_at", "title")
MESSAGE_CELLS = ("position", "id", "created_at", "role", "type", "content")


def asking(*names: str | Sequence[str]) -> Callable[[Callable[..., Awaitable[None]]], click.Command]:
    """Make a command of a function that asks a client; it has these options, and those of the connection."""

    def decorate(look: Callable[..., Awaitable[None]]) -> click.Command:
        @wraps(look)
        def function(*, settings: Settings, **given: Any) -> int:
            async def work() -> int:
                waits = waits_reported(settings.reporter, settings.progress_mode)
                async with settings.client(waits) as client:
                    await look(client, settings, **given)
                return 0

            return run(work(), settings.reporter)

        return command(*names, CONNECTION)(function)

    return decorate


@asking("start_time", "end_time", "status", "user_id", "agent_type", "listing")
async def sessions_command(client: Client, settings: Settings) -> None:
    """List sessions, in the API's order.

    NavTalk's and Lexicon's give the oldest first.

    Examples:
      navtalk sessions --start 2025-11-12 --status failed
      navtalk sessions --json | jq -r .id
    """
    pool = SessionPool(client, concurrency=settings.concurrency, listing=settings.options["listing"])
    pages = pool.session_pages(**settings.scope(client).of_sessions)
    known = client.dialect.record_kinds[0].__struct_fields__
    columns = {name: size for name, size in SESSION_COLUMNS.items() if {name, f"{name}_text"} & {*known}}
    await _show(
        settings,
        pages,
        lambda _, each: _session_fields(client, each),
        columns,
        SESSION_CELLS,
        nouns="sessions",
    )


@asking("session_id")
async def session_command(client: Client, settings: Settings, session_id: str) -> None:
    """Show one session, without its messages."""
    fields = await _session(client, session_id)
    await (put_json(fields) if settings.as_json else put(details_text(fields)))


@asking("session_id", "start_time", "end_time", "role")
async def messages_command(client: Client, settings: Settings, session_id: str) -> None:
    """List the messages of one session."""
    with usage_errors():
        found = client.list_messages(session_id, **settings.options)
    fields_of = partial(_message_fields, client, session_id)
    await _show(settings, found.pages(), fields_of, MESSAGE_COLUMNS, MESSAGE_CELLS, nouns="messages")


@asking("session_id")
async def transcript_command(client: Client, settings: Settings, session_id: str) -> None:
    """Show one session with all its messages.

    With --json it is an object as in transcripts.jsonl.
    """
    fields = await _session(client, session_id)
    said = [each async for each in client.list_messages(session_id)]
    found = [_message_fields(client, session_id, number, each) for number, each in enumerate(said)]
    if settings.as_json:
        await put_json(fields | {"messages": found})
    else:
        await put(transcript_text(fields, found))


async def _show(
    settings: Settings,
    pages: AsyncGenerator[list[T] | Page[T], None],
    fields_of: Callable[[int, T], Fields],
    columns: Mapping[str, int],
    cells: Sequence[str],
    *,
    nouns: str,
) -> None:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    count, header = 0, True
    async with aclosing(pages):
        async for page in pages:
            items = page.items if isinstance(page, Page) else page
            rows = [fields_of(number, each) for number, each in enumerate(items, count)]
            count += len(rows)
            if settings.as_json:
                await put_json(*rows)
            elif is_terminal:
                await put(table(columns, rows, header=header))
            else:
                await put(tab_separated(cells, rows, header=header))
            header = False
    if not count and not settings.as_json:
        settings.reporter.note(f"No {nouns}.")


async def _session(client: Client, session_id: str) -> Fields:
    with usage_errors():
        request = client.dialect.get_session(client.dialect.checked_id(session_id))
    return _session_fields(client, await client.ask(request, client.dialect.read_session))


def _session_fields(client: Client, found: Session) -> Fields:
    """As in our files, without what only an archive knows."""
    row = session_row("", client.dialect.api, found, "")
    fields = session_fields(row, client.dialect.record_kinds[0])
    return {name: value for name, value in fields.items() if name not in ("project", "deleted_at")}


def _message_fields(client: Client, session_id: str, number: int, message: Message) -> Fields:
    row = message_row("", str(session_id), number, message)
    return message_fields(row, client.dialect.record_kinds[1])


SAMPLE = 50


class Listed(msgspec.Struct, kw_only=True):
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


@dataclass(kw_only=True)
class Sample:
    """Some of all sessions, and what their messages took."""

    size: int = SAMPLE
    ids: list[str] = field(default_factory=list)
    offered: int = 0
    fetched: int = 0
    failed: int = 0
    messages: int = 0
    requests: int = 0
    empty_pages: int = 0
    """Pages without a message, which the cursor of a short page led to."""
    seconds: float = 0.0

    def offer(self, session_id: str) -> None:
        """Sample a session as likely as any other, however many there are (reservoir sampling)."""
        self.offered += 1
        if len(self.ids) < self.size:
            self.ids.append(session_id)
        elif (place := random.randrange(self.offered)) < self.size:  # noqa: S311 - no secret
            self.ids[place] = session_id


def estimate(listed: Listed, sample: Sample, rate: float | None = None) -> dict[str, Any]:
    """What all of *listed* takes, if it is like *sample*; *rate* is a bound of requests a second."""
    each = sample.requests / max(1, sample.fetched)
    messages_requests = round(each * listed.sessions)
    requests = listed.requests + messages_requests
    speed = max(sample.requests, 1) / max(sample.seconds, 1e-3)
    if rate is not None:
        speed = min(speed, rate)
    return {
        "sampled": sample.fetched,
        "unasked": sample.failed,
        "messages": round(sample.messages / max(1, sample.fetched) * listed.sessions),
        "requests": requests,
        "listing_requests": listed.requests,
        "messages_requests": messages_requests,
        "requests_per_session": round(each, 2),
        # Where the server puts a cursor on last pages, most sessions cost a request more.
        "cursors_on_last_pages": sample.empty_pages > 0,
        "requests_per_second": round(speed, 1),
        "minutes": round(requests / speed / 60, 2),
    }


@asking("listing", "known_store", "project", SCOPE)
async def plan_command(client: Client, settings: Settings, known_store: Place | None) -> None:
    """Estimate an export: sessions, messages, requests, minutes.

    All sessions are listed, and the messages of some of them fetched; nothing is saved.

    Examples:
      navtalk plan
      navtalk plan --start 2025-11-01 --rate 10
      navtalk plan --sandbox --json
    """
    scope, listed, sample = settings.scope(client), Listed(), Sample()

    def count() -> dict[str, int]:
        return {"sessions listed": listed.sessions, "requests": client.stats().requests}

    doing = "Listing sessions, and fetching the messages of some; nothing is saved"
    async with counting(settings.reporter, settings.progress_mode, doing=doing, look=count):
        await _list(client, settings, scope, listed, sample)
        await _fetch(client, settings, scope, sample)
    found, kept = estimate(listed, sample, settings.rate), None
    if known_store is not None:
        async with readable(known_store) as archive:
            counts = await archive.counts(settings.project)
        kept = {"sessions": counts.sessions, "messages": counts.messages}
    if settings.as_json:
        await put_json({"command": "plan", "exit_code": 0, "listed": listed, "estimate": found, "kept": kept})
    else:
        await put_lines(plan_sentences(listed, found, kept))


async def _list(client: Client, settings: Settings, scope: Scope, listed: Listed, sample: Sample) -> None:
    began, asked = perf_counter(), client.stats().requests

    def add(session: Session) -> None:
        listed.add(session)
        sample.offer(session.id)

    for session_id in scope.sessions:
        add(await client.get_session(session_id))
    if not scope.sessions:
        pool = SessionPool(client, concurrency=settings.concurrency, listing=settings.options["listing"])
        async with aclosing(pool.session_pages(order="done", **scope.of_sessions)) as pages:
            async for page in pages:
                for session in page:
                    add(session)
    listed.requests = client.stats().requests - asked
    listed.seconds = round(perf_counter() - began, 3)


async def _fetch(client: Client, settings: Settings, scope: Scope, sample: Sample) -> None:
    """Fetch the messages of a sample; where all of them fail, the first error is raised."""
    failed, began = list[NavTalkError](), perf_counter()

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
        sample.fetched += 1
        sample.messages += len(found.items)
        sample.requests += len(pages)
        sample.empty_pages += sum(not page.items and page.offset_param is None for page in pages[1:])

    async def batch() -> AsyncGenerator[Sequence[str], None]:
        yield sample.ids

    async with FanOut(fetch, batch(), at_once=limiter_of(client, settings.concurrency)) as answers:
        async for _ in answers:
            pass
    if failed and not sample.fetched:
        raise failed[0]
    sample.failed, sample.seconds = len(failed), perf_counter() - began


def plan_sentences(listed: Listed, found: dict[str, Any], kept: dict[str, int] | None) -> list[str]:
    span = f", begun between {listed.first} and {listed.last}" if listed.first else ""
    each = f"{found['requests_per_session']:.2f} a session for its messages"
    duration = f"{found['minutes']:,.1f} minutes"
    if found["minutes"] < 2:
        duration = counted(max(1, round(found["minutes"] * 60)), "second")
    sampled = counted(found["sampled"], "session")
    lines = [
        f"{counted(listed.sessions, 'session')}{span}; {listed.active:,} active.",
        f"About {counted(found['messages'], 'message')}, by {sampled} at random.",
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
        lines.append(f"Of that, {amount(kept['sessions'], kept['messages'])} are saved already.")
    return lines
