"""The address where Prometheus reads a worker's figures, served by the worker's own event loop."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import click
from aiohttp import web

__all__ = ["Endpoint", "served"]

logger = logging.getLogger("navtalk_async")

# aiohttp logs every malformed request with its traceback: anybody who reaches the port could fill the log.
silent = logging.getLogger("navtalk_async.metrics")
silent.setLevel(logging.CRITICAL + 1)

MOST_CONNECTIONS = 64
CONNECTION_SECONDS = 5.0
SHUTDOWN_SECONDS = 1.0
MOST_HEADERS = 32
LONGEST_HEADER = 4096


class Endpoint(web.Server):
    """A web server for `/metrics`, bounded so that no client can hold up the worker or fill its memory.

    There are at most *connections* at once; one more ends the oldest. Each gets one answer and ends after
    *seconds* at the latest. *read* returns the figures; an error that it raises is answered with 500.
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        content_type: str,
        *,
        connections: int = MOST_CONNECTIONS,
        seconds: float = CONNECTION_SECONDS,
    ) -> None:
        super().__init__(
            self._answer,
            access_log=None,
            logger=silent,
            max_headers=MOST_HEADERS,
            max_line_size=LONGEST_HEADER,
            max_field_size=LONGEST_HEADER,
        )
        self._read = read
        self._content_type = content_type
        self._most = connections
        self._seconds = seconds
        self._open: dict[web.RequestHandler, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """End the oldest connection if there are too many, and this one when its time is over."""
        super().connection_made(handler, transport)
        if len(self._open) >= self._most:
            self._abort(next(iter(self._open)))
        timer = asyncio.get_running_loop().call_later(self._seconds, self._abort, handler)
        self._open[handler] = transport, timer

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection that has ended."""
        super().connection_lost(handler, exc)
        self._abort(handler)

    def _abort(self, handler: web.RequestHandler) -> None:
        transport, timer = self._open.pop(handler, (None, None))
        if transport is not None and timer is not None:
            timer.cancel()
            # Not `close`, which waits until a peer that reads nothing has read everything.
            transport.abort()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path != "/metrics":
            response = web.Response(status=404, text="The metrics are at /metrics.\n")
        elif request.method != "GET":
            response = web.Response(status=405, headers={"Allow": "GET"}, text="Only GET is allowed.\n")
        else:
            response = self._figures()
        response.force_close()
        return response

    def _figures(self) -> web.Response:
        try:
            return web.Response(body=self._read(), headers={"Content-Type": self._content_type})
        except Exception as error:  # noqa: BLE001 - the worker goes on, whatever its figures do
            logger.info("The metrics could not be read: %s: %s", type(error).__name__, error)
            return web.Response(status=500, text="The metrics could not be read.\n")


@asynccontextmanager
async def served(endpoint: Endpoint, host: str, port: int) -> AsyncGenerator[str, None]:
    """An `async with` in which *endpoint* answers, as its URL.

    Raises:
        click.UsageError: there is no such address, or it is in use.
    """
    try:
        server = await asyncio.get_running_loop().create_server(endpoint, host, port)
    except (OSError, ValueError) as failure:
        raise click.UsageError(
            f"Metrics cannot be served at {_address(host, port)}: {_reason(failure)}. Give another "
            "--metrics-port or --metrics-host; the default host is 127.0.0.1, for this machine only."
        ) from None
    try:
        yield f"http://{_address(*server.sockets[0].getsockname()[:2])}/metrics"
    finally:
        server.close()
        endpoint.pre_shutdown()
        await endpoint.shutdown(SHUTDOWN_SECONDS)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(failure: OSError | ValueError) -> str:
    """Why an address cannot be used; the event loops put words of their own around the system's."""
    if isinstance(failure, socket.gaierror):
        return str(failure.strerror)
    if isinstance(failure, OSError) and failure.errno:
        return os.strerror(failure.errno)
    return "not a host name"
