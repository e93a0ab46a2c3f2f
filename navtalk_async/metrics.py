"""Figures of a client, and of a watch, for Prometheus (extra `metrics`)."""

from collections.abc import Callable, Iterable
from functools import partial
from time import time

try:
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "navtalk_async.metrics needs prometheus-client: pip install 'navtalk-async[metrics]'.",
        name=_missing.name,
    ) from None

from navtalk_async.archive.records import ProjectCounts
from navtalk_async.errors import StoreLocked
from navtalk_async.events import Stats
from navtalk_async.ingest import RoundResult

__all__ = ["Metrics"]

NEWS = ("inserted", "changed", "same", "vanished")
KEPT = ("sessions", "messages", "deleted", "pending", "failed", "watched")
WIRE = {
    "requests": "Requests sent, repeated ones included.",
    "retries": "Requests beyond each call's first.",
    "refused": "Answers that said the server has too much to do.",
}
OPERATIONS = {
    "answers": "Calls that got their answer.",
    "errors": "Calls that ended in an error.",
    "network_seconds": "Seconds from sending requests to the end of their answers, of all calls together.",
}
NOW = {
    "in_flight": "Requests in flight.",
    "waiting": "Calls that wait for their turn.",
    "paused_for": "Seconds until the pause ends that the server asked for.",
}


class Metrics(Collector):
    """What Prometheus reads of one client, and of a `watch` with it.

        metrics = Metrics(nt.stats, registry=prometheus_client.REGISTRY)

    Arguments:
        stats: what is asked at each scrape: the client's `stats`.
        registry: where they are registered, once a registry; by default one of their own, for `text`.
        rounds: whether there are figures of rounds too, which `count` and `set_kept` set.
    """

    def __init__(
        self,
        stats: Callable[[], Stats],
        *,
        registry: CollectorRegistry | None = None,
        rounds: bool = False,
    ) -> None:
        self._stats = stats
        registry = registry or CollectorRegistry()
        registry.register(self)
        self.text: Callable[[], bytes] = partial(generate_latest, registry)
        self.content_type = CONTENT_TYPE_LATEST
        self._of_rounds = _Rounds(registry) if rounds else None

    def count(self, result: RoundResult) -> None:
        """Count a round of a `watch`."""
        if self._of_rounds is not None:
            self._of_rounds.count(result)

    def set_kept(self, counts: ProjectCounts) -> None:
        """Set what the archive holds, as its `counts()` say."""
        if self._of_rounds is not None:
            for what in KEPT:
                self._of_rounds.kept.labels(what).set(getattr(counts, what))

    def collect(self) -> Iterable[Metric]:
        """The figures of the wire, as they are now (the protocol of prometheus-client's collectors)."""
        stats = self._stats()
        for name, text in WIRE.items():
            yield CounterMetricFamily(f"navtalk_{name}", text, value=getattr(stats, name))
        for name, text in OPERATIONS.items():
            family = CounterMetricFamily(f"navtalk_operation_{name}", text, labels=["operation"])
            for operation, counts in stats.operations.items():
                family.add_metric([operation], getattr(counts, name))
            yield family
        for name, text in NOW.items():
            yield GaugeMetricFamily(f"navtalk_{name}", text, value=getattr(stats, name))


class _Rounds:
    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._rounds = counter("navtalk_rounds", "Rounds, by how they ended.", ["outcome"])
        self._sessions = counter(
            "navtalk_sessions", "Sessions that rounds compared, by the result.", ["news"]
        )
        self._messages = counter("navtalk_messages", "Messages that rounds read, by the result.", ["news"])
        self.kept = gauge("navtalk_kept", "What the archive holds.", ["what"])
        self._seconds = gauge("navtalk_round_seconds", "How long the latest good round took.")
        self._succeeded_at = gauge(
            "navtalk_last_success_timestamp_seconds", "When the latest good round ended."
        )
        self._in_a_row = gauge("navtalk_failures_in_a_row", "Rounds that failed since the latest good one.")
        self._standing_by = gauge("navtalk_standing_by", "1 while another run holds the archive.")
        for outcome in ("done", "failed"):
            self._rounds.labels(outcome)

    def count(self, result: RoundResult) -> None:
        report = result.report
        self._standing_by.set(isinstance(result.error, StoreLocked))
        if isinstance(result.error, StoreLocked):
            return
        self._rounds.labels("failed" if report is None else "done").inc()
        self._in_a_row.set(result.failures_in_a_row)
        if report is None:
            return
        self._seconds.set(result.seconds)
        self._succeeded_at.set(time())
        for news in NEWS:
            self._sessions.labels(news).inc(getattr(report, news))
            self._messages.labels(news).inc(getattr(report, f"messages_{news}"))
