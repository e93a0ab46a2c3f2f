"""What exported files and media may still hold of sessions that were forgotten."""

import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from anyio import to_thread

from navtalk_async.archive import Archive, Tombstones
from navtalk_async.formats._folder import left_behind, read_folder
from navtalk_async.formats._media_index import INDEX, MEDIA, Link, MediaIndex, read_index
from navtalk_async.formats._whole_file import MANIFEST

UUID = re.compile(rb"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

CHUNK = 1 << 20


async def forgotten_files(archive: Archive, folder: Path, *, remove: bool = False) -> list[Path]:
    """The files in *folder* that may hold forgotten sessions of *archive*: exported files that were written
    before, with their manifest, and folders of media, with their index.

    Arguments:
        remove: remove them. The next export writes the files anew.

    Raises:
        StoreLocked: a run downloads media.
        StoreUnreachable: the index of the media is damaged.
    """
    known = await archive.tombstones()
    if not known:
        return []
    files, media = await to_thread.run_sync(_find, folder, known)
    if remove and files:
        await to_thread.run_sync(_remove, files)
    if remove and media:
        async with MediaIndex(folder / MEDIA) as index:
            await to_thread.run_sync(_remove_folders, media)
            index.entries = {
                link: entry
                for link, entry in index.entries.items()
                if not _is_forgotten(entry.project, entry.session, known)
            }
    return files + media


def _find(folder: Path, known: Sequence[Tombstones]) -> tuple[list[Path], list[Path]]:
    found, last = read_folder(folder), {each.project: each.change for each in known}
    stale, fresh = set[str](), set[str]()
    for entry in found.listed:
        for file in (each for each in entry.files if each.format != MEDIA):
            changes = entry.formats[file.format].changes if file.format in entry.formats else entry.changes
            (fresh if changes >= last.get(entry.project, 0) else stale).add(file.name)
    # What no manifest lists may be as old as any, and so may be what an export that was killed left.
    listed_media = {file.name for entry in found.listed for file in entry.files if file.format == MEDIA}
    old = [folder / name for name in sorted(found.files - (fresh - stale) - listed_media)]
    if found.files:
        # Only in the folder of an export: that of an archive may be anyone's.
        old += left_behind(folder)
    # A manifest may be forged, and lead elsewhere.
    old = [each for each in old if each.is_file() and each.resolve().is_relative_to(folder.resolve())]
    if old and found.manifest is not None:
        old.insert(0, folder / MANIFEST)
    media = folder / MEDIA
    there = {each.name for each in media.iterdir()} if media.is_dir() else set[str]()
    theirs = {name for name in there if _is_forgotten("default", name, known)}
    for each in read_index(media).values():
        if _is_forgotten(each.project, each.session, known):
            theirs |= {INDEX, Link(each.project, each.session, None, "").folder}
    return old, [media / name for name in sorted(theirs & there)]


def _is_forgotten(project: str, session_id: str, known: Sequence[Tombstones]) -> bool:
    return any(each.project == project and each.have(session_id) for each in known)


def _remove(files: Sequence[Path]) -> None:
    for each in files:
        each.unlink(missing_ok=True)


def _remove_folders(media: Sequence[Path]) -> None:
    for each in media:
        if each.is_dir():
            shutil.rmtree(each)


def forgotten_ids_in(path: Path, known: Sequence[Tombstones]) -> int:
    """How many ids of forgotten sessions are anywhere in the bytes of the file *path*; only ids that are
    UUIDs are found. No database may have it open in this process.
    """
    ids = {each for some in _uuids_in(path) for each in some if any(one.have(each) for one in known)}
    return len(ids)


def _uuids_in(path: Path) -> Iterator[set[str]]:
    with path.open("rb") as file:
        before = b""
        while data := file.read(CHUNK):
            before = before[-35:] + data
            yield {each.decode() for each in UUID.findall(before)}
