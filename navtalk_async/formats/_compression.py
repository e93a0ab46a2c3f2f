"""Compression of text files, the same bytes each time."""

import sys
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from navtalk_async.formats._format import Compression

SUFFIXES: dict[Compression | None, str] = {None: "", "none": "", "gzip": ".gz", "zstd": ".zst"}

ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"

TEXT_COMPRESSIONS: tuple[Compression, ...] = ("none", "gzip", "zstd")


class Compressor(NamedTuple):
    """Compresses piece by piece."""

    add: Callable[[bytes], bytes]
    end: Callable[[], bytes]


def compressor(method: Compression | None) -> Compressor:
    if method in (None, "none"):
        return Compressor(bytes, bytes)
    if method == "gzip":
        # 16 more than the window asks for the header of gzip, in which zlib writes no time.
        deflate = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        return Compressor(deflate.compress, deflate.flush)
    zstd = import_module(ZSTD).ZstdCompressor()
    return Compressor(zstd.compress, zstd.flush)
