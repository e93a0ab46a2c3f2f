"""The sandbox's Lexicon: five endpoints as the reference pages have them, every answer to its unknowns."""

import asyncio
import json
from datetime import UTC, datetime
from io import BytesIO
from urllib.parse import quote

import aiohttp
import pytest
from documented import LEXICON_CHAT as CHAT
from documented import lexicon_world
from hypothesis import given
from hypothesis import strategies as st
from offline import OfflineApi

from navtalk_async.sandbox import KINDS, Answers, Faults, Sandbox, World
from navtalk_async.sandbox._api import PAGE_FAULTS

DAY = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
CHATS = "/api/v1/chats"
USERS = ["user-0", "user-1", "user-2", "user-3"]
SAMPLE = json.loads("""
{ "messages": [
{ "id": "msg-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d", "content": "Hello, I need help with my account",
  "sender_role": "user", "media_type": null, "media_url": null, "created_at": "2024-01-15T10:30:00Z",
  "metadata": { "user_agent": "Mozilla/5.0..." } },
{ "id": "msg-b2c3d4e5-f6a7-4b8c-9d0e-1f2a3b4c5d6e",
  "content": "I'd be happy to help you with your account! What specific issue are you experiencing?",
  "sender_role": "assistant", "media_type": null, "media_url": null, "created_at": "2024-01-15T10:30:05Z",
  "metadata": { "model": "gpt-4", "tokens_used": 87 } },
{ "id": "msg-c3d4e5f6-a7b8-4c9d-0e1f-2a3b4c5d6e7f",
  "content": "I can't log into my account. It says my password is incorrect.",
  "sender_role": "user", "media_type": null, "media_url": null, "created_at": "2024-01-15T10:30:30Z",
  "metadata": {} },
{ "id": "msg-d4e5f6a7-b8c9-4d0e-1f2a-3b4c5d6e7f8a",
  "content": "I understand you're having trouble logging in. Let me help you troubleshoot this issue. First, let's try resetting your password.",
  "sender_role": "assistant", "media_type": null, "media_url": null, "created_at": "2024-01-15T10:30:35Z",
  "metadata": { "model": "gpt-4", "tokens_used": 124 } } ],
"total": 15, "offset": 0, "limit": 50, "has_more": false}
""")  # noqa: E501 - the reference's own sentence


async def call(box, method, path, *, key="any", body=None, **params):
    headers = {} if key is None else {"X-API-Key": key}
    data = None if body is None else BytesIO(json.dumps(body).encode())
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.request(
            method, box.lexicon_url + CHATS + path, headers=headers, data=data, params=params
        ) as response,
    ):
        return response.status, json.loads(await response.read())


async def get(box, path, **more):
    status, body = await call(box, "GET", path, **more)
    assert status == 200
    return body


def lexicon(world, answers=None):
    return OfflineApi("lexicon", world, answers)


def walk(api, path, name, **query):
    """Every row there is, stepping by what came until nothing comes."""
    rows = []
    while page := api.ask(path, offset=str(len(rows)), **query)[name]:
        rows += page
    return rows


# The reference pages --------------------------------------------------------------------------------------


async def test_documented_sample_comes_out_field_for_field():
    answers = Answers(lexicon_has_more="false", lexicon_total="many")
    async with Sandbox(lexicon_world(), answers=answers) as box:
        found = await get(box, f"/{CHAT}/messages")
        chat = await get(box, f"/{CHAT}")
    assert found == SAMPLE
    assert chat == {
        "id": CHAT,
        "user_id": "user-0",
        "tenant_id": "tenant-0",
        "title": chat["title"],
        "config": {"metadata": {}},
        "created_at": "2024-01-15T10:30:00Z",
        "updated_at": "2024-01-15T10:30:35Z",
        "last_message_at": "2024-01-15T10:30:35Z",
        "message_count": 4,
        "status": "completed",
    }


