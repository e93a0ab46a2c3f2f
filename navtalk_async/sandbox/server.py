"""The sandbox itself: a local HTTP server that speaks the APIs, and goes wrong when told to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from random import Random
from types import TracebackType
from typing import Final, Self

import msgspec
from aiohttp import web

from .answers import Answers
from .apis import apis, fitting
from .counts import Counts
from .exchange import Answered, Api, Asked, Streamed
from .faults import Faults, check
from .limits import Window
from .reply import composed, perform, streamed, too_many, unavailable, whole
from .stunts import RawResponse
from .world import World

_DESK: Final = "/_sandbox/"
_BACKLOG: Final = 1024
# Closing aborts every connection, so handlers end at once; this only bounds what we did not think of.
_CLOSING_SECONDS: Final = 1.0


class Sandbox:
    """The APIs on loopback, your own: deterministic data, both answers to every unknown, faults on demand.

    ``async with Sandbox(sessions=500) as box:`` serves a `World` until the block is left: at `navtalk_url`
    as NavTalk does, and the same sessions and messages at `kodey_url`, `lexicon_url` and `llamacloud_url`, as
    those APIs do. What is written through one of them is read through all.

    `world`, `faults`, `answers`, `latency` (seconds before every answer), `rate` (requests a second, then
    429), `capacity` (requests at once, then 503) and `keys` may be replaced while it runs. Any key that is
    not empty is let in; *keys* is a set of those that are, or a mapping from each to the World it opens; the
    key ``expired`` never is. *gzip* compresses for those who accept it. *clock* gives the moment that the
    answers' ``Date`` tells, or None for one that tells nothing; without it, the machine's own does. The same
    *seed* makes the same data and the same faults. Closing ends every connection at once, and waits for no
    request; opened again, a Sandbox has the address it had.
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
        self._script: list[_Planned] = []
        self._windows: dict[str, Window] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._open = asyncio.Event()
        self._open.set()
        self._door: _Door | None = None
        self._listening: socket.socket | None = None
        self._runner: web.ServerRunner | None = None

    def __repr__(self) -> str:
        state = self.url if self._runner else "closed"
        return f"<Sandbox {state} [{self.counts.total} requests, {self.counts.in_flight} in flight]>"

    @property
    def url(self) -> str:
        """Where it listens, e.g. ``http://127.0.0.1:40123``."""
        return f"http://{self.host}:{self.port}"

    def url_of(self, name: str) -> str:
        """The base URL of the API of that *name*, as its reference writes it; `KeyError` for none of ours."""
        return self.url + apis()[name].BASE

    @property
    def navtalk_url(self) -> str:
        """The base URL of the NavTalk API, as its reference writes it: with ``/api/chat`` at the end."""
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
        self._door = _Door(self._serve, self.counts)
        self._runner = web.ServerRunner(self._door, shutdown_timeout=_CLOSING_SECONDS)
        self._listening = socket.create_server((self.host, self.port), backlog=_BACKLOG)
        self.port = self._listening.getsockname()[1]
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening, backlog=_BACKLOG).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        door, runner = self._door, self._runner
        self._door = self._runner = None
        if door is not None and runner is not None:
            await self._stop_listening()
            for site in runner.sites:
                await site.stop()
            door.shut()
            await runner.cleanup()
        for count, waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(RuntimeError(f"the sandbox closed before {count} requests arrived"))
        self._waiting.clear()

    async def _stop_listening(self) -> None:
        """Let no one in any more, and let those in who stand in the door.

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
        """Let *kind* of fault befall the next *times* requests whose path or query contains *path*.

        Planned faults come before random ones, in the order they were planned; one that makes no sense for a
        request (a page fault where no page is asked for) waits for one where it does.
        """
        self._script.append(_Planned(check(kind), times, path))

    def hold(self) -> Awaitable[None]:
        """Stop answering: requests arrive and hang until `release`. Done at once; awaiting it is optional."""
        self._open.clear()
        return _Done()

    def release(self) -> Awaitable[None]:
        """Answer again, first the requests that hang. Done at once; awaiting it is optional."""
        self._open.set()
        return _Done()

    async def arrived(self, count: int) -> None:
        """Return as soon as *count* requests have arrived in total, answered or not."""
        if self.counts.total < count:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((count, waiter))
            await waiter

    def window(self, name: str = "", seconds: float = 1.0) -> Window:
        """The window of that *name*, made when it is first asked for; the one without a name keeps `rate`."""
        if name not in self._windows:
            self._windows[name] = Window(seconds)
        return self._windows[name]

    def ticks(self) -> float:
        """Seconds on the clock that windows go by: the loop's."""
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The moment, as `clock` has it or, where that tells none, the machine."""
        return (self.clock and self.clock()) or datetime.now(UTC)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith(_DESK):
            return self._at_the_desk(request)
        asked, api = self._understood(request)
        if asked.method != "GET":
            # Not request.read(), which refuses a message of a megabyte.
            asked.body = await request.content.read()
        self._note(asked, api)
        try:
            refused = self._overload(asked, api)
            fault = None if refused else self._fault(asked, api)
            await self._open.wait()
            if self.latency:
                await asyncio.sleep(self.latency)
            answered = refused or await composed(asked, api, self, fault, self.faults)
            return await self._reply(request, answered, api.headers(asked, self))
        finally:
            self.counts.left()

    def _understood(self, request: web.BaseRequest) -> tuple[Asked, Api]:
        asked = Asked(
            request.method,
            request.path,
            request.query,
            self.url + request.raw_path,
            number=self.counts.total,
            headers=request.headers,
        )
        api = fitting(asked.path)
        asked.kind = api.kind(asked)
        return asked, api

    def _note(self, asked: Asked, api: Api) -> None:
        self.counts.arrived(asked, api.NAME, api.session(asked))
        if self._waiting:
            for count, waiter in self._waiting:
                if count <= self.counts.total and not waiter.done():
                    waiter.set_result(None)
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]

    def _overload(self, asked: Asked, api: Api) -> Answered | None:
        if self.capacity is not None and self.counts.in_flight > self.capacity:
            return unavailable(asked, api)
        if self.rate is not None and not self.window().allows(self.ticks(), self.rate):
            return too_many(asked, api, 1)
        return None

    def _fault(self, asked: Asked, api: Api) -> str | None:
        fault = self._planned(asked, api) if self._script else None
        if fault is None:
            fault = self.faults.choose(self._rng.random(), lambda kind: api.can_play(kind, asked))
        if fault is not None:
            self.counts.faults[fault] += 1
        return fault

    def _planned(self, asked: Asked, api: Api) -> str | None:
        for plan in self._script:
            if plan.path in asked.url and api.can_play(plan.kind, asked):
                plan.times -= 1
                if not plan.times:
                    self._script.remove(plan)
                return plan.kind
        return None

    async def _reply(
        self,
        request: web.BaseRequest,
        answered: Answered | Streamed | RawResponse,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        if answered.status:
            self.counts.by_status[answered.status] += 1
        if isinstance(answered, RawResponse):
            return await perform(request, answered)
        if headers:
            answered.headers = {**headers, **answered.headers}
        if isinstance(answered, Streamed):
            return await streamed(request, answered, date=self._date())
        return whole(request, answered, gzip=self.gzip, date=self._date())

    def _date(self) -> str | None:
        if self.clock is None:
            return None
        now = self.clock()
        return "" if now is None else format_datetime(now.astimezone(UTC), usegmt=True)

    def _at_the_desk(self, request: web.BaseRequest) -> web.Response:
        """What a benchmark in another process asks: the counts, and to begin them again."""
        match request.method, request.path.removeprefix(_DESK):
            case "GET", "counts":
                return web.Response(
                    body=msgspec.json.encode(self.counts.as_dict()), content_type="application/json"
                )
            case "POST", "reset":
                self.counts.reset()
                return web.Response(status=204)
        return web.Response(status=404)


class _Door(web.Server):
    """aiohttp's server, counting connections, and able to close them all at once."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], counts: Counts
    ) -> None:
        # Cancelling the handler when its client leaves keeps counts.in_flight true.
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._counts = counts

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        self._counts.connections += 1
        super().connection_made(handler, transport)

    def shut(self) -> None:
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.abort()


@dataclass(slots=True)
class _Planned:
    kind: str
    times: int
    path: str


class _Done:
    """What is done already, and may be awaited all the same."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
