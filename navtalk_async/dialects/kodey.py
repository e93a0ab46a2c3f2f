"""How Kodey.ai's chat API speaks (source: its reference, "Chat API")."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from navtalk_async.dialects.checks import as_json, as_part_of_a_path, name_of_a_thing, text
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.refusals import accepted, done, refused
from navtalk_async.dialects.rows import as_record, loads
from navtalk_async.models import (
    KeyPlace,
    Message,
    Page,
    Request,
    Response,
    Role,
    Session,
    format_word,
)

__all__ = ["Kodey", "KodeyChat", "KodeyMessage"]

ROLES = ("user", "assistant")
"""Who may say something (source: "List Messages")."""


class KodeyMessage(Message, frozen=True, kw_only=True, gc=False):
    """One thing said in a chat; its `role` is `"user"` or `"assistant"`."""

    has_own_id = False

    content: str | None = None
    role: Role | str | None = None
    created_at_text: str | None = msgspec.field(default=None, name="createdAt")
    chat_id: str | None = msgspec.field(default=None, name="chatId")
    """The chat it belongs to, which only the answer to a message that was sent tells."""


class KodeyChat(Session, frozen=True, kw_only=True, gc=False):
    """A chat with an agent. It has no status and no end: more may be said in it at any time."""

    seldom = frozenset({"teamId"})
    tells_all_alone = False

    start_time_text: str | None = msgspec.field(default=None, name="createdAt")
    agent_id: str | None = msgspec.field(default=None, name="agentId")
    team_id: str | None = msgspec.field(default=None, name="teamId")
    """Told of a chat that is made or asked for by its id, and not in the list."""
    user_id: str | None = msgspec.field(default=None, name="userId")
    """Told in the list; None for a chat without a user."""
    metadata: dict[str, Any] | None = None

    @property
    def created_at(self) -> datetime | None:
        """When it was made, aware and UTC; None where the API gave no time."""
        return self.start_time

    @property
    def messages(self) -> list[KodeyMessage]:
        """What the answer itself holds of its messages; what that is, is not documented, and it may be none.
        All of them are what the list of its messages gives.

        Raises:
            WrongShape: they are of another shape than messages; `raw` has them as they are.
        """
        if self.kept is msgspec.UNSET:
            return []
        return [as_record(KodeyMessage, row) for row in loads(self.kept, Held).messages or []]


class Held(msgspec.Struct):
    messages: list[msgspec.Raw] | None = None


class Chats(msgspec.Struct):
    chats: list[msgspec.Raw]


class Said(msgspec.Struct):
    messages: list[msgspec.Raw]


class Kodey(Dialect):
    """The dialect of `pooled.api.kodey.ai`."""

    api = "kodey"
    name = "Kodey.ai"
    default_base_url = "https://pooled.api.kodey.ai"
    key_place = KeyPlace("header", "x-api-key")
    key_variable = "KODEY_API_KEY"
    base_url_variable = "KODEY_BASE_URL"
    record_kinds = (KodeyChat, KodeyMessage)

    def root(self, base_url: str) -> str:
        return base_url.strip().rstrip("/")

    def checked_id(self, session_id: str | UUID) -> str:
        return name_of_a_thing("chat", session_id)

    def list_sessions(self, *, user_id: str | None = None, agent_type: str | None = None) -> Request:
        params = {}
        if user_id is not None:
            params["userId"] = name_of_a_thing("user", user_id)
        if agent_type is not None:
            params["agentType"] = text("agent_type", agent_type)
        return Request(path="/chat", params=params)

    def get_session(self, session_id: str) -> Request:
        return Request(path=f"/chat/{as_part_of_a_path(session_id)}")

    def list_messages(self, session_id: str) -> Request:
        return Request(path=f"/chat/{as_part_of_a_path(session_id)}/message")

    def create_chat(
        self, agent_id: str, user_id: str | None = None, metadata: dict[str, Any] | None = None
    ) -> Request:
        """The wish for a new chat; `read_session` reads the answer.

        Raises:
            ValueError: an id that cannot be one, or metadata that JSON has no object for.
        """
        fields: dict[str, Any] = {"agentId": name_of_a_thing("agent", agent_id)}
        if user_id is not None:
            fields["userId"] = name_of_a_thing("user", user_id)
        if metadata is not None:
            fields["metadata"] = metadata
        return Request(method="POST", path="/chat", body=as_json(fields))

    def delete_chat(self, chat_id: str) -> Request:
        """The wish that a chat be gone; `read_nothing` reads the answer."""
        return Request(method="DELETE", path=f"/chat/{as_part_of_a_path(chat_id)}")

    def create_message(self, chat_id: str, content: str, role: Role | str = "user") -> Request:
        """The wish to say something in a chat; `read_message` reads the answer.

        Raises:
            ValueError: nothing is said, or by nobody who may.
        """
        word = format_word(role) if isinstance(role, Role) else role
        if word not in ROLES:
            raise ValueError(f"role={role!r} is neither {' nor '.join(map(repr, ROLES))}.")
        fields = {"content": text("content", content), "role": word}
        return Request(
            method="POST", path=f"/chat/{as_part_of_a_path(chat_id)}/message", body=as_json(fields)
        )

    def read_sessions(self, request: Request, response: Response) -> Page[Session]:
        rows = accepted(response, Chats, refused).chats
        return Page([as_record(KodeyChat, row) for row in rows])

    def read_session(self, request: Request, response: Response) -> KodeyChat:
        """A chat as the list has it, without the messages that its own page may hold."""
        fields = accepted(response, dict[str, Any], refused)
        fields.pop("messages", None)
        return as_record(KodeyChat, msgspec.json.encode(fields))

    def read_chat(self, request: Request, response: Response) -> KodeyChat:
        """A chat, with whatever its own page holds."""
        return as_record(KodeyChat, accepted(response, msgspec.Raw, refused))

    def read_messages(self, request: Request, response: Response) -> Page[Message]:
        rows = accepted(response, Said, refused).messages
        return Page([as_record(KodeyMessage, row) for row in rows])

    def read_message(self, request: Request, response: Response) -> KodeyMessage:
        """The one message that is the answer to *request*."""
        return as_record(KodeyMessage, accepted(response, msgspec.Raw, refused))

    def read_nothing(self, request: Request, response: Response) -> None:
        """Nothing, out of an answer that says no more than that it was done; a page of a proxy says less."""
        done(response, refused)