async def test_a_chat_lives_from_create_to_delete():
    async with Sandbox(World(0), clock=lambda: DAY) as box:
        asked = {"user_id": "ann/é ü?", "title": "a NUL \x00 and 👩‍👩‍👧‍👦", "metadata": {"a": [1]}}
        status, chat = await call(box, "POST", "/", body=asked)
        assert status == 201
        assert chat == {
            "id": chat["id"],
            "user_id": asked["user_id"],
            "tenant_id": "tenant-0",
            "title": asked["title"],
            "config": {"metadata": {"a": [1]}},
            "created_at": "2026-02-03T04:05:06Z",
            "updated_at": "2026-02-03T04:05:06Z",
            "last_message_at": None,
        }
        name = chat["id"]
        assert await get(box, f"/{name}") == chat | {"message_count": 0, "status": "active"}
        assert await get(box, f"/{name}/messages") == {
            "messages": [],
            "total": 0,
            "offset": 0,
            "limit": 50,
            "has_more": False,
        }
        box.world.add_message(name, created_at="2026-02-03 05:00:00")
        later = chat | {"updated_at": "2026-02-03T05:00:00Z", "last_message_at": "2026-02-03T05:00:00Z"}
        url = f"{box.lexicon_url}{CHATS}/user/{quote(asked['user_id'], safe='')}"
        async with aiohttp.ClientSession() as http, http.get(url, headers={"X-API-Key": "k"}) as response:
            listed = await response.json()
        assert listed == {"chats": [later], "total": 1, "offset": 0, "limit": 50, "has_more": False}
        box.world.joined.add(name)
        assert (await call(box, "DELETE", f"/{name}"))[0] == 409
        box.world.joined.clear()
        assert await call(box, "DELETE", f"/{name}") == (
            200,
            {
                "success": True,
                "message": "Chat deleted successfully",
                "deleted_at": "2026-02-03T04:05:06Z",
            },
        )
        assert (await call(box, "GET", f"/{name}"))[0] == 404
        assert (await get(box, "/user/ann"))["chats"] == []
        assert box.counts.writes == {("POST", f"{CHATS}/"): 1, ("DELETE", f"{CHATS}/{name}"): 2}


async def test_the_world_comes_out_whole_user_by_user():
    async with Sandbox(World(150, seed=4, unknown_fields=True)) as box:
        chats = {}
        for user in USERS:
            page = await get(box, f"/user/{user}", limit=100)
            assert (page["total"], page["has_more"]) == (len(page["chats"]), False)
            assert {chat["user_id"] for chat in page["chats"]} == {user}
            chats |= {chat["id"]: chat for chat in page["chats"]}
        for row in box.world.sessions:
            chat = chats.pop(row["id"])
            truth = box.world.messages(row["id"])
            last = truth[-1]["createdAt"] if truth else None
            assert chat["created_at"] == row["startTime"].replace(" ", "T") + "Z"
            assert chat["last_message_at"] == (last and last.replace(" ", "T") + "Z")
            assert chat["updated_at"] >= max(chat["created_at"], chat["last_message_at"] or "")
            assert (chat["language"], chat["device"]) == (row["language"], row["device"])
            single = await get(box, f"/{row['id']}")
            assert single == chat | {"message_count": len(truth), "status": single["status"]}
            said = (await get(box, f"/{row['id']}/messages", limit=100))["messages"]
            assert [(m["id"], m["content"]) for m in said] == [(m["id"], m["content"]) for m in truth[:100]]
        assert not chats


def test_the_first_user_has_the_most_and_nobody_has_none():
    api = lexicon(World(500))
    totals = [api.ask(f"/user/{user}")["total"] for user in USERS]
    assert max(totals) == totals[0]
    assert min(totals) > 20
    assert sum(totals) == 500


# Failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/", {}, 422),
        ("POST", "/", {"user_id": ""}, 422),
        ("POST", "/", {"user_id": "a", "title": 7}, 422),
        ("POST", "/", {"user_id": "a", "metadata": []}, 422),
        ("POST", "/", [], 400),
        ("GET", f"/{CHAT}/messages?limit=0", None, 422),
        ("GET", f"/{CHAT}/messages?limit=-1", None, 422),
        ("GET", f"/{CHAT}/messages?offset=-1", None, 422),
        ("GET", f"/{CHAT}/messages?offset=many", None, 422),
        ("GET", f"/{CHAT}/messages?order=up", None, 422),
        ("GET", f"/{CHAT}/messages?limit=101", None, 422),
        ("GET", "/user/user-0?limit=101", None, 422),
        ("GET", "/nobody", None, 404),
        ("GET", "/nobody/messages", None, 404),
        ("DELETE", "/nobody", None, 404),
        ("GET", "s", None, 404),
        ("POST", "", {"user_id": "a"}, 405),
        ("GET", "/", None, 405),
        ("PUT", f"/{CHAT}", None, 405),
    ],
)
@pytest.mark.parametrize("errors", ["detail", "error"])
async def test_failures_have_either_body_and_change_nothing(method, path, body, status, errors):
    answers = Answers(lexicon_errors=errors, lexicon_invalid="422", over_limit="refuse")
    async with Sandbox(lexicon_world(), answers=answers) as box:
        found, reported = await call(box, method, path, body=body)
        assert found == status
        assert set(reported) == ({"detail"} if errors == "detail" else {"error", "message"})
        box.answers = Answers()
        assert (await call(box, method, path, body=body))[0] == (
            200 if "=101" in path else 400 if status == 422 else status
        )
        assert box.world.sessions == lexicon_world().sessions


@pytest.mark.parametrize("key", [None, "", "expired", "unknown"])
async def test_a_key_that_opens_nothing_is_a_401(key):
    async with Sandbox(lexicon_world(), keys={"expired", "right"}) as box:
        assert (await call(box, "GET", f"/{CHAT}", key=key))[0] == 401
        assert (await call(box, "GET", f"/{CHAT}", key="right"))[0] == 200


async def test_bare_failures_are_no_json():
    async with Sandbox(lexicon_world(), answers=Answers(errors="bare")) as box:
        with pytest.raises(ValueError, match="Expecting value"):
            await call(box, "GET", "/nobody")


# The unknowns ---------------------------------------------------------------------------------------------

WORLD = World(150, seed=3, unknown_fields=True)
TALKATIVE = max(WORLD.sessions, key=lambda row: len(WORLD.messages(row["id"])))["id"]
some_answers = st.builds(
    Answers,
    lexicon_has_more=st.sampled_from(["right", "false", "true", "missing"]),
    lexicon_total=st.sampled_from(["right", "few", "many", "missing"]),
    lexicon_sorts_by=st.sampled_from(["created_at", "updated_at"]),
    max_page=st.none() | st.integers(1, 30),
)


@given(some_answers, st.integers(1, 150), st.sampled_from(["asc", "desc"]))
def test_stepping_by_what_came_yields_every_row_once_in_order(answers, limit, order):
    api = lexicon(WORLD, answers)
    said = walk(api, f"/{TALKATIVE}/messages", "messages", limit=str(limit), order=order)
    truth = [row["id"] for row in WORLD.messages(TALKATIVE)]
    assert [row["id"] for row in said] == (truth if order == "asc" else truth[::-1])
    chats = walk(api, "/user/user-0", "chats", limit=str(limit), order=order)
    by = answers.lexicon_sorts_by
    assert chats == sorted(chats, key=lambda row: (row[by], row["id"]), reverse=order == "desc")
    assert len({row["id"] for row in chats}) == len(chats) == lexicon(WORLD).ask("/user/user-0")["total"]


@pytest.mark.parametrize(
    ("kind", "first", "last"),
    [
        ("right", True, False),
        ("false", False, False),
        ("true", True, True),
        ("missing", None, None),
    ],
)
def test_has_more_is_right_or_wrong_or_missing(kind, first, last):
    api = lexicon(World(1, messages=3), Answers(lexicon_has_more=kind))
    path = f"/{api.world.sessions[0]['id']}/messages"
    assert api.ask(path, limit="2").get("has_more") is first
    assert api.ask(path, limit="2", offset="2").get("has_more") is last
    assert api.ask(path, offset="3").get("has_more") is (None if kind == "missing" else False)


@pytest.mark.parametrize(("kind", "total"), [("right", 3), ("few", 2), ("many", 14), ("missing", None)])
def test_total_is_right_or_wrong_or_missing(kind, total):
    api = lexicon(World(1, messages=3), Answers(lexicon_total=kind))
    assert api.ask(f"/{api.world.sessions[0]['id']}/messages", limit="2").get("total") == total


