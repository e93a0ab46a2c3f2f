"""`navtalk changes` and `navtalk history`: what changed in an archive, and what messages were before."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from navtalk_async.archive import Archive
from navtalk_async.archive.changes import Batch, Batches, Change, ConsumedBatch, Consumer
from navtalk_async.archive.damaged_rows import damage_named
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._layout import Table, tab_separated
from navtalk_async.cli._options import PRIVACY, Place, command, privacy_of
from navtalk_async.cli._output import Reporter, is_terminal, put_json
from navtalk_async.cli._pager import paged
from navtalk_async.cli.app import Exit, run
from navtalk_async.errors import StoreMismatch
from navtalk_async.formats import (
    chosen_projects,
    kinds_of,
    message_fields,
    session_fields,
    transcript_fields,
)

if TYPE_CHECKING:
    from navtalk_async.privacy import Privacy

Fields = dict[str, Any]

LISTS = ("new", "changed", "gone")

HISTORY_CELLS = ("replaced_at", "reason", "position", "id", "created_at", "role", "type", "content")
HISTORY_COLUMNS = {"replaced_at": 19, "reason": 7, "position": 4, "role": 9, "content": 0}


@command("place", "after", "consumer", "drop", "follow", "transcripts", "only_project", PRIVACY)
def changes_command(
    *,
    place: Place,
    after: str | None,
    consumer: str | None,
    drop: bool,
    follow: bool,
    transcripts: bool,
    only_project: str | None,
    redact: Sequence[Sequence[str]],
    pseudonymize: bytes | None,
) -> int:
    """Print what changed in an archive, as JSON, a session a line.

    It may run beside a sync. Each line has a token; --after goes on behind it. With --consumer, the archive
    itself remembers how far a consumer of that name has come: lines are acknowledged once they are written,
    and what was not comes again.

    Examples:
      navtalk changes archive.db | jq -r .session.id
      navtalk changes archive.db --consumer warehouse --follow | ./load
      navtalk changes archive.db --redact emails,phones --pseudonymize key.txt
    """
    if consumer is not None and after is not None:
        raise click.UsageError("Give either --after or --consumer: a consumer's place is in the archive.")
    if drop and (consumer is None or follow or transcripts):
        raise click.UsageError("--drop goes with --consumer alone.")
    privacy = privacy_of(redact, pseudonymize)

    async def work() -> int:
        async with readable(place, immutable=False) as archive:
            await chosen_projects(archive, only_project)
            if drop:
                await archive.drop_consumer(str(consumer))
                return Exit.OK
            feed: Batches | Consumer
            if consumer is None:
                feed = archive.changes(after, project=only_project, follow=follow)
            else:
                feed = archive.consume(consumer, project=only_project, follow=follow)
            async with feed as batches:
                async for batch in batches:
                    with damage_named(archive):
                        lines = await _lines(batch, with_transcripts=transcripts)
                    await put_json(*(each if privacy is None else _private(each, privacy) for each in lines))
                    if isinstance(batch, ConsumedBatch):
                        await batch.ack()
        return Exit.OK

    return run(work(), Reporter())


async def _lines(batch: Batch, *, with_transcripts: bool) -> list[Fields]:
    if not with_transcripts:
        return [_line(each) for each in batch.changes]
    whole = {
        (each.session.project, each.session.id): transcript_fields(each, kinds_of(each.session.api))
        async for each in batch.transcripts()
    }
    keys = [(each.session.project, each.session.id) for each in batch.changes]
    return [
        {"what": each.what, "session": whole[key], "failed": each.has_failed, "token": each.token}
        if key in whole
        else _line(each)
        for key, each in zip(keys, batch.changes, strict=True)
        if key in whole or each.what == "forgotten"
    ]


def _line(change: Change) -> Fields:
    if change.what == "forgotten":
        project, digest = change.session[:2]
        named = {"project": project, "salt": change.salt, "sha256": digest}
        return {"what": change.what, "session": named, "token": change.token}
    kinds = kinds_of(change.session.api)
    lists = {name: getattr(change, name) for name in LISTS}
    return {
        "what": change.what,
        "session": session_fields(change.session, kinds[0]),
        **{name: [message_fields(row, kinds[1]) for row in rows] for name, rows in lists.items()},
        "failed": change.has_failed,
        "token": change.token,
    }


def _private(line: Fields, privacy: "Privacy") -> Fields:
    lists = {name: [privacy.message(each) for each in line[name]] for name in LISTS if name in line}
    session = line["session"]
    hide = privacy.transcript if "messages" in session else privacy.session
    return {**line, "session": hide(session), **lists}


@command("place", "session_id", "project", "as_json")
def history_command(*, place: Place, session_id: str, project: str, as_json: bool) -> int:
    """Show what the messages of a session were before they were edited or deleted.

    Examples:
      navtalk history archive.db 35c18b55-dede-11f0-92bc-000e1eed4a72
    """
    reporter = Reporter(errors_as_json=as_json)

    async def work() -> int:
        async with readable(place) as archive:
            with damage_named(archive):
                rows = await _earlier(archive, session_id, project)
        async with paged() as pages:
            if as_json:
                await pages.put_json(*rows)
            elif not rows:
                reporter.note("No message of this session was edited or deleted.")
            elif is_terminal():
                await pages.put(Table(HISTORY_COLUMNS).text(rows, header=True))
            else:
                await pages.put(tab_separated(HISTORY_CELLS, rows, header=True))
        return Exit.OK

    return run(work(), reporter)


async def _earlier(archive: Archive, session_id: str, project: str) -> Sequence[Fields]:
    kept = await archive.transcript(session_id, project)
    if kept is None:
        raise StoreMismatch(f"The archive holds no session {session_id} in the project {project!r}.")
    return [
        {"replaced_at": each.replaced_at, "reason": each.reason}
        | message_fields(each.message, kinds_of(kept.session.api)[1])
        for each in await archive.history(session_id, project)
    ]
