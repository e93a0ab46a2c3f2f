"""Over real sockets: what is promised of a transport beside the right answer or error."""

import asyncio
import os
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import pytest
import trustme

from navtalk_async import LlamaCloudClient, NavTalkClient, Retry
from navtalk_async.errors import AttemptTimeout, BrokenBody, ClientClosed, ConnectFailed, NotJson
from navtalk_async.models import Request

ONCE = Retry(attempts=1, attempts_at_first=1)
EMPTY = b'{"code":200,"message":"SUCCESS","data":{"data":[],"nextCursor":null}}'
ANSWER = b"HTTP/1.1 200 So\r\nContent-Length: %d\r\n\r\n%b" % (len(EMPTY), EMPTY)


class Held:
    """A server that says nothing by itself: its connections are the test's."""

    def __init__(self, **listening):
        self.listening = listening
        self.came = asyncio.Queue()
        self.serving = set()

    async def __aenter__(self):
        self.over = asyncio.Event()
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, **self.listening)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.over.set()
        self.server.close()
        await asyncio.gather(*self.serving)

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        # A connection may also be left unused.
        with suppress(asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.came.put_nowait((head.decode(), reader, writer))
            await self.over.wait()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def asking(port, scheme="http", **options):
    url = f"{scheme}://localhost:{port}"
    async with NavTalkClient("key", base_url=url, **{"retry": ONCE} | options) as nt:
        yield nt


def whole(_, response):
    return response


async def page(nt):
    return await nt.sessions.list()


async def ended(reader):
    """Wait until the client has ended its connection, in good order or not."""
    with suppress(ConnectionError):
        assert await reader.read(1) == b""


# What is sent and received --------------------------------------------------------------------------------


async def test_the_server_is_told_who_asks_and_for_what(scripted):
    async with scripted(EMPTY) as server, NavTalkClient("key", base_url=server.url) as nt:
        await nt.sessions.list()
    lines = [line.partition(": ") for line in server.heads[0].split("\r\n")[1:]]
    headers = {name.lower(): value for name, _, value in lines}
    assert headers["user-agent"] == "navtalk-async (https://pypi.org/project/navtalk-async/)"
    assert headers["accept"] == "application/json"
    assert "gzip" in headers["accept-encoding"]


async def test_an_answers_headers_are_looked_up_without_regard_to_case(scripted):
    async with scripted(EMPTY, 200, "X-Odd: a", "X-Odd: b") as server:
        async with NavTalkClient("key", base_url=server.url) as nt:
            headers = (await nt.ask(Request(path="/x"), whole)).headers
    assert (headers["x-odd"], headers.get("X-ODD"), "X-odd" in headers) == ("a", "a", True)
    assert (headers.get("absent"), "absent" in headers) == (None, False)
    assert sorted({name.lower() for name in headers}) == ["content-length", "content-type", "x-odd"]
    with pytest.raises(KeyError):
        headers["absent"]


@pytest.mark.parametrize(
    ("length", "kind"), [(10, (NotJson, BrokenBody)), (200, AttemptTimeout), ("many", BrokenBody)]
)
async def test_a_length_that_lies_spoils_neither_this_answer_nor_the_next(length, kind):
    async with Held() as server, asking(server.port, attempt_timeout=0.3) as nt:
        for answer, expected in (
            (b"HTTP/1.1 200 So\r\nContent-Length: %b\r\n\r\n%b" % (str(length).encode(), EMPTY), kind),
            (ANSWER, None),
        ):
            call = asyncio.create_task(page(nt))
            _, _, writer = await server.came.get()
            writer.write(answer)
            if expected is None:
                assert (await call).items == []
            else:
                with pytest.raises(expected):
                    await call


# How it ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200 So\r\nContent-Length: 99\r\n\r\nx"])
async def test_a_cancelled_call_ends_its_own_connection_and_no_other(received):
    async with Held() as server, asking(server.port) as nt:
        given_up, kept = asyncio.create_task(page(nt)), asyncio.create_task(page(nt))
        connections = [await server.came.get() for _ in range(2)]
        for _, _, writer in connections:
            writer.write(received)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        ends = [asyncio.create_task(ended(reader)) for _, reader, _ in connections]
        _, [open_one] = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        open_one.cancel()
        _, _, writer = connections[ends.index(open_one)]
        if not received:
            writer.write(ANSWER)
            assert (await kept).items == []
        kept.cancel()


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200 So\r\nContent-Length: 99\r\n\r\nx"])
async def test_closing_ends_a_call_at_once_wherever_its_answer_is(received):
    async with Held() as server, asking(server.port) as nt:
        call = asyncio.create_task(page(nt))
        _, reader, writer = await server.came.get()
        writer.write(received)
        for _ in range(20):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await nt.aclose()
            with pytest.raises(ClientClosed):
                await call
            await ended(reader)


# Over what ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def certified(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_a_certificate_of_nobody_known_is_refused(certified):
    async with Held(ssl=certified) as server, asking(server.port, "https") as nt:
        with pytest.raises(ConnectFailed, match="the server's certificate is not trusted"):
            await nt.sessions.list()
    assert server.came.empty()


TRUSTING = """
import asyncio, sys
from navtalk_async import NavTalkClient

async def main():
    async with NavTalkClient("key", base_url=sys.argv[1]) as nt:
        print(len((await nt.sessions.list()).items))

asyncio.run(main())
"""


async def test_a_certificate_of_an_authority_that_the_environment_names_is_trusted(
    authority, certified, tmp_path
):
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    async with Held(ssl=certified) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", TRUSTING, f"https://localhost:{server.port}"),
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "authority.pem")},
            stdout=subprocess.PIPE,
        )
        _, _, writer = await server.came.get()
        writer.write(ANSWER)
        printed, _ = await process.communicate()
    assert (process.returncode, printed) == (0, b"0\n")


