"""The sandbox's NavTalk: the documented API, and both answers to every unknown."""

import pytest
from documented import NAVTALK_MESSAGES, NAVTALK_SESSION, NAVTALK_SESSIONS, navtalk_world
from hypothesis import given
from hypothesis import strategies as st
from offline import OfflineApi
from plain_http import get, new_connections, raw

from navtalk_async.sandbox import Answers, Sandbox, World

SAMPLE_SESSIONS = {
    "code": 200,
    "message": "SUCCESS",
    "data": {
        "data": [
            {"id": name, "status": 1, "startTime": start, "endTime": end, "videoUrl": None}
            for name, (start, end) in NAVTALK_SESSIONS.items()
        ],
        "nextCursor": "MjAyNS0xMS0xNFQwNzo0NDo0Mnw3MDljMTlhMS1kZWRlLTExZjAtOTJiYy0wMDBlMWVlZDRhNzI=",
    },
}
SAMPLE_MESSAGES = {
    "code": 200,
    "message": "SUCCESS",
    "data": {
        "data": [
            {"id": name, "role": role, "messageType": 0, "content": content, "createdAt": time}
            for name, (time, role, content) in NAVTALK_MESSAGES.items()
        ],
        "nextCursor": "MjAyNS0xMS0xMlQxODoyMDo0NXw3MGMyNzNkYS1kZWRlLTExZjAtOTJiYy0wMDBlMWVlZDRhNzI=",
    },
}


def navtalk(world, answers=None):
    return OfflineApi("navtalk", world, answers)


def pages(api, kind, **query):
    for _ in range(10_000):
        page = api.ask(kind, **query)["data"]
        yield page["data"]
        if not page.get("nextCursor"):
            return
        query["cursor"] = page["nextCursor"]
    raise AssertionError("the walk does not end")


def ids(api, kind, **query):
    return [row["id"] for page in pages(api, kind, **query) for row in page]


# The reference page ---------------------------------------------------------------------------------------


async def test_documented_samples_come_out_field_for_field():
    async with Sandbox(navtalk_world()) as box:
        window = {"startTime": "2025-11-12 00:00:00", "endTime": "2025-11-21 23:59:59"}
        listed = await get(box, "sessions", **window, status="1", limit="20")
        minute = {"startTime": "2025-11-12 18:20:00", "endTime": "2025-11-12 18:21:00"}
        said = await get(box, "messages", sessionId=NAVTALK_SESSION, **minute, limit="50")
        user = await get(box, "messages", sessionId=NAVTALK_SESSION, **minute, role="0", limit="50")
        one = await get(box, f"sessions/{NAVTALK_SESSION}")
    assert listed == (200, SAMPLE_SESSIONS)
    assert said == (200, SAMPLE_MESSAGES)
    assert [row["id"][:8] for row in user[1]["data"]["data"]] == ["70c27233", "70c273da"]
    assert one == (200, {"code": 200, "message": "SUCCESS", "data": SAMPLE_SESSIONS["data"]["data"][0]})


async def test_documented_walk_ends_with_an_empty_page_or_with_null():
    api = navtalk(navtalk_world())
    assert [len(page) for page in pages(api, "/sessions")] == [3, 0]
    api.answers = Answers(cursor_on_last_page=False)
    assert [len(page) for page in pages(api, "/sessions")] == [3]
    assert [len(page) for page in pages(api, "/sessions", limit="2")] == [2, 1]


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
async def test_refusals_are_shown_by_status_or_by_body_or_by_turns(path, params, code, errors):
    async with Sandbox(navtalk_world(), answers=Answers(errors=errors)) as box:
        reported = [await get(box, path, **params) for _ in range(2)]
    assert [(body["code"], body["data"]) for _, body in reported] == [(code, None)] * 2
    by = {"status": [code, code], "body": [200, 200], "both": [200, code]}
    assert [status for status, _ in reported] == by[errors]


async def test_bare_refusals_are_no_json():
    async with Sandbox(navtalk_world(), answers=Answers(errors="bare")) as box:
        head, body = await raw(box, "sessions?apikey=")
    assert "400" in head.splitlines()[0]
    assert body == b"Invalid API key"


async def test_methods_other_than_get_are_refused():
    async with Sandbox(navtalk_world()) as box, new_connections() as http:
        assert (await http.post(f"{box.navtalk_url}/sessions?apikey=k")).status == 405


