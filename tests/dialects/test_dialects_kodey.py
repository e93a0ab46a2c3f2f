"""Kodey.ai's dialect asks as the reference says, understands what it shows, and gets by with the rest."""

import json
from datetime import UTC, datetime
from unicodedata import category
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.answers import read_done, reader
from navtalk_async.dialects.kodey import Kodey, KodeyChat, KodeyMessage
from navtalk_async.errors import (
    AccessDenied,
    DecodeFailed,
    NotJson,
    Redirected,
    WrongShape,
)
from navtalk_async.models import KeyPlace, Response, Role

KODEY = Kodey()
HALF_PAST_TEN = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)

texts = st.text('ab/.%?#\\"\x00\n é😀\u2028', max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    ["agentId", "userId", "teamId", "metadata", "messages", "createdAt", "content", "role"]
)
objects = st.dictionaries(names | texts, values).map(lambda fields: fields | {"id": "x"})

# The reference's own answers.
CREATED = b"""{
"id": "string",
"agentId": "string",
"teamId": "string",
"createdAt": "2024-01-15T10:30:00Z"
}"""
LISTED = b"""{
"chats": [
{
"id": "string",
"agentId": "string",
"userId": "string",
"createdAt": "2024-01-15T10:30:00Z"
}
]
}"""
CHAT = b"""{
"id": "string",
"agentId": "string",
"teamId": "string",
"messages": [],
"createdAt": "2024-01-15T10:30:00Z"
}"""
REPLY = b"""{
"id": "string",
"chatId": "string",
"content": "string",
"role": "assistant",
"createdAt": "2024-01-15T10:30:00Z"
}"""
SAID = b"""{
"messages": [
{
"id": "string",
"content": "string",
"role": "user | assistant",
"createdAt": "2024-01-15T10:30:00Z"
}
]
}"""
TOO_MANY = b"""{
"error": "Too Many Requests",
"message": "Rate limit exceeded. Try again in 60 seconds.",
"retryAfter": 60
}"""


def answer(body, status=200, headers=()):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=dict(headers), body=body)


def chats(body, status=200, headers=()):
    return KODEY.read_sessions(KODEY.list_sessions(), answer(body, status, headers))


def chat(body, status=200, headers=()):
    return reader(KodeyChat)(KODEY.get_session("c"), answer(body, status, headers))


def messages(body, status=200, headers=()):
    return KODEY.read_messages(KODEY.list_messages("c"), answer(body, status, headers))


def reply(body, status=200, headers=()):
    return reader(KodeyMessage)(KODEY.create_message("c", "Hi"), answer(body, status, headers))


def gone(body, status=200, headers=()):
    return read_done(KODEY.delete_chat("c"), answer(body, status, headers))


READERS = pytest.mark.parametrize("read", [chats, chat, messages, reply, gone])


# What the reference shows ---------------------------------------------------------------------------------


def test_a_listed_chat_is_read_field_for_field():
    page = chats(LISTED)
    (first,) = page.items
    assert type(first) is KodeyChat
    assert (first.id, first.agent_id, first.user_id) == ("string", "string", "string")
    assert first.created_at == first.start_time == HALF_PAST_TEN
    assert (first.team_id, first.metadata, first.messages, first.extra) == (None, None, [], {})
    assert (first.status, first.end_time, first.title, first.video_url) == (None, None, None, None)
    assert (page.next, page.total) == (None, None)


@pytest.mark.parametrize("body", [CREATED, CHAT])
def test_a_chat_of_its_own_is_read_field_for_field(body):
    found = chat(body)
    assert type(found) is KodeyChat
    assert (found.id, found.agent_id, found.team_id) == ("string", "string", "string")
    assert (found.created_at, found.user_id, found.messages) == (HALF_PAST_TEN, None, [])


def test_messages_are_read_field_for_field():
    page = messages(SAID)
    (said,) = page.items
    assert type(said) is KodeyMessage
    assert (said.id, said.content, said.role) == ("string", "string", "user | assistant")
    assert (said.created_at, said.chat_id, said.type, said.extra) == (HALF_PAST_TEN, None, None, {})
    assert (page.next, page.total) == (None, None)


