"""Hand a store on: the files of each format, then the manifest."""

import errno
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from anyio import to_thread

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreBroken, StoreError, StoreUnreachable
from navtalk_async.export.files import WrittenFile
from navtalk_async.export.jsonl import write_jsonl
from navtalk_async.export.manifest import MANIFEST, Failure, Manifest, write_manifest
from navtalk_async.failpoints import reach
from navtalk_async.models import Message, Session
from navtalk_async.store.seal import Seal
from navtalk_async.store.sqlite import SqliteStore
from navtalk_async.store.store import Store

__all__ = ["FORMATS", "write_files"]

Write = Callable[[Store, str, tuple[type[Session], type[Message]], Path], Awaitable[list[WrittenFile]]]

FORMATS: dict[str, Write] = {"jsonl": write_jsonl}
"""How each format is written, by its name."""

FULL = (errno.ENOSPC, errno.EDQUOT)


async def write_files(
    store: Store,
    folder: Path,
    *,
    dialect: Dialect,
    project: str = "default",
    formats: Sequence[str] = ("jsonl",),
    filters: dict[str, Any] | None = None,
) -> Manifest:
    """Write *project* of *store* into *folder* in each of *formats*, and `manifest.json` last.

    Each file appears whole or not at all. *filters* are told in the manifest.

    Raises:
        ValueError: a format that is none of `FORMATS`.
        StoreError: the store cannot be read, or the disk is full.
        StoreUnreachable: the folder cannot be made, or not be written to.
    """
    unknown = [each for each in formats if each not in FORMATS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no format; choose from {', '.join(FORMATS)}.")
    try:
        await to_thread.run_sync(partial(folder.mkdir, parents=True, exist_ok=True))
        # An earlier manifest must not vouch for files that it has not seen.
        await to_thread.run_sync(_withdraw, folder / MANIFEST)
        files = [
            written
            for each in formats
            for written in await FORMATS[each](store, project, dialect.record_kinds, folder)
        ]
        counts = await store.counts(project)
        failures = await store.failures(project)
        manifest = Manifest(
            complete=counts.listed and not counts.pending and not counts.failed,
            api=dialect.api,
            project=project,
            filters=filters or {},
            sessions=counts.sessions,
            messages=counts.messages,
            failed=[Failure(**each._asdict()) for each in failures],
            files=files,
            archive=await _sealed(store, folder),
            written_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            tool=f"navtalk-async {version('navtalk-async')}",
        )
        await write_manifest(manifest, folder)
    except msgspec.DecodeError as failure:
        raise StoreBroken(f"The archive is damaged: an object in it is not JSON: {failure}.") from failure
    except OSError as failure:
        kind = StoreError if failure.errno in FULL else StoreUnreachable
        raise kind(f"{folder} cannot be written to: {failure.strerror or failure}.") from failure
    return manifest


def _withdraw(manifest: Path) -> None:
    reach("manifest: before unlink")
    manifest.unlink(missing_ok=True)
    reach("manifest: after unlink")


async def _sealed(store: Store, folder: Path) -> Seal | None:
    """What tells the archive in *folder* from any other; None where it is elsewhere."""
    if not isinstance(store, SqliteStore) or not await to_thread.run_sync(_is_in, store.path, folder):
        return None
    return await store.sealed()


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().parent == folder.resolve()
