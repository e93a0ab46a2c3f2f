"""Over real sockets: what is sent, and how large an answer may be."""

import asyncio
import json
import tracemalloc
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import pytest
from navtalk_clients import EMPTY, MEBIBYTE, ONCE, client, rows

from navtalk_async import NavTalkClient, Retry, SessionStatus
from navtalk_async.errors import BodyTooLarge, ConnectFailed, Disconnected, Redirected, ServerError
from navtalk_async.models import Request
from navtalk_async.sandbox import Faults, Sandbox, World
from navtalk_async.sandbox._faults import bomb


@pytest.mark.parametrize("cursor", ["a/b", "a+b", "a%2Fb", "YQ==", "a b", "&apikey=x#", "é", "..", "%", "\\"])
async def test_a_cursor_arrives_as_it_was_given(scripted, cursor):
    async with scripted(EMPTY) as server, NavTalkClient("k-+/=%&", base_url=server.url) as nt:
        await nt.sessions.list(cursor=cursor, limit=7)
        target = server.heads[0].split(" ")[1]
    assert parse_qsl(urlsplit(target).query) == [("limit", "7"), ("cursor", cursor), ("apikey", "k-+/=%&")]


async def test_a_request_says_who_asks_and_for_what(scripted):
    async with scripted(EMPTY) as server, NavTalkClient("k", base_url=server.url) as nt:
        await nt.sessions.list(start_time="2025-11-12 00:00:00", status=SessionStatus.FAILED)
        first, *lines = server.heads[0].strip().splitlines()
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert first == (
        "GET /api/chat/sessions?startTime=2025-11-12%2000%3A00%3A00&status=2&limit=100&apikey=k HTTP/1.1"
    )
    assert headers["accept"] == "application/json"
    assert headers["user-agent"].startswith("navtalk-async")
    assert "gzip" in headers["accept-encoding"]
    assert not {"cookie", "authorization", "referer"} & set(headers)


async def test_cookies_are_ignored(scripted):
    async with scripted(EMPTY, 200, "Set-Cookie: lb=machine7; Path=/") as server:
        async with NavTalkClient("k", base_url=server.url.replace("127.0.0.1", "localhost")) as nt:
            await nt.sessions.list()
            await nt.sessions.list()
    assert len(server.heads) == 2
    assert "ookie" not in server.heads[1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_so_the_key_is_not_carried_there(scripted, status):
    async with scripted(EMPTY) as elsewhere:
        async with scripted(b"", status, f"Location: {elsewhere.url}/x?apikey=key") as server:
            async with NavTalkClient("key", base_url=server.url) as nt:
                with pytest.raises(Redirected, match=elsewhere.url):
                    await nt.sessions.list()
    assert (elsewhere.heads, len(server.heads)) == ([], 1)


@pytest.mark.parametrize("way", ["plain", "async"])
async def test_a_key_that_changes_is_asked_for_before_every_attempt(scripted, way):
    made = []

    def key():
        made.append(f"key-{len(made)}")
        return made[-1]

    async def key_from_afar():
        await asyncio.sleep(0)
        return key()

    async with scripted(b"oops", 500) as server:
        given_key = key if way == "plain" else key_from_afar
        retry = Retry(attempts=3, base_seconds=0)
        async with NavTalkClient(given_key, base_url=server.url, retry=retry) as nt:
            with pytest.raises(ServerError):
                await nt.sessions.list()
    assert [head.split("apikey=")[1].split()[0] for head in server.heads] == ["key-0", "key-1", "key-2"]


async def test_a_key_that_cannot_be_had_is_the_callers_own_error(navtalk_sandbox):
    def no_key():
        raise PermissionError("the vault is shut")

    async with client(navtalk_sandbox, no_key) as nt:
        with pytest.raises(PermissionError, match="the vault is shut"):
            await nt.sessions.list()
        assert nt.stats().in_flight == 0
    assert navtalk_sandbox.counts.total == 0


async def test_a_callables_bad_key_is_refused_and_not_shown(navtalk_sandbox):
    async with client(navtalk_sandbox, lambda: "CAN ARY") as nt:
        with pytest.raises(ValueError, match="characters that no key has"):
            await nt.sessions.list()


async def test_what_aiohttp_sends_again_by_itself_has_the_key_again():
    heads = []

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError):
            while True:
                heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                if len(heads) == 2:
                    break
                writer.write(b"HTTP/1.1 200 So\r\nContent-Length: %d\r\n\r\n%b" % (len(EMPTY), EMPTY))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        retry = Retry(attempts=1, attempts_at_first=1)
        async with NavTalkClient("the-key", base_url=url, retry=retry) as nt:
            for _ in range(2):
                assert (await nt.sessions.list()).items == []
    assert [head.split("apikey=")[1].split()[0] for head in heads] == ["the-key"] * 3


