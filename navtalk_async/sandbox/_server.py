"""The HTTP server of the sandbox: it counts what it serves, sends every kind of reply, and closes at once."""

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final
from zlib import compress

import msgspec
from aiohttp import web

from ._api import SandboxRequest, SandboxResponse
from ._faults import RawResponse, Reply

_CONTROL: Final = "/_sandbox/"
_BACKLOG: Final = 1024
_WORTH_GZIP: Final = 512
# Closing aborts every connection, so handlers end at once; this only bounds what we did not think of.
_CLOSING_SECONDS: Final = 1.0
_LOGGED: Final = 10_000
_SECRET: Final = "apikey"  # noqa: S105 - the name of the parameter that is left out


class Counts:
    """What was served since the start, or since `reset`; requests count as they arrive, answered or not.

    `by_kind` counts by endpoint: sessions, session and messages in every API, its other ones, and other.
    `writes` counts the requests that change something by method and path, and `written` has the latest, each
    its method, path and body. `by_status` counts responses, `faults` the faults that happened, and
    `messages_by_session` the requests for messages by session id. `connections` were opened; `peak_in_flight`
    is the most requests at once. `recent` has the latest requests, each its kind and its parameters without
    the key.
    """

    def __init__(self) -> None:
        self.in_flight: int = 0
        self.reset()

    def reset(self) -> None:
        """Start at zero again; requests in flight stay in flight."""
        self.total: int = 0
        self.by_kind: Counter[str] = Counter()
        self.by_api: Counter[str] = Counter()
        self.writes: Counter[tuple[str, str]] = Counter()
        self.written: deque[tuple[str, str, bytes]] = deque(maxlen=_LOGGED)
        self.by_status: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.messages_by_session: Counter[str] = Counter()
        self.connections: int = 0
        self.peak_in_flight: int = self.in_flight
        self.recent: deque[tuple[str, dict[str, str]]] = deque(maxlen=_LOGGED)

    @property
    def session_gets(self) -> int:
        """How often a single session was asked for."""
        return self.by_kind["session"]

    def add(self, request: SandboxRequest, api: str) -> None:
        """Count a *request* to that *api* as arrived and in flight."""
        self.total += 1
        self.by_api[api] += 1
        self.by_kind[request.kind or "other"] += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        if request.kind == "messages":
            self.messages_by_session[request.session_id] += 1
        params = {name: value for name, value in request.query.items() if name != _SECRET}
        if request.session_id:
            params["sessionId"] = request.session_id
        if request.method != "GET":
            self.writes[request.method, request.path] += 1
            self.written.append((request.method, request.path, request.body))
        self.recent.append((request.kind or "other", params))

    def as_dict(self) -> dict[str, Any]:
        """All figures for JSON, without the recent requests."""
        figures = {name: each for name, each in vars(self).items() if name not in {"recent", "written"}}
        figures = {name: dict(each) if isinstance(each, Counter) else each for name, each in figures.items()}
        figures["by_status"] = {str(status): count for status, count in self.by_status.items()}
        figures["writes"] = {f"{method} {path}": count for (method, path), count in self.writes.items()}
        return figures | {"session_gets": self.session_gets}


class Server(web.Server):
    """aiohttp's server, which counts connections and can abort all of them."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], counts: Counts
    ) -> None:
        # Cancelling the handler when its client leaves keeps counts.in_flight true.
        super().__init__(self._handle, handler_cancellation=True, access_log=None)
        self._handler = handler
        self._counts = counts
        self._runner = web.ServerRunner(self, shutdown_timeout=_CLOSING_SECONDS)
        self._listening: socket.socket | None = None

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._counts.connections += 1
        super().connection_made(handler, transport)

    async def listen(self, host: str, port: int) -> int:
        self._listening = socket.create_server((host, port), backlog=_BACKLOG)
        port = self._listening.getsockname()[1]
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening, backlog=_BACKLOG).start()
        return port

    async def close(self) -> None:
        await self._stop_listening()
        for site in self._runner.sites:
            await site.stop()
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()

    async def _stop_listening(self) -> None:
        """Stop accepting, and finish the connections that are accepted already.

        asyncio (3.11) breaks, and leaks a socket, when its server closes between accepting a connection and
        making its transport. So accepting ends first, and what was accepted gets two turns of the loop.
        """
        if self._listening is not None:
            with suppress(NotImplementedError):
                asyncio.get_running_loop().remove_reader(self._listening)
            for _ in range(2):
                await asyncio.sleep(0)
            self._listening = None

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        if not http.path.startswith(_CONTROL):
            return await self._handler(http)
        # A benchmark in another process reads the counts, or resets them.
        match http.method, http.path.removeprefix(_CONTROL):
            case "GET", "counts":
                body = msgspec.json.encode(self._counts.as_dict())
                return web.Response(body=body, content_type="application/json")
            case "POST", "reset":
                self._counts.reset()
                return web.Response(status=204)
        return web.Response(status=404)


async def send(
    http: web.BaseRequest, reply: Reply, headers: Mapping[str, str], *, gzip: bool
) -> web.StreamResponse:
    if isinstance(reply, RawResponse):
        return await _send_raw(http, reply)
    if headers:
        reply.headers = {**headers, **reply.headers}
    if reply.pieces:
        return await _send_stream(http, reply)
    body, more = reply.body, reply.headers
    if gzip and len(body) > _WORTH_GZIP and "gzip" in http.headers.get("Accept-Encoding", ""):
        body, more = compress(body, level=1, wbits=31), more | {"Content-Encoding": "gzip"}
    return web.Response(body=body, status=reply.status, content_type=reply.content_type, headers=more or None)


async def _send_stream(http: web.BaseRequest, reply: SandboxResponse) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers or None)
    response.content_type = reply.content_type
    response.enable_chunked_encoding()
    await response.prepare(http)
    for number, piece in enumerate(reply.pieces):
        if number and reply.pause:
            await asyncio.sleep(reply.pause)
        await response.write(piece)
    await response.write_eof()
    return response


async def _send_raw(http: web.BaseRequest, reply: RawResponse) -> web.StreamResponse:
    transport = http.transport
    if transport is not None:
        for piece in reply.pieces:
            if transport.is_closing():
                break
            transport.write(piece)
            await http.writer.drain()
            if reply.pause:
                await asyncio.sleep(reply.pause)
        if reply.end == "hang":
            # Only the client's leaving, or the sandbox's closing, cancels this.
            await asyncio.get_running_loop().create_future()
        if reply.end == "reset":
            # Lingering for no seconds turns the close into a TCP reset.
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
    # aiohttp finds the connection closed, and sends none of this.
    return web.Response()
