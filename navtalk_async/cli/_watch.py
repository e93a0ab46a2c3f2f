"""`navtalk sync STORE --watch`: a worker that reports each round, renews its key, and serves metrics."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec
from anyio import to_thread
from msgspec.structs import asdict

from navtalk_async.cli._inspect import news_text
from navtalk_async.cli._key import end_commands
from navtalk_async.cli._options import Place
from navtalk_async.cli._progress import RunMonitor, repeated
from navtalk_async.cli._settings import Settings
from navtalk_async.cli.app import Exit, exit_code
from navtalk_async.errors import NavTalkError, StoreError, StoreLocked, counted
from navtalk_async.events import Stats
from navtalk_async.formats import refuse_emptied
from navtalk_async.ingest import Health, Progress, RoundResult, watch

if TYPE_CHECKING:
    from navtalk_async.metrics import Metrics

NO_METRICS = "metrics need prometheus-client: pip install 'navtalk-async[metrics]'"

LONG_ROUND_SECONDS = 30.0
"""Progress of a longer round is reported while it runs."""


async def keep_watch(
    settings: Settings, place: Place, every: float, metrics_host: str, metrics_port: int | None
) -> NoReturn:
    """Rounds for ever, reported on stderr and to Prometheus, until an error ends them that will not pass."""
    monitor, reporter, mode = RunMonitor(Progress()), settings.reporter, settings.progress
    if isinstance(place, Path):
        await to_thread.run_sync(refuse_emptied, place)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(settings.client(monitor, key_renewed=True))
        monitor.stats = client.stats
        settings.scope(client)
        options = settings.sync_options
        rounds = await stack.enter_async_context(watch(client, place, every=every, **options))
        metrics: Metrics | None = None
        if metrics_port is not None:
            metrics = _metrics(client.stats)
            read, kind = (None, "") if metrics is None else (metrics.text, metrics.content_type)
            serving = served(read, kind, metrics_host, metrics_port, health=rounds.health)
            url = await stack.enter_async_context(serving)
            if mode != "none":
                missing = f" ({NO_METRICS})" if metrics is None else ""
                reporter.note(f"Metrics: {url}{missing}")

        def report_long() -> None:
            if mode not in ("none", "json"):
                monitor.progress = rounds.progress
                reporter.note(str(monitor.snapshot()))

        await stack.enter_async_context(repeated(LONG_ROUND_SECONDS, report_long, at_end=False))
        async for result in rounds:
            if metrics is not None:
                if rounds.archive is not None and result.error is None:
                    # The next round meets an archive that does not work, too.
                    with suppress(StoreError):
                        metrics.set_kept(await rounds.archive.counts(settings.project))
                metrics.count(result)
            await _report(settings, result)
    raise AssertionError("A watch has no last round.")


def _metrics(stats: Callable[[], Stats]) -> "Metrics | None":
    if not find_spec("prometheus_client"):
        return None
    from navtalk_async.metrics import Metrics  # noqa: PLC0415 - see above

    return Metrics(stats, rounds=True)


async def _report(settings: Settings, result: RoundResult) -> None:
    if settings.progress == "json":
        settings.reporter.event("round", **round_facts(result))
    elif result.error is not None or settings.progress != "none":
        settings.reporter.note(round_line(result))
    if result.error is not None and exit_code(result.error) is Exit.KEY_REFUSED:
        try:
            await to_thread.run_sync(settings.key.renew, abandon_on_cancel=True)
        except click.UsageError as refusal:
            settings.reporter.note(f"Still using the earlier key: {refusal.message}")
        finally:
            end_commands()


def round_line(result: RoundResult) -> str:
    report = result.report
    if isinstance(result.error, StoreLocked):
        return f"{result.error.args[0]} Standing by, to take over when it ends."
    if report is None:
        often = f" ({result.failures_in_a_row} in a row)" if result.failures_in_a_row > 1 else ""
        retrying = f"Trying again in {result.pause:.0f} s."
        return f"Round {result.number:,} failed{often}: {error_text(result.error)} {retrying}"
    failed = f", {counted(report.failed, 'session')} failed" if report.failed else ""
    if report.skipped_rows:
        failed += f", {counted(report.skipped_rows, 'row')} skipped that cannot be read"
    return (
        f"Round {result.number:,}: {news_text(report)}, {counted(report.messages_inserted, 'new message')}"
        f"{failed}, in {result.seconds:.1f} s; the next in {result.pause:.0f} s."
    )


def error_text(error: NavTalkError | None) -> str:
    """What went wrong, without the next step."""
    return "" if error is None else f"{type(error).__name__}: {error.args[0]}"


def round_facts(result: RoundResult) -> dict[str, object]:
    facts: dict[str, object] = {"round": result.number, "next_in_seconds": round(result.pause, 1)}
    if isinstance(result.error, StoreLocked):
        return {"round": result.number, "outcome": "standing_by", "error": error_text(result.error)}
    if result.report is None:
        failed = {"error": error_text(result.error), "in_a_row": result.failures_in_a_row}
        return facts | {"outcome": "failed", **failed}
    return asdict(result.report) | facts | {"outcome": "done", "seconds": round(result.seconds, 3)}


logger = logging.getLogger("navtalk_async")

MOST_CONNECTIONS = 64
CONNECTION_SECONDS = 5.0
LONGEST_HEAD = 16_384


@asynccontextmanager
async def served(
    read: Callable[[], bytes] | None,
    content_type: str,
    host: str,
    port: int,
    *,
    health: Callable[[], Health] | None = None,
    connections: int = MOST_CONNECTIONS,
    seconds: float = CONNECTION_SECONDS,
) -> AsyncGenerator[str, None]:
    """An `async with` in which `/metrics` answers with what *read* returns, as its URL; and `/healthz` with
    *health* as JSON, with the status 503 where it is not healthy.

    It is bounded, so that no client can hold up the worker or fill its memory: there are at most so many
    *connections* at once, and one more ends the oldest; each gets one answer and ends after *seconds* at the
    latest. An address that cannot be used is a `click.UsageError`.
    """
    open_now: dict[asyncio.StreamWriter, None] = {}
    pages: dict[bytes, Page] = {b"/metrics": partial(_metrics_page, read, content_type)}
    if health is not None:
        pages[b"/healthz"] = partial(_health_page, health)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(open_now) >= connections:
            oldest = next(iter(open_now))
            del open_now[oldest]
            # Not `close`, which waits until a peer that reads nothing has read everything.
            oldest.transport.abort()
        open_now[writer] = None
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError):
                async with asyncio.timeout(seconds):
                    writer.write(_answer(await reader.readuntil(b"\r\n\r\n"), pages))
                    writer.close()
                    await writer.wait_closed()
        finally:
            open_now.pop(writer, None)
            writer.transport.abort()

    try:
        server = await asyncio.start_server(serve, host, port, limit=LONGEST_HEAD)
    except (OSError, ValueError) as failure:
        raise click.UsageError(
            f"Metrics cannot be served at {_address(host, port)}: {_reason(failure)}. Give another "
            "--metrics-port or --metrics-host; the default host is 127.0.0.1, for this machine only."
        ) from None
    try:
        yield f"http://{_address(*server.sockets[0].getsockname()[:2])}/metrics"
    finally:
        server.close()
        for writer in list(open_now):
            writer.transport.abort()


Page = Callable[[], tuple[str, str, bytes]]
"""Returns a status, the type of the content, and the content."""


def _metrics_page(read: Callable[[], bytes] | None, content_type: str) -> tuple[str, str, bytes]:
    if read is None:
        return "501 Not Implemented", "text/plain", f"{NO_METRICS}\n".encode()
    return "200 OK", content_type, read()


def _health_page(health: Callable[[], Health]) -> tuple[str, str, bytes]:
    found = health()
    status = "200 OK" if found.healthy else "503 Service Unavailable"
    return status, "application/json", msgspec.json.encode(found) + b"\n"


def _answer(head: bytes, pages: Mapping[bytes, Page]) -> bytes:
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    status, headers, body = "404 Not Found", "Content-Type: text/plain", b"The metrics are at /metrics.\n"
    if path in pages and method != b"GET":
        status, headers, body = "405 Method Not Allowed", "Allow: GET", b""
    elif path in pages:
        try:
            status, kind, body = pages[path]()
            headers = f"Content-Type: {kind}"
        except Exception as error:  # noqa: BLE001 - the worker continues, whatever its figures do
            logger.info("The metrics could not be read: %s: %s", type(error).__name__, error)
            status, body = "500 Internal Server Error", b"The metrics could not be read.\n"
    lines = f"HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return lines.encode() + body


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(failure: OSError | ValueError) -> str:
    """Why an address cannot be used; the event loops add words of their own to the system's."""
    if isinstance(failure, socket.gaierror):
        return str(failure.strerror)
    if isinstance(failure, OSError) and failure.errno:
        return os.strerror(failure.errno)
    return "not a host name"
