"""The sandbox itself: a local HTTP server that speaks the APIs, and plays faults."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from importlib.metadata import entry_points
from os.path import commonpath
from random import Random
from types import TracebackType
from typing import Final, Self
from zlib import compressobj

import msgspec
from aiohttp import web

from ._answers import Answers
from ._api import Api, SandboxRequest, SandboxResponse, SandboxStream, Window
from ._counts import Counts
from ._faults import Faults, RawResponse, Reply, check, reply_to, too_many, unavailable
from ._kodey import KodeyApi
from ._lexicon import LexiconApi
from ._llamacloud import LlamaCloudApi
from ._navtalk import NavTalkApi
from ._world import World

ENTRY_POINTS: Final = "navtalk_async.sandbox"
"""The group of entry points that name more APIs, each a subclass of `Api`."""

_CONTROL: Final = "/_sandbox/"
_BACKLOG: Final = 1024
_WORTH_GZIP: Final = 512
# Closing aborts every connection, so handlers end at once; this only bounds what we did not think of.
_CLOSING_SECONDS: Final = 1.0


@cache
def apis() -> dict[str, Api]:
    """Every API by its name, longest paths first; `TypeError` for one that has no method for an endpoint."""
    kinds: list[type[Api]] = [NavTalkApi, KodeyApi, LexiconApi, LlamaCloudApi]
    kinds += [each.load() for each in entry_points(group=ENTRY_POINTS)]
    found = sorted((kind() for kind in kinds), key=lambda api: -len(api.prefix))
    return {api.name: api for api in found}


def api_of(path: str) -> Api:
    """The API that *path* belongs to, or else the one whose paths begin most like it."""
    for api in apis().values():
        if path.startswith(api.prefix):
            return api
    return max(apis().values(), key=lambda api: len(commonpath([api.prefix, f"/{path}"])))


class Sandbox:
    """The APIs on loopback, your own: deterministic data, both answers to every unknown, faults on demand.

    ``async with Sandbox(sessions=500) as box:`` serves a `World` until the block is left: at `navtalk_url`
    as NavTalk does, and the same sessions and messages at `kodey_url`, `lexicon_url` and `llamacloud_url`, as
    those APIs do. What is written through one of them is read through all.

    `world`, `faults`, `answers`, `latency` (seconds before every answer), `rate` (requests a second, then
    429), `capacity` (requests at once, then 503) and `keys` may be replaced while it runs. Without *keys*,
    every key but an empty one opens the world; with a set of keys, these do; with a mapping, each opens a
    World of its own. The key ``expired`` opens nothing. *gzip* compresses for clients that accept it. *clock*
    returns the moment of the ``Date`` header, or None for an empty one; by default it is the machine's. The
    same *seed* makes the same data and the same faults. Closing ends every connection at once, and waits for
    no request; a Sandbox that is opened again has the same address.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        sessions: int = 500,
        seed: int = 0,
        latency: float = 0.0,
        faults: Faults | None = None,
        answers: Answers | None = None,
        keys: Mapping[str, World] | Collection[str] | None = None,
        rate: int | None = None,
        capacity: int | None = None,
        gzip: bool = False,
        clock: Callable[[], datetime | None] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.world = World(sessions, seed) if world is None else world
        self.latency = latency
        self.faults = faults or Faults()
        self.answers = answers or Answers()
        self.keys = keys
        self.rate = rate
        self.capacity = capacity
        self.gzip = gzip
        self.clock = clock
        self.host = host
        self.port = port
        self.counts = Counts()
        self._rng = Random(seed)  # noqa: S311 - dice for faults
        self._planned: list[_PlannedFault] = []
        self._windows: dict[str, Window] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._open = asyncio.Event()
        self._open.set()
        self._server: _Server | None = None
        self._listening: socket.socket | None = None
        self._runner: web.ServerRunner | None = None

    def __repr__(self) -> str:
        state = self.url if self._runner else "closed"
        return f"<Sandbox {state} [{self.counts.total} requests, {self.counts.in_flight} in flight]>"

    @property
    def url(self) -> str:
        """Where it listens, e.g. ``http://127.0.0.1:40123``."""
        return f"http://{self.host}:{self.port}"

    @property
    def urls(self) -> dict[str, str]:
        """The base URL of every API by the API's name, as its reference writes it."""
        return {name: self.url + api.base_path for name, api in apis().items()}

    def url_of(self, name: str) -> str:
        """The base URL of the API of that *name*; `KeyError` for an unknown one."""
        return self.urls[name]

    @property
    def navtalk_url(self) -> str:
        """The base URL of the NavTalk API, with ``/api/chat`` at the end."""
        return self.url_of("navtalk")

    @property
    def kodey_url(self) -> str:
        """The base URL of the Kodey API."""
        return self.url_of("kodey")

    @property
    def lexicon_url(self) -> str:
        """The base URL of the Lexicon API."""
        return self.url_of("lexicon")

    @property
    def llamacloud_url(self) -> str:
        """The base URL of the LlamaCloud API."""
        return self.url_of("llamacloud")

    async def __aenter__(self) -> Self:
        self._server = _Server(self._serve, self.counts)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=_CLOSING_SECONDS)
        self._listening = socket.create_server((self.host, self.port), backlog=_BACKLOG)
        self.port = self._listening.getsockname()[1]
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening, backlog=_BACKLOG).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        server, runner = self._server, self._runner
        self._server = self._runner = None
        if server is not None and runner is not None:
            await self._stop_listening()
            for site in runner.sites:
                await site.stop()
            server.abort_connections()
            await runner.cleanup()
        for count, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(RuntimeError(f"the sandbox closed before {count} requests arrived"))
        self._waiting.clear()

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

    def fail_next(self, kind: str, times: int = 1, path: str = "") -> None:
        """Play a *kind* of fault for the next *times* requests whose path or query contains *path*.

        Planned faults come before random ones, in the order they were planned; one that makes no sense for a
        request (a page fault where no page is asked for) waits for one where it does. `ValueError` for an
        unknown kind.
        """
        self._planned.append(_PlannedFault(check(kind), times, path))

    def forget_planned(self) -> None:
        """Forget the faults of `fail_next` that have not happened yet."""
        self._planned.clear()

    def hold(self) -> Awaitable[None]:
        """Stop answering: requests arrive and hang until `release`. It takes effect without an `await`."""
        self._open.clear()
        return _Done()

    def release(self) -> Awaitable[None]:
        """Answer again, first the requests that hang. It takes effect without an `await`."""
        self._open.set()
        return _Done()

    async def arrived(self, count: int) -> None:
        """Return as soon as *count* requests have arrived in total, answered or not."""
        if self.counts.total < count:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((count, waiter))
            await waiter

    def window(self, name: str = "", seconds: float = 1.0) -> Window:
        """The window of that *name*, the same each time; the one without a name keeps the `rate`."""
        if name not in self._windows:
            self._windows[name] = Window(seconds)
        return self._windows[name]

    def ticks(self) -> float:
        """Seconds on the clock of the windows, which is the loop's."""
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The moment of `clock` or, where it returns None, of the machine."""
        return (self.clock and self.clock()) or datetime.now(UTC)

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        if http.path.startswith(_CONTROL):
            return self._control(http)
        api = api_of(http.path)
        request = SandboxRequest(
            http.method,
            http.path,
            http.query,
            http.raw_path,
            self.url,
            number=self.counts.total,
            headers=http.headers,
        )
        api.find_route(request)
        if request.method != "GET":
            # Not http.read(), which refuses a message of a megabyte.
            request.body = await http.content.read()
        self._count(request, api)
        try:
            refusal = self._overload(request, api)
            fault = None if refusal else self._fault(request, api)
            await self._open.wait()
            if self.latency:
                await asyncio.sleep(self.latency)
            reply = refusal or await reply_to(request, api, self, fault, self.faults)
            return await self._send(http, reply, api.headers(request, self))
        finally:
            self.counts.in_flight -= 1

    def _count(self, request: SandboxRequest, api: Api) -> None:
        self.counts.add(request, api.name)
        if self._waiting:
            for count, waiter in self._waiting:
                if count <= self.counts.total and not waiter.done():
                    waiter.set_result(None)
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]

    def _overload(self, request: SandboxRequest, api: Api) -> SandboxResponse | None:
        if self.capacity is not None and self.counts.in_flight > self.capacity:
            return unavailable(request, api)
        if self.rate is not None and not self.window().allows(self.ticks(), self.rate):
            return too_many(request, api, 1)
        return None

    def _fault(self, request: SandboxRequest, api: Api) -> str | None:
        fault = self._planned_fault(request, api)
        if fault is None:
            fault = self.faults.choose(self._rng.random(), lambda kind: api.can_play(kind, request))
        if fault is not None:
            self.counts.faults[fault] += 1
        return fault

    def _planned_fault(self, request: SandboxRequest, api: Api) -> str | None:
        for planned in self._planned:
            if planned.path in request.url and api.can_play(planned.kind, request):
                planned.times -= 1
                if not planned.times:
                    self._planned.remove(planned)
                return planned.kind
        return None

    async def _send(
        self, http: web.BaseRequest, reply: Reply, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        if reply.status:
            self.counts.by_status[reply.status] += 1
        if isinstance(reply, RawResponse):
            return await _send_raw(http, reply)
        if self.clock is not None:
            now = self.clock()
            date = "" if now is None else format_datetime(now.astimezone(UTC), usegmt=True)
            headers = {**headers, "Date": date}
        if headers:
            reply.headers = {**headers, **reply.headers}
        if isinstance(reply, SandboxStream):
            return await _send_stream(http, reply)
        return _whole(http, reply, gzip=self.gzip)

    def _control(self, http: web.BaseRequest) -> web.Response:
        """Answer a benchmark in another process, which reads the counts, or resets them."""
        match http.method, http.path.removeprefix(_CONTROL):
            case "GET", "counts":
                body = msgspec.json.encode(self.counts.as_dict())
                return web.Response(body=body, content_type="application/json")
            case "POST", "reset":
                self.counts.reset()
                return web.Response(status=204)
        return web.Response(status=404)


class _Server(web.Server):
    """aiohttp's server, which counts connections and can abort all of them."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], counts: Counts
    ) -> None:
        # Cancelling the handler when its client leaves keeps counts.in_flight true.
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._counts = counts

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._counts.connections += 1
        super().connection_made(handler, transport)

    def abort_connections(self) -> None:
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()


@dataclass(slots=True)
class _PlannedFault:
    kind: str
    times: int
    path: str


class _Done:
    """An awaitable that has nothing to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def _whole(http: web.BaseRequest, reply: SandboxResponse, *, gzip: bool) -> web.Response:
    """The response as aiohttp sends it, compressed when that is wanted and worth it."""
    body, headers = reply.body, reply.headers
    if gzip and len(body) > _WORTH_GZIP and "gzip" in http.headers.get("Accept-Encoding", ""):
        squeeze = compressobj(1, wbits=31)
        body = squeeze.compress(body) + squeeze.flush()
        headers = headers | {"Content-Encoding": "gzip"}
    return web.Response(
        body=body, status=reply.status, content_type=reply.content_type, headers=headers or None
    )


async def _send_stream(http: web.BaseRequest, reply: SandboxStream) -> web.StreamResponse:
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
    """Write the bytes of the reply, and end the connection its way."""
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
