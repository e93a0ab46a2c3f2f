"""Ask Lexicon: `LexiconClient`."""

from typing import Any, ClassVar, Literal, Required, TypedDict, Unpack
from uuid import UUID

from navtalk_async.client import ApiClient, Resource
from navtalk_async.dialects.answers import reader
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.lexicon import Lexicon, LexiconChat, LexiconDeletion, LexiconMessage
from navtalk_async.paging import Listing

__all__ = ["LexiconChats", "LexiconClient", "LexiconFilters", "LexiconMessages", "LexiconPages"]


class LexiconFilters(TypedDict, total=False):
    """The filters of the list of chats: arguments of `LexiconChats.list_for_user`."""

    user_id: Required[str]
    limit: int | None


class LexiconPages(TypedDict, total=False):
    """How a list is paged."""

    offset: int | None
    """How many rows to leave out; default 0."""
    limit: int | None
    """Rows a page, 1 to 100; default 50 for chats, as documented, and 100 for messages."""
    order: Literal["asc", "desc"] | None
    """By time; default `"asc"`. The API's own default for chats is `"desc"`, where a chat that is made while
    the list is walked moves all others."""


class LexiconClient(ApiClient[LexiconChat, LexiconMessage]):
    """A client of the chats API of Lexicon Labs (source: its reference, "LexiconChats").

        async with LexiconClient(base_url="https://lexicon.example.com") as lexicon:
            async for chat in lexicon.chats.list_for_user("ann"):
                print(chat.id, chat.title, chat.updated_at)

    The arguments are those of `Client`. The environment may hold the key (`LEXICON_API_KEY`) and the address
    (`LEXICON_BASE_URL`), which ends in `/api/v1` or not and has no default.
    """

    speaks: ClassVar[type[Dialect]] = Lexicon
    dialect: Lexicon
    chats: "LexiconChats"
    messages: "LexiconMessages"

    def _name_resources(self) -> None:
        self.chats, self.messages = LexiconChats(self), LexiconMessages(self)


class LexiconChats(Resource[LexiconClient]):
    """The chats of the key's tenant; raises as every `Resource`."""

    async def create(
        self, *, user_id: str, title: str | None = None, metadata: dict[str, Any] | None = None
    ) -> LexiconChat:
        """A new chat of a user (`POST /api/v1/chats/`); *metadata* is any JSON object."""
        request = self._client.dialect.create_chat(user_id, title, metadata)
        return await self._client.ask(request, reader(LexiconChat))

    def list_for_user(self, user_id: str, **pages: Unpack[LexiconPages]) -> Listing[LexiconChat]:
        """A user's chats (`GET /api/v1/chats/user/{user_id}`). There is no list of the chats of all users."""
        return self._client.list_sessions(user_id=user_id, **pages)

    async def get(self, chat_id: str | UUID) -> LexiconChat:
        """One chat, with its `status` and `message_count` (`GET /api/v1/chats/{chat_id}`)."""
        return await self._client.get_session(chat_id)

    async def delete(self, chat_id: str | UUID) -> LexiconDeletion:
        """Delete a chat (`DELETE /api/v1/chats/{chat_id}`); a `Conflict` if somebody is connected to it."""
        request = self._client.dialect.delete_chat(self._id(chat_id))
        return await self._client.ask(request, reader(LexiconDeletion))


class LexiconMessages(Resource[LexiconClient]):
    """The messages of chats; raises as every `Resource`."""

    def list(self, chat_id: str | UUID, **pages: Unpack[LexiconPages]) -> Listing[LexiconMessage]:
        """A chat's messages (`GET /api/v1/chats/{chat_id}/messages`)."""
        return self._client.list_messages(chat_id, **pages)
