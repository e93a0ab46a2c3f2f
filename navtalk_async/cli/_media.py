"""`navtalk media`: download what the links of an archive lead to."""

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import click
import msgspec

from navtalk_async.archive import redacted
from navtalk_async.cli._inspect import FAILURES_SHOWN, readable
from navtalk_async.cli._options import CONNECTION, Place, as_options, command
from navtalk_async.cli._output import first_of, put_json, size
from navtalk_async.cli._progress import counting, waits_reported
from navtalk_async.cli._settings import Settings, usage_errors
from navtalk_async.cli.app import Exit, exit_code, run
from navtalk_async.errors import NavTalkError, counted
from navtalk_async.formats.media import MEDIA, MediaEntry, MediaReport, fetch_media
from navtalk_async.wire.route import trusting

MEDIA_OPTIONS = ("allow_private_media", "max_media_size", "max_media_files")

WHEN_STOPPED = "Stopped. Everything downloaded is saved: the same command continues from there."


@command("place", "media_folder", MEDIA_OPTIONS, "project", "retry_failed", CONNECTION, needs_key=False)
def media_command(*, settings: Settings, place: Place, media_folder: Path | None, **bounds: Any) -> int:
    """Download the recordings and pictures that an archive links to.

    They are saved in the folder `media` beside the archive, or in --dest. What is there is not asked for
    again, and what was cut off is continued. With the API key, a session whose link has expired is asked for
    a new one; the key itself is sent to the API alone. Exit code 3: there are links without a file.

    Examples:
      navtalk media out
      navtalk media archive.db --dest recordings --max-media-size 200MB
    """
    folder = media_folder or _folder_beside(place)
    has_key = _checked_key(settings)
    report, reporter = MediaReport(), settings.reporter

    async def fetch() -> None:
        async with AsyncExitStack() as stack:
            mode, client = settings.progress_mode, None
            archive = await stack.enter_async_context(readable(place, immutable=False))
            doing = f"Downloading what {redacted(place)} links to"
            await stack.enter_async_context(
                counting(reporter, mode, doing=doing, look=lambda: figures(report))
            )
            if has_key:
                client = await stack.enter_async_context(settings.client(waits_reported(reporter, mode)))
            how = media_options(settings, **bounds)
            await fetch_media(archive, folder, client=client, report=report, **how)

    async def work() -> int:
        error: NavTalkError | None = None
        try:
            await fetch()
        except NavTalkError as failure:
            error = failure
        code = exit_code(error) if error else Exit.PARTIAL if report.failed or report.left else Exit.OK
        if settings.as_json:
            why = None if error is None else reporter.redacted(as_options(f"{type(error).__name__}: {error}"))
            where = {"store": redacted(place), "folder": str(folder)}
            found = {**where, **msgspec.structs.asdict(report), "error": why}
            await put_json({"command": "media", "exit_code": int(code), **found})
        if error is not None:
            raise error
        for sentence in media_sentences(folder, report):
            reporter.note(sentence)
        return code

    return run(work(), reporter, when_stopped=WHEN_STOPPED)


def _folder_beside(place: Place) -> Path:
    if not isinstance(place, Path):
        raise click.UsageError("A database has no folder: give --dest too.")
    return place if place.is_dir() else place.parent


def _checked_key(settings: Settings) -> bool:
    """Whether there is a key, which is not needed; what cannot be right is refused."""
    given = (settings.sandbox, settings.api_key_file, settings.api_key_command)
    has_key = any(given) or settings.key_variable in os.environ
    with usage_errors():
        if settings.cacert is not None:
            trusting(settings.cacert)
        if has_key:
            settings.key.read()
    return has_key


def media_options(
    settings: Settings, *, allow_private_media: bool, max_media_size: int, max_media_files: int
) -> dict[str, Any]:
    """The arguments of `fetch_media` that the options say."""
    return {
        "project": settings.project,
        "retry_failed": settings.options.get("retry_failed", False),
        "cacert": settings.cacert,
        "allow_private": allow_private_media,
        "max_file_bytes": max_media_size,
        "max_files": max_media_files,
    }


def figures(report: MediaReport) -> Mapping[str, int]:
    return {"files": report.fetched, "bytes": report.bytes, "failed": len(report.failed)}


def media_sentences(folder: Path, report: MediaReport) -> list[str]:
    """What *report* says, for people."""
    kept = f", {report.kept:,} were there already" if report.kept else ""
    lines = [f"{folder / MEDIA}: downloaded {counted(report.fetched, 'file')}, {size(report.bytes)}{kept}."]
    reasons = [f"No file of {_place(each)}: {each.failed}." for each in report.failed]
    lines += first_of(reasons, FAILURES_SHOWN, "more links without a file")
    if report.left:
        lines.append(f"Left for the next run: {counted(report.left, 'link')}.")
    return lines


def _place(entry: MediaEntry) -> str:
    return f"{'' if entry.message is None else f'message {entry.message} of '}session {entry.session}"