@pytest.fixture
def proxied(monkeypatch):
    """`proxied(port)`: the environment names a proxy at that port of this machine, for everything."""

    def set_up(port):
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{port}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")

    return set_up


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "[::1]"])
async def test_no_proxy_is_sent_what_is_for_this_machine(proxied, host, scripted):
    async with scripted(EMPTY) as server, Held() as proxy:
        proxied(proxy.port)
        port = server.url.rpartition(":")[2]
        url = f"http://{host}:{port}"
        async with NavTalkClient("key", base_url=url, trust_env=True, retry=ONCE) as nt:
            if host in {"localhost", "LocalHost", "127.0.0.1"}:
                assert (await nt.sessions.list()).items == []
            else:
                # Nobody need listen there.
                with suppress(ConnectFailed):
                    await nt.sessions.list()
            with suppress(ConnectFailed, BrokenBody, NotJson):
                await nt.ask(Request(path="/x", method="POST"), whole)
    assert proxy.came.empty()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("trust_env", "no_proxy"), [(False, ""), (True, ""), (True, "example.invalid")])
async def test_a_proxy_is_used_where_the_environment_is_trusted_and_is_not_sent_the_key(
    proxied, monkeypatch, trust_env, no_proxy, method
):
    async with Held() as proxy:
        proxied(proxy.port)
        monkeypatch.setenv("no_proxy", no_proxy)
        monkeypatch.setenv("NO_PROXY", no_proxy)
        options = {"base_url": "https://example.invalid", "trust_env": trust_env, "retry": ONCE}
        async with NavTalkClient("CANARY-1234567890", **options) as nt:
            call = asyncio.create_task(nt.ask(Request(path="/x", method=method), whole))
            if trust_env and not no_proxy:
                head, _, writer = await proxy.came.get()
                assert head.startswith("CONNECT example.invalid:443 ")
                assert "CANARY" not in head
                writer.write(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")
                writer.close()
            with pytest.raises((ConnectFailed, BrokenBody)):
                await call
    assert proxy.came.empty()


async def test_a_netrc_adds_no_second_key(monkeypatch, tmp_path, scripted):
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with scripted(b'{"items": [], "next_page_token": null}') as server:
        async with LlamaCloudClient("key", base_url=server.url, trust_env=True) as llama:
            await llama.sessions.list()
    (line,) = [line for line in server.heads[0].split("\r\n") if line.lower().startswith("authorization")]
    assert line.partition(": ")[2] == "Bearer key"
