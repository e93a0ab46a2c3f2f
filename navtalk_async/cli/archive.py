"""Keep what the API has: `export` and `sync`."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive, redacted
from navtalk_async.cli.exits import Exit, exit_code
from navtalk_async.cli.job import Job, takes_job
from navtalk_async.cli.options import as_formats, as_span, examples
from navtalk_async.cli.reading import Place, as_folder, as_store
from navtalk_async.cli.reporting import Watch, reporting
from navtalk_async.cli.running import run
from navtalk_async.cli.scope import check_scope
from navtalk_async.cli.show import put_json
from navtalk_async.cli.summary import Kept, Summary, sentences
from navtalk_async.cli.talk import counted
from navtalk_async.cli.watching import Shift
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError, StoreBroken
from navtalk_async.formats import ARCHIVE, MANIFEST, Failure, ProjectFiles, check_folder, found_in, withdraw
from navtalk_async.formats import export as write_files
from navtalk_async.verification.repair import ROUNDS

__all__ = ["export", "sync"]

WHEN_STOPPED = "Stopped. What was fetched is kept: the same command goes on from there."
WHEN_FAILED = "kept before it went wrong: the same command goes on from there."


@click.command(
    epilog=examples(
        "navtalk export out",
        "navtalk export out --sandbox",
        "navtalk export november --start 2025-11-01 --end 2025-12-01 --json",
    )
)
@click.argument("dest", type=as_folder)
@click.option(
    "--format",
    "formats",
    type=as_formats,
    metavar="NAME,...",
    multiple=True,
    default=["jsonl"],
    help="How to write the files; repeatable, or with commas. [jsonl]",
)
@click.option("--overwrite", is_flag=True, help="Replace files of the same names that no export wrote.")
@takes_job
def export(*, job: Job, dest: Path, formats: Sequence[Sequence[str]], overwrite: bool) -> int:
    """Get everything, and write it to files in the folder DEST.

    The archive DEST/archive.db is brought up to date first, so the same command again fetches only what is
    new, and goes on where it was stopped. What is damaged in it is fetched again. DEST/manifest.json lists
    what was written; the second --project in DEST has transcripts.PROJECT.jsonl.
    """
    chosen = list(dict.fromkeys(name for names in formats for name in names))
    return Task(job, "export", dest / ARCHIVE).run(Files(dest, chosen, overwrite=overwrite))


@click.command(
    epilog=examples(
        "navtalk sync archive.db",
        "navtalk sync archive.db --retry-failed --progress plain",
        "navtalk sync archive.db --watch 60s --metrics-port 9108",
        "navtalk sync postgresql://chats@db.example/chats",
    )
)
@click.argument("store", type=as_store)
@click.option("--watch", "every", type=as_span, metavar="SPAN", help="Go on for ever, a round every SPAN.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve metrics for Prometheus at /metrics on this port [0: any free one].",
)
@click.option(
    "--metrics-host",
    metavar="HOST",
    help="The address of that port [127.0.0.1: only this machine]; 0.0.0.0 is every IPv4 interface.",
)
@takes_job
def sync(
    *, job: Job, store: Place, every: timedelta | None, metrics_port: int | None, metrics_host: str | None
) -> int:
    """Bring the archive STORE up to date: a SQLite file, or postgresql://user@host/database.

    The first run fetches everything, later ones what is new; one that was stopped is gone on with. With
    --watch it goes on until it is stopped, and waits for an API that is away to come back.
    """
    if metrics_host is not None and metrics_port is None:
        raise click.UsageError("--metrics-host serves nothing alone: give --metrics-port too.")
    if every is None:
        if metrics_port is not None:
            raise click.UsageError("--metrics-port is for a worker: give --watch too.")
        return Task(job, "sync", store).run()
    if not every:
        raise click.UsageError("--watch 0 would ask without a pause; give a time span.")
    if metrics_host == "":
        # An event loop takes an empty name for every interface.
        raise click.UsageError("--metrics-host is empty; give an address, or leave it out for 127.0.0.1.")
    if job.shell.as_json:
        raise click.UsageError("--json tells of one run; with --watch, use --progress json.")
    work = Shift(job, store, every.total_seconds()).work(
        metrics_host=metrics_host or "127.0.0.1", metrics_port=metrics_port
    )
    return run(work, job.shell.talk, when_stopped=WHEN_STOPPED)


class Files(NamedTuple):
    """The files to write."""

    folder: Path
    formats: Sequence[str]
    overwrite: bool


class Task:
    """One run of `export` or `sync`."""

    def __init__(self, job: Job, command: str, where: Place) -> None:
        self._job = job
        self._shell = job.shell
        self._command = command
        self._where = where
        self._place = redacted(where)
        self._watch = Watch()

    def run(self, files: Files | None = None) -> int:
        """The exit code of it all; *files* are written if there are any."""
        return run(self._work(files), self._shell.talk, when_stopped=WHEN_STOPPED)

    async def _work(self, files: Files | None) -> int:
        watch, job = self._watch, self._job
        async with self._shell.connection.client(watch) as client:
            watch.stats = client.stats
            check_scope(client, job.scope)
            written: ProjectFiles | None = None
            try:
                if files is not None:
                    await to_thread.run_sync(self._prepare, files)
                async with job.opened(self._where) as store:
                    what = f"Bringing {self._place} up to date"
                    async with reporting(watch, self._shell.talk, self._shell.progress, what=what):
                        how = {name: job.how[name] for name in ("retry_failed", "reconcile")}
                        await job.once(client, store, watch.progress, **how)
                        if files is not None:
                            written = await self._write(client, store, files)
                    kept = Kept.of(await store.counts(job.project), await self._failed(store, written))
            except NavTalkError as error:
                if isinstance(error, StoreBroken) and files is not None:
                    self._disown(files.folder)
                why = self._shell.talk.scrubbed(f"{type(error).__name__}: {error}")
                await self._tell(self._summary(exit_code(error), error=why))
                if done := watch.progress.report.done:
                    self._shell.talk.say(f"{counted(done, 'session')} more {WHEN_FAILED}")
                raise
        code = Exit.PARTIAL if kept.failed else Exit.OK
        await self._tell(self._summary(code, kept=kept, files=files, written=written))
        return code

    def _prepare(self, files: Files) -> None:
        check_folder(files.folder, self._job.project, overwrite=files.overwrite)

    def _disown(self, folder: Path) -> None:
        """Remove the manifest of files that are beside a broken archive."""
        with suppress(OSError):
            if found_in(folder).manifest is not None:
                withdraw(folder)
                self._shell.talk.say(
                    f"Removed {folder / MANIFEST}: the archive that it lists cannot be read."
                )

    async def _write(self, client: Client, store: Archive, files: Files) -> ProjectFiles:
        """What was written of the project; what is damaged of it is fetched again."""
        known: list[str] = []
        try:
            written = await self._write_once(store, files)
        except StoreBroken:
            await store.refetch(self._job.project, ())
            written = await self._write_once(store, files)
        for _ in range(ROUNDS):
            damaged = [each.id for each in written.failed if each.damaged]
            if damaged in ([], known):
                break
            known = damaged
            self._shell.talk.say(
                f"Damaged in the archive, fetching again: {counted(len(damaged), 'session')}."
            )
            await store.refetch(self._job.project, damaged)
            await self._job.once(client, store, self._watch.progress, retry_failed=False, reconcile=False)
            written = await self._write_once(store, files)
        return written

    async def _write_once(self, store: Archive, files: Files) -> ProjectFiles:
        project = self._job.project
        manifest = await write_files(
            store,
            files.folder,
            project=project,
            formats=files.formats,
            overwrite=files.overwrite,
        )
        return next(each for each in manifest.entries if each.project == project)

    async def _failed(self, store: Archive, written: ProjectFiles | None) -> Sequence[Failure]:
        if written is not None:
            return written.failed
        return [Failure(**each._asdict()) for each in await store.failures(self._job.project)]

    def _summary(
        self,
        code: int,
        *,
        kept: Kept | None = None,
        files: Files | None = None,
        written: ProjectFiles | None = None,
        error: str | None = None,
    ) -> Summary:
        return Summary(
            command=self._command,
            exit_code=int(code),
            complete=kept is not None and not kept.pending and not kept.failed,
            project=self._job.project,
            store=self._place,
            run=self._watch.progress.report,
            kept=kept,
            folder=None if files is None or kept is None else str(files.folder),
            files=() if written is None else written.files,
            error=error,
        )

    async def _tell(self, summary: Summary) -> None:
        if self._shell.as_json:
            await put_json(summary)
        if self._shell.progress == "json":
            self._shell.talk.tell("summary", **msgspec.structs.asdict(summary))
        else:
            for sentence in sentences(summary):
                self._shell.talk.say(sentence)
