"""Look at what the API has, and save nothing: `sessions`, `session`, `messages`, `transcript`."""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from navtalk_async.archive.rows import message_row, session_row
from navtalk_async.cli._options import CONNECTION, command
from navtalk_async.cli._output import (
    details_text,
    messages_table,
    put,
    put_json,
    sessions_table,
    tab_separated,
    transcript_text,
)
from navtalk_async.cli._progress import waits_reported
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.cli.app import run
from navtalk_async.client import Client
from navtalk_async.formats import message_fields, session_fields
from navtalk_async.models import Message, Page, Session
from navtalk_async.pool import SessionPool

T = TypeVar("T")

Fields = dict[str, Any]

SESSIONS = sessions_table, ("id", "status", "start_time", "end_time", "video_url")
MESSAGES = messages_table, ("position", "id", "created_at", "role", "type", "content")
"""How rows are shown: as a table on a terminal, else as columns between tabs."""


@command("start", "end", "status", "user", "agent_type", "listing", CONNECTION)
def sessions(*, settings: Settings) -> int:
    """List sessions, in the API's order.

    NavTalk's and Lexicon's give the oldest first.

    Examples:
      navtalk sessions --start 2025-11-12 --status failed
      navtalk sessions --json | jq -r .id
    """

    async def look(client: Client) -> None:
        pool = SessionPool(client, concurrency=settings.concurrency, listing=settings.listing)
        with usage_errors():
            pages = pool.session_pages(
                start_time=settings.start,
                end_time=settings.end,
                status=settings.status,
                user_id=settings.user,
                agent_type=settings.agent_type,
            )
        await _show(settings, pages, lambda _, each: _session_fields(client, each), SESSIONS)

    return _run(settings, look)


@command("session_id", CONNECTION)
def session(*, settings: Settings, session_id: str) -> int:
    """Show one session, without its messages."""

    async def look(client: Client) -> None:
        fields = await _session(client, session_id)
        await (put_json(fields) if settings.as_json else put(details_text(fields)))

    return _run(settings, look)


@command("session_id", "start", "end", "role", CONNECTION)
def messages(*, settings: Settings, session_id: str) -> int:
    """List the messages of one session."""

    async def look(client: Client) -> None:
        with usage_errors():
            found = client.list_messages(
                session_id, start_time=settings.start, end_time=settings.end, role=settings.role
            )
        fields_of = partial(_message_fields, client, session_id)
        await _show(settings, found.pages(), fields_of, MESSAGES)

    return _run(settings, look)


@command("session_id", CONNECTION)
def transcript(*, settings: Settings, session_id: str) -> int:
    """Show one session with all its messages.

    With --json it is an object as in transcripts.jsonl.
    """

    async def look(client: Client) -> None:
        fields = await _session(client, session_id)
        said = [each async for each in client.list_messages(session_id)]
        found = [_message_fields(client, session_id, number, each) for number, each in enumerate(said)]
        if settings.as_json:
            await put_json(fields | {"messages": found})
        else:
            await put(transcript_text(fields, found))

    return _run(settings, look)


def _run(settings: Settings, look: Callable[[Client], Awaitable[None]]) -> int:
    async def work() -> int:
        async with settings.client(waits_reported(settings.reporter, settings.progress)) as client:
            await look(client)
        return 0

    return run(work(), settings.reporter)


async def _show(
    settings: Settings,
    pages: AsyncGenerator[list[T] | Page[T], None],
    fields_of: Callable[[int, T], Fields],
    shown: tuple[Callable[..., str], tuple[str, ...]],
) -> None:
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    table, columns = shown
    count, header = 0, True
    async with aclosing(pages):
        async for page in pages:
            items = page.items if isinstance(page, Page) else page
            rows = [fields_of(number, each) for number, each in enumerate(items, count)]
            count += len(rows)
            if settings.as_json:
                await put_json(*rows)
            elif is_terminal:
                await put(table(rows, header=header))
            else:
                await put(tab_separated(columns, rows, header=header))
            header = False


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
