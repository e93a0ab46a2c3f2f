"""LlamaCloud's dialect: every field of its reference, both eras, and events that nobody has seen before."""

import json
import pickle
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.archive.rows import content_hash, is_same_state
from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.answers import read_done, refuse
from navtalk_async.dialects.llamacloud import (
    ImageAttachment,
    JobMetadata,
    LlamaCloud,
    LlamaCloudMessage,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    UnknownEvent,
    Usage,
    UserInput,
    event_of,
    streamed_event,
)
from navtalk_async.dialects.sse import ServerSentEvent
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    Conflict,
    DecodeFailed,
    NotFound,
    NotJson,
    RateLimited,
    ServerError,
    WrongShape,
)
from navtalk_async.formats._format import extra
from navtalk_async.models import Request, Response, beyond_columns
from navtalk_async.times import parse_time

LLAMA = LlamaCloud()
ID = "chat-1"

# Every field that the reference names, with a value that is none of our defaults.
JOB = {
    "duration_ms": 1250.5,
    "error": "The index is away.",
    "export_config_ids": ["export-1"],
    "is_error": True,
    "total_input_tokens": 20,
    "total_output_tokens": 30,
    "turns": 2,
}
OLD = {
    "last_updated_at": "2026-04-22T12:34:41.342245",
    "session_id": ID,
    "generated_title": "Refund terms",
    "index_ids": ["index-1", "index-2"],
    "job_metadata": JOB,
}
NEW = OLD | {"shared_access": "read_only"}
LEAST = {"last_updated_at": "2026-04-22T12:34:41.342245", "session_id": ID}
NULLS = LEAST | {"generated_title": None, "index_ids": None, "job_metadata": None}
CALL = {"arguments": {"query": "refund", "filters": {"year": [2025, None]}}, "call_id": "c1", "name": "find"}
PAGE = {"attachment_name": "page_7.png", "source_id": "source-7"}
RESULT = {"call_id": "c1", "name": "find", "result": [{"text": "Thirty days."}], "image_attachment": PAGE}
USAGE = {"duration_ms": 1250.5, "total_input_tokens": 20, "total_output_tokens": 30, "turns": 2}
STOP = {"error": "It failed.", "is_error": True, "usage": USAGE}
EVENTS = [
    {"type": "user_input", "content": "What do the terms say?"},
    {"type": "thinking_delta", "content": "Look "},
    {"type": "thinking", "content": "Look at the terms."},
    {"type": "tool_call"} | CALL,
    {"type": "tool_result"} | RESULT,
    {"type": "text_delta", "content": "Thirty"},
    {"type": "text", "content": "Thirty days."},
    {"type": "stop", "skipped_index_ids": ["index-2"]} | STOP,
]
ROLES = ["user", "assistant", "assistant", "assistant", "tool", "assistant", "assistant", "assistant"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["type", "content", *CALL, *RESULT, *STOP, "skipped_index_ids", "id"]) | st.text()
types = st.sampled_from([each["type"] for each in EVENTS])
objects = st.dictionaries(names, json_values, max_size=6)
any_event = objects | st.builds(lambda fields, kind: fields | {"type": kind}, objects, types)


def answer(body, status=200, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status=status, headers=headers, body=body)


def sessions(body, status=200, request=None, **headers):
    return LLAMA.read_sessions(request or LLAMA.list_sessions(), answer(body, status, **headers))


def session(body, status=200):
    return LLAMA.read_session(LLAMA.get_session(ID), answer(body, status))


def full(body, status=200):
    return LLAMA.read_full_session(LLAMA.list_messages(ID), answer(body, status))


def messages(body, status=200, session_id=ID):
    return LLAMA.read_messages(LLAMA.list_messages(session_id), answer(body, status))


def deleted(body, status=204):
    return read_done(LLAMA.delete_session(ID), answer(body, status))


def streaming(body, status=200):
    return refuse(LLAMA.stream(ID, "?", index_ids=[]), answer(body, status))


def raw(fields):
    return json.dumps(fields).encode()


READERS = pytest.mark.parametrize("read", [sessions, session, full, messages])
ERAS = pytest.mark.parametrize("row", [OLD, NEW, LEAST, NULLS], ids=["2.7", "2.18", "least", "nulls"])
EACH_EVENT = pytest.mark.parametrize("fields", EVENTS, ids=[each["type"] for each in EVENTS])


# What is asked --------------------------------------------------------------------------------------------


