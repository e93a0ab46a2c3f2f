"""HTML: an archive that a browser opens from a disk, with charts, a list, a search and all transcripts."""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from anyio import to_thread

from navtalk_async.concurrency import shielded
from navtalk_async.formats._format import Format, Target, Write
from navtalk_async.formats._tables import Batch
from navtalk_async.formats.html._site import SiteWriter

__all__ = ["HTML"]


def _names(_: object) -> Sequence[tuple[str, str]]:
    return [("html", "/")]


@asynccontextmanager
async def _open(target: Target) -> AsyncGenerator[Write, None]:
    site = SiteWriter(target, target.name(*_names(None)[0]))

    async def write(batch: Batch) -> None:
        await to_thread.run_sync(site.add, batch.transcripts)

    try:
        await to_thread.run_sync(site.__enter__)
        yield write
        await to_thread.run_sync(site.finish)
        # Once for all pages; to wait for the disk for each of them takes minutes.
        if hasattr(os, "sync"):
            await to_thread.run_sync(os.sync)
    finally:
        await shielded(to_thread.run_sync(site.__exit__))


HTML = Format("html", _names, _open, needs="jinja2")
