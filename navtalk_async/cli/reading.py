"""A store that is read, where the command line says it is: a database, or the folder of an export."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import click
from anyio import to_thread

from navtalk_async.errors import StoreUnreachable
from navtalk_async.store.sqlite_reader import SqliteReader
from navtalk_async.store.store import Reader
from navtalk_async.verify.verify import ARCHIVE

__all__ = ["as_place", "readable"]


def as_place(text: str) -> Path:
    """Where a store is, that must be there already."""
    # To be replaced by `store.opening.readable`, which knows PostgreSQL too.
    if "://" in text:
        # What stands after the scheme may hold a password.
        scheme = text.partition(":")[0]
        raise click.BadParameter(f"A store at {scheme}:// is not supported yet; give a path.")
    path = Path(text)
    if not path.exists():
        raise click.BadParameter(f"There is nothing at {text}.")
    return path


@asynccontextmanager
async def readable(place: Path) -> AsyncGenerator[Reader, None]:
    """The store at *place*, which is its file or the folder of an export.

    Raises:
        StoreUnreachable: there is none, or it cannot be read.
        StoreBroken, StoreMismatch: it is no store, or not of this version.
    """
    path = await to_thread.run_sync(_archive, place)
    async with SqliteReader(path, at_a_glance=True) as reader:
        yield reader


def _archive(place: Path) -> Path:
    path = place / ARCHIVE if place.is_dir() else place
    if not path.exists():
        raise StoreUnreachable(f"There is no archive in {place}.")
    return path
