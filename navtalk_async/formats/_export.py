"""How an export is made: whether there is anything new, its files, and the entries of the manifest."""

import errno
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import msgspec
from anyio import to_thread
from msgspec.structs import replace

from navtalk_async.archive import Archive
from navtalk_async.archive.records import ArchiveDigest, FailedSession, ProjectInfo
from navtalk_async.archive.rows import format_api_time
from navtalk_async.archive.sqlite_file import fingerprint, make_folder
from navtalk_async.dialects import dialects
from navtalk_async.errors import StoreBroken, StoreError, StoreMismatch, StoreUnreachable
from navtalk_async.formats._claim import Claim, remove_left_behind
from navtalk_async.formats._folder import (
    UNFINISHED,
    FolderContent,
    FormatRun,
    Manifest,
    ProjectFiles,
    canonical,
    forget_begun,
    read_folder,
    refuse_foreign_files,
    signed,
    this_tool,
)
from navtalk_async.formats._format import Format, Target
from navtalk_async.formats._jsonl import JSONL
from navtalk_async.formats._media_index import MEDIA, media_files
from navtalk_async.formats._plan import FORMATS, ExportPlan, PlanKeywords, checked_plan
from navtalk_async.formats._rows import IntactTranscripts
from navtalk_async.formats._whole_file import MANIFEST, WholeFile, WrittenFile, mode_of
from navtalk_async.models import Role, SessionStatus, format_word

FULL = (errno.ENOSPC, errno.EDQUOT)


async def chosen_projects(reader: Archive, project: str | None) -> list[ProjectInfo]:
    """All projects, or the one named *project*; a StoreMismatch if there is none of this name."""
    there = await reader.projects()
    chosen = [each for each in there if project in (None, each.project)]
    if project is not None and not chosen:
        names = ", ".join(repr(each.project) for each in there) or "none"
        raise StoreMismatch(f"The archive has no project {project!r}; it has {names}.")
    return chosen


def refuse_folder(
    folder: Path, project: str, *, overwrite: bool = False, **how: Unpack[PlanKeywords]
) -> FolderContent:
    """What earlier exports left in *folder*; a StoreUnreachable if *project* cannot be written there."""
    return check_folder(folder, project, checked_plan(**how), overwrite=overwrite)


def check_folder(folder: Path, project: str, plan: ExportPlan, *, overwrite: bool) -> FolderContent:
    """What earlier exports left in *folder*; a StoreUnreachable if *project* cannot be written there."""
    with _translated(folder):
        found = read_folder(folder)
        if not overwrite:
            refuse_foreign_files(folder, _names(project, found, plan), found)
    return found


def _names(project: str, found: FolderContent, plan: ExportPlan) -> list[str]:
    """The names of the files and folders of *project*."""
    label = plan.label_of(project, found)
    return [f"{stem}{label}{end}" for each in plan.formats for stem, end in each.names(plan.options)]


