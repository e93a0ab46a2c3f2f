"""The sandbox's Kodey: six endpoints as the reference page has them, every answer to its unknowns, faults."""

import asyncio
import json
from datetime import UTC, datetime
from io import BytesIO

import aiohttp
import pytest
from documented import kodey_world

from navtalk_async.sandbox import KINDS, Answers, Faults, Sandbox, World
from navtalk_async.sandbox._api import PAGE_FAULTS
from navtalk_async.sandbox._faults import WRONG_SHAPES

DAY = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
LISTED = {"id": "string", "agentId": "string", "userId": "string", "createdAt": "2024-01-15T10:30:00Z"}
CHAT = {
    "id": "string",
    "agentId": "string",
    "teamId": "string",
    "messages": [],
    "createdAt": "2024-01-15T10:30:00Z",
}
SAID = {"id": "string", "content": "string", "role": "assistant", "createdAt": "2024-01-15T10:30:00Z"}


async def call(box, method, path, *, key="sk_live_1", body=None, **params):
    headers = {} if key is None else {"x-api-key": key}
    data = None if body is None else BytesIO(json.dumps(body).encode())
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.request(method, box.kodey_url + path, headers=headers, data=data, params=params) as response,
    ):
        text = await response.read()
        return response.status, json.loads(text) if text else None, response.headers


async def get(box, path, **more):
    status, body, _ = await call(box, "GET", path, **more)
    assert status == 200
    return body


# The reference page ---------------------------------------------------------------------------------------


async def test_documented_samples_come_out_field_for_field():
    async with Sandbox(kodey_world()) as box:
        assert await get(box, "/chat") == {"chats": [LISTED]}
        assert await get(box, "/chat/string") == CHAT
        assert await get(box, "/chat/string/message") == {"messages": [SAID]}


async def test_a_chat_lives_from_create_to_delete():
    async with Sandbox(World(3), clock=lambda: DAY) as box:
        asked = {"agentId": "agent-7", "userId": "ann", "metadata": {"a": 1}}
        status, chat, _ = await call(box, "POST", "/chat", body=asked)
        assert status == 200
        assert chat == {
            "id": chat["id"],
            "agentId": "agent-7",
            "teamId": "team-0",
            "createdAt": "2026-02-03T04:05:06Z",
        }
        name = chat["id"]
        assert await get(box, f"/chat/{name}") == chat | {"messages": []}
        listed = {"id": name, "agentId": "agent-7", "userId": "ann", "createdAt": "2026-02-03T04:05:06Z"}
        assert (await get(box, "/chat"))["chats"][-1] == listed
        content = "a NUL \x00, \u2028 and 👩‍👩‍👧‍👦"
        status, reply, _ = await call(
            box, "POST", f"/chat/{name}/message", body={"content": content, "role": "user"}
        )
        assert status == 200
        assert reply == {
            "id": reply["id"],
            "chatId": name,
            "content": f"You said: {content}",
            "role": "assistant",
            "createdAt": "2026-02-03T04:05:07Z",
        }
        said = (await get(box, f"/chat/{name}/message"))["messages"]
        assert [(row["role"], row["content"]) for row in said] == [
            ("user", content),
            ("assistant", reply["content"]),
        ]
        assert [row["content"] for row in box.world.messages(name)] == [row["content"] for row in said]
        assert (await call(box, "DELETE", f"/chat/{name}"))[:2] == (204, None)
        assert (await call(box, "GET", f"/chat/{name}"))[0] == 404
        assert (await call(box, "DELETE", f"/chat/{name}"))[0] == 404
        assert box.counts.writes == {
            ("POST", "/chat"): 1,
            ("POST", f"/chat/{name}/message"): 1,
            ("DELETE", f"/chat/{name}"): 2,
        }
        assert json.loads(box.counts.written[0][2]) == asked
        assert len(box.world.sessions) == 3


