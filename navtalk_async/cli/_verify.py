"""`navtalk verify`: is everything whole, and what repairs it."""

import shlex
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from navtalk_async.archive import redacted
from navtalk_async.cli._options import CONNECTION, Place, command
from navtalk_async.cli._output import put_json, size
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings
from navtalk_async.cli.app import Exit, exit_code, run
from navtalk_async.errors import NavTalkError, counted
from navtalk_async.verification import Remedy, Report, some
from navtalk_async.verification import verify as verify_place

FINDINGS_SHOWN = 20

REMEDIES = {
    Remedy.EXPORT: "The same `navtalk export` writes the files again, from the archive.",
    Remedy.REPAIR: "`navtalk verify {where} --repair` fetches again what is damaged or missing.",
    Remedy.SYNC: "The archive is sound, but behind the API: `navtalk verify {where} --remote 100% --repair` "
    "brings it up to date.",
    Remedy.KEY: "This key gets no session of {projects}: run `navtalk verify {where} --project NAME "
    "--remote 100%` with the key of that project.",
    Remedy.COPY: "This cannot be repaired: restore a good copy of the archive, or use another path.",
}


@command("place", "quick", "remote", "repair", "only_project", CONNECTION, needs_key=False)
def verify(
    *,
    settings: Settings,
    place: Place,
    quick: bool,
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
    asks_api = repair or remote is not None
    if asks_api:
        settings.key.read()
    report, reporter = Report(), settings.reporter
    doing = f"Verifying {redacted(place)}"

    async def work() -> int:
        error: NavTalkError | None = None
        try:
            async with AsyncExitStack() as stack:
                count = partial(progress_of, report)
                await stack.enter_async_context(
                    counting(reporter, settings.progress_mode, doing=doing, count=count)
                )
                waits = waits_reported(reporter, settings.progress_mode)
                client = await stack.enter_async_context(settings.client(waits)) if asks_api else None
                await verify_place(
                    place,
                    client=client,
                    remote=None if remote is None else remote / 100,
                    repair=repair,
                    quick=quick,
                    project=only_project,
                    concurrency=settings.concurrency,
                    server=settings.server,
                    report=report,
                )
        except NavTalkError as failure:
            error = failure
        code = exit_code(error) if error is not None else verdict_code(report)
        if settings.as_json:
            why = None if error is None else reporter.redacted(f"{type(error).__name__}: {error}")
            await put_json(summary_of(redacted(place), report, code, quick=quick, error=why))
        for sentence in sentences(redacted(place), report, is_whole=error is None):
            reporter.note(sentence)
        if error is not None:
            raise error
        return code

    return run(work(), reporter)


def progress_of(report: Report) -> dict[str, int]:
    checked = report.checked
    return {
        "files": checked.files,
        "sessions": checked.sessions,
        "messages": checked.messages,
        "fetched again": checked.asked,
        "findings": len(report.findings),
    }


def verdict_code(report: Report) -> Exit:
    if report.findings:
        return Exit.UNVERIFIED
    return Exit.PARTIAL if report.checked.unasked else Exit.OK


def summary_of(where: str, report: Report, code: int, *, quick: bool, error: str | None) -> dict[str, Any]:
    return {
        "command": "verify",
        "exit_code": int(code),
        "where": where,
        "quick": quick,
        "findings": [each._asdict() for each in report.findings],
        "notes": report.notes,
        "repaired": len(report.repaired),
        "repaired_sessions": report.repaired,
        "checked": report.checked,
        "error": error,
    }


def sentences(where: str, report: Report, *, is_whole: bool) -> list[str]:
    """*report* for people, a paragraph each; the verdict only where the check *is_whole*."""
    found, more = report.findings, len(report.findings) - FINDINGS_SHOWN
    lines = [str(each) for each in found[:FINDINGS_SHOWN]]
    if more > 0:
        lines.append(f"{more:,} more; --json lists them all.")
    remedies = {each.remedy for each in found}
    named = f"{shlex.quote(where)}{api_option(report)}"
    unseen = ", ".join(sorted({each.project or "" for each in found if each.remedy is Remedy.KEY}))
    lines += [REMEDIES[each].format(where=named, projects=unseen) for each in Remedy if each in remedies]
    lines += report.notes
    if report.repaired:
        lines.append(f"Repaired {counted(len(report.repaired), 'session')}: {some(report.repaired)}.")
    if report.has_written:
        lines.append("Wrote the files and manifest.json again.")
    return [*lines, verdict(where, report)] if is_whole else lines


def api_option(report: Report) -> str:
    """The option that a command for these findings needs, where they are of another API."""
    projects = {each.project for each in report.findings}
    apis = {api for project, api in report.apis.items() if project in projects}
    return f" --api {'|'.join(sorted(apis))}" if apis - {"navtalk"} else ""


def verdict(where: str, report: Report) -> str:
    checked = report.checked
    rows = f"{counted(checked.sessions, 'session')} with {counted(checked.messages, 'message')}, each row"
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
