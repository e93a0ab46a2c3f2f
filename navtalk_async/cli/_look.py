"""`navtalk sessions`, `session`, `messages` and `transcript`: what the API has, or an archive, shown."""

from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import click

from navtalk_async.cli._layout import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    Table,
    details_text,
    tab_separated,
    transcript_text,
)
from navtalk_async.cli._options import CONNECTION, Place, command
from navtalk_async.cli._output import Reporter, is_terminal
from navtalk_async.cli._pager import paged
from navtalk_async.cli.app import run

if TYPE_CHECKING:
    # A client, which an archive does not need.
    from navtalk_async.cli._settings import Settings

Fields = dict[str, Any]
Batches = AsyncGenerator[list[Fields], None]

SESSION_CELLS = ("id", "status", "start_time", "end_time", "video_url", "updated_at", "title")
MESSAGE_CELLS = ("position", "id", "created_at", "role", "type", "content")


class RowSelection(NamedTuple):
    """Which rows are wanted: so many at most, the newest first or not; and the filters, by their names."""

    limit: int | None
    newest: bool
    filters: Mapping[str, Any]


class Source(Protocol):
    """What has sessions: an API, or an archive. Each row is its columns, as in exported files."""

    @property
    @abstractmethod
    def columns(self) -> frozenset[str]:
        """The columns that its sessions may have values in."""

    @abstractmethod
    def sessions(self, wanted: RowSelection) -> Batches:
        """The sessions that are wanted, some at a time."""

    @abstractmethod
    def messages(self, session_id: str, wanted: RowSelection) -> Batches:
        """Those messages of a session that are wanted, some at a time."""

    @abstractmethod
    async def session(self, session_id: str) -> Fields:
        """A session, without its messages."""

    @abstractmethod
    async def transcript(self, session_id: str) -> tuple[Fields, list[Fields]]:
        """A session, and all its messages."""


class Shown(NamedTuple):
    """How rows are shown."""

    as_json: bool
    local_time: bool
    reporter: Reporter

    def row(self, fields: Fields) -> Fields:
        return {name: self._local(name, each) for name, each in fields.items()} if self.local_time else fields

    def _local(self, name: str, value: Any) -> Any:
        if not name.endswith(("_time", "_at")) or not isinstance(value, str):
            return value
        # At the ends of the calendar, there is no other zone.
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value).astimezone().isoformat()
        return value

    @property
    def zone(self) -> str:
        return "local" if self.local_time else "UTC"


Look = Callable[..., Awaitable[None]]


def looking(*names: str) -> Callable[[Look], click.Command]:
    """Make a command of a function that shows something of a source; it has these options, and those that
    say which source.
    """

    def decorate(look: Look) -> click.Command:
        @wraps(look)
        def function(
            *,
            settings: "Settings | None" = None,
            looked_store: Place | None,
            only_project: str | None,
            local_time: bool,
            as_json: bool,
            filters: Mapping[str, Any],
            limit: int | None = None,
            newest: bool = False,
            **given: Any,
        ) -> int:
            reporter = Reporter(errors_as_json=as_json) if settings is None else settings.reporter
            shown, wanted = Shown(as_json, local_time, reporter), RowSelection(limit, newest, filters)

            async def work() -> int:
                async with _source(settings, looked_store, only_project) as source:
                    await look(source, shown, wanted, **given)
                return 0

            return run(work(), reporter)

        options = ("looked_store", "only_project", "local_time")
        return command(*names, *options, CONNECTION, offline="looked_store")(function)

    return decorate


def _source(
    settings: "Settings | None", place: Place | None, project: str | None
) -> AbstractAsyncContextManager[Source]:
    if settings is None:
        from navtalk_async.cli._look_archive import archive_source  # noqa: PLC0415 - one of the two is needed

        return archive_source(place or "", project)
    if project is not None and settings.table is None:
        raise click.UsageError("--project goes with --store: an API knows nothing of the archive's projects.")
    from navtalk_async.cli._look_api import api_source  # noqa: PLC0415 - see above

    return api_source(settings)


@looking("start_time", "end_time", "status", "user_id", "agent_type", "listing", "limit", "newest")
async def sessions_command(source: Source, shown: Shown, wanted: RowSelection) -> None:
    """List sessions of the API, in its order, or of an archive.

    NavTalk's and Lexicon's give the oldest first, and so does an archive. With --store, nothing is asked of
    an API, and no key is needed.

    Examples:
      navtalk sessions --start 2025-11-12 --status failed
      navtalk sessions --json | jq -r .id
      navtalk sessions --store archive.db --newest --limit 20
    """
    known = source.columns
    columns = {name: size for name, size in SESSION_COLUMNS.items() if name in known}
    await _show(shown, source.sessions(wanted), columns, SESSION_CELLS, nouns="sessions")
    if wanted.filters["user_id"] is not None and "user_id" not in known:
        shown.reporter.note("The archive's sessions have no user: --user finds none of them.")


@looking("session_id")
async def session_command(source: Source, shown: Shown, _: RowSelection, session_id: str) -> None:
    """Show one session, without its messages."""
    fields = shown.row(await source.session(session_id))
    async with paged() as pages:
        await (pages.put_json(fields) if shown.as_json else pages.put(details_text(fields)))


@looking("session_id", "start_time", "end_time", "role", "limit", "newest")
async def messages_command(source: Source, shown: Shown, wanted: RowSelection, session_id: str) -> None:
    """List the messages of one session."""
    await _show(shown, source.messages(session_id, wanted), MESSAGE_COLUMNS, MESSAGE_CELLS, nouns="messages")


@looking("session_id", "limit", "newest")
async def transcript_command(source: Source, shown: Shown, wanted: RowSelection, session_id: str) -> None:
    """Show one session with all its messages.

    With --json it is an object as in transcripts.jsonl. With --limit, only the first messages are shown; with
    --newest too, the last ones.
    """
    if wanted.newest and wanted.limit is None:
        raise click.UsageError("--newest of a transcript goes with --limit: it shows the last messages.")
    session, said = await source.transcript(session_id)
    if wanted.limit is not None:
        said = said[-wanted.limit :] if wanted.newest else said[: wanted.limit]
    session, said = shown.row(session), [shown.row(each) for each in said]
    async with paged() as pages:
        if shown.as_json:
            await pages.put_json(session | {"messages": said})
        else:
            await pages.put(transcript_text(session, said))


async def _show(
    shown: Shown, batches: Batches, columns: Mapping[str, int], cells: Sequence[str], *, nouns: str
) -> None:
    table = Table(columns, zone=shown.zone) if is_terminal() else None
    header = True
    async with aclosing(batches), paged() as pages:
        async for batch in batches:
            rows = [shown.row(each) for each in batch]
            if shown.as_json:
                await pages.put_json(*rows)
            elif table is not None:
                await pages.put(table.text(rows, header=header))
            else:
                await pages.put(tab_separated(cells, rows, header=header))
            header = header and not rows
    if header and not shown.as_json:
        shown.reporter.note(f"No {nouns}.")
