"""A run of `navtalk sync` or `navtalk export`: bring an archive up to date, and write files beside it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Unpack

import click
import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive.records import FailedSession
from navtalk_async.cli._config import every_project, limits_of_all
from navtalk_async.cli._inspect import FAILURES_SHOWN, news_text
from navtalk_async.cli._media import media_sentences
from navtalk_async.cli._options import CONNECTION, RUN, SCOPE, Place, command
from navtalk_async.cli._output import amount, first_of, put_json, size
from navtalk_async.cli._progress import RunMonitor, later, reporting
from navtalk_async.cli._settings import Settings
from navtalk_async.cli.app import Exit, exit_code, report_error, run
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError, StoreBroken, counted
from navtalk_async.formats import (
    MANIFEST,
    Manifest,
    ProjectFiles,
    WrittenFile,
    export,
    read_folder,
    refuse_emptied,
    refuse_folder,
    withdraw,
)
from navtalk_async.formats.media import MEDIA, MediaReport, fetch_media
from navtalk_async.ingest import Progress, SyncOptions, sync
from navtalk_async.ingest._last_start import last_start, total_of
from navtalk_async.times import parse_time
from navtalk_async.verification import REPAIR_ROUNDS

END_IS_SOUGHT_AFTER = 3.0
"""Seconds; a shorter run needs no share that is right."""

FILES_SHOWN = 4
"""Of a format."""

WHEN_STOPPED = "Stopped. Everything fetched is saved: the same command continues from there."


@command("store", "every", "metrics_port", "metrics_host", RUN, SCOPE, CONNECTION, "limits", needs_key=False)
def sync_command(
    *,
    settings: Settings,
    store: Place,
    every: timedelta | None,
    metrics_port: int | None,
    metrics_host: str | None,
) -> int:
    """Bring the archive STORE up to date, once or for ever.

    STORE is a SQLite file, or postgresql://user@host/database. The first run fetches everything, later ones
    what is new; a run that was stopped is continued. With --watch it runs until it is stopped, and waits for
    an API that is away to come back. With --config, all projects of the file are brought up to date at once,
    or that of --project; one that fails stops no other (exit code 3).

    Examples:
      navtalk sync archive.db
      navtalk sync archive.db --retry-failed --progress plain
      navtalk sync archive.db --watch 60s --metrics-port 9108
      navtalk sync postgresql://chats@db.example/chats
      navtalk sync archive.db --config navtalk.toml
    """
    several = every_project()
    if len(several) == 1:
        settings.key.read()
    if metrics_host is not None and metrics_port is None:
        raise click.UsageError("--metrics-host serves nothing alone: give --metrics-port too.")
    if every is None:
        if metrics_port is not None:
            raise click.UsageError("--metrics-port is for a worker: give --watch too.")
        if len(several) > 1:
            return run_all(several, store)
        return ArchiveRun(settings, store).run()
    if not every:
        raise click.UsageError("--watch 0 would ask without a pause; give a time span.")
    if metrics_host == "":
        # An event loop takes an empty name for every interface.
        raise click.UsageError("--metrics-host is empty; give an address, or leave it out for 127.0.0.1.")
    if settings.as_json:
        raise click.UsageError("--json describes one run; with --watch, use --progress json.")
    if len(several) > 1:
        raise click.UsageError(f"--watch keeps one project up to date. {settings.why_none}")
    from navtalk_async.cli._watch import keep_watch  # noqa: PLC0415 - a web server, which few runs need

    work = keep_watch(settings, store, every.total_seconds(), metrics_host or "127.0.0.1", metrics_port)
    return run(work, settings.reporter, when_stopped=WHEN_STOPPED)


def run_all(several: Sequence[Settings], place: Place, **files: Any) -> int:
    """Run *several* projects at once; the exit code. *files* is what an export writes, and where."""
    from navtalk_async.cli._sync_many import ManyRun  # noqa: PLC0415 - most have one project

    all_of_them = ManyRun(several, place, limits_of_all(), **files)
    all_of_them.read_keys()
    return run(all_of_them.work(), all_of_them.reporter, when_stopped=WHEN_STOPPED)


@dataclass(frozen=True)
class ArchiveRun:
    """One run of `sync` on the archive at *place*; with a *folder*, of `export`, which then writes files."""

    settings: Settings
    place: Place
    folder: Path | None = None
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The arguments of `export`: formats and their options."""
    media: Mapping[str, Any] | None = None
    """The arguments of `fetch_media`; None without media."""
    monitor: RunMonitor = field(default_factory=lambda: RunMonitor(Progress()))

    def run(self) -> int:
        return run(self._work(), self.settings.reporter, when_stopped=WHEN_STOPPED)

    async def _work(self) -> int:
        settings, monitor, folder = self.settings, self.monitor, self.folder
        written: ProjectFiles | None = None
        is_new, media = False, MediaReport()
        if isinstance(self.place, Path):
            await to_thread.run_sync(refuse_emptied, self.place)
        async with settings.client(monitor, rides_out=True) as client:
            monitor.stats = client.stats
            settings.scope(client)
            try:
                if folder is not None:
                    check = partial(refuse_folder, folder, settings.project, **self.how)
                    earlier = (await to_thread.run_sync(check)).manifest
                async with Archive.open(self.place) as archive:
                    doing = f"Bringing {redacted(self.place)} up to date"
                    async with reporting(monitor, settings.reporter, settings.progress_mode, doing=doing):
                        pause = END_IS_SOUGHT_AFTER if settings.progress_mode != "none" else inf
                        async with later(pause, partial(self._find_end, client)):
                            await self._sync(client, archive)
                        if folder is not None and self.media is not None:
                            await fetch_media(archive, folder, client=client, report=media, **self.media)
                        if folder is not None:
                            manifest, written = await self._write(client, archive, folder)
                            is_new = manifest != earlier
                    kept = await self._kept(archive, written)
            except NavTalkError as error:
                if folder is not None and isinstance(error, StoreBroken):
                    self._withdraw(folder)
                why = settings.reporter.redacted(f"{type(error).__name__}: {error}")
                await self._report(exit_code(error), error=why)
                done = monitor.progress.report.done
                before = f"Saved {counted(done, 'more session')}, then failed: " if done else ""
                can_go_on = done and exit_code(error) is not Exit.USAGE
                after = " The same command continues from there." if can_go_on else ""
                return report_error(error, settings.reporter, before=before, after=after)
        has_skipped = monitor.progress.report.skipped_rows > 0
        is_partial = kept["failed"] or has_skipped or media.failed or media.left
        code = Exit.PARTIAL if is_partial else Exit.OK
        files = () if written is None else written.files
        await self._report(code, kept=kept, files=files, is_new=is_new, media=media)
        return code

    async def _find_end(self, client: Client) -> None:
        """Find out how far the list goes, which else only its end says."""
        progress = self.monitor.progress
        scope = self.settings.scope(client)
        if progress.all_listed or scope.sessions or progress.listed_from is None:
            return
        now, dialect = client.now(), client.dialect
        with suppress(NavTalkError):
            if dialect.starting_at(scope.first_page(dialect), now) is None:
                progress.total = await total_of(client, scope)
                return
            end = parse_time(scope.end_time) or now
            progress.expected_end = await last_start(client, scope, progress.listed_from, end)

    async def _sync(self, client: Client, archive: Archive, **changed: Unpack[SyncOptions]) -> None:
        options: SyncOptions = {**self.settings.sync_options, **changed}
        await sync(client, archive, progress=self.monitor.progress, **options)

    async def _write(self, client: Client, archive: Archive, folder: Path) -> tuple[Manifest, ProjectFiles]:
        """Write the files; what is damaged in the archive is fetched again."""
        project = self.settings.project
        known: list[str] = []
        try:
            manifest, written = await self._write_once(archive, folder)
        except StoreBroken:
            await archive.refetch(project, ())
            manifest, written = await self._write_once(archive, folder)
        for _ in range(REPAIR_ROUNDS):
            damaged = [each.id for each in written.failed if each.damaged]
            if damaged in ([], known):
                break
            known = damaged
            self.settings.reporter.note(
                f"Damaged in the archive, fetching again: {counted(len(damaged), 'session')}."
            )
            await archive.refetch(project, damaged)
            await self._sync(client, archive, retry_failed=False, reconcile=False)
            manifest, written = await self._write_once(archive, folder)
        return manifest, written

    async def _write_once(self, archive: Archive, folder: Path) -> tuple[Manifest, ProjectFiles]:
        project = self.settings.project
        manifest = await write_files(archive, folder, self.settings, project=project, **self.how)
        return manifest, next(each for each in manifest.projects if each.project == project)

    def _withdraw(self, folder: Path) -> None:
        with suppress(OSError):
            if read_folder(folder).manifest is not None:
                withdraw(folder)
                self.settings.reporter.note(
                    f"Removed {folder / MANIFEST}: the archive that it lists cannot be read."
                )

    async def _kept(self, archive: Archive, written: ProjectFiles | None) -> dict[str, Any]:
        project = self.settings.project
        failed = await archive.failures(project) if written is None else written.failed
        return msgspec.structs.asdict(await archive.counts(project)) | {"failed": failed}

    async def _report(
        self,
        code: int,
        *,
        kept: dict[str, Any] | None = None,
        files: Sequence[WrittenFile] = (),
        is_new: bool = False,
        media: MediaReport | None = None,
        error: str | None = None,
    ) -> None:
        settings, report = self.settings, self.monitor.progress.report
        summary = {
            "command": "sync" if self.folder is None else "export",
            "exit_code": int(code),
            "complete": kept is not None and not (kept["pending"] or kept["failed"] or report.skipped_rows),
            "project": settings.project,
            "store": redacted(self.place),
            "run": report,
            "kept": kept,
            "folder": None if kept is None or self.folder is None else str(self.folder),
            "files": files,
            "media": None if self.media is None else media,
            "error": error,
        }
        if settings.as_json:
            await put_json(summary)
        if settings.progress_mode == "json":
            settings.reporter.event("summary", **summary)
        elif kept is not None:
            lines = [*run_sentences(summary, is_new=is_new), *kept_sentences(kept)]
            if self.folder is not None and self.media is not None and media is not None:
                lines += media_sentences(self.folder, media)
            for line in lines:
                settings.reporter.note(line)


