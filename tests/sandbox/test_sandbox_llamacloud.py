"""The sandbox's LlamaCloud: every endpoint and field, both eras, the unknowns, and what goes wrong."""

import json
import re

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from offline import NOW, OfflineApi

from navtalk_async.sandbox import Answers, Faults, Sandbox, World
from navtalk_async.sandbox._llamacloud import event_stream, history, message_events, with_deltas

SUMMARY = {"session_id", "last_updated_at", "generated_title", "index_ids", "job_metadata", "shared_access"}
JOB = {
    "duration_ms",
    "error",
    "export_config_ids",
    "is_error",
    "total_input_tokens",
    "total_output_tokens",
    "turns",
}
USAGE = {"duration_ms", "total_input_tokens", "total_output_tokens", "turns"}
EVENTS = {
    "user_input": {"type", "content"},
    "thinking": {"type", "content"},
    "thinking_delta": {"type", "content"},
    "text": {"type", "content"},
    "text_delta": {"type", "content"},
    "tool_call": {"type", "call_id", "name", "arguments"},
    "tool_result": {"type", "call_id", "name", "result", "image_attachment"},
    "stop": {"type", "is_error", "error", "usage", "skipped_index_ids"},
}
WORLD = World(120, seed=3)
STRANGE = World(60, seed=4, unknown_fields=True)


def sandbox(world=None, **options):
    return Sandbox(world or World(30), clock=lambda: NOW, **options)


