"""The sandbox serves its APIs from one world on one port, finds others by entry point, and breaks streams."""

import asyncio
import sys
from itertools import pairwise

import aiohttp
import pytest

from navtalk_async.sandbox import Answers, ApiContext, Faults, Refused, Sandbox, SandboxRequest, World
from navtalk_async.sandbox._server import api_of, apis

FIFTH = """
from navtalk_async.sandbox import Api, SandboxResponse


class Fifth(Api):
    name, prefix, base_path = "fifth", "/five", "/five"
    routes = {"POST ": "stream", "PUT ": "sessions"}

    def headers(self, request):
        return {"X-Rate": "7"}

    def sessions(self, request):
        return SandboxResponse(200, request.body)

    def stream(self, request):
        request.world.add_session()
        return SandboxResponse.stream([b"data: %d\\n\\n" % n for n in range(8)])


class Unfinished(Api):
    name, prefix = "unfinished", "/unfinished"
    routes = {"GET ": "sessions"}
"""
PIECES = [b"data: %d\n\n" % number for number in range(8)]
KEY = {"X-API-Key": "k"}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """`installed("Fifth")`: a package with one more API, a class of that name."""

    def install(name):
        (tmp_path / "fifth_api.py").write_text(FIFTH)
        metadata = tmp_path / "fifth-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fifth\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[navtalk_async.sandbox]\nfifth = fifth_api:{name}\n")
        monkeypatch.syspath_prepend(tmp_path)
        apis.cache_clear()

    yield install
    apis.cache_clear()
    sys.modules.pop("fifth_api", None)


@pytest.fixture
def fifth(installed):
    installed("Fifth")


def test_each_api_is_found_at_the_addresses_of_its_reference():
    assert {"navtalk", "kodey", "lexicon"} <= set(apis())
    addresses = {
        "navtalk": ["/api/chat/sessions", "/api/chat/sessions/x", "/api/chat/messages", "/api/chat/else"],
        "kodey": ["/chat", "/chat/x", "/chat/x/message"],
        "lexicon": ["/api/v1/chats/", "/api/v1/chats/x", "/api/v1/chats/user/x", "/api/v1/chats/x/messages"],
    }
    for name, paths in addresses.items():
        assert [api_of(path).name for path in paths] == [name] * len(paths)


@pytest.mark.parametrize("path", ["", "/", "*", "//", "/elsewhere", "/api", "/api/v2/chats", "/chats"])
def test_every_other_address_is_a_404_of_some_api(path):
    context = ApiContext(World(0), Answers())
    api, request = api_of(path), SandboxRequest("GET", path, {}, context)
    api.find_route(request)
    assert request.kind == ""
    refusal = api.refusal(Refused(404, "Not Found"), request)
    assert refusal.status == 404


def test_no_api_hides_another():
    prefixes = [api.prefix for api in apis().values()]
    assert len(set(prefixes)) == len(prefixes)
    assert all(len(one) >= len(other) for one, other in pairwise(prefixes))


def test_an_api_without_a_method_for_an_endpoint_is_refused(installed):
    installed("Unfinished")
    with pytest.raises(TypeError, match="Unfinished has no method 'sessions'"):
        apis()


async def test_each_api_has_its_address_and_its_own_words_for_an_unknown_key():
    async with Sandbox(World(0), keys=set()) as box, aiohttp.ClientSession() as http:
        assert box.navtalk_url == f"{box.url}/api/chat" == box.urls["navtalk"] == box.url_of("navtalk")
        assert box.kodey_url == box.lexicon_url == box.url
        with pytest.raises(KeyError):
            box.url_of("nobody")
        for path, reported in [
            ("/api/chat/sessions", {"code": 400, "message": "Invalid API key", "data": None}),
            ("/chat", {"message": "Invalid or missing API key"}),
            ("/api/v1/chats/x", {"detail": "Invalid or missing API key"}),
        ]:
            async with http.get(box.url + path) as response:
                assert await response.json() == reported
        assert box.counts.by_api == {"navtalk": 1, "kodey": 1, "lexicon": 1}


