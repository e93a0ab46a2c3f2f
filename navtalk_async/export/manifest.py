"""`manifest.json`: what was written, by which filters, and whether it is everything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from navtalk_async.export.files import WholeFile, WrittenFile

__all__ = ["Failure", "Manifest", "write_manifest"]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A session whose messages could not be had."""

    id: str
    reason: str
    attempts: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`."""

    complete: bool
    """Whether every session the API listed is in the files, with all its messages."""
    api: str
    project: str
    filters: dict[str, Any]
    sessions: int
    messages: int
    failed: Sequence[Failure]
    files: Sequence[WrittenFile]
    written_at: str
    tool: str


async def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write *manifest* into *folder*, after the files that it vouches for."""
    async with WholeFile(folder / "manifest.json") as file:
        await file.write(lambda: msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
