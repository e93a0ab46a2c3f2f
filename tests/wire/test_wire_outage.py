"""A server that goes away and comes back loses no call that may wait for it."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from navtalk_async import NavTalkClient, Retry
from navtalk_async.errors import (
    BadRequest,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    NavTalkError,
    NotFound,
    ServerError,
    UnknownHost,
    UntrustedCertificate,
)
from navtalk_async.events import Outage
from navtalk_async.models import Request
from navtalk_async.wire.clock import JumpingClock
from navtalk_async.wire.retry import is_absence

SHORT = Retry(attempts=3, attempts_at_first=3, base_seconds=0.001, cap_seconds=0.002, outage=30.0)
LONG = Retry(attempts=3, base_seconds=0.001, cap_seconds=0.002, outage=3600)


def answer(status, body):
    return f"HTTP/1.1 {status} So\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


GOOD = answer(200, '{"code":200,"message":"","data":[]}')
AWAY = {
    "reset": b"",
    "502": answer(502, "<html>Bad Gateway</html>"),
    "503": answer(503, '{"code":503,"message":"down","data":null}'),
    "504": answer(504, ""),
    "half a body": GOOD[:-5],
}


class Server:
    """Answers with what `says` returns for a request's path; it can be opened again on its port."""

    def __init__(self):
        self.port = 0
        self.asked = []
        self.in_flight = self.most = 0
        self.says = lambda _: GOOD

    @asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def serve(self, reader, writer):
        head = b""
        with suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
        if not head:
            writer.close()
            return
        method, path, _ = head.decode().split(" ", 2)
        self.asked.append((method, path.partition("?")[0]))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        writer.write(self.says(path))
        writer.close()

    def client(self, seen=None, **options):
        url = f"http://127.0.0.1:{self.port}"
        on_event = None if seen is None else seen.append
        key = "a-key-of-32-characters-0123456789"
        client = NavTalkClient(key, base_url=url, on_event=on_event, **options)
        client._wire.new_clock = JumpingClock
        return client


def read(_, response):
    if response.status >= 500:
        raise ServerError("down", status=response.status)
    return response.status


def outages(seen):
    return [each for each in seen if isinstance(each, Outage)]


def away_until_told(seen, bad, more=3):
    """Answers that are bad until an outage was announced and *more* requests came; then good."""
    left = iter(range(more))
    return lambda _: bad if not outages(seen) or next(left, None) is not None else GOOD


def things(client, count, method="GET"):
    return [client.ask(Request(path=f"/{number}", method=method), read) for number in range(count)]


@pytest.mark.parametrize("how", AWAY)
async def test_every_call_is_answered_after_an_outage_that_is_told_once(how):
    server, seen = Server(), []
    async with server.listening(), server.client(seen, retry=SHORT) as client:
        assert await asyncio.gather(*things(client, 1)) == [200]
        server.says = away_until_told(seen, AWAY[how])
        assert await asyncio.gather(*things(client, 6)) == [200] * 6
    assert [each.seconds for each in outages(seen)] == [30.0]
    assert "trying again for up to 30s" in str(outages(seen)[0])


async def test_a_server_that_listens_again_on_its_port_is_found():
    server, seen = Server(), []
    async with server.listening(), server.client() as client:
        await asyncio.gather(*things(client, 1))
    again, told = Server(), asyncio.Event()
    again.port = server.port

    def on_event(event):
        seen.append(event)
        if isinstance(event, Outage):
            told.set()

    url = f"http://127.0.0.1:{server.port}"
    async with NavTalkClient("k" * 32, base_url=url, on_event=on_event, retry=SHORT) as client:
        calls = asyncio.gather(*things(client, 6))
        await told.wait()
        async with again.listening():
            assert await calls == [200] * 6
    assert len(outages(seen)) == 1


