"""The sandbox itself: the APIs on a local server, which counts what it serves.

The file is long because all that happens between a socket and an API is here.
"""

import asyncio
import socket
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from http import HTTPStatus
from importlib.metadata import entry_points
from random import Random
from time import monotonic
from typing import Any, Final, NamedTuple, Self
from zlib import compress

import msgspec
from aiohttp import web

from ._api import Answers, Api, ApiContext, SandboxRequest, SandboxResponse
from ._faults import Faults, field_of, refuse_by_gateway, response_to
from ._kodey import KodeyApi
from ._lexicon import LexiconApi
from ._llamacloud import LlamaCloudApi
from ._navtalk import NavTalkApi
from ._thread import LoopThread
from ._world import World

_COUNTS: Final = "/_sandbox/counts"
_BACKLOG: Final = 1024
_WORTH_GZIP: Final = 512
# Closing aborts every connection, so handlers end at once; this only bounds what we did not think of.
_CLOSING_SECONDS: Final = 1.0
_LOGGED: Final = 10_000
_SECRET: Final = "apikey"  # noqa: S105 - the name of the parameter that is left out
ENTRY_POINTS: Final = "navtalk_async.sandbox"
"""The group of entry points that name more APIs, each a subclass of `Api`."""


@cache
def apis() -> dict[str, Api]:
    """Every API by its name, longest paths first; `TypeError` for one that has no method for an endpoint."""
    kinds: list[type[Api]] = [NavTalkApi, KodeyApi, LexiconApi, LlamaCloudApi]
    kinds += [each.load() for each in entry_points(group=ENTRY_POINTS)]
    found = sorted((kind() for kind in kinds), key=lambda api: -len(api.prefix))
    return {api.name: api for api in found}


def api_of(path: str) -> Api:
    """The API that *path* belongs to; NavTalk refuses what belongs to none."""
    return next((api for api in apis().values() if path.startswith(api.prefix)), apis()["navtalk"])


class Asked(NamedTuple):
    """A request as it arrived at the sandbox, without its key."""

    api: str
    kind: str
    """Its endpoint: sessions, session or messages in every API, one of its other ones, or other."""
    method: str
    path: str
    params: dict[str, str]
    """What stood in its query; and as `sessionId`, the session that it is about."""
    body: bytes


