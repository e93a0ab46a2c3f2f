"""How the chats API of Lexicon Labs speaks (source: its reference, "Get Chat Messages" and its siblings)."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from navtalk_async.dialects.checks import as_json, as_part_of_a_path, name_of_a_thing, page_size
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.refusals import accepted, refused
from navtalk_async.dialects.rows import as_record
from navtalk_async.models import (
    KeyPlace,
    Message,
    MessageType,
    Page,
    Request,
    Response,
    Role,
    Session,
    SessionStatus,
    parse_time,
)
from navtalk_async.offsets import goes_on

__all__ = ["CHATS_A_PAGE", "Lexicon", "LexiconChat", "LexiconDeletion", "LexiconMessage"]

ROWS_A_PAGE = 100
"""The most rows that are asked for at once; documented for messages."""

CHATS_A_PAGE = 50
"""The chats that are asked for at once where nothing else is said: the documented default. What the most is,
is not documented."""

ORDERS = ("asc", "desc")

WHOLE_NUMBER = re.compile("[0-9]{1,18}").fullmatch

TRUTH = {"true": True, "1": True, "false": False, "0": False}


class LexiconChat(Session, frozen=True, kw_only=True, gc=False):
    """A chat of a user."""

    seldom = frozenset({"message_count", "status"})

    status: SessionStatus | str | None = None
    """In the API's own words, of a chat that was asked for by its id; None in the list."""
    title: str | None = None
    start_time_text: str | None = msgspec.field(default=None, name="created_at")
    user_id: str | None = None
    tenant_id: str | None = None
    config: dict[str, Any] | None = None
    """What it was made with; `metadata` is in it."""
    updated_at_text: str | None = msgspec.field(default=None, name="updated_at")
    last_message_at_text: str | None = msgspec.field(default=None, name="last_message_at")
    """As the API wrote it; `last_message_at` is the moment it means."""
    message_count: int | None = None
    """Told of a chat that is asked for by its id, and not in the list."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What whoever made it keeps with it."""
        found = (self.config or {}).get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def created_at(self) -> datetime | None:
        """When it was made, aware and UTC; None where the API gave no time."""
        return self.start_time

    @property
    def last_message_at(self) -> datetime | None:
        """When something was said last, aware and UTC; None where nothing was."""
        return parse_time(self.last_message_at_text)

    @property
    def is_final(self) -> bool:
        """True: a message more, or any other change, shows in its own row."""
        return True

    @property
    def final_since(self) -> str | None:
        """The latest of its times: since then, nothing has happened in it."""
        times = [
            (moment, text)
            for text in (self.start_time_text, self.updated_at_text, self.last_message_at_text)
            if text is not None and (moment := parse_time(text)) is not None
        ]
        return max(times)[1] if times else None


class LexiconMessage(Message, frozen=True, kw_only=True, gc=False):
    """One thing said in a chat; its `type` is the API's `media_type`, None for a text."""

    has_own_id = False

    role: Role | str | None = msgspec.field(default=None, name="sender_role")
    type: MessageType | str | None = msgspec.field(default=None, name="media_type")
    content: str | None = None
    created_at_text: str | None = msgspec.field(default=None, name="created_at")
    media_url: str | None = None
    metadata: dict[str, Any] | None = None


class LexiconDeletion(msgspec.Struct, frozen=True, kw_only=True):
    """What the API says of a chat that it deleted."""

    success: bool
    message: str | None = None
    deleted: str | None = msgspec.field(default=None, name="deleted_at")
    """The time as the API wrote it; `deleted_at` is the moment it means."""

    @property
    def deleted_at(self) -> datetime | None:
        """When it was deleted, aware and UTC; None where the API gave no time."""
        return parse_time(self.deleted)


class Told(msgspec.Struct):
    """What a page says of itself, in any type; its `offset` is not looked at, some servers echo nought."""

    total: Any = None
    limit: Any = None
    has_more: Any = None


class Chats(Told, kw_only=True):
    chats: list[msgspec.Raw]


class Said(Told, kw_only=True):
    messages: list[msgspec.Raw]