def test_it_is_found_by_its_name_and_says_where_its_key_goes():
    found = dialect_of("llamacloud")
    assert isinstance(found, LlamaCloud)
    assert (found.default_base_url, found.key_variable, found.base_url_variable) == (
        "https://api.cloud.llamaindex.ai",
        "LLAMA_CLOUD_API_KEY",
        "LLAMA_CLOUD_BASE_URL",
    )
    assert (found.key_place.where, found.key_place.name, found.key_place.prefix) == (
        "header",
        "Authorization",
        "Bearer ",
    )


@pytest.mark.parametrize("base", ["https://a.example", "https://a.example/", "https://a.example/api/v1/"])
def test_the_base_url_may_have_the_beginning_of_every_path(base):
    assert LLAMA.root(base) == "https://a.example"


def test_every_question_is_as_the_reference_has_it():
    path = "/api/v1/chat"
    assert LLAMA.list_sessions() == Request(path=path, params={"page_size": "100"})
    assert LLAMA.get_session(ID) == Request(path=f"{path}/{ID}/summary")
    assert LLAMA.list_messages(ID) == Request(path=f"{path}/{ID}")
    assert LLAMA.create_session() == Request(path=path, method="POST", body=b"{}")
    assert LLAMA.create_session(index_ids=["a"], shared_access="query") == Request(
        path=path, method="POST", body=b'{"index_ids":["a"],"shared_access":"query"}'
    )
    assert LLAMA.create_session(index_ids=[]).body == b'{"index_ids":[]}'
    assert LLAMA.delete_session(ID) == Request(path=f"{path}/{ID}", method="DELETE")
    assert LLAMA.generate_title(ID, "Hi") == Request(
        path=f"{path}/{ID}/title", method="POST", body=b'{"first_message":"Hi"}'
    )
    assert LLAMA.stream(ID, "Hi", index_ids=("a", "b"), require_all_indexes=False) == Request(
        path=f"{path}/{ID}/messages/stream",
        method="POST",
        body=b'{"prompt":"Hi","index_ids":["a","b"],"require_all_indexes":false}',
    )
    assert LLAMA.stream(ID, "Hi", index_ids=[]).body == b'{"prompt":"Hi","index_ids":[]}'


ASKED = [
    lambda dialect: dialect.list_sessions(),
    lambda dialect: dialect.get_session(ID),
    lambda dialect: dialect.list_messages(ID),
    lambda dialect: dialect.create_session(),
    lambda dialect: dialect.delete_session(ID),
    lambda dialect: dialect.generate_title(ID, "Hi"),
    lambda dialect: dialect.stream(ID, "Hi", index_ids=[]),
]


@pytest.mark.parametrize("ask", ASKED)
def test_every_question_says_whose_sessions_are_meant(ask):
    ours = LlamaCloud(project_id="p", organization_id="o")
    assert not {"project_id", "organization_id"} & ask(LLAMA).params.keys()
    assert ask(ours).params.items() >= {"project_id": "p", "organization_id": "o"}.items()
    with pytest.raises(ValueError, match="'' cannot be the id of any project"):
        ask(LlamaCloud(project_id=""))


@given(st.text(min_size=1))
def test_no_id_leads_to_another_place(session_id):
    try:
        checked = LLAMA.checked_id(session_id)
    except ValueError:
        return
    for request in (LLAMA.list_messages(checked), LLAMA.get_session(checked)):
        assert request.path.count("/") == 4 + request.path.endswith("/summary")
        assert not {"?", "#", "\\"} & set(request.path)


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 1.5])
def test_a_page_size_out_of_range_is_refused_before_it_is_sent(limit):
    with pytest.raises(ValueError, match=r"page_size=.* from 1 to 1000"):
        LLAMA.list_sessions(limit=limit)


@pytest.mark.parametrize("prompt", ["x", "x" * 1000, "\U0001f600" * 1000])
def test_a_prompt_may_have_a_thousand_characters(prompt):
    assert json.loads(LLAMA.stream(ID, prompt, index_ids=["i"] * 10).body)["prompt"] == prompt


