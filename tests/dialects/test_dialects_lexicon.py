"""Lexicon's dialect asks as the reference says, understands what it shows, and gets by with the rest."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.answers import reader
from navtalk_async.dialects.dialect import smallest_page
from navtalk_async.dialects.lexicon import Lexicon, LexiconChat, LexiconDeletion, LexiconMessage
from navtalk_async.errors import (
    DecodeFailed,
    NotJson,
)
from navtalk_async.models import KeyPlace, Response

LEXICON = Lexicon()
HALF_PAST_TEN = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)

# What a server may say of its pages that denies the rows there are: nobody could know of them.
NOTHING_PROMISED = {("false", "few"), ("false", "missing"), ("missing", "few")}

texts = st.text('ab/.%?#\\"\x00\n é😀\u2028', max_size=6)

# The reference's own answer.
SAID = b"""{
 "messages": [
  {
   "id": "msg-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d",
   "content": "Hello, I need help with my account",
   "sender_role": "user",
   "media_type": null,
   "media_url": null,
   "created_at": "2024-01-15T10:30:00Z",
   "metadata": {
    "user_agent": "Mozilla/5.0..."
   }
  },
  {
   "id": "msg-b2c3d4e5-f6a7-4b8c-9d0e-1f2a3b4c5d6e",
   "content": "I'd be happy to help you with your account! What specific issue are you experiencing?",
   "sender_role": "assistant",
   "media_type": null,
   "media_url": null,
   "created_at": "2024-01-15T10:30:05Z",
   "metadata": {
    "model": "gpt-4",
    "tokens_used": 87
   }
  },
  {
   "id": "msg-c3d4e5f6-a7b8-4c9d-0e1f-2a3b4c5d6e7f",
   "content": "I can't log into my account. It says my password is incorrect.",
   "sender_role": "user",
   "media_type": null,
   "media_url": null,
   "created_at": "2024-01-15T10:30:30Z",
   "metadata": {}
  },
  {
   "id": "msg-d4e5f6a7-b8c9-4d0e-1f2a-3b4c5d6e7f8a",
   "content": "I understand you're having trouble logging in. Let me help you troubleshoot this issue. \
First, let's try resetting your password.",
   "sender_role": "assistant",
   "media_type": null,
   "media_url": null,
   "created_at": "2024-01-15T10:30:35Z",
   "metadata": {
    "model": "gpt-4",
    "tokens_used": 124
   }
  }
 ],
 "total": 15,
 "offset": 0,
 "limit": 50,
 "has_more": false
}"""
# As its siblings are described.
CHAT = {
    "id": "chat-1",
    "user_id": "ann",
    "tenant_id": "tenant-1",
    "title": "Lost password",
    "config": {"metadata": {"plan": "free"}},
    "created_at": "2024-01-15T10:30:00Z",
    "updated_at": "2024-01-15T10:31:00Z",
    "last_message_at": "2024-01-15T10:30:35Z",
}
ROW = json.loads(SAID)["messages"][0]
DELETED = b'{"success": true, "message": "Chat deleted", "deleted_at": "2024-01-15T10:30:00Z"}'


def answer(body, status=200, headers=()):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=dict(headers), body=body)


def chats(body, status=200, **asked):
    return LEXICON.read_sessions(LEXICON.list_sessions(user_id="ann", **asked), answer(body, status))


def chat(body, status=200):
    return LEXICON.read_session(LEXICON.get_session("c"), answer(body, status))


def messages(body, status=200, **asked):
    return LEXICON.read_messages(LEXICON.list_messages("c", **asked), answer(body, status))


def deletion(body, status=200):
    return reader(LexiconDeletion)(LEXICON.delete_chat("c"), answer(body, status))


def rows(count):
    return [ROW | {"id": f"m{number}"} for number in range(count)]


def page(count, **reported):
    return {"messages": rows(count)} | reported


def offset_after(count, asked=0, **reported):
    """Where a page of so many rows leads to; None where it is the last."""
    following = messages(page(count, **reported), offset=asked).next
    return None if following is None else int(following.params["offset"])


READERS = pytest.mark.parametrize("read", [chats, chat, messages, deletion])


# What the reference shows ---------------------------------------------------------------------------------


def test_the_documented_messages_are_read_field_for_field():
    found = messages(SAID)
    first, second, third, _ = found.items
    assert type(first) is LexiconMessage
    assert (first.id, first.role) == ("msg-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d", "user")
    assert first.content == "Hello, I need help with my account"
    assert (first.type, first.media_url, first.extra) == (None, None, {})
    assert (first.created_at, first.metadata) == (HALF_PAST_TEN, {"user_agent": "Mozilla/5.0..."})
    assert (second.role, second.metadata) == ("assistant", {"model": "gpt-4", "tokens_used": 87})
    assert third.metadata == {}
    assert found.total == 15


def test_the_documented_messages_are_written_again_without_loss():
    found = messages(SAID)
    assert [json.loads(row.raw) for row in found.items] == json.loads(SAID)["messages"]
    assert [LEXICON.message_of(row.raw, "c", 0) for row in found.items] == found.items


def test_the_documented_page_contradicts_itself_and_the_next_one_is_asked_for():
    assert messages(SAID).next == LEXICON.list_messages("c", offset=4)


@pytest.mark.parametrize("more", [{}, {"message_count": 4, "status": "active"}])
def test_a_chat_is_read_field_for_field(more):
    found = chat(CHAT | more)
    assert type(found) is LexiconChat
    assert (found.id, found.user_id, found.tenant_id) == ("chat-1", "ann", "tenant-1")
    assert (found.title, found.metadata) == ("Lost password", {"plan": "free"})
    assert found.config == {"metadata": {"plan": "free"}}
    assert found.created_at == found.start_time == HALF_PAST_TEN
    assert found.updated_at == HALF_PAST_TEN.replace(minute=31)
    assert found.last_message_at == HALF_PAST_TEN.replace(second=35)
    assert (found.message_count, found.status) == (more.get("message_count"), more.get("status"))
    assert (found.end_time, found.video_url, found.extra) == (None, None, {})
    assert json.loads(found.raw) == CHAT | more
    assert LEXICON.session_of(found.raw) == found


def test_a_page_of_chats_is_read_with_its_total():
    found = chats({"chats": [CHAT], "total": 1, "offset": 0, "limit": 50, "has_more": False})
    assert [json.loads(row.raw) for row in found.items] == [CHAT]
    assert (found.next, found.total) == (None, 1)


def test_a_deletion_is_read_field_for_field():
    reported = deletion(DELETED)
    assert (reported.success, reported.message, reported.deleted_at) == (True, "Chat deleted", HALF_PAST_TEN)


def test_a_media_type_is_the_type_of_its_message():
    (found,) = messages({"messages": [ROW | {"media_type": "image/png", "media_url": "https://x"}]}).items
    assert (found.type, found.media_url) == ("image/png", "https://x")


def test_the_questions_are_the_documented_ones():
    listing = LEXICON.list_sessions(user_id="ann", limit=20, offset=40, order="desc")
    assert (listing.method, listing.path) == ("GET", "/api/v1/chats/user/ann")
    assert listing.params == {"limit": "20", "offset": "40", "order": "desc"}
    said = LEXICON.list_messages("c1", limit=20, offset=40, order="desc")
    assert (said.method, said.path) == ("GET", "/api/v1/chats/c1/messages")
    assert said.params == {"limit": "20", "offset": "40", "order": "desc"}
    assert LEXICON.get_session("c1").path == "/api/v1/chats/c1"
    assert (LEXICON.delete_chat("c1").method, LEXICON.delete_chat("c1").path) == (
        "DELETE",
        "/api/v1/chats/c1",
    )


def test_without_more_words_lists_begin_with_the_oldest():
    assert LEXICON.list_sessions(user_id="ann").params == {"limit": "50", "offset": "0", "order": "asc"}
    assert LEXICON.list_messages("c").params == {"limit": "100", "offset": "0", "order": "asc"}


@pytest.mark.parametrize(
    "more", [{}, {"title": "T"}, {"metadata": {}}, {"title": "", "metadata": {"é": [1, None]}}]
)
def test_a_new_chat_is_wished_for_as_documented(more):
    wish = LEXICON.create_chat("ann", **more)
    assert (wish.method, wish.path) == ("POST", "/api/v1/chats/")
    assert json.loads(wish.body) == {"user_id": "ann"} | more
    assert not wish.repeatable


def test_the_key_goes_into_a_header_and_the_address_is_not_known():
    assert LEXICON.key_place == KeyPlace("header", "X-API-Key")
    assert (LEXICON.key_variable, LEXICON.base_url_variable) == ("LEXICON_API_KEY", "LEXICON_BASE_URL")
    assert LEXICON.default_base_url is None
    assert type(dialect_of("lexicon")) is Lexicon


@pytest.mark.parametrize("end", ["", "/", "/api/v1", "/api/v1/", "/api/v1/\n"])
@pytest.mark.parametrize("host", ["http://localhost:8000", "https://x.example/lexicon"])
def test_the_base_url_may_end_in_api_v1_or_not(host, end):
    assert LEXICON.root(host + end) == host


# What cannot be right -------------------------------------------------------------------------------------


def test_a_list_of_chats_needs_a_user():
    with pytest.raises(ValueError, match="one user: pass user_id="):
        LEXICON.list_sessions()


@pytest.mark.parametrize("bad", ["", " ", ".", "..", "a\nb", 7])
def test_what_is_no_id_is_refused(bad):
    with pytest.raises(ValueError, match="cannot be the id of any chat"):
        LEXICON.checked_id(bad)
    with pytest.raises(ValueError, match="cannot be the id of any user"):
        LEXICON.list_sessions(user_id=bad)
    with pytest.raises(ValueError, match="cannot be the id of any user"):
        LEXICON.create_chat(bad)


@pytest.mark.parametrize(
    ("bad", "named"),
    [({"limit": each}, "limit") for each in (0, -1, 101, True, "5", 2.0)]
    + [({"offset": each}, "offset") for each in (-1, True, "5", 2.0)]
    + [({"order": each}, "order") for each in ("", "ASC", "newest", 1)],
)
def test_a_page_that_cannot_be_is_refused(bad, named):
    with pytest.raises(ValueError, match=named):
        LEXICON.list_sessions(**{"user_id": "ann"} | bad)
    with pytest.raises(ValueError, match=named):
        LEXICON.list_messages("c", **bad)


@pytest.mark.parametrize("name", ["status", "start_time", "role"])
def test_filters_that_the_api_has_not_are_refused_by_name(name):
    with pytest.raises(TypeError, match=rf"{name}.*user_id"):
        LEXICON.list_sessions(**{"user_id": "ann", name: 1})
    with pytest.raises(TypeError, match=rf"{name}.*there are no filters"):
        LEXICON.list_messages("c", **{name: 1})


@pytest.mark.parametrize(
    "bad", [{"title": 7}, {"metadata": []}, {"metadata": "x"}, {"metadata": {"a": object()}}]
)
def test_a_chat_that_cannot_be_made_is_refused(bad):
    with pytest.raises(ValueError, match=r"title|metadata|JSON"):
        LEXICON.create_chat("ann", **bad)


@given(texts.filter(lambda text: text not in {"", ".", ".."}))
def test_no_id_of_the_api_leads_anywhere_else(text):
    assert LEXICON.get_session(text).path.count("/") == 4
    assert LEXICON.delete_chat(text).path.count("/") == 4
    assert LEXICON.list_messages(text).path.count("/") == 5


# Pages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "goes_on"),
    [
        ({"total": 15, "has_more": True}, True),
        ({"total": 15, "has_more": False}, True),
        ({"total": 15}, True),
        ({"total": 15, "has_more": None}, True),
        ({"total": 4, "has_more": True}, True),
        ({"total": 3, "has_more": True}, True),
        ({"has_more": True}, True),
        ({}, True),
        ({"total": None, "has_more": None}, True),
        ({"total": "15", "has_more": "no"}, True),
        ({"total": -1}, True),
        ({"total": 4, "has_more": False}, False),
        ({"total": 4}, False),
        ({"has_more": False}, False),
        ({"total": 0, "has_more": False}, False),
    ],
)
def test_a_walk_goes_on_as_long_as_anything_promises_more(reported, goes_on):
    assert offset_after(4, **reported) == (4 if goes_on else None)


@pytest.mark.parametrize(
    "reported",
    [
        {},
        {"has_more": False},
        {"has_more": True, "total": 8},
        {"total": 15},
        {"total": 15, "has_more": False},
    ],
)
def test_a_walk_ends_where_nothing_comes(reported):
    assert offset_after(0, asked=8, **reported) is None


@pytest.mark.parametrize("echoed", [None, 0, 8, 39, "0", -1, True, [8]])
def test_the_offset_that_a_page_echoes_is_not_looked_at(echoed):
    assert offset_after(5, asked=40, offset=echoed, total=100, has_more=True) == 45
    assert offset_after(0, asked=40, offset=echoed, total=15, has_more=False) is None


@pytest.mark.parametrize("has_more", [False, "false", None, 0])
@pytest.mark.parametrize(("limit", "echoed"), [(4, 4), (4, None), (4, 50), (100, 4), (100, "4"), (100, 4.0)])
def test_behind_a_full_page_there_may_always_be_another(has_more, limit, echoed):
    found = messages(page(4, total=4, has_more=has_more, limit=echoed), limit=limit)
    assert (found.next.params["offset"], found.full) == ("4", 4)


@pytest.mark.parametrize("echoed", [0, -1, None, "many", True, 0.5])
def test_a_limit_that_cannot_be_one_says_nothing(echoed):
    found = messages(page(4, total=4, has_more=False, limit=echoed))
    assert (found.next, found.full) == (None, 100)


@pytest.mark.parametrize(
    ("reported", "total"),
    [(15, 15), ("15", 15), (15.0, 15), (0, 0)]
    + [(each, None) for each in (None, -1, "-1", "", "many", 1.5, True, [15], "9" * 30)],
)
def test_a_total_is_a_number_or_its_digits(reported, total):
    assert messages(page(4, total=reported)).total == total


@pytest.mark.parametrize(
    ("reported", "has_more"),
    [(True, True), ("true", True), ("True", True), (1, True), ("1", True)]
    + [(False, False), ("false", False), (0, False)]
    + [(each, None) for each in (None, "perhaps", 2, [], {}, "")],
)
def test_whether_there_is_more_comes_in_any_spelling(reported, has_more):
    assert messages(page(4, total=4, has_more=reported)).has_more is has_more


@given(
    st.integers(0, 60),
    st.tuples(st.integers(1, 25), st.integers(1, 25)),
    st.integers(0, 5),
    st.sampled_from(["right", "false", "true", "missing"]),
    st.sampled_from(["right", "few", "many", "missing"]),
)
def test_a_walk_brings_every_row_once_and_in_order_whatever_pages_say(total, sizes, begin, says, counts):
    limit, _ = sizes
    request = LEXICON.list_messages("c", limit=limit, offset=begin, order="desc")
    got, questions = [], 0
    while request is not None:
        assert (request.params["order"], request.params["limit"]) == ("desc", str(limit))
        offset = int(request.params["offset"])
        some = [ROW | {"id": str(each)} for each in range(total)][offset : offset + min(sizes)]
        more = offset + len(some) < total
        reported = {
            "total": {"right": total, "few": len(some), "many": total + 7, "missing": None}[counts],
            "offset": offset,
            "limit": limit,
            "has_more": {"right": more, "false": False, "true": bool(some) or more, "missing": None}[says],
        }
        body = {"messages": some} | {name: value for name, value in reported.items() if value is not None}
        found = LEXICON.read_messages(request, answer(body))
        got += [row.id for row in found.items]
        request = found.next
        questions += 1
    wanted = [str(each) for each in range(begin, total)]
    if (says, counts) in NOTHING_PROMISED:
        assert got == wanted[: len(got)]
    else:
        assert got == wanted
    assert questions <= len(wanted) // min(sizes) + 2


def test_a_page_can_be_asked_for_with_fewer_rows():
    request = LEXICON.list_messages("c", offset=7)
    assert LEXICON.page_limit(request) == 100
    assert LEXICON.halved(request) == LEXICON.list_messages("c", offset=7, limit=50)
    assert smallest_page(LEXICON, request) == LEXICON.list_messages("c", offset=7, limit=1)


# What is left open ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "since"),
    [
        ({}, "2024-01-15T10:31:00Z"),
        ({"last_message_at": "2024-01-15T12:30:35+00:00"}, "2024-01-15T12:30:35+00:00"),
        ({"last_message_at": "2024-01-15T12:30:35+02:00"}, "2024-01-15T10:31:00Z"),
        ({"last_message_at": None}, "2024-01-15T10:31:00Z"),
        ({"updated_at": "yesterday"}, "2024-01-15T10:30:35Z"),
        ({"updated_at": None, "last_message_at": None}, "2024-01-15T10:30:00Z"),
        ({"updated_at": None, "last_message_at": None, "created_at": None}, None),
    ],
)
def test_a_chat_is_final_since_something_happened_in_it(times, since):
    found = chat(CHAT | times)
    assert found.is_final
    assert found.final_since == since


@pytest.mark.parametrize(
    "config", [{}, {"config": None}, {"config": {}}, {"config": {"metadata": None}}, {"config": 7}]
)
def test_a_chat_may_have_no_metadata(config):
    assert chat({"id": "c"} | config).metadata == {}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([*CHAT, *ROW, "message_count", "status"])
objects = st.dictionaries(names | texts, values).map(lambda fields: fields | {"id": "x"})


@given(objects)
def test_whatever_a_row_holds_is_kept(row):
    found = chats({"chats": [row], "has_more": False}).items[0]
    assert json.loads(found.raw) == row
    assert (found.metadata is not None, found.is_final) == (True, True)
    assert json.loads(messages({"messages": [row]}).items[0].raw) == row


@READERS
@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b"\xff", b"OK"])
def test_what_is_no_json_is_told(read, body):
    with pytest.raises(NotJson):
        read(body)


@READERS
@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"OK"',
        b'{"error":"maintenance"}',
        b'{"items":[],"next":null}',
        b'{"chats":{"0":1},"messages":{"0":1},"id":true,"success":"perhaps"}',
        b'{"chats":[{"id":true}],"messages":[{"id":true}],"total":1,"id":null,"success":null}',
        b"[" * 100_000,
    ],
)
def test_what_is_another_shape_is_told(read, body):
    with pytest.raises(DecodeFailed):
        read(body)


# Refusals -------------------------------------------------------------------------------------------------
