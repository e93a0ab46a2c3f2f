"""Which way requests go: through a proxy or not, and whose certificates are trusted on it."""

import asyncio
import ssl

import pytest
import trustme

from navtalk_async import NavTalkClient, errors
from navtalk_async.events import Failed, GaveUp, Sent, Started
from navtalk_async.sandbox import Sandbox
from tests.support.shell import navtalk

HOST = "api.example.invalid"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def cacert(authority, tmp_path):
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return tmp_path / "authority.pem"


class TlsFront:
    """Speaks https before a plain server, and counts connections; a CONNECT proxy to itself as well."""

    def __init__(self, authority, port):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST, "localhost").configure_cert(self.context)
        self.behind = port
        self.heads = []
        self.connections = 0

    async def __aenter__(self):
        self.tls = await asyncio.start_server(self.pass_on, "127.0.0.1", 0, ssl=self.context)
        self.proxy = await asyncio.start_server(self.tunnel, "127.0.0.1", 0)
        self.sockets = await asyncio.start_server(self.count, "127.0.0.1", 0)
        self.port, self.proxy_port, self.counted_port = (
            each.sockets[0].getsockname()[1] for each in (self.tls, self.proxy, self.sockets)
        )
        return self

    async def __aexit__(self, *_):
        for each in (self.tls, self.proxy, self.sockets):
            each.close()

    async def pass_on(self, reader, writer):
        await joined(reader, writer, self.behind)

    async def count(self, reader, writer):
        self.connections += 1
        await joined(reader, writer, self.port)

    async def tunnel(self, reader, writer):
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await joined(reader, writer, self.port)


async def joined(reader, writer, port):
    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source, target):
        try:
            while part := await source.read(65536):
                target.write(part)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    await asyncio.gather(pump(reader, onward_writer), pump(onward_reader, writer))


@pytest.fixture
async def front(authority):
    async with Sandbox(sessions=3) as box, TlsFront(authority, int(box.url.rpartition(":")[2])) as front:
        yield front


async def test_an_untrusted_certificate_is_tried_once(front):
    failures = []
    address = f"https://localhost:{front.counted_port}"
    async with NavTalkClient("key", base_url=address, on_event=failures.append) as nt:
        with pytest.raises(errors.UntrustedCertificate) as raised:
            await nt.sessions.list()
    assert front.connections == 1
    assert [type(each) for each in failures] == [Started, Sent, Failed, GaveUp]
    assert isinstance(raised.value, errors.ConnectFailed)
    assert "cacert=" in raised.value.next_step


async def test_the_certificates_of_an_authority_that_is_named_are_trusted(front, cacert):
    for named in (cacert, str(cacert)):
        async with NavTalkClient("key", base_url=f"https://localhost:{front.port}", cacert=named) as nt:
            assert len(await nt.sessions.list().all()) == 3


async def test_a_proxy_that_is_named_passes_on_what_it_cannot_read(front, cacert):
    proxy = f"http://somebody:password@127.0.0.1:{front.proxy_port}"
    options = {"base_url": f"https://{HOST}", "cacert": cacert, "proxy": proxy}
    async with NavTalkClient("CANARY-1234567890", **options) as nt:
        assert len(await nt.sessions.list().all()) == 3
    assert front.heads
    assert all(head.startswith(f"CONNECT {HOST}:443 ") and "CANARY" not in head for head in front.heads)


async def test_the_command_goes_by_its_options_and_by_the_environment(front, cacert):
    proxy = f"http://127.0.0.1:{front.proxy_port}"
    own = {"NAVTALK_BASE_URL": f"https://{HOST}", "NAVTALK_API_KEY": "key"}
    named = await navtalk("sessions", "--json", "--proxy", proxy, "--cacert", cacert, env=own)
    assert (named.code, named.out.count("\n")) == (0, 3)
    environment = {"HTTPS_PROXY": proxy, "SSL_CERT_FILE": str(cacert), "NO_PROXY": "", "no_proxy": ""}
    found = await navtalk("sessions", "--json", env=own | environment)
    assert (found.code, found.out) == (0, named.out)
    refused = await navtalk("sessions", "--proxy", proxy, env=own)
    assert refused.code == 2
    assert "--cacert" in refused.err
    assert "later" not in refused.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cacert": "nowhere.pem"}, "cacert='nowhere.pem' cannot be read: No such file or directory."),
        ({"cacert": __file__}, "holds no certificate in the PEM format."),
        ({"proxy": "socks5://host:1"}, "is not the URL of an http proxy"),
        ({"proxy": "host:3128"}, "is not the URL of an http proxy"),
        ({"proxy": "http://host:port"}, "is not the URL of an http proxy"),
        ({"proxy": "http://host:1", "base_url": "http://127.0.0.1:1"}, "over http, the proxy would see"),
    ],
)
def test_what_cannot_be_a_route_is_refused_before_any_request(options, said):
    with pytest.raises(ValueError, match=r"^(cacert|proxy)=") as raised:
        NavTalkClient("key", **{"base_url": f"https://{HOST}", **options})
    assert said in str(raised.value)