async def test_the_world_comes_out_whole():
    async with Sandbox(World(60, seed=4, unknown_fields=True), answers=Answers(kodey_messages="all")) as box:
        chats = (await get(box, "/chat"))["chats"]
        assert [chat["id"] for chat in chats] == [row["id"] for row in box.world.sessions]
        for chat, row in zip(chats, box.world.sessions, strict=True):
            assert chat["createdAt"] == row["startTime"].replace(" ", "T") + "Z"
            assert (chat["language"], chat["device"]) == (row["language"], row["device"])
            said = (await get(box, f"/chat/{chat['id']}/message"))["messages"]
            truth = box.world.messages(chat["id"])
            assert [m["content"] for m in said] == [m["content"] for m in truth]
            assert {(m["role"], n["role"]) for m, n in zip(said, truth, strict=True)} <= {
                ("user", 0),
                ("assistant", 1),
                ("role-7", 7),
            }
            assert (await get(box, f"/chat/{chat['id']}"))["messages"] == said


async def test_chats_are_narrowed_by_user_and_by_type_of_agent():
    async with Sandbox(World(80)) as box:
        every = (await get(box, "/chat"))["chats"]
        users = {chat["userId"] for chat in every}
        assert users == {"user-0", "user-1", "user-2", "user-3", "anonymous"}
        for user in users:
            wanted = [chat for chat in every if chat["userId"] == user]
            assert (await get(box, "/chat", userId=user))["chats"] == wanted
        assert (await get(box, "/chat", userId="nobody")) == {"chats": []}
        types = ("support", "sales", "onboarding")
        by_type = [(await get(box, "/chat", agentType=each))["chats"] for each in types]
        assert sorted(chat["id"] for chats in by_type for chat in chats) == sorted(c["id"] for c in every)
        agents = [{chat["agentId"] for chat in chats} for chats in by_type]
        assert not set.intersection(*agents)


# Failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/chat", {}, 400),
        ("POST", "/chat", {"agentId": 7}, 400),
        ("POST", "/chat", {"agentId": "a", "metadata": 7}, 400),
        ("POST", "/chat", {"agentId": "a", "userId": 7}, 400),
        ("POST", "/chat", [], 400),
        ("POST", "/chat/string/message", {}, 400),
        ("POST", "/chat/string/message", {"content": "x", "role": "assistant"}, 400),
        ("POST", "/chat/nobody/message", {"content": "x"}, 404),
        ("GET", "/chat/nobody", None, 404),
        ("GET", "/chat/nobody/message", None, 404),
        ("DELETE", "/chat/nobody", None, 404),
        ("GET", "/chatter", None, 404),
        ("GET", "/chat/string/else", None, 404),
        ("PUT", "/chat/string", None, 405),
    ],
)
async def test_failures_have_an_error_and_a_message_and_change_nothing(method, path, body, status):
    async with Sandbox(kodey_world()) as box:
        found, reported, _ = await call(box, method, path, body=body)
        assert (found, set(reported)) == (status, {"error", "message"})
        assert box.world.sessions == kodey_world().sessions
        assert box.world.total_messages == 1


@pytest.mark.parametrize("key", [None, "", "expired", "unknown"])
async def test_a_401_has_only_a_message_or_an_error_too(key):
    async with Sandbox(kodey_world(), keys={"expired", "right"}) as box:
        status, reported, _ = await call(box, "GET", "/chat", key=key)
        assert (status, set(reported)) == (401, {"message"})
        box.answers = Answers(kodey_401="both")
        assert set((await call(box, "GET", "/chat", key=key))[1]) == {"error", "message"}
        assert (await call(box, "GET", "/chat", key="right"))[0] == 200


async def test_a_403_says_what_is_allowed_and_how_to_get_more():
    async with Sandbox(kodey_world()) as box:
        status, reported, _ = await call(box, "DELETE", "/chat/string", key="pk_live_limited_1")
        assert (status, reported["error"]) == (403, "Forbidden")
        assert "GET /chat" in reported["allowedEndpoints"]
        assert "sk_live_" in reported["upgradeInstructions"]
        box.fail_next("403")
        assert set((await call(box, "GET", "/chat"))[1]) == {
            "error",
            "message",
            "allowedEndpoints",
            "upgradeInstructions",
        }
        assert len(box.world.sessions) == 1


