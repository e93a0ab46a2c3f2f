"""`navtalk sync STORE --watch`: a worker that reports each round, renews its key, and serves metrics."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import time
from typing import Any, NoReturn

import click
from anyio import to_thread

from navtalk_async.archive.records import ProjectCounts
from navtalk_async.cli._options import Place
from navtalk_async.cli._progress import RunMonitor, repeated
from navtalk_async.cli._settings import Settings
from navtalk_async.cli._status import news_text
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError, counted
from navtalk_async.events import Stats
from navtalk_async.ingest import RoundResult, Rounds, watch

LONG_ROUND_SECONDS = 30.0
"""Progress of a longer round is reported while it runs."""


class WatchCommand:
    """Rounds for ever, reported on stderr and to Prometheus."""

    def __init__(self, settings: Settings, place: Place, every: float) -> None:
        self._settings = settings
        self._place = place
        self._every = every
        self._monitor = RunMonitor()
        self._metrics: Metrics | None = None
        self._client: Client
        self._rounds: Rounds

    async def work(self, metrics_host: str, metrics_port: int | None) -> NoReturn:
        """Run until it is cancelled, or an error ends it that will not pass by itself."""
        settings = self._settings
        async with settings.client(self._monitor, key_renewed=True) as self._client:
            self._monitor.stats = self._client.stats
            settings.scope(self._client)
            async with (
                watch(self._client, self._place, every=self._every, **settings.sync_options) as self._rounds,
                self._metrics_served(metrics_host, metrics_port),
                repeated(LONG_ROUND_SECONDS, self._report_long, at_end=False),
            ):
                async for result in self._rounds:
                    await self._ended(result)
        raise AssertionError("A watch has no last round.")

    @asynccontextmanager
    async def _metrics_served(self, host: str, port: int | None) -> AsyncGenerator[None, None]:
        if port is None:
            yield
            return
        self._metrics = Metrics(self._client.stats)
        async with served(self._metrics.text, self._metrics.content_type, host, port) as url:
            if self._settings.progress != "none":
                self._settings.reporter.note(f"Metrics: {url}")
            yield

    async def _renew_key(self) -> None:
        try:
            await to_thread.run_sync(self._settings.key.renew)
        except click.UsageError as refusal:
            self._settings.reporter.note(f"Still using the earlier key: {refusal.message}")

    async def _ended(self, result: RoundResult) -> None:
        if self._metrics is not None:
            if self._rounds.archive is not None and result.error is None:
                self._metrics.set_kept(await self._rounds.archive.counts(self._settings.project))
            self._metrics.count(result)
        reporter, mode = self._settings.reporter, self._settings.progress
        if mode == "json":
            reporter.event("round", **round_facts(result))
        elif result.error is not None or mode != "none":
            reporter.note(round_line(result))
        if result.error is not None:
            await self._renew_key()

    def _report_long(self) -> None:
        if self._settings.progress not in ("none", "json"):
            self._monitor.progress = self._rounds.progress
            self._settings.reporter.note(str(self._monitor.snapshot()))


def round_line(result: RoundResult) -> str:
    report = result.report
    if report is None:
        in_a_row = result.failures_in_a_row
        often = f", the {ordinal(in_a_row)} time in a row" if in_a_row > 1 else ""
        again = f"Trying again in {result.pause:.0f} s."
        return f"Round {result.number:,} failed{often}: {error_text(result.error)} {again}"
    failed = f", {counted(report.failed, 'session')} failed" if report.failed else ""
    return (
        f"Round {result.number:,}: {news_text(report)}, {counted(report.messages_inserted, 'new message')}"
        f"{failed}, in {result.seconds:.1f} s; the next in {result.pause:.0f} s."
    )


def error_text(error: NavTalkError | None) -> str:
    """What went wrong, without the next step."""
    return "" if error is None else f"{type(error).__name__}: {error.args[0]}"


NEWS = ("inserted", "changed", "same", "vanished")

ROUND_FACTS = (*NEWS, *(f"messages_{name}" for name in NEWS), "failed")


def round_facts(result: RoundResult) -> dict[str, object]:
    facts: dict[str, object] = {"round": result.number, "next_in_seconds": round(result.pause, 1)}
    if result.report is None:
        failed = {"error": error_text(result.error), "in_a_row": result.failures_in_a_row}
        return facts | {"outcome": "failed", **failed}
    known = {name: getattr(result.report, name) for name in ROUND_FACTS}
    return facts | {"outcome": "done", "seconds": round(result.seconds, 3)} | known


def ordinal(number: int) -> str:
    """*number* as people count: 2nd, 3rd, 11th."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


