"""What a worker tells Prometheus."""

from collections.abc import Callable, Iterator
from functools import partial
from time import time
from typing import Any

import click

from navtalk_async.archive.records import ProjectCounts
from navtalk_async.events import Stats
from navtalk_async.ingest import RoundDone, RoundFailed, RunReport

__all__ = ["Metrics"]

KEPT = ("sessions", "messages", "deleted", "pending", "failed", "watched")
NEWS = ("inserted", "changed", "same", "vanished")
WIRE = {
    "requests": "Requests sent, repeated ones included.",
    "retries": "Requests beyond each call's first.",
    "refused": "Answers that said the server has too much to do.",
}


class Metrics:
    """The figures of one worker; *stats* are asked for when somebody looks.

    Raises:
        click.UsageError: prometheus-client is not installed.
    """

    def __init__(self, stats: Callable[[], Stats]) -> None:
        try:
            # Imported here, since only who asks for metrics needs it.
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
            "navtalk_sessions", "Sessions that rounds found, by what was new of them.", ["news"]
        )
        self._messages = counter(
            "navtalk_messages", "Messages that rounds read, by what was new of them.", ["news"]
        )
        self._kept = gauge("navtalk_kept", "What the store holds.", ["what"])
        self._seconds = gauge("navtalk_round_seconds", "How long the latest good round took.")
        self._well = gauge("navtalk_last_success_timestamp_seconds", "When the latest good round ended.")
        self._in_a_row = gauge("navtalk_failures_in_a_row", "Rounds that failed since the latest good one.")
        for outcome in ("done", "failed"):
            self._rounds.labels(outcome)

    def heard(self, event: RoundDone | RoundFailed) -> None:
        """Take notice of how a round ended."""
        if isinstance(event, RoundFailed):
            self._rounds.labels("failed").inc()
            self._in_a_row.set(event.in_a_row)
            return
        self._rounds.labels("done").inc()
        self._in_a_row.set(0)
        self._seconds.set(event.seconds)
        self._well.set(time())
        self._count(event.report)

    def holds(self, counts: ProjectCounts) -> None:
        """Take notice of what the store holds."""
        for what in KEPT:
            self._kept.labels(what).set(getattr(counts, what))

    def collect(self) -> Iterator[Any]:
        """The figures of the wire, as they are now (the protocol of prometheus-client's collectors)."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        stats = self._stats()
        for name, told in WIRE.items():
            yield CounterMetricFamily(f"navtalk_{name}", told, value=getattr(stats, name))
        yield GaugeMetricFamily("navtalk_in_flight", "Requests on their way.", value=stats.in_flight)
        yield GaugeMetricFamily("navtalk_waiting", "Calls that wait for their turn.", value=stats.waiting)

    def _count(self, report: RunReport) -> None:
        for news in NEWS:
            self._sessions.labels(news).inc(getattr(report, news))
            self._messages.labels(news).inc(getattr(report, f"messages_{news}"))
