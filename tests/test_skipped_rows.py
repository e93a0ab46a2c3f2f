"""A row that is null or has no id costs itself alone: all others come, it is counted, and nothing is gone."""

import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.client import Client, inside
from navtalk_async.dialects import dialect_of
from navtalk_async.errors import NotJson, WrongShape
from navtalk_async.events import RowsSkipped
from navtalk_async.models import Response
from navtalk_async.paging import Listing, fetch_all
from navtalk_async.paging.compact_set import CompactSet

ID = {"navtalk": "id", "kodey": "id", "lexicon": "id", "llamacloud": "session_id"}
FILTERS = {"lexicon": {"user_id": "u"}}
NAMES = {"navtalk": "data", "kodey": "chats", "lexicon": "chats", "llamacloud": "items"}
ODD = [None, {}, {"id": None, "session_id": None}, {"id": "", "session_id": ""}, [], "text", 7]
ODD += [{"id": wrong, "session_id": wrong} for wrong in (True, 1.5, [1], {"a": 1})]


class Server:
    """The answers of an API whose list has the rows *rows*, in pages of *size*."""

    def __init__(self, api, rows, size=100):
        self.api, self.dialect, self.rows, self.size = api, dialect_of(api), rows, size

    async def ask(self, request):
        response = Response(status=200, headers={}, body=self.answer(request.params))
        return self.dialect.read_sessions(request, response)

    def answer(self, params):
        paging = self.dialect.sessions.paging
        at = int(params.get(paging.position, 0)) if paging.position else 0
        end = at + self.size if paging.position else len(self.rows)
        following = str(end) if end < len(self.rows) else None
        answer = {NAMES[self.api]: self.rows[at:end], "next_page_token": following, "nextCursor": following}
        answer |= {"total": len(self.rows), "has_more": following is not None, "limit": self.size}
        return json.dumps({"code": 200, "data": answer} if self.api == "navtalk" else answer).encode()

    @property
    def request(self):
        return self.dialect.list_sessions(**FILTERS.get(self.api, {}))


def row(number):
    return {"id": f"s{number}", "session_id": f"s{number}", "last_updated_at": "2025-11-12T18:20:38"}


ROWS = st.lists(st.one_of(st.integers(0, 9), st.sampled_from(ODD)), max_size=14).map(
    lambda drawn: [each if each in ODD else row(number) for number, each in enumerate(drawn)]
)


@pytest.mark.parametrize("api", ID)
@pytest.mark.parametrize("odd", ODD, ids=json.dumps)
async def test_a_row_without_an_id_costs_itself_alone_in_every_api(api, odd):
    page = await Server(api, [row(0), odd, row(1)]).ask(Server(api, []).request)
    assert [each.id for each in page.items] == ["s0", "s1"]
    assert page.skipped == (1,)


def test_an_event_that_is_null_is_skipped_and_the_others_keep_their_ids():
    llama = dialect_of("llamacloud")
    body = json.dumps({"session_id": "s", "events": [{"type": "stop"}, None, {"type": "stop"}]}).encode()
    page = llama.read_messages(llama.list_messages("s"), Response(status=200, headers={}, body=body))
    assert [each.id for each in page.items] == ["s:0", "s:2"]
    assert page.skipped == (1,)


@settings(max_examples=examples(300))
@given(st.sampled_from(sorted(ID)), ROWS, st.integers(2, 5))
async def test_whatever_rows_cannot_be_read_all_others_come_once_and_in_order(api, rows, size):
    moved, skipped = [], []
    # A first page without a single row is of another shape.
    rows = [row(99), *rows]
    server = Server(api, rows, size)
    wanted = [each["id"] for each in rows if each not in ODD]
    got = await fetch_all(server.ask, server.request, lambda *each: moved.append(each), skipped.append)
    assert [each.id for each in got] == wanted
    assert bool(skipped) == any(each in ODD for each in rows)
    assert [each.id async for each in Listing(server.ask, server.request)] == wanted
    assert moved == []


@pytest.mark.parametrize("api", ID)
async def test_a_page_of_which_no_row_is_one_is_of_another_shape(api):
    with pytest.raises(WrongShape):
        await Server(api, [{"name": "a"}, {"name": "b"}]).ask(Server(api, []).request)


@pytest.mark.parametrize("api", ID)
async def test_a_client_announces_each_row_that_cannot_be_read_once(api):
    server, events = Server(api, [None, row(0), None, None, row(1), None], 2), []

    async def answer(request):
        return web.Response(body=server.answer(request.query))

    app = web.Application()
    app.router.add_get(server.request.path, answer)
    async with TestServer(app) as site:
        url = str(site.make_url(""))
        async with Client(server.dialect, "key", base_url=url, on_event=events.append) as client:
            for _ in range(2):
                listed = client.list_sessions(**FILTERS.get(api, {}))
                assert [each.id async for each in listed] == ["s0", "s1"]
            assert inside(client).skipped() == 4
    assert sum(each.rows for each in events if isinstance(each, RowsSkipped)) == 4


BROKEN = [b'{"id":"x" "a":1}', b'{"id":"x","a":}', b'{"a":[1,,2],"id":"x"}', b'{"id" "x"}']


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("api", ID)
def test_a_row_that_is_no_json_costs_itself_alone(api, broken):
    server = Server(api, [row(0), {"odd": "{}"}, row(1)])
    body = server.answer({}).replace(b'{"odd": "{}"}', broken)
    page = server.dialect.read_sessions(server.request, Response(status=200, headers={}, body=body))
    assert ([each.id for each in page.items], page.skipped) == (["s0", "s1"], (1,))


@pytest.mark.parametrize("api", ID)
def test_a_page_that_is_cut_is_no_json_wherever_it_ends(api):
    server = Server(api, [row(0), row(1)])
    body = server.answer({})
    for end in range(1, len(body)):
        with pytest.raises(NotJson):
            server.dialect.read_sessions(server.request, Response(status=200, headers={}, body=body[:end]))


@given(st.lists(st.integers(0, 400)))
def test_a_compact_set_is_a_set(numbers):
    ours, theirs = CompactSet(), set()
    for number in numbers:
        assert ours.add(str(number)) == (number not in theirs)
        theirs.add(number)
    assert len(ours) == len(theirs)
    assert all((str(number) in ours) == (number in theirs) for number in range(401))