class Lexicon(Dialect):
    """The dialect of Lexicon Labs, which has no address of its own: whoever runs it knows where it is."""

    api = "lexicon"
    name = "Lexicon"
    default_base_url = None
    key_place = KeyPlace("header", "X-API-Key")
    key_variable = "LEXICON_API_KEY"
    base_url_variable = "LEXICON_BASE_URL"
    record_kinds = (LexiconChat, LexiconMessage)

    def root(self, base_url: str) -> str:
        """*base_url* without `/api/v1`, with which every path begins."""
        return base_url.strip().rstrip("/").removesuffix("/api/v1")

    def checked_id(self, session_id: str | UUID) -> str:
        return name_of_a_thing("chat", session_id)

    def list_sessions(
        self,
        *,
        user_id: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        order: str | None = None,
    ) -> Request:
        """The question for the first page of a user's chats.

        They are asked for in ascending order, although the API's own default is the descending one: in a list
        that is walked by counting, a chat that is made meanwhile then comes at the end, and moves none of the
        others to another place.
        """
        if user_id is None:
            raise ValueError(f"{self.name} lists the chats of one user: say whose, by user_id or --user.")
        user = as_part_of_a_path(name_of_a_thing("user", user_id))
        return Request(
            path=f"/api/v1/chats/user/{user}",
            params=paged(page_size(limit, most=ROWS_A_PAGE, usual=CHATS_A_PAGE), offset, order),
        )

    def get_session(self, session_id: str) -> Request:
        return Request(path=f"/api/v1/chats/{as_part_of_a_path(session_id)}")

    def list_messages(
        self,
        session_id: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        order: str | None = None,
    ) -> Request:
        return Request(
            path=f"/api/v1/chats/{as_part_of_a_path(session_id)}/messages",
            params=paged(page_size(limit, most=ROWS_A_PAGE), offset, order),
        )

    def create_chat(
        self, user_id: str, title: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Request:
        """The wish for a new chat; `read_session` reads the answer.

        Raises:
            ValueError: an id that cannot be one, a title that is no text, or metadata that JSON has no object
                for.
        """
        fields: dict[str, Any] = {"user_id": name_of_a_thing("user", user_id)}
        if title is not None:
            if not isinstance(title, str):
                raise ValueError(f"title={title!r} is no text.")
            fields["title"] = title
        if metadata is not None:
            fields["metadata"] = metadata
        return Request(method="POST", path="/api/v1/chats/", body=as_json(fields))

    def delete_chat(self, chat_id: str) -> Request:
        """The wish that a chat be gone; `read_deletion` reads the answer."""
        return Request(method="DELETE", path=f"/api/v1/chats/{as_part_of_a_path(chat_id)}")

    def rows(self, request: Request) -> int:
        return int(request.params["limit"])

    def smaller(self, request: Request) -> Request | None:
        rows = self.rows(request) // 2
        return request.having(limit=str(rows)) if rows else None

    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        answer = accepted(response, Chats, refused)
        rows = [as_record(LexiconChat, row) for row in answer.chats]
        return page_of(rows, request, answer)

    def read_session(self, request: Request, response: Response) -> LexiconChat:
        return as_record(LexiconChat, accepted(response, msgspec.Raw, refused))

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        answer = accepted(response, Said, refused)
        rows = [as_record(LexiconMessage, row) for row in answer.messages]
        return page_of(rows, request, answer)

    def read_deletion(self, request: Request, response: Response) -> LexiconDeletion:
        """What is said of a chat that was deleted."""
        told: LexiconDeletion = accepted(response, LexiconDeletion, refused)
        return told


def paged(limit: str, offset: int | None, order: str | None) -> dict[str, str]:
    """The parameters of a page.

    Raises:
        ValueError: an offset below 0, or an order that there is not.
    """
    if offset is None:
        offset = 0
    if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
        raise ValueError(f"offset={offset!r} is no number of rows to leave out.")
    if order is None:
        order = "asc"
    if order not in ORDERS:
        raise ValueError(f"order={order!r} is neither 'asc' nor 'desc'.")
    return {"limit": limit, "offset": str(offset), "order": order}


def page_of(rows: list[Any], request: Request, told: Told) -> Page[Any]:
    """The page of *rows* that answers *request*.

    The next one begins behind the rows that came, however many were asked for.
    """
    at, limit = int(request.params["offset"]), int(request.params["limit"])
    full, total, has_more = min(limit, number(told.limit) or limit), number(told.total), truth(told.has_more)
    going_on = goes_on(len(rows), at + len(rows), full=full, has_more=has_more, total=total)
    reached = at + len(rows) if rows and going_on else None
    if not rows and has_more and total is not None and at + full < total:
        # Rows that are counted and not given may fill a page.
        reached = at + full
    following = None if reached is None else request.having(offset=str(reached))
    return Page(rows, following, total, offset_param="offset", full=full, has_more=has_more)


def number(value: object) -> int | None:
    """*value*, a number or its digits, if it counts something."""
    if isinstance(value, str) and WHOLE_NUMBER(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def truth(value: object) -> bool | None:
    """*value*, a truth value in any of the usual spellings; None where it is none."""
    return TRUTH.get(str(value).lower())
