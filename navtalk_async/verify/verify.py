"""Verify an exported folder, a store, or a sample of a store against its API.

`quick` looks at what stands in a manifest: it says whether bytes have changed. The full verification also
parses everything and compares it: it says whether what was written was right.
"""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from anyio import to_thread

from navtalk_async.client import Client
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.known import dialects
from navtalk_async.errors import StoreError, StoreLocked, StoreMismatch
from navtalk_async.export.manifest import MANIFEST, Manifest, read_manifest
from navtalk_async.store.rows import StoredTranscript
from navtalk_async.store.seal import Mark, Seal, fingerprint
from navtalk_async.store.sqlite_reader import SqliteReader
from navtalk_async.store.store import About, Reader
from navtalk_async.verify.archive import Since, judge_archive
from navtalk_async.verify.files import PARSED, Lines, judge_file, open_lines
from navtalk_async.verify.remote import ask_again
from navtalk_async.verify.report import Cure, Finding, Report
from navtalk_async.verify.transcripts import flaws_of
from navtalk_async.wire.limits import Concurrency

__all__ = ["ARCHIVE", "verify_export", "verify_remote", "verify_store"]

ARCHIVE = "archive.db"


async def verify_export(
    folder: Path, report: Report, *, quick: bool = False, project: str | None = None
) -> None:
    """Verify the files of *folder* and the archive in it, and add to *report* what is wrong.

    Raises:
        StoreMismatch: its archive is of another version, or has no such *project*.
        StoreLocked: somebody began to write to it meanwhile.
    """
    manifest = await to_thread.run_sync(_manifest, folder, report)
    seal = None if manifest is None else manifest.archive
    if manifest is not None:
        for each in manifest.files:
            report.found(await to_thread.run_sync(judge_file, folder, each, report.checked))
    path = folder / (ARCHIVE if seal is None else seal.name)
    since = None if seal is None else await _judge_seal(path, seal, report)
    if manifest is not None and seal is None and path.exists():
        report.notes.append(f"The manifest does not vouch for {path.name}, which was being read by others.")
    if since is Since.SYNCED:
        report.notes.append(
            f"{path.name} was synced since the files were written, and is not compared with them; "
            "the same `navtalk export` brings them up to date."
        )
    lines = None if manifest is None or quick else _lines(folder, manifest, since)
    if path.exists():
        vouched = manifest if since is Since.SAME else None
        await _judge_archive(path, report, quick=quick, project=project, vouched=vouched, lines=lines)
    if lines is not None and manifest is not None:
        report.found(await to_thread.run_sync(lines.rest))
        report.found(_count_flaws(PARSED, manifest, (lines.rows, lines.messages), Cure.EXPORT))


async def verify_store(
    reader: Reader, where: str, report: Report, *, quick: bool = False, project: str | None = None
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
    reader: Reader,
    report: Report,
    *,
    percent: float,
    project: str | None = None,
    concurrency: Concurrency = "auto",
) -> None:
    """Ask the API again for so many *percent* of the sessions of a store, at least one, and compare.

    Sessions that are known to be gone are left out. Those that the next sync reads again anyway (watched,
    pending or failed) may be behind, which is a note. The others should be as they are kept; those that
    changed at the API, or are gone, are findings. Those that cannot be had, while others can, are a note and
    counted in `report.checked.unasked`.

    Raises:
        StoreMismatch: there is no such *project*, or its API is another one.
        NavTalkError: the API cannot be asked, or not for any session of a project.
    """
    for about in await _projects(reader, project):
        if about.api != client.dialect.api:
            raise StoreMismatch(f"The project {about.project!r} is of the API {about.api!r}; give --api.")
        await ask_again(client, reader, about, report, percent=percent, concurrency=concurrency)


