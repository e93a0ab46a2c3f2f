"""A file that appears whole or not at all."""

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self

import msgspec
from anyio import to_thread

from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.sqlite_file import fingerprint, make_folder, open_file
from navtalk_async.concurrency import shielded

MANIFEST = "manifest.json"


class WrittenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the manifest lists it.

    Attributes:
        name: its path in the folder, with `/` between its parts.
        rows: of `jsonl` and `openai-jsonl`, lines; of a table, rows; of `markdown`, messages; of `duckdb`,
            rows of both tables.
        format: the name of its format, or `media`.
    """

    name: str
    bytes: int
    rows: int
    sha256: str
    format: str = "jsonl"


class _Beside:
    """A file that is made beside its place, and renamed when it is complete.

    A file that is replaced hands on its mode; otherwise the mode is *mode*, by default 600. What must be done
    before a file of *folder* is replaced is done by *before*.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        mode: int | None = None,
        beside: str = "",
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self.path = folder / name
        self.beside = self.path.with_name(beside or f"{self.path.name}.partial")
        self.rows = 0
        self._name, self._before = name, before
        self._mode: int | None = mode
        self._bytes: int = 0
        self._sha256 = ""

    async def __aenter__(self) -> Self:
        await to_thread.run_sync(self._open)
        return self

    async def __aexit__(self, error: type[BaseException] | None, *_: object) -> None:
        await shielded(to_thread.run_sync(self._put_in_place if error is None else self._discard))

    def written(self) -> WrittenFile:
        """The file as it was put in its place."""
        return WrittenFile(name=self._name, bytes=self._bytes, rows=self.rows, sha256=self._sha256)

    def _open(self) -> None:
        make_folder(self.path.parent)
        # What another run left is removed, not written into: it may be a link to another file.
        self.beside.unlink(missing_ok=True)

    def _put_in_place(self) -> None:
        raise NotImplementedError

    def _discard(self) -> None:
        self.beside.unlink(missing_ok=True)

    def _rename(self, file: BinaryIO) -> None:
        with file:
            file.flush()
            mode = mode_of(self.path) or self._mode
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            reach("file: before fsync")
            os.fsync(file.fileno())
            reach("file: after fsync")
        self._before()
        reach("file: before rename")
        self.beside.replace(self.path)
        reach("file: after rename")
        _sync_folder(self.path.parent)
        reach("file: after fsync of the folder")


class WholeFile(_Beside):
    """An `async with` that writes a file piece by piece; the disk is waited for in other threads.

    One that holds the same already is only read: a backup or a watcher of the folder sees no change.
    """

    _earlier: BinaryIO
    """What stands in the place, read as far as it is the same."""
    _file: BinaryIO | None = None
    """Where it is written; None as long as it is the same."""

    async def write(self, make: Callable[[], bytes], *, rows: int = 0) -> None:
        """Append what *make* returns, which runs in another thread and makes so many *rows*."""
        await to_thread.run_sync(self._append, make)
        self.rows += rows

    def _open(self) -> None:
        super()._open()
        self._earlier, self._hash = BytesIO(), sha256()
        if mode_of(self.path) is None:
            self._create()
        else:
            self._earlier = open_file(self.path)

    def _create(self) -> None:
        """Make the file beside, with what was the same so far."""
        self._file = file = open(self.beside, "xb", opener=private)  # noqa: SIM115 - closed as it is put in place
        self._earlier.seek(0)
        copied, left = sha256(), self._bytes
        while data := self._earlier.read(min(left, 1 << 20)):
            file.write(data)
            copied.update(data)
            left -= len(data)
        if copied.digest() != self._hash.digest():
            raise OSError(errno.EBUSY, f"{self.path.name} changed while it was being read")

    def _append(self, make: Callable[[], bytes]) -> None:
        data = make()
        if self._file is None and self._earlier.read(len(data)) != data:
            self._create()
        if self._file is not None:
            reach("file: before write")
            self._file.write(data)
            reach("file: after write")
        self._hash.update(data)
        self._bytes += len(data)

    def _put_in_place(self) -> None:
        if self._file is None and self._earlier.read(1):
            self._create()
        self._earlier.close()
        self._sha256 = self._hash.hexdigest()
        if self._file is not None:
            self._rename(self._file)

    def _discard(self) -> None:
        self._earlier.close()
        if self._file is not None:
            self._file.close()
        super()._discard()


class MadeFile(_Beside):
    """An `async with` for a file that a library makes, at the path *beside*.

    Attributes:
        is_same: the file that is there already is as good as this one.
    """

    is_same = False

    def _put_in_place(self) -> None:
        earlier = None if mode_of(self.path) is None else fingerprint(self.path)
        found = fingerprint(self.beside)
        if earlier is not None and (self.is_same or earlier == found):
            self._bytes, self._sha256 = earlier
            self._discard()
            return
        self._bytes, self._sha256 = found
        if self._mode is None:
            self._mode = 0o600
        self._rename(self.beside.open("rb+"))


def put_file(folder: Path, name: str, data: bytes, *, rows: int, before: Callable[[], object]) -> WrittenFile:
    """Write a small file, whole, from a thread; the disk is not waited for."""
    # There are many of these, and a Path takes longer than the disk.
    path = os.path.join(folder, name)  # noqa: PTH118
    mode = mode_of(path)
    if mode is None or not _holds(path, data):
        with _new_file(f"{path}.partial") as file:
            file.write(data)
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
        before()
        reach("file: before rename")
        os.replace(f"{path}.partial", path)  # noqa: PTH105
        reach("file: after rename")
    return WrittenFile(name=name, bytes=len(data), rows=rows, sha256=sha256(data).hexdigest())


def _holds(path: str, data: bytes) -> bool:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as in `put_file`
        return os.fstat(file.fileno()).st_size == len(data) and file.read() == data


def _new_file(path: str) -> BinaryIO:
    try:
        return open(path, "xb", opener=private)
    except FileExistsError:
        Path(path).unlink()
    except FileNotFoundError:
        make_folder(Path(path).parent)
    return open(path, "xb", opener=private)


def withdraw(folder: Path) -> None:
    """Remove the manifest of *folder*: it must not list files that it has not seen."""
    reach("manifest: before unlink")
    (folder / MANIFEST).unlink(missing_ok=True)
    reach("manifest: after unlink")


def mode_of(path: str | Path) -> int | None:
    """The mode of a file; None if there is no file."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.S_IMODE(mode) if stat.S_ISREG(mode) else None


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    # A rename is on the disk only when its folder is; nothing can be done about a folder that does not open.
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