async def test_few_requests_find_out_whether_the_server_is_back():
    server, seen = Server(), []
    server.says = away_until_told(seen, AWAY["503"], more=5)
    async with server.listening(), server.client(seen, retry=SHORT) as client:
        assert await asyncio.gather(*things(client, 12)) == [200] * 12
    assert len(server.asked) <= 12 * SHORT.attempts + 5 + 12


async def test_an_outage_that_lasts_ends_every_call_with_its_own_error():
    server, seen = Server(), []
    server.says = lambda _: AWAY["503"]
    async with server.listening(), server.client(seen, retry=SHORT) as client:
        ends = await asyncio.gather(*things(client, 4), return_exceptions=True)
    assert {type(each) for each in ends} == {ServerError}
    assert len(outages(seen)) == 1


async def test_the_timeout_of_a_call_ends_it_in_an_outage():
    server = Server()
    server.says = lambda _: AWAY["503"]
    async with server.listening(), server.client(retry=LONG, timeout=1.0) as client:
        with pytest.raises(DeadlineExceeded) as late:
            await things(client, 1)[0]
    assert isinstance(late.value.last_error, ServerError)


async def test_a_call_that_fails_while_others_are_answered_is_no_outage():
    server, seen = Server(), []
    server.says = lambda path: AWAY["503"] if path.startswith("/0") else GOOD
    async with server.listening(), server.client(seen, retry=SHORT, concurrency=1) as client:

        async def busy():
            while not first.done():
                await client.ask(Request(path="/1"), read)

        first = asyncio.ensure_future(client.ask(Request(path="/0"), read))
        await busy()
        assert isinstance(first.exception(), ServerError)
    assert not outages(seen)


async def test_a_500_of_one_request_is_no_outage():
    server, seen = Server(), []
    server.says = lambda _: answer(500, "")
    async with server.listening(), server.client(seen, retry=SHORT) as client:
        with pytest.raises(ServerError):
            await things(client, 1)[0]
        assert not outages(seen)
    assert len(server.asked) == SHORT.attempts


@pytest.mark.parametrize("how", ["reset", "503"])
async def test_the_messages_of_one_session_that_a_job_cannot_fetch_are_no_outage(how):
    server, seen = Server(), []
    server.says = lambda _: AWAY[how]
    async with server.listening(), server.client(seen, retry=SHORT) as client:
        job = client.using(lane="bulk")
        with pytest.raises((ServerError, Disconnected)):
            await job._inside.page_of_messages(Request(path="/one"))
        assert not outages(seen)
        many = [job._inside.page_of_messages(Request(path=f"/{number}")) for number in range(6)]
        await asyncio.gather(*many, return_exceptions=True)
    assert len(outages(seen)) == 1


@pytest.mark.parametrize("how", ["reset", "503"])
async def test_a_change_is_sent_once_in_an_outage(how):
    server, seen = Server(), []
    server.says = lambda _: AWAY[how]
    async with server.listening(), server.client(seen, retry=SHORT) as client:
        with pytest.raises((ServerError, Disconnected)):
            await things(client, 1, "POST")[0]
    assert server.asked == [("POST", "/0")]
    assert not outages(seen)


async def test_closing_the_client_ends_the_wait():
    server, told = Server(), asyncio.Event()
    server.says = lambda _: AWAY["reset"]
    async with server.listening():
        url = f"http://127.0.0.1:{server.port}"
        client = NavTalkClient(
            "k" * 32, base_url=url, retry=LONG, on_event=lambda e: isinstance(e, Outage) and told.set()
        )
        call = asyncio.ensure_future(client.ask(Request(path="/x"), read))
        await told.wait()
        await client.aclose()
        with pytest.raises(NavTalkError, match="closed"):
            await call


@pytest.mark.parametrize("kind", [UnknownHost, UntrustedCertificate, BadRequest, NotFound])
def test_what_no_waiting_cures_is_no_outage(kind):
    assert is_absence(ConnectFailed("m"))
    assert not is_absence(kind("m"))


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_an_outage_is_a_number_of_seconds(wrong):
    with pytest.raises(ValueError, match="outage="):
        Retry(outage=wrong)
