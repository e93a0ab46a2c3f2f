"""One attempt over aiohttp: bytes out, an answer or an error value in. Nothing else imports aiohttp.

Three rules keep the key in. Only the bytes that leave have it: what watches aiohttp (trace configs,
middlewares, patched sessions, `request_info`) sees the request without. aiohttp's own errors may quote an
answer that repeats the key: they become ours here, by kind, and keep nothing of theirs. And errors are
*returned*, not raised: the frames that hold an answer have ended before anything is raised, so no traceback,
even one with local variables, shows it. A cancellation is returned as well: a report of the caller's timeout
shows its cause. This file is longer than most so that all that could show the key is read in one place.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar
from typing import Any
from urllib.parse import SplitResult

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from yarl import URL

from navtalk_async.errors import (
    AttemptTimeout,
    BodyTooLarge,
    BrokenBody,
    ConnectFailed,
    Disconnected,
    TransportError,
    UnknownHost,
    UntrustedCertificate,
)
from navtalk_async.models import Request, Response
from navtalk_async.wire._bytes_in_flight import Reading
from navtalk_async.wire._inflating import Source, content_of
from navtalk_async.wire.route import Route
from navtalk_async.wire.secret import EchoInChunks, Opaque, PlacedKey, query_of

Failed = TransportError | asyncio.CancelledError
Task = asyncio.Task[object]

SHORT_BYTES = 1 << 16
"""Bodies of up to so many bytes are not counted."""
HEADER_BYTES = 1 << 16
HEADER_LINES = 1024
CONNECT_SECONDS = 10.0
JSON = {"Content-Type": "application/json"}
STREAMED = {
    "Accept": "text/event-stream, application/json",
    # A server that compresses holds small pieces back until there are more.
    "Accept-Encoding": "identity",
}
# By whether there is a body, and whether the answer is streamed.
HEADERS = {
    (False, False): None,
    (True, False): JSON,
    (False, True): STREAMED,
    (True, True): JSON | STREAMED,
}


class StreamedResponse(Response, frozen=True, kw_only=True):
    """A good answer that has begun. Its body is to come, and its reader ends the connection."""

    content: aiohttp.StreamReader
    echo: EchoInChunks | None
    end: Callable[[], None]


class LongAnswer(Opaque, Exception):
    """An answer of which more is to come than is read without counting. It is returned, and never raised."""

    def __init__(self, answer: aiohttp.ClientResponse, content: Source, parts: list[bytes]) -> None:
        self.answer = answer
        self.content = content
        self.parts = parts


class AiohttpTransport:
    """Connections to one API in one event loop. The gate bounds their number."""

    def __init__(self, root: SplitResult, *, body_limit: int, route: Route, traced: bool = True) -> None:
        self._root = root
        self._host = f"{root.scheme}://{root.netloc}"
        self._body_limit = body_limit
        self._short = min(SHORT_BYTES, body_limit)
        # Streams come over fresh connections; aiohttp inflates them.
        self._pooled = _new_session(route, auto_decompress=False)
        self._fresh = _new_session(route, force_close=True)
        # Else aiohttp would ask again by itself, a DELETE too, where the connection ends too soon.
        self._fresh._retry_connection = False  # noqa: SLF001 - there is no public switch
        if not traced:
            # Who instruments aiohttp gives every session trace configs; these requests are traced already.
            self._pooled.trace_configs.clear()
            self._fresh.trace_configs.clear()
        self._watchdog = _Watchdog()
        self._reading: set[aiohttp.ClientResponse] = set()

    async def exchange(
        self,
        request: Request,
        key: PlacedKey,
        seconds: float,
        fresh_connection: bool,  # noqa: FBT001 - by name, they cost more
        streamed: bool,  # noqa: FBT001
    ) -> Response | Failed | LongAnswer:
        """Send *request* with the *key*, and read the whole answer within *seconds*; a 2xx that is *streamed*
        only has to begin within them, and its reader closes it. The rest of a long one is for `read_on`.

        A kept connection may just have been ended by the server, and then it is unknown whether what was sent
        over it arrived. Over a *fresh_connection*, a failure before anything was sent is a
        `ConnectFailed`: what never left never arrived.
        """
        loop = asyncio.get_running_loop()
        task: Task | None = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - every coroutine of ours runs in one
        cancelled_before = task.cancelling()
        root, query = self._root, query_of(request)
        # Encoded already: yarl would turn a quoted slash in a cursor into a slash.
        url = URL.build(
            scheme=root.scheme,
            authority=root.netloc,
            path=root.path + request.path,
            query_string=query,
            encoded=True,
        )
        session = self._fresh if fresh_connection else self._pooled
        self._watchdog.watch(task, loop.time() + seconds, loop)
        attempt = _Attempt(url, key, has_query=bool(query))
        try:
            answer = await session.request(
                request.method,
                url,
                data=request.body,
                headers=HEADERS[request.body is not None, streamed],
                allow_redirects=False,
            )
            if streamed and 200 <= answer.status < 300:
                return self._streamed(answer, key)
            self._reading.add(answer)
            try:
                length = answer.content_length
                if length is None or length > self._short or hdrs.CONTENT_ENCODING in answer.headers:
                    content, parts = content_of(answer), list[bytes]()
                    if await _is_longer(answer, content, self._short, parts):
                        return LongAnswer(answer, content, parts)
                    body = b"".join(parts)
                else:
                    body = await answer.read()
            finally:
                self._reading.discard(answer)
        except asyncio.CancelledError as leaving:
            # A task that was cancelled from elsewhere, too, is cancelled, and not late.
            if self._watchdog.forget(task) and task.uncancel() <= cancelled_before:
                failed: Failed = our_error(TimeoutError(), request.path, self._host, seconds)
            else:
                failed = _cancelled(leaving, session, task, request.path)
        except Exception as failure:  # noqa: BLE001 - whatever aiohttp raises may quote the answer
            if self._watchdog.forget(task):
                task.uncancel()
            failed = our_error(failure, request.path, self._host, seconds)
        else:
            return Response(status=answer.status, headers=answer.headers, body=body)
        finally:
            attempt.end()
            self._watchdog.forget(task)
        return failed if not fresh_connection or attempt.has_left else self._never_left(failed, seconds)

    async def read_on(
        self, begun: LongAnswer, path: str, seconds: float, deadline: float | None, reading: Reading
    ) -> Response | Failed:
        """The whole of an answer that has *begun*, read within *seconds* and its turns for *reading*, which
        end at the *deadline*.
        """
        loop = asyncio.get_running_loop()
        task: Task | None = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - every coroutine of ours runs in one
        cancelled_before = task.cancelling()
        answer, parts, size = begun.answer, begun.parts, sum(map(len, begun.parts))
        # What is inflated, or comes without a length, is counted as it comes.
        length = None if hdrs.CONTENT_ENCODING in answer.headers else answer.content_length
        due = loop.time() + seconds
        self._reading.add(answer)
        self._watchdog.watch(task, due, loop)
        try:
            taken, promised = 0, length or 0
            while max(size, promised) <= self._body_limit:
                if (more := max(size, promised) - taken) > 0:
                    if not reading.has_room(more):
                        due = await self._turn(reading, more, task, due, deadline)
                    reading.add(more)
                    taken += more
                part = await begun.content.readany()
                if not part:
                    return Response(status=answer.status, headers=answer.headers, body=b"".join(parts))
                parts.append(part)
                size += len(part)
        except asyncio.CancelledError as leaving:
            if self._watchdog.forget(task) and task.uncancel() <= cancelled_before:
                return our_error(TimeoutError(), path, self._host, seconds)
            return _cancelled(leaving, self._pooled, task, path)
        except Exception as failure:  # noqa: BLE001 - whatever aiohttp raises may quote the answer
            if self._watchdog.forget(task):
                task.uncancel()
            return our_error(failure, path, self._host, seconds)
        finally:
            self._watchdog.forget(task)
            self._reading.discard(answer)
            # After a body read to its end this is nothing; after any other, it ends the connection.
            answer.close()
        return BodyTooLarge(f"The answer of {path} has more than {self._body_limit:,} bytes.")

    async def _turn(
        self, reading: Reading, count: int, task: Task, due: float, deadline: float | None
    ) -> float:
        """Wait for the room that *reading* needs, which does not count for the time of the attempt; when that
        is over then.
        """
        loop = asyncio.get_running_loop()
        left = due - loop.time()
        self._watchdog.forget(task)
        if deadline is not None:
            self._watchdog.watch(task, deadline, loop)
        await reading.room(count)
        due = loop.time() + left
        self._watchdog.watch(task, due if deadline is None else min(due, deadline), loop)
        return due

    async def close(self) -> None:
        """End every connection, also those in use."""
        self._watchdog.close()
        await self._fresh.close()
        await self._pooled.close()
        # aiohttp ends the connections, and leaves those who read from them waiting.
        for answer in self._reading:
            answer.content.set_exception(aiohttp.ClientConnectionError())

    def _streamed(self, answer: aiohttp.ClientResponse, key: PlacedKey) -> StreamedResponse:
        def end() -> None:
            self._reading.discard(answer)
            answer.close()

        self._reading.add(answer)
        return StreamedResponse(
            status=answer.status,
            headers=answer.headers,
            body=b"",
            content=answer.content,
            echo=key.echo.in_chunks(),
            end=end,
        )

    def _never_left(self, failed: Failed, seconds: float) -> Failed:
        """*failed*, where nothing of the request had been sent."""
        if isinstance(failed, asyncio.CancelledError | ConnectFailed):
            return failed
        how_long = f" within {seconds:.3g} s" if isinstance(failed, AttemptTimeout) else ""
        return ConnectFailed(f"No connection to {self._host}{how_long}.")


def _cancelled(
    leaving: asyncio.CancelledError, session: aiohttp.ClientSession, task: Task, path: str
) -> Failed:
    if session.closed and not task.cancelling():
        # aiohttp, when closed while it looks up a host's name, cancels the look-up, and what waits for it
        # gets a CancelledError that no `cancel` caused.
        return Disconnected(f"The connection was closed before {path} was answered.")
    leaving.__context__ = leaving.__cause__ = None
    return leaving.with_traceback(None)


def _new_session(
    route: Route, *, force_close: bool = False, auto_decompress: bool = True
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, force_close=force_close, ssl=True if route.trusted is None else route.trusted
        ),
        auto_decompress=auto_decompress,
        proxy=route.proxy,
        # A load balancer's cookie would pin all our traffic to one machine behind it.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=route.trust_env,
        request_class=_KeyedRequest,
        response_class=_UnquotedResponse,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        # As much as proxies pass on: policies, cookies and traces fill many lines.
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
        max_headers=HEADER_LINES,
    )


async def _is_longer(answer: aiohttp.ClientResponse, content: Source, most: int, parts: list[bytes]) -> bool:
    """Read *parts* of a body; whether it has more than *most* bytes. A bomb is noticed as it goes off."""
    size, length = 0, answer.content_length
    if length is not None and length > most:
        return True
    try:
        while part := await content.readany():
            parts.append(part)
            size += len(part)
            if size > most:
                return True
    except BaseException:
        answer.close()
        raise
    return False


class _Watchdog:
    """Cancels tasks whose time is up.

    A timer for every attempt costs a tenth of the attempt, and nearly all are cancelled unused. Here an
    attempt is an entry in a dictionary, and the only timer looks through all when the first may be due.
    """

    def __init__(self) -> None:
        self._due: dict[Task, float] = {}
        self._ended: set[Task] = set()
        self._looks_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, task: Task, due: float, loop: asyncio.AbstractEventLoop) -> None:
        """Cancel *task* at the time *due* of the *loop*, unless `forget` comes first."""
        self._due[task] = due
        if due < self._looks_at:
            self._look_at(due, loop)

    def forget(self, task: Task) -> bool:
        """Watch *task* no longer; whether its time was up, and it was cancelled for that."""
        if self._due.pop(task, None) is not None or task not in self._ended:
            return False
        self._ended.discard(task)
        return True

    def close(self) -> None:
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look_at(self, when: float, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = when
        self._timer = loop.call_at(when, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # A loop calls a timer that is due within its clock's resolution.
        due_by = max(self._looks_at, loop.time())
        self._timer, self._looks_at = None, math.inf
        for task in [task for task, due in self._due.items() if due <= due_by]:
            del self._due[task]
            self._ended.add(task)
            task.cancel()
        if self._due:
            self._look_at(min(self._due.values()), loop)


# The key --------------------------------------------------------------------------------------------------


class _Attempt:
    """An attempt to send a request, until its `end`. The request that aiohttp makes finds it, and the key."""

    __slots__ = ("_outer", "has_left", "has_query", "key", "url")

    def __init__(self, url: URL, key: PlacedKey, *, has_query: bool) -> None:
        self.url = url
        self.key: PlacedKey | None = key
        self.has_query = has_query
        self.has_left = False  # whether anything of the request may have left
        # An attempt under way, a hook of which asks something by itself.
        outer = ATTEMPT.get()
        self._outer = outer if outer is not None and outer.key is not None else None
        ATTEMPT.set(self)

    def end(self) -> None:
        """Forget the key: contexts and handles of the event loop may keep an attempt for longer."""
        self.key = None
        if self._outer is not None:
            ATTEMPT.set(self._outer)
            self._outer = None


ATTEMPT: ContextVar[_Attempt | None] = ContextVar("navtalk_async.attempt", default=None)


class _KeyingTransport:
    """The transport of a connection, that adds the key to the head of each request."""

    __slots__ = ("_transport", "attempt", "is_closing", "resume_reading")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # Both are called for every answer.
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.resume_reading: Callable[[], None] = transport.resume_reading
        self.attempt: _Attempt | None = None  # the attempt whose head is written next

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, chunk: bytes | memoryview) -> None:
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            if attempt.key is None:
                raise ConnectionResetError("The attempt is over.")
            attempt.has_left = True
            chunk = attempt.key.added(bytes(chunk), has_query=attempt.has_query)
        self._transport.write(chunk)

    def writelines(self, chunks: Iterable[bytes]) -> None:
        head, *others = chunks
        self.write(head)
        self._transport.writelines(others)


class _KeyedRequest(aiohttp.ClientRequest):
    """A request that gets its key as it leaves."""

    DEFAULT_HEADERS = {  # noqa: RUF012 - aiohttp's
        hdrs.USER_AGENT: "navtalk-async (https://pypi.org/project/navtalk-async/)",
        **aiohttp.ClientRequest.DEFAULT_HEADERS,
        hdrs.ACCEPT: "application/json",
        hdrs.ACCEPT_ENCODING: "gzip, deflate",
    }

    def send(self, conn: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        attempt = ATTEMPT.get()
        if attempt is None or (self.url is not attempt.url and self.url.origin() != attempt.url.origin()):
            raise aiohttp.ClientConnectionError("This is not the request that was to be sent.")
        protocol: Any = conn.protocol
        # A connection that was lost meanwhile has no transport any more.
        if type(protocol.transport) is not _KeyingTransport and protocol.transport is not None:
            protocol.transport = _KeyingTransport(protocol.transport)
        if protocol.transport is not None:
            protocol.transport.attempt = attempt
        return super().send(conn)

    def update_auth(self, auth: object, trust_env: bool = False) -> None:  # noqa: FBT001, FBT002 - aiohttp's
        """Leave out what a `.netrc` says: the key says who asks."""


class _UnquotedResponse(aiohttp.ClientResponse):
    """An answer; one that is not HTTP is not quoted in the error, which hooks see: it may repeat the key."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        try:
            return await super().start(connection)
        except aiohttp.ClientResponseError:
            pass
        # Out of the handler: the other one would be its context.
        raise aiohttp.ClientResponseError(self.request_info, (), message="The answer is not HTTP.")


