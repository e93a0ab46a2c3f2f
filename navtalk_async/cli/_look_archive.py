"""What an archive has, for the commands that look: without a key, and without an API."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from typing import Any

import click

from navtalk_async.archive import Archive
from navtalk_async.archive.damaged_rows import damage_named
from navtalk_async.archive.listing import SessionFilter
from navtalk_async.archive.records import ProjectInfo
from navtalk_async.archive.rows import MessageRow, StoredTranscript
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._look import Batches, Fields, RowSelection
from navtalk_async.cli._options import Place
from navtalk_async.dialects import dialects
from navtalk_async.errors import StoreMismatch
from navtalk_async.formats import chosen_projects, kinds_of, message_fields, session_fields, transcript_fields
from navtalk_async.models import OpenEnum, Role, SessionStatus, format_word
from navtalk_async.times import parse_time


@asynccontextmanager
async def archive_source(place: Place, project: str | None) -> AsyncGenerator["ArchiveSource", None]:
    """The archive at *place*, or one *project* of it."""
    async with readable(place, immutable=False) as archive:
        source = ArchiveSource(archive, await chosen_projects(archive, project))
        with damage_named(archive):
            yield source


class ArchiveSource:
    """See `Source`."""

    def __init__(self, archive: Archive, projects: Sequence[ProjectInfo]) -> None:
        self._archive, self._projects = archive, projects

    @property
    def columns(self) -> frozenset[str]:
        known = [dialects()[each.api]().record_kinds[0] for each in self._projects if each.api in dialects()]
        return frozenset(name.removesuffix("_text") for kind in known for name in kind.__struct_fields__)

    async def sessions(self, wanted: RowSelection) -> Batches:
        filters = wanted.filters
        if filters.get("agent_type") is not None:
            raise click.UsageError("An archive has no column for --agent-type; leave it out.")
        only = self._projects[0].project if len(self._projects) == 1 else None
        found = self._archive.list_sessions(
            SessionFilter(
                project=only,
                start_time=filters["start_time"],
                end_time=filters["end_time"],
                status=_as_kept(SessionStatus, filters["status"]),
                user_id=filters["user_id"],
            ),
            newest=wanted.newest,
        )
        left = wanted.limit
        async with aclosing(found) as batches:
            async for batch in batches:
                yield [session_fields(row, kinds_of(row.api)[0]) for row, _ in batch[:left]]
                if left is not None and (left := left - len(batch)) <= 0:
                    return

    async def messages(self, session_id: str, wanted: RowSelection) -> Batches:
        kept = await self._kept(session_id)
        rows = [row for row in kept.messages if _matches(row, wanted.filters)]
        if wanted.newest:
            rows.reverse()
        kind = kinds_of(kept.session.api)[1]
        yield [message_fields(row, kind) for row in rows[: wanted.limit]]

    async def session(self, session_id: str) -> Fields:
        row = (await self._kept(session_id)).session
        return session_fields(row, kinds_of(row.api)[0])

    async def transcript(self, session_id: str) -> tuple[Fields, list[Fields]]:
        kept = await self._kept(session_id)
        fields = transcript_fields(kept, kinds_of(kept.session.api))
        return fields, fields.pop("messages")

    async def _kept(self, session_id: str) -> StoredTranscript:
        names = [each.project for each in self._projects]
        found = [await self._archive.transcript(session_id, name) for name in names]
        kept = [each for each in found if each is not None]
        if not kept:
            raise StoreMismatch(f"The archive holds no session {session_id}.")
        if len(kept) > 1:
            several = ", ".join(each.session.project for each in kept)
            raise click.UsageError(
                f"Session {session_id} is in the projects {several}; name one with --project."
            )
        return kept[0]


def _as_kept(kind: type[OpenEnum], value: str | int | None) -> str | int | None:
    """A status or role as an archive keeps it: a word where the number has one."""
    return format_word(kind(value)) if isinstance(value, int) else value


def _matches(row: MessageRow, filters: Mapping[str, Any]) -> bool:
    role = _as_kept(Role, filters["role"])
    if role not in (None, row.role):
        return False
    begin: datetime | None = filters["start_time"]
    end: datetime | None = filters["end_time"]
    if begin is end is None:
        return True
    moment = parse_time(row.created_at)
    return moment is not None and (begin is None or begin <= moment) and (end is None or moment <= end)
