"""The promise of a dialect: what has to be known of an API, to ask it and to understand its answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from inspect import signature
from types import MappingProxyType
from typing import Any, ClassVar
from uuid import UUID

from navtalk_async.dialects.rows import as_record
from navtalk_async.models import KeyPlace, Message, Page, Request, Response, Session
from navtalk_async.page_tokens import POSITION, SIZE, PageTokens

__all__ = ["Dialect", "filtered", "least", "messages_filtered"]

OF_A_PAGE = POSITION | SIZE | {"order"}
"""What says how a list is given, and not what is in it."""


class Dialect(ABC):
    """How one API speaks. A new one is a subclass in a file of this folder; `known.dialects` finds it there.

    Each `read_…` raises an `ApiError` where the answer is a refusal, and a `DecodeFailed` where it is not
    what the reference says.
    """

    api: ClassVar[str]
    """The API's short name, as stores and commands write it."""
    name: ClassVar[str]
    """The API's name, as people write it."""
    default_base_url: ClassVar[str | None]
    """Where the API is; None where nobody but the user knows."""
    key_place: ClassVar[KeyPlace]
    key_variable: ClassVar[str]
    """The environment variable that holds the key."""
    base_url_variable: ClassVar[str]
    """The environment variable that says where the API is."""
    options: Mapping[str, str] = MappingProxyType({})
    """What it was made with, that decides whose sessions the lists have: those of a project, say."""
    changing_filters: ClassVar[frozenset[str]] = frozenset()
    """Filters of the list of sessions on what changes in the life of a session: a sync lists without them."""
    record_kinds: ClassVar[tuple[type[Session], type[Message]]]
    """The structs that its sessions and messages are read into."""
    position_params: ClassVar[frozenset[str]] = POSITION
    """The parameters of a request that say where a page begins: all that a page token may set."""
    size_params: ClassVar[frozenset[str]] = SIZE
    """The parameters of a request that say how many rows a page has."""

    @abstractmethod
    def root(self, base_url: str) -> str:
        """*base_url* without what the paths of requests begin with."""

    @abstractmethod
    def checked_id(self, session_id: str | UUID) -> str:
        """*session_id*, if it can be one; else a ValueError that says what one looks like."""

    @abstractmethod
    def list_sessions(self, *args: Any, **filters: Any) -> Request:
        """The question for a first page of sessions. Its keyword arguments are the filters that the API has.

        Raises:
            ValueError: a filter that cannot be right, or that is missing.
        """

    @abstractmethod
    def get_session(self, session_id: str) -> Request:
        """The question for one session, by an id that is checked or comes from the API itself."""

    @abstractmethod
    def list_messages(self, session_id: str, *args: Any, **filters: Any) -> Request:
        """The question for a first page of a session's messages, by an id as for `get_session`."""

    @abstractmethod
    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        """A page of sessions, out of the answer to *request*."""

    @abstractmethod
    def read_session(self, request: Request, response: Response) -> Session:
        """One session, out of the answer to *request*."""

    @abstractmethod
    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        """A page of messages, out of the answer to *request*."""

    def beginning(self, request: Request, moment: datetime) -> Request | None:
        """The question for the first page of those sessions of a list that begin at *moment* or later; None
        where the API cannot be asked that, or does not list sessions in the order of their begin.
        """
        return None

    def rows(self, request: Request) -> int:
        """The most rows that the answer to *request*, a page of a list, may have; 0 where nobody knows."""
        return 0

    def smaller(self, request: Request) -> Request | None:
        """The same question for a page of half as many rows; None where there is no smaller one."""
        return None

    @property
    def page_tokens(self) -> PageTokens:
        """What writes and reads the page tokens of its lists."""
        return PageTokens(self.api, self.position_params, self.size_params)

    def session_of(self, raw: bytes) -> Session:
        """The session that the API's object *raw* is.

        Raises:
            DecodeFailed: it is none.
        """
        return as_record(self.record_kinds[0], raw)

    def message_of(self, raw: bytes, session_id: str, position: int) -> Message:
        """The message that the API's object *raw* is, at that *position* of that session.

        Raises:
            DecodeFailed: it is none.
        """
        return as_record(self.record_kinds[1], raw)


def filtered(dialect: Dialect, filters: Mapping[str, Any]) -> Request:
    """The question for the first page of the sessions that *filters* let through; None stands for no filter.

    Raises:
        ValueError: the API has no such filter, needs another one, or it cannot be right.
    """
    return dialect.list_sessions(**_given(dialect, "sessions", type(dialect).list_sessions, filters))


def messages_filtered(dialect: Dialect, session_id: str, filters: Mapping[str, Any]) -> Request:
    """The question for the first page of those messages of a session that *filters* let through; None stands
    for no filter.

    Raises:
        ValueError: the API has no such filter, or it cannot be right.
    """
    given = _given(dialect, "messages", type(dialect).list_messages, filters)
    return dialect.list_messages(session_id, **given)


def least(dialect: Dialect, request: Request) -> Request:
    """The same question as *request* for the smallest page that can be asked for."""
    while (smaller := dialect.smaller(request)) is not None:
        request = smaller
    return request


def _given(dialect: Dialect, of: str, ask: Any, filters: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in filters.items() if value is not None}
    there = _names(ask)
    for name in given:
        if name not in there:
            others = [each for each in there if each not in OF_A_PAGE]
            some = f"only by {' and '.join(others)}" if others else "there are no filters"
            raise ValueError(f"{dialect.name} cannot be asked for {of} by {name}: {some}.")
    return given


@cache
def _names(ask: Any) -> tuple[str, ...]:
    return tuple(each.name for each in signature(ask).parameters.values() if each.kind is each.KEYWORD_ONLY)
