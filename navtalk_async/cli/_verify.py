"""`navtalk verify`: is everything whole, and what repairs it."""

import shlex
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click
import msgspec

from navtalk_async.archive import Archive, redacted
from navtalk_async.cli._options import CONNECTION, Place, command
from navtalk_async.cli._output import Reporter, counted, put_json, size
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings
from navtalk_async.cli._status import readable
from navtalk_async.cli.app import Exit, exit_code, run
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError, StoreBroken, StoreMismatch, StoreUnreachable
from navtalk_async.formats import ARCHIVE, MANIFEST
from navtalk_async.verification import (
    Finding,
    Remedy,
    Report,
    is_repairable,
    verify_export,
    verify_remote,
    verify_store,
    write_again,
)
from navtalk_async.verification import repair as repair_archive
from navtalk_async.verification.repair import ROUNDS
from navtalk_async.verification.report import some

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
    folder = place if isinstance(place, Path) and place.is_dir() else None
    if folder is not None and not any((folder / name).exists() for name in (MANIFEST, ARCHIVE)):
        raise click.UsageError(f"There is no export in {place}: neither {MANIFEST} nor {ARCHIVE}.")
    asks_api = repair or remote is not None
    if asks_api:
        settings.key.read()
    task = Verification(
        place, folder, settings if asks_api else None, quick=quick, remote=remote, project=only_project
    )
    reporter = settings.reporter

    async def work() -> int:
        error: NavTalkError | None = None
        try:
            doing = f"Verifying {redacted(place)}"
            async with counting(reporter, settings.progress_mode, doing=doing, count=task.counts):
                await task.judge()
                if repair and is_repairable(task.report):
                    await task.repair()
        except NavTalkError as failure:
            error = failure
        code = exit_code(error) if error is not None else verdict_code(task.report)
        await _tell(redacted(place), task, code, reporter, as_json=settings.as_json, error=error)
        if error is not None:
            raise error
        return code

    return run(work(), reporter)


class Verification:
    """Judges what is at *where*, the *folder* of an export or an archive alone, and repairs it."""

    def __init__(
        self,
        where: Place,
        folder: Path | None,
        settings: Settings | None,
        *,
        quick: bool,
        remote: float | None,
        project: str | None,
    ) -> None:
        self.report = Report()
        self.repaired: list[str] = []
        self.has_written = False
        self.quick = quick
        self._where, self._folder, self._settings = where, folder, settings
        self._remote, self._project = remote, project

    def counts(self) -> dict[str, int]:
        """How far it is."""
        checked = self.report.checked
        return {
            "files": checked.files,
            "sessions": checked.sessions,
            "messages": checked.messages,
            "asked for again": checked.asked,
            "findings": len(self.report.findings),
        }

    async def judge(self, only: Collection[tuple[str, str]] | None = None) -> None:
        """Judge everything; the API is asked for a sample, or for *only* these sessions of these projects."""
        self.report = report = Report()
        if self._folder is not None:
            await verify_export(self._folder, report, quick=self.quick, project=self._project)
        else:
            await _verify_alone(self._where, report, quick=self.quick, project=self._project)
        if self._settings is not None and self._remote is not None:
            async with self._client(self._settings) as client:
                await self._ask_again(client, self._settings, report, only)

    async def repair(self) -> None:
        """Repair what was found, and judge again."""
        bad = self.report.bad
        unfinished = self.report.unfinished
        for number in range(ROUNDS):
            before = self.report.findings
            try:
                left, notes = await self._repair_once()
            except StoreMismatch:
                # What is left is not for this key, API or server; that was said the first time.
                if not number:
                    raise
                break
            await self.judge(only=bad)
            unfinished = unfinished | self.report.unfinished
            bad = bad | self.report.bad
            known = {(each.project, each.session) for each in self.report.findings}
            self.report.found(each for each in left if (each.project, each.session) not in known)
            self.report.notes += notes
            if self.report.findings in ([], before):
                break
        repaired = (bad | unfinished) - self.report.bad - self.report.unfinished
        self.repaired = sorted(session_id for _, session_id in repaired)

    async def _repair_once(self) -> tuple[list[Finding], list[str]]:
        """What could not be repaired, and what there is to say."""
        settings, place = self._settings, self._where
        if settings is None or (self._folder is not None and not (self._folder / ARCHIVE).exists()):
            return [], ["There is no archive to repair from."]
        report = msgspec.structs.replace(self.report, notes=[])
        where = place if self._folder is None else self._folder / ARCHIVE
        try:
            async with self._client(settings) as client, Archive.open(where) as store:
                left = await repair_archive(
                    client,
                    store,
                    report,
                    project=self._project,
                    concurrency=settings.concurrency,
                    server=settings.server,
                )
                if self._folder is not None and store.path is not None:
                    await write_again(store, store.path.parent, self._project)
                    self.has_written = True
        except StoreBroken as failure:
            return [], [f"The archive cannot be repaired: {failure.args[0]}"]
        return left, report.notes

    def _client(self, settings: Settings) -> AbstractAsyncContextManager[Client]:
        return settings.client(waits_reported(settings.reporter, settings.progress_mode))

    async def _ask_again(
        self, client: Client, settings: Settings, report: Report, only: Collection[tuple[str, str]] | None
    ) -> None:
        try:
            # The API takes its time, and others may write meanwhile.
            async with readable(self._where, immutable=False) as reader:
                await verify_remote(
                    client,
                    reader,
                    report,
                    percent=self._remote or 100.0,
                    project=self._project,
                    only=only,
                    concurrency=settings.concurrency,
                    server=settings.server,
                )
        except (StoreBroken, StoreUnreachable):
            # An archive that cannot be read was found to be so above.
            if not report.findings:
                raise


def verdict_code(report: Report) -> Exit:
    """What to exit with after a verification that came to its end."""
    if report.findings:
        return Exit.UNVERIFIED
    return Exit.PARTIAL if report.checked.unasked else Exit.OK


async def _verify_alone(place: Place, report: Report, *, quick: bool, project: str | None) -> None:
    known, name = len(report.findings), place.name if isinstance(place, Path) else redacted(place)
    try:
        async with readable(place) as reader:
            await verify_store(reader, name, report, quick=quick, project=project)
    except (StoreBroken, StoreUnreachable) as failure:
        # A file that cannot be read is damaged; a server that cannot be reached is away.
        if not isinstance(place, Path):
            raise
        if len(report.findings) == known:
            report.found([Finding(name, str(failure.args[0]).removesuffix("."), Remedy.COPY)])


async def _tell(
    where: str,
    task: Verification,
    code: int,
    reporter: Reporter,
    *,
    as_json: bool,
    error: NavTalkError | None,
) -> None:
    report = task.report
    if as_json:
        summary = {
            "command": "verify",
            "exit_code": int(code),
            "where": where,
            "quick": task.quick,
            "findings": [each._asdict() for each in report.findings],
            "notes": report.notes,
            "repaired": len(task.repaired),
            "repaired_sessions": task.repaired,
            "checked": report.checked,
            "error": None if error is None else reporter.redacted(f"{type(error).__name__}: {error}"),
        }
        await put_json(summary)
    done = repairs(task.repaired, has_written=task.has_written)
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
    cures = {each.cure for each in found}
    named = f"{shlex.quote(where)}{api_option(report)}"
    lines += [REMEDIES[each].format(where=named) for each in Remedy if each in cures]
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
