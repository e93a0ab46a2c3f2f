"""What an API is to the sandbox: its paths, its place for a key, its refusals, and a method an endpoint."""

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self, TypeVar
from urllib.parse import unquote

import msgspec

from ._answers import Answers
from ._rows import Row
from ._world import World

T = TypeVar("T")
PAGE_FAULTS: Final = frozenset({"repeat-cursor", "empty-page", "cycle"})
"""Faults inside a page of a listing, which the API itself plays; all others can befall any request."""

EXPIRED_KEY: Final = "expired"
"""The key that opens nothing, whatever keys there are."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(slots=True)
class SandboxRequest:
    """A request as it arrived, and from *kind* on what was found out about it before it is answered."""

    method: str
    path: str  # decoded
    query: Mapping[str, str]
    raw_path: str = ""  # the path and the query, as they were sent
    origin: str = ""  # what the address begins with, e.g. http://127.0.0.1:40123
    number: int = 0  # how many requests had arrived before
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    kind: str = ""  # the name of the endpoint, or an empty string
    ids: Mapping[str, str] = field(default_factory=dict)  # the variable parts of the path, decoded
    session_id: str = ""  # of the session that the request is about, or an empty string
    fault: str | None = None  # a fault inside a page that the endpoint is to play
    world: World = field(init=False)  # the one that the key opens
    row: Row = field(init=False)  # the session of the {id} in the path: not to be changed

    @property
    def url(self) -> str:
        """The whole address, as it was sent."""
        return self.origin + self.raw_path


@dataclass(slots=True)
class SandboxResponse:
    """A response, before anything goes wrong with it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Sequence[bytes] = ()
    """The body in the pieces it is sent in, each a chunk of its own, *pause* seconds apart."""
    pause: float = 0.0

    @classmethod
    def stream(cls, pieces: Sequence[bytes]) -> Self:
        """A ``text/event-stream`` that is sent piece by piece."""
        return cls(200, b"".join(pieces), "text/event-stream", pieces=pieces)


