"""A file that is there whole or not at all: written beside its place, then renamed into it."""

import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
from anyio import to_thread

from navtalk_async.archive.failpoints import reach
from navtalk_async.concurrency import shielded

__all__ = ["WholeFile", "WrittenFile"]


class WrittenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the manifest lists it."""

    name: str
    bytes: int
    rows: int
    sha256: str


class WholeFile:
    """A file being written in an `async with`; when that ends well, it takes its place, safe on the disk.

    The disk is waited for in other threads, so the event loop goes on meanwhile. A file that it replaces
    hands on its mode; without one, it has *mode*, or is for its owner alone.
    """

    def __init__(self, path: Path, *, mode: int | None = None) -> None:
        self.path = path
        self._mode = mode
        self._beside = path.with_name(path.name + ".partial")
        self._file: BinaryIO
        self._hash = sha256()
        self._bytes = self._rows = 0

    async def __aenter__(self) -> Self:
        self._file = await to_thread.run_sync(self._begun)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await shielded(to_thread.run_sync(self._put_in_place if error is None else self._discard))

    async def write(self, make: Callable[[], bytes], *, rows: int = 0) -> None:
        """Add what *make* gives, which is so many *rows*; it runs in another thread as well."""
        await to_thread.run_sync(self._add, make)
        self._rows += rows

    def written(self) -> WrittenFile:
        """What stands in it."""
        return WrittenFile(
            name=self.path.name, bytes=self._bytes, rows=self._rows, sha256=self._hash.hexdigest()
        )

    def _begun(self) -> BinaryIO:
        # What another run left is removed and not written into: it may be a link to somebody's file.
        self._beside.unlink(missing_ok=True)
        return open(self._beside, "xb", opener=_for_its_owner)

    def _add(self, make: Callable[[], bytes]) -> None:
        data = make()
        reach("file: before write")
        self._file.write(data)
        reach("file: after write")
        self._hash.update(data)
        self._bytes += len(data)

    def _put_in_place(self) -> None:
        with self._file:
            self._file.flush()
            mode = mode_of(self.path) or self._mode
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(self._file.fileno(), mode)
            reach("file: before fsync")
            os.fsync(self._file.fileno())
            reach("file: after fsync")
        reach("file: before rename")
        self._beside.replace(self.path)
        reach("file: after rename")
        _sync_folder(self.path.parent)
        reach("file: after fsync of the folder")

    def _discard(self) -> None:
        self._file.close()
        self._beside.unlink(missing_ok=True)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def mode_of(path: Path) -> int | None:
    """The mode of the file *path*, which another one is to have; None where there is no file."""
    if not path.is_file() or path.is_symlink():
        return None
    return stat.S_IMODE(path.lstat().st_mode)


def _sync_folder(folder: Path) -> None:
    # A rename is safe on the disk only when its folder is. Where a folder cannot be opened, nothing can be
    # done about it.
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
