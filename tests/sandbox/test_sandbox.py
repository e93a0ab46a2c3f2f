"""The sandbox plays the documented API, both answers to every unknown, and every fault, and counts it all."""

import asyncio
import gzip
import json
import time
import zlib
from datetime import UTC, datetime
from itertools import pairwise

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navtalk_async.sandbox import KINDS, Answers, Faults, Sandbox, World
from navtalk_async.sandbox import navtalk as api
from navtalk_async.sandbox.exchange import Asked
from navtalk_async.sandbox.limits import Window
from navtalk_async.sandbox.stunts import bomb

FIRST = "709b712f-dede-11f0-92bc-000e1eed4a72"
SAMPLE_SESSIONS = {
    "code": 200,
    "message": "SUCCESS",
    "data": {
        "data": [
            {
                "id": "709b712f-dede-11f0-92bc-000e1eed4a72",
                "status": 1,
                "startTime": "2025-11-12 18:20:38",
                "endTime": "2025-11-12 18:20:50",
                "videoUrl": None,
            },
            {
                "id": "709c1924-dede-11f0-92bc-000e1eed4a72",
                "status": 1,
                "startTime": "2025-11-12 23:17:42",
                "endTime": "2025-11-12 23:17:48",
                "videoUrl": None,
            },
            {
                "id": "709c19a1-dede-11f0-92bc-000e1eed4a72",
                "status": 1,
                "startTime": "2025-11-14 07:44:42",
                "endTime": "2025-11-14 07:45:07",
                "videoUrl": None,
            },
        ],
        "nextCursor": "MjAyNS0xMS0xNFQwNzo0NDo0Mnw3MDljMTlhMS1kZWRlLTExZjAtOTJiYy0wMDBlMWVlZDRhNzI=",
    },
}
SAMPLE_MESSAGES = {
    "code": 200,
    "message": "SUCCESS",
    "data": {
        "data": [
            {
                "id": "70c27233-dede-11f0-92bc-000e1eed4a72",
                "role": 0,
                "messageType": 0,
                "content": "zaiganma",
                "createdAt": "2025-11-12 18:20:43",
            },
            {
                "id": "70c27301-dede-11f0-92bc-000e1eed4a72",
                "role": 1,
                "messageType": 0,
                "content": "It sounds like you're trying to convey something-could you clarify or share "
                "a bit more about what you need help with? I'm here to help.",
                "createdAt": "2025-11-12 18:20:45",
            },
            {
                "id": "70c273da-dede-11f0-92bc-000e1eed4a72",
                "role": 0,
                "messageType": 0,
                "content": "Thank You For Watching",
                "createdAt": "2025-11-12 18:20:45",
            },
        ],
        "nextCursor": "MjAyNS0xMS0xMlQxODoyMDo0NXw3MGMyNzNkYS1kZWRlLTExZjAtOTJiYy0wMDBlMWVlZDRhNzI=",
    },
}


def talk():
    # A fresh connection each time: aiohttp quietly asks again when a kept one breaks.
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


async def get(box, path, *, key="any", **params):
    params = {"apikey": key, **params} if key is not None else params
    async with talk() as http, http.get(f"{box.navtalk_url}/{path}", params=params) as response:
        return response.status, json.loads(await response.read())


class Room:
    """What the pure part answers from, without a socket."""

    def __init__(self, world, answers=None):
        self.world, self.answers, self.keys = world, answers or Answers(), None

    def ask(self, kind, fault=None, **query):
        asked = Asked("GET", f"/api/chat/{kind}", {"apikey": "k", **query}, kind=kind)
        return json.loads(api.answer(asked, self, fault).body)

    def pages(self, kind, **query):
        for _ in range(10_000):
            page = self.ask(kind, **query)["data"]
            yield page["data"]
            if not page.get("nextCursor"):
                return
            query["cursor"] = page["nextCursor"]
        raise AssertionError("the walk does not end")

    def ids(self, kind, **query):
        return [row["id"] for page in self.pages(kind, **query) for row in page]


# The reference page ---------------------------------------------------------------------------------------


