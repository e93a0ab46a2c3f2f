"""`navtalk sync` and `navtalk export` where the file of `--config` has several projects: all in one run."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive.records import FailedSession
from navtalk_async.cli._config import code_of_all
from navtalk_async.cli._inspect import news_text
from navtalk_async.cli._options import Place, as_options
from navtalk_async.cli._output import Reporter, put_json
from navtalk_async.cli._progress import (
    LINE_SECONDS,
    OBJECT_SECONDS,
    ProgressMode,
    RunMonitor,
    Snapshot,
    bar,
    repeated,
)
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.cli._sync import files_sentences, kept_sentences, write_files
from navtalk_async.cli.app import Exit, exit_code
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError, StoreError, counted
from navtalk_async.events import Event, Stats
from navtalk_async.formats import Manifest, WrittenFile, refuse_emptied, refuse_folder
from navtalk_async.ingest import Progress, Project, ProjectResult, sync_all

LINES = 8
"""The most projects of which progress is shown in lines."""

OF_A_CLIENT = ("concurrency", "rate", "timeout", "retry_for", "proxy", "cacert", "sandbox")
"""What projects of one server and key have in common."""


@dataclass
class SharedClient:
    """A client, and those who follow what it does: a monitor for each of its projects."""

    settings: Settings
    client: Client
    monitors: list[RunMonitor]


@dataclass
class ManyRun:
    """A run for the projects of *several*, within the *limits* of all together."""

    several: Sequence[Settings]
    place: Place
    limits: Mapping[str, Any]
    folder: Path | None = None
    """Where files are written, too, as `export` does."""
    how: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The arguments of `export`: formats and their options."""
    monitors: dict[str, RunMonitor] = field(default_factory=dict[str, RunMonitor])
    ended: dict[str, ProjectResult] = field(default_factory=dict[str, ProjectResult])
    keyless: dict[str, str] = field(default_factory=dict[str, str])
    """Why the keys of some projects cannot be read."""

    def read_keys(self) -> None:
        """Read the keys, which commands may have to ask for, before there is an event loop to hold up."""
        for each in self.several:
            try:
                each.key.read()
            except click.UsageError as refusal:
                self.keyless[each.project] = refusal.message

    @property
    def reporter(self) -> Reporter:
        return self.several[0].reporter

    async def work(self) -> int:
        """Run them all, and report; the exit code."""
        if isinstance(self.place, Path):
            await to_thread.run_sync(refuse_emptied, self.place)
        for name, why in self.keyless.items():
            self.reporter.note(f"{name} is left out: {why}")
        async with AsyncExitStack() as stack:
            projects = await self._projects(stack)
            if self.folder is not None:
                for each in projects:
                    await to_thread.run_sync(partial(refuse_folder, self.folder, each.name, **self.how))
            archive = await stack.enter_async_context(Archive.open(self.place))
            mode = self.several[0].progress_mode
            if projects and mode in ("plain", "bar"):
                doing = counted(len(projects), "project")
                self.reporter.note(f"Bringing {doing} in {redacted(self.place)} up to date.")
            async with self._shown(mode):
                with usage_errors():
                    await sync_all(projects, archive, on_end=self._note_end, **self.limits)
            manifest = None
            if self.folder is not None and await archive.projects():
                manifest = await write_files(archive, self.folder, self.several[0], project=None, **self.how)
            found = [await self._facts(archive, each, manifest) for each in self.several]
        code = code_of_all([each["exit_code"] for each in found])
        await self._report(code, found, () if manifest is None else manifest.files)
        return code

    async def _projects(self, stack: AsyncExitStack) -> list[Project]:
        """The projects whose keys there are, with their clients: one for each server and key."""
        asked: dict[tuple[Any, ...], SharedClient] = {}
        projects: list[Project] = []
        for each in self.several:
            if each.project in self.keyless:
                continue
            # No name here holds the key.
            key = sha256(each.key().encode()).digest()
            same = (each.api, each.address.url, key, each.project_id, each.organization_id)
            if same not in asked:
                monitors: list[RunMonitor] = []
                connection = each.client(partial(_observe, monitors), rides_out=True)
                asked[same] = SharedClient(each, await stack.enter_async_context(connection), monitors)
            found = asked[same]
            _refuse_other_limits(found.settings, each)
            each.scope(found.client)
            progress = Progress()
            self.monitors[each.project] = monitor = RunMonitor(progress)
            monitor.stats = partial(_own_stats, found.client, progress)
            found.monitors.append(monitor)
            options: dict[str, Any] = {**each.sync_options}
            del options["project"]
            projects.append(Project(each.project, found.client, progress=progress, **options))
        return projects

    def _note_end(self, result: ProjectResult) -> None:
        self.ended[result.project] = result
        if self.several[0].progress_mode == "json":
            facts = msgspec.structs.asdict(result.report) | {"error": self._why(result.error)}
            self.reporter.event("project", project=result.project, **facts)
        else:
            self.reporter.note(end_sentence(result, self._why(result.error)))

    def _why(self, error: NavTalkError | None) -> str | None:
        if error is None:
            return None
        said = as_options(str(error)) if isinstance(error, StoreError) else str(error)
        return self.reporter.redacted(f"{type(error).__name__}: {said}")

    @asynccontextmanager
    async def _shown(self, mode: ProgressMode) -> AsyncGenerator[None, None]:
        if mode == "bar":
            with bar(lambda: in_all(self._running(), len(self.monitors))):
                yield
        elif mode == "none":
            yield
        else:
            seconds = OBJECT_SECONDS if mode == "json" else LINE_SECONDS
            async with repeated(seconds, partial(self._show, mode), at_end=False):
                yield

    def _running(self) -> dict[str, Snapshot]:
        return {name: each.snapshot() for name, each in self.monitors.items() if name not in self.ended}

    def _show(self, mode: ProgressMode) -> None:
        running = self._running()
        if mode == "json":
            for name, seen in running.items():
                self.reporter.event("progress", project=name, **msgspec.structs.asdict(seen))
            return
        for name, seen in [*running.items()][:LINES]:
            self.reporter.note(f"{name}: {seen}")
        if len(running) > LINES:
            self.reporter.note(f"{counted(len(running) - LINES, 'more project')} running.")

    async def _facts(self, archive: Archive, settings: Settings, manifest: Manifest | None) -> dict[str, Any]:
        """How a project ended, as `--json` has it."""
        name = settings.project
        if name in self.keyless:
            why = {"kept": None, "error": self.keyless[name]}
            return {"project": name, "exit_code": int(Exit.USAGE), "complete": False, "run": None} | why
        _, report, error = self.ended[name]
        failed: Sequence[FailedSession] = await archive.failures(name)
        for each in manifest.projects if manifest is not None else ():
            # Those that are damaged, too.
            failed = each.failed if each.project == name else failed
        kept = msgspec.structs.asdict(await archive.counts(name)) | {"failed": failed}
        code = exit_code(error) if error else Exit.PARTIAL if failed or report.skipped_rows else Exit.OK
        is_complete = not (error or kept["pending"] or failed or report.skipped_rows)
        facts = {"project": name, "exit_code": int(code), "complete": is_complete}
        return facts | {"run": report, "kept": kept, "error": self._why(error)}

    async def _report(
        self, code: int, found: Sequence[Mapping[str, Any]], files: Sequence[WrittenFile]
    ) -> None:
        summary = {
            "command": "sync" if self.folder is None else "export",
            "exit_code": int(code),
            "complete": all(each["complete"] for each in found),
            "store": redacted(self.place),
            "projects": found,
            "folder": None if self.folder is None else str(self.folder),
            "files": files,
            "error": None,
        }
        if self.several[0].as_json:
            await put_json(summary)
        if self.several[0].progress_mode == "json":
            self.reporter.event("summary", **summary)
            return
        for each in found:
            for line in [] if each["kept"] is None else kept_sentences(each["kept"]):
                self.reporter.note(f"{each['project']}: {line}")
        good = sum(each["error"] is None for each in found)
        projects = counted(len(found), "project")
        self.reporter.note(f"{redacted(self.place)}: {good:,} of {projects} brought up to date.")
        for line in files_sentences(str(self.folder), files):
            self.reporter.note(line)


