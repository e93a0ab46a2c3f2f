"""Ask LlamaCloud: `LlamaCloudClient`."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from uuid import UUID

from navtalk_async.client import Client, Options, Resource, ViewOptions
from navtalk_async.dialects.answers import read_done, reader, refuse
from navtalk_async.dialects.llamacloud import (
    Event,
    LlamaCloud,
    LlamaCloudFullSession,
    LlamaCloudMessage,
    LlamaCloudSession,
    streamed_event,
)
from navtalk_async.dialects.sse import SseDecoder
from navtalk_async.errors import StreamBroken, TransportError
from navtalk_async.paging import Listing
from navtalk_async.wire.secret import hide_frames
from navtalk_async.wire.sender import Key

__all__ = ["EventStream", "LlamaCloudClient", "LlamaCloudFilters", "LlamaCloudSessions"]


class LlamaCloudFilters(TypedDict, total=False):
    """The filters of the list of sessions: none but its page."""

    limit: int | None
    """The `page_size` of `LlamaCloudSessions.list`."""


class LlamaCloudViewOptions(ViewOptions, total=False):
    """What `LlamaCloudClient.using` takes."""

    project_id: str | None
    organization_id: str | None


class LlamaCloudClient(Client[LlamaCloudSession, LlamaCloudMessage]):
    """A client of LlamaCloud's chat API (source: its reference, "Chat").

        async with LlamaCloudClient() as llama:
            session = await llama.sessions.create(index_ids=["index-1"])
            async with llama.sessions.stream(session.id, "What is new?", index_ids=["index-1"]) as events:
                async for event in events:
                    print(event.type)

    The arguments are those of `Client`, and *project_id* and *organization_id*: whose sessions every call
    means, by default the key's own. `using` makes a view for another project on the same connections. The
    environment may hold the key (`LLAMA_CLOUD_API_KEY`) and the address (`LLAMA_CLOUD_BASE_URL`), by default
    LlamaCloud's own.
    """

    dialect: LlamaCloud
    sessions: "LlamaCloudSessions"

    @hide_frames
    def __init__(
        self,
        key: Key | None = None,
        *,
        base_url: str | None = None,
        project_id: str | None = None,
        organization_id: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        dialect = LlamaCloud(project_id=project_id, organization_id=organization_id)
        super().__init__(dialect, key, base_url=base_url, **options)

    def using(self, **options: Unpack[LlamaCloudViewOptions]) -> Self:
        """The same client for another project or organization, or with other options of `Client.using`.

        Raises:
            ValueError: an id that cannot be one, or as for `Client.using`.
        """
        others: Any = dict(options)
        ids = {name: others.pop(name) for name in ("project_id", "organization_id") if name in others}
        view = super().using(**others)
        view.dialect = LlamaCloud(**{**self.dialect.options, **ids})
        return view

    def _name_resources(self) -> None:
        self.sessions = LlamaCloudSessions(self)


LAST = "stop"
"""The type of a turn's last event (source: "Stream Messages"); nothing after it is read."""