async def test_documented_samples_come_out_field_for_field():
    async with Sandbox(World.documented()) as box:
        window = {"startTime": "2025-11-12 00:00:00", "endTime": "2025-11-21 23:59:59"}
        listed = await get(box, "sessions", **window, status="1", limit="20")
        minute = {"startTime": "2025-11-12 18:20:00", "endTime": "2025-11-12 18:21:00"}
        said = await get(box, "messages", sessionId=FIRST, **minute, limit="50")
        user = await get(box, "messages", sessionId=FIRST, **minute, role="0", limit="50")
        one = await get(box, f"sessions/{FIRST}")
    assert listed == (200, SAMPLE_SESSIONS)
    assert said == (200, SAMPLE_MESSAGES)
    assert [row["id"][:8] for row in user[1]["data"]["data"]] == ["70c27233", "70c273da"]
    assert one == (200, {"code": 200, "message": "SUCCESS", "data": SAMPLE_SESSIONS["data"]["data"][0]})


async def test_documented_walk_ends_with_an_empty_page_or_with_null():
    room = Room(World.documented())
    assert [len(page) for page in room.pages("sessions")] == [3, 0]
    room.answers = Answers(cursor_on_last_page=False)
    assert [len(page) for page in room.pages("sessions")] == [3]
    assert [len(page) for page in room.pages("sessions", limit="2")] == [2, 1]


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("sessions", {"key": None}, 400),
        ("sessions", {"key": ""}, 400),
        ("sessions", {"key": "expired"}, 403),
        ("sessions", {"limit": "0"}, 400),
        ("sessions", {"limit": "many"}, 400),
        ("sessions", {"status": "done"}, 400),
        ("sessions", {"startTime": "2025-11-12"}, 400),
        ("sessions", {"startTime": "2025-11-12T00:00:00"}, 400),
        ("sessions", {"endTime": "2025-02-30 00:00:00"}, 400),
        ("sessions", {"cursor": "not one of ours"}, 400),
        ("sessions", {"cursor": "bm9uc2Vuc2U="}, 400),
        ("messages", {}, 400),
        ("messages", {"sessionId": "709b712f-dede-11f0-92bc-ffffffffffff"}, 404),
        ("sessions/709b712f-dede-11f0-92bc-ffffffffffff", {}, 404),
        ("api/chat/sessions", {}, 404),
        ("session", {}, 404),
    ],
)
@pytest.mark.parametrize("errors", ["status", "body", "both"])
async def test_refusals_are_told_by_status_or_by_body_or_now_so_now_so(path, params, code, errors):
    async with Sandbox(World.documented(), answers=Answers(errors=errors)) as box:
        told = [await get(box, path, **params) for _ in range(2)]
    assert [(body["code"], body["data"]) for _, body in told] == [(code, None)] * 2
    by = {"status": [code, code], "body": [200, 200], "both": [200, code]}
    assert [status for status, _ in told] == by[errors]


async def test_bare_refusals_are_no_json():
    async with Sandbox(World.documented(), answers=Answers(errors="bare")) as box:
        head, body = await raw(box, "sessions?apikey=")
    assert "400" in head.splitlines()[0]
    assert body == b"Invalid API key"


async def test_only_get_is_answered():
    async with Sandbox(World.documented()) as box, talk() as http:
        assert (await http.post(f"{box.navtalk_url}/sessions?apikey=k")).status == 405


async def test_keys_can_be_rotated_and_can_open_different_worlds():
    mine, theirs = World.documented(), World(3)
    async with Sandbox(mine, keys={"old"}) as box:
        assert (await get(box, "sessions", key="old"))[0] == 200
        box.keys = {"new": mine, "other": theirs}
        assert (await get(box, "sessions", key="old"))[0] == 400
        assert (await get(box, f"sessions/{FIRST}", key="new"))[0] == 200
        assert (await get(box, f"sessions/{FIRST}", key="other"))[0] == 404


# The unknowns ---------------------------------------------------------------------------------------------

some_answers = st.builds(
    Answers,
    cursor_on_last_page=st.booleans(),
    last_cursor=st.sampled_from(["null", "empty", "missing"]),
    start_inclusive=st.booleans(),
    end_inclusive=st.booleans(),
    end_bounds=st.sampled_from(["start", "end"]),
    filters_ignored=st.booleans(),
    cursor_needs_filters=st.booleans(),
    max_page=st.none() | st.integers(1, 30),
)
WORLD = World(150, seed=3, unknown_fields=True)
TALKATIVE = max(WORLD.sessions, key=lambda row: len(WORLD.messages(row["id"])))["id"]
TIMES = [row[field] for row in WORLD.sessions for field in ("startTime", "endTime") if row[field]]
MESSAGES = [row["createdAt"] for row in WORLD.messages(TALKATIVE)]


