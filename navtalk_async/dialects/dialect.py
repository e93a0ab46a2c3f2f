"""What a dialect is: a table of an API's lists and calls, how each is paged, and what its records are.

Whoever adds an API reads this one file, which is long because it has all that such a table is made of.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from navtalk_async.dialects.answers import accepted, differs, parse_each, parse_record, parse_records
from navtalk_async.dialects.arguments import Argument, a_text, checked_id, filled, quoted, to_json
from navtalk_async.errors import NotJson
from navtalk_async.lenient_json import is_list, null_broken_rows
from navtalk_async.models import KeyPlace, Message, Page, Record, Request, Response, Session
from navtalk_async.paging.offsets import goes_on
from navtalk_async.paging.tokens import PageTokens

__all__ = ["ByCursor", "ByOffset", "Call", "Dialect", "Endpoint", "Paging", "smallest_page"]

WHOLE_NUMBER = re.compile("[0-9]{1,18}").fullmatch

MOST_MENDED = 1 << 20
"""The longest page, in bytes, in which rows that are no JSON are told from those that are."""

TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """How a list goes on after a page; this one does not, since one answer has every row."""

    size: str = ""
    """The parameter that says how many rows a page has."""
    position: str = ""
    """The parameter that says where a page begins."""
    most: int = 0
    """The most rows of a page."""
    usual: int | None = None
    """The rows of a page where no `limit` is given; by default *most*, the fewest requests."""

    @property
    def arguments(self) -> Sequence[str]:
        """The arguments of a list that this strategy takes."""
        return ("limit", self.position) if self.size else ()

    @property
    def fields(self) -> Sequence[tuple[str, Any, Any]]:
        """The fields of an answer that it wants to know: attribute, type, and `msgspec.field`."""
        return ()

    def params(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The parameters of a first page, by the arguments that were *given*; a ValueError for a bad one."""
        if not self.size:
            return {}
        limit = given.get("limit", self.usual or self.most)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= self.most:
            raise ValueError(
                f"{self.size}={limit!r} is not from 1 to {self.most}, the most the API gives in a page."
            )
        return {self.size: str(limit), **self.begin(given.get(self.position))}

    def begin(self, position: Any) -> dict[str, str]:
        """The parameters of a page that begins at a *position*; None for the first page."""
        return {} if position is None else {self.position: a_text(self.position, position)}

    def page(self, request: Request, rows: list[Any], answer: Any) -> Page[Any]:
        """The page of *rows* that answers *request*, None for one that cannot be read; *answer* has the
        `fields`.
        """
        return Page(rows)


class ByCursor(Paging, frozen=True, kw_only=True):
    """Each page says how to ask for the next one, by a cursor, a token or its last row."""

    most: int  # pyright: ignore[reportGeneralTypeIssues] - msgspec takes it for required again
    size: str = "limit"
    position: str = "cursor"
    following: str = "nextCursor"
    """The field of the answer that holds the next position. Null, empty or missing, it ends the list."""

    @property
    def fields(self) -> Sequence[tuple[str, Any, Any]]:
        return [("following", Any, msgspec.field(default=None, name=self.following))]

    def page(self, request: Request, rows: list[Any], answer: Any) -> Page[Any]:
        if not answer.following:
            return Page(rows)
        if isinstance(answer.following, bool) or not isinstance(answer.following, str | int):
            raise differs(f"`{self.following}` is no text")
        # With all filters again: whether a cursor remembers them is not documented.
        return Page(rows, request.having(**{self.position: str(answer.following)}))


class ByOffset(Paging, frozen=True, kw_only=True):
    """A page is asked for by the number of rows before it."""

    most: int  # pyright: ignore[reportGeneralTypeIssues] - msgspec takes it for required again
    size: str = "limit"
    position: str = "offset"

    @property
    def fields(self) -> Sequence[tuple[str, Any, Any]]:
        # In any type; an answer's own `offset` is ignored: some servers always send 0.
        return [(name, Any, None) for name in ("total", "limit", "has_more")]

    def begin(self, position: Any) -> dict[str, str]:
        offset = 0 if position is None else position
        if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
            raise ValueError(f"{self.position}={offset!r} is no number of rows to leave out.")
        return {self.position: str(offset)}

    def page(self, request: Request, rows: list[Any], answer: Any) -> Page[Any]:
        """The next page begins behind the rows that came, however many were asked for."""
        at, limit = int(request.params[self.position]), int(request.params[self.size])
        total, has_more = count_of(answer.total), truth_of(answer.has_more)
        full = min(limit, count_of(answer.limit) or limit)
        going_on = goes_on(len(rows), at + len(rows), full=full, has_more=has_more, total=total)
        reached = at + len(rows) if rows and going_on else None
        if not rows and has_more and total is not None and at + full < total:
            # Rows that the total counts and the server leaves out may fill a page.
            reached = at + full
        following = None if reached is None else request.having(**{self.position: str(reached)})
        return Page(rows, following, total, offset_param=self.position, full=full, has_more=has_more)


