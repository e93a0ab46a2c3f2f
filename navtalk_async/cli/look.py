"""Look at what the API has: nothing is kept."""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Literal, TypeVar

import click

from navtalk_async.archive.rows import message_row, session_row
from navtalk_async.cli.connection import Shell, as_usage_error, talks_to_api
from navtalk_async.cli.options import AGENT_TYPE, LISTING, USER, as_role, as_status, as_time, examples
from navtalk_async.cli.reporting import waits_told
from navtalk_async.cli.running import run
from navtalk_async.cli.show import details_text, put, put_json, tab_separated, transcript_text
from navtalk_async.client import Client
from navtalk_async.formats import message_fields, session_fields
from navtalk_async.models import Message, Page, Session
from navtalk_async.pool import SessionPool

__all__ = ["messages", "session", "sessions", "transcript"]

T = TypeVar("T")

Fields = dict[str, Any]

SESSION_COLUMNS = ("id", "status", "start_time", "end_time", "video_url")
MESSAGE_COLUMNS = ("position", "id", "created_at", "role", "type", "content")

IDENTIFIED = click.argument("session_id", metavar="ID")
START = click.option(
    "--start", type=as_time, metavar="TIME", help="From this time on (UTC unless it has an offset)."
)
END = click.option(
    "--end", type=as_time, metavar="TIME", help="Until this time; a date means its first second."
)


@click.command(
    epilog=examples(
        "navtalk sessions --start 2025-11-12 --status failed", "navtalk sessions --json | jq -r .id"
    )
)
@START
@END
@click.option(
    "--status", type=as_status, metavar="active|completed|failed", help="Only sessions of this status."
)
@USER
@AGENT_TYPE
@LISTING
@talks_to_api
def sessions(
    *,
    shell: Shell,
    start: datetime | None,
    end: datetime | None,
    status: int | None,
    user: str | None,
    agent_type: str | None,
    listing: Literal["auto", "serial"],
) -> int:
    """List sessions, in the API's order; NavTalk's and Lexicon's give the oldest first."""

    async def look(client: Client) -> None:
        pool = SessionPool(client, concurrency=shell.connection.concurrency, listing=listing)
        with as_usage_error():
            pages = pool.session_pages(
                start_time=start, end_time=end, status=status, user_id=user, agent_type=agent_type
            )
        rows = _rows(pages, lambda _, each: _session_fields(client, each))
        await _show(shell, rows, "sessions_table", SESSION_COLUMNS)

    return _run(shell, look)


@click.command()
@IDENTIFIED
@talks_to_api
def session(*, shell: Shell, session_id: str) -> int:
    """Show one session, without its messages."""

    async def look(client: Client) -> None:
        fields = await _session(client, session_id)
        await (put_json(fields) if shell.as_json else put(details_text(fields)))

    return _run(shell, look)


@click.command()
@IDENTIFIED
@START
@END
@click.option("--role", type=as_role, metavar="user|assistant", help="Only what this role said.")
@talks_to_api
def messages(
    *, shell: Shell, session_id: str, start: datetime | None, end: datetime | None, role: int | None
) -> int:
    """List what was said in one session."""

    async def look(client: Client) -> None:
        with as_usage_error():
            listing = client.list_messages(session_id, start_time=start, end_time=end, role=role)
        pages = _items(listing.pages())
        rows = _rows(pages, lambda number, each: _message_fields(client, session_id, number, each))
        await _show(shell, rows, "messages_table", MESSAGE_COLUMNS)

    return _run(shell, look)


@click.command()
@IDENTIFIED
@talks_to_api
def transcript(*, shell: Shell, session_id: str) -> int:
    """Show one session and all that was said in it.

    With --json it is an object as in transcripts.jsonl.
    """

    async def look(client: Client) -> None:
        fields = await _session(client, session_id)
        said = [
            _message_fields(client, session_id, number, each)
            for number, each in enumerate([message async for message in client.list_messages(session_id)])
        ]
        await (put_json(fields | {"messages": said}) if shell.as_json else put(transcript_text(fields, said)))

    return _run(shell, look)


def _run(shell: Shell, look: Callable[[Client], Awaitable[None]]) -> int:
    async def work() -> int:
        async with shell.connection.client(waits_told(shell.talk, shell.progress)) as client:
            await look(client)
        return 0

    return run(work(), shell.talk)


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
    shell: Shell, pages: AsyncGenerator[list[Fields], None], table: str, columns: tuple[str, ...]
) -> None:
    """Print each page as it comes: as JSON, as the *table* of that name, or as *columns*."""
    header = True
    async with aclosing(pages):
        async for rows in pages:
            if shell.as_json:
                await put_json(*rows)
            elif sys.stdout is not None and sys.stdout.isatty():
                # Imported here, since only a terminal needs rich.
                from navtalk_async.cli import tables  # noqa: PLC0415

                await put(getattr(tables, table)(rows, header=header))
            else:
                await put(tab_separated(columns, rows, header=header))
            header = False


async def _session(client: Client, session_id: str) -> Fields:
    """The fields of one session."""
    with as_usage_error():
        request = client.dialect.get_session(client.dialect.checked_id(session_id))
    return _session_fields(client, await client.ask(request, client.dialect.read_session))


def _session_fields(client: Client, session: Session) -> Fields:
    """As in our files, but for what only an archive knows."""
    row = session_row("", client.dialect.api, session, "")
    fields = session_fields(row, client.dialect.record_kinds[0])
    return {name: value for name, value in fields.items() if name not in ("project", "deleted_at")}


def _message_fields(client: Client, session_id: str, number: int, message: Message) -> Fields:
    row = message_row("", str(session_id), number, message)
    return message_fields(row, client.dialect.record_kinds[1])
