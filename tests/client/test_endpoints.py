"""The README's table of endpoints is true: each call asks that endpoint, and takes what the table says."""

import re
from inspect import Parameter, signature
from pathlib import Path
from typing import NamedTuple, get_args, get_type_hints

import pytest

from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient, NavTalkClient
from navtalk_async.events import Answered
from navtalk_async.sandbox import Sandbox, World

README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """A row of the table."""

    method: str
    path: str
    client: str
    call: str
    takes: str


FOUND = re.findall(r"^\| `([A-Z]+) (/\S+)` \| `(\w+)\.([\w.]+)\((.*)\)` \|$", README, re.MULTILINE)
ROWS = [Row(*row) for row in FOUND]
CLIENTS = {"nt": NavTalkClient, "kodey": KodeyClient, "lexicon": LexiconClient, "llama": LlamaCloudClient}
APIS = {"nt": "navtalk", "kodey": "kodey", "lexicon": "lexicon", "llama": "llamacloud"}

GIVEN = {
    "agent_id": "agent-1",
    "user_id": "user-0",
    "content": "Hello",
    "first_message": "Hello, what is new?",
    "prompt": "What is new?",
    "index_ids": ["handbook"],
    "title": "Hello",
}
"""What a call is made with, where it needs anything beside an id."""


def the_call(client, name):
    for part in name.split("."):
        client = getattr(client, part)
    return client


async def done(called):
    """The call carried out to its end, of whatever kind it is."""
    if hasattr(called, "__aenter__"):
        async with called as events:
            return [event async for event in events]
    return await called


def taken(call):
    """The names that *call* takes, those of its filters among them."""
    for each in signature(call).parameters.values():
        if each.kind is Parameter.VAR_KEYWORD:
            [filters] = get_args(each.annotation)
            yield from get_type_hints(filters)
        else:
            yield each.name


def arguments(call, session_id):
    """What *call* is given: ids, and whatever it cannot do without."""
    needed = [
        each.name
        for each in signature(call).parameters.values()
        if each.default is Parameter.empty and each.kind is not Parameter.VAR_KEYWORD
    ]
    return {name: GIVEN.get(name, session_id) for name in needed}


READ = {"sessions.list", "sessions.get", "messages.list"}
CHATS = {"chats.list", "chats.get", "messages.list", "chats.create", "chats.delete"}
OPERATIONS = {
    "nt": READ,
    "kodey": CHATS | {"messages.create"},
    "lexicon": CHATS,
    "llama": READ | {"sessions.create", "sessions.delete", "sessions.generate_title", "sessions.stream"},
}
"""What calls are named in events and traces."""


def test_the_table_has_every_endpoint_of_every_api():
    counts = {name: sum(row.client == name for row in ROWS) for name in CLIENTS}
    assert counts == {"nt": 3, "kodey": 6, "lexicon": 5, "llama": 7}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.client}.{row.call}")
async def test_a_call_asks_its_endpoint_and_no_other(row):
    paths, operations = [], []

    def heard(event):
        if isinstance(event, Answered):
            paths.append(event.call.path)
            operations.append(event.call.operation)

    async with Sandbox(World(sessions=3)) as box:
        where = box.url_of(APIS[row.client])
        async with CLIENTS[row.client]("any", base_url=where, on_event=heard) as client:
            asked = the_call(client, row.call)
            session_id = box.world.sessions[0]["id"]
            await done(asked(**arguments(asked, session_id)))
        assert set(operations) <= OPERATIONS[row.client]
        template = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(row.path))
        if row.method == "GET":
            assert not box.counts.written
            [reported] = paths
        else:
            [(sent, reported, _)] = box.counts.written
            assert sent == row.method
        assert re.fullmatch(template, reported)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.client}.{row.call}")
def test_a_call_takes_what_the_table_says(row):
    client = CLIENTS[row.client]("any", base_url="http://127.0.0.1:9")
    reported = {each.strip().removesuffix("=") for each in row.takes.split(",")}
    assert reported == set(taken(the_call(client, row.call)))