@pytest.mark.parametrize(
    ("prompt", "index_ids", "words"),
    [
        ("", [], "prompt='' is blank"),
        (" \n", [], "prompt=.* is blank"),
        (None, [], "prompt=None is blank or no text"),
        ("x\ud800", [], "prompt=.* half of a surrogate pair"),
        ("x" * 1001, [], "1,001 characters"),
        ("x", ["i"] * 11, "11 indexes"),
        ("x", "index-1", "no list of ids"),
        ("x", None, "no list of ids"),
        ("x", 5, "no list of ids"),
        ("x", {"a": 1}, "no list of ids"),
        ("x", [None], "id of any index"),
        ("x", [""], "cannot be the id of any index"),
    ],
)
def test_what_the_api_would_refuse_is_never_asked(prompt, index_ids, words):
    with pytest.raises(ValueError, match=words):
        LLAMA.stream(ID, prompt, index_ids=index_ids)


@pytest.mark.parametrize("bad", [None, "", " ", 5, ["x"], b"x", "x\ud800"])
def test_what_says_nothing_is_never_sent(bad):
    with pytest.raises(ValueError, match="first_message"):
        LLAMA.generate_title(ID, bad)
    if bad is not None:
        with pytest.raises(ValueError, match="shared_access"):
            LLAMA.create_session(shared_access=bad)
        with pytest.raises(ValueError, match="page_token"):
            LLAMA.list_sessions(page_token=bad)
        with pytest.raises(ValueError, match="require_all_indexes"):
            LLAMA.stream(ID, "x", index_ids=["i"], require_all_indexes=bad)
        with pytest.raises(ValueError, match=r"index"):
            LLAMA.create_session(index_ids=[bad] if isinstance(bad, list) else bad)


def test_a_smaller_page_has_half_the_rows_and_is_of_the_same_list():
    ours = LlamaCloud(project_id="p")
    request = ours.list_sessions(limit=5, page_token="t")
    assert LLAMA.page_limit(request) == 5
    smaller = LLAMA.halved(request)
    assert smaller == ours.list_sessions(limit=2, page_token="t")
    assert LLAMA.halved(LLAMA.list_sessions(limit=1)) is None
    assert LLAMA.halved(LLAMA.list_messages(ID)) is None


# Sessions -------------------------------------------------------------------------------------------------


def test_every_field_of_a_session_is_read():
    read = session(NEW)
    assert (read.id, read.title, read.updated_at_text) == (ID, "Refund terms", NEW["last_updated_at"])
    assert (read.index_ids, read.shared_access) == (["index-1", "index-2"], "read_only")
    assert read.job_metadata == JobMetadata(**JOB)
    assert (read.status, read.start_time, read.end_time, read.video_url) == (None, None, None, None)
    assert read.extra == {}


@ERAS
def test_a_session_of_either_era_comes_back_as_it_was(row):
    read = session(row)
    assert json.loads(read.raw) == row
    assert read.shared_access == row.get("shared_access")
    assert LLAMA.session_of(read.raw) == read == sessions({"items": [row]}).items[0]
    assert pickle.loads(pickle.dumps(read)) == read


@ERAS
def test_a_session_is_final_since_it_was_last_changed(row):
    read = session(row)
    assert read.is_final
    assert parse_time(read.final_since) == datetime(2026, 4, 22, 12, 34, 41, 342245, tzinfo=UTC)


@ERAS
def test_the_same_state_has_the_same_hash_however_it_was_asked_for(row):
    alone = content_hash(full(row | {"events": EVENTS}))
    assert is_same_state(content_hash(session(row)), alone, is_listed=False)


def test_what_a_session_has_that_nobody_knows_is_kept():
    read = session(NEW | {"colour": "red", "job_metadata": JOB | {"cost": 7}})
    assert read.extra == {"colour": "red"}
    assert json.loads(read.raw)["job_metadata"]["cost"] == 7
    assert read.job_metadata == JobMetadata(**JOB)


def test_a_session_with_a_field_of_another_shape_is_read_without_it():
    read = session(NEW | {"index_ids": "index-1", "job_metadata": {"turns": "two"}})
    assert (read.index_ids, read.job_metadata, read.title) == (None, None, "Refund terms")
    assert read.extra == {"index_ids": "index-1", "job_metadata": {"turns": "two"}}


def test_a_page_leads_to_the_next_with_all_its_filters():
    ours = LlamaCloud(project_id="p")
    request = ours.list_sessions(limit=2)
    page = sessions({"items": [NEW, OLD], "next_page_token": "t2"}, request=request)
    assert [each.shared_access for each in page.items] == ["read_only", None]
    assert page.next == ours.list_sessions(limit=2, page_token="t2")


@pytest.mark.parametrize("end", [{}, {"next_page_token": None}, {"next_page_token": ""}])
def test_a_list_ends_without_a_token_whatever_it_has(end):
    assert sessions({"items": [NEW]} | end).next is None
    assert sessions({"items": []} | end).items == []


