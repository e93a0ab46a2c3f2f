"""One attempt over aiohttp: bytes out, a whole answer or an error value in. Besides this, only `single_use`
and `head` import aiohttp.

Three rules keep the key in. Only the bytes that leave have it (`head`). aiohttp's own errors may quote an
answer that repeats it: they are turned into ours here, by kind, keeping nothing of theirs. And errors are
*returned*, not raised: the frames that hold an answer have ended before anybody raises, so no traceback, even
one with local variables, shows it. A cancellation is returned as well: what reports a timeout of the caller's
shows its cause.
"""

import asyncio
from typing import Protocol
from urllib.parse import SplitResult

import aiohttp
from multidict import istr

from navtalk_async.errors import (
    AttemptTimeout,
    BodyTooLarge,
    BrokenBody,
    ConnectFailed,
    Disconnected,
    TransportError,
)
from navtalk_async.models import Request, Response
from navtalk_async.wire.head import Attempt, KeyedRequest, UnquotedResponse
from navtalk_async.wire.key import PlacedKey
from navtalk_async.wire.watchdog import Watchdog

__all__ = [
    "CONNECT_SECONDS",
    "USER_AGENT",
    "AiohttpTransport",
    "Transport",
    "bounded_body",
    "is_cancelled",
    "new_session",
    "our_error",
    "too_large",
]

USER_AGENT = "navtalk-async (https://pypi.org/project/navtalk-async/)"
CONNECT_SECONDS = 10.0
ENCODING = istr("Content-Encoding")


class Transport(Protocol):
    """What carries requests, in one event loop."""

    async def exchange(
        self, request: Request, url: SplitResult, key: PlacedKey, seconds: float
    ) -> Response | TransportError | asyncio.CancelledError:
        """Send *request* to *url*, with the *key*, and read the whole answer within *seconds*."""
        ...

    async def close(self) -> None:
        """End every connection, also those in use."""
        ...


def new_session(connector: aiohttp.TCPConnector, *, trust_env: bool) -> aiohttp.ClientSession:
    """A session that does what we ask of it, and bounds nothing but the time to connect."""
    return aiohttp.ClientSession(
        connector=connector,
        # A load balancer's cookie would pin all our traffic to one machine behind it.
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        trust_env=trust_env,
        request_class=KeyedRequest,
        response_class=UnquotedResponse,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    )


class AiohttpTransport(Transport):
    """A connection pool of aiohttp. The gate bounds how many requests there are, so the pool does not."""

    def __init__(self, *, body_limit: int, trust_env: bool) -> None:
        self._body_limit = body_limit
        self._watchdog: Watchdog[asyncio.Task[object]] = Watchdog(_cancel)
        self._session = new_session(aiohttp.TCPConnector(limit=0), trust_env=trust_env)
        self._reading: set[aiohttp.ClientResponse] = set()

    async def exchange(
        self, request: Request, url: SplitResult, key: PlacedKey, seconds: float
    ) -> Response | TransportError | asyncio.CancelledError:
        """See `Transport.exchange`."""
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] | None = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - every coroutine of ours runs in one
        cancelled_before = task.cancelling()
        self._watchdog.watch(task, loop.time() + seconds, loop)
        attempt = Attempt(url, key)
        try:
            answer = await self._session.request(
                request.method, attempt.url, data=request.body, allow_redirects=False
            )
            self._reading.add(answer)
            try:
                length = answer.content_length
                if length is not None and length <= self._body_limit and ENCODING not in answer.headers:
                    body: bytes | None = await answer.read()
                else:
                    body = await bounded_body(answer, self._body_limit)
            finally:
                self._reading.discard(answer)
        except asyncio.CancelledError as leaving:
            # What was cancelled by somebody else, too, is cancelled, and not late.
            if self._watchdog.forget(task) and task.uncancel() <= cancelled_before:
                return _late(request.path, seconds)
            if self._session.closed and not is_cancelled():
                return Disconnected(f"The connection was closed before {request.path} was answered.")
            leaving.__context__ = leaving.__cause__ = None
            return leaving.with_traceback(None)
        except Exception as failure:  # noqa: BLE001 - whatever aiohttp raises may quote the answer
            if self._watchdog.forget(task):
                task.uncancel()
            return our_error(failure, request.path, f"{url.scheme}://{url.netloc}", seconds)
        finally:
            attempt.end()
            self._watchdog.forget(task)
        if body is None:
            return too_large(request.path, self._body_limit)
        return Response(status=answer.status, headers=answer.headers, body=body)

    async def close(self) -> None:
        """See `Transport.close`."""
        self._watchdog.close()
        await self._session.close()
        # aiohttp ends the connections, and leaves those who read from them waiting.
        for answer in self._reading:
            answer.content.set_exception(aiohttp.ClientConnectionError())


async def bounded_body(answer: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The body, inflated; None if it has more than *limit* bytes. A bomb is noticed as it goes off."""
    length = answer.content_length
    parts, size = [], 0
    try:
        if length is not None and length > limit and ENCODING not in answer.headers:
            return None
        async for part in answer.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > limit:
                return None
        return b"".join(parts)
    finally:
        # After a body read to its end this is nothing; after any other, it ends the connection.
        answer.close()


def too_large(path: str, limit: int) -> BodyTooLarge:
    """What an answer of more than *limit* bytes is."""
    return BodyTooLarge(f"The answer of {path} has more than {limit:,} bytes.")


def _cancel(task: asyncio.Task[object]) -> None:
    task.cancel()


def _late(path: str, seconds: float) -> AttemptTimeout:
    return AttemptTimeout(f"No whole answer of {path} within {seconds:.3g} s.")


def is_cancelled() -> bool:
    """Whether somebody cancelled this task. aiohttp, when closed while it looks up a host's name, cancels the
    look-up, and what waits for it gets a CancelledError that nobody has sent.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def our_error(failure: Exception, path: str, host: str, seconds: float) -> TransportError:  # noqa: PLR0911 - a table
    """Our error for aiohttp's *failure*, the most special kinds first; nothing of its text is kept."""
    match failure:
        case aiohttp.ConnectionTimeoutError():
            return ConnectFailed(f"No connection to {host} within {CONNECT_SECONDS:g} s.")
        case TimeoutError():
            return _late(path, seconds)
        case aiohttp.ClientConnectorCertificateError():
            return ConnectFailed(f"No secure connection to {host}: the server's certificate is not trusted.")
        case aiohttp.ClientConnectorSSLError():
            return ConnectFailed(f"No secure connection to {host}: what listens there does not speak https.")
        case aiohttp.ClientConnectorDNSError():
            return ConnectFailed(f"No connection to {host}: the host's name is not known.")
        case aiohttp.ClientConnectorError():
            return ConnectFailed(f"No connection to {host}: {_reason(failure)}.")
        case aiohttp.ClientPayloadError():
            return BrokenBody(f"The answer of {path} was cut off.")
        case aiohttp.ClientConnectionError() | ConnectionError():
            return Disconnected(f"The connection ended before {path} was answered.")
        case aiohttp.ClientResponseError():
            return BrokenBody(f"The answer of {path} is not HTTP.")
        case _:
            return BrokenBody(f"The answer of {path} could not be read ({type(failure).__name__}).")


def _reason(failure: aiohttp.ClientConnectorError) -> str:
    match failure.os_error:
        case ConnectionRefusedError():
            return "nothing listens there"
        case _:
            return failure.os_error.strerror or type(failure.os_error).__name__
