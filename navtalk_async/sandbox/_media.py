"""Where the sandbox's recordings are: files of made-up bytes, and what can go wrong on their way."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256, shake_128
from typing import Final

from aiohttp import web

PREFIX: Final = "/_sandbox/media/"
MADE_AT: Final = datetime(2025, 11, 1, tzinfo=UTC)
PIECE: Final = 1 << 16
FAULTS: Final = (
    *("cut", "reset", "slow", "hang", "416", "403", "404", "410", "429", "500", "redirect"),
    *(
        "changed",
        "no-range",
        "no-validator",
        "weak",
        "wrong-range",
        "gzip",
        "chunked",
        "chunked-cut",
        "empty",
    ),
)
"""Half of it, or a reset; piece after piece; nothing; a status; another file from now
on; a 200 to a request for a part; no ETag, or a weak one; a part that begins elsewhere; compressed; without a
length, whole or cut; no bytes."""


class SandboxMedia:
    """Files at ``{sandbox.url}/_sandbox/media/NAME``, each of *sizes* [NAME] bytes, by default 100,000.

    `plan` says what goes wrong with the next requests for a file. A file that has *expired* is a 403 unless
    the URL has the parameter ``sig`` of `signed`. `requests` counts by name; `asked` has the latest, each
    with its path, query and headers.
    """

    def __init__(self) -> None:
        self.url: str = ""
        self.sizes: dict[str, int] = {}
        self.states: Counter[str] = Counter()
        self.expired: set[str] = set()
        self.requests: Counter[str] = Counter()
        self.asked: deque[tuple[str, Mapping[str, str]]] = deque(maxlen=100_000)
        self._planned: defaultdict[str, deque[str]] = defaultdict(deque)

    def plan(self, name: str, *faults: str) -> str:
        """The URL of the file *name*, whose next requests meet these *faults*, one each; `ValueError` for an
        unknown one.
        """
        if unknown := set(faults).difference(FAULTS):
            raise ValueError(f"no such fault: {min(unknown)!r}; there are {', '.join(FAULTS)}")
        self._planned[name] += faults
        return self.url + PREFIX + name

    def signed(self, name: str) -> str:
        """A URL of the file *name* that has not expired."""
        return f"{self.plan(name)}?sig={sha256(name.encode()).hexdigest()[:8]}"

    def content(self, name: str) -> bytes:
        """The bytes of the file *name* as it is now."""
        seed = f"{name} {self.states[name]}".encode()
        return shake_128(seed).digest(self.sizes.get(name, 100_000))

    async def serve(self, http: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request for a file."""
        name = http.path.removeprefix(PREFIX)
        self.requests[name] += 1
        self.asked.append((http.raw_path, http.headers))
        planned = self._planned[name]
        fault = planned.popleft() if planned else ""
        if fault == "changed":
            self.states[name] += 1
        if fault == "hang":
            await asyncio.get_running_loop().create_future()
        if fault == "redirect":
            return web.Response(status=302, headers={"Location": self.url + PREFIX + name})
        if name in self.expired and http.query.get("sig") != self.signed(name).partition("=")[2]:
            fault = "403"
        if fault.isdecimal():
            return web.Response(status=int(fault), headers={"Retry-After": "0"})
        changed_at = format_datetime(MADE_AT + timedelta(days=self.states[name]), usegmt=True)
        return await self._send(http, b"" if fault == "empty" else self.content(name), fault, changed_at)

    async def _send(
        self, http: web.BaseRequest, body: bytes, fault: str, changed_at: str
    ) -> web.StreamResponse:
        etag = f'"{sha256(body).hexdigest()[:16]}"'
        headers = {"ETag": f"W/{etag}" if fault == "weak" else etag, "Last-Modified": changed_at}
        begin, status = None if fault == "no-range" else _begin(http.headers, (etag, changed_at)), 200
        if begin is not None and begin >= len(body):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
        if begin is not None:
            at = begin + (fault == "wrong-range")
            headers["Content-Range"], status = f"bytes {at}-{len(body) - 1}/{len(body)}", 206
            body = body[at:]
        if fault == "no-validator":
            headers = {name: each for name, each in headers.items() if name == "Content-Range"}
        if fault == "gzip":
            headers["Content-Encoding"] = "gzip"
        response = web.StreamResponse(status=status, headers={**headers, "Content-Type": "video/mp4"})
        if fault.startswith("chunked"):
            response.enable_chunked_encoding()
        else:
            response.content_length = len(body)
        await response.prepare(http)
        with suppress(ConnectionError):
            await self._write(http, response, body, fault)
        return response

    async def _write(
        self, http: web.BaseRequest, response: web.StreamResponse, body: bytes, fault: str
    ) -> None:
        is_broken = fault in ("cut", "reset", "chunked-cut")
        sent = body[: len(body) // 2] if is_broken else body
        for at in range(0, len(sent), PIECE):
            await response.write(sent[at : at + PIECE])
            if fault == "slow":
                await asyncio.sleep(0.01)
        if not is_broken:
            await response.write_eof()
        elif http.transport is not None:
            http.transport.abort() if fault == "reset" else http.transport.close()


def _begin(headers: Mapping[str, str], validators: tuple[str, str]) -> int | None:
    """Where the part begins that is asked for; None for the whole."""
    asked, condition = headers.get("Range", ""), headers.get("If-Range", "")
    is_part = asked.startswith("bytes=") and asked.endswith("-") and condition in ("", *validators)
    return int(asked[6:-1]) if is_part else None
