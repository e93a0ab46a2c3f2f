"""How a fault looks on the wire: the very bytes that leave, and how the connection ends."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from .exchange import Answered, Streamed
from .faults import Faults

_BLOCK: Final = 1 << 20
_BOMB_BLOCKS: Final = 320
_DEEP: Final = b'{"code":200,"message":"SUCCESS","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
_DRIPS: Final = 20
_IN_THE_MIDDLE: Final = frozenset({"cut", "cut-chunked", "reset", "slow", "hang"})
_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>"
)


@dataclass(slots=True)
class RawResponse:
    """Bytes to write as they are, *pause* seconds apart, and the connection's *end*: close, reset, hang."""

    pieces: Iterable[bytes] = ()
    end: str = "close"
    pause: float = 0.0
    status: int = 0


def spoiled(
    fault: str, clean: Answered | Streamed, faults: Faults, rng: Random, shapes: Sequence[bytes]
) -> Answered | Streamed | RawResponse:
    """The *clean* answer after the fault befell it: another answer, or a stunt; *shapes* are wrong ones."""
    if isinstance(clean, Streamed) and fault in _IN_THE_MIDDLE:
        return _broken(fault, clean, faults)
    body = clean.body
    match fault:
        case "reset" | "hang":
            stunt = RawResponse(end=fault)
        case "lost-answer":
            stunt = RawResponse()
        case "cut" | "cut-chunked" if not body:
            # Nothing but the head is there to be cut.
            stunt = RawResponse()
        case "cut":
            stunt = RawResponse([_head(clean, len(body)) + body[: len(body) // 2]], status=clean.status)
        case "cut-chunked":
            stunt = RawResponse(
                [_head(clean, None) + _chunk(body[: len(body) // 2 + 1])], status=clean.status
            )
        case "slow":
            stunt = RawResponse(_drips(clean), pause=faults.slow_seconds / _DRIPS, status=clean.status)
        case "huge":
            stunt = RawResponse(_flood(clean, faults.huge_bytes), status=clean.status)
        case _:
            return _nonsense(fault, clean, rng, shapes)
    return stunt


def _broken(fault: str, clean: Streamed, faults: Faults) -> Streamed | RawResponse:
    """A stream that slows down, or that stops half way: between two pieces, or for a cut within one."""
    pieces, half = list(clean.pieces), len(clean.pieces) // 2
    if fault == "slow":
        pause = faults.slow_seconds / max(len(pieces), 1)
        return Streamed(clean.status, clean.content_type, pieces, pause, clean.headers)
    sent = [_head(clean, None), *map(_chunk, pieces[:half])]
    if fault == "cut":
        sent += [_chunk(piece)[: -len(piece) // 2 - 2] for piece in pieces[half : half + 1]]
    end = fault if fault in {"reset", "hang"} else "close"
    return RawResponse(sent, end, clean.pause, status=clean.status)


def _nonsense(fault: str, clean: Answered | Streamed, rng: Random, shapes: Sequence[bytes]) -> Answered:
    """An answer that arrives well and cannot be read."""
    match fault:
        case "html":
            return Answered(200, _HTML, "text/html")
        case "truncated":
            return Answered(clean.status, clean.body[: len(clean.body) // 2], clean.content_type)
        case "wrong-shape":
            return Answered(200, shapes[int(rng.random() * len(shapes))])
        case "deep":
            return Answered(200, _DEEP)
    return Answered(200, rng.randbytes(64 + int(rng.random() * 2000)))


def _head(clean: Answered | Streamed, length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"HTTP/1.1 {clean.status} Made up\r\nContent-Type: {clean.content_type}\r\n{framing}\r\n\r\n"
    ).encode()


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _drips(clean: Answered | Streamed) -> Iterator[bytes]:
    body, size = clean.body, len(clean.body) // _DRIPS + 1
    yield _head(clean, len(body)) + body[:size]
    for begin in range(size, len(body), size):
        yield body[begin : begin + size]


def _flood(clean: Answered | Streamed, size: int) -> Iterator[bytes]:
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
