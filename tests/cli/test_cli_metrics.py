"""What a worker tells Prometheus, and what strangers at the same port cannot do to it."""

import asyncio
import json
import re
import socket
import threading
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from shell import KEY, navtalk, result_of, start_command, stderr_line

from navtalk_async.cli._watch import served
from navtalk_async.events import Stats
from navtalk_async.ingest import Health
from navtalk_async.metrics import Metrics
from navtalk_async.sandbox import Sandbox, World

HALF = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: "
WHOLE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def endpoint(read=lambda: b"figures 1\n", host="127.0.0.1", **bounds):
    """The host and port of an endpoint that answers with what *read* returns."""
    async with served(read, "text/plain; version=0.0.4", host, 0, **bounds) as url:
        found = re.fullmatch(r"http://\[?(.+?)\]?:(\d+)/metrics", url)
        yield found[1], int(found[2])


@asynccontextmanager
async def connected(address):
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def rest(reader):
    """What comes until the connection ends, in whatever way."""
    with suppress(ConnectionError):
        return await reader.read()
    return b""


async def answer(address, request):
    async with connected(address) as (reader, writer):
        writer.write(request)
        head, _, body = (await rest(reader)).partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode(), body.decode()


async def half_sent(stack, address, count):
    """The reading ends of so many connections, each with half a request sent."""
    readers = []
    for _ in range(count):
        reader, writer = await stack.enter_async_context(connected(address))
        writer.write(HALF)
        readers.append(reader)
    return readers


async def test_a_scrape_is_answered_during_300_half_sent_requests_without_a_thread():
    threads = threading.active_count()
    async with AsyncExitStack() as stack, endpoint(connections=20, seconds=600) as address:
        readers = await half_sent(stack, address, 300)
        code, head, body = await answer(address, WHOLE)
        assert (code, body) == (200, "figures 1\n")
        assert "Content-Type: text/plain; version=0.0.4" in head
        ends = [asyncio.create_task(rest(each)) for each in readers]
        # The newest are open still, but for the one that the scrape took the place of.
        assert await asyncio.gather(*ends[:281]) == [b""] * 281
        assert not any(each.done() for each in ends[281:])
        assert threading.active_count() == threads
    assert await asyncio.gather(*ends) == [b""] * 300


