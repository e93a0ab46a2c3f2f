"""Whether the archive beside exported files is the one that they were written from, or a later one."""

from collections.abc import Sequence
from enum import Enum, auto

from navtalk_async.archive.records import ArchiveDigest, ChangeMarker
from navtalk_async.verification.report import Finding, Remedy

__all__ = ["Since", "judge_archive"]


class Since(Enum):
    """What became of an archive since it was sealed."""

    SAME = auto()
    """It was not written to, or should not have been."""
    SYNCED = auto()
    """It was written to by a sync."""


def judge_archive(
    seal: ArchiveDigest, found: tuple[int, str], after: ChangeMarker | None
) -> tuple[Since, Sequence[Finding]]:
    """What the file is, which was *found* with so many bytes and such a SHA-256, against its *seal*; with
    what it says of itself *after* that, None where it cannot be read.

    A sync leaves traces in two places, the count of its transactions and the progress that it notes. Damage
    may look like one of them; not like both.
    """
    if after is None:
        return Since.SAME, _differences(seal, found)
    if after.changes > seal.changes and after.state != seal.state:
        return Since.SYNCED, []
    if after.changes < seal.changes:
        return Since.SAME, [
            Finding(
                seal.name,
                f"it is older than the files: it has seen {after.changes:,} changes, they {seal.changes:,}",
                Remedy.REPAIR,
            )
        ]
    if after.changes > seal.changes:
        return Since.SAME, [
            Finding(seal.name, "it counts changes that cannot be seen anywhere else in it", Remedy.REPAIR)
        ]
    return Since.SAME, _differences(seal, found)


def _differences(seal: ArchiveDigest, found: tuple[int, str]) -> list[Finding]:
    size, sha256 = found
    if size != seal.bytes:
        return [
            Finding(seal.name, f"it has {size:,} bytes, and the manifest says {seal.bytes:,}", Remedy.REPAIR)
        ]
    if sha256 != seal.sha256:
        return [
            Finding(
                seal.name,
                "it changed since the export, but not by a sync: its SHA-256 is not that of the manifest",
                Remedy.REPAIR,
            )
        ]
    return []
