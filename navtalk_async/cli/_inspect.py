"""`navtalk status` and `navtalk verify`: what an archive holds, whether it is whole, and what repairs it."""

import shlex
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive._runs import filters_in_words
from navtalk_async.archive.records import ProjectInfo, RunReport
from navtalk_async.archive.rows import format_time
from navtalk_async.archive.sqlite_file import last_write
from navtalk_async.cli._options import CONNECTION, Place, as_options, command, exists
from navtalk_async.cli._output import (
    Reporter,
    amount,
    first_of,
    json_line,
    put_json,
    put_lines,
    size,
)
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli.app import Exit, exit_code, run
from navtalk_async.dialects import dialects
from navtalk_async.errors import NavTalkError, StoreUnreachable, counted
from navtalk_async.formats import ARCHIVE

if TYPE_CHECKING:
    # A client, which `status` does not need.
    from navtalk_async.cli._settings import Settings
    from navtalk_async.verification import Report

FAILURES_SHOWN = 5


@asynccontextmanager
async def readable(place: Place, *, immutable: bool = True) -> AsyncGenerator[Archive, None]:
    """The archive at *place*, to read; a folder means the archive in it. See `Archive.open`."""

    def found(path: Path) -> Path:
        path = path / ARCHIVE if path.is_dir() else path
        if not exists(path):
            raise StoreUnreachable(f"There is no archive in {place}.")
        return path

    where = await to_thread.run_sync(found, place) if isinstance(place, Path) else place
    async with Archive.open(where, read_only=True, immutable=immutable) as reader:
        yield reader


def without_users(projects: Sequence[ProjectInfo], user_id: str | None) -> list[str]:
    """A sentence, if --user was given, about those of *projects* whose API has no users."""
    if user_id is None:
        return []
    known = {each.api: dialects()[each.api]().record_kinds[0] for each in projects if each.api in dialects()}
    without = [api for api, kind in known.items() if "user_id" not in kind.__struct_fields__]
    return [f"Sessions of {', '.join(without)} have no user: --user finds none of them."] if without else []


@command("place", "only_project", "as_json")
def status_command(*, place: Place, only_project: str | None, as_json: bool) -> int:
    """Show what an archive holds, and how its last run ended.

    STORE is an archive, DEST the folder of an export. It is only read, also while another run writes to it.

    Examples:
      navtalk status archive.db
      navtalk status out --json | jq .projects
    """
    shown = redacted(place)

    async def work() -> int:
        activity = await to_thread.run_sync(activity_at, place)
        async with readable(place) as reader:
            infos = await reader.projects()
            states = run_states(infos, activity)
            projects = [
                await status_of(reader, info) | {"running": states[info.project]}
                for info in infos
                if only_project in (None, info.project)
            ]
            consumers = [
                each._asdict()
                for each in await reader.consumers()
                if only_project is None or each.project in (None, only_project)
            ]
        if only_project is not None and not projects:
            raise click.UsageError(f"There is no project {only_project!r} in {shown}.")
        if as_json:
            held = {"projects": projects, "consumers": consumers}
            await put_json({"command": "status", "exit_code": 0, "store": shown, **held})
        else:
            lines = [sentence for each in projects for sentence in project_sentences(each)]
            lines = lines or [f"{shown} holds no project yet."]
            await put_lines([*lines, *map(_consumer_sentence, consumers)])
        return Exit.OK

    return run(work(), Reporter(errors_as_json=as_json))


Activity = tuple[bool, float]
"""Whether a run holds the archive, and when it was last written to (a Unix time)."""


def activity_at(place: Place) -> Activity | None:
    """None where it cannot be known: a database on a server, or a file that cannot be read."""
    if not isinstance(place, Path):
        return None
    try:
        return last_write(place / ARCHIVE if place.is_dir() else place)
    except OSError:
        return None


def run_states(projects: Sequence[ProjectInfo], activity: Activity | None) -> dict[str, dict[str, Any]]:
    """Of each project, the `state` of its last run: `running`, `waiting` (a run holds the archive, and has
    written nothing yet), `killed`, `ended`, `none`, or `unknown`; and when it began, in which process, and
    last wrote.
    """
    began = {each.project: each.last_run.began_at or "" for each in projects if each.last_run is not None}
    latest = max(began, key=began.__getitem__, default=None)
    return {
        each.project: _run_state(each.last_run, activity, is_latest=each.project == latest)
        for each in projects
    }


def _run_state(last: RunReport | None, activity: Activity | None, *, is_latest: bool) -> dict[str, Any]:
    if last is None:
        return {"state": "none"}
    is_held = activity is not None and activity[0] and is_latest
    if last.ended_at is not None and is_held:
        return {"state": "waiting"}
    state = "ended"
    if last.ended_at is None:
        state = "unknown" if activity is None else "running" if is_held else "killed"
    facts = {"state": state, "since": last.began_at, "process": last.process}
    if state == "killed" and activity is not None:
        facts["last_wrote"] = format_time(datetime.fromtimestamp(activity[1], UTC))
    return facts