@pytest.fixture
def watching(monkeypatch):
    """`watching(traces, middlewares)`: what every session of aiohttp has besides."""

    def watch(traces=(), middlewares=()):
        begin = aiohttp.ClientSession.__init__

        def made(session, *args, **options):
            begin(session, *args, **options | {"trace_configs": [*traces], "middlewares": [*middlewares]})

        monkeypatch.setattr(aiohttp.ClientSession, "__init__", made)

    return watch


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_hook_that_asks_with_a_key_of_its_own_mixes_nothing_up(scripted, watching, method):
    traces = aiohttp.TraceConfig()
    watching([traces])
    async with scripted(EMPTY) as server, scripted(EMPTY) as other:
        async with (
            NavTalkClient("one", base_url=server.url) as nt,
            NavTalkClient("other", base_url=other.url) as aside,
            NavTalkClient("third", base_url=other.url) as another,
        ):

            async def started(_, __, parameters):
                if not other.heads and str(parameters.url).startswith(server.url):
                    await aside.sessions.list()
                    await another.sessions.list()

            traces.on_request_start.append(started)
            request = Request(path="/x", method=method)
            await nt.ask(request, lambda _, answer: answer)
    keys = [head.split("apikey=")[1].split()[0] for head in (*server.heads, *other.heads)]
    assert keys == ["one", "other", "third"]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_key_goes_nowhere_else_whoever_changes_the_address(scripted, watching, method):
    async with scripted(EMPTY) as server, scripted(EMPTY) as other:

        async def elsewhere(request, handler):
            request.url = request.url.with_port(int(other.url.rpartition(":")[2]))
            return await handler(request)

        watching(middlewares=[elsewhere])
        async with NavTalkClient("CANARY", base_url=server.url, retry=ONCE) as nt:
            with pytest.raises((Disconnected, ConnectFailed)):
                await nt.ask(Request(path="/x", method=method), lambda _, answer: answer)
    assert (server.heads, other.heads) == ([], [])


# Bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["bomb", "huge"])
async def test_a_body_that_is_too_large_costs_little_memory(fault):
    bomb()
    async with Sandbox(sessions=1, faults=Faults(huge_bytes=64 * MEBIBYTE)) as box:
        async with client(box, body_limit=MEBIBYTE) as nt:
            await nt.sessions.list()
            box.fail_next(fault)
            tracemalloc.start()
            try:
                with pytest.raises(BodyTooLarge, match="1,048,576 bytes") as caught:
                    await nt.sessions.list(limit=1)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert len((await nt.sessions.list()).items) == 1
    assert caught.value.attempts == 1
    assert peak < 16 * MEBIBYTE


async def test_a_body_that_says_it_is_too_large_is_not_read(scripted):
    async with scripted(EMPTY + b" " * 1000) as server:
        async with NavTalkClient("k", base_url=server.url, body_limit=1000) as nt:
            with pytest.raises(BodyTooLarge):
                await nt.sessions.list()


async def test_a_body_of_exactly_the_limit_fits(scripted):
    async with scripted(EMPTY) as server:
        async with NavTalkClient("k", base_url=server.url, body_limit=len(EMPTY)) as nt:
            assert (await nt.sessions.list()).items == []


async def test_compressed_answers_are_read():
    async with Sandbox(sessions=100, gzip=True) as box, client(box) as nt:
        assert [row.id for row in await rows(nt.sessions.list())] == [row["id"] for row in box.world.sessions]


async def test_messages_of_a_megabyte_come_through():
    async with Sandbox(World(sessions=1, messages=3, long_messages=1)) as box, client(box) as nt:
        session_id = box.world.sessions[0]["id"]
        got = await rows(nt.messages.list(session_id))
        assert [json.loads(message.raw) for message in got] == box.world.messages(session_id)