# Events ---------------------------------------------------------------------------------------------------


def test_every_event_of_the_reference_is_read_field_for_field():
    told = [event_of(raw(fields)) for fields in EVENTS]
    user, thinking_delta, thinking, call, result, delta, text, stop = told
    assert isinstance(user, UserInput)
    assert isinstance(thinking_delta, ThinkingDelta)
    assert isinstance(thinking, Thinking)
    assert isinstance(delta, TextDelta)
    assert isinstance(text, Text)
    spoken = (user, thinking_delta, thinking, delta, text)
    assert [each.content for each in spoken] == [each["content"] for each in EVENTS if "content" in each]
    assert isinstance(call, ToolCall)
    assert (call.arguments, call.call_id, call.name) == (CALL["arguments"], "c1", "find")
    assert isinstance(result, ToolResult)
    assert (result.call_id, result.name, result.result) == ("c1", "find", RESULT["result"])
    assert result.image_attachment == ImageAttachment(**PAGE)
    assert isinstance(stop, Stop)
    assert (stop.error, stop.is_error, stop.skipped_index_ids) == ("It failed.", True, ["index-2"])
    assert stop.usage == Usage(**USAGE)
    assert [each.type for each in told] == [each["type"] for each in EVENTS]


@EACH_EVENT
def test_an_event_of_ours_is_written_as_the_reference_has_it(fields):
    read = event_of(raw(fields))
    values = msgspec.structs.asdict(read)
    del values["kept"]
    ours = type(read)(**values)
    assert json.loads(ours.raw) == fields
    assert json.loads(msgspec.json.encode(event_of(ours.raw))).items() >= fields.items()


@EACH_EVENT
def test_an_event_without_a_type_is_told_by_its_fields_where_they_tell(fields):
    untold = {name: value for name, value in fields.items() if name != "type"}
    for kept in (raw(untold), raw(untold | {"type": None})):
        read = event_of(kept)
        assert read.raw == kept
        if "content" in fields:
            assert read == UnknownEvent(type=None, raw=kept)
        else:
            assert type(read) is type(event_of(raw(fields)))
            assert read.type == fields["type"]


@EACH_EVENT
def test_an_event_keeps_the_fields_that_nobody_knows(fields):
    kept = raw(fields | {"citations": [1]})
    read = event_of(kept)
    assert type(read) is type(event_of(raw(fields)))
    assert read.raw == kept
    assert pickle.loads(pickle.dumps(read)) == read


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"type": "citation", "content": "x"}, "citation"),
        ({"type": "text"}, "text"),
        ({"type": "text", "content": None}, "text"),
        ({"type": "stop", "is_error": "no"}, "stop"),
        ({"type": 7, "content": "x"}, None),
        ({"call_id": "c1", "name": "n", "arguments": {}, "result": 1}, None),
        ({"call_id": 7, "name": "n", "arguments": {}}, None),
        ({}, None),
    ],
)
def test_an_event_that_is_not_in_the_reference_is_kept_as_unknown(fields, kind):
    assert event_of(raw(fields)) == UnknownEvent(type=kind, raw=raw(fields))


@given(any_event)
def test_any_object_is_an_event_and_exactly_one_message(fields):
    page = messages({"events": [fields, EVENTS[0]]})
    read, other = page.items
    (event, _) = full(LEAST | {"events": [fields, EVENTS[0]]}).events
    assert json.loads(read.raw) == json.loads(event.raw) == json.loads(raw(fields))
    assert (read.id, other.id, page.next) == (f"{ID}:0", f"{ID}:1", None)
    assert read.type == event.type
    assert LLAMA.message_of(read.raw, ID, 0) == read
    content = fields.get("content")
    assert not isinstance(content, str) or read.content == content
    beyond = beyond_columns(LlamaCloudMessage, json.loads(read.raw))
    told = {"type": read.type, "content": read.content} | beyond
    for name, value in json.loads(read.raw).items():
        assert told[name] == value or value is None


# Messages -------------------------------------------------------------------------------------------------


def test_every_event_is_a_message_in_its_place():
    page = messages(NEW | {"events": EVENTS})
    assert [each.id for each in page.items] == [f"{ID}:{at}" for at in range(8)]
    assert [each.type for each in page.items] == [each["type"] for each in EVENTS]
    assert [each.role for each in page.items] == ROLES
    assert [json.loads(each.raw) for each in page.items] == EVENTS
    assert {each.created_at for each in page.items} == {None}
    assert page.next is None


