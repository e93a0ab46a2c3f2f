"""How Kodey.ai's chat API speaks (source: its reference, "Chat API")."""

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from navtalk_async.dialects.answers import accepted, loads, parse_record
from navtalk_async.dialects.arguments import an_id, checked_id, quoted, text, to_json
from navtalk_async.dialects.dialect import Dialect, Endpoint, Filter
from navtalk_async.models import KeyPlace, Message, Request, Response, Role, Session, format_word

__all__ = ["Kodey", "KodeyChat", "KodeyMessage"]

ROLES = ("user", "assistant")
"""Who may say something (source: "List Messages")."""


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
        return [parse_record(KodeyMessage, row) for row in loads(self.kept, Held).messages or []]


class Held(msgspec.Struct):
    messages: list[msgspec.Raw] | None = None


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
            "user_id": Filter(param="userId", check=an_id("user")),
            "agent_type": Filter(param="agentType", check=text),
        },
    )
    session_path = "/chat/{id}"
    messages: ClassVar[Endpoint] = Endpoint("/chat/{id}/message", rows="messages")

    def create_chat(
        self, agent_id: str, user_id: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Request:
        """The request for a new chat; a ValueError for an argument that the API cannot take."""
        user = None if user_id is None else checked_id("user", user_id)
        body = to_json({"agentId": checked_id("agent", agent_id), "userId": user, "metadata": metadata})
        return Request(method="POST", path="/chat", body=body)

    def delete_chat(self, chat_id: str) -> Request:
        """The request that deletes a chat."""
        return Request(method="DELETE", path=f"/chat/{quoted(chat_id)}")

    def create_message(self, chat_id: str, content: str, role: Role | str | int = "user") -> Request:
        """The request that says something in a chat; a ValueError for no content or another role."""
        word = format_word(Role(role)) if type(role) is int else format_word(role)  # type: ignore[arg-type]
        if word not in ROLES:
            raise ValueError(f"role={role!r} is neither {' nor '.join(map(repr, ROLES))}.")
        body = to_json({"content": text("content", content), "role": word})
        return Request(method="POST", path=f"/chat/{quoted(chat_id)}/message", body=body)

    def read_session(self, request: Request, response: Response) -> KodeyChat:
        """A chat as the list has it, without the messages that its own page may hold."""
        fields = accepted(response, dict[str, Any])
        fields.pop("messages", None)
        return parse_record(KodeyChat, msgspec.json.encode(fields))

    def read_chat(self, request: Request, response: Response) -> KodeyChat:
        """A chat, with whatever its own page holds."""
        return parse_record(KodeyChat, accepted(response, msgspec.Raw))

    def read_message(self, request: Request, response: Response) -> KodeyMessage:
        """The one message that the answer is."""
        return parse_record(KodeyMessage, accepted(response, msgspec.Raw))
