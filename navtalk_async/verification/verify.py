"""Verify an exported folder, a store, or a sample of a store against its API.

`quick` looks at what stands in a manifest: it says whether bytes have changed. The full verification also
parses everything and compares it: it says whether what was written was right.
"""

from collections.abc import Collection, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.archive.records import ArchiveDigest, ChangeMarker, Flaw, ProjectInfo
from navtalk_async.archive.rows import StoredTranscript
from navtalk_async.archive.seal import fingerprint, open_file
from navtalk_async.client import Client
from navtalk_async.dialects import dialects
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreError, StoreLocked, StoreMismatch
from navtalk_async.formats import ARCHIVE, MANIFEST, Manifest, ProjectFiles, chosen_projects, read_manifest
from navtalk_async.soundness import flaws_of
from navtalk_async.verification.archive import Since, judge_archive
from navtalk_async.verification.files import Lines, is_parsed, judge_file, open_lines
from navtalk_async.verification.lacking import find_lacking
from navtalk_async.verification.remote import ask_again, refuse_others, scope_of
from navtalk_async.verification.report import Finding, Remedy, Report, sessions, some
from navtalk_async.wire.limits import Concurrency

__all__ = ["verify_export", "verify_remote", "verify_store"]

LOST = (
    "btreeInitPage",
    "unable to get",
    "malformed",
    "invalid page",
    "2nd reference",
    "overflow",
    "Child page",
)
"""What SQLite's `integrity_check` says of pages that it cannot read."""


async def verify_export(
    folder: Path, report: Report, *, quick: bool = False, project: str | None = None
) -> None:
    """Verify the files of *folder* and the archive in it, and add to *report* what is wrong.

    Raises:
        StoreMismatch: its archive is of another version, or has no such *project*.
        StoreLocked: somebody began to write to it meanwhile.
    """
    manifest = await to_thread.run_sync(_manifest, folder, report)
    entries = [] if manifest is None else [e for e in manifest.entries if project in (None, e.project)]
    for each in (file for entry in entries for file in entry.files):
        report.found(await to_thread.run_sync(judge_file, folder, each, report.checked))
    seal = None if manifest is None else manifest.archive
    path = folder / (ARCHIVE if seal is None else seal.name)
    since = None if seal is None else await _judge_seal(path, seal, report)
    if manifest is not None and seal is None and path.exists():
        report.notes.append(f"The manifest has no checksum of {path.name}, which was being read by others.")
    beside = Beside(folder, entries, since)
    if path.exists():
        await _judge_archive(path, report, beside, quick=quick, project=project)
    if not quick:
        await to_thread.run_sync(beside.judge_rest, report)


async def verify_store(
    reader: Archive, where: str, report: Report, *, quick: bool = False, project: str | None = None
) -> None:
    """Verify the store that *reader* reads, all its projects or one, and add to *report* what is wrong.

    *where* names the store in findings.

    Raises:
        StoreMismatch: it has no such *project*.
        StoreLocked: somebody began to write to it meanwhile.
    """
    try:
        await _judge_store(reader, where, report, quick=quick, project=project)
    except (StoreMismatch, StoreLocked):
        raise
    except StoreError as failure:
        report.found([_unreadable(where, failure)])


async def verify_remote(
    client: Client,
    reader: Archive,
    report: Report,
    *,
    percent: float,
    project: str | None = None,
    only: Collection[tuple[str, str]] | None = None,
    concurrency: Concurrency = "auto",
    server: str | None = None,
) -> None:
    """Ask the API again for so many *percent* of the sessions of a store, at least one, and compare; and list
    its sessions, whether the store holds them all.

    Sessions that are known to be gone are left out. Those that the next sync reads again anyway (watched,
    pending or failed) may be behind, which is a note. The others should be as they are kept; those that
    changed at the API, or are gone, are findings. Those that cannot be had, while others can, are a note and
    counted in `report.checked.unasked`. Sessions that the API lists, and that the store does not hold, are
    findings, or a note where the next sync lists them anyway.

    Arguments:
        only: of the sessions that the store holds, these alone are asked for, by their projects and ids.
        server: the name of the server, see `sync`; by default, the client's `base_url`.

    Raises:
        StoreMismatch: there is no such *project*, or its API or server is another one.
        NavTalkError: the API cannot be asked, or not for any session of a project.
    """
    for about in await chosen_projects(reader, project):
        report.apis[about.project] = about.api
        refuse_others(client, about, server)
        ids = None if only is None else {name for owner, name in only if owner == about.project}
        if await ask_again(client, reader, about, report, percent=percent, only=ids, concurrency=concurrency):
            await find_lacking(client, reader, about, scope_of(about), report, concurrency=concurrency)


