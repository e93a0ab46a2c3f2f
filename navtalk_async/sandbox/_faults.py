"""What may go wrong and how often, and how each fault looks on the wire."""

import asyncio
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from http import HTTPStatus
from itertools import repeat
from random import Random
from typing import Any, Final, Self

from ._api import PAGE_FAULTS, Answers, Api, ApiContext, Refused, SandboxRequest, SandboxResponse

ALL: Final = ("500", "429", "reset", "cut", "garbage")
"""What ``all=10%`` mixes evenly: what a client meets in an ordinary bad week."""

_AMOUNTS: Final = frozenset({"retry_after", "slow_seconds", "huge_bytes"})
_BOMB_BLOCKS: Final = 320
_BEGIN: Final = b'{"code":200,"message":"SUCCESS","data":'
_DEEP: Final = _BEGIN + b"[" * 100_000 + b"]" * 100_000 + b"}"
_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body><h1>Back soon</h1></body></html>"
)
_MESSAGES: Final = {
    "400": "Missing required parameter",
    "403": "API key expired or project not active",
    "404": "Session not found or does not belong to the project",
    "500": "Internal server error",
}

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

    chances: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        chances = {kind: getattr(self, name) for kind, name in _FIELDS.items()}
        for kind, chance in chances.items():
            if not 0 <= chance <= 1:
                raise ValueError(f"the chance of {kind} must be between 0 and 1, not {chance}")
        if sum(chances.values()) > 1 + 1e-9:
            raise ValueError("the chances of all faults together must not exceed 1")
        # Looked through for every request, most of which no fault befalls.
        object.__setattr__(self, "chances", {kind: chance for kind, chance in chances.items() if chance})

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
                for each in map(field_of, ALL):
                    found[each] = found.get(each, 0) + _figure(figure) / len(ALL)
            else:
                found[field_of(name.strip())] = _figure(figure)
        size = int(found.pop("huge_bytes", cls().huge_bytes))
        return cls(huge_bytes=size, **found)

    def choose(self, dice: float, can_play: Callable[[str], bool]) -> str | None:
        """The fault a number from [0, 1) stands for, or None; one that *can_play* denies does not happen."""
        reach = 0.0
        for kind, chance in self.chances.items():
            reach += chance
            if dice < reach:
                return kind if can_play(kind) else None
        return None


def field_of(kind: str) -> str:
    """The field of a *kind* of fault, or of an amount; `ValueError`, with all kinds, for an unknown one."""
    name = kind.replace("-", "_")
    if name not in _AMOUNTS and kind not in _FIELDS:
        raise ValueError(f"no such fault: {kind!r}; there are {', '.join(_FIELDS)}")
    return _FIELDS.get(kind, name)


def _figure(text: str) -> float:
    try:
        return float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise ValueError(f"not a figure: {text!r}; write 0.05 or 5%") from None


_NAMES: Final = [each.name for each in fields(Faults) if each.init and each.name not in _AMOUNTS]
_FIELDS: Final = {name.removeprefix("http_").replace("_", "-"): name for name in _NAMES}

KINDS: Final = tuple(_FIELDS)
"""The short names of all faults."""


async def response_to(
    request: SandboxRequest, api: Api, fault: str | None, faults: Faults
) -> SandboxResponse:
    """What the sandbox sends where *fault* befalls the *request*."""
    if fault is None or fault in PAGE_FAULTS:
        request.fault = fault
        return api.answer(request)
    if fault == "bomb":
        # Made once, in some tenths of a second: too long for the loop that serves everyone else.
        return SandboxResponse(200, await asyncio.to_thread(bomb), headers={"Content-Encoding": "gzip"})
    if fault == "drop":
        # What was asked for is not even begun; lost-answer is the fault where it was done.
        return SandboxResponse(0, b"", end="close")
    if refusal := _refusal(request, api, fault, faults):
        return refusal
    return _spoiled(fault, api.answer(request), faults, request.number)


def refuse_by_gateway(
    request: SandboxRequest, api: Api, code: HTTPStatus, wait: float | None = None
) -> SandboxResponse:
    """The refusal of a gateway before the API, which refuses by status, whatever the API itself does."""
    gateway = replace(request, context=ApiContext(request.context.world, Answers()))
    return api.refusal(Refused(code, code.phrase, wait), gateway)