class Counts:
    """What was served since the start, or since `reset`; requests count as they arrive, answered or not.

    `by_kind` counts by endpoint: sessions, session and messages in every API, its other ones, and other.
    `writes` counts the requests that change something by method and path, and `written` has the latest, each
    its method, path and body. `by_status` counts responses, `faults` the faults that happened, and
    `messages_by_session` the requests for messages by session id. `connections` were opened; `peak_in_flight`
    is the most requests at once. `asked` has the latest requests in the order in which they arrived.
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
        self.asked: deque[Asked] = deque(maxlen=_LOGGED)

    @property
    def recent(self) -> list[tuple[str, dict[str, str]]]:
        """The latest requests, each its kind and its parameters."""
        return [(each.kind, each.params) for each in list(self.asked)]

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
        kind, method, path = request.kind or "other", request.method, request.path
        self.asked.append(Asked(api, kind, method, path, params, request.body))

    def as_dict(self) -> dict[str, Any]:
        """All figures for JSON, without the latest requests."""
        figures = {name: each for name, each in vars(self).items() if not isinstance(each, deque)}
        figures["by_status"] = {str(status): count for status, count in self.by_status.items()}
        figures["writes"] = {f"{method} {path}": count for (method, path), count in self.writes.items()}
        return figures


class Sandbox(ApiContext):
    """The APIs on loopback, your own: deterministic data, both answers to every unknown, faults on demand.

    ``async with Sandbox(sessions=500) as box:`` serves a `World` until the block is left: at `navtalk_url`
    as NavTalk does, and the same sessions and messages at `kodey_url`, `lexicon_url` and `llamacloud_url`, as
    those APIs do. What is written through one of them is read through all. ``with Sandbox() as box:`` serves
    from a thread of its own, for programs without an event loop, and for tests of any loop.

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
        world = World(sessions, seed) if world is None else world
        super().__init__(world, answers or Answers(), clock, keys, rate)
        self.latency = latency
        self.faults: Faults = faults or Faults()
        self.capacity = capacity
        self.gzip = gzip
        self.host = host
        self.port: int = port
        self.counts: Counts = Counts()
        self._rng = Random(seed)  # noqa: S311 - dice for faults
        self._planned: list[tuple[str, str]] = []  # kinds and paths
        self._arrival = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._listening: socket.socket
        self._runner: web.ServerRunner | None = None
        self._thread: LoopThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        state = f"http://{self.host}:{self.port}" if self._runner else "closed"
        return f"<Sandbox {state} [{self.counts.total} requests, {self.counts.in_flight} in flight]>"

    @property
    def url(self) -> str:
        """Where it listens, e.g. ``http://127.0.0.1:40123``; `RuntimeError` in another event loop than its
        own, if that stands still: nobody would be answered.
        """
        if self._loop is not None and not self._loop.is_running() and _is_in_loop():
            raise RuntimeError(STANDS_STILL)
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
        """With ``/api/chat`` at the end, as its reference writes it."""
        return self.url_of("navtalk")

    @property
    def kodey_url(self) -> str:
        """The base URL of Kodey.ai."""
        return self.url_of("kodey")

    @property
    def lexicon_url(self) -> str:
        """The base URL of Lexicon."""
        return self.url_of("lexicon")

    @property
    def llamacloud_url(self) -> str:
        """The base URL of LlamaCloud."""
        return self.url_of("llamacloud")

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._arrival = asyncio.Event()
        self._listening = socket.create_server((self.host, self.port), backlog=_BACKLOG)
        self.port = self._listening.getsockname()[1]
        server = _CountingServer(self._serve, self.counts)
        self._runner = web.ServerRunner(server, shutdown_timeout=_CLOSING_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening, backlog=_BACKLOG).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        # asyncio (3.11) breaks, and leaks a socket, when its server closes between accepting a connection and
        # making its transport. So accepting ends first, and what was accepted gets two turns of the loop.
        with suppress(NotImplementedError):
            asyncio.get_running_loop().remove_reader(self._listening)
        for _turn in range(2):
            await asyncio.sleep(0)
        runner, self._runner, self._loop = self._runner, None, None
        if runner is not None and runner.server is not None:
            for site in runner.sites:
                await site.stop()
            for connection in runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await runner.cleanup()
        self._arrival.set()

    def __enter__(self) -> Self:
        self._thread = LoopThread()
        try:
            return self._thread.submit(self.__aenter__()).result()
        except BaseException:
            self._end_thread()
            raise

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            try:
                self._thread.submit(self.__aexit__()).result()
            finally:
                self._end_thread()

    def _end_thread(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def fail_next(self, kind: str, times: int = 1, path: str = "") -> None:
        """Play a *kind* of fault for the next *times* requests whose path or query contains *path*.

        Planned faults come before random ones, in the order they were planned; one that makes no sense for a
        request (a page fault where no page is asked for) waits for one where it does. `ValueError` for an
        unknown kind.
        """
        field_of(kind)
        self._planned += [(kind, path)] * times

    def forget_planned(self) -> None:
        """Forget the faults of `fail_next` that have not happened yet."""
        self._planned.clear()

    def hold(self) -> None:
        """Stop answering: requests arrive and hang until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Answer again, first the requests that hang."""
        if self._thread is None:
            self._open.set()
        else:
            self._thread.call(self._open.set)

    async def arrived(self, count: int) -> None:
        """Return as soon as *count* requests have arrived in total, answered or not."""
        if self._thread is None:
            await self._arrived(count)
        else:
            await asyncio.wrap_future(self._thread.submit(self._arrived(count)))

    async def _arrived(self, count: int) -> None:
        while self.counts.total < count:
            await self._arrival.wait()
            if self._runner is None:
                raise RuntimeError(f"the sandbox closed before {count} requests arrived")

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        if http.path == _COUNTS:
            # A benchmark in another process reads the counts.
            return web.Response(
                body=msgspec.json.encode(self.counts.as_dict()), content_type="application/json"
            )
        api, number = api_of(http.path), self.counts.total
        request = SandboxRequest(
            http.method, http.path, http.query, self, http.raw_path, self.url, number, http.headers
        )
        api.find_route(request)
        if request.method != "GET":
            # Not http.read(), which refuses a message of a megabyte.
            request.body = await http.content.read()
        self.counts.add(request, api.name)
        self._arrival.set()
        self._arrival = asyncio.Event()
        try:
            reply = await self._answer(request, api)
            headers = api.headers(request)
            if self.clock is not None:
                now = self.clock()
                date = "" if now is None else format_datetime(now.astimezone(UTC), usegmt=True)
                headers = {**headers, "Date": date}
            return await _send(http, reply, headers, gzip=self.gzip)
        finally:
            self.counts.in_flight -= 1

    async def _answer(self, request: SandboxRequest, api: Api) -> SandboxResponse:
        refusal = self._overload(request, api)
        fault = None if refusal else self._fault(request, api)
        await self._open.wait()
        if self.latency:
            await asyncio.sleep(self.latency)
        reply = refusal or await response_to(request, api, fault, self.faults)
        if reply.status:
            self.counts.by_status[reply.status] += 1
        return reply

    def _overload(self, request: SandboxRequest, api: Api) -> SandboxResponse | None:
        if self.capacity is not None and self.counts.in_flight > self.capacity:
            return refuse_by_gateway(request, api, HTTPStatus.SERVICE_UNAVAILABLE)
        if self.rate is not None and not self.window().allows(monotonic(), self.rate):
            return refuse_by_gateway(request, api, HTTPStatus.TOO_MANY_REQUESTS, 1)
        return None

    def _fault(self, request: SandboxRequest, api: Api) -> str | None:
        """The first planned fault that fits, or one by the dice."""
        fitting = (
            each for each in self._planned if each[1] in request.url and api.can_play(each[0], request)
        )
        if planned := next(fitting, None):
            self._planned.remove(planned)
            fault: str | None = planned[0]
        else:
            fault = self.faults.choose(self._rng.random(), lambda kind: api.can_play(kind, request))
        if fault is not None:
            self.counts.faults[fault] += 1
        return fault


STANDS_STILL: Final = (
    "The sandbox serves in another event loop, which stands still while this one runs: give its fixture the "
    "loop scope of the test, or write `with Sandbox() as box:`, which serves from a thread."
)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _CountingServer(web.Server):
    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], counts: Counts
    ) -> None:
        # Cancelling the handler when its client leaves keeps counts.in_flight true.
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._counts = counts

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._counts.connections += 1
        super().connection_made(handler, transport)


