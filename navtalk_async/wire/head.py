"""The head of a request over aiohttp, into which the key goes as its bytes leave.

What watches aiohttp (trace configs, middlewares, patched sessions, `request_info`) sees the request without
the key: it is added to the bytes on their way into the connection, and forgotten when the attempt is over.
"""

import asyncio
from collections.abc import Coroutine, Iterable
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
    """

    __slots__ = ("_before", "_key", "has_left", "url")

    def __init__(self, url: SplitResult, key: PlacedKey) -> None:
        # Encoded already: yarl would turn a quoted slash in a cursor into a slash. And in its parts, so that
        # yarl need not take it apart.
        self.url = URL(url, encoded=True)
        self._key: PlacedKey | None = key
        self._before = ATTEMPT.get()
        self.has_left = False
        """Whether anything of the request may have left."""
        ATTEMPT.set(self)

    def head(self, head: bytes) -> memoryview:
        """*head* with the key, to be sent now."""
        if self._key is None:
            raise ConnectionResetError("The attempt is over.")
        self.has_left = True
        return self._key.added(head, has_query=bool(self.url.raw_query_string))

    def end(self) -> None:
        """Forget the key: contexts and handles of the event loop may keep an attempt for longer."""
        self._key = None
        ATTEMPT.set(self._before)


ATTEMPT: ContextVar[Attempt | None] = ContextVar("navtalk_async.attempt", default=None)


class KeyedRequest(aiohttp.ClientRequest):
    """A request that gets its key as it leaves."""

    def send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        """Send it, with the key."""
        attempt, protocol = ATTEMPT.get(), conn.protocol
        if attempt is None or (self.url is not attempt.url and self.url.origin() != attempt.url.origin()):
            raise aiohttp.ClientConnectionError("This is not the request that was to be sent.")
        if protocol is not None and protocol.transport is not None:
            protocol.transport = Head(protocol, protocol.transport, attempt)  # type: ignore[assignment]
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


class Head:
    """Stands in for the transport of a connection until the head of one request has gone through it."""

    __slots__ = ("_attempt", "_protocol", "_transport", "is_closing")

    def __init__(self, protocol: Any, transport: asyncio.Transport, attempt: Attempt) -> None:
        self._protocol = protocol
        self._transport = transport
        self._attempt = attempt
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, chunk: bytes) -> None:
        """Write *chunk*, which begins with the head."""
        # A connection that was lost meanwhile has none any more.
        if self._protocol.transport is self:
            self._protocol.transport = self._transport
        self._transport.write(self._attempt.head(chunk))

    def writelines(self, chunks: Iterable[bytes]) -> None:
        """Write *chunks*, of which the first begins with the head."""
        head, *others = chunks
        self.write(head)
        self._transport.writelines(others)
