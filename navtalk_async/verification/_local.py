"""What is wrong with an archive, and with the files beside it, as can be seen without the API.

A quick verification compares sizes and checksums: it shows whether bytes have changed. A full one also parses
everything and compares it: it shows whether what was written was right.
"""

import asyncio
import re
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker, Flaw, ProjectInfo
from navtalk_async.archive.rows import StoredTranscript, flaws_of
from navtalk_async.archive.sqlite_file import fingerprint
from navtalk_async.dialects import dialects
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch, counted
from navtalk_async.formats import ARCHIVE, MANIFEST, chosen_projects, read_folder
from navtalk_async.verification._files import ExportedFile, files_of, find_manifest, finish, select_files
from navtalk_async.verification._report import Finding, Remedy, Report, some

REMOVED = (
    f"There is no {MANIFEST}, so no exported file was checked: `navtalk forget --files` removes them, and "
    "the same `navtalk export` writes them anew."
)

LOST_PAGE = re.compile("btreeInitPage|unable to get|malformed|invalid page|2nd reference|overflow|Child page")
"""What SQLite's `integrity_check` says of pages that it cannot read."""


async def verify_folder(folder: Path, report: Report, *, quick: bool, project: str | None) -> None:
    if await _was_removed(folder):
        manifest = None
        report.notes.append(REMOVED)
    else:
        manifest = await to_thread.run_sync(find_manifest, folder, report)
    entries = [] if manifest is None else [e for e in manifest.projects if project in (None, e.project)]
    files = files_of(folder, entries, quick=quick)
    digest = None if manifest is None else manifest.archive
    path = folder / (ARCHIVE if digest is None else digest.name)
    is_same = digest is not None and not await _was_synced(path, digest, report)
    is_there = await to_thread.run_sync(path.exists)
    if manifest is not None and digest is None and is_there:
        report.notes.append(f"The manifest has no checksum of {path.name}: other processes were reading it.")
    if is_there:
        await ArchiveCheck(path, report, quick, project, files, is_same).run()
    await to_thread.run_sync(finish, files, report)


async def _was_removed(folder: Path) -> bool:
    """Whether the manifest and its files are missing, as after sessions and their files were forgotten."""
    path = folder / ARCHIVE
    if not await to_thread.run_sync(_is_all_there_is, folder):
        return False
    try:
        async with Archive.open(path, read_only=True, immutable=True) as archive:
            return bool(await archive.tombstones())
    except StoreError:
        return False  # Found again, and reported, when all of it is read.


def _is_all_there_is(folder: Path) -> bool:
    has_archive_alone = (folder / ARCHIVE).exists() and not (folder / MANIFEST).exists()
    return has_archive_alone and not read_folder(folder).files


async def _was_synced(path: Path, digest: ArchiveDigest, report: Report) -> bool:
    """Whether a sync wrote to the archive since the export; any other change is reported."""
    try:
        found = await to_thread.run_sync(fingerprint, path)
    except OSError as failure:
        what = f"cannot be read: {failure.strerror or failure}"
        report.findings.append(Finding(digest.name, what, Remedy.COPY))
        return False
    report.checked.files += 1
    report.checked.bytes += found[0]
    marker: ChangeMarker | None = None
    try:
        async with Archive.open(path, read_only=True, immutable=True) as archive:
            marker = await archive.change_marker()
    except StoreError:
        pass  # Found again, and reported, when all of it is read.
    was_synced, what = compare_digest(digest, found, marker)
    report.findings += [Finding(digest.name, what, Remedy.REPAIR)] if what else []
    return was_synced


def compare_digest(
    digest: ArchiveDigest, found: tuple[int, str], marker: ChangeMarker | None
) -> tuple[bool, str]:
    """Whether an archive was synced since its *digest*, and what is wrong with it.

    *found* is the size and SHA-256 of its file now; *marker* is None if it cannot be read. A sync leaves two
    traces, the number of changes and the noted progress. Damage may look like one of them, not like both.
    """
    grown = 0 if marker is None else marker.changes - digest.changes
    if marker is not None and grown > 0 and marker.state != digest.state:
        return True, ""
    if grown < 0:
        return False, f"is older than the export by {counted(-grown, 'change')}"
    if grown or found != (digest.bytes, digest.sha256):
        return False, "changed since the export, but not by a sync"
    return False, ""


