"""Hand a store on: the files of each format, then the manifest."""

import errno
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from anyio import to_thread

from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.seal import ArchiveDigest
from navtalk_async.archive.sqlite import SqliteStore
from navtalk_async.archive.sqlite_file import ELSEWHERE, make_folder
from navtalk_async.archive.store import About, Failed, Store
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.known import dialects
from navtalk_async.errors import StoreBroken, StoreError, StoreUnreachable
from navtalk_async.formats.files import WrittenFile, mode_of
from navtalk_async.formats.filters import in_words
from navtalk_async.formats.intact import Intact
from navtalk_async.formats.jsonl import write_jsonl
from navtalk_async.formats.manifest import MANIFEST, Failure, Manifest, ProjectFiles, write_manifest
from navtalk_async.formats.names import FIRST, name_of
from navtalk_async.formats.ours import Found, found_in, refuse_others
from navtalk_async.models import Message, Session

__all__ = ["FORMATS", "check_folder", "withdraw", "write_files"]

Write = Callable[[Intact, tuple[type[Session], type[Message]], Path], Awaitable[WrittenFile]]

FORMATS: dict[str, Write] = {"jsonl": write_jsonl}
"""How each format is written, by its name."""

THE_TABLES = "its rows do not belong together"

FULL = (errno.ENOSPC, errno.EDQUOT)


async def write_files(
    store: Store,
    folder: str | Path,
    *,
    dialect: Dialect,
    project: str = "default",
    formats: Sequence[str] = ("jsonl",),
    filters: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Write *project* of *store* into *folder* in each of *formats*, and `manifest.json` last.

    Each file appears whole or not at all. The first project of a folder is in `transcripts.jsonl`, each other
    one in `transcripts.PROJECT.jsonl`; `manifest.json` lists all of them. Sessions that are damaged in the
    store are left out, and named in the manifest, which is then not `complete`.

    Arguments:
        filters: what the manifest says of the filters; by default those of the store.
        overwrite: replace files of these names that no export wrote.

    Raises:
        ValueError: a format that is none of `FORMATS`, or an empty path.
        StoreError: the store cannot be read, or the disk is full.
        StoreBroken: the store is damaged, and not in single sessions alone.
        StoreUnreachable: the folder cannot be made, or not be written to; or a file there is not ours.
    """
    unknown = [each for each in formats if each not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"{(*unknown, '')[0]!r} is no format; choose from {', '.join(FORMATS)}.")
    if not str(folder):
        raise ValueError("The path of the folder is empty.")
    folder = Path(folder)
    try:
        found = await to_thread.run_sync(partial(check_folder, folder, project, overwrite=overwrite))
        await to_thread.run_sync(make_folder, folder)
        # An earlier manifest must not stand for files that it has not seen.
        mode = await to_thread.run_sync(withdraw, folder)
        export = Export(store, folder, found)
        own = await export.written(project, dialect, formats=formats, filters=filters)
        entries = [*await export.others(project), own]
        entries.sort(key=lambda each: all(file.name != FIRST for file in each.files))
        manifest = Manifest.of(
            entries,
            archive=await export.sealed(),
            written_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            tool=f"navtalk-async {version('navtalk-async')}",
        )
        await write_manifest(manifest, folder, mode=mode)
    except OSError as failure:
        what = f"{folder} cannot be written to: {failure.strerror or failure}."
        if failure.errno in FULL:
            raise StoreError(what) from failure
        raise StoreUnreachable(f"{what} {ELSEWHERE}") from failure
    return manifest


def check_folder(folder: Path, project: str, *, overwrite: bool) -> Found:
    """What earlier exports left in *folder*, in which files of *project* are to be written.

    Raises:
        StoreUnreachable: it cannot be read; or there are files of these names that no export wrote, and not
            to *overwrite*.
    """
    try:
        found = found_in(folder)
        if not overwrite:
            refuse_others(folder, name_of(project, found.owners), found)
    except OSError as failure:
        why = failure.strerror or failure
        raise StoreUnreachable(f"{folder} cannot be read: {why}. {ELSEWHERE}") from failure
    return found


def withdraw(folder: Path) -> int | None:
    """Remove the manifest of *folder*; the mode that it had."""
    mode = mode_of(folder / MANIFEST)
    reach("manifest: before unlink")
    (folder / MANIFEST).unlink(missing_ok=True)
    reach("manifest: after unlink")
    return mode


class Export(NamedTuple):
    """A store that is written to a folder, in which there are files that were *found*."""

    store: Store
    folder: Path
    found: Found

    async def written(
        self,
        project: str,
        dialect: Dialect,
        *,
        formats: Sequence[str] = ("jsonl",),
        filters: dict[str, Any] | None = None,
    ) -> ProjectFiles:
        """What was written of *project*."""
        store = self.store
        about = next((each for each in await store.projects() if each.project == project), None)
        flaws = await store.flaws(project, is_thorough=False)
        for each in flaws:
            if each.session_id is None:
                raise StoreBroken(each.what)
        intact = Intact(store, project, dialect, {str(each.session_id): THE_TABLES for each in flaws})
        path = self.folder / name_of(project, self.found.owners)
        files = [await FORMATS[each](intact, dialect.record_kinds, path) for each in formats]
        failed = _failed(await store.failures(project), intact.damaged)
        counts = await store.counts(project)
        if intact.seen != counts.sessions:
            told = f"{intact.seen:,} of {counts.sessions:,} sessions were read"
            raise StoreBroken(f"An index of the archive is damaged: {told}.")
        return ProjectFiles(
            project=project,
            api=dialect.api,
            filters=_filters_of(about) if filters is None else filters,
            complete=counts.listed and not counts.pending and not failed,
            sessions=intact.sessions,
            messages=intact.messages,
            failed=failed,
            files=files,
            changes=None if about is None else about.changes,
        )

    async def others(self, project: str) -> list[ProjectFiles]:
        """The projects but *project* that have files here: as an earlier manifest lists them; if none does,
        nobody knows whether the files are whole, and they are written again, as are those that are missing.
        """
        there = set(self.found.owners.values())
        manifest = self.found.manifest
        listed = [
            each
            for each in (() if manifest is None else manifest.entries)
            if each.project in there - {project}
            and all((self.folder / file.name).is_file() for file in each.files)
        ]
        there -= {project, *(each.project for each in listed)}
        known = dialects()
        written = [
            await self.written(each.project, known[each.api]())
            for each in await self.store.projects()
            if each.project in there and each.api in known
        ]
        return listed + written

    async def sealed(self) -> ArchiveDigest | None:
        """What tells the archive in the folder from any other; None where it is elsewhere."""
        store = self.store
        if not isinstance(store, SqliteStore) or not await to_thread.run_sync(
            _is_in, store.path, self.folder
        ):
            return None
        return await store.sealed()


def _failed(failures: Sequence[Failed], damaged: Mapping[str, str]) -> list[Failure]:
    """The sessions that are not in the files as they should be, each once."""
    told = {each.id: Failure(**each._asdict()) for each in failures}
    for each, what in damaged.items():
        before = told.get(each, Failure(id=each, reason="", attempts=0))
        reason = f"Damaged in the archive: {what}. {before.reason}".rstrip()
        told[each] = msgspec.structs.replace(before, reason=reason, damaged=True)
    return list(told.values())


def _filters_of(about: About | None) -> dict[str, Any]:
    try:
        return {} if about is None else in_words(msgspec.json.decode(about.scope, type=dict[str, Any]))
    except (msgspec.DecodeError, ValueError, TypeError):
        return {}  # Damaged, which the next sync refuses.


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().parent == folder.resolve()
