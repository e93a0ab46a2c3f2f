"""Ask Kodey.ai: `KodeyClient`."""

from typing import Any, ClassVar, TypedDict, cast
from uuid import UUID

from navtalk_async.client.client import ApiClient, Resource
from navtalk_async.dialects.answers import read_done
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.kodey import Kodey, KodeyChat, KodeyMessage
from navtalk_async.models import Role
from navtalk_async.paging import Listing

__all__ = ["KodeyChats", "KodeyClient", "KodeyFilters", "KodeyMessages"]


class KodeyFilters(TypedDict, total=False):
    """The filters of the list of chats: the arguments of `KodeyChats.list`."""

    user_id: str | None
    agent_type: str | None


class KodeyClient(ApiClient):
    """A client of Kodey.ai's chat API (source: its reference, "Chat API").

        async with KodeyClient() as kodey:
            chat = await kodey.chats.create(agent_id="agent-1", user_id="ann")
            reply = await kodey.messages.create(chat.id, "Hello")

    A publishable key (`pk_live_…`) may ask 100 times a minute, a secret one (`sk_live_…`) 1,000 times; beyond
    that, calls wait for as long as the server says. Calls that change something are sent once; where one
    fails, the error's `may_have_happened` says whether the server may have done it.

    Arguments:
        key: see `Client`; by default the environment's `KODEY_API_KEY`.
        base_url: by default the environment's `KODEY_BASE_URL`, or else Kodey.ai's own.
        options: all others of `Client`.

    Raises:
        ValueError: see `Client`.
    """

    speaks: ClassVar[type[Dialect]] = Kodey
    dialect: Kodey
    chats: "KodeyChats"
    messages: "KodeyMessages"

    def _name_resources(self) -> None:
        self.chats, self.messages = KodeyChats(self), KodeyMessages(self)


class KodeyChats(Resource[KodeyClient]):
    """The chats of the key's team.

    Every call raises a ValueError, before anything is sent, for an argument that the API cannot take; and a
    NotFound if the key has no chat of the id.
    """

    async def create(
        self, *, agent_id: str, user_id: str | None = None, metadata: dict[str, Any] | None = None
    ) -> KodeyChat:
        """A new chat with an agent (`POST /chat`); *metadata* is any JSON object.

        Raises:
            AccessDenied: the key may not do this; `allowed_endpoints` says what it may, and
                `upgrade_instructions` how to get one that may.
        """
        request = self._client.dialect.create_chat(agent_id, user_id, metadata)
        return await self._client.ask(request, self._client.dialect.read_chat)

    def list(self, *, user_id: str | None = None, agent_type: str | None = None) -> Listing[KodeyChat]:
        """All chats, or those of a user or with a type of agent, in one answer (`GET /chat`). Their order is
        not documented.
        """
        listing = self._client.list_sessions(user_id=user_id, agent_type=agent_type)
        return cast("Listing[KodeyChat]", listing)

    async def get(self, chat_id: str | UUID) -> KodeyChat:
        """One chat (`GET /chat/:chatId`). What its `messages` hold is not documented, and may be nothing."""
        dialect = self._client.dialect
        return await self._client.ask(dialect.get_session(dialect.checked_id(chat_id)), dialect.read_chat)

    async def delete(self, chat_id: str | UUID) -> None:
        """Delete a chat (`DELETE /chat/:chatId`); an `AccessDenied` as for `create`."""
        dialect = self._client.dialect
        await self._client.ask(dialect.delete_chat(dialect.checked_id(chat_id)), read_done)


class KodeyMessages(Resource[KodeyClient]):
    """The messages of chats; raises as `KodeyChats`."""

    async def create(
        self, chat_id: str | UUID, content: str, role: Role | str | int = "user"
    ) -> KodeyMessage:
        """Say something in a chat, and return the agent's answer (`POST /chat/:chatId/message`).

        Arguments:
            content: the text.
            role: `"user"` or `"assistant"`, as a word, a `Role` or its number.
        """
        dialect = self._client.dialect
        request = dialect.create_message(dialect.checked_id(chat_id), content, role)
        return await self._client.ask(request, dialect.read_message)

    def list(self, chat_id: str | UUID) -> Listing[KodeyMessage]:
        """A chat's messages, in one answer (`GET /chat/:chatId/message`); the order is not documented."""
        return cast("Listing[KodeyMessage]", self._client.list_messages(chat_id))