def run_sentences(summary: Mapping[str, Any], *, is_new: bool) -> list[str]:
    report, kept, files = summary["run"], summary["kept"], summary["files"]
    # A run that continues another tells its own figures from those of both.
    this_run, in_all = (" in this run", " in all") if report.resumed else ("", "")
    checked = report.inserted + report.changed + report.same + report.vanished
    written = files_sentences(summary["folder"], files)
    fetched = f"{counted(report.messages, 'message')} of {counted(report.done, 'session')}{this_run}"
    manifest = "Wrote manifest.json" if is_new else "manifest.json is unchanged"
    retries = f" and {counted(report.retries, 'retry', 'retries')}" if report.retries else ""
    lines = [
        f"Checked {counted(checked, 'session')}{this_run}: {news_text(report)}.",
        f"{summary['store']} holds {amount(kept['sessions'], kept['messages'])}{in_all}.",
        *written,
        *([f"{manifest} (checksums of every file)."] if written else []),
        f"Fetched {fetched} with {counted(report.requests, 'request')}{retries} in {report.seconds:.1f} s.",
    ]
    if report.skipped_rows:
        rows = counted(report.skipped_rows, "row")
        lines.append(f"Skipped {rows} that cannot be read (null, or no id): ask the API's vendor.")
    if report.fallback:
        lines.append(f"Sessions were listed page by page, because {report.fallback}.")
    if report.moved:
        lines.append(report.moved)
    if report.short_pages_disproved:
        lines.append("Messages came after a short page: so all short pages are followed.")
    elif report.short_pages_followed:
        followed = counted(report.short_pages_followed, "short page")
        lines.append(f"Followed {followed}: nothing came after any of them.")
    return lines


