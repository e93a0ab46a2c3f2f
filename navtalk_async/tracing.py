"""Spans and metrics for OpenTelemetry (extra `otel`), out of the events of a client."""

from typing import Final
from urllib.parse import urlsplit

try:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import (
        Span,
        SpanKind,
        StatusCode,
        TracerProvider,
        get_tracer,
        set_span_in_context,
    )
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "navtalk_async.tracing needs opentelemetry-api: pip install 'navtalk-async[otel]'.",
        name=_missing.name,
    ) from None

from navtalk_async.events import Answered, CallInfo, Event, Failed, GaveUp, Sent, Started

__all__ = ["Tracing"]

# As the semantic conventions have them for this metric, in seconds.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
SCHEMA: Final = "https://opentelemetry.io/schemas/1.23.1"

Attributes = dict[str, str | int | float]


class Tracing:
    """An observer (`on_event=Tracing()`, or one of several) that makes spans and metrics of what happens.

    A call is a span named after its operation, as `sessions.list`, below the span that was current where the
    call began; each attempt is a client span named after its HTTP method, below that. The span of a stream
    ends when its answer begins. Attempts are counted in the metric `http.client.request.duration`. Names and
    attributes are those of OpenTelemetry's stable conventions for HTTP, without the URL: no path, no id, no
    text of a chat or of an error, no key. No span is made the current one. Other instrumentation of aiohttp
    does not see the requests of a client with this observer, so that nothing is traced twice.

    Arguments:
        tracer_provider, meter_provider: where spans and metrics go; by default the global ones.
    """

    replaces_aiohttp_tracing = True

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._tracer = get_tracer("navtalk_async", tracer_provider=tracer_provider, schema_url=SCHEMA)
        self._duration = get_meter(
            "navtalk_async", meter_provider=meter_provider, schema_url=SCHEMA
        ).create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        # By the id of the call, its span with the context below it, where that is sampled; and the span of
        # its attempt, None where the call's is not sampled.
        self._calls: dict[int, tuple[Span, Context]] = {}
        self._attempts: dict[int, Span | None] = {}
        self._servers: dict[str, Attributes] = {}

    def __call__(self, event: Event) -> None:
        """Begin, end or describe a span."""
        match event:
            case Started():
                self._start(event.call)
            case Sent():
                self._send(event)
            case Answered():
                self._end_attempt(event.call, event.status, event.seconds)
                self._end_call(event.call, event.attempts)
            case Failed():
                self._end_attempt(event.call, event.status, event.seconds, _error_type(event))
            case GaveUp():
                self._end_attempt(event.call, 0, None, _error_type(event))
                self._end_call(event.call, event.attempts, _error_type(event))

    def _start(self, call: CallInfo) -> None:
        attributes = {"navtalk.api": call.api, "navtalk.lane": call.lane}
        span = self._tracer.start_span(call.operation, attributes=attributes)
        if span.is_recording():
            self._calls[call.id] = span, set_span_in_context(span)

    def _send(self, event: Sent) -> None:
        call = event.call
        if (known := self._calls.get(call.id)) is None:
            self._attempts[call.id] = None
            return
        attributes = self._http(call) | {"navtalk.queue.seconds": event.queue_seconds}
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        self._attempts[call.id] = self._tracer.start_span(
            call.method, context=known[1], kind=SpanKind.CLIENT, attributes=attributes
        )

    def _end_attempt(self, call: CallInfo, status: int, seconds: float | None, error: str = "") -> None:
        if call.id not in self._attempts:
            return
        span = self._attempts.pop(call.id)
        found: Attributes = {"http.response.status_code": status} if status else {}
        if error:
            # The convention's error of an HTTP status is its number.
            found["error.type"] = str(status) if status >= 400 else error
        if span is not None:
            if error:
                span.set_status(StatusCode.ERROR)
            span.set_attributes(found)
            span.end()
        if seconds is not None:
            self._duration.record(seconds, self._http(call) | found)

    def _end_call(self, call: CallInfo, attempts: int, error: str = "") -> None:
        span, _ = self._calls.pop(call.id, (None, None))
        if span is None:
            return
        span.set_attribute("navtalk.attempts", attempts)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(StatusCode.ERROR)
        span.end()

    def _http(self, call: CallInfo) -> Attributes:
        if call.base_url not in self._servers:
            url = urlsplit(call.base_url)
            port = url.port or {"https": 443}.get(url.scheme, 80)
            self._servers[call.base_url] = {
                "server.address": url.hostname or "",
                "server.port": port,
                "url.scheme": url.scheme,
            }
        return {"http.request.method": call.method, **self._servers[call.base_url]}


def _error_type(event: Failed | GaveUp) -> str:
    """The class of the error, without its message."""
    return event.error.partition(":")[0]
