"""Look at what the API has, and save nothing: `sessions`, `session`, `messages`, `transcript`."""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from navtalk_async.archive.rows import message_row, session_row
from navtalk_async.cli import _output
from navtalk_async.cli._options import CONNECTION, command
from navtalk_async.cli._output import details_text, put, put_json, tab_separated, transcript_text
from navtalk_async.cli._progress import waits_reported
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.cli.app import run
from navtalk_async.client import Client
from navtalk_async.formats import message_fields, session_fields
from navtalk_async.models import Message, Page, Session
from navtalk_async.pool import SessionPool

T = TypeVar("T")

Fields = dict[str, Any]

SESSION_COLUMNS = ("id", "status", "start_time", "end_time", "video_url")
MESSAGE_COLUMNS = ("position", "id", "created_at", "role", "type", "content")


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
        rows = _rows(pages, lambda _, each: _session_fields(client, each))
        await _show(settings, rows, _output.sessions_table, SESSION_COLUMNS)

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
            listing = client.list_messages(
                session_id, start_time=settings.start, end_time=settings.end, role=settings.role
            )
        pages = _items(listing.pages())
        rows = _rows(pages, lambda number, each: _message_fields(client, session_id, number, each))
        await _show(settings, rows, _output.messages_table, MESSAGE_COLUMNS)

    return _run(settings, look)


@command("session_id", CONNECTION)
def transcript(*, settings: Settings, session_id: str) -> int:
    """Show one session with all its messages.

    With --json it is an object as in transcripts.jsonl.
    """

    async def look(client: Client) -> None:
        fields = await _session(client, session_id)
        found = [
            _message_fields(client, session_id, number, each)
            for number, each in enumerate([message async for message in client.list_messages(session_id)])
        ]
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


async def _items(pages: AsyncGenerator[Page[T], None]) -> AsyncGenerator[list[T], None]:
    async with aclosing(pages):
        async for page in pages:
            yield page.items


async def _rows(
    pages: AsyncGenerator[list[T], None], fields_of: Callable[[int, T], Fields]
) -> AsyncGenerator[list[Fields], None]:
    """The fields of each row, page by page, by the number of the row and the row."""
    count = 0
    async with aclosing(pages):
        async for rows in pages:
            yield [fields_of(number, each) for number, each in enumerate(rows, count)]
            count += len(rows)


async def _show(
    settings: Settings,
    pages: AsyncGenerator[list[Fields], None],
    table: Callable[..., str],
    columns: tuple[str, ...],
) -> None:
    """Print each page as it arrives: as JSON, as a *table* on a terminal, or as *columns*."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    header = True
    async with aclosing(pages):
        async for rows in pages:
            if settings.as_json:
                await put_json(*rows)
            elif is_terminal:
                await put(table(rows, header=header))
            else:
                await put(tab_separated(columns, rows, header=header))
            header = False


async def _session(client: Client, session_id: str) -> Fields:
    """The fields of one session."""
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