@settings(deadline=None)
@given(some_answers, st.integers(1, 150))
def test_walking_with_any_limit_and_any_answers_yields_every_row_once_in_order(answers, limit):
    room = Room(WORLD, answers)
    assert room.ids("sessions", limit=str(limit)) == [row["id"] for row in WORLD.sessions]
    said = [row["id"] for row in WORLD.messages(TALKATIVE)]
    assert room.ids("messages", sessionId=TALKATIVE, limit=str(limit)) == said


@settings(deadline=None)
@given(
    some_answers,
    st.integers(1, 50),
    st.sampled_from(TIMES),
    st.sampled_from(TIMES),
    st.sampled_from([None, 0, 1, 2, 7]),
)
def test_session_filters_mean_what_the_answers_say(answers, limit, start, end, status):
    def kept(row):
        if status is not None and row["status"] != status:
            return False
        if answers.filters_ignored:
            return True
        told = row["startTime"] if answers.end_bounds == "start" else row["endTime"] or "9999"
        late = told > end or (told == end and not answers.end_inclusive)
        early = row["startTime"] < start or (row["startTime"] == start and not answers.start_inclusive)
        return not late and not early

    query = {"startTime": start, "endTime": end, "limit": str(limit)}
    if status is not None:
        query["status"] = str(status)
    expected = [row["id"] for row in WORLD.sessions if kept(row)]
    assert Room(WORLD, answers).ids("sessions", **query) == expected


@given(st.sampled_from(MESSAGES), st.sampled_from(MESSAGES), st.sampled_from([0, 1, 7]))
def test_message_filters_bound_the_time_of_the_message(start, end, role):
    found = Room(WORLD).ids("messages", sessionId=TALKATIVE, startTime=start, endTime=end, role=str(role))
    rows = WORLD.messages(TALKATIVE)
    assert found == [row["id"] for row in rows if start <= row["createdAt"] <= end and row["role"] == role]


@pytest.mark.parametrize("needed", [True, False])
def test_dropping_the_filters_on_page_two_matters_only_when_the_cursor_forgets_them(needed):
    room = Room(WORLD, Answers(cursor_needs_filters=needed))
    first = room.ask("sessions", status="2", limit="2")["data"]
    second = room.ask("sessions", limit="50", cursor=first["nextCursor"])["data"]["data"]
    assert ({row["status"] for row in second} == {2}) is not needed


def test_limits_over_the_maximum_are_clamped_or_refused():
    room = Room(WORLD)
    assert len(room.ask("sessions", limit="1000")["data"]["data"]) == 100
    assert len(room.ask("sessions")["data"]["data"]) == 20
    room.answers = Answers(max_page=7)
    assert len(room.ask("sessions", limit="100")["data"]["data"]) == 7
    room.answers = Answers(over_limit="refuse")
    assert room.ask("sessions", limit="101")["code"] == 400
    assert room.ask("sessions", limit="100")["code"] == 200


# The world ------------------------------------------------------------------------------------------------


def everything(world):
    return [(row, world.messages(row["id"])) for row in world.sessions]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 60), st.integers(-5, 2**40), st.booleans())
def test_same_seed_makes_the_same_world(sessions, seed, unknown):
    one, other = (World(sessions, seed, unknown_fields=unknown) for _ in range(2))
    assert everything(one) == everything(other)
    assert len(one.sessions) == sessions
    assert one.total_messages == sum(len(said) for _, said in everything(one))


def test_seed_zero_makes_the_world_it_always_made():
    text = json.dumps(everything(World(200)), sort_keys=True)
    assert (len(text), zlib.crc32(text.encode())) == (777_399, 2_951_751_204)


def test_world_is_clustered_and_long_tailed_and_its_ids_tell_nothing_of_time():
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


# The faults -----------------------------------------------------------------------------------------------


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
    assert set(KINDS) == set(Faults().chances())


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