async def status_of(reader: Archive, info: ProjectInfo) -> dict[str, Any]:
    facts = msgspec.structs.asdict(info)
    return facts | {
        "filters": filters_in_words(facts.pop("scope")),
        "idle_runs_recorded": False,
        "counts": await reader.counts(info.project),
        "failed": await reader.failures(info.project),
    }


def project_sentences(seen: Mapping[str, Any]) -> list[str]:
    counts, failed = seen["counts"], seen["failed"]
    gone = f", {counts.deleted:,} of them deleted at the API" if counts.deleted else ""
    scope = json_line(seen["filters"]).decode().rstrip() if seen["filters"] else "everything"
    open_count = f" Still open, checked again next run: {counts.watched:,}." if counts.watched else ""
    unfollowed = f" Short last pages not followed: {counts.unfollowed:,}." if counts.unfollowed else ""
    reasons = [
        f"Session {each.id} failed after {counted(each.attempts, 'attempt')}: {each.reason}"
        for each in failed
    ]
    lines = [
        f"Pending: {counts.pending:,}. Failed: {counts.failed:,}.{open_count}{unfollowed}",
        _listing_sentence(seen),
        *_state_sentences(seen["running"]),
        *([_last_run(seen["last_run"])] if seen["running"]["state"] in ("none", "ended", "waiting") else []),
        *first_of(reasons, FAILURES_SHOWN, "more failed"),
    ]
    held = f"{amount(counts.sessions, counts.messages)}{gone}"
    return [f"{seen['project']} ({seen['api']}, {scope}): {held}.", *(f"  {each}" for each in lines)]


def _consumer_sentence(consumer: Mapping[str, Any]) -> str:
    name, when = consumer["name"], consumer["acknowledged_at"]
    acknowledged = f"acknowledged last {when}" if when else "has acknowledged nothing yet"
    behind = f"{counted(consumer['behind'], 'session')} behind" if consumer["behind"] else "up to date"
    project = f" of {consumer['project']}" if consumer["project"] else ""
    return f"Consumer {name}{project}: {behind}, {acknowledged}."


def _listing_sentence(seen: Mapping[str, Any]) -> str:
    up_to = f", up to sessions that began {seen['watermark']}" if seen["watermark"] else ""
    done = (
        f"Finished {counted(seen['rounds'], 'round')}{up_to}; rounds that find nothing new are not recorded."
    )
    if seen["round"] is None:
        return done
    part = "its listing is complete" if seen["round"].listed else "its listing is not complete"
    return f"{done} A round that began {seen['round'].began} is not finished; {part}."


def _state_sentences(running: Mapping[str, Any]) -> list[str]:
    process = f"process {running['process']}" if running.get("process") else "another process"
    match running["state"]:
        case "running":
            return [f"A run is going on since {running['since']}: {process}."]
        case "waiting":
            why = "a worker between two rounds, or a run that has found nothing new yet"
            return [f"The archive is in use, and is not being written to: {why}."]
        case "killed":
            killed = f"was killed after {running['last_wrote']}, when the archive was last written to"
            return [f"The last run began {running['since']} ({process}) and {killed}."]
        case "unknown":
            return [f"The last run began {running['since']} ({process}), and is running or was killed."]
    return []


def _last_run(last: RunReport | None) -> str:
    if last is None:
        return "No run has ended yet."
    ending = "finished" if last.error is None else f"failed ({last.error})"
    if last.error == "stopped":
        ending = "was stopped"
    return f"The last recorded run began {last.began_at} and {ending} {last.ended_at}: {news_text(last)}."


def news_text(report: RunReport) -> str:
    """What was new; what did not happen is not said."""
    counts = {"new": report.inserted, "changed": report.changed, "deleted at the API": report.vanished}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no changes"


FINDINGS_SHOWN = 20

REMEDIES = {
    "export": "The same `navtalk export` writes the files again, from the archive.",
    "media": "`navtalk media {where} --retry-failed` downloads damaged media again.",
    "repair": "`navtalk verify {where} --repair` fetches again what is damaged or missing.",
    "sync": "The archive is sound, but behind the API: `navtalk verify {where} --remote 100% --repair` "
    "brings it up to date.",
    "key": "This key gets no session of {projects}: run `navtalk verify {where} --project NAME "
    "--remote 100%` with the key of that project.",
    "forget": "`navtalk forget {where}` with the same options again, and --files, erases what is left.",
    "copy": "This cannot be repaired: restore a good copy of the archive, or use another path.",
}


