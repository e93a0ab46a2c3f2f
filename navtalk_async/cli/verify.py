"""Whether what was kept is whole: `verify`."""

from pathlib import Path

import click

from navtalk_async.cli.connection import Given, Shell, may_talk_to_api
from navtalk_async.cli.exits import Exit, exit_code
from navtalk_async.cli.options import as_percent, examples
from navtalk_async.cli.reading import Place, as_place, readable
from navtalk_async.cli.reporting import counting, waits_told
from navtalk_async.cli.running import run
from navtalk_async.cli.show import put_json
from navtalk_async.cli.summary import size
from navtalk_async.cli.talk import Talk, counted
from navtalk_async.errors import NavTalkError, StoreBroken, StoreUnreachable
from navtalk_async.export.manifest import MANIFEST
from navtalk_async.store.opening import told
from navtalk_async.verify import Cure, Finding, Report, verify_export, verify_remote, verify_store
from navtalk_async.verify.verify import ARCHIVE

__all__ = ["verify"]

TOLD = 20

CURES = {
    Cure.EXPORT: "The same `navtalk export` writes the files anew, out of the archive.",
    Cure.COPY: "The archive cannot be relied on: put back a good copy of it, or begin another one.",
    Cure.SYNC: "The archive is sound, and behind the API: `navtalk sync --reconcile` brings it up to date.",
}


@click.command(
    epilog=examples(
        "navtalk verify out", "navtalk verify out --quick --json", "navtalk verify archive.db --remote 5%"
    )
)
@click.argument("where", metavar="DEST|STORE", type=as_place)
@click.option("--quick", is_flag=True, help="Sizes, hashes and counts alone: nothing is parsed.")
@click.option(
    "--remote",
    type=as_percent,
    metavar="PERCENT",
    help="Ask the API for so many of the sessions again (at least one), and compare; needs the key.",
)
@click.option("--project", help="Only this project of the archive [all].")
@may_talk_to_api
def verify(*, given: Given, where: Place, quick: bool, remote: float | None, project: str | None) -> int:
    """Find out whether anything is lost, doubled, out of order or damaged.

    DEST is the folder of an export, with its manifest, files and archive; STORE is an archive alone. Nothing
    is changed. Exit code 6 says that something was found; 3 that nothing was, but not every session that was
    to be asked for again could be had.
    """
    folder = where if isinstance(where, Path) and where.is_dir() else None
    if folder is not None and not any((folder / name).exists() for name in (MANIFEST, ARCHIVE)):
        raise click.UsageError(f"There is no export in {where}: neither {MANIFEST} nor {ARCHIVE}.")
    shell = None if remote is None else given.shell()
    talk = given.talk() if shell is None else shell.talk
    report, mode = Report(), given.told(talk)

    async def judge() -> None:
        if folder is not None:
            await verify_export(folder, report, quick=quick, project=project)
        else:
            await _verify_alone(where, report, quick=quick, project=project)
        if shell is not None and remote is not None:
            await _ask_again(shell, where, report, percent=remote, project=project)

    async def work() -> int:
        error: NavTalkError | None = None
        try:
            async with counting(talk, mode, what=f"Verifying {told(where)}", count=lambda: _counts(report)):
                await judge()
        except NavTalkError as failure:
            error = failure
        code = exit_code(error) if error is not None else verdict_code(report)
        await _tell(told(where), report, code, talk, quick=quick, as_json=given.as_json, error=error)
        if error is not None:
            raise error
        return code

    return run(work(), talk)


def verdict_code(report: Report) -> Exit:
    """What to exit with after a verification that came to its end."""
    if report.findings:
        return Exit.UNVERIFIED
    return Exit.PARTIAL if report.checked.unasked else Exit.OK


async def _verify_alone(place: Place, report: Report, *, quick: bool, project: str | None) -> None:
    known, name = len(report.findings), place.name if isinstance(place, Path) else told(place)
    try:
        async with readable(place) as reader:
            await verify_store(reader, name, report, quick=quick, project=project)
    except (StoreBroken, StoreUnreachable) as failure:
        # A file that cannot be read is damaged; a server that cannot be reached is away.
        if not isinstance(place, Path):
            raise
        if len(report.findings) == known:
            report.found([Finding(name, str(failure.args[0]).removesuffix("."), Cure.COPY)])


async def _ask_again(
    shell: Shell, where: Place, report: Report, *, percent: float, project: str | None
) -> None:
    observer, at_once = waits_told(shell.talk, shell.progress), shell.connection.concurrency
    async with shell.connection.client(observer) as client:
        try:
            # The API takes its time, and others may write meanwhile.
            async with readable(where, at_a_glance=False) as reader:
                await verify_remote(
                    client, reader, report, percent=percent, project=project, concurrency=at_once
                )
        except (StoreBroken, StoreUnreachable):
            # An archive that cannot be read was found to be so above.
            if not report.findings:
                raise


def _counts(report: Report) -> dict[str, int]:
    checked = report.checked
    return {
        "files": checked.files,
        "sessions": checked.sessions,
        "messages": checked.messages,
        "asked for again": checked.asked,
        "findings": len(report.findings),
    }


async def _tell(
    where: str,
    report: Report,
    code: int,
    talk: Talk,
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
            "checked": report.checked,
            "error": None if error is None else talk.scrubbed(f"{type(error).__name__}: {error}"),
        }
        await put_json(summary)
    for sentence in sentences(where, report, is_whole=error is None):
        talk.say(sentence)


def sentences(where: str, report: Report, *, is_whole: bool) -> list[str]:
    """*report* for people, a paragraph each."""
    found = report.findings
    lines = [str(each) for each in found[:TOLD]]
    if len(found) > TOLD:
        lines.append(f"And {len(found) - TOLD:,} more; --json lists them all.")
    cures = {each.cure for each in found}
    lines += [CURES[each] for each in Cure if each in cures]
    lines += report.notes
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
