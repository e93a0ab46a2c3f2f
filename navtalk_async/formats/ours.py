"""Whether a file that an export would replace was written by an export: nothing else is overwritten."""

import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from navtalk_async.errors import StoreUnreachable
from navtalk_async.formats.manifest import MANIFEST, Manifest, read_manifest
from navtalk_async.formats.names import candidates

__all__ = ["Found", "found_in", "refuse_others"]

LOOKED_AT = 1 << 17
"""Bytes at the beginning of a file that tell whose it is."""

COLUMNS = [b'"project":', b'"id":', b'"api":', b'"status":', b'"start_time":', b'"end_time":', b'"title":']

A_TEXT = rb'("(?:[^"\\]|\\.)*")'

OF_A_PROJECT = re.compile(rb'\{"project":' + A_TEXT)

BEGIN = re.compile(OF_A_PROJECT.pattern + rb',"id":' + A_TEXT + rb',"api":' + A_TEXT + rb',"status":')

BEGIN_OF_A_MANIFEST = re.compile(rb'\{\n  "complete": (true|false),\n  "api": "')

OF_A_MANIFEST = re.compile(rb'\n  "tool": "navtalk-async|\n  "digest": "[0-9a-f]{64}"\n\}')
"""Where one of these places is damaged, the other is not."""


class Found(NamedTuple):
    """What an earlier export left in a folder."""

    manifest: Manifest | None
    """None where it is not there, or damaged."""
    owners: dict[str, str]
    """Whose the exported files are: a project for each name."""


def found_in(folder: Path) -> Found:
    """What earlier exports left in *folder*.

    Raises:
        OSError: it cannot be read.
    """
    path, manifest = folder / MANIFEST, None
    # A pipe would be waited for.
    if path.is_file():
        with suppress(FileNotFoundError, ValueError):
            manifest = read_manifest(path.read_bytes())
    owners = {path.name: owner for path in folder.glob("transcripts*.jsonl") if (owner := _owner(path))}
    for entry in () if manifest is None else manifest.entries:
        # A manifest may have been made up: no name of another form is taken from it.
        names = set(candidates(entry.project))
        owners |= {each.name: entry.project for each in entry.files if each.name in names}
    return Found(manifest, owners)


def refuse_others(folder: Path, name: str, found: Found) -> None:
    """Refuse to replace the manifest, and the file *name*, where no export wrote them.

    Raises:
        StoreUnreachable: there is such a file.
    """
    for each, is_known in ((MANIFEST, _is_manifest), (name, _is_transcripts)):
        is_listed = found.manifest is not None and each in found.owners
        if not _is_ours(folder / each, (lambda _: True) if is_listed else is_known):
            raise StoreUnreachable(
                f"{folder / each} was not written by an export, and is left as it is; "
                "--overwrite (overwrite=True) replaces it."
            )


def _owner(path: Path) -> str | None:
    """The project whose export wrote *path*; None where that cannot be seen."""
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        begin = file.read(LOOKED_AT)
    named = OF_A_PROJECT.match(begin)
    if named is None or not _is_transcripts(begin):
        return None
    try:
        return msgspec.json.decode(named[1], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _is_ours(path: Path, is_known: Callable[[bytes], bool]) -> bool:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    # A link leads to what is somebody's; a pipe would be waited for.
    if not stat.S_ISREG(found.st_mode):
        return False
    with path.open("rb") as file:
        begin = file.read(LOOKED_AT)
    return not begin or is_known(begin)


def _is_transcripts(begin: bytes) -> bool:
    if BEGIN.match(begin):
        return True
    # A byte of it may be another one.
    return sum(column in begin for column in COLUMNS) >= len(COLUMNS) - 1


def _is_manifest(data: bytes) -> bool:
    if OF_A_MANIFEST.search(data):
        return True
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return BEGIN_OF_A_MANIFEST.match(data) is not None
    return False