class ArchiveCheck(NamedTuple):
    """Checks an archive, and compares the *files* beside it with its sessions."""

    place: str | Path
    report: Report
    quick: bool
    project: str | None
    files: Sequence[ExportedFile] = ()
    is_same: bool = False
    """Whether the archive is as it was when the files were written."""

    @property
    def name(self) -> str:
        return self.place.name if isinstance(self.place, Path) else redacted(self.place)

    async def run(self) -> None:
        findings = self.report.findings
        known = len(findings)
        try:
            async with Archive.open(self.place, read_only=True, immutable=True) as archive:
                await self._verify(archive, is_trusted=self.quick and self.is_same and not known)
        except StoreLocked:
            raise
        except StoreError as failure:
            is_away = not isinstance(self.place, Path) and not isinstance(failure, StoreBroken)
            if is_away or (isinstance(failure, StoreMismatch) and not known):
                raise
            findings.append(Finding(self.name, str(failure.args[0]).removesuffix("."), Remedy.COPY))

    async def _verify(self, archive: Archive, *, is_trusted: bool) -> None:
        known, before = len(self.report.findings), await archive.change_marker()
        is_readable = False
        try:
            for about in await chosen_projects(archive, self.project):
                if not is_trusted:
                    await self._verify_project(archive, about)
                await self._note_unfinished(archive, about.project)
            is_readable = True
        finally:
            if not is_readable or len(self.report.findings) > known:
                await _refuse_if_written(archive.path, before)

    async def _verify_project(self, archive: Archive, about: ProjectInfo) -> None:
        report, known = self.report, len(self.report.findings)
        report.apis[about.project] = about.api
        files = select_files(about, self.files, self.name, report)
        # The database checks itself on a core of its own.
        results = await asyncio.gather(
            archive.flaws(about.project), self._verify_sessions(archive, about, files), return_exceptions=True
        )
        if isinstance(results[0], list):
            report.findings[known:known] = [self._finding(about, each) for each in results[0]]
        for each in results:
            if isinstance(each, BaseException):
                raise each

    async def _verify_sessions(
        self, archive: Archive, about: ProjectInfo, files: Sequence[ExportedFile]
    ) -> None:
        report, kind = self.report, dialects().get(about.api)
        if self.quick:
            return
        if kind is None:
            what = f"the project {about.project!r} is of an unknown API: {about.api!r}"
            report.findings.append(Finding(self.name, what, Remedy.COPY))
            return
        dialect = kind()
        async with aclosing(archive.transcript_batches(about.project)) as batches:
            async for batch in batches:
                report.findings += await to_thread.run_sync(self._verify_batch, batch, dialect, files)
                report.checked.sessions += len(batch)
                report.checked.messages += sum(len(each.messages) for each in batch)

    def _finding(self, about: ProjectInfo, flaw: Flaw) -> Finding:
        what = flaw.what.removesuffix(".")
        if flaw.session_id is not None:
            return Finding(self.name, what, Remedy.REPAIR, about.project, flaw.session_id)
        # Indexes and free space are rebuilt; rows in pages that cannot be read are lost.
        return Finding(self.name, what, Remedy.COPY if LOST_PAGE.search(what) else Remedy.REPAIR)

    def _verify_batch(
        self, batch: Sequence[StoredTranscript], dialect: Dialect, files: Sequence[ExportedFile]
    ) -> list[Finding]:
        for each in files:
            each.compare(batch)
        found: list[Finding] = []
        for kept in batch:
            row, is_gone = kept.session, kept.session.deleted_at is not None
            after, remedy = ("; the API no longer has it", Remedy.COPY) if is_gone else ("", Remedy.REPAIR)
            found += [
                Finding.of_session(row.project, str(row.id), what + after, remedy, within=self.name)
                for what in flaws_of(kept, dialect)
            ]
        return found

    async def _note_unfinished(self, archive: Archive, project: str) -> None:
        """Note the sessions whose messages are missing because they failed or are still to be fetched."""
        report = self.report
        failures, pending = await archive.failures(project), await archive.pending(project)
        report.unfinished |= {(project, each) for each in (*pending, *(each.id for each in failures))}
        if failures:
            named = some(f"{each.id} ({each.reason.removesuffix('.')})" for each in failures)
            report.notes.append(
                f"{project}: {counted(len(failures), 'session')} failed: {named}. "
                "A sync with retry_failed=True tries again."
            )
        if pending:
            count = counted(len(pending), "session")
            report.notes.append(f"{project}: {count} pending; run the same export or sync.")


async def _refuse_if_written(path: Path | None, before: ChangeMarker | None) -> None:
    # An archive that is written to while it is read without a lock may look damaged.
    if path is not None:
        async with Archive.open(path, read_only=True, immutable=True) as again:
            if await again.change_marker() != before:
                raise StoreLocked(f"Another run began to write to {path} while it was verified.")