async def test_keys_can_be_rotated_and_can_open_different_worlds():
    mine, theirs = navtalk_world(), World(3)
    async with Sandbox(mine, keys={"old"}) as box:
        assert (await get(box, "sessions", key="old"))[0] == 200
        box.keys = {"new": mine, "other": theirs}
        assert (await get(box, "sessions", key="old"))[0] == 400
        assert (await get(box, f"sessions/{NAVTALK_SESSION}", key="new"))[0] == 200
        assert (await get(box, f"sessions/{NAVTALK_SESSION}", key="other"))[0] == 404


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


@given(some_answers, st.integers(1, 150))
def test_walking_with_any_limit_and_any_answers_yields_every_row_once_in_order(answers, limit):
    api = navtalk(WORLD, answers)
    assert ids(api, "/sessions", limit=str(limit)) == [row["id"] for row in WORLD.sessions]
    said = [row["id"] for row in WORLD.messages(TALKATIVE)]
    assert ids(api, "/messages", sessionId=TALKATIVE, limit=str(limit)) == said


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
        reported = row["startTime"] if answers.end_bounds == "start" else row["endTime"] or "9999"
        late = reported > end or (reported == end and not answers.end_inclusive)
        early = row["startTime"] < start or (row["startTime"] == start and not answers.start_inclusive)
        return not late and not early

    query = {"startTime": start, "endTime": end, "limit": str(limit)}
    if status is not None:
        query["status"] = str(status)
    expected = [row["id"] for row in WORLD.sessions if kept(row)]
    assert ids(navtalk(WORLD, answers), "/sessions", **query) == expected


@given(st.sampled_from(MESSAGES), st.sampled_from(MESSAGES), st.sampled_from([0, 1, 7]))
def test_message_filters_bound_the_time_of_the_message(start, end, role):
    found = ids(
        navtalk(WORLD), "/messages", sessionId=TALKATIVE, startTime=start, endTime=end, role=str(role)
    )
    rows = WORLD.messages(TALKATIVE)
    assert found == [row["id"] for row in rows if start <= row["createdAt"] <= end and row["role"] == role]


@pytest.mark.parametrize("needed", [True, False])
def test_dropping_the_filters_on_page_two_matters_only_when_the_cursor_forgets_them(needed):
    api = navtalk(WORLD, Answers(cursor_needs_filters=needed))
    first = api.ask("/sessions", status="2", limit="2")["data"]
    second = api.ask("/sessions", limit="50", cursor=first["nextCursor"])["data"]["data"]
    assert ({row["status"] for row in second} == {2}) is not needed


def test_limits_over_the_maximum_are_clamped_or_refused():
    api = navtalk(WORLD)
    assert len(api.ask("/sessions", limit="1000")["data"]["data"]) == 100
    assert len(api.ask("/sessions")["data"]["data"]) == 20
    api.answers = Answers(max_page=7)
    assert len(api.ask("/sessions", limit="100")["data"]["data"]) == 7
    api.answers = Answers(over_limit="refuse")
    assert api.ask("/sessions", limit="101")["code"] == 400
    assert api.ask("/sessions", limit="100")["code"] == 200


# Faults inside a page -------------------------------------------------------------------------------------


def test_page_faults_lose_no_row_and_change_no_later_answer():
    api = navtalk(WORLD)
    first = api.ask("/sessions")["data"]
    cursor = first["nextCursor"]
    second = api.ask("/sessions", cursor=cursor)["data"]
    repeated = api.ask("/sessions", "repeat-cursor", cursor=cursor)["data"]
    assert repeated == {"data": second["data"], "nextCursor": cursor}
    empty = api.ask("/sessions", "empty-page", cursor=cursor)["data"]
    again = api.ask("/sessions", "empty-page", cursor=empty["nextCursor"])["data"]
    assert empty["data"] == again["data"] == []
    assert len({cursor, empty["nextCursor"], again["nextCursor"]}) == 3
    assert api.ask("/sessions", cursor=again["nextCursor"])["data"] == second
    start = api.ask("/sessions", "empty-page")["data"]
    assert api.ask("/sessions", cursor=start["nextCursor"])["data"] == first
    back = api.ask("/sessions", "cycle", cursor=second["nextCursor"])["data"]
    assert back["nextCursor"] == cursor