def test_what_has_no_text_of_its_own_is_readable_all_the_same():
    read = [each.content for each in messages({"events": EVENTS}).items]
    assert json.loads(read[3]) == CALL["arguments"]
    assert json.loads(read[4]) == RESULT["result"]
    assert read[7] == "It failed."
    in_words = {"type": "tool_result"} | RESULT | {"result": "no match"}
    assert LLAMA.message_of(raw(in_words), ID, 0).content == "no match"
    assert LLAMA.message_of(raw(EVENTS[7] | {"error": None}), ID, 0).content is None


def test_a_message_has_beside_its_columns_what_its_event_has():
    beyond = [beyond_columns(LlamaCloudMessage, json.loads(raw(fields))) for fields in EVENTS]
    spoken = [{} if "content" in fields else dict(fields) for fields in EVENTS]
    for fields in spoken:
        fields.pop("type", None)
    assert beyond == spoken == [each.extra for each in messages({"events": EVENTS}).items]
    assert beyond[3] == CALL


@given(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.lists(st.integers(0, 9)))
def test_what_is_no_object_among_the_events_costs_none_of_the_others(odd):
    odd = json.loads(raw(odd))
    first, read, last = messages({"events": [EVENTS[0], odd, EVENTS[6]]}).items
    assert (first.id, last.id, last.content) == (f"{ID}:0", f"{ID}:2", EVENTS[6].get("content"))
    assert (read.type, read.role, read.content, read.extra) == (None, None, None, {"value": odd})
    assert json.loads(read.raw) == odd
    assert LLAMA.message_of(read.raw, ID, 1) == read
    assert extra(read.raw.decode(), LlamaCloudMessage) == {"extra": {"value": odd}}
    assert full(LEAST | {"events": [odd]}).events == [UnknownEvent(type=None, raw=read.raw)]


def test_a_session_whose_id_is_a_number_has_its_text():
    read = LLAMA.session_of(raw(NEW | {"session_id": 17}))
    assert (read.id, json.loads(read.raw)) == ("17", NEW | {"session_id": 17})


def test_an_id_that_an_event_may_once_have_is_no_id_of_ours():
    read = LLAMA.message_of(raw(EVENTS[0] | {"id": "event-1"}), ID, 3)
    assert (read.id, read.extra) == (f"{ID}:3", {"id": "event-1"})


def test_the_bytes_of_an_event_are_kept_as_they_came():
    body = b'{"events":[ {"type" : "text",\n "content":"\\u00fc", "n": 1.50} ]}'
    (read,) = messages(body).items
    assert read.raw == b'{"type" : "text",\n "content":"\\u00fc", "n": 1.50}'
    assert read.content == "ü"


@pytest.mark.parametrize("session_id", ["a/b", "a b", "ü", "a:1", "100%", "?q=1#x"])
def test_a_message_is_of_the_session_that_was_asked_for_whatever_its_id(session_id):
    (read,) = messages({"events": EVENTS[:1]}, session_id=session_id).items
    assert read == LLAMA.message_of(raw(EVENTS[0]), session_id, 0)
    assert read.id == f"{session_id}:0"


@READERS
def test_half_a_character_does_not_cost_the_others(read):
    half = b'{"type":"text","content":"\\ud83d cut"}'
    item = b'"session_id":"s","generated_title":"\\ud83d"'
    body = b'{"items":[{' + item + b"}]," + item + b',"events":[' + half + b"]}"
    assert read(body)
    assert messages(b'{"events":[' + half + b"]}").items[0].content == "\ufffd cut"


# Streams --------------------------------------------------------------------------------------------------


@EACH_EVENT
def test_a_streamed_event_is_the_same_whatever_the_stream_calls_it(fields):
    for name in ("delta", "message", "other"):
        assert streamed_event(ServerSentEvent(name, raw(fields))) == event_of(raw(fields))


@pytest.mark.parametrize("data", [b"[DONE]", b"", b"[]", b"7", b"{", b"<html>"])
def test_streamed_data_that_is_no_object_is_an_unknown_event(data):
    assert streamed_event(ServerSentEvent("message", data)) == UnknownEvent(type=None, raw=data)


