"""The README's web apps on real servers: a browser that leaves stops what was asked for it."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import aiohttp
import pytest
from key_leaks import KEYS
from readme import PATIENT_APPS
from serving import on_aiohttp, on_uvicorn

from navtalk_async.sandbox import Sandbox, World

AT_ONCE = 200
SERVERS = {"app_fastapi": on_uvicorn, "app_aiohttp": on_aiohttp}


@pytest.fixture(params=SERVERS)
def serving(request, tmp_path, monkeypatch):
    """`async with serving(box) as http`: the app, which asks *box*, and a browser's session with it."""
    name = request.param
    monkeypatch.chdir(tmp_path)

    @asynccontextmanager
    async def serve(box):
        monkeypatch.setenv("NAVTALK_API_KEY", KEYS[1])
        monkeypatch.setenv("NAVTALK_BASE_URL", box.navtalk_url)
        module = {"__name__": name}
        exec(compile(PATIENT_APPS[name], name, "exec"), module)
        async with SERVERS[name](module["app"]) as port:
            many = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=many) as http:
                yield http

    return serve


async def first_round_over(http):
    """Return when the app's own worker waits for its next round; what health said then."""
    while True:
        async with http.get("/healthz") as answer:
            seen = await answer.json()
        if seen["last_success"] != "None":
            return answer.status, seen


async def everything_waits(box, http, calls):
    """Return when so many *calls* of the app are under way, at the API or at the gate before it."""
    waiting = None
    while waiting is None or waiting + box.counts.in_flight != calls:
        async with http.get("/healthz") as answer:
            waiting = (await answer.json())["waiting"]


async def rows(answer):
    return [json.loads(line) async for line in answer.content]


async def test_pages_go_on_by_their_token_and_a_damaged_one_or_a_wrong_id_is_refused(serving):
    async with Sandbox(World(25, messages=1)) as box, serving(box) as http:
        ids, token = [], ""
        while token is not None:
            async with http.get("/sessions", params={"page": token} if token else {}) as answer:
                page = await answer.json()
            ids += [each["id"] for each in page["sessions"]]
            token = page["next"]
        assert sorted(ids) == sorted(each["id"] for each in box.world.sessions)
        async with http.get("/sessions", params={"page": "nonsense"}) as answer:
            assert answer.status == 400
        async with http.get("/sessions/nonsense/messages") as answer:
            assert answer.status in (404, 422)


async def test_a_transcript_and_an_export_are_streamed_as_lines(serving):
    async with Sandbox(World(30, messages=3)) as box, serving(box) as http:
        one = box.world.sessions[0]["id"]
        async with http.get(f"/sessions/{one}/messages") as answer:
            assert answer.content_type == "application/x-ndjson"
            assert len(await rows(answer)) == 3
        async with http.get("/export") as answer:
            found = await rows(answer)
    assert sorted(each["id"] for each in found) == sorted(each["id"] for each in box.world.sessions)
    assert {len(each["messages"]) for each in found} == {3}


async def test_the_first_lines_of_an_export_arrive_while_the_rest_is_fetched(serving):
    async with Sandbox(World(120, messages=1)) as box, serving(box) as http:
        await first_round_over(http)
        box.counts.reset()
        box.latency = 0.02
        async with http.get("/export") as answer:
            assert json.loads(await answer.content.readline())["messages"]
            asked = len(box.counts.messages_by_session)
    assert asked < 120


@pytest.mark.parametrize("path", ["/sessions", "/export", "/sessions/{id}/messages"])
async def test_a_browser_that_leaves_stops_the_requests_to_the_api(path, serving):
    async with Sandbox(World(8, messages=1)) as box, serving(box) as http:
        await first_round_over(http)
        box.counts.reset()
        box.hold()
        asking = asyncio.ensure_future(http.get(path.format(id=box.world.sessions[0]["id"])))
        await box.arrived(1)
        assert box.counts.in_flight
        asking.cancel()
        if asking.done():  # an export answers before it has anything to say
            asking.result().close()
        async with asyncio.timeout(30):
            while box.counts.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        asked = box.counts.total
        box.release()
        async with http.get("/healthz") as answer:
            assert (await answer.json())["waiting"] == 0
        assert box.counts.total == asked


async def test_a_browser_that_leaves_in_the_middle_of_an_export_stops_it_without_a_noise(serving, caplog):
    async with Sandbox(World(150, messages=1)) as box, serving(box) as http:
        await first_round_over(http)
        box.counts.reset()
        box.latency = 0.02
        async with http.get("/export") as answer:
            await answer.content.readline()
            answer.close()
        async with asyncio.timeout(30):
            while box.counts.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert len(box.counts.messages_by_session) < 150
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []


def paths(box, count):
    """Pages and transcripts in turn."""
    ids = [each["id"] for each in box.world.sessions[:count]]
    return [f"/sessions/{each}/messages" if number % 2 else "/sessions" for number, each in enumerate(ids)]


async def test_two_hundred_requests_at_once_beside_an_export_in_the_same_process_are_all_answered(serving):
    async with Sandbox(World(AT_ONCE, messages=1)) as box, serving(box) as http:
        await first_round_over(http)
        box.counts.reset()
        box.latency = 0.02

        async def asked(path):
            async with http.get(path) as answer:
                return answer.status, b'{"error"' in await answer.read()

        async with http.get("/export") as export:
            first = json.loads(await export.content.readline())
            assert len(box.counts.messages_by_session) < AT_ONCE
            exported = asyncio.ensure_future(rows(export))
            found = await asyncio.gather(*map(asked, paths(box, AT_ONCE)))
            exported = [first, *await exported]
    assert Counter(found) == {(200, False): AT_ONCE}
    assert sorted(each["id"] for each in exported) == sorted(each["id"] for each in box.world.sessions)


async def test_two_hundred_browsers_and_an_export_that_leave_together_stop_all_requests_for_them(serving):
    async with Sandbox(World(AT_ONCE, messages=1)) as box, serving(box) as http:
        await first_round_over(http)
        box.counts.reset()
        box.hold()
        left = [asyncio.ensure_future(http.get(path)) for path in ["/export", *paths(box, AT_ONCE)]]
        await everything_waits(box, http, AT_ONCE + 1)
        for each in left:
            each.cancel()
            if each.done():
                each.result().close()
        await everything_waits(box, http, 0)
        asked = box.counts.total
        box.release()
        await everything_waits(box, http, 0)
        assert box.counts.total == asked < AT_ONCE


@pytest.mark.parametrize(("fault", "status"), [("403", 502), ("400", 502), ("404", 404), ("echo-key", 502)])
async def test_an_error_is_answered_without_the_key_and_without_a_word_of_it(fault, status, serving, leaks):
    async with Sandbox(World(5, messages=1)) as box, serving(box) as http:
        await first_round_over(http)
        one = box.world.sessions[0]["id"]
        box.fail_next(fault, 1000)
        async with http.get(f"/sessions/{one}/messages") as answer:
            assert answer.status == status
            assert set(await answer.json()) == {"error"}
            leaks.see(await answer.text() + str(answer.headers))
        async with http.get("/export") as answer:
            lines = await rows(answer)
        leaks.see(lines)
        assert [set(line) for line in lines] == [{"error"}]


async def test_health_is_that_of_the_worker_in_the_same_process(serving):
    async with Sandbox(World(5, messages=1)) as box, serving(box) as http:
        status, seen = await first_round_over(http)
    assert (status, seen["healthy"], seen["waiting"]) == (200, True, 0)
