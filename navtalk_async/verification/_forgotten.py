"""Whether anything is left of sessions that were forgotten: in tables, in the bytes of files, in exports."""

from collections.abc import Sequence
from pathlib import Path

from anyio import to_thread

from navtalk_async.archive import Archive, Tombstones, redacted
from navtalk_async.archive.sqlite_file import index_of
from navtalk_async.errors import counted
from navtalk_async.formats import chosen_projects, forgotten_files, forgotten_ids_in
from navtalk_async.verification._report import Finding, Remedy, Report


async def verify_forgotten(
    place: str | Path, folder: Path | None, report: Report, project: str | None
) -> None:
    """Report what is left of forgotten sessions in the archive at *place*, and in the files in *folder*."""
    name = place.name if isinstance(place, Path) else redacted(place)
    found: list[Finding] = []
    files: list[Path] = []
    async with Archive.open(place, read_only=True, immutable=True) as archive:
        for about in await chosen_projects(archive, project):
            lines = await archive.remains(about.project)
            found += [Finding(name, each.removesuffix("."), Remedy.FORGET, about.project) for each in lines]
        known = await archive.tombstones()
        if folder is not None:
            files = await forgotten_files(archive, folder)
    what = "may hold forgotten sessions: it was written before they were"
    found += [Finding(str(each), what, Remedy.FORGET) for each in files]
    if isinstance(place, Path):
        # Not before the archive is closed: to close a file gives up the locks of all who have it open.
        found += await to_thread.run_sync(_in_bytes, place, known)
    report.findings += found
    total = sum(len(each.digests) for each in known)
    report.notes.append(f"Searched for {counted(total, 'forgotten session')}.")


def _in_bytes(path: Path, known: Sequence[Tombstones]) -> list[Finding]:
    beside = [path, path.with_name(f"{path.name}-wal"), index_of(path)]
    counts = {each.name: forgotten_ids_in(each, known) for each in beside if known and each.exists()}
    what = "holds the ids of {} in its bytes"
    return [
        Finding(name, what.format(counted(count, "forgotten session")), Remedy.FORGET)
        for name, count in counts.items()
        if count
    ]
