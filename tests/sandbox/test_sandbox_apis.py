"""The sandbox finds its APIs by itself, serves them from one world on one port, and breaks their streams."""

import asyncio
import sys
from itertools import pairwise

import aiohttp
import pytest

from navtalk_async import sandbox
from navtalk_async.sandbox import Answers, Faults, Sandbox, World
from navtalk_async.sandbox.apis import apis, fitting
from navtalk_async.sandbox.exchange import Asked

FIFTH = """
from .exchange import Answered, Streamed

NAME, BASE, PREFIX = "fifth", "/five", "/five"
WRONG_SHAPES = (b"null",)
PIECES = [b"data: %d\\n\\n" % n for n in range(8)]

def kind(asked): return "stream" if asked.method == "POST" else "sessions"
def session(asked): return ""
def secret(asked): return asked.headers.get("X-Key", "")
def can_play(fault, asked): return True
def headers(asked, room): return {"X-Rate": "7"}
def refusal(code, message, asked, answers, wait=None): return Answered(code, message.encode())

def answer(asked, room, fault):
    room.world.add_session()
    if asked.method == "POST":
        return Streamed(200, "text/event-stream", PIECES)
    return Answered(200, asked.body or b"none")
"""
PIECES = [b"data: %d\n\n" % number for number in range(8)]


@pytest.fixture
def fifth(tmp_path):
    """One more API, by one more file in the folder."""
    (tmp_path / "fifth.py").write_text(FIFTH)
    sandbox.__path__.append(str(tmp_path))
    apis.cache_clear()
    try:
        yield
    finally:
        sandbox.__path__.pop()
        apis.cache_clear()
        del sys.modules["navtalk_async.sandbox.fifth"], sandbox.fifth


def test_each_api_is_found_at_the_addresses_of_its_reference():
    assert {"navtalk", "kodey", "lexicon"} <= set(apis())
    addresses = {
        "navtalk": ["/api/chat/sessions", "/api/chat/sessions/x", "/api/chat/messages", "/api/chat/else"],
        "kodey": ["/chat", "/chat/x", "/chat/x/message"],
        "lexicon": ["/api/v1/chats/", "/api/v1/chats/x", "/api/v1/chats/user/x", "/api/v1/chats/x/messages"],
    }
    for name, paths in addresses.items():
        assert [fitting(path).NAME for path in paths] == [name] * len(paths)


@pytest.mark.parametrize("path", ["", "/", "*", "//", "/elsewhere", "/api", "/api/v2/chats", "/chats"])
def test_every_other_address_is_a_404_of_some_api(path):
    api = fitting(path)
    asked = Asked("GET", path, {}, headers={})
    asked.kind = api.kind(asked)
    assert asked.kind == ""
    told = api.refusal(404, "Not Found", asked, Answers())
    assert told.status == 404


def test_no_api_hides_another():
    prefixes = [api.PREFIX for api in apis().values()]
    assert len(set(prefixes)) == len(prefixes)
    assert all(len(one) >= len(other) for one, other in pairwise(prefixes))


def test_a_module_that_is_half_an_api_is_refused(tmp_path):
    (tmp_path / "sixth.py").write_text("NAME = 'sixth'")
    sandbox.__path__.append(str(tmp_path))
    apis.cache_clear()
    try:
        with pytest.raises(TypeError, match="sixth has a NAME"):
            apis()
    finally:
        sandbox.__path__.pop()
        apis.cache_clear()
        del sys.modules["navtalk_async.sandbox.sixth"], sandbox.sixth


async def test_each_api_has_its_address_and_its_own_words_for_an_unknown_key():
    async with Sandbox(World(0), keys=set()) as box, aiohttp.ClientSession() as http:
        assert box.navtalk_url == f"{box.url}/api/chat" == box.url_of("navtalk")
        assert box.kodey_url == box.lexicon_url == box.url
        with pytest.raises(KeyError):
            box.url_of("nobody")
        for path, told in [
            ("/api/chat/sessions", {"code": 400, "message": "Invalid API key", "data": None}),
            ("/chat", {"message": "Invalid or missing API key"}),
            ("/api/v1/chats/x", {"detail": "Invalid or missing API key"}),
        ]:
            async with http.get(box.url + path) as response:
                assert await response.json() == told
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
    writer.write(b"POST /five HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
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
async def test_a_fifth_api_is_one_more_file():
    async with Sandbox(World(0)) as box, aiohttp.ClientSession() as http:
        assert box.url_of("fifth") == f"{box.url}/five"
        async with http.put(box.url_of("fifth"), data=b"hello") as response:
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
        async with http.post(box.url_of("fifth")) as response:
            assert response.content_type == "text/event-stream"
            assert await response.read() == b"".join(PIECES[:4])
