"""A page token continues the list it comes from, and nothing else: whatever is made of it sends nothing."""

import base64
import json
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient, NavTalkClient
from navtalk_async.client import inside
from navtalk_async.dialects.dialect import ByCursor, Endpoint
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.models import Request
from navtalk_async.paging.tokens import PageTokens
from navtalk_async.sandbox import Sandbox, World

TOKENS = PageTokens("navtalk")
PATH = "/api/chat/sessions"
LIST = {"limit": "20", "status": "1"}
TOKEN = TOKENS.write(PATH, LIST, LIST | {"cursor": "c1"})


def read(token, path=PATH, params=LIST, tokens=TOKENS):
    return tokens.read(token, path, params)


def forged(digest, position):
    """What somebody makes who knows how tokens are written."""
    content = json.dumps([digest, position]).encode()
    return base64.urlsafe_b64encode(sha256(content).digest()[:9] + content).rstrip(b"=").decode()


def digest_of(token):
    padded = token + "=" * (-len(token) % 4)
    return json.loads(base64.urlsafe_b64decode(padded)[9:])[0]


texts = st.text(min_size=1, max_size=40)


@given(cursor=texts, size=st.sampled_from(["1", "20", "100"]), other=st.none() | texts)
def test_a_token_is_read_back_whatever_the_page_size(cursor, size, other):
    filters = {} if other is None else {"userId": other}
    token = TOKENS.write(PATH, {"limit": size} | filters, {"limit": size, "cursor": cursor} | filters)
    assert token.isascii()
    assert read(token, params={"limit": "7", "cursor": "an earlier one"} | filters) == {"cursor": cursor}


@settings(max_examples=examples(300))
@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_a_token_with_another_character_is_refused(place, character):
    changed = TOKEN[:place] + character + TOKEN[place + 1 :]
    if changed != TOKEN:
        with pytest.raises(ValueError, match="no page token, or a damaged one"):
            read(changed)


@given(
    st.text(max_size=80) | st.binary(max_size=80).map(lambda data: base64.urlsafe_b64encode(data).decode())
)
def test_a_text_that_is_no_token_is_refused(text):
    with pytest.raises(ValueError, match="no page token, or a damaged one"):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", TOKEN + " ", " " + TOKEN, TOKEN + "\n", TOKEN + "=", TOKEN + "x", TOKEN[:-1], TOKEN[:20]),
        *(
            TOKEN[::-1],
            TOKEN.lower(),
            TOKEN * 2,
            "null",
            "{}",
            "é" * 9,
            "a" * 999_999,
            "\ud800",
            "[" * 99_999,
        ),
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_a_damaged_token_is_refused(text):
    with pytest.raises(ValueError, match="no page token, or a damaged one"):
        read(text)


@pytest.mark.parametrize("thing", [5, 1.0, True, b"x", TOKEN.encode(), {}, [], object(), Request(path="/x")])
def test_a_token_that_is_not_a_text_is_refused(thing):
    with pytest.raises(ValueError, match=f"not a {type(thing).__name__}"):
        read(thing)


@pytest.mark.parametrize(
    ("path", "params", "tokens"),
    [
        ("/api/chat/messages", LIST, TOKENS),
        (PATH, LIST | {"status": "2"}, TOKENS),
        (PATH, {"limit": "20"}, TOKENS),
        (PATH, LIST | {"startTime": "2025-01-01 00:00:00"}, TOKENS),
        (PATH, LIST | {"order": "desc"}, TOKENS),
        (PATH, LIST, PageTokens("kodey")),
    ],
)
def test_a_token_of_another_list_is_refused(path, params, tokens):
    with pytest.raises(ValueError, match="of another list"):
        read(TOKEN, path, params, tokens)


@pytest.mark.parametrize("name", ["status", "userId", "project_id", "apikey", "limit", "path", "method"])
def test_a_forged_token_sets_nothing_but_the_position(name):
    with pytest.raises(ValueError, match=name):
        read(forged(digest_of(TOKEN), {name: "x"}))


@pytest.mark.parametrize(
    "position", [{"cursor": 7}, {"cursor": None}, [], "x", {"offset": "-1"}, {"offset": "x"}, {"offset": "٣"}]
)
def test_a_forged_position_that_cannot_be_one_is_refused(position):
    with pytest.raises(ValueError, match="damaged"):
        read(forged(digest_of(TOKEN), position))


class Odd(NavTalk):
    api = "odd"
    sessions = messages = Endpoint(
        "/x", rows="x", paging=ByCursor(most=9, size="howMany", position="startFrom")
    )


def test_a_dialect_names_what_its_tokens_may_set():
    tokens = Odd().page_tokens
    token = tokens.write(PATH, {"howMany": "5"}, {"howMany": "5", "startFrom": "x"})
    assert tokens.read(token, PATH, {"howMany": "9"}) == {"startFrom": "x"}
    unnamed = PageTokens("odd")
    token = unnamed.write(PATH, {}, {"startFrom": "x"})
    with pytest.raises(ValueError, match="dialect does not name"):
        unnamed.read(token, PATH, {})


