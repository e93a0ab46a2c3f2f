"""One file, downloaded: asked for again where it was cut off, written beside, renamed when it is whole."""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from mimetypes import MimeTypes
from pathlib import Path
from random import random
from time import monotonic
from typing import BinaryIO, NamedTuple, TypeVar
from urllib.parse import urlsplit

from anyio import to_thread
from msgspec.structs import replace

from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.sqlite_file import make_folder
from navtalk_async.concurrency import shielded
from navtalk_async.formats._media_index import Link, MediaEntry, MediaIndex, private_file
from navtalk_async.rate_headers import wait_of
from navtalk_async.times import http_date
from navtalk_async.wire.download import Answer, DownloadLost, DownloadRefused, Downloads
from navtalk_async.wire.retry import Retry, backoff

T = TypeVar("T")

ATTEMPTS = 5
"""Attempts in a row that bring nothing."""

LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is left for another run."""

BLOCK = 1 << 20
"""Bytes that are written at once."""

SLOWEST = 1024
"""The least bytes a second, on average."""

PATIENCE = 60.0
"""Seconds after which that counts."""

EXPIRED = (401, 403, 404, 410)
PASSING = (408, 425, 429)
RANGE = re.compile(r"bytes (\d+)-(\d+)/(?:(\d+)|\*)")
TYPES = MimeTypes(filenames=())
"""Python's own table, whatever this machine knows."""


async def _on_disk(do: Callable[..., T], *arguments: object) -> T:
    """What *do* returns, which runs in a thread, to its end: no file is closed under it."""
    return await shielded(to_thread.run_sync(do, *arguments))


class LinkExpired(Exception):
    """The server says that there is nothing (any more) at this URL; the text says why."""


class OverBudget(Exception):
    """This run may download no more."""


class Begun(NamedTuple):
    """A body that is to be written."""

    start: int
    """Where in the file it begins."""
    total: int | None
    """The bytes of the whole file, if the server says."""
    validator: str
    """What shows that the rest is of the same file; empty where nothing does."""


def begun(status: int, headers: Mapping[str, str], there: int, validator: str) -> Begun | None:
    """What an answer to the request for what follows *there* bytes of a file brings; None where the file has
    to be asked for from its beginning.

    Raises:
        LinkExpired: there is no file.
        DownloadLost: the server is busy or failing.
        DownloadRefused: it answered something else than a file.
    """
    _refuse(status, headers)
    if status == 416:
        return None
    found, length = _validator_of(headers), headers.get("Content-Length", "")
    if status == 200:
        return Begun(0, int(length) if length.isdecimal() else None, found)
    span = RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if not there or span is None or int(span[1]) != there:
        return None
    # Of the two kinds, only an ETag comes with every part (RFC 9110, section 15.3.7).
    if found != validator and (found or validator.startswith('"')):
        return None
    if length.isdecimal() and int(length) != int(span[2]) - there + 1:
        return None
    # What ends before the file does is asked on for.
    return Begun(there, int(span[3]) if span[3] else None, validator)


def _refuse(status: int, headers: Mapping[str, str]) -> None:
    if 300 <= status < 400:
        raise DownloadRefused("its server redirects, which is not followed")
    if status in EXPIRED:
        raise LinkExpired(f"its server answered {status}")
    if status in PASSING or status >= 500:
        raise DownloadLost(f"its server answered {status}", wait_of(headers, is_full=True) or 0.0)
    if status not in (200, 206, 416):
        raise DownloadRefused(f"its server answered {status}")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadRefused("its server compresses it, though asked not to")


def _validator_of(headers: Mapping[str, str]) -> str:
    """What `If-Range` takes: a strong ETag, or a date that cannot be of two states of the file (RFC 9110,
    sections 8.8.2.2 and 13.1.5).
    """
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    if etag:
        return etag if etag.startswith('"') else ""
    served_at, changed_at = http_date(headers.get("Date", "")), http_date(modified)
    if served_at is None or changed_at is None or (served_at - changed_at).total_seconds() < 1:
        return ""
    return modified


def _refuse_slow(came: int, seconds: float) -> None:
    if seconds > PATIENCE and came < SLOWEST * seconds:
        raise DownloadLost("its server is too slow")