# Errors ---------------------------------------------------------------------------------------------------


LATE = "No whole answer of {path} within {seconds:.3g} s."
ENDED = "The connection ended before {path} was answered."
UNTRUSTED = "No secure connection to {host}: the server's certificate is not trusted."
NOT_HTTPS = "No secure connection to {host}: what listens there does not speak https."
NO_NAME = "No connection to {host}: the host's name is not known."

# What each kind of aiohttp's errors is for us, the most special kinds first.
ERRORS: tuple[tuple[type[Exception], type[TransportError], str], ...] = (
    (
        aiohttp.ConnectionTimeoutError,
        ConnectFailed,
        f"No connection to {{host}} within {CONNECT_SECONDS:g} s.",
    ),
    (TimeoutError, AttemptTimeout, LATE),
    (aiohttp.ClientConnectorCertificateError, UntrustedCertificate, UNTRUSTED),
    (aiohttp.ClientConnectorSSLError, ConnectFailed, NOT_HTTPS),
    (aiohttp.ClientConnectorDNSError, UnknownHost, NO_NAME),
    (aiohttp.ClientConnectorError, ConnectFailed, "No connection to {host}: {reason}."),
    (aiohttp.ClientPayloadError, BrokenBody, "The answer of {path} was cut off."),
    (aiohttp.ClientConnectionError, Disconnected, ENDED),
    (ConnectionError, Disconnected, ENDED),
    (aiohttp.ClientResponseError, BrokenBody, "The answer of {path} is not HTTP."),
    (Exception, BrokenBody, "The answer of {path} could not be read ({reason})."),
)


def our_error(failure: Exception, path: str, host: str, seconds: float) -> TransportError:
    """Our error for aiohttp's *failure*; nothing of its text is kept."""
    cause = getattr(failure, "os_error", failure)
    reason = getattr(cause, "strerror", None) or type(cause).__name__
    if isinstance(cause, ConnectionRefusedError):
        reason = "nothing listens there"
    error, text = next((error, text) for kind, error, text in ERRORS if isinstance(failure, kind))
    return error(text.format(path=path, host=host, seconds=seconds, reason=reason))
