"""An answer that is read while it comes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import aiohttp

from navtalk_async.errors import (
    ApiError,
    AttemptTimeout,
    BrokenBody,
    ClientClosed,
    NavTalkError,
    TransportError,
)
from navtalk_async.events import Failed, Observer, Stats, announce
from navtalk_async.models import Request, Response
from navtalk_async.wire.retry import may_have_changed
from navtalk_async.wire.secret import EchoInChunks

CHUNK_BYTES = 64 * 1024
"""The most of a stream that is returned at once."""


class StreamedBody:
    """The body of an answer, as it comes."""

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        path: str,
        echo: EchoInChunks | None,
        reading: set[aiohttp.ClientResponse],
    ) -> None:
        self._answer = answer
        self._path = path
        self._echo = echo
        self._is_late = False
        self._reading = reading
        self.attempts = 0
        """How many attempts the call took; its sender sets this and the next."""
        self.is_orphaned: Callable[[], bool] = lambda: False
        """Whether the client was closed meanwhile."""
        reading.add(answer)

    async def chunk(self, seconds: float) -> bytes | TransportError | asyncio.CancelledError:
        """At most `CHUNK_BYTES` that have come, or come within *seconds*; empty at the end. Errors are
        returned, and so is a cancellation, after which one may ask again.
        """
        if self._echo is None:
            return await self._next(seconds, CHUNK_BYTES)
        while chunk := await self._next(seconds, max(1, CHUNK_BYTES - self._echo.held)):
            if isinstance(chunk, asyncio.CancelledError):
                return chunk
            if isinstance(chunk, TransportError):
                break
            if certain := self._echo.feed(chunk):
                return certain
        # An error comes again when there is nothing before it any more.
        return self._echo.rest() or chunk

    async def _next(self, seconds: float, most: int) -> bytes | TransportError | asyncio.CancelledError:
        timer = asyncio.get_running_loop().call_later(seconds, self._give_up)
        try:
            return await self._answer.content.read(most)
        except asyncio.CancelledError as leaving:
            leaving.__context__ = leaving.__cause__ = None
            return leaving.with_traceback(None)
        except Exception:  # noqa: BLE001 - whatever aiohttp raises may quote the answer
            # Of a connection that died, aiohttp raises the death first, and keeps what came before it.
            if rest := self._answer.content._read_nowait(most):  # noqa: SLF001 - there is no public way
                return rest
            if self._is_late:
                return AttemptTimeout(f"Nothing more of the answer of {self._path} within {seconds:.3g} s.")
            return BrokenBody(f"The answer of {self._path} was cut off.")
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._is_late = True
        self._answer.content.set_exception(TimeoutError())

    def close(self) -> None:
        """End the connection."""
        self._reading.discard(self._answer)
        self._answer.close()


class StreamedResponse(Response, frozen=True, kw_only=True):
    """A good answer that has begun; its body is to come."""

    stream: StreamedBody


class Stream(AbstractAsyncContextManager["Stream"], AsyncIterator[bytes]):
    """The bytes of one answer as they come, in chunks that are neither empty nor larger than 64 KiB.

    To enter it is to ask, and to wait until the answer begins; to leave it ends the connection at once. It
    runs no task of its own, and never cancels the code inside its `async with`.

    It has no place at the gate once it has begun: a stream of minutes would keep other calls waiting, and a
    call made from inside it forever.

    Arguments:
        begin: sends the request, until an answer begins.
        seconds: the longest wait for a next chunk.
    """

    def __init__(
        self,
        request: Request,
        *,
        begin: Callable[[], Awaitable[StreamedBody]],
        seconds: float,
        stats: Stats,
        observer: Observer | None,
    ) -> None:
        self._request = request
        self._begin = begin
        self._seconds = seconds
        self._stats = stats
        self._observer = observer
        self._is_entered = False
        self._body: StreamedBody | None = None

    def __repr__(self) -> str:
        return f"<Stream of {self._request.path}>"

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("A stream is entered once; ask again for another.")
        self._is_entered = True
        self._body = await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> bytes:
        if not self._is_entered:
            raise RuntimeError("Enter a stream with `async with` before reading from it.")
        body = self._body
        if body is None:
            raise StopAsyncIteration
        clock = asyncio.get_running_loop().time
        began = clock()
        chunk = await body.chunk(self._seconds)
        self._stats.network_seconds += clock() - began
        if isinstance(chunk, asyncio.CancelledError):
            raise chunk
        if isinstance(chunk, bytes) and chunk:
            return chunk
        await self.aclose()
        # Closed by us, an answer of no length ends as if it were complete.
        if isinstance(chunk, NavTalkError) or body.is_orphaned():
            raise self._ended(body, chunk or BrokenBody("The connection was closed."))
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the connection."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _ended(self, body: StreamedBody, error: NavTalkError) -> NavTalkError:
        """*error*, which ended the answer, with the attempts and the outcome of the call."""
        error.attempts = body.attempts
        text = f"{type(error).__name__}: {error.args[0]}"
        announce(self._observer, Failed(self._request.path, body.attempts, text))
        if body.is_orphaned():
            error = ClientClosed("The client was closed while this answer came.", attempts=body.attempts)
        if may_have_changed(self._request, error):
            error.may_have_happened = True
        return error


def read_stream(refuse: Callable[[Request, Response], object]) -> Callable[[Request, Response], StreamedBody]:
    """Read the answer to a streamed request: any but a 2xx goes to *refuse*, which raises what it means."""

    def read(request: Request, response: Response) -> StreamedBody:
        if isinstance(response, StreamedResponse):
            return response.stream
        refuse(request, response)
        raise ApiError(f"The server answered {response.status}.", status=response.status)

    return read
