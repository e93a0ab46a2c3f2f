"""What an API is to the sandbox: endpoints, a key, refusals, pages, and answers to open questions.

Whoever adds an API reads this one file, which is long for the list of the questions.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from operator import gt, lt
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, NoReturn, Self, TypeVar
from urllib.parse import unquote

import msgspec

from ._generated import Row, row_time
from ._world import Cursor, RowKey, World

T = TypeVar("T")
PAGE_FAULTS: Final = frozenset({"repeat-cursor", "empty-page", "cycle"})
"""Faults inside a page of a listing, which the API itself plays; all others can befall any request."""

EXPIRED_KEY: Final = "expired"
"""The key that opens nothing, whatever keys there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One answer to each question that nobody outside the vendors can answer; a client has to bear them all.

    The defaults are what the reference pages show, where they show anything. What a name begins with another
    API's is of that API alone; *errors* is NavTalk's, but for ``bare``, which is everybody's.
    """

    cursor_on_last_page: bool = True
    """True: every page that has rows has a ``nextCursor``, and a walk ends with an empty page."""
    last_cursor: Literal["null", "empty", "missing"] = "null"  # what nextCursor is at the end
    errors: Literal["status", "body", "both", "bare"] = "status"
    """How a failure is answered: an HTTP status with an envelope; HTTP 200 with the ``code`` in the body;
    both in turn; or an HTTP status with a line of text that is not JSON."""
    start_inclusive: bool = True  # whether a row of the very second startTime is listed
    end_inclusive: bool = True  # whether a row of the very second endTime is listed
    end_bounds: Literal["start", "end"] = "start"
    """Whether the *endTime* filter bounds a session's start or its end, which an open session has not."""
    over_limit: Literal["clamp", "refuse"] = "clamp"  # what a limit over the documented maximum means
    filters_ignored: bool = False  # True: startTime and endTime change nothing
    cursor_needs_filters: bool = True
    """True: filters hold for the request they came with, and without them page two has every row.
    False: the cursor remembers the filters it was made with."""
    max_page: int | None = None  # the most rows of a page, whatever was asked: short pages with more behind
    kodey_messages: Literal["empty", "all", "missing"] = "empty"  # what messages of a single chat holds
    kodey_user: Literal["string", "null", "missing"] = "string"
    """What ``userId`` is of a chat that was made without: ``anonymous``, null, or not there."""
    kodey_401: Literal["message", "both"] = "message"  # whether a 401 has an error beside its message
    kodey_order: Literal["asc", "desc", "none"] = "asc"  # of chats and messages, by time
    kodey_limits: bool = False  # True: 100 requests a minute for pk_live_ keys, 1,000 for others, then 429
    lexicon_errors: Literal["detail", "error"] = "detail"
    """The body of a failure: ``{"detail": …}``, or ``{"error": …, "message": …}``."""
    lexicon_invalid: Literal["400", "422"] = "400"  # the status of a request that lacks something
    lexicon_has_more: Literal["right", "false", "true", "missing"] = "right"
    """Right; false, as in the reference's own sample; true on every page that has rows; or not there."""
    lexicon_total: Literal["right", "few", "many", "missing"] = "right"
    """The number of rows; of those that came; more than there are; or not there."""
    lexicon_sorts_by: Literal["created_at", "updated_at"] = "created_at"  # the order of a user's chats
    llamacloud_order: Literal["newest", "oldest", "id"] = "newest"
    """Whether the latest update comes first, or last; or sessions are ordered by id."""
    llamacloud_shared_access: bool = True
    """True: as since its SDK's 2.18, with ``shared_access`` on a session and ``skipped_index_ids`` on a stop;
    False: as before, without either."""
    llamacloud_deltas_in_history: bool = False  # whether events keep the deltas beside the text
    llamacloud_line_ends: Literal["lf", "crlf", "cr"] = "lf"  # of a stream


