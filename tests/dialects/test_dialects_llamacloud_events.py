"""Every event of LlamaCloud's reference is read, and so are events that nobody has seen before."""

import json
import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llamacloud_answers import (
    CALL,
    EACH_EVENT,
    EVENTS,
    ID,
    LEAST,
    LLAMA,
    NEW,
    PAGE,
    READERS,
    RESULT,
    ROLES,
    USAGE,
    any_event,
    full,
    messages,
    raw,
)

from navtalk_async.dialects.llamacloud import (
    ImageAttachment,
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
from navtalk_async.formats._rows import beyond_columns, extra

# Events ---------------------------------------------------------------------------------------------------


def test_every_event_of_the_reference_is_read_field_for_field():
    reported = [event_of(raw(fields)) for fields in EVENTS]
    user, thinking_delta, thinking, call, result, delta, text, stop = reported
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
    assert [each.type for each in reported] == [each["type"] for each in EVENTS]


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
    reported = {"type": read.type, "content": read.content} | beyond
    for name, value in json.loads(read.raw).items():
        assert reported[name] == value or value is None


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


@given(st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.lists(st.integers(0, 9)))
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