async def _send(
    http: web.BaseRequest, reply: SandboxResponse, headers: Mapping[str, str], *, gzip: bool
) -> web.StreamResponse:
    body, headers = reply.body, {**headers, **reply.headers}
    if reply.end == "cut" or reply.pieces:
        return await _send_pieces(http, reply, headers)
    if reply.end:
        await _end(http, reply.end)
        # aiohttp finds the connection closed, and sends none of this.
        return web.Response()
    if gzip and len(body) > _WORTH_GZIP and "gzip" in http.headers.get("Accept-Encoding", ""):
        body, headers = compress(body, level=1, wbits=31), headers | {"Content-Encoding": "gzip"}
    return web.Response(body=body, status=reply.status, content_type=reply.content_type, headers=headers)


async def _send_pieces(
    http: web.BaseRequest, reply: SandboxResponse, headers: Mapping[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.content_type = reply.content_type
    pieces, rest = reply.pieces, b""
    if not pieces:
        response.content_length = len(reply.body)
        pieces = [reply.body[: len(reply.body) // 2]]
    else:
        response.enable_chunked_encoding()
    if reply.end == "cut" and reply.pieces:
        *pieces, last = pieces
        rest = b"%x\r\n%b" % (len(last), last[: len(last) // 2])
    await response.prepare(http)
    # A client that leaves in the middle is no error of ours.
    with suppress(ConnectionError):
        for number, piece in enumerate(pieces):
            if number and reply.pause:
                await asyncio.sleep(reply.pause)
            await response.write(piece)
        if reply.end:
            await _end(http, reply.end, rest)
        else:
            await response.write_eof()
    return response


async def _end(http: web.BaseRequest, end: str, rest: bytes = b"") -> None:
    """Write the raw *rest*, then close or reset the connection, or let it hang."""
    transport = http.transport
    if transport is None:
        return
    transport.write(rest)
    if end == "hang":
        # Only the client's leaving, or the sandbox's closing, cancels this.
        await asyncio.get_running_loop().create_future()
    if end == "reset":
        # Lingering for no seconds turns the close into a TCP reset.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
