"""How an archive is handed on: the files of each format, and a manifest with their checksums."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from anyio import to_thread
from msgspec.structs import replace

from navtalk_async.archive import Archive
from navtalk_async.archive.records import ArchiveDigest, FailedSession, ProjectInfo
from navtalk_async.archive.rows import format_api_time
from navtalk_async.archive.sqlite_file import fingerprint, make_folder
from navtalk_async.dialects import dialects
from navtalk_async.errors import StoreBroken, StoreError, StoreMismatch, StoreUnreachable
from navtalk_async.formats._folder import (
    ARCHIVE,
    FolderContent,
    Manifest,
    ProjectFiles,
    canonical,
    name_of,
    read_folder,
    read_manifest,
    refuse_foreign_files,
    signed,
    this_tool,
)
from navtalk_async.formats._forgotten import forgotten_files, forgotten_ids_in
from navtalk_async.formats._format import (
    MANIFEST,
    Format,
    IntactTranscripts,
    WholeFile,
    WrittenFile,
    fields_of,
    message_fields,
    mode_of,
    session_fields,
    transcript_fields,
    withdraw,
)
from navtalk_async.formats._jsonl import JSONL
from navtalk_async.models import Role, SessionStatus, format_word

__all__ = [
    "ARCHIVE",
    "FORMATS",
    "MANIFEST",
    "Format",
    "Manifest",
    "ProjectFiles",
    "WrittenFile",
    "check_folder",
    "chosen_projects",
    "export",
    "fields_of",
    "forgotten_files",
    "forgotten_ids_in",
    "message_fields",
    "read_folder",
    "read_manifest",
    "session_fields",
    "transcript_fields",
    "withdraw",
]

FORMATS: dict[str, Format] = {each.name: each for each in (JSONL,)}
"""Every format, by its name."""

FULL = (errno.ENOSPC, errno.EDQUOT)


async def export(
    archive: Archive,
    folder: str | Path,
    *,
    formats: str | Sequence[str] = ("jsonl",),
    project: str = "default",
    overwrite: bool = False,
) -> Manifest:
    """Write *project* of *archive* into *folder* in each of *formats*, and `manifest.json` last.

    Each file appears whole or not at all, and one that would stay the same is not touched; with nothing new,
    neither is `manifest.json`. The first project of a folder is in `transcripts.jsonl`, each other
    one in `transcripts.PROJECT.jsonl`; `manifest.json` lists all of them. Sessions that are damaged in the
    archive are left out, and named in the manifest, which is then not `complete`.

    Arguments:
        archive: an open archive.
        formats: names of `FORMATS`, or one of them.
        overwrite: also replace files of these names that no export wrote.

    Raises:
        ValueError: an unknown format, or an empty path.
        StoreMismatch: the archive has no such project, or the API of the project is not installed.
        StoreError: the archive cannot be read, or the disk is full.
        StoreBroken: the archive is damaged, and not in single sessions alone.
        StoreUnreachable: the folder cannot be made or written to, or no export wrote a file there.
    """
    names = [formats] if isinstance(formats, str) else list(formats)
    unknown = [each for each in names if each not in FORMATS]
    if unknown or not names:
        raise ValueError(f"{(*unknown, '')[0]!r} is no format; choose from {', '.join(FORMATS)}.")
    if not str(folder):
        raise ValueError("The path of the folder is empty.")
    folder = Path(folder)
    [about] = await chosen_projects(archive, project)
    with _translated(folder):
        found = await to_thread.run_sync(partial(check_folder, folder, project, overwrite=overwrite))
        await to_thread.run_sync(make_folder, folder)
        task, mode = _Export(archive, folder, found), mode_of(folder / MANIFEST)
        earlier = None if mode is None else found.manifest
        if earlier is not None and await task.is_idle(about, names, earlier):
            return earlier
        own = await task.written(about, names)
        manifest = Manifest.of([*await task.others(project), own], await task.digest())
        if earlier is not None and signed(replace(earlier, written_at=manifest.written_at)) == manifest:
            manifest = earlier
        async with WholeFile(folder / MANIFEST, mode=mode) as file:
            await file.write(lambda: canonical(manifest))
    return manifest


async def chosen_projects(reader: Archive, project: str | None) -> list[ProjectInfo]:
    """All projects, or the one named *project*; a StoreMismatch if there is none of this name."""
    there = await reader.projects()
    chosen = [each for each in there if project in (None, each.project)]
    if project is not None and not chosen:
        names = ", ".join(repr(each.project) for each in there) or "none"
        raise StoreMismatch(f"The archive has no project {project!r}; it has {names}.")
    return chosen


def check_folder(folder: Path, project: str, *, overwrite: bool) -> FolderContent:
    """What earlier exports left in *folder*; a StoreUnreachable if *project* cannot be written there."""
    with _translated(folder):
        found = read_folder(folder)
        if not overwrite:
            refuse_foreign_files(folder, name_of(project, found.owners), found)
    return found


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        what = f"{failure.strerror or failure}: {folder}."
        if failure.errno in FULL:
            raise StoreError(what) from failure
        raise StoreUnreachable(f"{what} Use another folder or change its permissions.") from failure


class _Export(NamedTuple):
    archive: Archive
    folder: Path
    found: FolderContent

    async def is_idle(self, about: ProjectInfo, formats: Sequence[str], earlier: Manifest) -> bool:
        """Whether the archive and the files are, byte for byte, as the *earlier* manifest says: then they are
        as sound as they were, and need not be read row by row.

        With several projects, the archive may have been damaged before the export of another one.
        """
        path = self._path(about.project)
        names = [path.with_suffix(FORMATS[each].suffix).name for each in formats]
        own = [(each.project, each.changes, [file.name for file in each.files]) for each in earlier.projects]
        return (
            (earlier.tool, own) == (this_tool(), [(about.project, about.changes, names)])
            and set(self.found.owners.values()) == {about.project}
            and about.api in dialects()
            and earlier.archive is not None
            and await to_thread.run_sync(self._are_intact, earlier.files)
            and await self.digest() == earlier.archive
        )

    def _are_intact(self, files: Sequence[WrittenFile]) -> bool:
        return all(
            mode_of(path := self.folder / each.name) is not None
            and fingerprint(path) == (each.bytes, each.sha256)
            for each in files
        )

    def _path(self, project: str) -> Path:
        return self.folder / name_of(project, self.found.owners)

    async def written(self, about: ProjectInfo, formats: Sequence[str] = ("jsonl",)) -> ProjectFiles:
        archive, project = self.archive, about.project
        dialect = dialects().get(about.api)
        if dialect is None:
            raise StoreMismatch(
                f"The project {project!r} is of the API {about.api!r}, which is not installed."
            )
        damaged = {}
        for each in await archive.flaws(project, is_thorough=False):
            if each.session_id is None:
                raise StoreBroken(each.what)
            damaged[each.session_id] = "its rows do not belong together"
        intact = IntactTranscripts(archive, project, dialect(), damaged)
        path = self._path(project)
        chosen = [FORMATS[each] for each in formats]
        files = [await each.write(intact, path.with_suffix(each.suffix)) for each in chosen]
        failed = _failures(await archive.failures(project), intact.damaged)
        counts = await archive.counts(project)
        if intact.read != counts.sessions:
            what = f"{intact.read:,} of {counts.sessions:,} sessions were read"
            raise StoreBroken(f"An index of the archive is damaged: {what}.")
        return ProjectFiles(
            complete=counts.listed and not counts.pending and not failed,
            api=about.api,
            project=project,
            filters=_filters_of(about),
            sessions=intact.sessions,
            messages=intact.messages,
            failed=failed,
            files=files,
            changes=about.changes,
        )

    async def others(self, project: str) -> list[ProjectFiles]:
        """The entries of all other projects that have files here.

        Without an entry in the earlier manifest nothing says that files are whole: they are written again,
        like files that are missing.
        """
        there = set(self.found.owners.values()) - {project}
        listed = [
            each
            for each in self.found.listed
            if each.project in there and all((self.folder / file.name).is_file() for file in each.files)
        ]
        there -= {each.project for each in listed}
        known = dialects()
        return listed + [
            await self.written(each)
            for each in await self.archive.projects()
            if each.project in there and each.api in known
        ]

    async def digest(self) -> ArchiveDigest | None:
        path = self.archive.path
        if path is None:
            return None
        is_here = await to_thread.run_sync(lambda: path.resolve().parent == self.folder.resolve())
        return await self.archive.digest() if is_here else None


def _failures(failed: Sequence[FailedSession], damaged: Mapping[str, str]) -> list[FailedSession]:
    failures = {each.id: each for each in failed}
    for session_id, what in damaged.items():
        before = failures.get(session_id, FailedSession(session_id, "", 0))
        reason = f"Damaged in the archive: {what}. {before.reason}".rstrip()
        failures[session_id] = FailedSession(session_id, reason, before.attempts, damaged=True)
    return list(failures.values())


def _filters_of(about: ProjectInfo) -> dict[str, Any]:
    """The filters of a project, with times and words like those of its sessions."""
    try:
        filters = msgspec.json.decode(about.scope, type=dict[str, Any])
        for name in filters.keys() & {"start", "end"}:
            filters[name] = format_api_time(filters[name])
        for name, kind in (("status", SessionStatus), ("role", Role)):
            if name in filters:
                filters[name] = format_word(kind(filters[name]))
    except (msgspec.DecodeError, ValueError, TypeError):
        return {}  # Damaged, which the next sync refuses.
    return filters
