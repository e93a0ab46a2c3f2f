"""A store that is read, where the command line says it is: a database, or the folder of an export."""

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import click
from anyio import to_thread

from navtalk_async.archive import Archive, is_url, redacted
from navtalk_async.errors import StoreUnreachable
from navtalk_async.formats import ARCHIVE

__all__ = ["Place", "as_archive", "as_folder", "as_place", "as_store", "readable"]

Place = Path | str
"""A path, or the address of a database."""


def as_folder(text: str) -> Path:
    """A folder that is there, or is to be made."""
    path = as_path(text)
    if "://" in text:
        raise click.BadParameter(f"{text} is no folder; `navtalk sync` takes the address of a database.")
    if is_there(path) and not path.is_dir():
        raise click.BadParameter(f"{text} is a file; give the path of a folder.")
    return path


def as_path(text: str) -> Path:
    """The path that *text* is; an empty one would mean the current folder."""
    if not text:
        raise click.BadParameter("The path is empty.")
    return Path(text)


def as_archive(text: str) -> Place:
    """Where a store is, or is to be; a folder stands for the archive in it."""
    try:
        if is_url(text):
            redacted(text)
            return text
    except ValueError as refusal:
        raise click.BadParameter(str(refusal)) from None
    path = as_path(text)
    if is_there(path) and path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise click.BadParameter(f"{text} is a folder that may not be looked into.")
    return path


def as_store(text: str) -> Place:
    """Where the file or database of a store is, or is to be."""
    place = as_archive(text)
    if isinstance(place, Path) and place.is_dir():
        raise click.BadParameter(f"{text} is a folder; give the path of a file.")
    return place


def as_place(text: str) -> Place:
    """Where a store is, that must be there already."""
    place = as_archive(text)
    if isinstance(place, Path) and not is_there(place):
        raise click.BadParameter(f"There is nothing at {text}.")
    return place


def is_there(path: Path) -> bool:
    """Whether there is anything at *path*."""
    try:
        return path.exists()
    except OSError as failure:
        raise click.BadParameter(f"{path} cannot be looked at: {failure.strerror}.") from None


@asynccontextmanager
async def readable(place: Place, *, immutable: bool = True) -> AsyncGenerator[Archive, None]:
    """The store at *place*; in the folder of an export, its archive. See `Archive.open`.

    Raises:
        StoreUnreachable: there is none, or it cannot be read.
        StoreBroken, StoreMismatch: it is no store, or not of this version.
    """
    where = await to_thread.run_sync(_archive, place) if isinstance(place, Path) else place
    async with Archive.open(where, read_only=True, immutable=immutable) as reader:
        yield reader


def _archive(place: Path) -> Path:
    path = place / ARCHIVE if place.is_dir() else place
    if not is_there(path):
        raise StoreUnreachable(f"There is no archive in {place}.")
    return path
