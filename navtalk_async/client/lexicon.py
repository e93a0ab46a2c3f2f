"""Ask Lexicon: `LexiconClient`."""

from typing import Any, ClassVar, Literal, Required, TypedDict, cast
from uuid import UUID

from navtalk_async.client.client import ApiClient, Resource
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.lexicon import Lexicon, LexiconChat, LexiconDeletion, LexiconMessage
from navtalk_async.paging import Listing

__all__ = ["LexiconChats", "LexiconClient", "LexiconFilters", "LexiconMessages"]

Order = Literal["asc", "desc"]


class LexiconFilters(TypedDict, total=False):
    """The filters of the list of chats: arguments of `LexiconChats.list_for_user`."""

    user_id: Required[str]
    limit: int | None


class LexiconClient(ApiClient):
    """A client of the chats API of Lexicon Labs (source: its reference, "LexiconChats").

        async with LexiconClient(base_url="https://lexicon.example.com") as lexicon:
            async for chat in lexicon.chats.list_for_user("ann"):
                print(chat.id, chat.title, chat.updated_at)

    Calls that change something are sent once; where one fails, the error's `may_have_happened` says whether
    the server may have done it.

    Arguments:
        key: see `Client`; by default the environment's `LEXICON_API_KEY`.
        base_url: where it is, with or without `/api/v1` at its end; by default the environment's
            `LEXICON_BASE_URL`. One of them is needed.
        options: all others of `Client`.

    Raises:
        ValueError: no base URL, or as for `Client`.
    """

    speaks: ClassVar[type[Dialect]] = Lexicon
    dialect: Lexicon
    chats: "LexiconChats"
    messages: "LexiconMessages"

    def _name_resources(self) -> None:
        self.chats, self.messages = LexiconChats(self), LexiconMessages(self)


class LexiconChats(Resource[LexiconClient]):
    """The chats of the key's tenant.

    Every call raises a ValueError, before anything is sent, for an argument that the API cannot take; and a
    NotFound if the key has no chat of the id.
    """

    async def create(
        self, *, user_id: str, title: str | None = None, metadata: dict[str, Any] | None = None
    ) -> LexiconChat:
        """A new chat of a user (`POST /api/v1/chats/`); *metadata* is any JSON object."""
        request = self._client.dialect.create_chat(user_id, title, metadata)
        return cast("LexiconChat", await self._client.ask(request, self._client.dialect.read_session))

    def list_for_user(
        self,
        user_id: str,
        *,
        offset: int | None = None,
        limit: int | None = None,
        order: Order | None = None,
    ) -> Listing[LexiconChat]:
        """A user's chats (`GET /api/v1/chats/user/{user_id}`). There is no list of the chats of all users.

        Arguments:
            offset: how many chats to leave out; default 0.
            limit: rows a page, 1 to 100; default 50, as documented.
            order: `"asc"`, the default, or `"desc"`, by time. The API's own default is `"desc"`, where a chat
                that is made while the list is walked moves all others.
        """
        listing = self._client.list_sessions(user_id=user_id, offset=offset, limit=limit, order=order)
        return cast("Listing[LexiconChat]", listing)

    async def get(self, chat_id: str | UUID) -> LexiconChat:
        """One chat, with its `status` and `message_count` (`GET /api/v1/chats/{chat_id}`)."""
        return cast("LexiconChat", await self._client.get_session(chat_id))

    async def delete(self, chat_id: str | UUID) -> LexiconDeletion:
        """Delete a chat (`DELETE /api/v1/chats/{chat_id}`); a `Conflict` if somebody is connected to it."""
        dialect = self._client.dialect
        return await self._client.ask(dialect.delete_chat(dialect.checked_id(chat_id)), dialect.read_deletion)


class LexiconMessages(Resource[LexiconClient]):
    """The messages of chats; raises as `LexiconChats`."""

    def list(
        self,
        chat_id: str | UUID,
        *,
        offset: int | None = None,
        limit: int | None = None,
        order: Order | None = None,
    ) -> Listing[LexiconMessage]:
        """A chat's messages (`GET /api/v1/chats/{chat_id}/messages`).

        Arguments:
            offset: how many messages to leave out; default 0.
            limit: rows a page, 1 to 100; default 100, the fewest requests.
            order: `"asc"`, the default, or `"desc"`, by time.
        """
        listing = self._client.list_messages(chat_id, offset=offset, limit=limit, order=order)
        return cast("Listing[LexiconMessage]", listing)
