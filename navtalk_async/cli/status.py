"""Where a store stands: `status`."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive.records import ProjectCounts, ProjectInfo, Round, RunReport
from navtalk_async.cli.exits import Exit
from navtalk_async.cli.options import examples
from navtalk_async.cli.reading import Place, as_place, readable
from navtalk_async.cli.running import run
from navtalk_async.cli.show import put, put_json
from navtalk_async.cli.summary import FAILURES_TOLD
from navtalk_async.cli.talk import Talk, counted, json_line, visible
from navtalk_async.formats import Failure

__all__ = ["ProjectStatus", "project_sentences", "status"]


class ProjectStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where one project stands."""

    project: str
    api: str
    server: str | None
    """Where it was synced from; None where an older version synced it."""
    filters: dict[str, Any]
    counts: ProjectCounts
    failed: Sequence[Failure]
    """Every session that failed, with its reason."""
    watermark: str | None
    rounds: int
    changes: int
    round: Round | None
    """The round that is under way, or was broken off."""
    last_run: RunReport | None

    @classmethod
    async def of(cls, reader: Archive, about: ProjectInfo) -> "ProjectStatus":
        """What *reader* says of the project."""
        failures = await reader.failures(about.project)
        return cls(
            project=about.project,
            api=about.api,
            server=about.server,
            filters=msgspec.json.decode(about.scope),
            counts=await reader.counts(about.project),
            failed=[Failure(**each._asdict()) for each in failures],
            watermark=about.watermark,
            rounds=about.rounds,
            changes=about.changes,
            round=about.round,
            last_run=about.last_run,
        )


@click.command(epilog=examples("navtalk status archive.db", "navtalk status out --json | jq .projects"))
@click.argument("where", metavar="STORE|DEST", type=as_place)
@click.option("--project", help="Only this project [all].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def status(*, where: Place, project: str | None, as_json: bool) -> int:
    """Tell what an archive holds, what is still to be had, and how the last run ended.

    STORE is an archive, DEST the folder of an export. It is only read, also while another run writes to it.
    """
    place = redacted(where)

    async def work() -> int:
        async with readable(where) as reader:
            projects = [
                await ProjectStatus.of(reader, about)
                for about in await reader.projects()
                if project in (None, about.project)
            ]
        if project is not None and not projects:
            raise click.UsageError(f"There is no project {project!r} in {place}.")
        if as_json:
            await put_json({"command": "status", "exit_code": 0, "store": place, "projects": projects})
        else:
            lines = [sentence for each in projects for sentence in project_sentences(each)]
            await put("".join(f"{visible(each)}\n" for each in lines or [f"{place} holds no project yet."]))
        return Exit.OK

    return run(work(), Talk())


def project_sentences(seen: ProjectStatus) -> list[str]:
    """*seen* for people, a line each."""
    counts = seen.counts
    gone = f", {counts.deleted:,} of them gone at the API" if counts.deleted else ""
    scope = json_line(seen.filters).decode().rstrip() if seen.filters else "everything"
    held = f"{counted(counts.sessions, 'session')} with {counted(counts.messages, 'message')}{gone}"
    more = len(seen.failed) - FAILURES_TOLD
    lines = [
        f"To be had: {counts.pending:,} pending, {counts.failed:,} failed.",
        f"Read again until they are final: {counts.watched:,}. Short last pages trusted: {counts.unread:,}.",
        _listing(seen),
        _last_run(seen.last_run),
        *(
            f"Session {each.id} failed, {counted(each.attempts, 'attempt')}: {each.reason}"
            for each in seen.failed[:FAILURES_TOLD]
        ),
        *([f"And {more:,} more failed; --json lists them all."] if more > 0 else []),
    ]
    return [f"{seen.project} ({seen.api}, {scope}): {held}.", *(f"  {each}" for each in lines)]


def _listing(seen: ProjectStatus) -> str:
    up_to = f", up to sessions that began {seen.watermark}" if seen.watermark else ""
    done = f"{counted(seen.rounds, 'round')} done{up_to}."
    if seen.round is None:
        return done
    part = "its listing is done" if seen.round.listed else "its listing is not done"
    return f"{done} One that began {seen.round.began} is under way, or was broken off; {part}."


def _last_run(last: RunReport | None) -> str:
    if last is None:
        return "No run has ended yet."
    ending = "came to its end" if last.error is None else f"ended: {last.error}"
    return (
        f"The last run began {last.began_at} and {ending}, {last.ended_at}: "
        f"{last.inserted:,} new, {last.changed:,} changed, {last.same:,} same, {last.vanished:,} gone."
    )
