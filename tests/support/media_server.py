"""A server of recordings: files of made-up bytes, and what can go wrong on their way."""

import asyncio
from collections import Counter, defaultdict, deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256, shake_128

from aiohttp import web

PREFIX = "/media/"
MADE_AT = datetime(2025, 11, 1, tzinfo=UTC)
PIECE = 1 << 16
FAULTS = {
    "cut": "half of it",
    "reset": "half of it, and a reset",
    "slow": "piece after piece",
    "hang": "half of it, and then nothing",
    "busy": "a 429 for an hour",
    "redirect": "to the same place",
    "changed": "another file, from now on",
    "no-range": "all of it, when a part is asked for",
    "wrong-range": "a part that begins elsewhere",
    "no-validator": "no ETag and no date",
    "weak": "a weak ETag",
    "gzip": "said to be compressed",
    "chunked": "without a length",
    "chunked-cut": "half of it, without a length",
    "empty": "no bytes",
    **dict.fromkeys(("403", "404", "410", "416", "429", "500"), "a status"),
}


class MediaServer:
    """``async with MediaServer() as media:`` files at ``{media.url}/media/NAME``, each of as many bytes as
    *sizes* says, by default 100,000.

    `plan` says what goes wrong with the next requests for a file. A file that has *expired* is a 403 unless
    the URL has the parameter ``sig`` of `signed`. `requests` counts by name; `asked` has each with its path
    and headers. `hanging` is set where one hangs.
    """

    def __init__(self):
        self.sizes = {}
        self.states = Counter()
        self.expired = set()
        self.requests = Counter()
        self.asked = []
        self.hanging = asyncio.Event()
        self._closing = asyncio.Event()
        self._planned = defaultdict(deque)

    async def __aenter__(self):
        self._runner = web.ServerRunner(web.Server(self.serve, access_log=None), shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._closing.set()
        await self._runner.cleanup()

    def plan(self, name, *faults):
        """The URL of the file *name*, whose next requests meet these *faults*, one each; `ValueError` for an
        unknown one.
        """
        if unknown := set(faults).difference(FAULTS):
            raise ValueError(f"no such fault: {min(unknown)!r}; there are {', '.join(FAULTS)}")
        self._planned[name] += faults
        return self.url + PREFIX + name

    def signed(self, name):
        """A URL of the file *name* that has not expired."""
        return f"{self.plan(name)}?sig={sha256(name.encode()).hexdigest()[:8]}"

    def content(self, name):
        """The bytes of the file *name* as it is now."""
        seed = f"{name} {self.states[name]}".encode()
        return shake_128(seed).digest(self.sizes.get(name, 100_000))

    async def serve(self, http):
        """The answer to a request for a file."""
        name = http.path.removeprefix(PREFIX)
        self.requests[name] += 1
        self.asked.append((http.raw_path, http.headers))
        planned = self._planned[name]
        fault = planned.popleft() if planned else ""
        if fault == "changed":
            self.states[name] += 1
        if fault == "redirect":
            return web.Response(status=302, headers={"Location": self.url + PREFIX + name})
        if name in self.expired and http.query.get("sig") != self.signed(name).partition("=")[2]:
            fault = "403"
        if fault == "busy":
            return web.Response(status=429, headers={"Retry-After": "3600"})
        if fault.isdecimal():
            return web.Response(status=int(fault), headers={"Retry-After": "0"})
        changed_at = format_datetime(MADE_AT + timedelta(days=self.states[name]), usegmt=True)
        return await self._send(http, b"" if fault == "empty" else self.content(name), fault, changed_at)

    async def _send(self, http, body, fault, changed_at):
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

    async def _write(self, http, response, body, fault):
        is_broken = fault in ("cut", "reset", "hang", "chunked-cut")
        sent = body[: len(body) // 2] if is_broken else body
        for at in range(0, len(sent), PIECE):
            await response.write(sent[at : at + PIECE])
            if fault == "slow":
                await asyncio.sleep(0.01)
        if fault == "hang":
            self.hanging.set()
            await self._closing.wait()
        if not is_broken:
            await response.write_eof()
        elif http.transport is not None:
            http.transport.abort() if fault == "reset" else http.transport.close()


def _begin(headers, validators):
    """Where the part begins that is asked for; None for the whole."""
    asked, condition = headers.get("Range", ""), headers.get("If-Range", "")
    is_part = asked.startswith("bytes=") and asked.endswith("-") and condition in ("", *validators)
    return int(asked[6:-1]) if is_part else None
