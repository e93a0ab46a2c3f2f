"""Compressed answers, inflated as servers and proxies really write them."""

import zlib
from typing import Protocol

import aiohttp
from aiohttp import hdrs

PIECE = 1 << 18
"""The most bytes that come of one reading: a bomb is noticed as it goes off."""

PLAIN = ("", "identity")
GZIP, ZLIB = b"\x1f", b"\x78"
"""The first bytes of what is compressed; none of them begins JSON."""
ZLIB_OF_SMALL_WINDOWS = b"\x08\x18\x28\x38\x48\x58\x68"
OF_JSON = b'{["tfn-0123456789 \t\r\n\xef'


class Source(Protocol):
    """What bytes are read from."""

    async def readany(self) -> bytes: ...


def content_of(answer: aiohttp.ClientResponse) -> Source:
    """The body of *answer*, inflated as often as it says."""
    source: Source = answer.content
    codings = [
        each
        for line in answer.headers.getall(hdrs.CONTENT_ENCODING, ())
        for each in line.lower().replace(" ", "").split(",")
    ]
    for each in codings:
        if each not in PLAIN:
            source = Inflating(source, is_deflate=each == "deflate")
    return source


class Inflating:
    """Inflates what is read of *source*.

    It goes by the bytes, since headers err: `x-gzip` is gzip, and what is not compressed in spite of its
    header stays as it is. Several members follow each other; what is behind the last one is left out.
    """

    def __init__(self, source: Source, *, is_deflate: bool) -> None:
        self._source = source
        self._is_deflate = is_deflate
        self._data = b""
        self._is_full = False  # whether more may come without more data
        self._inflater: zlib._Decompress | None = None
        self._is_plain = self._is_over = False
        self._has_begun = False

    async def readany(self) -> bytes:
        """The next bytes; none at the end."""
        while True:
            if self._data or self._is_full:
                if piece := self._piece():
                    return piece
                continue
            self._data = await self._source.readany()
            if not self._data:
                if self._inflater is not None:
                    raise aiohttp.ClientPayloadError
                return b""

    def _piece(self) -> bytes:
        if self._inflater is None:
            self._begin()
        data, self._data = self._data, b""
        if self._is_plain or self._inflater is None:
            return data if self._is_plain else b""
        try:
            piece = self._inflater.decompress(data, PIECE)
        except zlib.error:
            raise aiohttp.ClientPayloadError from None
        self._is_full = len(piece) == PIECE and not self._inflater.eof
        if self._inflater.eof:
            self._data, self._inflater = self._inflater.unused_data, None
        else:
            self._data = self._inflater.unconsumed_tail
        return piece

    def _begin(self) -> None:
        """Begin with a member, if one begins with the data."""
        if self._has_begun:
            # Tapes and some servers fill up blocks with zeros.
            self._data = self._data.lstrip(b"\0")
        first = self._data[:1]
        if not first or self._is_plain or self._is_over:
            return
        if first == GZIP:
            self._inflater = zlib.decompressobj(31)
        elif first == ZLIB or (self._is_deflate and first in ZLIB_OF_SMALL_WINDOWS):
            self._inflater = zlib.decompressobj(15)
        elif self._has_begun:
            self._is_over = True
        elif self._is_deflate and first not in OF_JSON:
            self._inflater = zlib.decompressobj(-15)
        else:
            self._is_plain = True
        self._has_begun = True