class Window:
    """A rate limit: so many requests in each window of some *seconds*."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._over = float("-inf")
        self._used = 0

    def left(self, now: float, rate: int) -> tuple[int, float]:
        """How many more requests fit in, and the seconds until the next window begins."""
        if now >= self._over:
            self._over, self._used = now + self._seconds, 0
        return max(rate - self._used, 0), self._over - now

    def allows(self, now: float, rate: int) -> bool:
        """Whether one more request fits in at *now*, in seconds; it is counted when it does."""
        is_free = self.left(now, rate)[0] > 0
        self._used += is_free
        return is_free


@dataclass(eq=False)
class ApiContext:
    """What an API answers from, which may be replaced at any time; the `Sandbox` is one.

    *keys* open the world, or each a world of its own; None is for every key. *rate* is the requests a second
    that are let in, or None for any number.
    """

    world: World
    answers: Answers
    clock: Callable[[], datetime | None] | None = None
    keys: Mapping[str, World] | Collection[str] | None = None
    rate: int | None = None
    windows: dict[str, Window] = field(default_factory=dict[str, Window], init=False, repr=False)

    def window(self, name: str = "", seconds: float = 1.0) -> Window:
        """The window of that *name*, the same each time; the one without a name keeps the `rate`."""
        return self.windows.setdefault(name, Window(seconds))

    def now(self) -> datetime:
        """The moment of `clock` or, where it returns None, of the machine."""
        return (self.clock and self.clock()) or datetime.now(UTC)


@dataclass(slots=True)
class SandboxRequest:
    """A request as it arrived, and from *kind* on what was found out about it before it is answered."""

    method: str
    path: str  # decoded
    query: Mapping[str, str]
    context: ApiContext
    raw_path: str = ""  # the path and the query, as they were sent
    origin: str = ""  # what the address begins with, e.g. http://127.0.0.1:40123
    number: int = 0  # how many requests had arrived before
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    kind: str = ""  # the name of the endpoint, or an empty string
    ids: Mapping[str, str] = field(default_factory=dict[str, str])  # the variable parts of the path, decoded
    session_id: str = ""  # of the session that the request is about, or an empty string
    fault: str | None = None  # a fault inside a page that the endpoint is to play
    world: World = field(init=False)  # the one that the key opens
    row: Row = field(init=False)  # the session of the {id} in the path: not to be changed

    @property
    def url(self) -> str:
        """The whole address, as it was sent."""
        return self.origin + self.raw_path

    @property
    def answers(self) -> Answers:
        """Which of the possible answers to what is not documented the API gives."""
        return self.context.answers


@dataclass(slots=True)
class SandboxResponse:
    """A response, as the API gives it or as a fault spoils it."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pieces: Iterable[bytes] = ()
    """The body in the pieces it is sent in, each a chunk of its own, *pause* seconds apart."""
    pause: float = 0.0
    end: Literal["", "close", "cut", "reset", "hang"] = ""
    """How the connection ends after the pieces: as it should, or closed, also in the middle of the last piece
    (of the body where there are no pieces), reset, or not at all."""

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


