"""An answer that is read while it comes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Self

from navtalk_async.errors import AttemptTimeout, BrokenBody, ClientClosed, NavTalkError, TransportError
from navtalk_async.events import Counts
from navtalk_async.models import Request
from navtalk_async.wire._loop_state import LoopState
from navtalk_async.wire._transport import StreamedResponse
from navtalk_async.wire._watched import WatchedCall
from navtalk_async.wire.retry import may_have_changed

CHUNK_BYTES = 64 * 1024  # the most of a stream that is returned at once


class Stream(AbstractAsyncContextManager["Stream"], AsyncIterator[bytes]):
    """The bytes of one answer as they come, in chunks that are neither empty nor larger than `CHUNK_BYTES`.

    To enter it is to ask, and to wait until the answer begins; to leave it ends the connection at once. It
    runs no task of its own, and never cancels the code inside its `async with`.

    It has no place at the gate once it has begun: a stream of minutes would keep other calls waiting, and a
    call made from inside it forever.

    Arguments:
        begin: sends the request, until an answer begins.
        seconds: the longest wait for a next chunk.
        tally: what counts the time.
    """

    def __init__(
        self,
        request: Request,
        begin: Callable[[], Awaitable[tuple[LoopState, WatchedCall, StreamedResponse]]],
        seconds: float,
        tally: Counts,
    ) -> None:
        self._request = request
        self._begin = begin
        self._seconds = seconds
        self._tally = tally
        self._state: LoopState
        self._watched: WatchedCall
        self._attempts = 0
        self._is_entered = False
        self._is_late = False
        # It has no name in any frame: reports would write out its headers.
        self._answer: StreamedResponse | None = None

    def __repr__(self) -> str:
        return f"<Stream of {self._request.path}>"

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("A stream is entered once; ask again for another.")
        self._is_entered = True
        self._state, self._watched, self._answer = await self._begin()
        self._attempts = self._state.attempts
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def __anext__(self) -> bytes:
        if not self._is_entered:
            raise RuntimeError("Enter a stream with `async with` before reading from it.")
        if self._answer is None:
            raise StopAsyncIteration
        clock = asyncio.get_running_loop().time
        began = clock()
        chunk = await self._chunk(self._answer)
        self._tally.network_seconds += clock() - began
        if isinstance(chunk, asyncio.CancelledError):
            raise chunk
        if isinstance(chunk, bytes) and chunk:
            return chunk
        await self.aclose()
        # Closed by us, an answer of no length ends as if it were complete.
        if isinstance(chunk, NavTalkError) or self._state.closed:
            raise self._ended(chunk or BrokenBody("The connection was closed."))
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the connection."""
        if self._answer is not None:
            self._answer.end()
            self._answer = None

    async def _chunk(self, answer: StreamedResponse) -> bytes | TransportError | asyncio.CancelledError:
        """At most `CHUNK_BYTES`; empty at the end. Errors are returned, and so is a cancellation, after which
        one may read on.
        """
        echo = answer.echo
        if echo is None:
            return await self._read(answer, CHUNK_BYTES)
        while chunk := await self._read(answer, max(1, CHUNK_BYTES - echo.held)):
            if isinstance(chunk, asyncio.CancelledError):
                return chunk
            if isinstance(chunk, TransportError):
                break
            if certain := echo.feed(chunk):
                return certain
        # An error comes again when there is nothing before it any more.
        return echo.rest() or chunk

    async def _read(
        self, answer: StreamedResponse, most: int
    ) -> bytes | TransportError | asyncio.CancelledError:
        timer = asyncio.get_running_loop().call_later(self._seconds, self._give_up, answer)
        path = self._request.path
        try:
            return await answer.content.read(most)
        except asyncio.CancelledError as leaving:
            leaving.__context__ = leaving.__cause__ = None
            return leaving.with_traceback(None)
        except Exception:  # noqa: BLE001 - whatever aiohttp raises may quote the answer
            # Of a connection that died, aiohttp raises the death first, and keeps what came before it.
            if rest := answer.content._read_nowait(most):  # noqa: SLF001 - there is no public way
                return rest
            if self._is_late:
                return AttemptTimeout(f"Nothing more of the answer of {path} within {self._seconds:.3g} s.")
            return BrokenBody(f"The answer of {path} was cut off.")
        finally:
            timer.cancel()

    def _give_up(self, answer: StreamedResponse) -> None:
        self._is_late = True
        answer.content.set_exception(TimeoutError())

    def _ended(self, error: NavTalkError) -> NavTalkError:
        """*error*, which ended the answer, with the attempts and the outcome of the call."""
        error.attempts = self._attempts
        self._watched.failed(self._attempts, error, self._state.time())
        if self._state.closed:
            error = ClientClosed("The client was closed while this answer came.", attempts=self._attempts)
        if may_have_changed(self._request, error):
            error.may_have_happened = True
        return error
