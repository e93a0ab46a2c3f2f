"""How a fault looks on the wire: the very bytes that leave, and how the connection ends."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from .exchange import Answered
from .faults import Faults

_BLOCK: Final = 1 << 20
_BOMB_BLOCKS: Final = 320
_DEEP: Final = b'{"code":200,"message":"SUCCESS","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
_DRIPS: Final = 20
_WRONG_SHAPES: Final = (
    b"null",
    b"[]",
    b'"SUCCESS"',
    b'{"items":[],"total":0}',
    b'{"code":200,"message":"SUCCESS","data":"none"}',
    b'{"code":200,"message":"SUCCESS","data":{"data":{"0":1},"nextCursor":7}}',
    b'{"code":200,"message":"SUCCESS","data":{"data":[{"id":7,"startTime":null}],"nextCursor":null}}',
)
_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>"
)


@dataclass(slots=True)
class Stunt:
    """Bytes to write as they are, *pause* seconds apart, and the connection's *end*: close, reset, hang."""

    pieces: Iterable[bytes] = ()
    end: str = "close"
    pause: float = 0.0
    status: int = 0


def spoiled(fault: str, clean: Answered, faults: Faults, rng: Random) -> Answered | Stunt:
    """The *clean* answer after the fault befell it: another answer, or a stunt."""
    body = clean.body
    match fault:
        case "cut":
            return Stunt([_head(clean, len(body)) + body[: len(body) // 2]], status=clean.status)
        case "cut-chunked":
            return Stunt([_head(clean, None) + _chunk(body[: len(body) // 2 + 1])], status=clean.status)
        case "slow":
            return Stunt(_drips(clean), pause=faults.slow_seconds / _DRIPS, status=clean.status)
        case "huge":
            return Stunt(_flood(clean, faults.huge_bytes), status=clean.status)
        case "drop":
            return Stunt()
    return Stunt(end=fault) if fault in {"reset", "hang"} else _nonsense(fault, clean, rng)


def _nonsense(fault: str, clean: Answered, rng: Random) -> Answered:
    """An answer that arrives well and cannot be read."""
    match fault:
        case "html":
            return Answered(200, _HTML, "text/html")
        case "truncated":
            return Answered(clean.status, clean.body[: len(clean.body) // 2])
        case "wrong-shape":
            return Answered(200, _WRONG_SHAPES[int(rng.random() * len(_WRONG_SHAPES))])
        case "deep":
            return Answered(200, _DEEP)
    return Answered(200, rng.randbytes(64 + int(rng.random() * 2000)))


def _head(clean: Answered, length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"HTTP/1.1 {clean.status} Made up\r\nContent-Type: {clean.content_type}\r\n{framing}\r\n\r\n"
    ).encode()


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _drips(clean: Answered) -> Iterator[bytes]:
    body, size = clean.body, len(clean.body) // _DRIPS + 1
    yield _head(clean, len(body)) + body[:size]
    for begin in range(size, len(body), size):
        yield body[begin : begin + size]


def _flood(clean: Answered, size: int) -> Iterator[bytes]:
    yield _head(clean, None) + _chunk(b'{"code":200,"message":"SUCCESS","data":"')
    piece = _chunk(b"x" * 65_536)
    for _ in range(size // 65_536 + 1):
        yield piece
    yield _chunk(b'"}') + b"0\r\n\r\n"


@cache
def bomb() -> bytes:
    """A gzip body of some 300 kB that inflates to 320 MB of valid JSON, nearly all of it spaces."""
    # A fully flushed block refers to nothing before it: one squeezed megabyte can be written 320 times over.
    head, blank, tail = b'{"code":200,"message":"SUCCESS","data":', b" " * _BLOCK, b"null}"
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = squeeze.compress(head) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(blank) + squeeze.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    end = last.compress(tail) + last.flush()
    crc, length = zlib.crc32(head), len(head) + _BOMB_BLOCKS * _BLOCK + len(tail)
    for _ in range(_BOMB_BLOCKS):
        crc = zlib.crc32(blank, crc)
    crc = zlib.crc32(tail, crc)
    return start + block * _BOMB_BLOCKS + end + crc.to_bytes(4, "little") + length.to_bytes(4, "little")
