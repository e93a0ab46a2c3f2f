"""Hand a store on: the files of each format, then the manifest."""

import errno
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from anyio import to_thread

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreError, StoreUnreachable
from navtalk_async.export.files import WrittenFile
from navtalk_async.export.jsonl import write_jsonl
from navtalk_async.export.manifest import Failure, Manifest, write_manifest
from navtalk_async.models import Message, Session
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
        await to_thread.run_sync(partial((folder / "manifest.json").unlink, missing_ok=True))
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
            failed=[Failure(id=each, reason=reason, attempts=tries) for each, reason, tries in failures],
            files=files,
            written_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            tool=f"navtalk-async {version('navtalk-async')}",
        )
        await write_manifest(manifest, folder)
    except OSError as failure:
        kind = StoreError if failure.errno in FULL else StoreUnreachable
        raise kind(f"{folder} cannot be written to: {failure.strerror or failure}.") from failure
    return manifest
