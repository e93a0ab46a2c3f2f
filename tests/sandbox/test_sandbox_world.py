"""The sandbox's world: the same from the same seed, and changed only where it is told to change."""

import json
import time
import zlib
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_http import get
from profiles import examples

from navtalk_async.sandbox import Sandbox, World


def everything(world):
    return [(row, world.messages(row["id"])) for row in world.sessions]


@settings(max_examples=examples(25))
@given(st.integers(0, 60), st.integers(-5, 2**40), st.booleans())
def test_the_same_seed_makes_the_same_world(sessions, seed, unknown):
    one, other = (World(sessions, seed, unknown_fields=unknown) for _ in range(2))
    assert everything(one) == everything(other)
    assert len(one.sessions) == sessions
    assert one.total_messages == sum(len(said) for _, said in everything(one))


def test_seed_zero_makes_the_world_it_always_made():
    text = json.dumps(everything(World(200)), sort_keys=True)
    assert (len(text), zlib.crc32(text.encode())) == (777_399, 2_951_751_204)


def test_world_is_clustered_and_long_tailed_and_its_ids_are_in_no_order_of_time():
    world = World(20_000)
    rows = world.sessions
    counts = [len(world.messages(row["id"])) for row in rows[:2000]]
    starts = [row["startTime"] for row in rows]
    days = [sum(start.startswith(f"2025-11-{day:02}") for start in starts) for day in range(1, 31)]
    assert min(counts) == 0
    assert max(counts) > 200
    assert 8 < world.total_messages / 20_000 < 12
    assert max(days) > 10 * (min(days) + 1)
    assert starts == sorted(starts)
    assert sum(a == b for a, b in pairwise(starts)) > 500
    assert [row["id"] for row in rows[:100]] != sorted(row["id"] for row in rows[:100])
    assert {row["status"] for row in rows} == {0, 1, 2}
    assert all((row["endTime"] is None) == (row["status"] == 0) for row in rows)
    assert {row["videoUrl"] is None for row in rows} == {True, False}


def test_ids_are_unique_in_the_whole_world():
    world = World(300, unknown_fields=True)
    ids = [row["id"] for row in world.sessions] + [m["id"] for _, said in everything(world) for m in said]
    assert len(set(ids)) == len(ids) == 300 + world.total_messages


def test_texts_hold_what_breaks_careless_readers():
    texts = "".join(m["content"] for _, said in everything(World(300)) for m in said)
    for sign in ("\x00", "\u2028", "\u200d", "\u200f", "\u0301", "好", '"', "\\", "\n", "\t", "</script>"):
        assert sign in texts
    assert any(m["content"] == "" for _, said in everything(World(300)) for m in said)


def test_message_counts_can_be_fixed_and_long_messages_asked_for():
    assert {len(said) for _, said in everything(World(5, messages=1200))} == {1200}
    assert [len(said) for _, said in everything(World(5, messages=lambda number: number * number))] == [
        0,
        1,
        4,
        9,
        16,
    ]
    long = World(20, long_messages=3)
    sizes = [len(m["content"].encode()) for _, said in everything(long) for m in said]
    assert sum(size >= 1_000_000 for size in sizes) == 3


def test_fifty_thousand_sessions_are_made_in_a_moment():
    begun = time.process_time()
    World(50_000)
    assert time.process_time() - begun < 2


async def test_changes_are_served_and_nothing_read_from_the_world_can_change_it():
    async with Sandbox(World(10)) as box:
        world, at = box.world, datetime(2025, 11, 3, 4, 5, 6, tzinfo=UTC)
        late = world.add_session(at, status=0, tags=["new"])
        world.add_message(late["id"], "second", role=1, created_at="2025-11-03 04:05:08")
        world.add_message(late["id"], "first", created_at="2025-11-03 04:05:07", id="0" * 8)
        gone = world.sessions[0]["id"] if world.sessions[0]["id"] != late["id"] else world.sessions[1]["id"]
        world.remove_session(gone)
        said = (await get(box, "messages", sessionId=late["id"]))[1]["data"]["data"]
        assert [row["content"] for row in said] == ["first", "second"]
        one = (await get(box, f"sessions/{late['id']}"))[1]["data"]
        assert one["startTime"] == "2025-11-03 04:05:06"
        assert (one["endTime"], one["tags"]) == (None, ["new"])
        world.change_session(late["id"], status=1, end_time=at, videoUrl="https://v.example")
        listed = (await get(box, "sessions"))[1]["data"]["data"]
        assert listed == world.sessions
        assert gone not in {row["id"] for row in listed}
        assert (await get(box, f"sessions/{gone}"))[0] == 404
        world.session(late["id"])["status"] = 9
        world.messages(late["id"])[0]["content"] = "forged"
        assert world.session(late["id"]) | {"endTime": "2025-11-03 04:05:06", "status": 1} == world.session(
            late["id"]
        )
        assert world.messages(late["id"])[0]["content"] == "first"
        assert world.total_messages == sum(len(said) for _, said in everything(world))


def test_unknown_sessions_are_key_errors_and_doubled_ones_value_errors():
    world = World(1)
    for ask in (world.session, world.messages, world.remove_session, world.change_session, world.add_message):
        with pytest.raises(KeyError):
            ask("nobody")
    with pytest.raises(ValueError, match="already"):
        world.add_session(id=world.sessions[0]["id"])


def test_messages_change_and_vanish_in_their_own_session_alone():
    world = World(4, messages=3)
    first, second = (world.sessions[n]["id"] for n in (1, 2))
    others = world.messages(second)
    one, two, three = world.messages(first)
    world.change_message(first, two["id"], content="corrected")
    world.remove_message(first, one["id"])
    assert world.messages(first) == [two | {"content": "corrected"}, three]
    assert world.messages(second) == others
    assert world.total_messages == 11