async def raw(box, path="sessions?apikey=k", **headers):
    """Everything the server sends until it closes."""
    reader, writer = await asyncio.open_connection(box.host, box.port)
    lines = [f"GET /api/chat/{path} HTTP/1.1", "Host: x", "Connection: close"]
    writer.write("\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode())
    try:
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return head.decode(), body


def clean(room=None):
    return (room or Room(World.documented())).ask("sessions")


@pytest.mark.parametrize("kind", ["500", "503", "429", "429-bare", "400", "403", "404", "echo-key"])
async def test_status_faults_answer_with_their_status(kind):
    async with Sandbox(World.documented(), faults=Faults(retry_after=2)) as box:
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
    async with Sandbox(World.documented()) as box:
        box.fail_next("reset")
        with pytest.raises(ConnectionResetError):
            await raw(box)
        box.fail_next("drop")
        assert await raw(box) == ("", b"")
        assert box.counts.by_status == {}
        assert await get(box, "sessions") == (200, clean())


async def test_cut_bodies_end_before_they_said_they_would():
    async with Sandbox(World.documented()) as box:
        box.fail_next("cut")
        head, body = await raw(box)
        length = len(api.answer(Asked("GET", "", {"apikey": "k"}, kind="sessions"), box, None).body)
        assert f"Content-Length: {length}" in head
        assert 0 < len(body) < length
        box.fail_next("cut-chunked")
        head, body = await raw(box)
        assert "chunked" in head
        assert not body.endswith(b"0\r\n\r\n")


async def test_slow_bodies_are_right_in_the_end():
    async with Sandbox(World.documented(), faults=Faults(slow_seconds=0.02)) as box:
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
    async with Sandbox(World.documented()) as box:
        box.fail_next(kind)
        head, body = await raw(box)
        assert " 200 " in head.splitlines()[0]
        assert f"Content-Length: {len(body)}" in head
        with pytest.raises((ValueError, RecursionError)):
            json.loads(body)


async def test_wrong_shapes_are_json_that_nobody_documented():
    async with Sandbox(World.documented()) as box:
        box.fail_next("wrong-shape", times=30)
        bodies = [json.loads((await raw(box))[1]) for _ in range(30)]
    assert all(body != clean() for body in bodies)
    assert len({json.dumps(body) for body in bodies}) > 3


async def test_a_bomb_is_small_and_inflates_to_hundreds_of_megabytes():
    async with Sandbox(World.documented()) as box:
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
    async with Sandbox(World.documented()) as box:
        box.fail_next("redirect")
        head, _ = await raw(box)
        assert f"Location: http://localhost:{box.port}/api/chat/sessions?apikey=k" in head


def test_page_faults_lose_no_row_and_change_no_later_answer():
    room = Room(WORLD)
    first = room.ask("sessions")["data"]
    cursor = first["nextCursor"]
    second = room.ask("sessions", cursor=cursor)["data"]
    repeated = room.ask("sessions", "repeat-cursor", cursor=cursor)["data"]
    assert repeated == {"data": second["data"], "nextCursor": cursor}
    empty = room.ask("sessions", "empty-page", cursor=cursor)["data"]
    again = room.ask("sessions", "empty-page", cursor=empty["nextCursor"])["data"]
    assert empty["data"] == again["data"] == []
    assert len({cursor, empty["nextCursor"], again["nextCursor"]}) == 3
    assert room.ask("sessions", cursor=again["nextCursor"])["data"] == second
    start = room.ask("sessions", "empty-page")["data"]
    assert room.ask("sessions", cursor=start["nextCursor"])["data"] == first
    back = room.ask("sessions", "cycle", cursor=second["nextCursor"])["data"]
    assert back["nextCursor"] == cursor


async def test_planned_faults_come_in_order_where_they_fit_and_before_random_ones():
    async with Sandbox(World.documented(), faults=Faults(http_503=1)) as box:
        box.fail_next("500", times=2, path="messages")
        box.fail_next("repeat-cursor")
        box.fail_next("404")
        found = [(await get(box, "sessions"))[0]]
        found += [(await get(box, "messages", sessionId=FIRST))[0] for _ in range(3)]
        cursor = SAMPLE_SESSIONS["data"]["nextCursor"]
        _, repeated = await get(box, "sessions", cursor=cursor)
    assert found == [404, 500, 500, 503]
    assert repeated["data"]["nextCursor"] == cursor
    with pytest.raises(ValueError, match="no such fault"):
        box.fail_next("flood")


async def test_same_seed_makes_the_same_faults():
    async def statuses(seed):
        async with (
            Sandbox(World(1), seed=seed, faults=Faults(http_500=0.3, http_429=0.3)) as box,
            talk() as http,
        ):
            return [(await http.get(f"{box.navtalk_url}/sessions?apikey=k")).status for _ in range(40)]

    first, again, other = await statuses(1), await statuses(1), await statuses(2)
    assert first == again != other
    assert set(first) == {200, 429, 500}


# The server -----------------------------------------------------------------------------------------------


async def test_counts_tell_what_was_served_and_never_the_key():
    async with Sandbox(World.documented()) as box:
        await get(box, "sessions", key="canary", limit="2")
        await get(box, f"sessions/{FIRST}", key="canary")
        await get(box, "messages", key="canary", sessionId=FIRST)
        await get(box, "messages", key="canary", sessionId=FIRST)
        await get(box, "nowhere", key="canary")
        counts = box.counts
        assert (counts.total, counts.session_gets, counts.connections) == (5, 1, 5)
        assert counts.by_kind == {"sessions": 1, "session": 1, "messages": 2, "other": 1}
        assert counts.by_status == {200: 4, 404: 1}
        assert counts.messages_by_session == {FIRST: 2}
        assert (counts.in_flight, counts.peak_in_flight) == (0, 1)
        assert list(counts.recent)[:2] == [("sessions", {"limit": "2"}), ("session", {"sessionId": FIRST})]
        async with talk() as http:
            told = await (await http.get(f"{box.url}/_sandbox/counts")).json()
            assert told["total"] == 5
            assert told["messages_by_session"] == {FIRST: 2}
            assert "canary" not in f"{told}{counts.recent}{box}"
            assert (await http.post(f"{box.url}/_sandbox/reset")).status == 204
            assert (await http.get(f"{box.url}/_sandbox/else")).status == 404
        assert counts.total == 0


async def test_held_requests_are_in_flight_until_they_are_released():
    async with Sandbox(World.documented()) as box:
        await box.hold()
        asking = [asyncio.create_task(get(box, "sessions")) for _ in range(5)]
        await box.arrived(5)
        assert (box.counts.in_flight, box.counts.by_status) == (5, {})
        assert "5 in flight" in repr(box)
        box.release()
        assert [status for status, _ in await asyncio.gather(*asking)] == [200] * 5
        assert (box.counts.in_flight, box.counts.peak_in_flight) == (0, 5)


async def test_requests_over_capacity_are_turned_away():
    async with Sandbox(World.documented(), capacity=2, latency=0.001) as box:
        box.hold()
        asking = [asyncio.create_task(get(box, "sessions")) for _ in range(5)]
        await box.arrived(5)
        box.release()
        assert sorted(status for status, _ in await asyncio.gather(*asking)) == [200, 200, 503, 503, 503]


async def test_requests_over_the_rate_are_told_to_come_again():
    async with Sandbox(World.documented(), rate=0) as box:
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


async def test_answers_are_compressed_for_those_who_accept_it():
    async with Sandbox(World(50), gzip=True) as box:
        plain, packed = await raw(box), await raw(box, **{"Accept-Encoding": "gzip"})
        assert "gzip" in packed[0]
        assert "gzip" not in plain[0]
        assert gzip.decompress(packed[1]) == plain[1]


@pytest.mark.parametrize("held", [True, False])
async def test_closing_does_not_wait_for_requests_that_hang(held):
    async with talk() as http:
        async with Sandbox(World.documented(), faults=Faults(hang=1)) as box:
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
    box = Sandbox(World.documented())
    for _ in range(2):
        async with box:
            assert await get(box, "sessions") == (200, clean())
    assert "closed" in repr(box)


async def test_the_time_that_answers_tell_is_the_clocks_or_none_at_all():
    moments = iter([datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC), None])
    async with Sandbox(sessions=3, clock=lambda: next(moments)) as box, aiohttp.ClientSession() as http:
        dates = []
        for _ in range(2):
            async with http.get(f"{box.navtalk_url}/sessions", params={"apikey": "k"}) as answer:
                dates.append(answer.headers["Date"])
    assert dates == ["Tue, 06 May 2031 07:08:09 GMT", ""]


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
