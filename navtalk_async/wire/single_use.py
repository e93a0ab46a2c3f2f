"""One attempt over a connection of its own: for what must not be sent twice, and for answers that are read
while they come.

A connection that was kept open may just have been ended by the server. Nobody can tell then whether what was
sent over it arrived, so a question that changes something gets a new one. The rules are those of
`transport`; and here, every failure from before there was a connection is a `ConnectFailed`: what never left
never arrived.
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import SplitResult

import aiohttp

from navtalk_async.errors import AttemptTimeout, BrokenBody, ConnectFailed, Disconnected, TransportError
from navtalk_async.models import Request, Response
from navtalk_async.wire.echo import EchoInChunks
from navtalk_async.wire.head import Attempt
from navtalk_async.wire.key import PlacedKey
from navtalk_async.wire.transport import (
    Transport,
    bounded_body,
    is_cancelled,
    new_session,
    our_error,
    too_large,
)
from navtalk_async.wire.watchdog import Watchdog

__all__ = ["CHUNK_BYTES", "Flow", "Flowing", "SingleUseTransport"]

CHUNK_BYTES = 64 * 1024
"""The most of a flow that is handed on at once."""

Take = Callable[[Request, aiohttp.ClientResponse], Awaitable[Response | TransportError]]


JSON = {"Content-Type": "application/json"}

FLOWING = {
    "Accept": "text/event-stream, application/json",
    # Who compresses holds small pieces back until there are more.
    "Accept-Encoding": "identity",
}


class Flow:
    """The body of an answer, as it comes."""

    def __init__(
        self,
        answer: aiohttp.ClientResponse,
        path: str,
        watchdog: Watchdog["Flow"],
        reading: set[aiohttp.ClientResponse],
    ) -> None:
        self._answer = answer
        self._path = path
        self._watchdog = watchdog
        self._reading = reading
        self.echo: EchoInChunks | None = None
        """Masks the key, where the server repeats it."""
        reading.add(answer)

    async def chunk(self, seconds: float) -> bytes | TransportError | asyncio.CancelledError:
        """What has come, at most `CHUNK_BYTES` of it, or comes within *seconds*; nothing at the end. Errors
        are returned, and so is that we were cancelled, after which one may ask again.
        """
        if self.echo is None:
            return await self._next(seconds, CHUNK_BYTES)
        while chunk := await self._next(seconds, max(1, CHUNK_BYTES - self.echo.held)):
            if isinstance(chunk, asyncio.CancelledError):
                return chunk
            if isinstance(chunk, TransportError):
                break
            if sure := self.echo.feed(chunk):
                return sure
        # An error comes again when there is nothing before it any more.
        return self.echo.rest() or chunk

    async def _next(self, seconds: float, most: int) -> bytes | TransportError | asyncio.CancelledError:
        loop = asyncio.get_running_loop()
        self._watchdog.watch(self, loop.time() + seconds, loop)
        try:
            return await self._answer.content.read(most)
        except asyncio.CancelledError as leaving:
            leaving.__context__ = leaving.__cause__ = None
            return leaving.with_traceback(None)
        except Exception:  # noqa: BLE001 - whatever aiohttp raises may quote the answer
            # Of a connection that died, aiohttp tells the death first, and keeps what came before it.
            if rest := self._answer.content._read_nowait(most):  # noqa: SLF001 - nobody else gives it
                return rest
            if self._watchdog.forget(self):
                return AttemptTimeout(f"Nothing more of the answer of {self._path} within {seconds:.3g} s.")
            return BrokenBody(f"The answer of {self._path} was cut off.")
        finally:
            self._watchdog.forget(self)

    def give_up(self) -> None:
        """Let whoever waits for a chunk wait no longer."""
        self._answer.content.set_exception(TimeoutError())

    def close(self) -> None:
        """End the connection."""
        self._reading.discard(self._answer)
        self._answer.close()


class Flowing(Response, frozen=True, kw_only=True):
    """A good answer that has begun; its body is to come."""

    flow: Flow


class SingleUseTransport(Transport):
    """As many connections as there are requests. The gate bounds how many that are at once."""

    def __init__(self, *, body_limit: int, trust_env: bool) -> None:
        self._body_limit = body_limit
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._closed = False
        self._reading: set[aiohttp.ClientResponse] = set()
        self._watchdog: Watchdog[Flow] = Watchdog(Flow.give_up)

    async def exchange(
        self, request: Request, url: SplitResult, key: PlacedKey, seconds: float
    ) -> Response | TransportError | asyncio.CancelledError:
        """See `Transport.exchange`."""
        return await self._carry(request, url, key, seconds, self._whole, headers={})

    async def begin(
        self, request: Request, url: SplitResult, key: PlacedKey, seconds: float
    ) -> Response | TransportError | asyncio.CancelledError:
        """Like `exchange`, but a good answer is given as soon as it has begun within *seconds*, as `Flowing`.
        Whoever takes it closes its flow.
        """
        return await self._carry(request, url, key, seconds, self._flowing, headers=FLOWING)

    async def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True
        self._watchdog.close()
        if self._session is not None:
            await self._session.close()
        # aiohttp ends the connections, and leaves those who read from them waiting.
        for answer in self._reading:
            answer.content.set_exception(aiohttp.ClientConnectionError())

    async def _carry(
        self,
        request: Request,
        url: SplitResult,
        key: PlacedKey,
        seconds: float,
        take: Take,
        *,
        headers: dict[str, str],
    ) -> Response | TransportError | asyncio.CancelledError:
        host = f"{url.scheme}://{url.netloc}"
        if request.body is not None:
            headers = JSON | headers
        if self._closed:
            return ConnectFailed(f"No connection to {host}: the client is closed.")
        session, attempt = self._opened(), Attempt(url, key)
        try:
            async with asyncio.timeout(seconds):
                answer = await session.request(
                    request.method, attempt.url, data=request.body, headers=headers, allow_redirects=False
                )
                return await take(request, answer)
        except asyncio.CancelledError as leaving:
            if not session.closed or is_cancelled():
                leaving.__context__ = leaving.__cause__ = None
                return leaving.with_traceback(None)
            failed: TransportError = Disconnected(
                f"The connection was closed before {request.path} was answered."
            )
        except Exception as failure:  # noqa: BLE001 - whatever aiohttp raises may quote the answer
            failed = our_error(failure, request.path, host, seconds)
        finally:
            attempt.end()
        if attempt.has_left or isinstance(failed, ConnectFailed):
            return failed
        how_long = f" within {seconds:.3g} s" if isinstance(failed, AttemptTimeout) else ""
        return ConnectFailed(f"No connection to {host}{how_long}.")

    async def _whole(self, request: Request, answer: aiohttp.ClientResponse) -> Response | TransportError:
        self._reading.add(answer)
        try:
            body = await bounded_body(answer, self._body_limit)
        finally:
            self._reading.discard(answer)
        if body is None:
            return too_large(request.path, self._body_limit)
        return Response(status=answer.status, headers=answer.headers, body=body)

    async def _flowing(self, request: Request, answer: aiohttp.ClientResponse) -> Response | TransportError:
        if not 200 <= answer.status < 300:
            return await self._whole(request, answer)
        flow = Flow(answer, request.path, self._watchdog, self._reading)
        return Flowing(status=answer.status, headers=answer.headers, body=b"", flow=flow)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            self._session = new_session(connector, trust_env=self._trust_env)
            # Else aiohttp would ask again by itself, a DELETE too, where the connection ends too soon.
            self._session._retry_connection = False  # noqa: SLF001 - there is no public switch
        return self._session