async def test_a_429_says_how_long_to_wait_in_its_body_alone():
    async with Sandbox(kodey_world(), faults=Faults(retry_after=60), rate=5, clock=lambda: DAY) as box:
        box.fail_next("429")
        status, reported, headers = await call(box, "GET", "/chat")
        assert (status, reported["error"], reported["retryAfter"]) == (429, "Too Many Requests", 60)
        assert "Retry-After" not in headers
        assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("5", "4")
        box.fail_next("429-bare")
        assert "retryAfter" not in (await call(box, "GET", "/chat"))[1]
        box.rate = 0
        status, reported, headers = await call(box, "GET", "/chat")
        assert (status, reported["retryAfter"], headers["X-RateLimit-Remaining"]) == (429, 1, "0")


async def test_every_response_shows_the_rate_limit_where_there_is_one():
    async with Sandbox(kodey_world(), clock=lambda: DAY) as box:
        assert "X-RateLimit-Limit" not in (await call(box, "GET", "/chat"))[2]
        box.rate = 50
        for path in ("/chat", "/chat/nobody"):
            headers = (await call(box, "GET", path))[2]
            assert headers["X-RateLimit-Limit"] == "50"
            assert int(headers["X-RateLimit-Remaining"]) < 50
            assert 0 <= int(headers["X-RateLimit-Reset"]) - DAY.timestamp() <= 1


async def test_each_key_has_a_quota_a_minute_with_kodey_limits():
    async with Sandbox(kodey_world(), answers=Answers(kodey_limits=True), clock=lambda: DAY) as box:
        headers = (await call(box, "GET", "/chat", key="sk_live_1"))[2]
        assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("1000", "999")
        for left in range(99, -1, -1):
            status, _, headers = await call(box, "GET", "/chat", key="pk_live_1")
            assert (status, headers["X-RateLimit-Remaining"]) == (200, str(left))
        status, reported, headers = await call(box, "GET", "/chat", key="pk_live_1")
        assert (status, headers["X-RateLimit-Limit"]) == (429, "100")
        assert 50 <= reported["retryAfter"] <= 60
        assert abs(int(headers["X-RateLimit-Reset"]) - DAY.timestamp() - reported["retryAfter"]) <= 1
        assert (await call(box, "GET", "/chat", key="pk_live_2"))[0] == 200


# The unknowns ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "all", "missing"])
async def test_a_chat_has_none_of_its_messages_or_all_or_does_not_say(kind):
    async with Sandbox(kodey_world(), answers=Answers(kodey_messages=kind)) as box:
        found = (await get(box, "/chat/string")).get("messages")
    assert found == {"empty": [], "all": [SAID], "missing": None}[kind]


@pytest.mark.parametrize("kind", ["string", "null", "missing"])
async def test_a_chat_without_a_user_says_so_in_one_of_three_ways(kind):
    async with Sandbox(World(0), answers=Answers(kodey_user=kind)) as box:
        await call(box, "POST", "/chat", body={"agentId": "a"})
        (found,) = (await get(box, "/chat"))["chats"]
    expected = {"string": {"userId": "anonymous"}, "null": {"userId": None}, "missing": {}}[kind]
    assert {name: value for name, value in found.items() if name == "userId"} == expected


@pytest.mark.parametrize("kind", ["asc", "desc", "none"])
async def test_lists_are_in_either_order_or_in_none(kind):
    async with Sandbox(World(40, messages=20), answers=Answers(kodey_order=kind)) as box:
        name = box.world.sessions[0]["id"]
        chats = [row["id"] for row in (await get(box, "/chat"))["chats"]]
        said = [row["id"] for row in (await get(box, f"/chat/{name}/message"))["messages"]]
        truths = [row["id"] for row in box.world.sessions], [row["id"] for row in box.world.messages(name)]
    for found, truth in zip((chats, said), truths, strict=True):
        assert sorted(found) == sorted(truth)
        assert (found == truth, found == truth[::-1]) == (kind == "asc", kind == "desc")