def _manifest(folder: Path, report: Report) -> Manifest | None:
    try:
        with open_file(folder / MANIFEST) as file:
            return read_manifest(file.read())
    except FileNotFoundError:
        what = "it is not there: the export was not finished, or the manifest was lost"
    except OSError as failure:
        what = f"it cannot be read: {failure.strerror or failure}"
    except ValueError as failure:
        what = str(failure)
    report.found([Finding(MANIFEST, what, Remedy.EXPORT)])
    return None


async def _judge_seal(path: Path, seal: ArchiveDigest, report: Report) -> Since:
    try:
        found = await to_thread.run_sync(fingerprint, path)
    except OSError as failure:
        what = f"it cannot be read: {failure.strerror or failure}"
        report.found([Finding(seal.name, what, Remedy.COPY)])
        return Since.SAME
    report.checked.files += 1
    report.checked.bytes += found[0]
    mark: ChangeMarker | None = None
    try:
        async with Archive.open(path, immutable=True, read_only=True) as reader:
            mark = await reader.change_marker()
    except StoreError:
        pass  # Told where the whole of it is read.
    since, findings = judge_archive(seal, found, mark)
    report.found(findings)
    return since


class Beside:
    """The files beside an archive, as its manifest lists them."""

    def __init__(self, folder: Path, entries: Sequence[ProjectFiles], since: Since | None) -> None:
        self.since = since
        self._entries = {each.project: each for each in entries}
        self.lines = {
            each.project: Lines(
                open_lines(folder / file.name), file.name, {one.id for one in each.failed if one.damaged}
            )
            for each in entries
            for file in each.files
            if is_parsed(file.name)
        }

    def are_of(self, about: ProjectInfo) -> bool:
        """Whether the files of a project were written from the archive as it is now."""
        entry = self._entries[about.project]
        if entry.changes is None:
            return self.since is Since.SAME
        return entry.changes == about.changes

    async def weigh(self, reader: Archive, where: str, report: Report, project: str | None) -> None:
        """Compare the archive's counts with those of the manifest."""
        for about in await chosen_projects(reader, project):
            if about.project not in self._entries:
                continue
            entry = self._entries[about.project]
            if not self.are_of(about):
                report.notes.append(
                    f"{about.project} was synced since its files were written, and {where} is not compared "
                    "with them; the same `navtalk export` brings them up to date."
                )
            elif not any(each.damaged for each in entry.failed):
                counts = await reader.counts(about.project)
                report.found(_count_flaws(where, entry, (counts.sessions, counts.messages), Remedy.REPAIR))

    def judge_rest(self, report: Report) -> None:
        """Judge what the files hold beyond the archive."""
        for project, lines in self.lines.items():
            report.found(lines.rest())
            found = (lines.rows, lines.messages)
            report.found(_count_flaws(lines.name, self._entries[project], found, Remedy.EXPORT))


async def _judge_archive(
    path: Path, report: Report, beside: Beside, *, quick: bool, project: str | None
) -> None:
    """Judge the archive beside the files; one that was not written to since is as they say, or damaged."""
    known = len(report.findings)
    try:
        async with Archive.open(path, immutable=True, read_only=True) as reader:
            await beside.weigh(reader, path.name, report, project)
            if beside.since is not Since.SAME or report.findings or not quick:
                await _judge_store(reader, path.name, report, quick=quick, project=project, beside=beside)
            else:
                await _note_unfinished(reader, report, project)
    except StoreLocked:
        raise
    except StoreError as failure:
        if isinstance(failure, StoreMismatch) and not known:
            raise
        report.found([_unreadable(path.name, failure)])


