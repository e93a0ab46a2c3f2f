"""The sandbox plays every fault, at random or as planned."""

import json
import zlib

import pytest
from documented import NAVTALK_SESSION, navtalk_world
from hypothesis import given
from hypothesis import strategies as st
from offline import OfflineApi
from plain_http import get, new_connections, raw

from navtalk_async.sandbox import KINDS, Faults, Sandbox, World
from navtalk_async.sandbox._faults import bomb


def clean():
    return OfflineApi("navtalk", navtalk_world()).ask("/sessions")


def test_faults_are_read_from_a_line():
    assert Faults.parse("500=0.05, 429-bare=2%,cut-chunked=.01") == Faults(
        http_500=0.05, http_429_bare=0.02, cut_chunked=0.01
    )
    mix = Faults(http_500=0.02, http_429=0.02, reset=0.02, cut=0.02, garbage=0.02)
    assert Faults.parse("10%") == Faults.parse("0.1") == Faults.parse("all=0.1") == mix
    assert Faults.parse("") == Faults()
    assert Faults.parse("slow=1,retry-after=2,slow-seconds=5,huge-bytes=10") == Faults(
        slow=1.0, retry_after=2.0, slow_seconds=5.0, huge_bytes=10
    )
    for kind in KINDS:
        assert Faults.parse(f"{kind}=1").chances == {kind: 1.0}


@pytest.mark.parametrize(
    "line", ["500", "=0.1", "flood=0.1", "500=often", "500=2", "500=-1%", "500=60%,reset=60%"]
)
def test_nonsense_in_a_line_of_faults_is_refused(line):
    with pytest.raises(ValueError, match=r"fault|figure|chance"):
        Faults.parse(line)


@given(st.floats(0, 1, exclude_max=True))
def test_a_fault_is_chosen_by_the_share_it_has(dice):
    faults = Faults(http_500=0.25, reset=0.5)
    expected = "500" if dice < 0.25 else "reset" if dice < 0.75 else None
    assert faults.choose(dice, lambda _: True) == expected
    assert faults.choose(dice, lambda _: False) is None


@pytest.mark.parametrize("kind", ["500", "503", "429", "429-bare", "400", "403", "404", "echo-key"])
async def test_status_faults_answer_with_their_status(kind):
    async with Sandbox(navtalk_world(), faults=Faults(retry_after=2)) as box:
        box.fail_next(kind)
        head, body = await raw(box)
        status = 400 if kind == "echo-key" else int(kind[:3])
        assert f" {status} " in head.splitlines()[0]
        assert ("Retry-After: 2" in head) is (kind == "429")
        assert (b"apikey=k" in body) is (kind == "echo-key")
        assert await get(box, "sessions") == (200, clean())
        assert box.counts.faults == {kind: 1}
        assert box.counts.by_status == {status: 1, 200: 1}


async def test_reset_and_drop_end_the_connection_without_an_answer():
    async with Sandbox(navtalk_world()) as box:
        box.fail_next("reset")
        with pytest.raises(ConnectionResetError):
            await raw(box)
        box.fail_next("drop")
        assert await raw(box) == ("", b"")
        assert box.counts.by_status == {}
        assert await get(box, "sessions") == (200, clean())


async def test_cut_bodies_end_before_they_said_they_would():
    async with Sandbox(navtalk_world()) as box:
        length = len((await raw(box))[1])
        box.fail_next("cut")
        head, body = await raw(box)
        assert f"Content-Length: {length}" in head
        assert 0 < len(body) < length
        box.fail_next("cut-chunked")
        head, body = await raw(box)
        assert "chunked" in head
        assert not body.endswith(b"0\r\n\r\n")


async def test_slow_bodies_are_right_in_the_end():
    async with Sandbox(navtalk_world(), faults=Faults(slow_seconds=0.02)) as box:
        box.fail_next("slow")
        assert await get(box, "sessions") == (200, clean())


async def test_huge_bodies_are_as_large_as_asked():
    async with Sandbox(World(0), faults=Faults(huge_bytes=3_000_000)) as box:
        box.fail_next("huge")
        status, body = await get(box, "sessions")
        assert status == 200
        assert len(body["data"]) >= 3_000_000


@pytest.mark.parametrize("kind", ["garbage", "html", "truncated", "deep"])
async def test_nonsense_arrives_whole_with_status_200_and_cannot_be_read(kind):
    async with Sandbox(navtalk_world()) as box:
        box.fail_next(kind)
        head, body = await raw(box)
        assert " 200 " in head.splitlines()[0]
        assert f"Content-Length: {len(body)}" in head
        with pytest.raises((ValueError, RecursionError)):
            json.loads(body)


async def test_wrong_shapes_are_json_that_nobody_documented():
    async with Sandbox(navtalk_world()) as box:
        box.fail_next("wrong-shape", times=30)
        bodies = [json.loads((await raw(box))[1]) for _ in range(30)]
    assert all(body != clean() for body in bodies)
    assert len({json.dumps(body) for body in bodies}) > 3


async def test_a_bomb_is_small_and_inflates_to_hundreds_of_megabytes():
    async with Sandbox(navtalk_world()) as box:
        box.fail_next("bomb")
        head, body = await raw(box)
    assert "Content-Encoding: gzip" in head
    assert len(body) < 500_000
    assert body == bomb()
    inflate, size = zlib.decompressobj(31), 0
    while not inflate.eof:
        size += len(inflate.decompress(inflate.unconsumed_tail or body, 1 << 22))
        body = b""
    assert size > 300_000_000


async def test_a_redirect_leads_to_another_host_name_with_the_key():
    async with Sandbox(navtalk_world()) as box:
        box.fail_next("redirect")
        head, _ = await raw(box)
        assert f"Location: http://localhost:{box.port}/api/chat/sessions?apikey=k" in head


async def test_planned_faults_come_in_order_where_they_fit_and_before_random_ones():
    async with Sandbox(navtalk_world(), faults=Faults(http_503=1)) as box:
        box.fail_next("500", times=2, path="messages")
        box.fail_next("repeat-cursor")
        box.fail_next("404")
        found = [(await get(box, "sessions"))[0]]
        found += [(await get(box, "messages", sessionId=NAVTALK_SESSION))[0] for _ in range(3)]
        cursor = clean()["data"]["nextCursor"]
        _, repeated = await get(box, "sessions", cursor=cursor)
    assert found == [404, 500, 500, 503]
    assert repeated["data"]["nextCursor"] == cursor
    with pytest.raises(ValueError, match="no such fault"):
        box.fail_next("flood")


async def test_the_same_seed_makes_the_same_faults():
    async def statuses(seed):
        async with (
            Sandbox(World(1), seed=seed, faults=Faults(http_500=0.3, http_429=0.3)) as box,
            new_connections() as http,
        ):
            return [(await http.get(f"{box.navtalk_url}/sessions?apikey=k")).status for _ in range(40)]

    first, again, other = await statuses(1), await statuses(1), await statuses(2)
    assert first == again != other
    assert set(first) == {200, 429, 500}