# Over real sockets ----------------------------------------------------------------------------------------


async def ids(listing):
    return [row.id async for row in listing]


def lists_of(box):
    """Each API's client, and its lists in pages of five: of sessions, and of a session's messages."""
    session = max(box.world.sessions, key=lambda row: len(box.world.messages(row["id"])))["id"]
    return {
        "navtalk": (
            NavTalkClient("k", base_url=box.navtalk_url),
            lambda nt, **more: nt.sessions.list(**{"limit": 5} | more),
            lambda nt, **more: nt.messages.list(session, **{"limit": 5} | more),
        ),
        "lexicon": (
            LexiconClient("k", base_url=box.lexicon_url),
            lambda lexicon, **more: lexicon.chats.list_for_user("user-0", **{"limit": 5} | more),
            lambda lexicon, **more: lexicon.messages.list(session, **{"limit": 5} | more),
        ),
        "llamacloud": (
            LlamaCloudClient("k", base_url=box.llamacloud_url, project_id="p1"),
            lambda llama, **more: llama.sessions.list(**{"page_size": 5} | more),
            None,
        ),
    }


@pytest.mark.parametrize("api", ["navtalk", "lexicon", "llamacloud"])
async def test_a_token_continues_its_list_in_another_client_and_page_size(api):
    async with Sandbox(World(80)) as box:
        asked, *lists = lists_of(box)[api]
        async with asked:
            for of in filter(None, lists):
                first = await of(asked)
                again, *_ = lists_of(box)[api]
                async with again:
                    size = {"page_size" if api == "llamacloud" else "limit": 7}
                    rest = await ids(of(again, **size).resume(first.token))
                    assert [row.id for row in first.items] + rest == await ids(of(asked))


@pytest.mark.parametrize("api", ["navtalk", "lexicon", "llamacloud"])
async def test_every_page_of_a_resumed_list_has_a_token_to_continue(api):
    async with Sandbox(World(80)) as box:
        asked, sessions, _ = lists_of(box)[api]
        async with asked:
            got, page = [], await sessions(asked)
            while True:
                got += [row.id for row in page.items]
                if page.token is None:
                    break
                page = await sessions(asked).resume(page.token)
            assert got == await ids(sessions(asked))


async def test_a_token_of_any_other_list_sends_nothing():
    async with Sandbox(World(80)) as box:
        found = lists_of(box)
        tokens = {}
        for api, (asked, sessions, messages) in found.items():
            tokens[api, "sessions"] = (await sessions(asked)).token
            if messages is not None:
                tokens[api, "messages"] = (await messages(asked)).token
        asked = found["navtalk"][0]
        other = min(box.world.sessions, key=lambda row: row["id"])["id"]
        others = {
            ("navtalk", "filtered"): asked.sessions.list(status=1),
            ("navtalk", "of another session"): asked.messages.list(other),
            ("navtalk", "of a role"): asked.messages.list(other, role=1),
            ("lexicon", "of another user"): found["lexicon"][0].chats.list_for_user("user-1"),
            ("lexicon", "in another order"): found["lexicon"][0].chats.list_for_user("user-0", order="desc"),
            ("llamacloud", "of another project"): found["llamacloud"][0]
            .using(project_id="p2")
            .sessions.list(),
            ("llamacloud", "of an organization"): found["llamacloud"][0]
            .using(organization_id="o")
            .sessions.list(),
            ("kodey", "sessions"): KodeyClient("k", base_url=box.kodey_url).chats.list(),
        }
        lists = others | {
            (api, kind): of(asked)
            for api, (asked, *each) in found.items()
            for kind, of in zip(("sessions", "messages"), each, strict=True)
            if of is not None
        }
        before = box.counts.total
        for whose, token in tokens.items():
            for which, listing in lists.items():
                if whose != which:
                    with pytest.raises(ValueError, match="of another list"):
                        listing.resume(token)
                    with pytest.raises(ValueError, match="of another list"):
                        listing.pages(token)
        assert box.counts.total == before
        assert not box.counts.writes


async def test_a_request_is_refused_as_a_token():
    async with Sandbox(World(20)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        for bad in (Request(method="DELETE", path="/chat/x"), {"path": "/chat/x"}, b"x", 5, "", " "):
            with pytest.raises(ValueError, match="page token"):
                nt.sessions.list().resume(bad)
            with pytest.raises(ValueError, match="page token"):
                nt.sessions.list().pages(bad)
        assert box.counts.total == 0


@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "get"])
async def test_a_page_is_never_asked_for_by_a_request_that_changes_something(method):
    async with Sandbox(World(20)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        wrong = Request(method=method, path=f"/api/chat/sessions/{box.world.sessions[0]['id']}")
        for page in (inside(nt).page_of_sessions, inside(nt).page_of_messages):
            with pytest.raises(ValueError, match=f"by GET, not by {method}"):
                await page(wrong)
        assert box.counts.total == 0