KEPT = ("sessions", "messages", "deleted", "pending", "failed", "watched")

WIRE = {
    "requests": "Requests sent, repeated ones included.",
    "retries": "Requests beyond each call's first.",
    "refused": "Answers that said the server has too much to do.",
}


class Metrics:
    """The figures of one worker; *stats* are read for each scrape."""

    def __init__(self, stats: Callable[[], Stats]) -> None:
        try:
            # Imported here, since it may not be installed.
            import prometheus_client as prometheus  # noqa: PLC0415
        except ImportError:
            raise click.UsageError(
                "--metrics-port needs prometheus-client: pip install 'navtalk-async[metrics]'"
            ) from None
        self._stats = stats
        registry: Any = prometheus.CollectorRegistry()
        registry.register(self)
        self.text: Callable[[], bytes] = partial(prometheus.generate_latest, registry)
        self.content_type = prometheus.CONTENT_TYPE_LATEST
        counter = partial(prometheus.Counter, registry=registry)
        gauge = partial(prometheus.Gauge, registry=registry)
        self._rounds = counter("navtalk_rounds", "Rounds, by how they ended.", ["outcome"])
        self._sessions = counter(
            "navtalk_sessions", "Sessions that rounds compared, by the result.", ["news"]
        )
        self._messages = counter("navtalk_messages", "Messages that rounds read, by the result.", ["news"])
        self._kept = gauge("navtalk_kept", "What the archive holds.", ["what"])
        self._seconds = gauge("navtalk_round_seconds", "How long the latest good round took.")
        self._succeeded_at = gauge(
            "navtalk_last_success_timestamp_seconds", "When the latest good round ended."
        )
        self._in_a_row = gauge("navtalk_failures_in_a_row", "Rounds that failed since the latest good one.")
        for outcome in ("done", "failed"):
            self._rounds.labels(outcome)

    def count(self, result: RoundResult) -> None:
        report = result.report
        self._rounds.labels("failed" if report is None else "done").inc()
        self._in_a_row.set(result.failures_in_a_row)
        if report is None:
            return
        self._seconds.set(result.seconds)
        self._succeeded_at.set(time())
        for news in NEWS:
            self._sessions.labels(news).inc(getattr(report, news))
            self._messages.labels(news).inc(getattr(report, f"messages_{news}"))

    def set_kept(self, counts: ProjectCounts) -> None:
        for what in KEPT:
            self._kept.labels(what).set(getattr(counts, what))

    def collect(self) -> Iterator[Any]:
        """The figures of the wire, as they are now (the protocol of prometheus-client's collectors)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        stats = self._stats()
        for name, text in WIRE.items():
            yield CounterMetricFamily(f"navtalk_{name}", text, value=getattr(stats, name))
        yield GaugeMetricFamily("navtalk_in_flight", "Requests in flight.", value=stats.in_flight)
        yield GaugeMetricFamily("navtalk_waiting", "Calls that wait for their turn.", value=stats.waiting)


logger = logging.getLogger("navtalk_async")

MOST_CONNECTIONS = 64
CONNECTION_SECONDS = 5.0
LONGEST_HEAD = 16_384


@asynccontextmanager
async def served(
    read: Callable[[], bytes],
    content_type: str,
    host: str,
    port: int,
    *,
    connections: int = MOST_CONNECTIONS,
    seconds: float = CONNECTION_SECONDS,
) -> AsyncGenerator[str, None]:
    """An `async with` in which `/metrics` answers with what *read* returns, as its URL.

    It is bounded, so that no client can hold up the worker or fill its memory: there are at most so many
    *connections* at once, and one more ends the oldest; each gets one answer and ends after *seconds* at the
    latest. An address that cannot be used is a `click.UsageError`.
    """
    open_now: dict[asyncio.StreamWriter, None] = {}

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
                    writer.write(_answer(await reader.readuntil(b"\r\n\r\n"), read, content_type))
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


def _answer(head: bytes, read: Callable[[], bytes], content_type: str) -> bytes:
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    status, headers, body = "200 OK", f"Content-Type: {content_type}", b""
    if path != b"/metrics":
        status, body = "404 Not Found", b"The metrics are at /metrics.\n"
    elif method != b"GET":
        status, headers = "405 Method Not Allowed", "Allow: GET"
    else:
        try:
            body = read()
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
