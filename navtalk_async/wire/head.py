"""The head of a request over aiohttp, into which the key goes as its bytes leave.

What watches aiohttp (trace configs, middlewares, patched sessions, `request_info`) sees the request without
the key: it is added to the bytes on their way into the connection, and forgotten when the attempt is over.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from typing import Any
from urllib.parse import SplitResult

import aiohttp
from aiohttp.connector import Connection
from yarl import URL

from navtalk_async.wire.key import PlacedKey

__all__ = ["Attempt", "KeyedRequest", "UnquotedResponse"]


class Attempt:
    """An attempt to send a request, from here until its `end`. A request that aiohttp makes finds it, and the
    key in it.

    It stands in for the transport of the connection until the head of the request has gone through it.
    """

    __slots__ = ("_before", "_has_query", "_key", "_protocol", "_transport", "has_left", "is_closing", "url")

    _transport: asyncio.Transport
    is_closing: Callable[[], bool]

    def __init__(self, url: SplitResult, key: PlacedKey) -> None:
        # Encoded already: yarl would turn a quoted slash in a cursor into a slash. And in its parts, so that
        # yarl need not take it apart.
        self.url = URL(url, encoded=True)
        self._has_query = bool(url.query)
        self._key: PlacedKey | None = key
        self._protocol: Any = None
        self._before = ATTEMPT.get()
        self.has_left = False
        """Whether anything of the request may have left."""
        ATTEMPT.set(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def stand_in(self, protocol: Any) -> None:
        """Take the place of the transport of *protocol*, if it still has one."""
        transport = protocol.transport
        if transport is not None:
            self._protocol, self._transport, self.is_closing = protocol, transport, transport.is_closing
            protocol.transport = self

    def write(self, chunk: bytes) -> None:
        """Write *chunk*, which begins with the head."""
        if self._key is None:
            raise ConnectionResetError("The attempt is over.")
        self._step_aside()
        self.has_left = True
        self._transport.write(self._key.added(chunk, has_query=self._has_query))

    def writelines(self, chunks: Iterable[bytes]) -> None:
        """Write *chunks*, of which the first begins with the head."""
        head, *others = chunks
        self.write(head)
        self._transport.writelines(others)

    def end(self) -> None:
        """Forget the key: contexts and handles of the event loop may keep an attempt for longer."""
        self._key = None
        ATTEMPT.set(self._before)
        self._step_aside()

    def _step_aside(self) -> None:
        protocol, self._protocol = self._protocol, None
        # A connection that was lost meanwhile has no transport any more.
        if protocol is not None and protocol.transport is self:
            protocol.transport = self._transport


ATTEMPT: ContextVar[Attempt | None] = ContextVar("navtalk_async.attempt", default=None)


class KeyedRequest(aiohttp.ClientRequest):
    """A request that gets its key as it leaves."""

    def send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        """Send it, with the key."""
        attempt = ATTEMPT.get()
        if attempt is None or (self.url is not attempt.url and self.url.origin() != attempt.url.origin()):
            raise aiohttp.ClientConnectionError("This is not the request that was to be sent.")
        attempt.stand_in(conn.protocol)
        return super().send(conn)

    def update_auth(self, auth: object, trust_env: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Leave out what a `.netrc` says: the key says who asks."""


class UnquotedResponse(aiohttp.ClientResponse):
    """An answer; one that is not HTTP is not quoted in the error, which hooks see: it may repeat the key."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Read its head."""
        try:
            return await super().start(connection)
        except aiohttp.ClientResponseError:
            pass
        # Out of the handler: the other one would be its context.
        raise aiohttp.ClientResponseError(self.request_info, (), message="The answer is not HTTP.")
