"""Collects every text that a user, a log or a report could show, to look for the key in it."""

import asyncio
import pickle
import traceback

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from rich.traceback import Traceback

from navtalk_async.errors import NavTalkError
from navtalk_async.tracing import Tracing

KEYS = ["CANARY-1234567890", "CANARY-+/=%&<'\"\\?#", "%43ANARY-CANARY%20"]


class HiddenCall:
    """A call with a key among its arguments, which its `repr` does not show."""

    __slots__ = ("_call",)

    def __init__(self, call):
        self._call = call

    def __repr__(self):
        return "<a call>"

    def __call__(self):
        return self._call()


class KeyLeaks:
    """The texts of errors, events, clients, logs, spans and metrics."""

    def __init__(self):
        self.seen = []
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracing = Tracing(provider, meters)

    def see_telemetry(self):
        """Look at what `tracing` made."""
        self.seen += [span.to_json() for span in self._spans.get_finished_spans()]
        self.see(self._reader.get_metrics_data())

    def __call__(self, event):
        self.see(event)

    def see(self, thing):
        self.seen += [str(thing), repr(thing)]

    def see_error(self, error):
        self.see(error)
        self.see(error.args)
        self.see(vars(error))
        if isinstance(error, NavTalkError):
            self.seen += [pickle.dumps(error, protocol).decode("latin-1") for protocol in range(6)]
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.seen += report.format()
        # It cuts long texts itself, whatever their own `repr` is.
        self.see(Traceback.extract(type(error), error, error.__traceback__, show_locals=True))
        for other in (error.__cause__, error.__context__):
            if other is not None:
                self.see_error(other)

    def texts_with_key(self):
        return [text for text in self.seen if "CANARY" in text]


async def error_of(call, leaks):
    """The error that *call* raises, or None; its frames begin here, where the key is unknown."""
    # Every step of the loop counts as slow now, and is logged.
    asyncio.get_running_loop().slow_callback_duration = 0.0
    try:
        await call
    except (NavTalkError, ValueError, TimeoutError, asyncio.CancelledError) as error:
        leaks.see_error(error)
        return error
    else:
        return None
    finally:
        asyncio.get_running_loop().slow_callback_duration = 1.0


def argument_error_of(call, leaks):
    """The error that the `HiddenCall` *call* raises, or None; its frames begin here, without the key."""
    try:
        call()
    except (ValueError, TypeError) as error:
        leaks.see_error(error)
        return error
    return None
