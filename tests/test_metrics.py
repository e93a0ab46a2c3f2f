"""The figures for Prometheus, in a registry of the application's own."""

from navtalk_clients import client
from prometheus_client import CollectorRegistry

from navtalk_async.metrics import Metrics


async def test_the_figures_of_a_client_are_in_the_registry_of_an_application(navtalk_sandbox):
    registry = CollectorRegistry()
    navtalk_sandbox.fail_next("500")
    async with client(navtalk_sandbox) as nt:
        metrics = Metrics(nt.stats, registry=registry)
        before = metrics.text()
        await nt.sessions.list()

        def value(name, **labels):
            return registry.get_sample_value(name, labels or None)

        assert value("navtalk_requests_total") == 2
        assert value("navtalk_retries_total") == 1
        assert value("navtalk_operation_answers_total", operation="sessions.list") == 1
        assert value("navtalk_operation_errors_total", operation="sessions.list") == 0
        assert value("navtalk_operation_network_seconds_total", operation="sessions.list") > 0
        assert value("navtalk_in_flight") == 0
    # Without a watch, an alert on its latest success would never be true of anything.
    assert b"navtalk_last_success" not in before
