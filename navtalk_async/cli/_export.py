"""`navtalk export`: from the API, or from an archive that is already there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from navtalk_async.archive import redacted
from navtalk_async.cli._config import every_project
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._media import MEDIA_OPTIONS, media_options
from navtalk_async.cli._options import (
    CONNECTION,
    FORMAT_OPTIONS,
    RUN,
    SCOPE,
    Place,
    as_options,
    command,
    privacy_of,
)
from navtalk_async.cli._output import put_json
from navtalk_async.cli._settings import Settings
from navtalk_async.cli._sync import (
    ArchiveRun,
    files_sentences,
    kept_sentences,
    run_all,
    write_files,
)
from navtalk_async.cli.app import Exit, run
from navtalk_async.formats import ARCHIVE, Manifest, checked_plan

WHEN_STOPPED = "Stopped. Each file is as it was before, or complete."

NEEDS_NO_API = {"dest", "formats", "source", "merge_projects", *FORMAT_OPTIONS, "redact", "pseudonymize"} | {
    "overwrite", "project", "as_json", "progress", "verbose", "quiet"
}  # fmt: skip


@command(
    *("dest", "formats", "source", "merge_projects", FORMAT_OPTIONS, "redact", "pseudonymize"),
    *("media", MEDIA_OPTIONS, "overwrite", RUN, SCOPE, CONNECTION, "limits"),
    needs_key=False,
)
def export_command(
    *,
    settings: Settings,
    dest: Path,
    formats: Sequence[Sequence[str]],
    source: Place | None,
    redact: Sequence[Sequence[str]],
    pseudonymize: bytes | None,
    media: bool,
    allow_private_media: bool,
    max_media_size: int,
    max_media_files: int,
    **options: Any,
) -> int:
    """Fetch everything, and write it to files in the folder DEST.

    The archive DEST/archive.db is brought up to date first, so the same command again fetches only what is
    new, and continues where it was stopped. What is damaged in it is fetched again. DEST/manifest.json lists
    what was written; the second --project in DEST has transcripts.PROJECT.jsonl. With --from, an archive that
    is there is exported as it is, by default all its projects, and the API is not asked. With --config, all
    projects of the file are fetched, and the archive is exported with all it holds.

    Examples:
      navtalk export out
      navtalk export out --sandbox
      navtalk export november --start 2025-11-01 --end 2025-12-01 --json
      navtalk export tables --from out --format csv,parquet --redact all
    """
    chosen = list(dict.fromkeys(name for names in formats for name in names))
    how = {"formats": chosen, "privacy": privacy_of(redact, pseudonymize), **options}
    _refuse_plan(how)
    if source is not None:
        _refuse_options_of_the_api()
        return run(_export_of(settings, source, dest, how), settings.reporter, when_stopped=WHEN_STOPPED)
    several = every_project()
    if len(several) > 1:
        if media:
            raise click.UsageError(f"--media is for one project. {settings.why_none}")
        return run_all(several, dest / ARCHIVE, folder=dest, how=how)
    settings.key.read()
    wanted = None
    if media:
        wanted = media_options(
            settings,
            allow_private_media=allow_private_media,
            max_media_size=max_media_size,
            max_media_files=max_media_files,
        )
    return ArchiveRun(settings, dest / ARCHIVE, dest, how, wanted).run()


def _refuse_plan(how: Mapping[str, Any]) -> None:
    try:
        checked_plan(**{name: value for name, value in how.items() if name != "overwrite"})
    except (ValueError, ImportError) as refusal:
        raise click.UsageError(as_options(str(refusal))) from None


def _source(name: str) -> ParameterSource | None:
    return click.get_current_context().get_parameter_source(name)


def _refuse_options_of_the_api() -> None:
    for each in click.get_current_context().command.params:
        # A variable is set for other commands, too.
        if each.name not in NEEDS_NO_API and _source(str(each.name)) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{each.opts[-1]} asks the API, and --from does not.")


async def _export_of(settings: Settings, source: Place, dest: Path, how: Mapping[str, Any]) -> int:
    """Export the archive at *source* as it is."""
    project = None if _source("project") is ParameterSource.DEFAULT else settings.project
    async with readable(source, immutable=False) as archive:
        manifest = await write_files(archive, dest, settings, project=project, **how)
        there = [each.project for each in await archive.projects()]
    entries = [
        each for each in manifest.projects if each.project in there and project in (None, each.project)
    ]
    failed = [failure for each in entries for failure in each.failed]
    code = Exit.PARTIAL if failed else Exit.OK
    if settings.as_json:
        await put_json(_summary(code, source, dest, manifest))
    for line in files_sentences(str(dest), manifest.files):
        settings.reporter.note(line)
    for line in kept_sentences({"unfollowed": 0, "failed": failed}, retry="`navtalk sync`"):
        settings.reporter.note(line)
    if not all(each.complete for each in entries):
        settings.reporter.note("The archive is not complete: `navtalk status` says why.")
    return code


def _summary(code: int, source: Place, dest: Path, manifest: Manifest) -> dict[str, Any]:
    return {
        "command": "export",
        "exit_code": int(code),
        "complete": manifest.complete,
        "store": redacted(source),
        "folder": str(dest),
        "projects": manifest.projects,
        "files": manifest.files,
        "error": None,
    }