@pytest.mark.parametrize(
    "sent", [b"", b"G", HALF, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
)
async def test_a_connection_that_is_idle_or_never_sends_the_rest_ends_soon(sent):
    async with endpoint(seconds=0.05) as address, connected(address) as (reader, writer):
        writer.write(sent)
        await rest(reader)


async def test_a_connection_is_for_one_answer():
    async with endpoint(seconds=600) as address:
        _, head, body = await answer(address, WHOLE * 3)
    assert (head.count("200 OK"), body.count("figures")) == (1, 1)


@pytest.mark.parametrize(
    ("target", "code"),
    [("/metrics?name=x", 200), ("/", 404), ("/metrics/", 404), ("/favicon.ico", 404), ("//metrics", 404)],
)
async def test_only_the_path_of_the_metrics_answers_with_them(target, code):
    async with endpoint() as address:
        got = await answer(address, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (got[0], "figures 1" in got[2]) == (code, code == 200)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
async def test_metrics_allow_only_get(method):
    async with endpoint() as address:
        code, head, _ = await answer(address, f"{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert (code, "Allow: GET" in head) == (405, True)


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"\x9b31m\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000,
        b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
    ],
)
async def test_junk_is_refused_without_a_word_in_the_log(junk, caplog, capfd):
    async with endpoint(seconds=600) as address:
        async with connected(address) as (reader, writer):
            writer.write(junk)
            assert not (await rest(reader)).startswith(b"HTTP/1.1 200")
        assert (await answer(address, WHOLE))[0] == 200
    assert [each for each in caplog.records if each.name != "asyncio"] == []
    assert "".join(capfd.readouterr()) == ""


async def test_figures_that_cannot_be_read_are_an_error_of_that_scrape_alone():
    figures = iter([RuntimeError("lost"), b"figures 2\n"])

    def read():
        figure = next(figures)
        if isinstance(figure, Exception):
            raise figure
        return figure

    async with endpoint(read) as address:
        first, second = [await answer(address, WHOLE) for _ in range(2)]
    assert (first[0], "lost" in first[2]) == (500, False)
    assert (second[0], second[2]) == (200, "figures 2\n")


async def test_a_collector_that_fails_once_keeps_its_place():
    stats = iter([None, Stats(requests=7)])
    metrics = Metrics(lambda: next(stats))
    async with endpoint(metrics.text) as address:
        first, second = [await answer(address, WHOLE) for _ in range(2)]
    assert first[0] == 500
    assert figures(second[2])["navtalk_requests_total"] == 7


HEALTH = {
    "alive": True,
    "last_success": None,
    "behind_by": 1.0,
    "paused_until": None,
    "standing_by": False,
    "error": None,
}


@pytest.mark.parametrize(("healthy", "code"), [(True, 200), (False, 503)])
async def test_health_is_served_beside_the_metrics_and_without_them(healthy, code):
    health = Health(healthy=healthy, **HEALTH)
    async with endpoint(None, health=lambda: health) as address:
        got = await answer(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        metrics = await answer(address, WHOLE)
    assert (got[0], json.loads(got[2])) == (code, {"healthy": healthy, **HEALTH})
    assert "Content-Type: application/json" in got[1]
    assert (metrics[0], "pip install 'navtalk-async[metrics]'" in metrics[2]) == (501, True)


async def test_metrics_can_be_served_by_ipv6():
    async with endpoint(host="::1") as address:
        assert address[0] == "::1"
        assert (await answer(address, WHOLE))[0] == 200


# The worker


def figures(text):
    """The value of each sample of *text*, by its name with its labels."""
    return {
        each.name + "".join(f"{{{name}={value}}}" for name, value in each.labels.items()): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


async def address_of(worker):
    return "127.0.0.1", int(
        re.search(r"Metrics: http://127\.0\.0\.1:(\d+)/metrics", await stderr_line(worker, "Metrics: "))[1]
    )


async def test_a_worker_serves_its_metrics(tmp_path):
    options = ("--watch", "20ms", "--metrics-port", "0", "--progress", "plain")
    async with Sandbox(World(30, messages=2)) as box:
        async with start_command("sync", tmp_path / "a.db", *options, box=box) as worker:
            address = await address_of(worker)
            await stderr_line(worker, r"Round 2:")
            code, head, text = await answer(address, WHOLE)
            health = await answer(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            worker.terminate()
            assert (await result_of(worker)).code == 143
    reported = figures(text)
    assert (health[0], json.loads(health[2])["healthy"]) == (200, True)
    assert (code, "Content-Type: text/plain; version=" in head) == (200, True)
    assert reported["navtalk_sessions_total{news=inserted}"] == 30
    assert reported["navtalk_kept{what=messages}"] == 60
    assert reported["navtalk_rounds_total{outcome=done}"] >= 2
    assert reported["navtalk_requests_total"] > 30
    assert KEY not in text


async def test_a_worker_under_many_connections_works_on_and_stops_on_a_signal(tmp_path):
    options = ("--watch", "20ms", "--metrics-port", "0", "--progress", "plain")
    async with Sandbox(World(5, messages=1)) as box, AsyncExitStack() as stack:
        async with start_command("sync", tmp_path / "a.db", *options, box=box) as worker:
            address = await address_of(worker)
            await half_sent(stack, address, 300)
            assert (await answer(address, WHOLE))[0] == 200
            new = box.world.add_session()["id"]
            await stderr_line(worker, " 1 new,")
            worker.terminate()
            end = await result_of(worker)
    assert new
    assert end.code == 143


async def test_metrics_are_served_to_this_machine_only_by_default(tmp_path):
    options = ("--watch", "1s", "--metrics-port", "0", "--progress", "plain")
    async with Sandbox(World(5)) as box:
        async with start_command("sync", tmp_path / "a.db", *options, box=box) as worker:
            _, port = await address_of(worker)
            # Another address of this machine, which a server on every interface answers at, too.
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.2", port)
            worker.terminate()
            await result_of(worker)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "192.0.2.1:{port}: Cannot assign requested address."),
        ("2001:db8::1", "[2001:db8::1]:{port}: Cannot assign requested address."),
        ("127.0.0.1", "127.0.0.1:{port}: Address already in use."),
        ("x" * 300, "x:{port}: not a host name."),
        ("", "--metrics-host is empty"),
    ],
)
async def test_an_address_that_cannot_serve_metrics_is_reported_before_any_request(host, reason, tmp_path):
    async with Sandbox(World(5)) as box:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            options = ("--watch", "1s", "--metrics-port", port, "--metrics-host", host)
            end = await navtalk("sync", tmp_path / "a.db", *options, box=box)
        assert box.counts.total == 0
    assert end.code == 2
    assert reason.format(port=port) in end.err
    assert "127.0.0.1" in end.err


async def test_a_host_for_metrics_without_a_port_is_refused(tmp_path):
    async with Sandbox(World(5)) as box:
        end = await navtalk(
            "sync", tmp_path / "a.db", "--watch", "1s", "--metrics-host", "127.0.0.1", box=box
        )
        assert box.counts.total == 0
    assert end.code == 2
    assert "give --metrics-port too" in end.err