def _refusal(request: SandboxRequest, api: Api, fault: str, faults: Faults) -> SandboxResponse | None:
    """The response of a fault that is a response in itself; None for a fault that spoils a right one."""
    match fault:
        case "429" | "429-bare":
            wait = faults.retry_after if fault == "429" else None
            return refuse_by_gateway(request, api, HTTPStatus.TOO_MANY_REQUESTS, wait)
        case "503":
            return refuse_by_gateway(request, api, HTTPStatus.SERVICE_UNAVAILABLE)
        case "redirect":
            return SandboxResponse(302, b"", "text/plain", {"Location": _elsewhere(request)})
        case "echo-key":
            key, url = api.key_of(request), request.url
            return api.refusal(Refused(400, f'Invalid API key {key} in <a href="{url}">{url}</a>'), request)
    return api.refusal(Refused(int(fault), _MESSAGES[fault]), request) if fault in _MESSAGES else None


def _elsewhere(request: SandboxRequest) -> str:
    scheme, _, authority = request.origin.partition("://")
    host, _, port = authority.rpartition(":")
    return f"{scheme}://{'localhost' if host == '127.0.0.1' else '127.0.0.1'}:{port}{request.raw_path}"


def _spoiled(fault: str, clean: SandboxResponse, faults: Faults, number: int) -> SandboxResponse:
    # The dice are the request's own, so what it gets does not depend on other requests.
    dice = Random(number)  # noqa: S311 - dice for faults
    body, half = clean.body, len(clean.body) // 2
    match fault:
        case "slow":
            step = half // 10 + 1
            pieces = list(clean.pieces) or [body[at : at + step] for at in range(0, len(body), step)]
            return replace(clean, pieces=pieces, pause=faults.slow_seconds / (len(pieces) or 1))
        case "huge":
            return replace(clean, pieces=_flood(faults.huge_bytes))
        case "truncated":
            return replace(clean, body=body[:half], pieces=())
        case "garbage" | "wrong-shape" | "deep" | "html":
            nonsense = {"html": _HTML, "deep": _DEEP}.get(fault) or _nonsense(fault, dice)
            return SandboxResponse(200, nonsense, "text/html" if fault == "html" else "application/json")
    return _broken(fault, clean)


def _nonsense(fault: str, dice: Random) -> bytes:
    if fault == "wrong-shape":
        return WRONG_SHAPES[int(dice.random() * len(WRONG_SHAPES))]
    return dice.randbytes(64 + int(dice.random() * 2000))


def _broken(fault: str, clean: SandboxResponse) -> SandboxResponse:
    """A response that ends too early: half of a stream comes, and for a cut a part of the next piece."""
    end: Any = "close" if fault in {"lost-answer", "cut-chunked"} else fault
    body, pieces, is_cut = clean.body, list(clean.pieces), fault in {"cut", "cut-chunked"}
    if fault == "lost-answer" or not (pieces or (is_cut and body)):
        # Of an empty body nothing but the head is there to be cut.
        return SandboxResponse(0, b"", end="close" if is_cut else end)
    if pieces:
        return replace(clean, pieces=pieces[: len(pieces) // 2 + (fault == "cut")], end=end)
    return replace(clean, pieces=[body[: len(body) // 2 + 1]] if fault == "cut-chunked" else (), end=end)


def _flood(size: int) -> Iterator[bytes]:
    yield _BEGIN + b'"'
    for _ in range(size // 65_536 + 1):
        yield b"x" * 65_536
    yield b'"}'


@cache
def bomb() -> bytes:
    """A gzip body of some 300 kB that inflates to 320 MB of valid JSON, nearly all of it spaces."""
    squeeze, blank = zlib.compressobj(9, zlib.DEFLATED, 31), b" " * (1 << 20)
    blocks = [squeeze.compress(each) for each in (_BEGIN, *repeat(blank, _BOMB_BLOCKS), b"null}")]
    return b"".join(blocks) + squeeze.flush()
