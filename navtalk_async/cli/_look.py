"""Commands that ask the API and save nothing: `sessions`, `session`, `messages`, `transcript` and `plan`."""

import random
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial, wraps
from time import perf_counter
from typing import Any, TypeVar

import click

from navtalk_async.archive import Archive
from navtalk_async.archive.rows import message_row, session_row
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._options import CONNECTION, SCOPE, Place, command
from navtalk_async.cli._output import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    details_text,
    put,
    put_json,
    put_lines,
    tab_separated,
    table,
    transcript_text,
)
from navtalk_async.cli._plan import (
    LARGER_SAMPLE,
    LONG_SECONDS,
    SAMPLE,
    Listed,
    Sample,
    estimate,
    plan_sentences,
)
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.cli.app import run
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import FanOut
from navtalk_async.errors import NavTalkError, NotFound
from navtalk_async.formats import message_fields, session_fields
from navtalk_async.ingest.scope import Scope
from navtalk_async.listing.fetch import fault_scope, fetch_messages
from navtalk_async.models import Message, Page, Request, Session
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


@asking("listing", "known_store", "project", SCOPE)
async def plan_command(client: Client, settings: Settings, known_store: Place | None) -> None:
    """Estimate an export: sessions, messages, requests, minutes.

    All sessions are listed, and the messages of some of them fetched; nothing is saved.

    Examples:
      navtalk plan
      navtalk plan --start 2025-11-01 --rate 10
      navtalk plan --sandbox --json
    """
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
        await put_json({"command": "plan", "exit_code": 0, "listed": listed, "estimate": found, "kept": kept})
    else:
        await put_lines(plan_sentences(listed, found, kept))


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
        pool = SessionPool(client, concurrency=settings.concurrency, listing=settings.options["listing"])
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