def _manifest(folder: Path, report: Report) -> Manifest | None:
    try:
        return read_manifest((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        what = "it is not there: the export was not finished, or the manifest was lost"
    except OSError as failure:
        what = f"it cannot be read: {failure.strerror or failure}"
    except ValueError as failure:
        what = str(failure)
    report.found([Finding(MANIFEST, what, Cure.EXPORT)])
    return None


async def _judge_seal(path: Path, seal: Seal, report: Report) -> Since:
    try:
        found = await to_thread.run_sync(fingerprint, path)
    except OSError as failure:
        what = f"it cannot be read: {failure.strerror or failure}"
        report.found([Finding(seal.name, what, Cure.COPY)])
        return Since.SAME
    report.checked.files += 1
    report.checked.bytes += found[0]
    mark: Mark | None = None
    try:
        async with SqliteReader(path, at_a_glance=True) as reader:
            mark = await reader.mark()
    except StoreError:
        pass  # Told where the whole of it is read.
    since, findings = judge_archive(seal, found, mark)
    report.found(findings)
    return since


def _lines(folder: Path, manifest: Manifest, since: Since | None) -> Lines | None:
    if all(each.name != PARSED for each in manifest.files):
        return None
    dialect = dialects().get(manifest.api)
    kinds = dialect.record_kinds if dialect is not None and since is Since.SAME else None
    return Lines(open_lines(folder / PARSED), manifest.project, kinds)


async def _judge_archive(
    path: Path,
    report: Report,
    *,
    quick: bool,
    project: str | None,
    vouched: Manifest | None,
    lines: Lines | None,
) -> None:
    """Judge the archive beside the files; one that was not written to since is as they say, or damaged."""
    known = len(report.findings)
    try:
        async with SqliteReader(path, at_a_glance=True) as reader:
            if vouched is not None:
                counts = await reader.counts(vouched.project)
                found = (counts.sessions, counts.messages)
                report.found(_count_flaws(path.name, vouched, found, Cure.COPY))
            if vouched is None or report.findings or not quick:
                await _judge_store(reader, path.name, report, quick=quick, project=project, beside=lines)
    except StoreLocked:
        raise
    except StoreError as failure:
        if isinstance(failure, StoreMismatch) and not known:
            raise
        report.found([_unreadable(path.name, failure)])


async def _judge_store(
    reader: Reader,
    where: str,
    report: Report,
    *,
    quick: bool,
    project: str | None,
    beside: Lines | None = None,
) -> None:
    known, before = len(report.findings), await _mark(reader)
    is_readable = False
    try:
        for about in await _projects(reader, project):
            flaws = await reader.flaws(about.project)
            report.found(Finding(where, each.removesuffix("."), Cure.COPY) for each in flaws)
            if not quick:
                lines = beside if beside is not None and about.project == beside.project else None
                await _judge_transcripts(reader, about, where, report, lines)
        is_readable = True
    finally:
        doubtful = not is_readable or len(report.findings) > known
        if doubtful and isinstance(reader, SqliteReader):
            await _make_sure_of_quiet(reader, before)


async def _mark(reader: Reader) -> Mark | None:
    return await reader.mark() if isinstance(reader, SqliteReader) else None


async def _make_sure_of_quiet(reader: SqliteReader, before: Mark | None) -> None:
    """What is written to while it is read without a lock may look damaged.

    Raises:
        StoreLocked: somebody began to write to the archive.
    """
    async with SqliteReader(reader.path, at_a_glance=True) as again:
        if await again.mark() != before:
            raise StoreLocked(f"Another run began to write to {reader.path} while it was being verified.")


async def _judge_transcripts(
    reader: Reader, about: About, where: str, report: Report, lines: Lines | None
) -> None:
    known = dialects().get(about.api)
    if known is None:
        what = f"the project {about.project!r} is of an API that is not known: {about.api!r}"
        report.found([Finding(where, what, Cure.COPY)])
        return
    judge = partial(_judge_block, dialect=known(), where=f"{where}, {about.project}", lines=lines)
    async with aclosing(reader.transcripts(about.project)) as blocks:
        async for block in blocks:
            report.found(await to_thread.run_sync(judge, block))
            report.checked.sessions += len(block)
            report.checked.messages += sum(len(each.messages) for each in block)


def _judge_block(
    block: Sequence[StoredTranscript], *, dialect: Dialect, where: str, lines: Lines | None
) -> list[Finding]:
    found = [
        Finding(f"{where}, session {kept.session.id}", what, Cure.COPY)
        for kept in block
        for what in flaws_of(kept, dialect)
    ]
    return found + (lines.beside(block) if lines is not None else [])


async def _projects(reader: Reader, project: str | None) -> list[About]:
    there = await reader.projects()
    chosen = [each for each in there if project in (None, each.project)]
    if project is not None and not chosen:
        names = ", ".join(repr(each.project) for each in there) or "none"
        raise StoreMismatch(f"There is no project {project!r} in it; there is {names}.")
    return chosen


def _count_flaws(where: str, manifest: Manifest, found: tuple[int, int], cure: Cure) -> list[Finding]:
    told = (manifest.sessions, manifest.messages)
    return [
        Finding(where, f"it holds {count:,} {what}, and the manifest says {expected:,}", cure)
        for count, expected, what in zip(found, told, ("sessions", "messages"), strict=True)
        if count != expected
    ]


def _unreadable(where: str, failure: StoreError) -> Finding:
    return Finding(where, str(failure.args[0]).removesuffix("."), Cure.COPY)