def test_a_reply_is_read_field_for_field():
    said = reply(REPLY)
    assert (said.id, said.chat_id, said.content, said.role) == ("string", "string", "string", "assistant")
    assert said.created_at == HALF_PAST_TEN


@pytest.mark.parametrize("body", [CREATED, CHAT])
def test_a_documented_chat_is_written_again_without_loss(body):
    assert json.loads(chat(body).raw) == json.loads(body)
    assert KODEY.session_of(chat(body).raw) == chat(body)


def test_documented_rows_are_written_again_without_loss():
    assert [json.loads(row.raw) for row in chats(LISTED).items] == json.loads(LISTED)["chats"]
    assert [json.loads(row.raw) for row in messages(SAID).items] == json.loads(SAID)["messages"]
    assert json.loads(reply(REPLY).raw) == json.loads(REPLY)
    assert KODEY.message_of(reply(REPLY).raw, "c", 0) == reply(REPLY)


@pytest.mark.parametrize("body", [b"", b"\n", b"{}"])
@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_chat_that_is_deleted_needs_no_words(body, status):
    assert gone(body, status) is None


def test_the_questions_are_the_documented_ones():
    listing = KODEY.list_sessions(user_id="ann", agent_type="sales")
    assert (listing.method, listing.path) == ("GET", "/chat")
    assert listing.params == {"userId": "ann", "agentType": "sales"}
    assert KODEY.list_sessions().params == {}
    assert (KODEY.get_session("c1").method, KODEY.get_session("c1").path) == ("GET", "/chat/c1")
    assert (KODEY.list_messages("c1").path, KODEY.list_messages("c1").params) == ("/chat/c1/message", {})
    assert (KODEY.delete_chat("c1").method, KODEY.delete_chat("c1").path) == ("DELETE", "/chat/c1")


@pytest.mark.parametrize(
    ("given_more", "body"),
    [
        ({}, {"agentId": "a"}),
        ({"user_id": "ann"}, {"agentId": "a", "userId": "ann"}),
        ({"metadata": {}}, {"agentId": "a", "metadata": {}}),
        (
            {"user_id": "ann", "metadata": {"é": [1, None]}},
            {"agentId": "a", "userId": "ann", "metadata": {"é": [1, None]}},
        ),
    ],
)
def test_a_new_chat_is_wished_for_as_documented(given_more, body):
    wish = KODEY.create_chat("a", **given_more)
    assert (wish.method, wish.path, json.loads(wish.body)) == ("POST", "/chat", body)
    assert not wish.repeatable


@pytest.mark.parametrize("role", ["user", Role.USER])
def test_a_message_is_sent_as_documented(role):
    wish = KODEY.create_message("c1", " Hi\n", role)
    assert (wish.method, wish.path) == ("POST", "/chat/c1/message")
    assert json.loads(wish.body) == {"content": " Hi\n", "role": "user"}


def test_the_key_goes_into_a_header():
    assert KODEY.key_place == KeyPlace("header", "x-api-key")
    assert (KODEY.key_variable, KODEY.base_url_variable) == ("KODEY_API_KEY", "KODEY_BASE_URL")


@pytest.mark.parametrize("end", ["", "/", "//", "\n"])
def test_the_base_url_may_end_in_a_slash_or_not(end):
    assert KODEY.root(KODEY.default_base_url + end) == "https://pooled.api.kodey.ai"


def test_the_dialect_is_found_by_its_name():
    assert type(dialect_of("kodey")) is Kodey


def test_there_are_no_pages_to_size_or_to_begin_at():
    for request in (KODEY.list_sessions(), KODEY.list_messages("c")):
        assert KODEY.page_limit(request) == 0
        assert KODEY.halved(request) is None
        assert KODEY.starting_at(request, HALF_PAST_TEN) is None