async def _note_unfinished(reader: Archive, report: Report, project: str | None) -> None:
    """Note the sessions whose messages are not there, since they failed or are still to be fetched."""
    for about in await chosen_projects(reader, project):
        failures = await reader.failures(about.project)
        pending = await reader.pending(about.project)
        unfinished = [*pending, *(each.id for each in failures)]
        report.unfinished |= {(about.project, each) for each in unfinished}
        if failures:
            named = some(f"{each.id} ({each.reason.removesuffix('.')})" for each in failures)
            report.notes.append(
                f"{about.project}: {sessions(len(failures))} failed, and the archive does not hold all of "
                f"{'it' if len(failures) == 1 else 'them'}: {named}. "
                "The same command with --retry-failed tries again."
            )
        if pending:
            report.notes.append(
                f"{about.project}: {sessions(len(pending))} pending; the same export or sync again fetches "
                f"{'it' if len(pending) == 1 else 'them'}."
            )


async def _judge_store(
    reader: Archive,
    where: str,
    report: Report,
    *,
    quick: bool,
    project: str | None,
    beside: Beside | None = None,
) -> None:
    known, before = len(report.findings), await reader.change_marker()
    is_readable = False
    try:
        for about in await chosen_projects(reader, project):
            report.apis[about.project] = about.api
            report.found(_finding_of(where, about, each) for each in await reader.flaws(about.project))
            if not quick:
                await _judge_transcripts(reader, about, where, report, beside)
        await _note_unfinished(reader, report, project)
        is_readable = True
    finally:
        doubtful = not is_readable or len(report.findings) > known
        if doubtful and reader.path is not None:
            await _make_sure_of_quiet(reader.path, before)


def _finding_of(where: str, about: ProjectInfo, flaw: Flaw) -> Finding:
    what = flaw.what.removesuffix(".")
    if flaw.session_id is not None:
        return Finding(where, what, Remedy.REPAIR, about.project, flaw.session_id)
    # Indexes and free space are rebuilt; rows in pages that cannot be read are lost.
    is_lost = any(words in what for words in LOST)
    return Finding(where, what, Remedy.COPY if is_lost else Remedy.REPAIR)


async def _make_sure_of_quiet(path: Path, before: ChangeMarker | None) -> None:
    """What is written to while it is read without a lock may look damaged.

    Raises:
        StoreLocked: somebody began to write to the archive.
    """
    async with Archive.open(path, immutable=True, read_only=True) as again:
        if await again.change_marker() != before:
            raise StoreLocked(f"Another run began to write to {path} while it was being verified.")


async def _judge_transcripts(
    reader: Archive, about: ProjectInfo, where: str, report: Report, beside: Beside | None
) -> None:
    known = dialects().get(about.api)
    if known is None:
        what = f"the project {about.project!r} is of an API that is not known: {about.api!r}"
        report.found([Finding(where, what, Remedy.COPY)])
        return
    dialect = known()
    lines = None if beside is None else beside.lines.get(about.project)
    if lines is not None and beside is not None and beside.are_of(about):
        lines.kinds = dialect.record_kinds
    judge = partial(_judge_block, about=about, dialect=dialect, where=where, lines=lines)
    async with aclosing(reader.transcript_batches(about.project)) as blocks:
        async for block in blocks:
            report.found(await to_thread.run_sync(judge, block))
            report.checked.sessions += len(block)
            report.checked.messages += sum(len(each.messages) for each in block)


def _judge_block(
    block: Sequence[StoredTranscript],
    *,
    about: ProjectInfo,
    dialect: Dialect,
    where: str,
    lines: Lines | None,
) -> list[Finding]:
    found = [_flawed(kept, what, about, where) for kept in block for what in flaws_of(kept, dialect)]
    return found + (lines.beside(block) if lines is not None else [])


def _flawed(kept: StoredTranscript, what: str, about: ProjectInfo, where: str) -> Finding:
    session = kept.session
    place = f"{where}, {about.project}, session {session.id}"
    if session.deleted_at is None:
        return Finding(place, what, Remedy.REPAIR, about.project, str(session.id))
    return Finding(place, f"{what}; the API no longer has it", Remedy.COPY, about.project, str(session.id))


def _count_flaws(where: str, entry: ProjectFiles, found: tuple[int, int], cure: Remedy) -> list[Finding]:
    told = (entry.sessions, entry.messages)
    return [
        Finding(where, f"it holds {count:,} {what}, and the manifest says {expected:,}", cure, entry.project)
        for count, expected, what in zip(found, told, ("sessions", "messages"), strict=True)
        if count != expected
    ]


def _unreadable(where: str, failure: StoreError) -> Finding:
    return Finding(where, str(failure.args[0]).removesuffix("."), Remedy.COPY)
