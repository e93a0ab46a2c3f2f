"""The sandbox as a server: it counts, holds, limits and closes."""

import asyncio
import gzip
import time
from datetime import UTC, datetime

import aiohttp
import pytest
from documented import NAVTALK_SESSION, navtalk_world
from hypothesis import given
from hypothesis import strategies as st
from offline import OfflineApi
from plain_http import get, new_connections, raw

from navtalk_async.sandbox import Faults, Sandbox, World
from navtalk_async.sandbox._api import Window


def clean():
    return OfflineApi("navtalk", navtalk_world()).ask("/sessions")


async def test_counts_show_what_was_served_and_never_the_key():
    async with Sandbox(navtalk_world()) as box:
        await get(box, "sessions", key="canary", limit="2")
        await get(box, f"sessions/{NAVTALK_SESSION}", key="canary")
        await get(box, "messages", key="canary", sessionId=NAVTALK_SESSION)
        await get(box, "messages", key="canary", sessionId=NAVTALK_SESSION)
        await get(box, "nowhere", key="canary")
        counts = box.counts
        assert (counts.total, counts.connections) == (5, 5)
        assert counts.by_kind == {"sessions": 1, "session": 1, "messages": 2, "other": 1}
        assert counts.by_status == {200: 4, 404: 1}
        assert counts.messages_by_session == {NAVTALK_SESSION: 2}
        assert (counts.in_flight, counts.peak_in_flight) == (0, 1)
        assert list(counts.recent)[:2] == [
            ("sessions", {"limit": "2"}),
            ("session", {"sessionId": NAVTALK_SESSION}),
        ]
        async with new_connections() as http:
            reported = await (await http.get(f"{box.url}/_sandbox/counts")).json()
            assert reported["total"] == 5
            assert reported["messages_by_session"] == {NAVTALK_SESSION: 2}
            assert "canary" not in f"{reported}{counts.recent}{box}"
            assert (await http.get(f"{box.url}/_sandbox/else")).status == 404
        counts.reset()
        assert counts.total == 0


async def test_held_requests_are_in_flight_until_they_are_released():
    async with Sandbox(navtalk_world()) as box:
        box.hold()
        asking = [asyncio.create_task(get(box, "sessions")) for _ in range(5)]
        await box.arrived(5)
        assert (box.counts.in_flight, box.counts.by_status) == (5, {})
        assert "5 in flight" in repr(box)
        box.release()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 5
        assert (box.counts.in_flight, box.counts.peak_in_flight) == (0, 5)


async def test_requests_over_capacity_are_turned_away():
    async with Sandbox(navtalk_world(), capacity=2, latency=0.001) as box:
        box.hold()
        asking = [asyncio.create_task(get(box, "sessions")) for _ in range(5)]
        await box.arrived(5)
        box.release()
        assert sorted(status for status, _ in await asyncio.gather(*asking)) == [200, 200, 503, 503, 503]


async def test_requests_over_the_rate_get_a_429():
    async with Sandbox(navtalk_world(), rate=0) as box:
        head, _ = await raw(box)
        assert " 429 " in head
        assert "Retry-After: 1" in head
        box.rate = 1_000
        assert (await get(box, "sessions"))[0] == 200


@given(st.lists(st.floats(0, 5), max_size=80).map(sorted), st.integers(1, 10))
def test_no_window_lets_in_more_than_its_rate(times, rate):
    window = Window()
    begun, used = float("-inf"), 0
    for now in times:
        if now - begun >= 1:
            begun, used = now, 0
        if window.allows(now, rate):
            used += 1
        assert used <= rate


async def test_responses_are_compressed_for_clients_that_accept_it():
    async with Sandbox(World(50), gzip=True) as box:
        plain, packed = await raw(box), await raw(box, **{"Accept-Encoding": "gzip"})
        assert "gzip" in packed[0]
        assert "gzip" not in plain[0]
        assert gzip.decompress(packed[1]) == plain[1]


@pytest.mark.parametrize("held", [True, False])
async def test_closing_does_not_wait_for_requests_that_hang(held):
    async with new_connections() as http:
        async with Sandbox(navtalk_world(), faults=Faults(hang=1)) as box:
            if held:
                box.hold()
            asking = [asyncio.create_task(http.get(f"{box.navtalk_url}/sessions?apikey=k")) for _ in range(5)]
            await box.arrived(5)
            begun = time.monotonic()
        assert time.monotonic() - begun < 0.9
        found = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(error, aiohttp.ClientConnectionError) for error in found)
    assert box.counts.in_flight == 0


async def test_closing_right_after_a_connection_was_made_leaks_nothing():
    for _ in range(20):
        async with Sandbox(World(0)) as box:
            asking = asyncio.create_task(raw(box))
            await asyncio.sleep(0)
        await asyncio.gather(asking, return_exceptions=True)


async def test_waiting_for_requests_ends_when_the_sandbox_closes():
    async with Sandbox(World(0)) as box:
        waiting = asyncio.create_task(box.arrived(3))
        await get(box, "sessions")
    with pytest.raises(RuntimeError, match="closed before 3"):
        await waiting
    await box.arrived(1)


async def test_a_client_that_leaves_is_no_longer_in_flight():
    async with Sandbox(World(0)) as box:
        box.hold()
        asking = asyncio.create_task(get(box, "sessions"))
        await box.arrived(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        box.release()
        await get(box, "sessions")
        assert box.counts.in_flight == 0


async def test_a_sandbox_can_be_opened_again():
    box = Sandbox(navtalk_world())
    for _ in range(2):
        async with box:
            assert await get(box, "sessions") == (200, clean())
    assert "closed" in repr(box)


async def test_the_date_header_is_the_clocks_time_or_empty():
    moments = iter([datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC), None])
    async with Sandbox(sessions=3, clock=lambda: next(moments)) as box, aiohttp.ClientSession() as http:
        dates = []
        for _ in range(2):
            async with http.get(f"{box.navtalk_url}/sessions", params={"apikey": "k"}) as answer:
                dates.append(answer.headers["Date"])
    assert dates == ["Tue, 06 May 2031 07:08:09 GMT", ""]


def test_a_sandbox_whose_loop_stands_still_is_refused_at_once():
    async def use(box):
        return box.navtalk_url

    box = Sandbox(World(0))
    with asyncio.Runner() as fixtures, asyncio.Runner() as tests:
        fixtures.run(box.__aenter__())
        assert fixtures.run(use(box)) == box.navtalk_url
        with pytest.raises(RuntimeError, match="give its fixture the loop scope of the test"):
            tests.run(use(box))
        fixtures.run(box.__aexit__())


def test_a_sandbox_in_a_thread_answers_every_loop():
    with Sandbox(navtalk_world()) as box:
        for _ in range(2):
            assert asyncio.run(get(box, "sessions")) == (200, clean())
    with box:
        assert asyncio.run(get(box, "sessions")) == (200, clean())