class EventStream(AbstractAsyncContextManager["EventStream"], AsyncIterator[Event]):
    """The events of one turn as they come, for `async with` and `async for`; the last is a `Stop`.

    Entering it sends the request, once. Leaving it early ends the connection; whether the turn then goes on
    at the server is not documented.

    Raises:
        RuntimeError: it was iterated without being entered, or entered twice.
        StreamBroken: the connection ended, or nothing came for too long, before the last event; its `events`
            are all that came.
        ClientClosed: the client was closed.
    """

    def __init__(self, answer: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> None:
        self._answer = answer
        self._chunks: AsyncIterator[bytes] | None = None
        self._open = AsyncExitStack()
        self._was_entered = False
        self._decoder = SseDecoder()
        self._events: list[Event] = []
        self._waiting: deque[Event] = deque()

    def __repr__(self) -> str:
        return f"<EventStream, {len(self._events)} events so far>"

    async def __aenter__(self) -> Self:
        if self._was_entered:
            raise RuntimeError("A stream is asked for once; make another to say something again.")
        self._was_entered = True
        self._chunks = await self._open.enter_async_context(self._answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()
        await self._end()

    async def __anext__(self) -> Event:
        if not self._was_entered:
            raise RuntimeError("Nothing is asked before a stream is entered: write `async with` around it.")
        while not self._waiting and self._chunks is not None:
            await self._read(self._chunks)
        if not self._waiting:
            raise StopAsyncIteration
        return self._waiting.popleft()

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            came = [streamed_event(sent) for sent in self._decoder.feed(await anext(chunks))]
        except StopAsyncIteration:
            await self._end()
            raise self._broken("The stream ended before its stop.", 1) from None
        except TransportError as error:
            await self._end()
            raise self._broken(f"The stream broke: {error.args[0]}", error.attempts) from error
        for event in came:
            self._events.append(event)
            self._waiting.append(event)
            if event.type == LAST:
                await self._end()
                return

    def _broken(self, what: str, attempts: int) -> StreamBroken:
        error = StreamBroken(what, events=[*self._events], attempts=attempts)
        # The server was asked to make this turn, and began to.
        error.may_have_happened = True
        return error

    async def _end(self) -> None:
        self._chunks = None
        await self._open.aclose()


class LlamaCloudSessions(Resource[LlamaCloudClient]):
    """The chat sessions of a project; raises as every `Resource`."""

    def list(
        self, *, page_size: int | None = None, page_token: str | None = None
    ) -> Listing[LlamaCloudSession]:
        """All sessions, without their events (`GET /api/v1/chat`); the order is not documented.

        Arguments:
            page_size: sessions a page, 1 to 1,000; default 100. A server's own limit is not documented.
            page_token: where to begin, as an earlier page gave it.
        """
        return self._client.list_sessions(limit=page_size, page_token=page_token)

    async def create(
        self, *, index_ids: Sequence[str] | None = None, shared_access: str | None = None
    ) -> LlamaCloudSession:
        """A new session (`POST /api/v1/chat`).

        Arguments:
            index_ids: the indexes it is bound to, for good once its first message is sent; by default none.
            shared_access: what its share link grants, `"query"` or `"read_only"`; by default the server's own
                default. Older servers may not take it.
        """
        request = self._client.dialect.create_session(index_ids, shared_access)
        return await self._client.ask(request, reader(LlamaCloudSession))

    async def get(self, session_id: str | UUID) -> LlamaCloudFullSession:
        """One session with all its events (`GET /api/v1/chat/{session_id}`)."""
        request = self._client.dialect.list_messages(self._id(session_id))
        return await self._client.ask(request, self._client.dialect.read_full_session)

    async def summary(self, session_id: str | UUID) -> LlamaCloudSession:
        """One session as a list has it (`GET /api/v1/chat/{session_id}/summary`)."""
        return await self._client.get_session(session_id)

    async def delete(self, session_id: str | UUID) -> None:
        """Delete a session (`DELETE /api/v1/chat/{session_id}`)."""
        await self._client.ask(self._client.dialect.delete_session(self._id(session_id)), read_done)

    async def generate_title(self, session_id: str | UUID, first_message: str) -> LlamaCloudSession:
        """Make a title from *first_message*, and return the session as a list has it
        (`POST /api/v1/chat/{session_id}/title`).
        """
        request = self._client.dialect.generate_title(self._id(session_id), first_message)
        return await self._client.ask(request, reader(LlamaCloudSession))

    def stream(
        self,
        session_id: str | UUID,
        prompt: str,
        *,
        index_ids: Sequence[str],
        require_all_indexes: bool | None = None,
    ) -> EventStream:
        """Say something in a session, and stream what happens then, event by event
        (`POST /api/v1/chat/{session_id}/messages/stream`).

            async with llama.sessions.stream(session.id, "What is new?", index_ids=["index-1"]) as events:
                async for event in events: ...

        Texts and thoughts come twice: in parts (`TextDelta`, `ThinkingDelta`) as they are made, and whole
        (`Text`, `Thinking`). The last event is a `Stop`, also where the turn failed (`is_error`).

        Arguments:
            prompt: the text, up to 1,000 characters.
            index_ids: the indexes to answer from, up to 10.
            require_all_indexes: whether the turn fails if one of them cannot be queried; by default the
                server's own default.

        Raises:
            NotFound: there is no session of this id; on entering the stream.
            StreamBroken: it ended before its `Stop`; its `events` are all that came.
        """
        stream = self._client.dialect.stream
        request = stream(self._id(session_id), prompt, index_ids, require_all_indexes)
        return EventStream(self._client.stream(request, refuse))
