"""What may go wrong and how often, and how each fault looks on the wire."""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import accumulate
from random import Random
from typing import Final, Self

from ._answers import Answers
from ._api import PAGE_FAULTS, Api, ApiContext, Refused, SandboxRequest, SandboxResponse

ALL: Final = ("500", "429", "reset", "cut", "garbage")
"""What ``all=10%`` mixes evenly: what a client meets in an ordinary bad week."""

_AMOUNTS: Final = frozenset({"retry_after", "slow_seconds", "huge_bytes"})
_BLOCK: Final = 1 << 20
_BOMB_BLOCKS: Final = 320
_DRIPS: Final = 20
_BREAKS_STREAMS: Final = frozenset({"cut", "cut-chunked", "reset", "slow", "hang"})
_DEEP: Final = b'{"code":200,"message":"SUCCESS","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>"
)
_MESSAGES: Final = {
    "400": "Missing required parameter",
    "403": "API key expired or project not active",
    "404": "Session not found or does not belong to the project",
    "500": "Internal server error",
}
# A gateway before the API refuses by status, whatever the API itself does.
_GATEWAY: Final = Answers()

WRONG_SHAPES: Final = (
    b"null",
    b"[]",
    b'"OK"',
    b'{"results":[],"total":0}',
    b'{"code":200,"message":"SUCCESS","data":"none","detail":"Not Found"}',
    b'{"code":200,"data":{"data":{"0":1},"nextCursor":7},"chats":{"0":1},"messages":{"0":1},"id":[7]}',
    b'{"code":200,"data":{"data":[{"id":[7]}]},"chats":[{"id":[7]}],"messages":[{"id":[7]}],"id":null}',
    b'{"items":{"0":1},"next_page_token":7,"session_id":[7],"success":"perhaps"}',
    b'{"items":[{"session_id":[7]}],"next_page_token":null,"session_id":"a","events":"none"}',
)
"""JSON that no API answers, whatever is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How likely each fault is, from 0 to 1, for every request; what is not named does not happen.

    `Faults.parse` reads them from text, where they have their short names: ``500=5%,reset=0.01``.
    """

    http_500: float = 0.0
    http_503: float = 0.0
    http_429: float = 0.0  # with a Retry-After of *retry_after* seconds
    http_429_bare: float = 0.0  # without
    http_400: float = 0.0
    http_403: float = 0.0
    http_404: float = 0.0
    echo_key: float = 0.0  # a 400 whose message repeats the key and the whole address
    reset: float = 0.0  # the connection is reset, though what was asked is done; a stream half way
    drop: float = 0.0  # the connection is closed, and nothing was done
    cut: float = 0.0  # the body ends before its Content-Length does; a stream within a chunk
    cut_chunked: float = 0.0  # a chunked body ends before its last chunk; a stream after half of its pieces
    slow: float = 0.0  # a right body that takes *slow_seconds*
    hang: float = 0.0  # no answer, ever, though what was asked is done; a stream stops half way
    garbage: float = 0.0  # a 200 with random bytes
    html: float = 0.0  # a 200 with a web page
    truncated: float = 0.0  # JSON cut in the middle, with a Content-Length that says so
    wrong_shape: float = 0.0  # JSON, but not what was documented
    huge: float = 0.0  # a body of *huge_bytes*, chunk after chunk
    deep: float = 0.0  # JSON nested a hundred thousand levels deep
    bomb: float = 0.0  # a small gzip body that inflates to 320 MB
    redirect: float = 0.0  # a 302 to the same address, key and all, on another host name
    repeat_cursor: float = 0.0  # the next cursor is the one that was asked with
    empty_page: float = 0.0  # no rows, and a cursor that continues where this page should have begun
    cycle: float = 0.0  # the next cursor leads back to an earlier page
    lost_answer: float = 0.0  # what was asked is done, and the connection closed without any answer

    retry_after: float = 0.0
    slow_seconds: float = 1.0
    huge_bytes: int = 1 << 30

    _reaches: Sequence[tuple[float, str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        chances = self.chances()
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise ValueError(f"the chance of {name} must be between 0 and 1, not {chance}")
        if sum(chances.values()) > 1 + 1e-9:
            raise ValueError("the chances of all faults together must not exceed 1")
        # Looked through for every request, most of which no fault befalls.
        reaches = zip(accumulate(chances.values()), chances, strict=True)
        object.__setattr__(self, "_reaches", [each for each in reaches if chances[each[1]]])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Faults as a command line has them: ``500=5%,reset=0.01``, ``all=10%``, or only ``10%``.

        ``all``, or a figure alone, is an even mix of 500, 429, reset, cut and garbage. ``retry-after=2``,
        ``slow-seconds=5`` and ``huge-bytes=1000`` set amounts. `ValueError` says what is not understood.
        """
        found: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, figure = part.rpartition("=")
            if name.strip() in {"", "all"} and (equals == "=") == (name.strip() == "all"):
                for each in ALL:
                    found[_field(each)] = found.get(_field(each), 0) + _figure(figure) / len(ALL)
            else:
                found[_field(name.strip())] = _figure(figure)
        size = int(found.pop("huge_bytes", cls().huge_bytes))
        return cls(huge_bytes=size, **found)

    def chances(self) -> dict[str, float]:
        """The chance of each kind of fault, by the short name."""
        return {kind: getattr(self, name) for kind, name in _FIELDS.items()}

    def choose(self, dice: float, can_play: Callable[[str], bool]) -> str | None:
        """The fault a number from [0, 1) stands for, or None; one that *can_play* denies does not happen."""
        for reach, kind in self._reaches:
            if dice < reach:
                return kind if can_play(kind) else None
        return None


def check(kind: str) -> str:
    """The *kind* itself; `ValueError`, with all there are, for an unknown one."""
    if kind not in _FIELDS:
        raise ValueError(f"no such fault: {kind!r}; there are {', '.join(_FIELDS)}")
    return kind


def _kind(name: str) -> str:
    return name.removeprefix("http_").replace("_", "-")


def _field(kind: str) -> str:
    if kind.replace("-", "_") in _AMOUNTS:
        return kind.replace("-", "_")
    return _FIELDS[check(kind)]


def _figure(text: str) -> float:
    try:
        return float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise ValueError(f"not a figure: {text!r}; write 0.05 or 5%") from None


_FIELDS: Final = {
    _kind(each.name): each.name for each in fields(Faults) if each.init and each.name not in _AMOUNTS
}

KINDS: Final = tuple(_FIELDS)
"""The short names of all faults."""


@dataclass(slots=True)
class RawResponse:
    """Bytes to write as they are, *pause* seconds apart, and the connection's *end*: close, reset or hang."""

    pieces: Iterable[bytes] = ()
    end: str = "close"
    pause: float = 0.0
    status: int = 0


Reply = SandboxResponse | RawResponse


async def reply_to(
    request: SandboxRequest, api: Api, context: ApiContext, fault: str | None, faults: Faults
) -> Reply:
    if fault is None or fault in PAGE_FAULTS:
        request.fault = fault
        return api.answer(request, context)
    if fault == "bomb":
        # Made once, in some tenths of a second: too long for the loop that serves everyone else.
        return SandboxResponse(200, await asyncio.to_thread(bomb), headers={"Content-Encoding": "gzip"})
    if fault == "drop":
        # What was asked for is not even begun; lost-answer is the fault where it was done.
        return RawResponse()
    # The dice are the request's own, so what it gets does not depend on other requests.
    dice = Random(request.number)  # noqa: S311 - dice for faults
    return _refusal(request, api, context, fault, faults) or _spoiled(
        fault, api.answer(request, context), faults, dice
    )


def too_many(request: SandboxRequest, api: Api, wait: float | None) -> SandboxResponse:
    return api.refusal(Refused(429, "Too Many Requests", wait), request, _GATEWAY)


def unavailable(request: SandboxRequest, api: Api) -> SandboxResponse:
    return api.refusal(Refused(503, "Service Unavailable"), request, _GATEWAY)


def _refusal(
    request: SandboxRequest, api: Api, context: ApiContext, fault: str, faults: Faults
) -> SandboxResponse | None:
    """The response of a fault that is a response in itself; None for a fault that spoils a right one."""
    match fault:
        case "400" | "403" | "404" | "500":
            refused = Refused(int(fault), _MESSAGES[fault])
        case "echo-key":
            key, url = api.key_of(request), request.url
            refused = Refused(400, f'Invalid API key {key} in <a href="{url}">{url}</a>')
        case "429" | "429-bare":
            return too_many(request, api, faults.retry_after if fault == "429" else None)
        case "503":
            return unavailable(request, api)
        case "redirect":
            return SandboxResponse(302, b"", "text/plain", {"Location": _elsewhere(request)})
        case _:
            return None
    return api.refusal(refused, request, context.answers)


def _elsewhere(request: SandboxRequest) -> str:
    scheme, _, authority = request.origin.partition("://")
    host, _, port = authority.rpartition(":")
    return f"{scheme}://{'localhost' if host == '127.0.0.1' else '127.0.0.1'}:{port}{request.raw_path}"


def _spoiled(fault: str, clean: SandboxResponse, faults: Faults, dice: Random) -> Reply:
    if clean.pieces and fault in _BREAKS_STREAMS:
        return _broken(fault, clean, faults)
    body, status = clean.body, clean.status
    half = len(body) // 2
    match fault:
        case "reset" | "hang":
            raw = RawResponse(end=fault)
        case "lost-answer" | "cut" | "cut-chunked" if not body or fault == "lost-answer":
            # Of an empty body nothing but the head is there to be cut.
            raw = RawResponse()
        case "cut":
            raw = RawResponse([_head(clean, len(body)) + body[:half]], status=status)
        case "cut-chunked":
            raw = RawResponse([_head(clean, None) + _chunk(body[: half + 1])], status=status)
        case "slow":
            raw = RawResponse(_drips(clean), pause=faults.slow_seconds / _DRIPS, status=status)
        case "huge":
            raw = RawResponse(_flood(clean, faults.huge_bytes), status=status)
        case _:
            return _nonsense(fault, clean, dice)
    return raw


def _broken(fault: str, clean: SandboxResponse, faults: Faults) -> Reply:
    """A stream that slows down, or that stops half way: between two pieces, or for a cut within one."""
    pieces, half = list(clean.pieces), len(clean.pieces) // 2
    if fault == "slow":
        return replace(clean, pause=faults.slow_seconds / len(pieces))
    sent = [_head(clean, None), *map(_chunk, pieces[:half])]
    if fault == "cut":
        sent += [_chunk(piece)[: -len(piece) // 2 - 2] for piece in pieces[half : half + 1]]
    end = fault if fault in {"reset", "hang"} else "close"
    return RawResponse(sent, end, clean.pause, status=clean.status)


def _nonsense(fault: str, clean: SandboxResponse, dice: Random) -> SandboxResponse:
    match fault:
        case "html":
            return SandboxResponse(200, _HTML, "text/html")
        case "truncated":
            return SandboxResponse(clean.status, clean.body[: len(clean.body) // 2], clean.content_type)
        case "wrong-shape":
            return SandboxResponse(200, WRONG_SHAPES[int(dice.random() * len(WRONG_SHAPES))])
        case "deep":
            return SandboxResponse(200, _DEEP)
    return SandboxResponse(200, dice.randbytes(64 + int(dice.random() * 2000)))


def _head(clean: SandboxResponse, length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"HTTP/1.1 {clean.status} Made up\r\nContent-Type: {clean.content_type}\r\n{framing}\r\n\r\n"
    ).encode()


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _drips(clean: SandboxResponse) -> Iterator[bytes]:
    body, size = clean.body, len(clean.body) // _DRIPS + 1
    yield _head(clean, len(body)) + body[:size]
    for begin in range(size, len(body), size):
        yield body[begin : begin + size]


def _flood(clean: SandboxResponse, size: int) -> Iterator[bytes]:
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
