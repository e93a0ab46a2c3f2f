"""`manifest.json`: what was written, by which filters, and whether it is everything.

Its `digest` is the SHA-256 of its own bytes with an empty digest, and there is one way only to write it, so
that not a byte of it can change unnoticed.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from navtalk_async.archive.seal import ArchiveDigest
from navtalk_async.formats.files import WholeFile, WrittenFile

__all__ = ["MANIFEST", "Failure", "Manifest", "ProjectFiles", "canonical", "read_manifest", "write_manifest"]

MANIFEST = "manifest.json"


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session whose messages could not be fetched, or that is damaged in the archive."""

    id: str
    reason: str
    attempts: int
    damaged: bool = False
    """Whether what the archive holds of it is damaged, and was left out of the files."""


class ProjectFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What was written of one project."""

    project: str
    api: str
    filters: dict[str, Any]
    complete: bool
    """Whether every session the API listed is in its files, with all its messages."""
    sessions: int
    messages: int
    failed: Sequence[Failure]
    files: Sequence[WrittenFile]
    changes: int | None = None
    """How many transactions had changed the project by then; None where an earlier version wrote it."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`.

    *api*, *project* and *filters* are those of the first project; the other fields are of all of them.
    """

    complete: bool
    """Whether every session the API listed is in the files, with all its messages."""
    api: str
    project: str
    filters: dict[str, Any]
    sessions: int
    messages: int
    failed: Sequence[Failure]
    files: Sequence[WrittenFile]
    projects: Sequence[ProjectFiles] | msgspec.UnsetType = msgspec.UNSET
    """Every project, each with its files; earlier versions wrote one only, and no list."""
    archive: ArchiveDigest | None = None
    """The archive beside the files; None where it is elsewhere, or was being read by others."""
    written_at: str
    tool: str
    digest: str = ""
    """The SHA-256 of the manifest without it."""

    @property
    def entries(self) -> Sequence[ProjectFiles]:
        """The projects, whichever version wrote it."""
        if self.projects is not msgspec.UNSET:
            return self.projects
        names = set(ProjectFiles.__struct_fields__) - {"changes"}
        return [ProjectFiles(**{name: getattr(self, name) for name in names})]

    @classmethod
    def of(
        cls, projects: Sequence[ProjectFiles], *, archive: ArchiveDigest | None, written_at: str, tool: str
    ) -> "Manifest":
        """The manifest of *projects*, the first of them first."""
        first = projects[0]
        return cls(
            complete=all(each.complete for each in projects),
            api=first.api,
            project=first.project,
            filters=first.filters,
            sessions=sum(each.sessions for each in projects),
            messages=sum(each.messages for each in projects),
            failed=[failure for each in projects for failure in each.failed],
            files=[file for each in projects for file in each.files],
            projects=projects,
            archive=archive,
            written_at=written_at,
            tool=tool,
        )


def canonical(manifest: Manifest) -> bytes:
    """The one way to write *manifest*, with its digest."""
    bare = msgspec.structs.replace(manifest, digest="")
    return _formatted(msgspec.structs.replace(bare, digest=sha256(_formatted(bare)).hexdigest()))


def _formatted(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(data: bytes) -> Manifest:
    """The manifest that *data* is, to the byte.

    Raises:
        ValueError: it is none, or has been changed; the message says what is wrong with it.
    """
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise ValueError(f"it is no manifest: {failure}") from None
    if not manifest.digest:
        raise ValueError("it has no digest of itself, as those of the first version have none")
    if canonical(manifest) != data:
        raise ValueError("it is not what its own digest says")
    return manifest


async def write_manifest(manifest: Manifest, folder: Path, *, mode: int | None = None) -> None:
    """Write *manifest* into *folder*, after the files that it lists."""
    async with WholeFile(folder / MANIFEST, mode=mode) as file:
        await file.write(lambda: canonical(manifest))
