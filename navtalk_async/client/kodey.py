"""Ask Kodey.ai: `KodeyClient`."""

from typing import Any, ClassVar, TypedDict, Unpack
from uuid import UUID

from navtalk_async.client import ApiClient, Resource
from navtalk_async.dialects.answers import read_done, reader
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.kodey import Kodey, KodeyChat, KodeyMessage
from navtalk_async.models import Role
from navtalk_async.paging import Listing

__all__ = ["KodeyChats", "KodeyClient", "KodeyFilters", "KodeyMessages"]


class KodeyFilters(TypedDict, total=False):
    """The filters of the list of chats."""

    user_id: str | None
    """Only chats of this user."""
    agent_type: str | None
    """Only chats with agents of this type."""


class KodeyClient(ApiClient[KodeyChat, KodeyMessage]):
    """A client of Kodey.ai's chat API (source: its reference, "Chat API").

        async with KodeyClient() as kodey:
            chat = await kodey.chats.create(agent_id="agent-1", user_id="ann")
            reply = await kodey.messages.create(chat.id, "Hello")

    A publishable key (`pk_live_…`) may ask 100 times a minute, a secret one (`sk_live_…`) 1,000 times; beyond
    that, calls wait for as long as the server says.

    The arguments are those of `Client`. The environment may hold the key (`KODEY_API_KEY`) and the address
    (`KODEY_BASE_URL`), by default Kodey.ai's own.
    """

    speaks: ClassVar[type[Dialect]] = Kodey
    dialect: Kodey
    chats: "KodeyChats"
    messages: "KodeyMessages"

    def _name_resources(self) -> None:
        self.chats, self.messages = KodeyChats(self), KodeyMessages(self)


class KodeyChats(Resource[KodeyClient]):
    """The chats of the key's team; raises as every `Resource`."""

    async def create(
        self, *, agent_id: str, user_id: str | None = None, metadata: dict[str, Any] | None = None
    ) -> KodeyChat:
        """A new chat with an agent (`POST /chat`); *metadata* is any JSON object.

        Raises:
            AccessDenied: the key may not do this; `allowed_endpoints` says what it may, and
                `upgrade_instructions` how to get one that may.
        """
        request = self._client.dialect.create_chat(agent_id, user_id, metadata)
        return await self._client.ask(request, reader(KodeyChat))

    def list(self, **filters: Unpack[KodeyFilters]) -> Listing[KodeyChat]:
        """All chats that match *filters*, in one answer (`GET /chat`); the order is not documented."""
        return self._client.list_sessions(**filters)

    async def get(self, chat_id: str | UUID) -> KodeyChat:
        """One chat (`GET /chat/:chatId`). What its `messages` hold is not documented, and may be nothing."""
        request = self._client.dialect.get_session(self._id(chat_id))
        return await self._client.ask(request, reader(KodeyChat))

    async def delete(self, chat_id: str | UUID) -> None:
        """Delete a chat (`DELETE /chat/:chatId`); an `AccessDenied` as for `create`."""
        await self._client.ask(self._client.dialect.delete_chat(self._id(chat_id)), read_done)


class KodeyMessages(Resource[KodeyClient]):
    """The messages of chats; raises as every `Resource`."""

    async def create(
        self, chat_id: str | UUID, content: str, role: Role | str | int = "user"
    ) -> KodeyMessage:
        """Say something in a chat, and return the agent's answer (`POST /chat/:chatId/message`); *role* is
        `"user"` or `"assistant"`, as a word, a `Role` or its number.
        """
        request = self._client.dialect.create_message(self._id(chat_id), content, role)
        return await self._client.ask(request, reader(KodeyMessage))

    def list(self, chat_id: str | UUID) -> Listing[KodeyMessage]:
        """A chat's messages, in one answer (`GET /chat/:chatId/message`); the order is not documented."""
        return self._client.list_messages(chat_id)