async def write_files(
    archive: Archive, folder: Path, settings: Settings, *, project: str | None, **how: Any
) -> Manifest:
    """Export, and name the files of earlier exports that are gone now."""
    before = await to_thread.run_sync(read_folder, folder)
    manifest = await export(archive, folder, project=project, **how)
    # One of many pages is no news.
    names = {each.partition("/")[0] for each in before.files}
    gone = sorted(names - {each.name.partition("/")[0] for each in manifest.files})
    if gone:
        settings.reporter.note(f"Removed from {folder}, from an earlier export: {', '.join(gone)}.")
    return manifest


def files_sentences(folder: str, files: Sequence[WrittenFile]) -> list[str]:
    """What was written: each file, or where there are many of a format, how many."""
    lines: list[str] = []
    for name in dict.fromkeys(each.format for each in files if each.format != MEDIA):
        own = [each for each in files if each.format == name]
        if len(own) <= FILES_SHOWN:
            lines += [f"{folder}/{f.name}: {counted(f.rows, 'row')}, {size(f.bytes)}." for f in own]
        else:
            about = f"{counted(sum(each.rows for each in own), 'row')}, {size(sum(e.bytes for e in own))}"
            lines.append(f"{folder}: {counted(len(own), 'file')} of the format {name}: {about}.")
        lines += [
            f"Open {folder}/{each.name} in a browser." for each in own if each.name.endswith("/index.html")
        ]
    return lines


def kept_sentences(kept: Mapping[str, Any], *, retry: str = "the same command") -> list[str]:
    failed: Sequence[FailedSession] = kept["failed"]
    damaged = sum(each.damaged for each in failed)
    lines: list[str] = []
    if kept["unfollowed"]:
        short = f"The short last page of {counted(kept['unfollowed'], 'session')} was not followed"
        lines.append(f"{short}; --short-pages follow makes sure.")
    reasons = [f"Session {each.id} failed: {each.reason}" for each in failed]
    lines += first_of(reasons, FAILURES_SHOWN, "more failed")
    if damaged:
        are = "is" if damaged == 1 else "are"
        lines.append(
            f"{counted(damaged, 'session')} could not be fetched again, and {are} left out of the files."
        )
    if len(failed) > damaged:
        lines.append(
            f"The messages of {counted(len(failed) - damaged, 'session')} are missing; "
            f"{retry} with --retry-failed fetches them again."
        )
    return lines