class Api:
    """One API of the sandbox: a subclass sets these attributes, and has a method for each kind of `routes`.

    The method gets the `SandboxRequest`. It returns the JSON of a 200, None for a 204, or a
    `SandboxResponse`; it may raise `Refused`. Where the path has an ``{id}``, the request's `row` is that
    session. The sandbox finds an API of yours by an entry point of the group ``navtalk_async.sandbox`` that
    names the class.
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
    next_cursor: ClassVar[str] = ""
    """The field of the answer that holds that cursor."""
    session_parameter: ClassVar[str] = ""
    """The query parameter that holds the id of a session, where the path does not."""
    key_header: ClassVar[str] = "X-API-Key"
    wrong_key: ClassVar[tuple[int, str]] = (401, "Invalid or missing API key")
    expired_key: ClassVar[tuple[int, str] | None] = None
    not_found: ClassVar[str] = "Not Found"
    wait_header: ClassVar[str] = "Retry-After"
    """Where a refusal says how many seconds to wait, or an empty string."""

    def __init__(self) -> None:
        """`TypeError` for an endpoint without a method."""
        self._routes: list[tuple[str, re.Pattern[str], str]] = []
        for route, kind in self.routes.items():
            if not hasattr(self, kind):
                raise TypeError(f"{type(self).__name__} has no method {kind!r}, which its routes name")
            method, _, path = route.partition(" ")
            pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", self.prefix + path)
            self._routes.append((method, re.compile(pattern), kind))

    def find_route(self, request: SandboxRequest) -> None:
        """Set the *request*'s kind, ids and session id, where an endpoint fits."""
        # A step of the path may hold a slash, which came as %2F.
        path = request.raw_path.partition("?")[0] or request.path
        for method, pattern, kind in self._routes:
            if method == request.method and (found := pattern.fullmatch(path)):
                request.kind = kind
                request.ids = {name: unquote(step) for name, step in found.groupdict().items()}
                break
        request.session_id = request.ids.get("id") or request.query.get(self.session_parameter, "")

    def key_of(self, request: SandboxRequest) -> str:
        """The key that came with the *request*, or an empty string."""
        return request.headers.get(self.key_header, "")

    def can_play(self, fault: str, request: SandboxRequest) -> bool:
        """Whether *fault* makes sense for the *request*: only a page can be empty, only a cursor repeat."""
        if fault not in PAGE_FAULTS:
            return True
        return request.kind in self.paged and (fault == "empty-page" or bool(request.query.get(self.cursor)))

    def headers(self, request: SandboxRequest) -> Mapping[str, str]:  # noqa: ARG002
        """The headers of every response, refusals too."""
        return MappingProxyType({})

    def answer(self, request: SandboxRequest) -> SandboxResponse:
        """The right response to the *request*, which may be a refusal."""
        try:
            if not request.kind:
                self._refuse_path(request)
            request.world = self.open_world(request)
            if "id" in request.ids:
                request.row = self.find_session(request.world, request.ids["id"])
            found = getattr(self, request.kind)(request)
        except Refused as refused:
            return self.refusal(refused, request)
        if isinstance(found, SandboxResponse):
            return found
        return SandboxResponse(204, b"") if found is None else SandboxResponse(200, self.encoded(found))

    def open_world(self, request: SandboxRequest) -> World:
        """The world that the request's key opens, or `Refused`."""
        key, keys = self.key_of(request), request.context.keys
        if key == EXPIRED_KEY:
            raise Refused(*(self.expired_key or self.wrong_key))
        if not key or (keys is not None and key not in keys):
            raise Refused(*self.wrong_key)
        worlds: Any = keys
        found: World = worlds[key] if isinstance(keys, Mapping) else request.context.world
        return found

    def find_session(self, world: World, session_id: str) -> Row:
        """The session of that id, or `Refused`."""
        row = world.rows_by_id.get(session_id)
        if row is None:
            raise Refused(404, self.not_found)
        return row

    def begin(self, request: SandboxRequest, **notes: Any) -> Row:
        """A new open session, with *notes* beside its row."""
        row = request.world.add_session(request.context.now(), status=0)
        request.world.note(row["id"], **notes)
        return row

    def say(self, request: SandboxRequest, content: str, role: int) -> Row:
        """A new message in the request's session, at least a second after the latest: ties have no order."""
        name, time = request.row["id"], row_time(request.context.now())
        latest = request.world.last_message_time(name)
        if latest is not None and time <= latest:
            time = (datetime.fromisoformat(latest) + timedelta(seconds=1)).isoformat(" ")
        return request.world.add_message(name, content, role=role, created_at=time)

    def body(self, request: SandboxRequest, kind: type[T]) -> T:
        """The JSON object of the body, where nothing is an empty one, as a *kind*; or `Refused`."""
        try:
            fields = msgspec.json.decode(request.body or b"{}", type=dict[str, Any])
        except msgspec.DecodeError:
            raise Refused(400, "The body must be a JSON object") from None
        return self._converted("body", fields, request, kind)

    def parameters(self, request: SandboxRequest, kind: type[T]) -> T:
        """The query as a *kind*, or `Refused`."""
        return self._converted("query", dict(request.query), request, kind)

    def page_size(self, request: SandboxRequest, name: str, asked: int, most: int) -> int:
        """How many rows a page has when *asked* are asked for by the parameter *name*; or `Refused`."""
        if asked > most and request.answers.over_limit == "refuse":
            raise self.invalid(["query", name], f"Expected `int` <= {most}", request.answers)
        return min(asked, most, request.answers.max_page or most)

    def cursor_of(self, request: SandboxRequest) -> Cursor | None:
        """The cursor that came with the *request*, or None; `Refused` for one that is not ours."""
        try:
            text = request.query.get(self.cursor)
            return Cursor.read(text) if text else None
        except ValueError:
            raise self.invalid(["query", self.cursor], "it is not one of ours", request.answers) from None

    def cursor_page(
        self,
        request: SandboxRequest,
        rows: Sequence[Row],
        key: Callable[[Row], RowKey],
        size: int,
        first: Cursor,
        *,
        is_down: bool = False,
    ) -> tuple[Sequence[Row], Row]:
        """The *rows* after the request's cursor, or after the *first*, and the field of the next cursor.

        The rows are sorted by *key*, where it *is_down* the greatest first.
        """
        asked, fault, is_after = self.cursor_of(request), request.fault, lt if is_down else gt
        here = asked or first
        # A row without a time stands before what `first` says.
        begin = bisect_left(rows, True, key=lambda row: is_after(key(row), here.key)) if asked else 0
        page: Sequence[Row] = [] if fault == "empty-page" else rows[begin : begin + size]
        following = ""
        if fault == "empty-page":
            following = str(replace(first, key=here.key, again=here.again + 1))
        elif fault == "repeat-cursor":
            following = request.query[self.cursor]
        elif fault == "cycle":
            # Where the page before this one was asked from.
            following = str(replace(first, key=key(rows[begin - size - 1])) if begin > size else first)
        elif page and (begin + size < len(rows) or request.answers.cursor_on_last_page):
            following = str(replace(first, key=key(page[-1])))
        if following or request.answers.last_cursor == "empty":
            return page, {self.next_cursor: following}
        return page, {} if request.answers.last_cursor == "missing" else {self.next_cursor: None}

    def invalid(self, place: Sequence[str | int], problem: str, answers: Answers) -> Refused:  # noqa: ARG002
        """The refusal of a *place* in the body or the query, e.g. ``["body", "index_ids", 1]``."""
        return Refused(400, f"Invalid {'.'.join(map(str, place[1:]))}: {problem}")

    def refusal(self, refused: Refused, request: SandboxRequest) -> SandboxResponse:
        """The response that refuses, by status and in the API's own words."""
        wait = {} if refused.wait is None or not self.wait_header else {self.wait_header: f"{refused.wait:g}"}
        if request.answers.errors == "bare":
            return SandboxResponse(refused.code, refused.message.encode(), "text/plain", wait)
        body = msgspec.json.encode(self.error_body(refused, request.answers))
        return SandboxResponse(refused.code, body, headers=wait)

    def error_body(self, refused: Refused, answers: Answers) -> Row:  # noqa: ARG002
        """The JSON of a refusal."""
        return {"error": HTTPStatus(refused.code).phrase, "message": refused.message, **refused.fields}

    def encoded(self, found: Any) -> bytes:
        """The body of a 200 from what an endpoint's method returned."""
        return msgspec.json.encode(found)

    def _converted(self, part: str, fields: Mapping[str, Any], request: SandboxRequest, kind: type[T]) -> T:
        try:
            # A query holds numbers as text.
            return msgspec.convert(fields, kind, strict=part == "body")
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at ")
            # msgspec writes a place as `$.index_ids[1]`, and the name of a missing field in its words.
            steps, missing = re.findall(r"\w+", path), re.findall(r"required field `(\w+)`", text)
            steps, text = steps + missing, "Field required" if missing else text
            place = [part, *(int(step) if step.isdigit() else step for step in steps)]
            raise self.invalid(place, text, request.answers) from None

    def _refuse_path(self, request: SandboxRequest) -> NoReturn:
        paths = (request.path, f"{request.path}/")
        if any(pattern.fullmatch(path) for _, pattern, _ in self._routes for path in paths):
            raise Refused(405, "Method Not Allowed")
        raise Refused(404, "Not Found")
