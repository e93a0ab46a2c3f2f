"""`navtalk status`: what an archive holds, read without asking the API."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive.records import ProjectInfo, RunReport
from navtalk_async.cli._options import Place, command, exists
from navtalk_async.cli._output import Reporter, json_line, put_json, put_lines
from navtalk_async.cli.app import Exit, run
from navtalk_async.errors import StoreUnreachable, counted
from navtalk_async.formats import ARCHIVE

FAILURES_SHOWN = 5


@asynccontextmanager
async def readable(place: Place, *, immutable: bool = True) -> AsyncGenerator[Archive, None]:
    """The archive at *place*, to read; a folder means the archive in it."""
    where = await to_thread.run_sync(_archive, place) if isinstance(place, Path) else place
    async with Archive.open(where, read_only=True, immutable=immutable) as reader:
        yield reader


def _archive(place: Path) -> Path:
    path = place / ARCHIVE if place.is_dir() else place
    if not exists(path):
        raise StoreUnreachable(f"There is no archive in {place}.")
    return path


@command("place", "only_project", "as_json")
def status(*, place: Place, only_project: str | None, as_json: bool) -> int:
    """Show what an archive holds, and how its last run ended.

    STORE is an archive, DEST the folder of an export. It is only read, also while another run writes to it.

    Examples:
      navtalk status archive.db
      navtalk status out --json | jq .projects
    """
    shown = redacted(place)

    async def work() -> int:
        async with readable(place) as reader:
            projects = [
                await status_of(reader, info)
                for info in await reader.projects()
                if only_project in (None, info.project)
            ]
        if only_project is not None and not projects:
            raise click.UsageError(f"There is no project {only_project!r} in {shown}.")
        if as_json:
            await put_json({"command": "status", "exit_code": 0, "store": shown, "projects": projects})
        else:
            lines = [sentence for each in projects for sentence in project_sentences(each)]
            await put_lines(lines or [f"{shown} holds no project yet."])
        return Exit.OK

    return run(work(), Reporter())


async def status_of(reader: Archive, info: ProjectInfo) -> dict[str, Any]:
    """The state of one project, as --json prints it."""
    facts = msgspec.structs.asdict(info)
    return facts | {
        "filters": msgspec.json.decode(facts.pop("scope")),
        "counts": await reader.counts(info.project),
        "failed": await reader.failures(info.project),
    }


def project_sentences(seen: Mapping[str, Any]) -> list[str]:
    counts, failed = seen["counts"], seen["failed"]
    gone = f", {counts.deleted:,} of them deleted at the API" if counts.deleted else ""
    scope = json_line(seen["filters"]).decode().rstrip() if seen["filters"] else "everything"
    held = f"{counted(counts.sessions, 'session')} with {counted(counts.messages, 'message')}{gone}"
    open_count = f" Still open, checked again next run: {counts.watched:,}." if counts.watched else ""
    unfollowed = f" Short last pages not followed: {counts.unfollowed:,}." if counts.unfollowed else ""
    more = len(failed) - FAILURES_SHOWN
    lines = [
        f"Pending: {counts.pending:,}. Failed: {counts.failed:,}.{open_count}{unfollowed}",
        _listing(seen),
        _last_run(seen["last_run"]),
        *(
            f"Session {each['id']} failed after {counted(each['attempts'], 'attempt')}: {each['reason']}"
            for each in failed[:FAILURES_SHOWN]
        ),
        *([f"{more:,} more failed; --json lists them all."] if more > 0 else []),
    ]
    return [f"{seen['project']} ({seen['api']}, {scope}): {held}.", *(f"  {each}" for each in lines)]


def _listing(seen: Mapping[str, Any]) -> str:
    up_to = f", up to sessions that began {seen['watermark']}" if seen["watermark"] else ""
    done = f"Finished {counted(seen['rounds'], 'round')}{up_to}."
    if seen["round"] is None:
        return done
    part = "its listing is complete" if seen["round"].listed else "its listing is not complete"
    return f"{done} A round that began {seen['round'].began} is running, or was stopped; {part}."


def _last_run(last: RunReport | None) -> str:
    if last is None:
        return "No run has ended yet."
    ending = "finished" if last.error is None else f"failed ({last.error})"
    return f"The last run began {last.began_at} and {ending} {last.ended_at}: {news_text(last)}."


def news_text(report: RunReport) -> str:
    """What was new; what did not happen is not said."""
    counts = {"new": report.inserted, "changed": report.changed, "deleted at the API": report.vanished}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no changes"