# What cannot be right -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", " ", ".", "..", "a\nb", None, 7, b"a"])
def test_what_is_no_id_is_refused(bad):
    with pytest.raises(ValueError, match="cannot be the id of any chat"):
        KODEY.checked_id(bad)
    with pytest.raises(ValueError, match="cannot be the id of any agent"):
        KODEY.create_chat(bad)


@pytest.mark.parametrize("bad", [{"user_id": ""}, {"user_id": 7}, {"agent_type": ""}, {"agent_type": 7}])
def test_filters_that_say_nothing_are_refused(bad):
    with pytest.raises(ValueError, match=r"user|agent_type"):
        KODEY.list_sessions(**bad)


@pytest.mark.parametrize("name", ["status", "limit", "start_time"])
def test_filters_that_the_api_has_not_are_refused_by_name(name):
    with pytest.raises(TypeError, match=rf"{name}.*user_id and agent_type"):
        KODEY.list_sessions(**{name: 1})
    with pytest.raises(TypeError, match=name):
        KODEY.list_messages("c", **{name: 1})


@pytest.mark.parametrize("content", ["", " \n", None, 7])
def test_a_message_that_says_nothing_is_refused(content):
    with pytest.raises(ValueError, match="content"):
        KODEY.create_message("c", content)


def test_a_role_may_be_a_word_a_member_or_a_number():
    bodies = {KODEY.create_message("c", "Hi", role).body for role in ("assistant", Role.ASSISTANT, 1)}
    assert bodies == {b'{"content":"Hi","role":"assistant"}'}


@pytest.mark.parametrize("role", ["system", "", "USER", None, 7, True, Role(7)])
def test_a_role_that_there_is_not_is_refused(role):
    with pytest.raises(ValueError, match="'user' nor 'assistant'"):
        KODEY.create_message("c", "Hi", role)


@pytest.mark.parametrize(
    "metadata",
    [
        *(
            [],
            "x",
            7,
            {"a": object()},
            {"a": "\ud83d"},
            {"a": float("nan")},
            {"a": float("-inf")},
            {"a": b"x"},
        ),
        *({"a": {1}}, {1: 2}, {"a": [{None: 1}]}, {"a": ({"b": {(1,): 2}},)}, {True: 1}),
    ],
)
def test_metadata_that_is_no_object_of_json_is_refused(metadata):
    with pytest.raises(ValueError, match=r"metadata|JSON"):
        KODEY.create_chat("a", metadata=metadata)


@given(objects)
def test_metadata_is_sent_as_it_is_given(metadata):
    assert json.loads(KODEY.create_chat("a", metadata=metadata).body)["metadata"] == metadata


@pytest.mark.parametrize(
    "name", ["👩\u200d👩\u200d👧", "山田\u3000太郎", "a\u00a0b", "soft\u00adhyphen", "\u2028x", "\ue000"]
)
def test_an_id_may_hold_whatever_can_be_written(name):
    assert KODEY.checked_id(name) == name
    assert unquote(KODEY.get_session(name).path) == f"/chat/{name}"


@given(st.text(st.characters(), min_size=1))
def test_only_control_characters_and_halves_of_characters_are_in_no_id(name):
    is_one = name.strip() and name not in {".", ".."} and not {"Cc", "Cs"} & set(map(category, name))
    try:
        assert KODEY.checked_id(name) == name
    except ValueError:
        assert not is_one
    else:
        assert is_one


@given(texts.filter(lambda text: text not in {"", ".", ".."}))
def test_no_id_of_the_api_leads_anywhere_else(text):
    for request in (KODEY.get_session(text), KODEY.list_messages(text), KODEY.delete_chat(text)):
        assert request.path.startswith("/chat/")
        assert request.path.count("/") == 2 + request.path.endswith("/message")
        assert "?" not in request.path


# What is left open ----------------------------------------------------------------------------------------

ROW = json.loads(REPLY)


@pytest.mark.parametrize("held", [{}, {"messages": []}, {"messages": None}])
def test_a_chat_may_hold_no_messages(held):
    assert chat({"id": "c", **held}).messages == []


