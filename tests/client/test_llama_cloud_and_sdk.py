"""Our client gets from the sandbox what LlamaCloud's own SDK gets, value by value, from one walk."""

import asyncio
import json
from datetime import UTC, datetime

import msgspec
import pytest
from sdk_walk import sdk_results, walk

from navtalk_async import LlamaCloudClient
from navtalk_async.dialects.answers import refuse
from navtalk_async.errors import ApiError
from navtalk_async.models import Request
from navtalk_async.sandbox import Answers, Sandbox

KEY = "llx-of-the-tests"
NOW = datetime(2026, 4, 22, 12, 34, 41, tzinfo=UTC)
EVERYTHING_OPEN = {
    "cursor_on_last_page": False,
    "last_cursor": "missing",
    "llamacloud_order": "oldest",
    "llamacloud_deltas_in_history": True,
    "llamacloud_line_ends": "cr",
    "max_page": 3,
}


class Ours:
    """Our client on the walk. What it gives are its attributes, by the API's names, and never `raw`."""

    def __init__(self, client, *, shares):
        self.client, self.shares, self.titles = client, shares, not shares
        self.sessions = client.sessions

    async def listed(self, page_size):
        return [plain(each) async for each in self.sessions.list(page_size=page_size)]

    async def created(self, **fields):
        return plain(await self.sessions.create(**fields))

    async def session(self, session_id):
        return plain(await self.sessions.get(session_id))

    async def summary(self, session_id):
        return plain(await self.sessions.summary(session_id))

    async def titled(self, session_id, first_message):
        return plain(await self.sessions.generate_title(session_id, first_message))

    async def streamed(self, session_id, **fields):
        try:
            stream = self.sessions.stream(session_id, **fields)
        except ValueError:
            # We do not even ask; the server is asked behind our back for what it would have said.
            path = f"/api/v1/chat/{session_id}/messages/stream"
            request = Request(path=path, method="POST", body=msgspec.json.encode(fields))
            return await self.client.ask(request, refuse)
        async with stream as events:
            return [plain(event) async for event in events]

    async def deleted(self, session_id):
        return await self.sessions.delete(session_id)

    async def refused(self, call):
        with pytest.raises(ApiError) as refused:
            await call
        return refused.value.status


def plain(thing):
    """A session or an event, written from its attributes alone: without what was kept of its bytes."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(thing)}
    reported = {
        names[name]: value
        for name, value in msgspec.structs.asdict(thing).items()
        if not names[name].startswith("·")
    }
    if hasattr(thing, "events"):
        reported["events"] = [plain(event) for event in thing.events]
    if hasattr(thing, "type"):
        reported["type"] = thing.type
    return json.loads(msgspec.json.encode(reported))


def without_nulls(thing):
    """*thing* where null and missing are the same, as they are in attributes."""
    if isinstance(thing, dict):
        return {name: without_nulls(value) for name, value in thing.items() if value is not None}
    return [without_nulls(each) for each in thing] if isinstance(thing, list) else thing


def sandbox(**answers):
    # Each walk has a sandbox of its own, where the same happens in the same second.
    return Sandbox(sessions=40, keys={KEY}, answers=Answers(**answers), clock=lambda: NOW)


async def ours(box, *, shares):
    async with LlamaCloudClient(KEY, base_url=box.llamacloud_url) as client:
        return await walk(Ours(client, shares=shares))


@pytest.mark.parametrize("old", [False, True], ids=["newest", "2.7.0"])
@pytest.mark.parametrize("answers", [{}, EVERYTHING_OPEN], ids=["usual", "other"])
def test_our_client_gets_value_by_value_what_the_sdk_gets(old, answers):
    async def both():
        answers_of_era = answers | {"llamacloud_shared_access": not old}
        async with sandbox(**answers_of_era) as box:
            sdk = await sdk_results(box.llamacloud_url, KEY, old=old)
        async with sandbox(**answers_of_era) as twin:
            return sdk, await ours(twin, shares=not old), box, twin

    sdk, got, box, twin = asyncio.run(both())
    del sdk["version"]
    assert sdk.keys() == got.keys()
    for step, expected in sdk.items():
        assert without_nulls(got[step]) == without_nulls(expected), step
    assert got["refused"] == [404, 422, 422]
    assert len(got["listed"]) == 40
    assert box.counts.by_kind == twin.counts.by_kind
    assert list(box.world.sessions) == list(twin.world.sessions)
