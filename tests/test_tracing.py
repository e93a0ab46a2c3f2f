"""Spans and metrics, over OpenTelemetry's own SDK."""

import asyncio
import logging
import sys
from importlib import import_module

import pytest
from key_leaks import KEYS
from navtalk_clients import QUICK
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from navtalk_async import (
    KodeyClient,
    LexiconClient,
    LlamaCloudClient,
    NavTalkClient,
    NavTalkError,
    SessionPool,
)
from navtalk_async.errors import NotFound
from navtalk_async.sandbox import Sandbox
from navtalk_async.tracing import Tracing

CLIENTS = {
    "navtalk": NavTalkClient,
    "kodey": KodeyClient,
    "lexicon": LexiconClient,
    "llamacloud": LlamaCloudClient,
}


class Telemetry:
    """What an application sets up, and what it collects."""

    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self.reader])
        self.tracer = self.provider.get_tracer("app")
        self.tracing = Tracing(self.provider, self.meters)

    @property
    def spans(self):
        return self.exporter.get_finished_spans()

    def below(self, span):
        return [each for each in self.spans if each.parent and each.parent.span_id == span.context.span_id]

    def points(self):
        data = self.reader.get_metrics_data()
        return [
            (metric.name, metric.unit, point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry():
    found = Telemetry()
    yield found
    assert (found.tracing._calls, found.tracing._attempts) == ({}, {})


def client(box, telemetry, key="key", api="navtalk", **options):
    options = {"on_event": telemetry.tracing, "retry": QUICK} | options
    return CLIENTS[api](key, base_url=box.url_of(api), **options)


async def test_a_call_is_a_span_below_the_callers_and_each_attempt_one_below_it(navtalk_sandbox, telemetry):
    navtalk_sandbox.fail_next("500")
    async with client(navtalk_sandbox, telemetry) as nt:
        with telemetry.tracer.start_as_current_span("mine") as mine:
            await nt.sessions.list()
            assert trace.get_current_span() is mine
    [call] = telemetry.below(mine)
    first, second = telemetry.below(call)
    assert (call.name, call.kind, call.status.status_code) == (
        "sessions.list",
        SpanKind.INTERNAL,
        StatusCode.UNSET,
    )
    assert call.attributes == {"navtalk.api": "navtalk", "navtalk.lane": "normal", "navtalk.attempts": 2}
    assert [each.name for each in (first, second)] == ["GET", "GET"]
    assert {each.kind for each in (first, second)} == {SpanKind.CLIENT}
    assert (first.attributes["error.type"], first.status.status_code) == ("500", StatusCode.ERROR)
    assert second.attributes["http.request.resend_count"] == 1
    port = int(navtalk_sandbox.url.rpartition(":")[2])
    conventional = {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.scheme": "http",
        "http.response.status_code": 200,
    }
    assert conventional.items() <= second.attributes.items()
    assert [(name, unit) for name, unit, _ in telemetry.points()] == [
        ("http.client.request.duration", "s")
    ] * 2
    assert {
        point.attributes["http.response.status_code"]: point.count for _, _, point in telemetry.points()
    } == {
        200: 1,
        500: 1,
    }


async def test_what_is_not_sampled_is_measured_all_the_same(navtalk_sandbox, telemetry):
    telemetry.tracing = Tracing(TracerProvider(sampler=ALWAYS_OFF), telemetry.meters)
    navtalk_sandbox.fail_next("500")
    async with client(navtalk_sandbox, telemetry) as nt:
        await nt.sessions.list()
    assert sum(point.count for _, _, point in telemetry.points()) == 2


async def test_a_call_that_fails_is_a_span_with_the_kind_of_its_error(navtalk_sandbox, telemetry):
    async with client(navtalk_sandbox, telemetry) as nt:
        with pytest.raises(NotFound):
            await nt.sessions.get("00000000-0000-1000-8000-000000000000")
    attempt, call = telemetry.spans
    assert (call.name, call.attributes["error.type"]) == ("sessions.get", "NotFound")
    assert attempt.attributes["error.type"] == "404"
    assert {call.status.description, attempt.status.description} == {None}


async def break_early(nt, _):
    async with SessionPool(nt).transcripts() as transcripts:
        async for _ in transcripts:
            break


async def cancelled(nt, box):
    box.hold()
    call = asyncio.create_task(nt.sessions.list().all())
    await box.arrived(1)
    call.cancel()
    await asyncio.wait([call])


async def closed_elsewhere(nt, box):
    box.hold()
    call = asyncio.create_task(nt.sessions.list().all())
    await box.arrived(1)
    await asyncio.create_task(nt.aclose())
    await asyncio.wait([call])
    assert isinstance(call.exception(), NavTalkError)


async def closed_by_another_task(nt, _):
    async def rows():
        async for row in nt.sessions.list(limit=2):
            yield row

    walk = rows()
    await anext(walk)
    await asyncio.create_task(walk.aclose())


@pytest.mark.parametrize("leave", [break_early, cancelled, closed_elsewhere, closed_by_another_task])
async def test_what_is_left_early_ends_every_span_without_noise(leave, telemetry, caplog):
    caplog.set_level(logging.WARNING)
    noise = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    async with Sandbox(sessions=40) as box, client(box, telemetry) as nt:
        with telemetry.tracer.start_as_current_span("mine") as mine:
            await leave(nt, box)
            assert trace.get_current_span() is mine
    begun = [each for each in telemetry.spans if each.name != "mine"]
    assert begun
    assert {each.context.trace_id for each in begun} == {mine.context.trace_id}
    assert (noise, [each for each in caplog.records if each.name != "navtalk_async.events"]) == ([], [])


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("api", CLIENTS)
async def test_no_span_and_no_metric_has_the_key_an_id_or_a_text(api, key, telemetry, leaks):
    async with Sandbox(sessions=3) as box, client(box, telemetry, key, api) as nt:
        for fault in (None, "404", "echo-key", "500", "drop"):
            if fault:
                box.fail_next(fault, 100)
            async with SessionPool(nt).transcripts(
                on_error="yield", **({"user_id": "user-1"} if api == "lexicon" else {})
            ) as found:
                try:
                    said = [transcript async for transcript in found]
                except NavTalkError:
                    said = []
            box.forget_planned()
        texts = [each.to_json() for each in telemetry.spans] + [repr(telemetry.points())]
        ids = [each["id"] for each in box.world.sessions]
    leaks.seen += texts
    assert len(texts) > 5
    assert not [text for text in texts if any(each in text for each in [*ids, "user-1"])]
    contents = [
        message.content for each in said for message in each.messages if len(message.content or "") > 9
    ]
    assert not [text for text in texts if any(each in text for each in contents)]


async def test_no_request_is_traced_twice_where_aiohttp_is_instrumented(navtalk_sandbox, telemetry):
    AioHttpClientInstrumentor().instrument(
        tracer_provider=telemetry.provider, meter_provider=telemetry.meters
    )
    try:
        async with client(navtalk_sandbox, telemetry) as nt:
            await nt.sessions.list()
        ours = telemetry.spans
        async with client(navtalk_sandbox, telemetry, on_event=None) as nt:
            await nt.sessions.list()
    finally:
        AioHttpClientInstrumentor().uninstrument()
    assert {each.instrumentation_scope.name for each in ours} == {"navtalk_async"}
    [foreign] = telemetry.spans[len(ours) :]
    assert foreign.instrumentation_scope.name == "opentelemetry.instrumentation.aiohttp_client"


@pytest.mark.parametrize(
    ("module", "needs", "extra"),
    [("tracing", "opentelemetry.context", "otel"), ("metrics", "prometheus_client", "metrics")],
)
def test_a_module_whose_library_is_not_installed_names_its_extra(module, needs, extra, monkeypatch):
    monkeypatch.delitem(sys.modules, f"navtalk_async.{module}", raising=False)
    monkeypatch.setitem(sys.modules, needs, None)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'navtalk-async\[{extra}\]'"):
        import_module(f"navtalk_async.{module}")
