"""Keep what the API has: `export` and `sync`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import click
import msgspec

from navtalk_async.cli.connection import Shell, talks_to_api
from navtalk_async.cli.exits import Exit, exit_code
from navtalk_async.cli.options import LISTING, as_formats, examples, with_options
from navtalk_async.cli.reporting import Watch, reporting
from navtalk_async.cli.running import run
from navtalk_async.cli.scope import check_scope, in_words, takes_scope
from navtalk_async.cli.show import put_json
from navtalk_async.cli.summary import Kept, Run, Summary, sentences
from navtalk_async.cli.talk import counted
from navtalk_async.client import NavTalkClient
from navtalk_async.errors import NavTalkError
from navtalk_async.export.export import write_files
from navtalk_async.export.files import WrittenFile
from navtalk_async.short_pages import ShortPages
from navtalk_async.store.sqlite import SqliteStore
from navtalk_async.sync import Scope
from navtalk_async.sync import sync as bring_up_to_date

__all__ = ["export", "sync"]

WHEN_STOPPED = "Stopped. What was fetched is kept: the same command goes on from there."
WHEN_FAILED = "kept before it went wrong: the same command goes on from there."

RUN_OPTIONS = with_options(
    LISTING,
    click.option(
        "--short-pages",
        type=click.Choice(["follow", "audit"]),
        default="follow",
        help="Follow the cursor of every short page of messages; or only of some, to see that nothing comes.",
    ),
    click.option("--project", default="default", help="The name the key's project has in the archive."),
    click.option("--retry-failed", is_flag=True, help="Try again what failed for good in earlier runs."),
)


class How(TypedDict):
    """How a run goes about it, by the names of `sync`'s arguments."""

    listing: Literal["auto", "serial"]
    short_pages: ShortPages
    retry_failed: bool


class StorePath(click.Path):
    """The file of a store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.ParamType.convert`."""
        if "://" in str(value):
            # What stands after the scheme may hold a password.
            scheme = str(value).partition(":")[0]
            self.fail(f"A store at {scheme}:// is not supported yet; give the path of a file.", param, ctx)
        return super().convert(value, param, ctx)


@click.command(
    epilog=examples(
        "navtalk export out",
        "navtalk export out --sandbox",
        "navtalk export november --start 2025-11-01 --end 2025-12-01 --json",
    )
)
@click.argument("dest", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--format",
    "formats",
    type=as_formats,
    metavar="NAME,...",
    multiple=True,
    default=["jsonl"],
    help="How to write the files; repeatable, or with commas. [jsonl]",
)
@RUN_OPTIONS
@takes_scope
@talks_to_api
def export(
    *,
    shell: Shell,
    scope: Scope,
    project: str,
    dest: Path,
    formats: Sequence[Sequence[str]],
    **how: Unpack[How],
) -> int:
    """Get everything, and write it to files in the folder DEST.

    The archive DEST/archive.db is brought up to date first, so the same command again fetches only what is
    new, and goes on where it was stopped. DEST/manifest.json tells what was written.
    """
    chosen = list(dict.fromkeys(name for names in formats for name in names))
    task = Task(shell, "export", dest / "archive.db", scope, project)
    return task.run(how, folder=dest, formats=chosen)


@click.command(
    epilog=examples("navtalk sync archive.db", "navtalk sync archive.db --retry-failed --progress plain")
)
@click.argument("store", type=StorePath(dir_okay=False, path_type=Path))
@RUN_OPTIONS
@takes_scope
@talks_to_api
def sync(*, shell: Shell, scope: Scope, project: str, store: Path, **how: Unpack[How]) -> int:
    """Bring the archive STORE, a SQLite file, up to date.

    The first run fetches everything, later ones what is new; one that was stopped is gone on with.
    """
    return Task(shell, "sync", store, scope, project).run(how)


class Task:
    """One run of `export` or `sync`."""

    def __init__(self, shell: Shell, command: str, path: Path, scope: Scope, project: str) -> None:
        self._shell = shell
        self._command = command
        self._path = path
        self._scope = scope
        self._project = project
        self._watch = Watch()

    def run(self, how: How, *, folder: Path | None = None, formats: Sequence[str] = ()) -> int:
        """The exit code of it all; files of *formats* are written where there is a *folder*."""
        return run(self._work(how, folder, formats), self._shell.talk, when_stopped=WHEN_STOPPED)

    async def _work(self, how: How, folder: Path | None, formats: Sequence[str]) -> int:
        watch = self._watch
        async with self._shell.connection.client(watch) as client:
            watch.stats = client.stats
            check_scope(client, self._scope)
            try:
                async with SqliteStore(self._path) as store:
                    what = f"Bringing {self._path} up to date"
                    async with reporting(watch, self._shell.talk, self._shell.progress, what=what):
                        await self._fetch(client, store, how)
                        files = await self._write(client, store, folder, formats) if folder else []
                    kept = Kept.of(await store.counts(self._project), await store.failures(self._project))
            except NavTalkError as error:
                why = self._shell.talk.scrubbed(f"{type(error).__name__}: {error}")
                await self._tell(self._summary(exit_code(error), error=why))
                if watch.progress.done:
                    self._shell.talk.say(f"{counted(watch.progress.done, 'session')} more {WHEN_FAILED}")
                raise
        code = Exit.PARTIAL if kept.failed else Exit.OK
        await self._tell(self._summary(code, kept=kept, folder=folder, files=files))
        return code

    async def _fetch(self, client: NavTalkClient, store: SqliteStore, how: How) -> None:
        await bring_up_to_date(
            client,
            store,
            project=self._project,
            scope=self._scope,
            concurrency=self._shell.connection.concurrency,
            progress=self._watch.progress,
            **how,
        )

    async def _write(
        self, client: NavTalkClient, store: SqliteStore, folder: Path, formats: Sequence[str]
    ) -> Sequence[WrittenFile]:
        manifest = await write_files(
            store,
            folder,
            dialect=client.dialect,
            project=self._project,
            formats=formats,
            filters=in_words(self._scope),
        )
        return manifest.files

    def _summary(
        self,
        code: int,
        *,
        kept: Kept | None = None,
        folder: Path | None = None,
        files: Sequence[WrittenFile] = (),
        error: str | None = None,
    ) -> Summary:
        watch = self._watch
        return Summary(
            command=self._command,
            exit_code=int(code),
            complete=kept is not None and not kept.pending and not kept.failed,
            project=self._project,
            store=str(self._path),
            run=Run.of(watch.progress, watch.stats(), watch.look().seconds, doubt=watch.doubt),
            kept=kept,
            folder=None if folder is None else str(folder),
            files=files,
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
