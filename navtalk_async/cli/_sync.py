"""`navtalk sync`: bring an archive up to date; and the run itself, which `export` shares."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Unpack

import click
import msgspec

from navtalk_async.archive import Archive, redacted
from navtalk_async.cli._options import CONNECTION, RUN, SCOPE, Place, command
from navtalk_async.cli._output import counted, put_json, size
from navtalk_async.cli._progress import RunMonitor, reporting
from navtalk_async.cli._settings import Settings
from navtalk_async.cli.app import Exit, exit_code, report_error, run
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError
from navtalk_async.formats import Failure, ProjectFiles, WrittenFile
from navtalk_async.ingest import RunReport, SyncOptions
from navtalk_async.ingest import sync as sync_archive

WHEN_STOPPED = "Stopped. Everything fetched is saved: the same command continues from there."

FAILURES_SHOWN = 5


@command("store", "every", "metrics_port", "metrics_host", RUN, SCOPE, CONNECTION)
def sync(
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
    an API that is away to come back.

    Examples:
      navtalk sync archive.db
      navtalk sync archive.db --retry-failed --progress plain
      navtalk sync archive.db --watch 60s --metrics-port 9108
      navtalk sync postgresql://chats@db.example/chats
    """
    if metrics_host is not None and metrics_port is None:
        raise click.UsageError("--metrics-host serves nothing alone: give --metrics-port too.")
    if every is None:
        if metrics_port is not None:
            raise click.UsageError("--metrics-port is for a worker: give --watch too.")
        return ArchiveRun(settings, "sync", store).run()
    if not every:
        raise click.UsageError("--watch 0 would ask without a pause; give a time span.")
    if metrics_host == "":
        # An event loop takes an empty name for every interface.
        raise click.UsageError("--metrics-host is empty; give an address, or leave it out for 127.0.0.1.")
    if settings.as_json:
        raise click.UsageError("--json describes one run; with --watch, use --progress json.")
    from navtalk_async.cli._watch import WatchCommand  # noqa: PLC0415 - a web server, which few runs need

    work = WatchCommand(settings, store, every.total_seconds()).work(
        metrics_host or "127.0.0.1", metrics_port
    )
    return run(work, settings.reporter, when_stopped=WHEN_STOPPED)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints at the end."""

    command: str
    exit_code: int
    complete: bool
    """Whether every session that was listed is saved, with all its messages."""
    project: str
    store: str
    run: RunReport
    kept: dict[str, Any] | None = None
    """What the archive holds of the project, and the sessions that failed; None after an error."""
    folder: str | None = None
    files: Sequence[WrittenFile] = ()
    error: str | None = None


class ArchiveRun:
    """One run of `export` or `sync` on the archive at *place*."""

    def __init__(self, settings: Settings, command: str, place: Place) -> None:
        self.settings = settings
        self.monitor = RunMonitor()
        self._command = command
        self._place = place

    def run(self) -> int:
        """The exit code of it all."""
        return run(self._work(), self.settings.reporter, when_stopped=WHEN_STOPPED)

    async def prepare(self) -> None:
        """What comes before the archive is opened."""

    async def write(self, client: Client, archive: Archive) -> ProjectFiles | None:  # noqa: ARG002
        """What comes after the sync: the files that were written, if any."""
        return None

    def disown(self, error: NavTalkError) -> None:
        """What comes after an *error*."""

    async def sync(self, client: Client, archive: Archive, **changed: Unpack[SyncOptions]) -> None:
        options: SyncOptions = {**self.settings.sync_options, **changed}
        await sync_archive(client, archive, progress=self.monitor.progress, **options)

    @property
    def folder(self) -> str | None:
        """Where files are written."""
        return None

    async def _work(self) -> int:
        settings, monitor = self.settings, self.monitor
        async with settings.client(monitor) as client:
            monitor.stats = client.stats
            settings.scope(client)
            try:
                await self.prepare()
                async with Archive.open(self._place) as archive:
                    doing = f"Bringing {redacted(self._place)} up to date"
                    async with reporting(monitor, settings.reporter, settings.progress_mode, doing=doing):
                        await self.sync(client, archive)
                        written = await self.write(client, archive)
                    kept = await self._kept(archive, written)
            except NavTalkError as error:
                self.disown(error)
                why = settings.reporter.redacted(f"{type(error).__name__}: {error}")
                await self._report(self._summary(exit_code(error), error=why))
                done = monitor.progress.report.done
                before = f"Saved {counted(done, 'more session')}, then failed: " if done else ""
                after = " The same command continues from there." if done else ""
                return report_error(error, settings.reporter, before=before, after=after)
        code = Exit.PARTIAL if kept["failed"] else Exit.OK
        await self._report(self._summary(code, kept=kept, written=written))
        return code

    async def _kept(self, archive: Archive, written: ProjectFiles | None) -> dict[str, Any]:
        project = self.settings.project
        if written is not None:
            failed = written.failed
        else:
            failed = [Failure(**each._asdict()) for each in await archive.failures(project)]
        return msgspec.structs.asdict(await archive.counts(project)) | {"failed": failed}

    def _summary(
        self,
        code: int,
        *,
        kept: dict[str, Any] | None = None,
        written: ProjectFiles | None = None,
        error: str | None = None,
    ) -> Summary:
        return Summary(
            command=self._command,
            exit_code=int(code),
            complete=kept is not None and not kept["pending"] and not kept["failed"],
            project=self.settings.project,
            store=redacted(self._place),
            run=self.monitor.progress.report,
            kept=kept,
            folder=None if kept is None else self.folder,
            files=() if written is None else written.files,
            error=error,
        )

    async def _report(self, summary: Summary) -> None:
        reporter = self.settings.reporter
        if self.settings.as_json:
            await put_json(summary)
        if self.settings.progress_mode == "json":
            reporter.event("summary", **msgspec.structs.asdict(summary))
        else:
            for sentence in sentences(summary):
                reporter.note(sentence)


def sentences(summary: Summary) -> list[str]:
    """*summary* for people, a paragraph each."""
    report, kept = summary.run, summary.kept
    if kept is None:
        return []
    held = f"{counted(kept['sessions'], 'session')} with {counted(kept['messages'], 'message')}"
    lines = [
        checked_text(report),
        f"{summary.store} holds {held}.",
        *(
            f"{summary.folder}/{each.name}: {counted(each.rows, 'row')}, {size(each.bytes)}."
            for each in summary.files
        ),
    ]
    if summary.files:
        lines.append("Wrote manifest.json (checksums of every file).")
    retries = f" and {counted(report.retries, 'retry', 'retries')}" if report.retries else ""
    lines.append(
        f"Fetched {counted(report.messages, 'message')} of {counted(report.done, 'session')} with "
        f"{counted(report.requests, 'request')}{retries} in {report.seconds:.1f} s."
    )
    if report.fallback:
        lines.append(f"Sessions were listed page by page, because {report.fallback}.")
    if report.moved:
        lines.append(report.moved)
    return lines + short_page_sentences(report, kept["unread"]) + failed_sentences(kept["failed"])


def checked_text(report: RunReport) -> str:
    """How many sessions a run compared with the archive, and what was new."""
    checked = report.inserted + report.changed + report.same + report.vanished
    return f"Checked {counted(checked, 'session')}: {news_text(report)}."


def news_text(report: RunReport) -> str:
    """What was new; what did not happen is not said."""
    counts = {"new": report.inserted, "changed": report.changed, "deleted at the API": report.vanished}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no changes"


def short_page_sentences(report: RunReport, unread: int) -> list[str]:
    """What an audit of short pages found, and what it has skipped so far."""
    lines = []
    if report.short_pages_disproved:
        lines.append("Messages came after a short page: so all short pages are followed.")
    elif report.short_pages_followed:
        lines.append(
            f"Followed {counted(report.short_pages_followed, 'short page')}: nothing came after any of them."
        )
    if unread:
        lines.append(
            f"The short last page of {counted(unread, 'session')} was not followed; "
            "--short-pages follow makes sure."
        )
    return lines


def failed_sentences(failed: Sequence[Failure]) -> list[str]:
    """Which sessions are missing, and what to do about it."""
    lines = [f"Session {each.id} failed: {each.reason}" for each in failed[:FAILURES_SHOWN]]
    damaged = sum(each.damaged for each in failed)
    more = len(failed) - FAILURES_SHOWN
    if more > 0:
        lines.append(f"{more:,} more failed; --json lists them all.")
    if damaged:
        are = "is" if damaged == 1 else "are"
        lines.append(
            f"{counted(damaged, 'session')} could not be fetched again, and {are} left out of the files."
        )
    if len(failed) > damaged:
        lines.append(
            f"The messages of {counted(len(failed) - damaged, 'session')} are missing; "
            "the same command with --retry-failed fetches them again."
        )
    return lines