@contextmanager
def _translated(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as failure:
        what = f"{failure.strerror or failure}: {folder}."
        if failure.errno in FULL:
            raise StoreError(what) from failure
        raise StoreUnreachable(f"{what} Use another folder or change its permissions.") from failure


class Export(NamedTuple):
    archive: Archive
    folder: Path
    plan: ExportPlan

    async def run(self, group: Sequence[ProjectInfo], *, overwrite: bool) -> Manifest:
        """Write the files of *group*: one project, or all of them into the same files."""
        folder, name = self.folder, group[0].project
        with _translated(folder):
            await to_thread.run_sync(dialects)  # which reads what is installed, once
            found = await to_thread.run_sync(
                partial(check_folder, folder, name, self.plan, overwrite=overwrite)
            )
            await to_thread.run_sync(make_folder, folder)
            mode = mode_of(folder / MANIFEST)
            earlier = None if mode is None else found.manifest
            if earlier is not None and await self._is_idle(group, found, earlier):
                await to_thread.run_sync(forget_begun, folder)
                return earlier
            own = await self._written(group, found, self.plan)
            entries, digest = [*await self._others(group, found), *own], await self._digest()
            manifest = await to_thread.run_sync(_manifest_of, entries, digest, earlier)
            async with WholeFile(folder, MANIFEST, mode=mode, beside=UNFINISHED) as file:
                await file.write(lambda: canonical(manifest))
            await to_thread.run_sync(forget_begun, folder)
        return manifest

    async def _is_idle(self, group: Sequence[ProjectInfo], found: FolderContent, earlier: Manifest) -> bool:
        """Whether the archive and the files are, byte for byte, as the *earlier* manifest says: then they are
        as sound as they were, and need not be read row by row.

        With several projects, the archive may have been damaged before the export of another one.
        """
        listed = {each.project: each for each in earlier.projects}
        names = {each.project for each in group}
        return (
            earlier.tool == await to_thread.run_sync(this_tool)
            and listed.keys() == names
            and names.issuperset(found.owners.values())
            and all(self.plan.has_written(listed[each.project], each.changes) for each in group)
            and all(each.api in dialects() for each in group)
            and earlier.archive is not None
            and all([await self._has_all_media(listed[each.project]) for each in group])
            and await to_thread.run_sync(self._are_intact, earlier.files)
            and await self._digest() == earlier.archive
        )

    async def _has_all_media(self, entry: ProjectFiles) -> bool:
        listed = [(each.name, each.sha256) for each in entry.files if each.format == MEDIA]
        return listed == [(each.name, each.sha256) for each in await self._media_of(entry.project)]

    def _are_intact(self, files: Sequence[WrittenFile]) -> bool:
        return all(
            mode_of(path := self.folder / each.name) is not None
            and fingerprint(path) == (each.bytes, each.sha256)
            for each in files
        )

    async def _written(
        self, group: Sequence[ProjectInfo], found: FolderContent, plan: ExportPlan
    ) -> list[ProjectFiles]:
        """The entries of *group*, whose files are in their places."""
        label = plan.label_of(group[0].project, found)
        readings = [await self._reading(each) for each in group]
        claim = Claim(self.folder, found, group[0], label, is_merged=plan.is_merged)
        targets = [Target(self.folder, label, plan.options, claim) for _ in plan.formats]
        before = plan.removed()
        async with AsyncExitStack() as files:
            writes = [
                await files.enter_async_context(each.open(target))
                for each, target in zip(plan.formats, targets, strict=True)
            ]
            for each in readings:
                async with aclosing(each.batches()) as batches:
                    async for batch in batches:
                        for write in writes:
                            await write(batch)
        written = [
            replace(file, format=each.name)
            for each, target in zip(plan.formats, targets, strict=True)
            for file in target.written
        ]
        media = {each.project: await self._media_of(each.project) for each in group}
        kept, stale = earlier_files(found, label, written, plan.formats, is_merged=plan.is_merged)
        # What a killed export had written into a folder of its own, no manifest lists.
        own = tuple(each for each in _names(group[0].project, found, plan) if each.endswith("/"))
        there = await to_thread.run_sync(self._there, [each for each in found.files if each.startswith(own)])
        stale = sorted({*stale, *there} - {each.name for each in written})
        await to_thread.run_sync(claim.remove, stale)
        await to_thread.run_sync(remove_left_behind, self.folder)
        removed = dict(plan.removed() - before)
        earlier = {each.project: each.formats for each in found.listed if each.merged == plan.is_merged}
        entries: list[ProjectFiles] = []
        for about, intact in zip(group, readings, strict=True):
            runs = {
                each.name: FormatRun(
                    changes=about.changes,
                    options=plan.options,
                    privacy=plan.description(),
                    redacted=removed,
                    replaced=dict(+target.replaced),
                )
                for each, target in zip(plan.formats, targets, strict=True)
            }
            entries.append(
                replace(
                    await self._entry(about, intact),
                    files=[*written, *media[about.project], *kept],
                    label=label,
                    merged=plan.is_merged,
                    formats=earlier.get(about.project, {}) | runs,
                )
            )
        return entries

    def _there(self, names: Iterable[str]) -> list[str]:
        return [each for each in names if (self.folder / each).is_file()]

    async def _media_of(self, project: str) -> list[WrittenFile]:
        """What was downloaded of a project's media, now or earlier."""
        return [
            WrittenFile(
                name=f"{MEDIA}/{each.name}", bytes=each.bytes, rows=1, sha256=each.sha256, format=MEDIA
            )
            for each in await to_thread.run_sync(media_files, self.folder, project)
        ]

    async def _reading(self, about: ProjectInfo) -> IntactTranscripts:
        dialect = dialects().get(about.api)
        if dialect is None:
            raise StoreMismatch(
                f"The project {about.project!r} is of the API {about.api!r}, which is not installed."
            )
        damaged: dict[str, str] = {}
        for each in await self.archive.flaws(about.project, is_thorough=False):
            if each.session_id is None:
                raise StoreBroken(each.what)
            damaged[each.session_id] = "its rows do not belong together"
        privacy = self.plan.privacy
        change = None if privacy is None else privacy.transcript
        return IntactTranscripts(self.archive, about.project, dialect(), damaged, change)

    async def _entry(self, about: ProjectInfo, intact: IntactTranscripts) -> ProjectFiles:
        failed = _failures(await self.archive.failures(about.project), intact.damaged)
        counts = await self.archive.counts(about.project)
        if intact.read != counts.sessions:
            what = f"{intact.read:,} of {counts.sessions:,} sessions were read"
            raise StoreBroken(f"An index of the archive is damaged: {what}.")
        return ProjectFiles(
            complete=counts.listed and not counts.pending and not failed,
            api=about.api,
            project=about.project,
            filters=_filters_of(about),
            sessions=intact.sessions,
            messages=intact.messages,
            failed=failed,
            files=[],
            changes=about.changes,
        )

    async def _others(self, group: Sequence[ProjectInfo], found: FolderContent) -> list[ProjectFiles]:
        """The entries of all other projects that have files here.

        Without an entry in the earlier manifest nothing says that files are whole: they are written again,
        like files that are missing.
        """
        if self.plan.is_merged:
            return []
        merged = {each.project for each in found.listed if each.merged}
        own = self.plan.label_of(group[0].project, found)
        owners = {**found.owners, own: group[0].project}
        # What they shared is gone: others are not to remove what took its place.
        plain = [each for each in found.listed if not each.merged]
        manifest = None if found.manifest is None else replace(found.manifest, projects=plain)
        there = merged.union(found.owners.values()) - {each.project for each in group}
        listed: list[ProjectFiles] = []
        for each in found.listed:
            if each.project in there and not each.merged:
                names = [file.name for file in each.files]
                if len(await to_thread.run_sync(self._there, names)) == len(names):
                    listed.append(each)
        there -= {each.project for each in listed}
        known = dialects()
        for about in await self.archive.projects():
            if about.project in there and about.api in known:
                had = [file for each in found.listed if each.project == about.project for file in each.files]
                # In the formats that they had, and without what is removed now.
                formats = [FORMATS[each.format] for each in had if each.format in FORMATS] or [JSONL]
                plan = self.plan._replace(formats=list(dict.fromkeys(formats)))
                written = await self._written([about], found._replace(owners=owners, manifest=manifest), plan)
                owners[written[0].label] = about.project
                listed += written
        return listed

    async def _digest(self) -> ArchiveDigest | None:
        path = self.archive.path
        if path is None:
            return None
        is_here = await to_thread.run_sync(lambda: path.resolve().parent == self.folder.resolve())
        return await self.archive.digest() if is_here else None


def _manifest_of(
    entries: Sequence[ProjectFiles], digest: ArchiveDigest | None, earlier: Manifest | None
) -> Manifest:
    """The manifest of *entries*; the *earlier* one, where they differ in their time alone."""
    manifest = Manifest.of(entries, digest)
    if earlier is not None and signed(replace(earlier, written_at=manifest.written_at)) == manifest:
        return earlier
    return manifest


def earlier_files(
    found: FolderContent,
    label: str,
    written: Sequence[WrittenFile],
    formats: Sequence[Format],
    *,
    is_merged: bool,
) -> tuple[list[WrittenFile], list[str]]:
    """The files of other formats that stay listed, and the names of files that nothing lists any more."""
    kept, stale = list[WrittenFile](), list[str]()
    new, names = {each.name for each in written}, {each.name for each in formats}
    for entry in found.listed:
        for each in (file for file in entry.files if file.format != MEDIA):
            if entry.merged == is_merged and entry.label == label and each.format not in names:
                kept.append(each)
            elif entry.merged != is_merged or entry.label == label:
                stale.append(each.name)
    return list({each.name: each for each in kept}.values()), sorted(set(stale) - new)


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
