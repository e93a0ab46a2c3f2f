"""`navtalk verify`: is everything whole, and what repairs it."""

import shlex
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from navtalk_async.archive import redacted
from navtalk_async.cli._options import CONNECTION, Place, command
from navtalk_async.cli._output import Reporter, counted, put_json, size
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings
from navtalk_async.cli.app import Exit, exit_code, run
from navtalk_async.errors import NavTalkError
from navtalk_async.verification import Remedy, Report, some
from navtalk_async.verification import verify as verify_place

FINDINGS_SHOWN = 20

REMEDIES = {
    Remedy.EXPORT: "The same `navtalk export` writes the files anew, out of the archive.",
    Remedy.REPAIR: "`navtalk verify {where} --repair` fetches again what is damaged or missing.",
    Remedy.SYNC: "The archive is sound, and behind the API: `navtalk verify {where} --remote 100% --repair` "
    "brings it up to date.",
    Remedy.COPY: "This cannot be repaired: put back a good copy of the archive, or begin another one.",
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
        await _tell(
            redacted(place), report, code, reporter, quick=quick, as_json=settings.as_json, error=error
        )
        if error is not None:
            raise error
        return code

    return run(work(), reporter)


def progress_of(report: Report) -> dict[str, int]:
    """How far a verification is."""
    checked = report.checked
    return {
        "files": checked.files,
        "sessions": checked.sessions,
        "messages": checked.messages,
        "asked for again": checked.asked,
        "findings": len(report.findings),
    }


def verdict_code(report: Report) -> Exit:
    """What to exit with after a verification that came to its end."""
    if report.findings:
        return Exit.UNVERIFIED
    return Exit.PARTIAL if report.checked.unasked else Exit.OK


async def _tell(
    where: str,
    report: Report,
    code: int,
    reporter: Reporter,
    *,
    quick: bool,
    as_json: bool,
    error: NavTalkError | None,
) -> None:
    if as_json:
        summary = {
            "command": "verify",
            "exit_code": int(code),
            "where": where,
            "quick": quick,
            "findings": [each._asdict() for each in report.findings],
            "notes": report.notes,
            "repaired": len(report.repaired),
            "repaired_sessions": report.repaired,
            "checked": report.checked,
            "error": None if error is None else reporter.redacted(f"{type(error).__name__}: {error}"),
        }
        await put_json(summary)
    done = repairs(report.repaired, has_written=report.has_written)
    for sentence in sentences(where, report, is_whole=error is None, done=done):
        reporter.note(sentence)


def repairs(sessions: Sequence[str], *, has_written: bool) -> list[str]:
    """What was repaired, a sentence each."""
    told = [f"Repaired {counted(len(sessions), 'session')}: {some(sessions)}."] if sessions else []
    return told + (["Wrote the files and manifest.json anew."] if has_written else [])


def api_option(report: Report) -> str:
    """What a command for these findings has to be given besides."""
    projects = {each.project for each in report.findings}
    apis = {api for project, api in report.apis.items() if project in projects}
    return f" --api {'|'.join(sorted(apis))}" if apis - {"navtalk"} else ""


def sentences(where: str, report: Report, *, is_whole: bool, done: Sequence[str] = ()) -> list[str]:
    """*report* for people, a paragraph each."""
    found = report.findings
    lines = [str(each) for each in found[:FINDINGS_SHOWN]]
    if len(found) > FINDINGS_SHOWN:
        lines.append(f"And {len(found) - FINDINGS_SHOWN:,} more; --json lists them all.")
    remedies = {each.remedy for each in found}
    named = f"{shlex.quote(where)}{api_option(report)}"
    lines += [REMEDIES[each].format(where=named) for each in Remedy if each in remedies]
    lines += [*report.notes, *done]
    if not is_whole:
        return lines
    checked = report.checked
    parts = [f"{counted(checked.files, 'file')} of {size(checked.bytes)}"] if checked.files else []
    if checked.sessions:
        parts.append(
            f"{counted(checked.sessions, 'session')} with {counted(checked.messages, 'message')}, each row"
        )
    if checked.asked:
        parts.append(f"{counted(checked.asked, 'session')} asked for again")
    if checked.unasked:
        parts.append(f"{counted(checked.unasked, 'session')} that could not be had")
    looked = f" Looked at: {'; '.join(parts)}." if parts else ""
    verdict = f"{len(found):,} wrong" if found else "nothing is wrong"
    so_far = " with what could be looked at" if checked.unasked and not found else ""
    return [*lines, f"{where}: {verdict}{so_far}.{looked}"]