def _observe(monitors: Sequence[RunMonitor], event: Event) -> None:
    for each in monitors:
        each(event)


def _own_stats(client: Client, progress: Progress) -> Stats:
    """What *client* does, with the requests of one of its projects."""
    report = progress.report
    return msgspec.structs.replace(client.stats(), requests=report.requests, retries=report.retries)


def _refuse_other_limits(first: Settings, other: Settings) -> None:
    """A key has one limit, and a client one way to its server."""
    for name in OF_A_CLIENT:
        if getattr(first, name) != getattr(other, name) and first.table and other.table:
            option = name.replace("_", "-")
            raise click.UsageError(
                f"{other.table.title} {option}: {first.project} has the same server and key, and another "
                f"{option}; one holds for both: write it into [defaults]."
            )


def end_sentence(result: ProjectResult, why: str | None) -> str:
    """How a project ended."""
    name, report, _ = result
    kept = f"{counted(report.messages, 'message')} of {counted(report.done, 'session')}"
    if why is not None:
        saved = f"saved {kept}, then failed" if report.done else "failed"
        return f"{name} {saved}: {why}"
    requests = counted(report.requests, "request")
    return f"{name}: {news_text(report)}; fetched {kept} with {requests} in {report.seconds:.1f} s."


def in_all(running: Mapping[str, Snapshot], count: int) -> Snapshot:
    """All projects as one: of *count*, those that are *running*."""
    seen = running.values()
    first = ", ".join([*running][:3]) + (", …" if len(running) > 3 else "")
    return Snapshot(
        seconds=max((each.seconds for each in seen), default=0.0),
        share=(count - len(running) + sum(each.share or 0.0 for each in seen)) / max(1, count),
        share_of="projects",
        done=sum(each.done for each in seen),
        open=sum(each.open for each in seen),
        failed=sum(each.failed for each in seen),
        messages=sum(each.messages for each in seen),
        requests=sum(each.requests for each in seen),
        retries=sum(each.retries for each in seen),
        requests_per_second=sum(each.requests_per_second for each in seen),
        why_slow=f"{count - len(running):,} of {counted(count, 'project')} ended; running: {first}",
    )