def test_an_event_that_only_the_stream_names_has_that_name():
    assert streamed_event(ServerSentEvent("error", b"{}")) == UnknownEvent(type="error", raw=b"{}")
    assert streamed_event(ServerSentEvent("error", b"no")) == UnknownEvent(type="error", raw=b"no")
    assert streamed_event(ServerSentEvent("error", b'{"type":"new"}')).type == "new"


def test_half_a_character_does_not_cost_a_streamed_event():
    read = streamed_event(ServerSentEvent("delta", b'{"type":"text_delta","content":"\\ud83d"}'))
    assert isinstance(read, TextDelta)
    assert read.content == "\ufffd"


# Refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, AccessDenied),
        (403, AccessDenied),
        (404, NotFound),
        (409, Conflict),
        (422, BadRequest),
        (429, RateLimited),
        (500, ServerError),
        (503, ServerError),
    ],
)
@pytest.mark.parametrize("read", [sessions, session, full, messages, deleted, streaming])
def test_a_refusal_is_an_error_that_says_what_the_server_said(read, status, kind):
    with pytest.raises(kind, match="Not just now") as refused:
        read({"detail": "Not just now."}, status)
    assert refused.value.status == status
    assert refused.value.details == {"detail": "Not just now."}


@pytest.mark.parametrize("body", [b"", b"no", b"[]", b"null", b"<html>", b'{"detail":null}', b"\xff"])
def test_a_refusal_may_say_anything(body):
    with pytest.raises(NotFound, match="404: no reason given"):
        session(body, 404)


def test_a_refusal_tells_what_is_wrong_and_where():
    flaws = [
        {"loc": ["body", "prompt"], "msg": "Too long", "type": "string_too_long"},
        {"msg": "Bad"},
        {"loc": ["query"]},
        7,
    ]
    with pytest.raises(
        BadRequest, match=r"422: body\.prompt: Too long; Bad; \{'loc': \['query'\]\}; 7\."
    ) as refused:
        session({"detail": flaws}, 422)
    assert refused.value.details == {"detail": flaws}


@pytest.mark.parametrize("read", [sessions, session, full, messages, deleted, streaming])
def test_a_refusal_of_another_form_loses_nothing(read):
    body = {"error": "Busy", "message": "Not just now.", "retry_after": 7, "trace": "t1"}
    with pytest.raises(RateLimited, match="Not just now") as caught:
        read(body, 429)
    assert (caught.value.retry_after, caught.value.details) == (7.0, body)


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"OK", b"{"])
def test_a_page_of_a_proxy_is_no_deletion(body):
    with pytest.raises(NotJson):
        deleted(body)


def test_a_wait_that_a_header_asks_for_is_told():
    with pytest.raises(RateLimited) as refused:
        sessions({"detail": "Slowly."}, 429, **{"Retry-After": "7"})
    assert refused.value.retry_after == 7


@pytest.mark.parametrize(("status", "body"), [(204, b""), (200, b""), (200, b'{"ok":true}'), (202, b"null")])
def test_any_success_is_a_deletion(status, body):
    assert deleted(body, status) is None


@READERS
@pytest.mark.parametrize("body", [b"", b"no", b"<html></html>", b'{"items":[', b"\xff\xfe"])
def test_what_is_no_json_is_told(read, body):
    with pytest.raises(NotJson):
        read(body)


@READERS
@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b'"ok"',
        b"7",
        b'{"detail":"Not Found"}',
        b'{"items":{"0":1},"next_page_token":7,"events":"none"}',
        b'{"items":[{"session_id":""}],"session_id":"","events":7}',
        b'{"items":[{"session_id":null}],"session_id":null,"events":{}}',
        b'{"items":' + b"[" * 100_000 + b"]" * 100_000 + b',"session_id":7,"events":null}',
    ],
)
def test_json_of_another_shape_is_told(read, body):
    with pytest.raises(WrongShape):
        read(body)


@READERS
@given(body=st.binary() | json_values.map(raw))
def test_whatever_comes_is_a_value_or_an_error_of_ours(read, body):
    with suppress(DecodeFailed):
        assert read(body) is not None


def test_a_full_session_as_a_dict_has_its_events_as_the_api_wrote_them():
    read = full(NEW | {"events": EVENTS})
    fields = read.to_dict()
    assert (fields["title"], fields["usage"]["turns"], fields["events"]) == (
        "Refund terms",
        JOB["turns"],
        EVENTS,
    )
    assert json.loads(json.dumps(fields)) == fields
    assert read.to_dict(by_alias=True) == NEW | {"events": EVENTS}
