"""An answer that is read while it comes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from navtalk_async.errors import ApiError, BrokenBody, ClientClosed, NavTalkError
from navtalk_async.events import Failed, Observer, Stats, announce
from navtalk_async.models import Request, Response
from navtalk_async.wire.line import Line
from navtalk_async.wire.retry import leaves_open
from navtalk_async.wire.single_use import Flow, Flowing

__all__ = ["Stream"]


class Stream(AbstractAsyncContextManager["Stream"], AsyncIterator[bytes]):
    """The bytes of one answer as they come, in chunks that are neither empty nor larger than 64 KiB.

    To enter it is to ask, and to wait until the answer begins; to leave it ends the connection at once. It
    runs no task of its own, and what is in its `async with` is never cancelled by it.

    Arguments:
        begin: asks, has the answer read by `read`, and tells when it `has_begun`.
        refuse: raises what any answer but a 2xx means.
        seconds: the longest wait for a next chunk.
    """

    def __init__(
        self,
        request: Request,
        *,
        begin: Callable[["Stream"], Awaitable[None]],
        refuse: Callable[[Request, Response], object],
        seconds: float,
        stats: Stats,
        observer: Observer | None,
    ) -> None:
        self._request = request
        self._begin = begin
        self._refuse = refuse
        self._seconds = seconds
        self._stats = stats
        self._observer = observer
        self._attempts = 0
        self._is_entered = False
        self._flow: Flow | None = None
        self._line: Line | None = None

    def __repr__(self) -> str:
        return f"<Stream of {self._request.path}>"

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("A stream is entered once; ask again for another.")
        self._is_entered = True
        try:
            await self._begin(self)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> bytes:
        if not self._is_entered:
            raise RuntimeError("A stream is asked for by `async with`; there is nothing to read before.")
        flow, line = self._flow, self._line
        if flow is None or line is None:
            raise StopAsyncIteration
        clock = asyncio.get_running_loop().time
        began = clock()
        chunk = await flow.chunk(self._seconds)
        self._stats.network_seconds += clock() - began
        if isinstance(chunk, asyncio.CancelledError):
            raise chunk
        if isinstance(chunk, bytes) and chunk:
            return chunk
        self._end()
        # Closed by us, an answer of no length ends as if it had come to its end.
        if isinstance(chunk, NavTalkError) or line.closed:
            raise self._told(chunk or BrokenBody("The connection was closed."), line)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Have no more of it: end the connection."""
        self._end()

    def read(self, request: Request, response: Response) -> None:
        """Take the answer, if it is one that flows; else raise what it is."""
        if isinstance(response, Flowing):
            self._flow = response.flow
            return
        self._refuse(request, response)
        raise ApiError(f"The server answered {response.status}.", status=response.status)

    def has_begun(self, line: Line, attempts: int) -> None:
        """The answer has begun on *line*, after so many *attempts*. It has no place at the gate any more: who
        speaks for minutes would keep everybody waiting, and a call made while one listens its whole turn.
        """
        self._line, self._attempts = line, attempts

    def _end(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.close()

    def _told(self, error: NavTalkError, line: Line) -> NavTalkError:
        """*error*, which ended the answer, with all that is known of the call."""
        error.attempts = self._attempts
        told = f"{type(error).__name__}: {error.args[0]}"
        announce(self._observer, Failed(self._request.path, self._attempts, told))
        if line.closed:
            error = ClientClosed("The client was closed while this answer came.", attempts=self._attempts)
        if leaves_open(self._request, error):
            error.may_have_happened = True
        return error