@command(
    "place", "quick", "forgotten", "remote", "repair", "only_project", CONNECTION, "limits", needs_key=False
)
def verify_command(
    *,
    settings: "Settings",
    place: Place,
    quick: bool,
    forgotten: bool,
    remote: float | None,
    repair: bool,
    only_project: str | None,
) -> int:
    """Check that nothing is lost, doubled, out of order or damaged.

    DEST is the folder of an export, with its manifest, files and archive; STORE is an archive alone. Nothing
    is changed without --repair. Exit code 6: something was found, and is not repaired; 3: nothing was found,
    but some sessions could not be fetched again.

    Examples:
      navtalk verify out
      navtalk verify out --quick --json
      navtalk verify archive.db --remote 5%
      navtalk verify out --repair
    """
    from navtalk_async.verification import Report, verify  # noqa: PLC0415 - see above

    asks_api = repair or remote is not None
    if asks_api:
        settings.key.read()
    report, reporter = Report(), settings.reporter
    doing = f"Verifying {redacted(place)}"

    async def check() -> None:
        async with AsyncExitStack() as stack:
            mode = settings.progress_mode
            await stack.enter_async_context(
                counting(reporter, mode, doing=doing, look=partial(figures, report))
            )
            client = None
            if asks_api:
                connection = settings.client(waits_reported(reporter, mode), rides_out=True)
                client = await stack.enter_async_context(connection)
            await verify(
                place,
                client=client,
                remote=None if remote is None else remote / 100,
                repair=repair,
                quick=quick,
                forgotten=forgotten,
                project=only_project,
                concurrency=settings.concurrency,
                server=settings.server,
                report=report,
            )

    async def work() -> int:
        error: NavTalkError | None = None
        try:
            await check()
        except NavTalkError as failure:
            error = failure
        code = verdict_code(report) if error is None else exit_code(error)
        if settings.as_json:
            findings = [each._replace(what=as_options(each.what)) for each in report.findings]
            why = None if error is None else reporter.redacted(as_options(f"{type(error).__name__}: {error}"))
            await put_json(
                {
                    "command": "verify",
                    "exit_code": int(code),
                    "where": redacted(place),
                    "quick": quick,
                    "findings": [each._asdict() for each in findings],
                    "notes": [as_options(each) for each in report.notes],
                    "repaired": len(report.repaired),
                    "repaired_sessions": report.repaired,
                    "checked": report.checked,
                    "error": why,
                }
            )
        for sentence in report_sentences(redacted(place), report, is_whole=error is None):
            reporter.note(sentence)
        if error is not None:
            raise error
        return code

    return run(work(), reporter)


def verdict_code(report: "Report") -> Exit:
    if report.findings:
        return Exit.UNVERIFIED
    return Exit.PARTIAL if report.checked.unasked else Exit.OK


def figures(report: "Report") -> dict[str, int]:
    checked = report.checked
    return {
        "files": checked.files,
        "sessions": checked.sessions,
        "messages": checked.messages,
        "fetched again": checked.asked,
        "findings": len(report.findings),
    }


def report_sentences(where: str, report: "Report", *, is_whole: bool) -> list[str]:
    found = report.findings
    lines = first_of([as_options(str(each)) for each in found], FINDINGS_SHOWN)
    remedies = {each.remedy for each in found}
    named = f"{shlex.quote(where)}{api_option(report)}"
    unseen = ", ".join(sorted({each.project or "" for each in found if each.remedy == "key"}))
    lines += [REMEDIES[each].format(where=named, projects=unseen) for each in REMEDIES if each in remedies]
    lines += map(as_options, report.notes)
    if report.repaired:
        from navtalk_async.verification import some  # noqa: PLC0415 - see above

        lines.append(f"Repaired {counted(len(report.repaired), 'session')}: {some(report.repaired)}.")
    if report.has_written:
        lines.append("Wrote the files and manifest.json again.")
    return [*lines, verdict(where, report)] if is_whole else lines


def api_option(report: "Report") -> str:
    """The option that a command for these findings needs, where they are of another API."""
    projects = {each.project for each in report.findings}
    apis = {api for project, api in report.apis.items() if project in projects}
    return f" --api {'|'.join(sorted(apis))}" if apis - {"navtalk"} else ""


def verdict(where: str, report: "Report") -> str:
    checked = report.checked
    rows = f"{amount(checked.sessions, checked.messages)}, each row"
    parts = {
        f"{counted(checked.files, 'file')} of {size(checked.bytes)}": checked.files,
        rows: checked.sessions,
        f"{counted(checked.asked, 'session')} fetched again": checked.asked,
        f"{counted(checked.unasked, 'session')} failed": checked.unasked,
    }
    done = "; ".join(part for part, count in parts.items() if count)
    result = counted(len(report.findings), "finding") if report.findings else "nothing is wrong"
    so_far = " with what could be checked" if checked.unasked and not report.findings else ""
    return f"{where}: {result}{so_far}." + (f" Checked: {done}." if done else "")