def extension(headers: Mapping[str, str], url: str) -> str:
    """The end of a file's name: by what the server says it is, or else as in *url*."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    named = TYPES.guess_extension(kind) if kind != "application/octet-stream" else None
    suffix = (named or Path(urlsplit(url).path).suffix)[1:].lower()
    return suffix if re.fullmatch("[a-z0-9]{1,12}", suffix) else "bin"


class Download:
    """The download of the file of a *link*, from wherever an earlier one was left.

    Arguments:
        file_bytes: the most bytes of the file.
        spend: takes how many bytes have come; raises `OverBudget`.
    """

    def __init__(self, link: Link, index: MediaIndex, file_bytes: int, spend: Callable[[int], None]) -> None:
        self._link, self._index, self._file_bytes, self._spend = link, index, file_bytes, spend
        self._entry = index.entries.get(link.id) or MediaEntry.of(link)
        self._path = index.media / link.part
        self._file: BinaryIO
        self._hash = sha256()
        self._size = 0

    async def fetch(self, downloads: Downloads, url: str) -> MediaEntry:
        """The entry of the whole file, which is noted and in its place.

        Raises:
            LinkExpired, OverBudget, DownloadLost, DownloadRefused: it cannot be downloaded.
            OSError: it cannot be written.
        """
        await _on_disk(self._open)
        try:
            suffix = await self._attempts(downloads, url)
            return await _on_disk(self._put_in_place, suffix)
        finally:
            self._file.close()

    async def _attempts(self, downloads: Downloads, url: str) -> str:
        idle = 0
        while True:
            size, wait = self._size, 0.0
            try:
                suffix = await self._attempt(downloads, url)
                if suffix is not None:
                    return suffix
                failure = DownloadLost("its server sends no part of it that fits the rest")
            except DownloadLost as lost:
                failure, wait = lost, lost.wait
            idle = 0 if self._size > size else idle + 1
            if idle == ATTEMPTS or wait > LONGEST_WAIT:
                raise failure
            await asyncio.sleep(max(wait, backoff(Retry(), idle + 1, random())))  # noqa: S311 - jitter

    async def _attempt(self, downloads: Downloads, url: str) -> str | None:
        """The extension of the file, if it is whole now; None where it has to be asked for again."""
        there, validator = self._size, self._entry.validator
        headers = {"Range": f"bytes={there}-", "If-Range": validator} if there else {}
        async with downloads.get(url, headers) as answer:
            begins = begun(answer.status, answer.headers, there, validator)
            if begins is None or begins.start == 0:
                await _on_disk(self._restart, "" if begins is None else begins.validator)
            if begins is None:
                return None
            self._refuse_large(begins.total or 0)
            await self._read(answer)
        if begins.total is not None and self._size != begins.total:
            if self._size > begins.total:
                await _on_disk(self._restart, "")
            raise DownloadLost(f"{self._size:,} of {begins.total:,} bytes came")
        if not self._size:
            raise DownloadLost("its server sends no bytes")
        return extension(answer.headers, url)

    async def _read(self, answer: Answer) -> None:
        """Write what comes; also what came before the rest is lost."""
        began, came, block = monotonic(), 0, bytearray()
        try:
            while part := await answer.read():
                came += len(part)
                block += part
                self._spend(len(part))
                self._refuse_large(self._size + len(block))
                _refuse_slow(came, monotonic() - began)
                if len(block) >= BLOCK:
                    await _on_disk(self._append, bytes(block))
                    block.clear()
        except (DownloadLost, OverBudget, asyncio.CancelledError):
            await _on_disk(self._append, block)
            raise
        await _on_disk(self._append, block)

    def _refuse_large(self, size: int) -> None:
        if size > self._file_bytes:
            raise DownloadRefused(f"it has more than {self._file_bytes:,} bytes")

    # What waits for the disk.

    def _open(self) -> None:
        make_folder(self._path.parent)
        self._file = open(self._path, "ab+", opener=private_file)  # noqa: SIM115 - closed in `fetch`
        if not self._entry.validator or self._entry.name:
            # Nothing says of which file this is.
            self._restart("")
        self._file.seek(0)
        while data := self._file.read(BLOCK):
            self._hash.update(data)
            self._size += len(data)

    def _restart(self, validator: str) -> None:
        reach("media: before truncate")
        self._file.truncate(0)
        reach("media: after truncate")
        self._hash, self._size = sha256(), 0
        if validator != self._entry.validator or self._entry.name:
            self._entry = replace(MediaEntry.of(self._link), validator=validator)
            self._index.add(self._entry)

    def _append(self, data: bytes | bytearray) -> None:
        reach("media: before write")
        self._file.write(data)
        self._file.flush()
        self._hash.update(data)
        self._size += len(data)
        reach("media: after write")

    def _put_in_place(self, suffix: str) -> MediaEntry:
        digest = self._hash.hexdigest()
        name = f"{self._link.folder}/{digest[:16]}.{suffix}"
        entry = MediaEntry.of(self._link)
        entry = replace(entry, name=name, bytes=self._size, sha256=digest, validator=self._entry.validator)
        os.fsync(self._file.fileno())
        self._file.close()
        # Noted first: a file that no entry names would be nobody's. An entry without its file, also one whose
        # renaming a power failure undid, is asked for again.
        self._index.add(entry)
        reach("media: before rename")
        self._path.replace(self._index.media / name)
        reach("media: after rename")
        return entry