def count_of(value: object) -> int | None:
    """*value*, a number or its digits, if it counts something."""
    if isinstance(value, str) and WHOLE_NUMBER(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def truth_of(value: object) -> bool | None:
    """*value*, a truth value in any of the usual spellings; None where it is none."""
    return TRUTH.get(str(value).lower())


@dataclass(eq=False)
class Endpoint:
    """A list of an API."""

    path: str
    """With `{id}` where the session's id goes, and `{name}` where the value of a filter goes."""
    _: KW_ONLY
    rows: str
    """The field of the answer that holds the rows."""
    paging: Paging = Paging()  # noqa: RUF009 (it is frozen)
    filters: Mapping[str, Argument] = field(default_factory=dict[str, Argument])
    """Its other arguments, by their names in Python."""
    id_param: str = ""
    """The parameter that takes the session's id, where the path does not."""

    def answer_of(self, row: Any) -> type[Any]:
        """What an answer is decoded into: its `rows`, each a *row*, and what its paging wants to know."""
        rows = ("rows", list[row], msgspec.field(name=self.rows))
        return msgspec.defstruct("Answer", [rows, *self.paging.fields])

    @cached_property
    def answer(self) -> type[Any]:
        """What an answer is decoded into that may differ from the reference; see `rows_of`."""
        kind = list[msgspec.Raw] | dict[str, Any] | str | None
        rows = ("rows", kind, msgspec.field(default=None, name=self.rows))
        return msgspec.defstruct("Answer", [rows, *self.paging.fields])

    def rows_of(self, answer: Any, fields: Callable[[], dict[str, Any]]) -> list[msgspec.Raw]:
        """The rows of an `answer`; none where they are null, left out, or an empty object or text, and no
        other of its *fields* may be meant: an error, or another list.
        """
        if is_list(answer.rows):
            return answer.rows
        if answer.rows:
            raise differs(f"`{self.rows}` is no list")
        others = fields()
        is_there = self.rows in others
        if any(
            (name in REASONS and each) or is_list_of_rows(each, may_be_empty=not is_there)
            for name, each in others.items()
        ):
            raise differs(f"`{self.rows}` is missing")
        return []


def is_list_of_rows(value: object, *, may_be_empty: bool) -> bool:
    """Whether *value* may be a list of rows; texts are ids."""
    if not is_list(value):
        return False
    return not all(isinstance(each, str) for each in value) if value else may_be_empty


REASONS = ("error", "errors", "detail", "message")
"""Fields of an answer that say why it has no rows."""

SESSION_ID = Argument(lambda _, session_id: session_id, required=True)
"""The id of a session, checked or from the API itself."""


class Call(msgspec.Struct, frozen=True):
    """A call that changes something. As a method of its dialect, it takes the session's id, where its path
    has one, and the *arguments*, which become the fields of its body; and returns its request.

    Raises:
        ValueError: the API cannot take an argument.
    """

    method: str
    path: str
    arguments: Mapping[str, Argument] = {}
    operation: str = ""
    """Its name, as `sessions.create`."""

    def __get__(self, dialect: "Dialect", owner: type["Dialect"]) -> Callable[..., Request]:
        return partial(self.request, dialect)

    def request(self, dialect: "Dialect", *given: Any, **named: Any) -> Request:
        """The request of this call in the API of *dialect*."""
        ids = {"id": SESSION_ID} if "{id}" in self.path else {}
        arguments = {**ids, **self.arguments}
        path, fields = filled(self.path, arguments, dict(zip(arguments, given, strict=False)) | named)
        body = to_json(fields) if self.method == "POST" else None
        return Request(
            path=path,
            params={**dialect.options},
            method=self.method,
            body=body,
            operation=self.operation,
        )


class Dialect:
    """How one API speaks: the tables below, a `Call` for each call that changes something, and whatever of
    the methods the API does in another way.

    Another package registers its own by an entry point of the group `navtalk_async.dialects`, named like
    `api`. Each `read_…` raises an `ApiError` for a refusal, and a `DecodeFailed` for an answer that is not
    as the API's reference says.
    """

    api: ClassVar[str]
    """The API's short name, as archives and commands write it."""
    name: ClassVar[str]
    """The API's name, as people write it."""
    noun: ClassVar[str] = "session"
    """What the API calls a session."""
    default_base_url: ClassVar[str | None] = None
    """Where the API is; None where only the user knows."""
    base_path: ClassVar[str] = ""
    """The beginning of every path, which a base URL may end with."""
    key_place: ClassVar[KeyPlace]
    key_variable: ClassVar[str]
    """The environment variable that holds the key."""
    base_url_variable: ClassVar[str]
    """The environment variable that says where the API is."""
    record_kinds: ClassVar[tuple[type[Session], type[Message]]]
    """The structs that its sessions and messages are read into."""
    sessions: ClassVar[Endpoint]
    session_path: ClassVar[str]
    """The path of one session, with `{id}` where its id goes."""
    messages: ClassVar[Endpoint]
    changing_filters: ClassVar[frozenset[str]] = frozenset()
    """Filters of sessions on a field that changes during a session: a sync lists without them."""
    options: Mapping[str, str] = MappingProxyType({})
    """The parameters of every request that decide whose sessions the lists have: a project's, say."""

    def root(self, base_url: str) -> str:
        """*base_url* without the beginning of every path."""
        return base_url.strip().rstrip("/").removesuffix(self.base_path)

    def checked_id(self, session_id: str | UUID) -> str:
        """*session_id*, if it can be one; else a ValueError."""
        return checked_id(self.noun, session_id)

    def list_sessions(self, **filters: Any) -> Request:
        """The request for the first page of the sessions that match *filters*; None is no filter.

        Raises:
            TypeError: the API has no such filter.
            ValueError: it requires another one, or does not take the value of one.
        """
        path, params = self._filtered(self.sessions, "sessions", filters)
        return Request(path=path, params=params, operation=f"{self.noun}s.list")

    def get_session(self, session_id: str) -> Request:
        """The request for one session, by an id that is checked or comes from the API itself."""
        path = self._path(self.session_path, session_id)
        return Request(path=path, params={**self.options}, operation=f"{self.noun}s.get")

    def list_messages(self, session_id: str, **filters: Any) -> Request:
        """The request for the first page of a session's messages; see `get_session` and `list_sessions`."""
        path, params = self._filtered(self.messages, "messages", filters) if filters else self._all_messages
        if self.messages.id_param:
            params = {self.messages.id_param: session_id, **params}
        else:
            path, params = self._path(path, session_id), {**params}
        return Request(path=path, params=params, operation="messages.list")

    @cached_property
    def _all_messages(self) -> tuple[str, dict[str, str]]:
        # Asked for once a session: what is the same for all of them is made once.
        return self._filtered(self.messages, "messages", {})

    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        """A page of sessions, out of the answer to *request*."""
        return self._page(self.sessions, self.record_kinds[0], request, response)

    def read_session(self, request: Request, response: Response) -> Session:
        """One session, out of the answer to *request*."""
        return parse_record(self.record_kinds[0], self.decoded(response, msgspec.Raw))

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        """A page of messages, out of the answer to *request*."""
        return self._page(self.messages, self.record_kinds[1], request, response)

    def _page(
        self, endpoint: Endpoint, kind: type[Record], request: Request, response: Response
    ) -> Page[Any]:
        try:
            rows, answer = self.rows_in(response, endpoint)
        except NotJson:
            mended = null_broken_rows(response.body) if len(response.body) <= MOST_MENDED else response.body
            if mended == response.body:
                raise
            rows, answer = self.rows_in(msgspec.structs.replace(response, body=mended), endpoint)
        records = [*parse_records(kind, rows)]
        page = endpoint.paging.page(request, records, answer)
        if all(records):
            return page
        items = [record for record in records if record]
        if not items and request.params.get(endpoint.paging.position, "0") == "0":
            raise differs("the first page has no row with an id")
        skipped = tuple(at for at, record in enumerate(records) if not record)
        return msgspec.structs.replace(page, items=items, skipped=skipped)

    def rows_in(self, response: Response, endpoint: Endpoint) -> tuple[list[msgspec.Raw], Any]:
        """The rows of an answer, not decoded yet, and the answer itself."""
        answer = self.decoded(response, endpoint.answer)
        return endpoint.rows_of(answer, lambda: self.decoded(response, dict[str, Any])), answer

    def decoded(self, response: Response, kind: Any) -> Any:
        """What an answer holds, as *kind*."""
        return accepted(response, kind)

    def starting_at(self, request: Request, moment: datetime) -> Request | None:
        """The request for the first page of those sessions of a list that begin at *moment* or later; None
        where the API has no such filter, or does not list sessions in the order of their begin.
        """
        return None

    def starting_behind(self, request: Request, rows: Sequence[Session]) -> Request | None:
        """The request for the first page of those sessions of a list that follow the last of *rows*, a page
        of it, which may come again with others of its second; None where they are not in order of time.
        """
        times = [row.start_time for row in rows if row.start_time is not None]
        if len(times) < max(1, len(rows)) or times != sorted(times):
            return None
        return self.starting_at(request, times[-1] - timedelta(seconds=1))

    def page_limit(self, request: Request) -> int:
        """The most rows that the page *request* asks for may have; 0 where that is unknown."""
        return next((int(request.params[name]) for name in self._sizes if name in request.params), 0)

    def halved(self, request: Request) -> Request | None:
        """The same request for a page of half as many rows; None where there is no smaller one."""
        for name in self._sizes & request.params.keys():
            if half := int(request.params[name]) // 2:
                return request.having(**{name: str(half)})
        return None

    def sized_like(self, request: Request, other: Request) -> Request:
        """*request* for a page of as many rows as *other* asks for."""
        return request.having(**{name: other.params.get(name) for name in self._sizes})

    @cached_property
    def page_tokens(self) -> PageTokens:
        """What writes and reads the page tokens of its lists."""
        positions = {each.paging.position for each in (self.sessions, self.messages)} - {""}
        return PageTokens(self.api, frozenset(positions), self._sizes)

    @cached_property
    def _sizes(self) -> frozenset[str]:
        return frozenset({each.paging.size for each in (self.sessions, self.messages)} - {""})

    def session_of(self, raw: bytes) -> Session:
        """The session that the API's object *raw* is; a DecodeFailed if it is none."""
        return parse_record(self.record_kinds[0], raw)

    def message_of(self, raw: bytes, session_id: str, position: int) -> Message:
        """The message that the API's object *raw* is, at that *position* of that session; a DecodeFailed if
        it is none.
        """
        return parse_record(self.record_kinds[1], raw)

    def messages_of(self, raws: Sequence[bytes], session_id: str) -> Sequence[Message]:
        """All messages of a session, each as by `message_of`; a DecodeFailed if one of *raws* is none."""
        if type(self).message_of is Dialect.message_of:
            return parse_each(self.record_kinds[1], raws)
        return [self.message_of(raw, session_id, position) for position, raw in enumerate(raws)]

    def check_filters(self, params: Mapping[str, str]) -> None:
        """Raise a ValueError for filters, in the *params* of a list, that contradict each other."""

    def _path(self, template: str, session_id: str) -> str:
        return template.replace("{id}", quoted(session_id))

    def _filtered(
        self, endpoint: Endpoint, of: str, filters: Mapping[str, Any]
    ) -> tuple[str, dict[str, str]]:
        """The path and the parameters of the first page of a list."""
        given = {name: value for name, value in filters.items() if value is not None}
        known = {*endpoint.filters, *endpoint.paging.arguments}
        if unknown := [name for name in given if name not in known]:
            others = [name for name, each in endpoint.filters.items() if each.selects]
            some = f"only by {' and '.join(others)}" if others else "there are no filters"
            raise TypeError(f"{self.name} cannot list {of} by {unknown[0]}: {some}.")
        path, params = filled(endpoint.path, endpoint.filters, given)
        self.check_filters(params)
        return path, {**self.options, **params, **endpoint.paging.params(given)}


def smallest_page(dialect: Dialect, request: Request) -> Request:
    """The same request for the smallest page that can be asked for."""
    while (halved := dialect.halved(request)) is not None:
        request = halved
    return request