async def test_what_one_api_writes_all_of_them_read():
    async with Sandbox(World(2)) as box, aiohttp.ClientSession() as http:
        key = {"x-api-key": "k"}
        async with http.post(f"{box.url}/chat", json={"agentId": "a", "userId": "u"}, headers=key) as made:
            name = (await made.json())["id"]
        await (await http.post(f"{box.url}/chat/{name}/message", json={"content": "好"}, headers=key)).read()
        async with http.get(f"{box.url}/api/v1/chats/{name}", headers=key) as found:
            chat = await found.json()
            assert (chat["user_id"], chat["message_count"]) == ("u", 2)
        query = {"apikey": "k", "sessionId": name}
        async with http.get(f"{box.navtalk_url}/messages", params=query) as found:
            said = (await found.json())["data"]["data"]
            assert [row["content"] for row in said] == ["好", "You said: 好"]
        async with http.delete(f"{box.url}/api/v1/chats/{name}", headers=key) as gone:
            assert gone.status == 200
        async with http.get(f"{box.navtalk_url}/sessions/{name}", params=query) as found:
            assert found.status == 404
        assert len(box.world.sessions) == 2


# A fifth API, and its streams -----------------------------------------------------------------------------


async def streamed(box):
    """The chunks that came, each as it was sent, and whether the stream ended as it should."""
    reader, writer = await asyncio.open_connection(box.host, box.port)
    writer.write(
        b"POST /five HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-API-Key: k\r\nContent-Length: 2\r\n\r\nhi"
    )
    chunks = []
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert "chunked" in head
        assert "text/event-stream" in head
        while size := int(await reader.readline() or b"-1", 16):
            chunks.append((await reader.readexactly(size + 2))[:-2])
        return chunks, True
    except (asyncio.IncompleteReadError, ConnectionResetError, ValueError):
        return chunks, False
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.usefixtures("fifth")
async def test_a_package_adds_an_api_by_an_entry_point():
    async with Sandbox(World(0)) as box, aiohttp.ClientSession() as http:
        assert box.url_of("fifth") == f"{box.url}/five"
        async with http.put(box.url_of("fifth"), data=b"hello", headers=KEY) as response:
            assert (await response.read(), response.headers["X-Rate"]) == (b"hello", "7")
        assert box.counts.by_api == {"fifth": 1}
        assert list(box.counts.written) == [("PUT", "/five", b"hello")]


@pytest.mark.usefixtures("fifth")
async def test_a_stream_comes_piece_by_piece():
    async with Sandbox(World(0), faults=Faults(slow_seconds=0.01)) as box:
        assert await streamed(box) == (PIECES, True)
        box.fail_next("slow")
        assert await streamed(box) == (PIECES, True)
        assert list(box.counts.written) == [("POST", "/five", b"hi")] * 2
        assert box.counts.by_status == {200: 2}


@pytest.mark.usefixtures("fifth")
@pytest.mark.parametrize("kind", ["cut", "cut-chunked", "reset"])
async def test_a_stream_breaks_half_way(kind):
    async with Sandbox(World(0)) as box:
        box.fail_next(kind)
        assert await streamed(box) == (PIECES[:4], False)
        assert len(box.world.sessions) == 1


@pytest.mark.usefixtures("fifth")
@pytest.mark.parametrize(("kind", "done"), [("drop", 0), ("lost-answer", 1)])
async def test_a_stream_can_be_lost_before_it_begins(kind, done):
    async with Sandbox(World(0)) as box:
        box.fail_next(kind)
        assert await streamed(box) == ([], False)
        assert len(box.world.sessions) == done


@pytest.mark.usefixtures("fifth")
async def test_a_stream_can_stand_still_until_the_sandbox_closes():
    async with Sandbox(World(0)) as box:
        box.fail_next("hang")
        reading = asyncio.create_task(streamed(box))
        await box.arrived(1)
        assert box.counts.in_flight == 1
    assert (await reading)[1] is False


@pytest.mark.usefixtures("fifth")
async def test_a_truncated_stream_ends_as_if_it_were_whole():
    async with Sandbox(World(0)) as box, aiohttp.ClientSession() as http:
        box.fail_next("truncated")
        async with http.post(box.url_of("fifth"), headers=KEY) as response:
            assert response.content_type == "text/event-stream"
            assert await response.read() == b"".join(PIECES[:4])