async def asked(box, method, path="", *, key="any", body=None, **params):
    """The status and the body; JSON, or text where it is none."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(force_close=True)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession(box.llamacloud_url, connector=connector, headers=headers) as http,
        http.request(method, f"/api/v1/chat{path}", params=params, data=data) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text and "json" in response.content_type else text


async def got(box, path="", **params):
    status, body = await asked(box, "GET", path, **params)
    assert status == 200, body
    return body


async def streamed(box, session_id, prompt="Hello", index_ids=(), **fields):
    body = {"prompt": prompt, "index_ids": list(index_ids), **fields}
    status, text = await asked(box, "POST", f"/{session_id}/messages/stream", body=body)
    assert status == 200, text
    return text


def data_of(text):
    return [json.loads(data) for data in re.findall(r"^data: (.*)$", text, re.MULTILINE)]


def llamacloud(world, **answers):
    return OfflineApi("llamacloud", world, Answers(**answers))


def pages(api, fault=None, **query):
    for _ in range(10_000):
        page = api.ask(fault=fault, **query)
        fault = None
        yield page["items"]
        if not page.get("next_page_token"):
            return
        query["page_token"] = page["next_page_token"]
    raise AssertionError("the walk does not end")


def walk(api, **query):
    return [row for page in pages(api, **query) for row in page]


# Reading --------------------------------------------------------------------------------------------------


async def test_a_summary_has_every_field_and_is_the_same_in_every_call():
    async with sandbox() as box:
        listed = (await got(box, page_size=100))["items"]
        for item in listed:
            assert item.keys() == SUMMARY
            assert await got(box, f"/{item['session_id']}/summary") == item
            whole = await got(box, f"/{item['session_id']}")
            assert whole == item | {"events": whole["events"]}
    assert {item["session_id"] for item in listed} == {row["id"] for row in box.world.sessions}
    jobs = [item["job_metadata"] for item in listed]
    assert None in jobs
    assert all(job.keys() == JOB for job in jobs if job)
    for field in ("generated_title", "index_ids"):
        assert {type(item[field]) for item in listed} > {type(None)}
    assert {item["shared_access"] for item in listed} == {"query", "read_only"}
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", each["last_updated_at"]) for each in listed
    )


def test_the_job_of_a_summary_is_the_last_stop_of_its_session():
    api = llamacloud(WORLD)
    for item in walk(api):
        stops = [each for each in api.ask(f"/{item['session_id']}")["events"] if each["type"] == "stop"]
        if not stops:
            assert item["job_metadata"] is None
            continue
        job = item["job_metadata"]
        assert {name: job[name] for name in USAGE} == stops[-1]["usage"]
        assert (job["error"], job["is_error"]) == (stops[-1]["error"], stops[-1]["is_error"])


def test_the_events_of_a_session_are_its_messages_in_order_and_a_stop_after_each_turn():
    api = llamacloud(WORLD)
    seen = set()
    for row in WORLD.sessions:
        messages = WORLD.messages(row["id"])
        events = api.ask(f"/{row['id']}")["events"]
        reported = [
            (each["type"], each["content"]) for each in events if each["type"] in {"user_input", "text"}
        ]
        assert reported == [(("user_input", "text")[each["role"]], each["content"]) for each in messages]
        assert sum(each["type"] == "stop" for each in events) == len(messages) // 2
        for each in events:
            assert each.keys() == EVENTS[each["type"]]
        seen |= {each["type"] for each in events}
        calls = [each for each in events if each["type"] == "tool_call"]
        results = [each for each in events if each["type"] == "tool_result"]
        assert [each["call_id"] for each in calls] == [each["call_id"] for each in results]
    assert seen == EVENTS.keys() - {"text_delta", "thinking_delta"}


def test_a_session_has_no_shared_access_and_a_stop_no_skipped_indexes_before_the_sdk_2_18():
    api = llamacloud(WORLD, llamacloud_shared_access=False)
    for item in walk(api):
        assert item.keys() == SUMMARY - {"shared_access"}
        for each in api.ask(f"/{item['session_id']}")["events"]:
            assert "skipped_index_ids" not in each


def test_a_history_may_keep_the_deltas_a_text_came_in():
    whole, parts = llamacloud(WORLD), llamacloud(WORLD, llamacloud_deltas_in_history=True)
    name = max(WORLD.sessions, key=lambda row: len(WORLD.messages(row["id"])))["id"]
    kept = parts.ask(f"/{name}")["events"]
    assert [each for each in kept if not each["type"].endswith("_delta")] == whole.ask(f"/{name}")["events"]
    deltas = "".join(each["content"] for each in kept if each["type"] == "text_delta")
    assert deltas == "".join(each["content"] for each in kept if each["type"] == "text")


def test_a_strange_world_has_fields_and_events_nobody_knows():
    api = llamacloud(STRANGE)
    items = walk(api)
    assert all(item.keys() == SUMMARY | {"language", "device"} for item in items)
    events = [each for item in items for each in api.ask(f"/{item['session_id']}")["events"]]
    assert {each["type"] for each in events} >= {"annotation", "user_input", "text", "stop"}
    assert all("sentiment" in each for each in events if each["type"] in {"annotation", "user_input", "text"})


# Paging ---------------------------------------------------------------------------------------------------


@given(
    st.sampled_from(["newest", "oldest", "id"]),
    st.sampled_from(["null", "empty", "missing"]),
    st.booleans(),
    st.none() | st.integers(1, 30),
    st.integers(1, 150),
)
def test_walking_with_any_page_size_and_any_answers_yields_every_session_once_in_order(
    order, last, more, most, size
):
    api = llamacloud(WORLD, llamacloud_order=order, last_cursor=last, cursor_on_last_page=more, max_page=most)
    items = walk(api, page_size=str(size))
    by = "session_id" if order == "id" else "last_updated_at"
    expected = sorted(items, key=lambda item: item[by], reverse=order == "newest")
    assert items == expected
    assert sorted(item["session_id"] for item in items) == sorted(row["id"] for row in WORLD.sessions)


def test_a_page_is_of_twenty_unless_asked_and_of_a_hundred_at_most():
    api = llamacloud(WORLD)
    assert len(api.ask()["items"]) == 20
    assert len(api.ask(page_size="7")["items"]) == 7
    assert len(api.ask(page_size="5000")["items"]) == 100


@pytest.mark.parametrize(
    ("last", "end"),
    [("null", {"next_page_token": None}), ("empty", {"next_page_token": ""}), ("missing", {})],
)
def test_the_last_page_says_so_in_each_of_three_ways(last, end):
    api = llamacloud(World(3), last_cursor=last, cursor_on_last_page=False)
    page = api.ask()
    assert {"items": page["items"], **end} == page
    api = llamacloud(World(3), last_cursor=last, cursor_on_last_page=True)
    token = api.ask()["next_page_token"]
    assert api.ask(page_token=token) == {"items": [], **end}


@pytest.mark.parametrize("order", ["newest", "oldest", "id"])
def test_page_faults_repeat_go_back_and_come_up_empty(order):
    api = llamacloud(WORLD, llamacloud_order=order)
    first = api.ask(page_size="10")
    token = first["next_page_token"]
    second = api.ask(page_size="10", page_token=token)
    assert api.ask(page_size="10", page_token=token, fault="repeat-cursor")["next_page_token"] == token
    back = api.ask(page_size="10", page_token=second["next_page_token"], fault="cycle")["next_page_token"]
    assert api.ask(page_size="10", page_token=back) == second
    start = api.ask(page_size="10", page_token=token, fault="cycle")["next_page_token"]
    assert api.ask(page_size="10", page_token=start) == first
    empty, *rest = pages(api, fault="empty-page", page_size="10")
    assert empty == []
    assert [row for page in rest for row in page] == walk(llamacloud(WORLD, llamacloud_order=order))


def test_what_is_changed_is_listed_first_and_has_another_time():
    api = llamacloud(World(20))
    last = walk(api)[-1]
    for change in (
        lambda: api.world.add_message(last["session_id"], created_at="2026-01-01 00:00:00"),
        lambda: api.world.add_message(last["session_id"]),
        lambda: api.world.note(last["session_id"], title="Another"),
    ):
        before = api.ask(f"/{last['session_id']}/summary")
        change()
        first = walk(api)[0]
        assert first["session_id"] == last["session_id"]
        assert first["last_updated_at"] > before["last_updated_at"]


# Writing --------------------------------------------------------------------------------------------------


async def test_a_session_is_created_bound_or_not_and_shared_as_asked():
    async with sandbox() as box:
        status, plain = await asked(box, "POST", body={})
        both = {"index_ids": ["a", "b"], "shared_access": "query"}
        bound = (await asked(box, "POST", body=both))[1]
        nulls = (await asked(box, "POST", body={"index_ids": None, "shared_access": None}))[1]
        assert (await got(box, page_size=3))["items"][0] in (plain, bound, nulls)
        whole = await got(box, f"/{plain['session_id']}")
    assert status == 200
    assert plain["last_updated_at"].startswith("2026-04-22T12:34:41.")
    assert plain == nulls | {name: plain[name] for name in ("session_id", "last_updated_at")}
    assert [plain[name] for name in ("index_ids", "job_metadata", "generated_title")] == [None] * 3
    assert (plain["shared_access"], bound["shared_access"]) == ("read_only", "query")
    assert bound["index_ids"] == ["a", "b"]
    assert whole == plain | {"events": []}
    assert len(box.world.sessions) == 33


async def test_a_deleted_session_is_gone():
    async with sandbox() as box:
        name = box.world.sessions[0]["id"]
        assert await asked(box, "DELETE", f"/{name}") == (204, "")
        for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/summary"), ("POST", "/title")]:
            gone = await asked(box, method, f"/{name}{path}", body={"first_message": "x"})
            assert gone == (404, {"detail": "Session not found"})
        assert name not in box.world.rows_by_id


async def test_a_title_is_made_of_the_first_message_and_kept():
    async with sandbox() as box:
        name = box.world.sessions[0]["id"]
        body = {"first_message": "  A first\n message, " + "long " * 40}
        status, summary = await asked(box, "POST", f"/{name}/title", body=body)
        assert status == 200
        assert summary["generated_title"].startswith("A first message, long long")
        assert len(summary["generated_title"]) == 40
        assert await got(box, f"/{name}/summary") == summary


@pytest.mark.parametrize("ends", ["lf", "crlf", "cr"])
async def test_a_stream_is_deltas_and_whole_events_and_comments_and_ends_with_stop(ends):
    async with sandbox(answers=Answers(llamacloud_line_ends=ends)) as box:
        name = (await asked(box, "POST", body={}))[1]["session_id"]
        body = json.dumps({"prompt": "Wie geht's? \u2028 日本", "index_ids": []}).encode()
        head = {"Authorization": "Bearer k", "Accept": "application/json"}
        async with aiohttp.ClientSession(box.llamacloud_url, headers=head) as http:
            async with http.post(f"/api/v1/chat/{name}/messages/stream", data=body) as response:
                raw = await response.read()
    assert response.content_type == "text/event-stream"
    end = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}[ends]
    assert raw.endswith(end * 2)
    assert b": ping" + end in raw
    for block in raw.split(end * 2)[:-1]:
        if block == b": ping":
            continue
        event, data = block.split(end)
        kind = json.loads(data.removeprefix(b"data: "))["type"]
        assert event == b"event: " + (b"delta" if kind.endswith("_delta") else b"message")
    assert kind == "stop"


async def test_a_turn_is_in_the_world_and_in_the_session_whole():
    async with sandbox() as box:
        name = (await asked(box, "POST", body={}))[1]["session_id"]
        events = []
        for prompt in ("One", "Two", "Three", "Four", "Five"):
            events += data_of(await streamed(box, name, prompt))
        whole = await got(box, f"/{name}")
        said = box.world.messages(name)
    for each in events:
        assert each.keys() == EVENTS[each["type"]]
    assert {each["type"] for each in events} == EVENTS.keys()
    assert whole["events"] == [each for each in events if not each["type"].endswith("_delta")]
    assert [(row["role"], row["content"]) for row in said][:2] == [(0, "One"), (1, "You asked: One")]
    assert whole["job_metadata"]["total_input_tokens"] == events[-1]["usage"]["total_input_tokens"]
    assert len(said) == 10


async def test_a_turn_fails_on_demand_and_says_so_afterwards_too():
    async with sandbox() as box:
        name = (await asked(box, "POST", body={}))[1]["session_id"]
        first, stop = data_of(await streamed(box, name, "fail"))
        whole = await got(box, f"/{name}")
    assert first == {"type": "user_input", "content": "fail"}
    assert (stop["is_error"], stop["error"]) == (True, "The turn failed")
    assert whole["events"] == [first, stop]
    assert (whole["job_metadata"]["is_error"], whole["job_metadata"]["error"]) == (True, "The turn failed")


async def test_an_unknown_index_is_skipped_or_fails_the_turn_that_needs_all():
    async with sandbox() as box:
        name = (await asked(box, "POST", body={}))[1]["session_id"]
        ids = ["index-1", "unknown-1", "unknown-2"]
        skipped = data_of(await streamed(box, name, "Hello", ids))[-1]
        strict = data_of(await streamed(box, name, "Hello", ids, require_all_indexes=True))[-1]
        none = data_of(await streamed(box, name, "Hello", ids[:1], require_all_indexes=True))[-1]
    assert (skipped["is_error"], skipped["skipped_index_ids"]) == (False, ids[1:])
    assert (strict["is_error"], strict["skipped_index_ids"]) == (True, ids[1:])
    assert "unknown-2" in strict["error"]
    assert (none["is_error"], none["skipped_index_ids"]) == (False, None)


# Refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "loc"),
    [
        ("POST", "", b"", ["body"]),
        ("POST", "", b"[]", ["body"]),
        ("POST", "", b"{", ["body"]),
        ("POST", "", {"index_ids": "a"}, ["body", "index_ids"]),
        ("POST", "", {"index_ids": ["a", 7]}, ["body", "index_ids", 1]),
        ("POST", "", {"shared_access": "write"}, ["body", "shared_access"]),
        ("POST", "", {"shared_access": []}, ["body", "shared_access"]),
        ("POST", "/ID/title", {}, ["body", "first_message"]),
        ("POST", "/ID/title", {"first_message": None}, ["body", "first_message"]),
        ("POST", "/ID/messages/stream", {"prompt": "x"}, ["body", "index_ids"]),
        ("POST", "/ID/messages/stream", {"index_ids": []}, ["body", "prompt"]),
        ("POST", "/ID/messages/stream", {"index_ids": [], "prompt": "x" * 1_001}, ["body", "prompt"]),
        ("POST", "/ID/messages/stream", {"index_ids": ["i"] * 11, "prompt": "x"}, ["body", "index_ids"]),
        (
            "POST",
            "/ID/messages/stream",
            {"index_ids": [], "prompt": "x", "require_all_indexes": 7},
            ["body", "require_all_indexes"],
        ),
        ("GET", "?page_size=0", None, ["query", "page_size"]),
        ("GET", "?page_size=many", None, ["query", "page_size"]),
        ("GET", "?page_size=101", None, ["query", "page_size"]),
        ("GET", "?page_token=not+ours", None, ["query", "page_token"]),
        ("GET", "?page_token=W10=", None, ["query", "page_token"]),
        ("GET", "?page_token=é", None, ["query", "page_token"]),
    ],
)
async def test_an_invalid_request_is_refused_with_its_place_and_changes_nothing(method, path, body, loc):
    async with sandbox(answers=Answers(over_limit="refuse")) as box:
        before = box.world.sessions, box.world.total_messages
        path = path.replace("ID", box.world.sessions[0]["id"])
        status, reported = await asked(box, method, path, body=body)
        assert (box.world.sessions, box.world.total_messages) == before
    assert status == 422
    (detail,) = reported["detail"]
    assert detail["loc"] == loc
    assert detail.keys() == {"loc", "msg", "type"}


async def test_the_longest_prompt_and_the_most_indexes_are_taken():
    async with sandbox() as box:
        text = await streamed(box, box.world.sessions[0]["id"], "\U0001f44d" * 1_000, ["i"] * 10)
    assert data_of(text)[-1]["is_error"] is False


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "", None, 401),
        ("GET", "", "", 401),
        ("GET", "", "another", 401),
        ("POST", "", "another", 401),
        ("GET", "", "expired", 403),
        ("GET", "/none", "right", 404),
        ("GET", "/none/messages", "right", 404),
        ("GET", "//summary", "right", 404),
        ("PUT", "", "right", 405),
        ("GET", "/none/title", "right", 405),
        ("DELETE", "/none/messages/stream", "right", 405),
    ],
)
async def test_refusals_have_a_status_and_a_detail(method, path, key, status):
    async with sandbox(keys={"right", "expired"}) as box:
        reported = await asked(box, method, path, key=key)
    assert reported[0] == status
    assert reported[1].keys() == {"detail"}


async def test_keys_open_worlds_of_their_own():
    async with sandbox(keys={"a": World(2), "b": World(3, seed=1)}) as box:
        sizes = [len((await asked(box, "GET", key=key))[1]["items"]) for key in ("a", "b")]
    assert sizes == [2, 3]


# Faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["cut", "cut-chunked", "reset"])
async def test_a_stream_can_break_in_the_middle_and_the_turn_is_in_the_world_all_the_same(fault):
    async with sandbox() as box:
        name = (await asked(box, "POST", body={}))[1]["session_id"]
        body = {"prompt": "Tell me " + "much " * 100, "index_ids": []}
        box.fail_next(fault, path="/messages/stream")
        head = {"Authorization": "Bearer k"}
        came = bytearray()
        async with aiohttp.ClientSession(box.llamacloud_url, headers=head) as http:
            async with http.post(f"/api/v1/chat/{name}/messages/stream", json=body) as response:
                with pytest.raises(aiohttp.ClientError):
                    async for piece in response.content.iter_any():
                        came += piece
        whole = await got(box, f"/{name}")
        assert box.counts.writes["POST", f"/api/v1/chat/{name}/messages/stream"] == 1
    assert b"event: delta" in came
    assert b'"type":"stop"' not in came
    assert whole["events"][-1]["type"] == "stop"


async def test_a_lost_answer_leaves_the_session_created():
    async with sandbox() as box:
        box.fail_next("lost-answer")
        with pytest.raises(aiohttp.ClientError):
            await asked(box, "POST", body={})
        assert len(box.world.sessions) == 31


@pytest.mark.parametrize(("fault", "status"), [("500", 500), ("503", 503), ("429", 429), ("404", 404)])
async def test_failures_on_demand_have_the_shape_of_this_api(fault, status):
    async with sandbox(faults=Faults(retry_after=2.5)) as box:
        box.fail_next(fault)
        reported = await asked(box, "GET")
    assert reported[0] == status
    assert reported[1].keys() == {"detail"}


async def test_a_429_says_how_long_to_wait():
    async with sandbox(faults=Faults(retry_after=2.5)) as box:
        box.fail_next("429")
        async with aiohttp.ClientSession(box.llamacloud_url) as http:
            assert (await http.get("/api/v1/chat")).headers["Retry-After"] == "2.5"


# Laws of the events ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from([0, 0, 1, 1, 7]), st.text()), max_size=30))
def test_any_messages_make_events_whose_parts_join_to_the_whole(messages):
    rows = [
        {"id": f"m{number}", "role": role, "messageType": 0, "content": content, "createdAt": ""}
        for number, (role, content) in enumerate(messages)
    ]
    events = history(rows, {})
    assert [each for each in events if each["type"] != "stop"] == [
        each for row in rows for each in message_events(row)
    ]
    parts = list(with_deltas(events))
    assert [each for each in parts if not each["type"].endswith("_delta")] == events
    for kind in ("text", "thinking"):
        joined = "".join(each["content"] for each in parts if each["type"] == f"{kind}_delta")
        assert joined == "".join(each["content"] for each in events if each["type"] == kind)
    carried = b"".join(event_stream(parts, "\n")).split(b"\n")
    assert [json.loads(line[6:]) for line in carried if line.startswith(b"data: ")] == parts