def test_pages_begin_and_end_as_documented():
    api = lexicon(World(1, messages=300))
    path = f"/{api.world.sessions[0]['id']}/messages"
    assert len(api.ask(path)["messages"]) == 50
    assert len(api.ask(path, limit="1000")["messages"]) == 100
    assert api.ask(path, limit="1000")["limit"] == 100
    api.answers = Answers(max_page=7)
    page = api.ask(path, limit="100")
    assert (len(page["messages"]), page["limit"], page["has_more"]) == (7, 100, True)
    newest, oldest = (api.ask(path, order=order)["messages"][0]["id"] for order in ("desc", "asc"))
    assert oldest == api.ask(path)["messages"][0]["id"] != newest


def test_a_new_message_moves_its_chat_where_chats_are_ordered_by_their_last_change():
    world = World(100)
    api = lexicon(world, Answers(lexicon_sorts_by="updated_at"))
    oldest = walk(api, "/user/user-0", "chats")[-1]
    world.add_message(oldest["id"], created_at="2027-01-01 00:00:00")
    newest = api.ask("/user/user-0")["chats"][0]
    assert (newest["id"], newest["updated_at"]) == (oldest["id"], "2027-01-01T00:00:00Z")
    assert newest["created_at"] == oldest["created_at"]
    world.change_session(newest["id"], status=1, endTime="2027-01-02 00:00:00")
    assert api.ask("/user/user-0")["chats"][0]["updated_at"] == "2027-01-02T00:00:00Z"


# The faults -----------------------------------------------------------------------------------------------


def test_an_empty_page_says_that_there_is_more():
    api = lexicon(WORLD)
    page = api.ask(f"/{TALKATIVE}/messages", "empty-page", offset="3")
    assert (page["messages"], page["offset"], page["has_more"]) == ([], 3, True)


@pytest.mark.parametrize("kind", ["drop", "lost-answer", "reset", "cut", "cut-chunked"])
async def test_a_lost_answer_leaves_what_was_asked_done_or_undone(kind):
    async with Sandbox(World(0)) as box:
        box.fail_next(kind)
        with pytest.raises(aiohttp.ClientError):
            await call(box, "POST", "/", body={"user_id": "a"})
        assert box.counts.writes == {("POST", f"{CHATS}/"): 1}
        assert len(box.world.sessions) == (0 if kind == "drop" else 1)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - PAGE_FAULTS - {"slow", "redirect"}))
async def test_no_fault_looks_like_a_right_answer(kind):
    async with Sandbox(lexicon_world(), faults=Faults(huge_bytes=100_000)) as box:
        box.fail_next(kind, times=2)  # since aiohttp quietly asks again
        try:
            async with asyncio.timeout(0.3 if kind == "hang" else 20):
                status, body = await call(box, "GET", "/user/user-0")
        except (aiohttp.ClientError, ValueError, RecursionError, TimeoutError):
            return
        assert (
            status >= 400
            or not isinstance(body, dict)
            or body.get("chats", {}) in ({"0": 1}, [{"id": [7]}], {})
        )


async def test_a_429_says_how_long_to_wait_in_its_headers():
    async with (
        Sandbox(lexicon_world(), faults=Faults(retry_after=2)) as box,
        aiohttp.ClientSession(headers={"X-API-Key": "k"}) as http,
    ):
        for kind, reported in (("429", "2"), ("429-bare", None)):
            box.fail_next(kind)
            async with http.get(f"{box.lexicon_url}{CHATS}/{CHAT}") as response:
                assert (response.status, response.headers.get("Retry-After")) == (429, reported)


async def test_counts_know_the_calls_of_this_api_by_the_common_names():
    async with Sandbox(lexicon_world()) as box:
        await get(box, "/user/user-0", key="canary", limit="9")
        await get(box, f"/{CHAT}", key="canary")
        await get(box, f"/{CHAT}/messages", key="canary")
        await call(box, "GET", "", key="canary")
        await call(box, "DELETE", f"/{CHAT}", key="canary")
        counts = box.counts
        assert counts.by_api == {"lexicon": 5}
        assert counts.by_kind == {"sessions": 1, "session": 1, "messages": 1, "other": 1, "delete": 1}
        assert counts.messages_by_session == {CHAT: 1}
        assert list(counts.recent)[:2] == [("sessions", {"limit": "9"}), ("session", {"sessionId": CHAT})]
        assert "canary" not in f"{counts.as_dict()}{counts.recent}{counts.written}{box}"
