"""The sandbox itself: the APIs on a local server, with faults as they are asked for."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from importlib.metadata import entry_points
from random import Random
from typing import Final, Self

from aiohttp import web

from ._answers import Answers
from ._api import Api, ApiContext, SandboxRequest, SandboxResponse
from ._faults import Faults, check, reply_to, too_many, unavailable
from ._kodey import KodeyApi
from ._lexicon import LexiconApi
from ._llamacloud import LlamaCloudApi
from ._navtalk import NavTalkApi
from ._server import Counts, Server, send
from ._world import World

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


class Sandbox(ApiContext):
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
        super().__init__(World(sessions, seed) if world is None else world, answers or Answers(), clock)
        self.keys = keys
        self.rate = rate
        self.latency = latency
        self.faults: Faults = faults or Faults()
        self.capacity = capacity
        self.gzip = gzip
        self.host = host
        self.port: int = port
        self.counts: Counts = Counts()
        self._rng = Random(seed)  # noqa: S311 - dice for faults
        self._planned: list[_PlannedFault] = []
        self._arrival = asyncio.Event()
        self._is_awaited = False
        self._open = asyncio.Event()
        self._open.set()
        self._server: Server | None = None

    def __repr__(self) -> str:
        state = self.url if self._server else "closed"
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
        self._arrival = asyncio.Event()
        self._server = Server(self._serve, self.counts)
        self.port = await self._server.listen(self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.close()
        self._arrival.set()

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

    def hold(self) -> None:
        """Stop answering: requests arrive and hang until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Answer again, first the requests that hang."""
        self._open.set()

    async def arrived(self, count: int) -> None:
        """Return as soon as *count* requests have arrived in total, answered or not."""
        while self.counts.total < count:
            self._is_awaited = True
            await self._arrival.wait()
            if self._server is None:
                raise RuntimeError(f"the sandbox closed before {count} requests arrived")

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        api = api_of(http.path)
        request = SandboxRequest(
            http.method, http.path, http.query, http.raw_path, self.url, self.counts.total, http.headers
        )
        api.find_route(request)
        if request.method != "GET":
            # Not http.read(), which refuses a message of a megabyte.
            request.body = await http.content.read()
        self.counts.add(request, api.name)
        if self._is_awaited:
            self._arrival.set()
            self._arrival, self._is_awaited = asyncio.Event(), False
        try:
            refusal = self._overload(request, api)
            fault = None if refusal else self._fault(request, api)
            await self._open.wait()
            if self.latency:
                await asyncio.sleep(self.latency)
            reply = refusal or await reply_to(request, api, self, fault, self.faults)
            if reply.status:
                self.counts.by_status[reply.status] += 1
            return await send(http, reply, self._headers(request, api), gzip=self.gzip)
        finally:
            self.counts.in_flight -= 1

    def _headers(self, request: SandboxRequest, api: Api) -> Mapping[str, str]:
        headers = api.headers(request, self)
        if self.clock is None:
            return headers
        now = self.clock()
        return {**headers, "Date": "" if now is None else format_datetime(now.astimezone(UTC), usegmt=True)}

    def _overload(self, request: SandboxRequest, api: Api) -> SandboxResponse | None:
        if self.capacity is not None and self.counts.in_flight > self.capacity:
            return unavailable(request, api)
        is_over_rate = self.rate is not None and not self.window().allows(self.ticks(), self.rate)
        return too_many(request, api, 1) if is_over_rate else None

    def _fault(self, request: SandboxRequest, api: Api) -> str | None:
        fitting = (each for each in self._planned if each.path in request.url)
        planned = next((each for each in fitting if api.can_play(each.kind, request)), None)
        if planned is None:
            fault = self.faults.choose(self._rng.random(), lambda kind: api.can_play(kind, request))
        else:
            fault = planned.kind
            planned.times -= 1
            if not planned.times:
                self._planned.remove(planned)
        if fault is not None:
            self.counts.faults[fault] += 1
        return fault


@dataclass(slots=True)
class _PlannedFault:
    kind: str
    times: int
    path: str
