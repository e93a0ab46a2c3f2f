"""One attempt over wreq, an HTTP client in Rust: the transport of `engine="fast"`. The only code that imports
wreq, which the extra `fast` installs.

The engine gets the URL with the key in it; nothing watches what it does. The rules are those of `transport`:
no error of the engine's survives, since it quotes the URL; and errors are returned. The engine does its work
in a thread of its own, one for each transport, which ends with the last of it that anybody holds.
"""

import asyncio
import ssl
import types
import warnings
from collections.abc import Coroutine, Generator, Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult

import wreq
from wreq import exceptions as theirs
from wreq.redirect import Policy
from wreq.runtime import Runtime
from wreq.tls import CertStore

from navtalk_async.errors import (
    AttemptTimeout,
    BodyTooLarge,
    BrokenBody,
    ConnectFailed,
    Disconnected,
    TransportError,
)
from navtalk_async.models import Request, Response
from navtalk_async.wire.key import PlacedKey
from navtalk_async.wire.transport import CONNECT_SECONDS, USER_AGENT, Transport, is_cancelled

__all__ = ["FastTransport"]

Call = Coroutine[Any, Any, Any]
"""What the engine gives to be awaited."""


class FastTransport(Transport):
    """A connection pool of wreq. The gate bounds how many requests there are, so the pool does not."""

    def __init__(self, *, body_limit: int, trust_env: bool) -> None:
        self._body_limit = body_limit
        self._timeout = timedelta()
        self._awaited: set[asyncio.Future[Any]] = set()
        self._client: wreq.Client | None = wreq.Client(
            runtime=Runtime(workers=1, work_steal=False, thread_name="navtalk-async"),
            user_agent=USER_AGENT,
            headers={"Accept": "application/json"},
            connect_timeout=timedelta(seconds=CONNECT_SECONDS),
            redirect=Policy.none(),
            # What aiohttp reads without further packages.
            gzip=True,
            deflate=True,
            brotli=False,
            zstd=False,
            http1_only=True,
            dns_options=wreq.DnsOptions(system_dns=True),
            no_proxy=not trust_env,
            tls_verify=TRUSTED,
        )

    def __del__(self) -> None:
        if vars(self).get("_client") is not None:
            warnings.warn(f"Unclosed {type(self).__name__}.", ResourceWarning, source=self, stacklevel=2)

    async def exchange(
        self, request: Request, url: SplitResult, key: PlacedKey, seconds: float
    ) -> Response | TransportError | asyncio.CancelledError:
        """See `Transport.exchange`."""
        client = self._client
        if client is None:
            return _closed(request.path)
        host = f"{url.scheme}://{url.netloc}"
        try:
            answer = await self._closable(self._call(client, request, url, key, seconds))
            body = await self._whole_body(answer)
        except asyncio.CancelledError as leaving:
            if self._client is None and not is_cancelled():
                return _closed(request.path)
            leaving.__context__ = leaving.__cause__ = None
            return leaving.with_traceback(None)
        except Exception as failure:  # noqa: BLE001 - whatever wreq raises may hold the URL
            return _ours(failure, request.path, host, seconds)
        if body is None:
            return BodyTooLarge(f"The answer of {request.path} has more than {self._body_limit:,} bytes.")
        return Response(status=answer.status.as_int(), headers=Headers(answer.headers), body=body)

    def _call(
        self, client: wreq.Client, request: Request, url: SplitResult, key: PlacedKey, seconds: float
    ) -> Call:
        # Nothing in a frame names what holds the key.
        options: dict[str, Any] = {} if request.body is None else {"body": request.body}
        method = getattr(wreq.Method, request.method)
        return client.request(
            method, key.url(url), headers=key.headers(), timeout=self._within(seconds), **options
        )

    async def close(self) -> None:
        """See `Transport.close`."""
        # Nobody else holds it: with it, its idle connections and its thread end.
        self._client = None
        for future in list(self._awaited):
            future.cancel()

    @types.coroutine
    def _closable(self, call: Call) -> Generator[Any, Any, Any]:
        """Await *call*, which `close` may end at any moment; whoever is cancelled here gives it up."""
        try:
            while True:
                future = call.send(None)
                if self._client is None:
                    raise asyncio.CancelledError
                # Without a future, more has come just now: it wants to be asked again in the next turn.
                if future is not None:
                    self._awaited.add(future)
                try:
                    yield future
                finally:
                    self._awaited.discard(future)
        except StopIteration as done:
            return done.value
        finally:
            # Nothing after it came to its end; before that, this ends its connection.
            call.close()

    def _within(self, seconds: float) -> timedelta:
        # Nearly every attempt may take the same time: its object is made once.
        if seconds != self._timeout.total_seconds():
            self._timeout = timedelta(seconds=seconds)
        return self._timeout

    async def _whole_body(self, answer: wreq.Response) -> bytes | None:
        """The body, inflated; None if it is larger than we hold. A bomb is noticed as it goes off."""
        # Of a compressed body, the engine says that it does not know how long it will be.
        length = answer.content_length
        if length is not None and length <= self._body_limit:
            return bytes(await self._closable(answer.bytes()))
        parts, size = [], 0
        stream = answer.stream()
        try:
            while size <= self._body_limit:
                part = await self._closable(stream.__anext__())
                if isinstance(part, memoryview):
                    parts.append(part)
                    size += len(part)
        except StopAsyncIteration:
            return b"".join(parts)
        finally:
            await stream.__aexit__(None, None, None)
        return None


