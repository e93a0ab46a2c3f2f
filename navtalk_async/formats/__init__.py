"""How an archive is handed on: the files of each format, and a manifest with their checksums."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from navtalk_async.archive import Archive
from navtalk_async.errors import StoreMismatch
from navtalk_async.formats._export import Export, chosen_projects, refuse_folder
from navtalk_async.formats._folder import (
    ARCHIVE,
    Manifest,
    ProjectFiles,
    read_folder,
    read_manifest,
    refuse_emptied,
)
from navtalk_async.formats._forgotten import forgotten_files, forgotten_ids_in
from navtalk_async.formats._format import Format, FormatKeywords, FormatOptions
from navtalk_async.formats._plan import FORMATS, checked_plan
from navtalk_async.formats._rows import (
    fields_of,
    kinds_of,
    message_fields,
    session_fields,
    transcript_fields,
)
from navtalk_async.formats._whole_file import MANIFEST, WrittenFile, withdraw
from navtalk_async.privacy import Privacy

__all__ = [
    "ARCHIVE",
    "FORMATS",
    "MANIFEST",
    "Format",
    "FormatKeywords",
    "FormatOptions",
    "Manifest",
    "ProjectFiles",
    "WrittenFile",
    "checked_plan",
    "chosen_projects",
    "export",
    "fields_of",
    "forgotten_files",
    "forgotten_ids_in",
    "kinds_of",
    "message_fields",
    "read_folder",
    "read_manifest",
    "refuse_emptied",
    "refuse_folder",
    "session_fields",
    "transcript_fields",
    "withdraw",
]


async def export(
    archive: Archive,
    folder: str | Path,
    *,
    formats: str | Sequence[str] = ("jsonl",),
    project: str | None = "default",
    merge_projects: bool = False,
    overwrite: bool = False,
    privacy: Privacy | None = None,
    **options: Unpack[FormatKeywords],
) -> Manifest:
    """Write *project* of *archive* into *folder* in each of *formats*, and `manifest.json` last.

    The archive is read once for all formats. Each file appears whole or not at all, and one that would stay
    the same is not touched; with nothing new, neither is `manifest.json`. The first project of a folder is in
    `transcripts.jsonl`, each other one in `transcripts.PROJECT.jsonl`; `manifest.json` lists all of them, and
    the files of other formats that earlier exports wrote. Sessions that are damaged in the archive are left
    out, and named in the manifest, which is then not `complete`.

    Arguments:
        archive: an open archive.
        formats: names of `FORMATS`, or one of them.
        project: None for all projects of the archive.
        merge_projects: write all projects into the same files, which have a column `project`.
        overwrite: also replace files of these names that no export wrote.
        privacy: what to remove from the texts.
        options: the attributes of `FormatOptions`.

    Raises:
        ValueError: an unknown format or option, or an empty path.
        ImportError: a format needs a library that is not installed; its sentence names the extra.
        StoreMismatch: the archive has no such project, or the API of the project is not installed.
        StoreError: the archive cannot be read, or the disk is full.
        StoreBroken: the archive is damaged, and not in single sessions alone.
        StoreUnreachable: the folder cannot be made or written to, or no export wrote a file there.
    """
    task = Export(
        archive,
        Path(folder),
        checked_plan(formats, merge_projects=merge_projects, privacy=privacy, **options),
    )
    if not str(folder):
        raise ValueError("The path of the folder is empty.")
    chosen = await chosen_projects(archive, None if merge_projects else project)
    groups = [chosen] if merge_projects else [[each] for each in chosen]
    if not chosen:
        raise StoreMismatch("The archive has no project yet.")
    for group in groups[:-1]:
        await task.run(group, overwrite=overwrite)
    return await task.run(groups[-1], overwrite=overwrite)