class Refused(Exception):
    """A refusal: its code, its words, the seconds it says to wait, and more *fields* of the body."""

    def __init__(self, code: int, message: str, wait: float | None = None, **fields: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.wait = wait
        self.fields = fields


class Window:
    """A rate limit: so many requests in each window of some *seconds*."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._began = float("-inf")
        self._used = 0

    def allows(self, now: float, rate: int) -> bool:
        """Whether one more request fits in at *now*, in seconds; it is counted when it does."""
        if now - self._began >= self._seconds:
            self._began, self._used = now, 0
        if self._used >= rate:
            return False
        self._used += 1
        return True

    def left(self, now: float, rate: int) -> tuple[int, float]:
        """How many more requests fit in, and the seconds until the next window begins."""
        over = self._began + self._seconds - now
        return (max(rate - self._used, 0), over) if over > 0 else (rate, self._seconds)


class ApiContext:
    """What an API answers from, which may be replaced at any time; the `Sandbox` is one."""

    keys: Mapping[str, World] | Collection[str] | None = None
    """The keys that open the world, or a world of their own; None for every key."""
    rate: int | None = None
    """The requests a second that are let in, or None for any number."""

    def __init__(
        self, world: World, answers: Answers, clock: Callable[[], datetime | None] | None = None
    ) -> None:
        self.world = world
        self.answers = answers
        self.clock = clock
        self._windows: dict[str, Window] = {}

    def window(self, name: str = "", seconds: float = 1.0) -> Window:
        """The window of that *name*, the same each time; the one without a name keeps the `rate`."""
        return self._windows.setdefault(name, Window(seconds))

    def ticks(self) -> float:
        """Seconds on the clock of the windows, which is the loop's."""
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """The moment of `clock` or, where it returns None, of the machine."""
        return (self.clock and self.clock()) or datetime.now(UTC)


class Api:
    """One API of the sandbox: a subclass sets these attributes, and has a method for each kind of `routes`.

    The method gets the `SandboxRequest` and the `ApiContext`. It returns the JSON of a 200, None for a 204,
    or a `SandboxResponse`; it may raise `Refused`. Where the path has an ``{id}``, the
    request's `row` is that session. The sandbox finds an API of yours by an entry point of the group
    ``navtalk_async.sandbox`` that names the class.
    """

    name: ClassVar[str]
    prefix: ClassVar[str]
    """What the paths of all endpoints begin with."""
    base_path: ClassVar[str] = ""
    """The path of its base URL."""
    routes: ClassVar[Mapping[str, str]]
    """The kind of each endpoint by its method and its path after the prefix: ``GET /{id}/message``. The first
    that fits counts. What reads is called ``sessions``, ``session`` and ``messages``, as in every API."""
    paged: ClassVar[frozenset[str]] = frozenset()
    """The kinds that answer in pages, which can be empty."""
    cursor: ClassVar[str] = ""
    """The query parameter with which a next page is asked for, where pages have cursors."""
    key_header: ClassVar[str] = "X-API-Key"
    wrong_key: ClassVar[tuple[int, str]] = (401, "Invalid or missing API key")
    expired_key: ClassVar[tuple[int, str] | None] = None
    not_found: ClassVar[str] = "Not Found"
    wait_header: ClassVar[str] = "Retry-After"
    """Where a refusal says how many seconds to wait, or an empty string."""

    def __init__(self) -> None:
        """`TypeError` for an endpoint without a method."""
        self._patterns = [(_pattern(self.prefix, route), kind) for route, kind in self.routes.items()]
        self._fixed = {_line(self.prefix, route): kind for route, kind in self.routes.items()}
        if missing := [kind for kind in self.routes.values() if not hasattr(self, kind)]:
            raise TypeError(f"{type(self).__name__} has no method {missing[0]!r}, which its routes name")

    def find_route(self, request: SandboxRequest) -> None:
        """Set the *request*'s kind, ids and session id, where an endpoint fits."""
        # A step of the path may hold a slash, which came as %2F.
        line = f"{request.method} {request.raw_path.partition('?')[0] or request.path}"
        request.kind = self._fixed.get(line, "")
        for pattern, kind in () if request.kind else self._patterns:
            if found := pattern.fullmatch(line):
                request.kind = kind
                request.ids = {name: unquote(step) for name, step in found.groupdict().items()}
                break
        request.session_id = self.session_id_of(request)

    def session_id_of(self, request: SandboxRequest) -> str:
        """The id of the session that the *request* is about, or an empty string."""
        return request.ids.get("id", "")

    def key_of(self, request: SandboxRequest) -> str:
        """The key that came with the *request*, or an empty string."""
        return request.headers.get(self.key_header, "")

    def can_play(self, fault: str, request: SandboxRequest) -> bool:
        """Whether *fault* makes sense for the *request*: only a page can be empty, only a cursor repeat."""
        if fault not in PAGE_FAULTS:
            return True
        return request.kind in self.paged and (fault == "empty-page" or bool(request.query.get(self.cursor)))

    def headers(self, request: SandboxRequest, context: ApiContext) -> Mapping[str, str]:  # noqa: ARG002
        """The headers of every response, refusals too."""
        return _NOTHING

    def answer(self, request: SandboxRequest, context: ApiContext) -> SandboxResponse:
        """The right response to the *request*, which may be a refusal."""
        try:
            if not request.kind:
                raise self._no_endpoint(request)
            request.world = self.open_world(request, context)
            if "id" in request.ids:
                request.row = self.find_session(request.world, request.ids["id"])
            found = getattr(self, request.kind)(request, context)
        except Refused as refused:
            return self.refusal(refused, request, context.answers)
        if isinstance(found, SandboxResponse):
            return found
        return SandboxResponse(204, b"") if found is None else SandboxResponse(200, self.encoded(found))

    def open_world(self, request: SandboxRequest, context: ApiContext) -> World:
        """The world that the request's key opens, or `Refused`."""
        key, keys = self.key_of(request), context.keys
        if key == EXPIRED_KEY:
            raise Refused(*(self.expired_key or self.wrong_key))
        if not key or (keys is not None and key not in keys):
            raise Refused(*self.wrong_key)
        return keys[key] if isinstance(keys, Mapping) else context.world

    def find_session(self, world: World, session_id: str) -> Row:
        """The session of that id, or `Refused`."""
        row = world.session_row(session_id)
        if row is None:
            raise Refused(404, self.not_found)
        return row

    def body(self, request: SandboxRequest, context: ApiContext, kind: type[T]) -> T:
        """The JSON object of the body, where nothing is an empty one, as a *kind*; or `Refused`."""
        try:
            fields = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        except msgspec.DecodeError:
            raise Refused(400, "The body must be a JSON object") from None
        return self._converted("body", fields, context, kind)

    def parameters(self, request: SandboxRequest, context: ApiContext, kind: type[T]) -> T:
        """The query as a *kind*, or `Refused`."""
        return self._converted("query", dict(request.query), context, kind)

    def invalid(self, place: Sequence[str | int], problem: str, answers: Answers) -> Refused:  # noqa: ARG002
        """The refusal of a *place* in the body or the query, e.g. ``["body", "index_ids", 1]``."""
        return Refused(400, f"Invalid {'.'.join(map(str, place[1:]))}: {problem}")

    def refusal(
        self,
        refused: Refused,
        request: SandboxRequest,  # noqa: ARG002
        answers: Answers,
    ) -> SandboxResponse:
        """The response that refuses, by status and in the API's own words."""
        wait = {} if refused.wait is None or not self.wait_header else {self.wait_header: f"{refused.wait:g}"}
        if answers.errors == "bare":
            return SandboxResponse(refused.code, refused.message.encode(), "text/plain", wait)
        body = msgspec.json.encode(self.error_body(refused, answers))
        return SandboxResponse(refused.code, body, headers=wait)

    def error_body(self, refused: Refused, answers: Answers) -> Row:  # noqa: ARG002
        """The JSON of a refusal."""
        return {"error": HTTPStatus(refused.code).phrase, "message": refused.message, **refused.fields}

    def encoded(self, found: Any) -> bytes:
        """The body of a 200 from what an endpoint's method returned."""
        return msgspec.json.encode(found)

    def _converted(self, part: str, fields: Mapping[str, Any], context: ApiContext, kind: type[T]) -> T:
        try:
            # A query holds numbers as text.
            return msgspec.convert(fields, kind, strict=part == "body")
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at ")
            # msgspec writes a place as `$.index_ids[1]`, and the name of a missing field in its words.
            steps, missing = re.findall(r"\w+", path), re.findall(r"required field `(\w+)`", text)
            steps, text = steps + missing, "Field required" if missing else text
            place = [part, *(int(step) if step.isdigit() else step for step in steps)]
            raise self.invalid(place, text, context.answers) from None

    def _no_endpoint(self, request: SandboxRequest) -> Refused:
        paths = (request.path, f"{request.path}/")
        methods = [route.partition(" ")[0] for route in self.routes]
        lines = [f"{method} {path}" for method in methods for path in paths]
        if any(pattern.fullmatch(line) for pattern, _ in self._patterns for line in lines):
            return Refused(405, "Method Not Allowed")
        return Refused(404, "Not Found")


def _line(prefix: str, route: str) -> str:
    method, _, path = route.partition(" ")
    return f"{method} {prefix}{path}"


def _pattern(prefix: str, route: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", _line(prefix, route)))
