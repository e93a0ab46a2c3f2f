"""How Kodey.ai's chat API speaks (source: its reference, "Chat API")."""

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from navtalk_async.dialects.answers import accepted, loads, parse_record
from navtalk_async.dialects.arguments import Argument, a_text, an_id, instance_of, one_of
from navtalk_async.dialects.dialect import Call, Dialect, Endpoint
from navtalk_async.models import KeyPlace, Message, Request, Response, Role, Session, format_word

__all__ = ["Kodey", "KodeyChat", "KodeyMessage"]

ROLE = one_of("user", "assistant")
"""Checks who says something (source: "List Messages")."""


class KodeyMessage(Message, frozen=True, kw_only=True, gc=False):
    """One thing said in a chat; its `role` is `"user"` or `"assistant"`."""

    ids_are_unique = False

    content: str | None = None
    role: Role | str | None = None
    created_at_text: str | None = msgspec.field(default=None, name="createdAt")
    chat_id: str | None = msgspec.field(default=None, name="chatId")
    """The chat it belongs to; only in the answer to `KodeyMessages.create`."""


class KodeyChat(Session, frozen=True, kw_only=True, gc=False):
    """A chat with an agent. It has no status and no end: more may be said in it at any time."""

    detail_only_fields: ClassVar[frozenset[str]] = frozenset({"teamId"})
    detail_is_complete = False

    start_time_text: str | None = msgspec.field(default=None, name="createdAt")
    agent_id: str | None = msgspec.field(default=None, name="agentId")
    team_id: str | None = msgspec.field(default=None, name="teamId")
    """Missing in the list."""
    user_id: str | None = msgspec.field(default=None, name="userId")
    """None for a chat without a user."""
    metadata: dict[str, Any] | None = None

    @property
    def created_at(self) -> datetime | None:
        """When it was made, aware and UTC; None where the API gave no time."""
        return self.start_time

    @property
    def messages(self) -> list[KodeyMessage]:
        """The messages that the answer itself holds; which ones is not documented. A WrongShape if they are
        no messages; `raw` has them as they are.
        """
        if self.kept is msgspec.UNSET:
            return []
        held: Held = loads(self.kept, Held)
        return [parse_record(KodeyMessage, row) for row in held.messages or ()]


class Held(msgspec.Struct):
    messages: list[msgspec.Raw] | None = None


def checked_role(name: str, role: Any) -> str:
    """Check a role, by its word, its number, or as a `Role`."""
    return str(ROLE(name, format_word(Role(role) if type(role) is int else role)))


class Kodey(Dialect):
    """The dialect of `pooled.api.kodey.ai`."""

    api = "kodey"
    name = "Kodey.ai"
    noun = "chat"
    default_base_url: ClassVar[str | None] = "https://pooled.api.kodey.ai"
    key_place: ClassVar[KeyPlace] = KeyPlace("header", "x-api-key")
    key_variable = "KODEY_API_KEY"
    base_url_variable = "KODEY_BASE_URL"
    record_kinds: ClassVar[tuple[type[Session], type[Message]]] = (KodeyChat, KodeyMessage)
    sessions: ClassVar[Endpoint] = Endpoint(
        "/chat",
        rows="chats",
        filters={
            "user_id": Argument(an_id("user"), "userId"),
            "agent_type": Argument(a_text, "agentType"),
        },
    )
    session_path = "/chat/{id}"
    messages: ClassVar[Endpoint] = Endpoint("/chat/{id}/message", rows="messages")

    create_chat: ClassVar[Call] = Call(
        "POST",
        "/chat",
        {
            "agent_id": Argument(an_id("agent"), "agentId", required=True),
            "user_id": Argument(an_id("user"), "userId"),
            "metadata": Argument(instance_of(dict, "dict")),
        },
        "chats.create",
    )
    delete_chat: ClassVar[Call] = Call("DELETE", "/chat/{id}", operation="chats.delete")
    create_message: ClassVar[Call] = Call(
        "POST",
        "/chat/{id}/message",
        {
            "content": Argument(a_text, required=True),
            "role": Argument(checked_role, default="user", required=True),
        },
        "messages.create",
    )

    def read_session(self, request: Request, response: Response) -> KodeyChat:
        """A chat as the list has it, without the messages that its own page may hold."""
        fields = accepted(response, dict[str, Any])
        fields.pop("messages", None)
        return parse_record(KodeyChat, msgspec.json.encode(fields))
