"""What happens to a folder before its files are replaced or removed, and what killed exports left in it."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from navtalk_async.archive.records import ProjectInfo
from navtalk_async.formats._folder import FolderContent, ProjectFiles, left_behind, note_begun
from navtalk_async.formats._whole_file import WrittenFile, withdraw


def remove_file(folder: Path, path: Path) -> None:
    """Remove a file in *folder*, and the folders that are empty then."""
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == folder:
            return
        with suppress(OSError):  # It holds other files.
            parent.rmdir()


def remove_left_behind(folder: Path) -> None:
    for each in left_behind(folder):
        remove_file(folder, each)


class Claim:
    """Notes the names of files before they are replaced or removed: the manifest must not list what it has
    not seen, and the next export knows them as ours if this one is killed.
    """

    def __init__(
        self, folder: Path, found: FolderContent, about: ProjectInfo, label: str, *, is_merged: bool
    ) -> None:
        self._folder, self._found = folder, found
        self._names: set[str] = set()
        self._entry = ProjectFiles(
            complete=False,
            api=about.api,
            project=about.project,
            filters={},
            sessions=0,
            messages=0,
            failed=[],
            files=[],
            changes=0,
            label=label,
            merged=is_merged,
        )

    def __call__(self, name: str) -> None:
        folder, mark, _ = name.partition("/")
        name = folder + mark
        if name in self._names:
            return
        self._names |= {name, *self._found.files}
        files = [WrittenFile(name=each, bytes=0, rows=0, sha256="") for each in sorted(self._names)]
        note_begun(self._folder, replace(self._entry, files=files))
        withdraw(self._folder)

    def remove(self, names: Sequence[str]) -> None:
        for each in names:
            self(each)
            remove_file(self._folder, self._folder / each)
