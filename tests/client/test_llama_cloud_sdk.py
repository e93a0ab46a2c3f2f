"""LlamaCloud's own SDK judges the sandbox, in strict validation: the newest, and the one that knew titles."""

import asyncio
import json
import re
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import aiohttp
import pytest
from sdk_walk import GET_OLD, PROMPTS, sdk_results, walk

from navtalk_async.sandbox import Answers, Sandbox

KEY = "llx-of-the-tests"
NOW = datetime(2026, 4, 22, 12, 34, 41, tzinfo=UTC)
EVENTS = {"user_input", "thinking", "tool_call", "tool_result", "text", "stop"}
DELTAS = {"text_delta", "thinking_delta"}


def sandbox(*, old, **answers):
    # Each walk has a sandbox of its own, where the same happens in the same second.
    answers = Answers(llamacloud_shared_access=not old, **answers)
    return Sandbox(sessions=40, keys={KEY}, answers=answers, clock=lambda: NOW)


class Bare:
    """No more than the wire: what a body holds, read by nobody's models."""

    def __init__(self, http, *, old):
        self.http, self.titles, self.shares = http, old, not old

    async def ask(self, method, path="", **options):
        asking = self.http.request(method, f"/api/v1/chat{path}", raise_for_status=True, **options)
        async with asking as response:
            return await response.read()

    async def listed(self, page_size):
        found, params = [], {"page_size": page_size}
        while True:
            page = json.loads(await self.ask("GET", params=params))
            found += page["items"]
            if not page.get("next_page_token"):
                return found
            params["page_token"] = page["next_page_token"]

    async def created(self, **fields):
        return json.loads(await self.ask("POST", json=fields))

    async def session(self, session_id):
        return json.loads(await self.ask("GET", f"/{session_id}"))

    async def summary(self, session_id):
        return json.loads(await self.ask("GET", f"/{session_id}/summary"))

    async def titled(self, session_id, first_message):
        body = {"first_message": first_message}
        return json.loads(await self.ask("POST", f"/{session_id}/title", json=body))

    async def streamed(self, session_id, **fields):
        body = await self.ask("POST", f"/{session_id}/messages/stream", json=fields)
        return [json.loads(data) for data in re.findall(rb"data: ([^\r\n]+)", body)]

    async def deleted(self, session_id):
        return await self.ask("DELETE", f"/{session_id}") or None

    async def refused(self, call):
        with pytest.raises(aiohttp.ClientResponseError) as refused:
            await call
        return refused.value.status


async def barely_walked(box, *, old):
    head = {"Authorization": f"Bearer {KEY}"}
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(box.llamacloud_url, headers=head, connector=connector) as http:
        return await walk(Bare(http, old=old))


async def both_walked(*, old, **answers):
    """What the SDK got, what the wire carries, and the two sandboxes; from either, the same was asked."""
    async with sandbox(old=old, **answers) as box:
        got = await sdk_results(box.llamacloud_url, KEY, old=old)
    async with sandbox(old=old, **answers) as twin:
        expected = await barely_walked(twin, old=old)
    return got, expected, box


@pytest.fixture(scope="module", params=[False, True], ids=["newest", "2.7.0"])
def old(request):
    return request.param


@pytest.fixture(scope="module")
def walks(old):
    # One for several tests: an SDK takes seconds to be imported.
    return asyncio.run(both_walked(old=old))


def test_the_sdk_gets_value_by_value_what_the_wire_carries(walks, old):
    got, expected, _ = walks
    assert (got["version"] == "2.7.0") == old
    assert got == expected | {"version": got["version"]}


@pytest.mark.parametrize(
    "answers",
    [
        {"cursor_on_last_page": False, "llamacloud_order": "oldest"},
        {"cursor_on_last_page": False, "last_cursor": "empty", "llamacloud_order": "id", "max_page": 3},
        {"last_cursor": "missing", "llamacloud_deltas_in_history": True, "llamacloud_line_ends": "cr"},
    ],
    ids=["null", "empty", "missing"],
)
async def test_the_sdk_gets_the_same_whatever_the_reference_leaves_open(answers):
    got, expected, _ = await both_walked(old=False, **answers)
    assert got == expected | {"version": got["version"]}


def test_the_sdk_gets_the_world(walks, old):
    got, _, box = walks
    assert len(got["listed"]) == 40
    assert got["summaries"] == got["listed"]
    for listed, full in zip(got["listed"], got["sessions"], strict=True):
        said = [each["content"] for each in full["events"] if each["type"] in {"user_input", "text"}]
        assert said == [row["content"] for row in box.world.messages(full["session_id"])]
        assert listed == {name: value for name, value in full.items() if name != "events"}
        assert ("shared_access" in full) == (not old)
    assert {each["type"] for full in got["sessions"] for each in full["events"]} == EVENTS


def test_the_sdk_takes_a_session_from_its_beginning_to_its_end(walks, old):
    got, _, box = walks
    unbound, bound = got["created"]
    assert unbound["index_ids"] is unbound["job_metadata"] is unbound["generated_title"] is None
    assert bound["index_ids"] == ["index-1", "unknown-1"]
    assert bound.get("shared_access") == (None if old else "query")
    if old:
        assert got["titled"]["generated_title"] == PROMPTS[0] == got["after"]["generated_title"]
    assert got["after"]["job_metadata"].items() >= got["streamed"][-1][-1]["usage"].items()
    assert got["deleted"] is None
    assert got["refused"] == [404, 422, 422]
    left = {row["id"] for row in box.world.sessions}
    assert (unbound["session_id"] in left, bound["session_id"] in left) == (False, True)
    assert box.counts.by_kind["stream"] == len(got["streamed"]) + 2


def test_the_sdk_streams_turns_that_are_then_in_the_session(walks, old):
    got, _, _ = walks
    turns = got["streamed"]
    events = [each for turn in turns for each in turn]
    assert {each["type"] for each in events} == EVENTS | DELTAS
    assert [each for each in events if each["type"] not in DELTAS] == got["after"]["events"]
    for turn, kind in product(turns, ["text", "thinking"]):
        parts = [each["content"] for each in turn if each["type"] == f"{kind}_delta"]
        assert "".join(parts) == "".join(each["content"] for each in turn if each["type"] == kind)
    stops = [turn[-1] for turn in turns]
    assert [each["is_error"] for each in stops] == [False, True, False, False, False, True][: len(stops)]
    assert [each.get("skipped_index_ids") for each in stops] == [None if old else ["unknown-1"]] * len(stops)


async def test_the_judge_is_strict():
    async with sandbox(old=True) as box:
        with pytest.raises(AssertionError, match="APIResponseValidationError"):
            await sdk_results(box.llamacloud_url, KEY)


async def test_the_sdk_is_turned_away_without_the_key():
    async with sandbox(old=False) as box:
        with pytest.raises(AssertionError, match="AuthenticationError"):
            await sdk_results(box.llamacloud_url, "another")


async def test_a_missing_older_sdk_is_told_with_the_command_that_gets_it(monkeypatch, tmp_path):
    monkeypatch.setattr("sdk_walk.OLD", tmp_path)
    with pytest.raises(AssertionError, match=re.escape(GET_OLD)):
        await sdk_results("http://127.0.0.1:9", KEY, old=True)
    assert GET_OLD in Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