class Headers(Mapping[str, str]):
    """An answer's headers, of several with the same name the first; looked up without regard to case."""

    def __init__(self, theirs: wreq.HeaderMap) -> None:
        self._theirs = theirs

    def __getitem__(self, name: str) -> str:
        value = self._theirs[name]
        if value is None:
            raise KeyError(name)
        return str(value, "utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(str(name, "ascii") for name, _ in self._theirs))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _trusted() -> CertStore:
    """The certificates that Python's own `ssl` trusts, `SSL_CERT_FILE` and `SSL_CERT_DIR` included."""
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)
    # Those of a folder are not loaded by `ssl` before they are needed: these the engine finds itself.
    return CertStore(der_certs=loaded, default_paths=True)


TRUSTED = _trusted()
"""Read once, when this is imported, as aiohttp does: it takes longer than a loop should be kept waiting."""


def _closed(path: str) -> Disconnected:
    return Disconnected(f"The connection was closed before {path} was answered.")


def _ours(failure: Exception, path: str, host: str, seconds: float) -> TransportError:  # noqa: PLR0911 - a table
    """Our error for wreq's *failure*; nothing of its text is kept."""
    # The text is looked into where the class alone does not tell; without what is looked for, the error
    # is of the same class of ours, and says less.
    said = str(failure)
    match failure:
        case theirs.TimeoutError():
            return AttemptTimeout(f"No whole answer of {path} within {seconds:.3g} s.")
        case theirs.BodyError() | theirs.DecodingError() if "TimedOut" in said:
            return AttemptTimeout(f"No whole answer of {path} within {seconds:.3g} s.")
        case theirs.ConnectionError() | theirs.ProxyConnectionError() | theirs.TlsError():
            return ConnectFailed(f"No {_reason(said, host)}.")
        case theirs.BodyError() | theirs.DecodingError():
            return BrokenBody(f"The answer of {path} was cut off.")
        case theirs.RequestError() if "Parse(" in said:
            return BrokenBody(f"The answer of {path} is not HTTP.")
        case theirs.ConnectionResetError() | theirs.RequestError():
            return Disconnected(f"The connection ended before {path} was answered.")
        case _:
            return BrokenBody(f"The answer of {path} could not be read ({type(failure).__name__}).")


def _reason(said: str, host: str) -> str:
    if "TimedOut" in said:
        return f"connection to {host} within {CONNECT_SECONDS:g} s"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return f"secure connection to {host}: the server's certificate is not trusted"
    if "SSL" in said or "Tls" in said:
        return f"secure connection to {host}: what listens there does not speak https"
    if "dns error" in said:
        return f"connection to {host}: the host's name is not known"
    if "ConnectionRefused" in said:
        return f"connection to {host}: nothing listens there"
    return f"connection to {host}"