# The faults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["drop", "lost-answer", "reset", "cut", "cut-chunked"])
async def test_a_lost_answer_leaves_what_was_asked_done_or_undone(kind):
    async with Sandbox(World(0)) as box:
        box.fail_next(kind)
        with pytest.raises(aiohttp.ClientError):
            await call(box, "POST", "/chat", body={"agentId": "a"})
        assert box.counts.writes == {("POST", "/chat"): 1}
        assert len(box.world.sessions) == (0 if kind == "drop" else 1)


async def test_a_delete_whose_answer_is_lost_is_done():
    for kind in ("lost-answer", "cut", "cut-chunked"):
        async with Sandbox(kodey_world()) as box:
            # Twice, since aiohttp quietly asks again.
            box.fail_next(kind, times=2)
            with pytest.raises(aiohttp.ClientError):
                await call(box, "DELETE", "/chat/string")
            assert box.world.sessions == []


@pytest.mark.parametrize("kind", sorted(set(KINDS) - PAGE_FAULTS - {"slow", "redirect"}))
async def test_no_fault_looks_like_a_right_answer(kind):
    async with Sandbox(kodey_world(), faults=Faults(huge_bytes=100_000)) as box:
        box.fail_next(kind, times=2)
        try:
            async with asyncio.timeout(0.3 if kind == "hang" else 20):
                status, body, _ = await call(box, "GET", "/chat")
        except (aiohttp.ClientError, ValueError, RecursionError, TimeoutError):
            return
        assert status >= 400 or not isinstance(body, dict) or body.get("chats") != [LISTED]
        assert not (isinstance(body, dict) and body.get("chats") == [])


async def test_wrong_shapes_are_no_list_of_chats():
    async with Sandbox(kodey_world()) as box:
        box.fail_next("wrong-shape", times=30)
        bodies = [(await call(box, "GET", "/chat"))[1] for _ in range(30)]
    assert len({json.dumps(body) for body in bodies}) == len(WRONG_SHAPES)
    assert all(not isinstance(body, dict) or body.get("chats") not in ([], [LISTED]) for body in bodies)


async def test_bare_failures_are_no_json():
    async with Sandbox(kodey_world(), answers=Answers(errors="bare")) as box:
        with pytest.raises(ValueError, match="Expecting value"):
            await call(box, "GET", "/chat/nobody")


async def test_a_message_of_a_megabyte_arrives():
    async with Sandbox(kodey_world()) as box:
        content = "好" * 1_000_000
        status, _, _ = await call(box, "POST", "/chat/string/message", body={"content": content})
        assert status == 200
        assert content in [row["content"] for row in box.world.messages("string")]


async def test_counts_know_the_calls_of_this_api_by_the_common_names():
    async with Sandbox(kodey_world()) as box:
        await get(box, "/chat", key="canary", userId="x")
        await get(box, "/chat/string", key="canary")
        await get(box, "/chat/string/message", key="canary")
        await call(box, "GET", "/chatter", key="canary")
        await call(box, "POST", "/chat", key="canary", body={"agentId": "a"})
        counts = box.counts
        assert counts.by_api == {"kodey": 5}
        assert counts.by_kind == {"sessions": 1, "session": 1, "messages": 1, "other": 1, "create": 1}
        assert counts.messages_by_session == {"string": 1}
        recent = [("sessions", {"userId": "x"}), ("session", {"sessionId": "string"})]
        assert list(counts.recent)[:2] == recent
        assert counts.as_dict()["writes"] == {"POST /chat": 1}
        assert "canary" not in f"{counts.as_dict()}{counts.recent}{counts.written}{box}"


async def test_keys_can_open_different_worlds():
    async with Sandbox(World(0), keys={"one": kodey_world(), "two": World(0)}) as box:
        assert len((await get(box, "/chat", key="one"))["chats"]) == 1
        assert (await get(box, "/chat", key="two")) == {"chats": []}
