"""The promise of a dialect: a table of an API's lists, how each is paged, and what its records are."""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import msgspec

from navtalk_async.dialects.answers import accepted, parse_record
from navtalk_async.dialects.arguments import checked_id, quoted
from navtalk_async.dialects.strategies import Single
from navtalk_async.models import KeyPlace, Message, Page, Record, Request, Response, Session
from navtalk_async.paging.tokens import PageTokens

__all__ = ["Dialect", "Endpoint", "Filter", "smallest_page"]

R = TypeVar("R", bound=Record)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """An argument of a list, beside those of its paging."""

    param: str = ""
    """Its name on the wire; empty where its value is a part of the path."""
    check: Callable[[str, Any], str]
    """Returns a value as the API takes it, or raises a ValueError that names the argument."""
    default: str | None = None
    required: str = ""
    """What to say where it is missing; empty where it may be."""
    selects: bool = True
    """Whether it decides which rows the list has, and not only their order."""


class Endpoint:
    """A list of an API.

    Arguments:
        path: with `{id}` where the session's id goes, and `{name}` where the value of a filter goes.
        rows: the field of the answer that holds the rows.
        paging: how the list goes on after a page; by default, one answer has every row.
        filters: its other arguments, by their names in Python.
        id_param: the parameter that takes the session's id, where the path does not.
    """

    def __init__(
        self,
        path: str,
        *,
        rows: str,
        paging: Single = Single(),  # noqa: B008 (it is frozen)
        filters: Mapping[str, Filter] = MappingProxyType({}),
        id_param: str = "",
    ) -> None:
        self.path = path
        self.paging = paging
        self.filters = filters
        self.id_param = id_param
        self.answer: type[Any] = msgspec.defstruct(
            "Answer", [("rows", list[msgspec.Raw], msgspec.field(name=rows)), *paging.fields]
        )
        """What an answer is decoded into: its `rows`, and what its paging wants to know."""


class Dialect:
    """How one API speaks: the tables below, and whatever of the methods the API does in another way.

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
            ValueError: the API has no such filter, requires another one, or does not take its value.
        """
        path, params = self._filtered(self.sessions, "sessions", filters)
        return Request(path=path, params=params)

    def get_session(self, session_id: str) -> Request:
        """The request for one session, by an id that is checked or comes from the API itself."""
        return Request(path=self._path(self.session_path, session_id), params={**self.options})

    def list_messages(self, session_id: str, **filters: Any) -> Request:
        """The request for the first page of a session's messages; see `get_session` and `list_sessions`."""
        path, params = self._filtered(self.messages, "messages", filters) if filters else self._all_messages
        if self.messages.id_param:
            return Request(path=path, params={self.messages.id_param: session_id, **params})
        return Request(path=self._path(path, session_id), params={**params})

    @cached_property
    def _all_messages(self) -> tuple[str, dict[str, str]]:
        # Asked for once a session: what is the same for all of them is made once.
        return self._filtered(self.messages, "messages", {})

    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        """A page of sessions, out of the answer to *request*."""
        return read_page(self.sessions, request, response, partial(parse_record, self.record_kinds[0]))

    def read_session(self, request: Request, response: Response) -> Session:
        """One session, out of the answer to *request*."""
        return parse_record(self.record_kinds[0], accepted(response, msgspec.Raw))

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        """A page of messages, out of the answer to *request*."""
        return read_page(self.messages, request, response, partial(parse_record, self.record_kinds[1]))

    def starting_at(self, request: Request, moment: datetime) -> Request | None:
        """The request for the first page of those sessions of a list that begin at *moment* or later; None
        where the API has no such filter, or does not list sessions in the order of their begin.
        """
        return None

    def page_limit(self, request: Request) -> int:
        """The most rows that the page *request* asks for may have; 0 where that is unknown."""
        return next((int(request.params[name]) for name in self._sizes if name in request.params), 0)

    def halved(self, request: Request) -> Request | None:
        """The same request for a page of half as many rows; None where there is no smaller one."""
        for name in self._sizes & request.params.keys():
            if half := int(request.params[name]) // 2:
                return request.having(**{name: str(half)})
        return None

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

    def check_filters(self, params: Mapping[str, str]) -> None:
        """Raise a ValueError for filters, in the *params* of a list, that contradict each other."""

    def _path(self, template: str, session_id: str) -> str:
        return template.replace("{id}", quoted(session_id))

    def _filtered(
        self, endpoint: Endpoint, of: str, filters: Mapping[str, Any]
    ) -> tuple[str, dict[str, str]]:
        """The path and the parameters of the first page of a list."""
        given = {name: value for name, value in filters.items() if value is not None}
        for name in given:
            if name not in endpoint.filters and name not in endpoint.paging.arguments:
                others = [name for name, each in endpoint.filters.items() if each.selects]
                some = f"only by {' and '.join(others)}" if others else "there are no filters"
                raise ValueError(f"{self.name} cannot list {of} by {name}: {some}.")
        path, params = endpoint.path, {**self.options}
        for name, each in endpoint.filters.items():
            value = given.get(name, each.default)
            if value is None:
                if each.required:
                    raise ValueError(f"{self.name} {each.required}")
            elif each.param:
                params[each.param] = each.check(name, value)
            else:
                path = path.replace(f"{{{name}}}", quoted(each.check(name, value)))
        self.check_filters(params)
        return path, params | endpoint.paging.params(given)


def read_page(
    endpoint: Endpoint, request: Request, response: Response, read: Callable[[msgspec.Raw], R]
) -> Page[Any]:
    """The page that answers *request*, each of its rows as *read* returns it."""
    answer = accepted(response, endpoint.answer)
    return endpoint.paging.page(request, [read(row) for row in answer.rows], answer)


def smallest_page(dialect: Dialect, request: Request) -> Request:
    """The same request for the smallest page that can be asked for."""
    while (halved := dialect.halved(request)) is not None:
        request = halved
    return request