def test_a_chat_may_hold_its_messages():
    rows = [ROW | {"id": "1", "likes": 3}, ROW | {"id": "2"}]
    found = chat({"id": "c", "messages": rows}).messages
    assert [type(said) for said in found] == [KodeyMessage, KodeyMessage]
    assert [json.loads(said.raw) for said in found] == rows
    assert found[0].extra == {"likes": 3}


@pytest.mark.parametrize("held", ["five", 5, {"0": ROW}, [5], [{"content": "no id"}]])
def test_a_chat_that_holds_other_things_as_messages_is_read_and_keeps_them(held):
    found = chat({"id": "c", "messages": held})
    assert json.loads(found.raw)["messages"] == held
    with pytest.raises(WrongShape):
        _ = found.messages


@pytest.mark.parametrize("user", [{}, {"userId": None}])
def test_a_chat_may_have_no_user(user):
    assert chats({"chats": [{"id": "c", "agentId": "a", **user}]}).items[0].user_id is None


def test_metadata_that_is_told_is_given():
    assert chat({"id": "c", "metadata": {"a": [1]}}).metadata == {"a": [1]}


def test_a_chat_is_never_final():
    assert not chat(CHAT).is_final
    assert chat(CHAT).final_since is None


@given(objects)
def test_whatever_a_row_holds_is_kept(row):
    assert json.loads(chats({"chats": [row]}).items[0].raw) == row
    assert json.loads(messages({"messages": [row]}).items[0].raw) == row


@pytest.mark.parametrize("number", [0, 17, -1, 2**70])
def test_an_id_that_is_a_whole_number_is_its_text(number):
    for row in (
        chats({"chats": [{"id": number}]}).items[0],
        messages({"messages": [{"id": number}]}).items[0],
    ):
        assert (row.id, json.loads(row.raw), row.extra) == (str(number), {"id": number}, {})


@given(objects)
def test_a_value_is_an_attribute_or_extra_and_never_lost(row):
    found = chats({"chats": [row]}).items[0]
    reported = {
        field.encode_name: getattr(found, field.name)
        for field in msgspec.structs.fields(KodeyChat)
        if getattr(found, field.name) is not None
    }
    assert {**reported, **found.extra}.items() >= {k: v for k, v in row.items() if v is not None}.items()


@READERS
@pytest.mark.parametrize("body", [b"<html>", b"{", b"\xff", b"OK"])
def test_what_is_no_json_is_told(read, body):
    with pytest.raises(NotJson):
        read(body)


@pytest.mark.parametrize("read", [chats, chat, messages, reply])
def test_an_answer_without_a_body_is_no_json(read):
    with pytest.raises(NotJson):
        read(b"")


@pytest.mark.parametrize("read", [chats, chat, messages, reply])
@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"OK"',
        b'{"error":"maintenance"}',
        b'{"items":[]}',
        b'{"chats":{"0":1},"messages":{"0":1},"id":true}',
        b'{"chats":[{"id":true}],"messages":[{"id":[7],"createdAt":null}],"id":null}',
        b'{"chats":[null],"messages":[[]],"id":""}',
        b"[" * 100_000,
    ],
)
def test_what_is_another_shape_is_told(read, body):
    with pytest.raises(DecodeFailed):
        read(body)


# Refusals -------------------------------------------------------------------------------------------------


@READERS
def test_a_403_tells_what_the_key_may_do(read):
    upgrade = {"allowedEndpoints": ["GET /chat"], "upgradeInstructions": "Use a secret key."}
    body = {"error": "Forbidden", "message": "Not with this key"} | upgrade
    with pytest.raises(AccessDenied, match="Not with this key") as caught:
        read(body, 403)
    assert caught.value.allowed_endpoints == ["GET /chat"]
    assert caught.value.upgrade_instructions == "Use a secret key."
    assert caught.value.details == body


def test_a_redirect_is_an_error():
    with pytest.raises(Redirected, match=r"elsewhere\.example"):
        chats(b"", 302, {"Location": "https://elsewhere.example/chat?x=1"})
