"""A turn of a LlamaCloud session, event by event: `EventStream`."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self

from navtalk_async.dialects.llamacloud_events import Event, streamed_event
from navtalk_async.dialects.sse import SseDecoder
from navtalk_async.errors import StreamBroken, TransportError

__all__ = ["EventStream"]

LAST = "stop"
"""The type of a turn's last event (source: "Stream Messages"); whatever a server may send behind it is not
waited for."""


class EventStream(AbstractAsyncContextManager["EventStream"], AsyncIterator[Event]):
    """The events of one turn as they come, for `async with` and `async for`; the last is a `Stop`.

    To enter it is to ask, once. To leave it early ends the connection; whether the turn then goes on at the
    server is not documented.

    Raises:
        RuntimeError: it was iterated without being entered, or entered twice.
        StreamBroken: the connection ended, or nothing came for too long, before the last event; its `events`
            are all that came.
        ClientClosed: the client was.
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
        """Have what the next of the *chunks* brings; with the last event, the answer is left."""
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

    def _broken(self, told: str, attempts: int) -> StreamBroken:
        error = StreamBroken(told, events=self._events, attempts=attempts)
        # The server was asked to make this turn, and began to.
        error.may_have_happened = True
        return error

    async def _end(self) -> None:
        self._chunks = None
        await self._open.aclose()
