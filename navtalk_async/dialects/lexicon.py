"""How the chats API of Lexicon Labs speaks (source: its reference, "Get Chat Messages" and its siblings)."""

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from navtalk_async.dialects.arguments import Argument, an_id, checked_id, instance_of, one_of
from navtalk_async.dialects.dialect import ByOffset, Call, Dialect, Endpoint
from navtalk_async.lenient_json import is_object
from navtalk_async.models import KeyPlace, Message, MessageType, Role, Session, SessionStatus
from navtalk_async.times import parse_time

__all__ = ["CHATS_A_PAGE", "Lexicon", "LexiconChat", "LexiconDeletion", "LexiconMessage"]

ROWS_A_PAGE = 100
"""The most rows of a page; documented for messages."""

CHATS_A_PAGE = 50
"""The chats of a page where no `limit` is given: the documented default. The most is not documented."""

# Ascending, although the API's own default for chats is descending: in a list that is walked by counting, a
# chat that is made meanwhile then comes at the end, and moves none of the others to another place.
ORDER = Argument(one_of("asc", "desc"), default="asc", selects=False)


class LexiconChat(Session, frozen=True, kw_only=True, gc=False):
    """A chat of a user."""

    detail_only_fields: ClassVar[frozenset[str]] = frozenset({"message_count", "status"})

    status: SessionStatus | str | None = None
    """In the API's own words; None in the list."""
    title: str | None = None
    start_time_text: str | None = msgspec.field(default=None, name="created_at")
    user_id: str | None = None
    tenant_id: str | None = None
    config: dict[str, Any] | None = None
    """Its options, and the `metadata`."""
    updated_at_text: str | None = msgspec.field(default=None, name="updated_at")
    last_message_at_text: str | None = msgspec.field(default=None, name="last_message_at")
    """As the API wrote it; `last_message_at` is the moment it means."""
    message_count: int | None = None
    """None in the list."""

    @property
    def metadata(self) -> dict[str, Any]:
        found = (self.config or {}).get("metadata")
        return found if is_object(found) else {}

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
        # Every change shows in its own row.
        return True

    @property
    def final_since(self) -> str | None:
        times = [
            (moment, text)
            for text in (self.start_time_text, self.updated_at_text, self.last_message_at_text)
            if text is not None and (moment := parse_time(text)) is not None
        ]
        return max(times)[1] if times else None


class LexiconMessage(Message, frozen=True, kw_only=True, gc=False):
    """One thing said in a chat; its `type` is the API's `media_type`, None for a text."""

    ids_are_unique = False

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


def whose(name: str, user_id: Any) -> str:
    """Check the id of the user whose chats are listed."""
    if user_id is None:
        raise ValueError(f"Lexicon lists the chats of one user: pass {name}=.")
    return checked_id("user", user_id)


class Lexicon(Dialect):
    """The dialect of Lexicon Labs, which has no address of its own."""

    api = "lexicon"
    name = "Lexicon"
    noun = "chat"
    base_path = "/api/v1"
    key_place: ClassVar[KeyPlace] = KeyPlace("header", "X-API-Key")
    key_variable = "LEXICON_API_KEY"
    base_url_variable = "LEXICON_BASE_URL"
    record_kinds: ClassVar[tuple[type[Session], type[Message]]] = (LexiconChat, LexiconMessage)
    sessions: ClassVar[Endpoint] = Endpoint(
        "/api/v1/chats/user/{user_id}",
        rows="chats",
        paging=ByOffset(most=ROWS_A_PAGE, usual=CHATS_A_PAGE),
        filters={"user_id": Argument(whose, required=True), "order": ORDER},
    )
    session_path = "/api/v1/chats/{id}"
    messages: ClassVar[Endpoint] = Endpoint(
        "/api/v1/chats/{id}/messages",
        rows="messages",
        paging=ByOffset(most=ROWS_A_PAGE),
        filters={"order": ORDER},
    )

    create_chat: ClassVar[Call] = Call(
        "POST",
        "/api/v1/chats/",
        {
            "user_id": Argument(an_id("user"), required=True),
            "title": Argument(instance_of(str, "text")),
            "metadata": Argument(instance_of(dict, "dict")),
        },
        "chats.create",
    )
    delete_chat: ClassVar[Call] = Call("DELETE", "/api/v1/chats/{id}", operation="chats.delete")
