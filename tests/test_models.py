"""What travels is frozen, can be written down and read back, and loses nothing the API said."""

import copy
import json
import pickle
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.dialects import dialects
from navtalk_async.dialects.answers import decode_lenient
from navtalk_async.dialects.kodey import Kodey
from navtalk_async.dialects.llamacloud import event_of
from navtalk_async.dialects.navtalk import NavTalkMessage, NavTalkSession
from navtalk_async.errors import NotFound
from navtalk_async.models import (
    MessageType,
    Page,
    Request,
    Role,
    Session,
    SessionStatus,
    Transcript,
    format_word,
)
from navtalk_async.times import parse_utc

ENUMS = [SessionStatus, Role, MessageType]

SESSION = {
    "id": "709b712f-dede-11f0-92bc-000e1eed4a72",
    "status": 1,
    "startTime": "2025-11-12 18:20:38",
    "endTime": "2025-11-12 18:20:50",
    "videoUrl": None,
}
MESSAGE = {
    "id": "70c27233-dede-11f0-92bc-000e1eed4a72",
    "role": 0,
    "messageType": 0,
    "content": "zaiganma",
    "createdAt": "2025-11-12 18:20:43",
}

# No halves of surrogate pairs: those are replaced before a row is read.
texts = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
odd_names = texts | st.sampled_from(
    ["·kept", "·title", "kept", "raw", "title", "start_time_text", "sessionId"]
)


def rows(sample):
    """Objects like *sample*: fields missing, of another type, null, and others there."""
    changed = st.dictionaries(st.sampled_from([name for name in sample if name != "id"]), json_values)
    missing = st.sets(st.sampled_from([name for name in sample if name != "id"]))
    return st.builds(
        lambda less, other, more: {k: v for k, v in (more | sample | other).items() if k not in less},
        missing,
        changed,
        st.dictionaries(odd_names, json_values, max_size=3),
    )


def read(kind, row):
    """*row* as a dialect reads it: to the letter if it can be, decode_lenient if not."""
    body = json.dumps(row).encode()
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        return decode_lenient(kind, msgspec.Raw(body))


BOTH = pytest.mark.parametrize(("kind", "sample"), [(NavTalkSession, SESSION), (NavTalkMessage, MESSAGE)])


@BOTH
@given(data=st.data())
@settings(max_examples=examples(80))
def test_raw_is_the_object_the_api_sent_whatever_it_was(kind, sample, data):
    row = data.draw(rows(sample))
    assert json.loads(read(kind, row).raw) == row


@pytest.mark.parametrize("dialect", [each() for each in dialects().values()], ids=lambda each: each.api)
@given(
    ours=st.sets(
        st.sampled_from(["kept", "title", "type", "status", "ended", "end_time", "video_url", "id"])
    ),
    value=json_values,
)
@example(ours={"title"}, value=None)
def test_a_field_with_a_name_that_none_of_ours_has_is_in_raw_and_extra(dialect, ours, value):
    for kind, sample in zip(dialect.record_kinds, (SESSION, MESSAGE), strict=True):
        names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
        row = sample | {names["id"].strip("·"): "one"} | {f"·{name}": value for name in ours}
        body = json.dumps(row).encode()
        record = dialect.session_of(body) if sample is SESSION else dialect.message_of(body, "one", 0)
        assert json.loads(record.raw) == row
        assert {name for name in record.extra if name[0] == "·"} == {f"·{name}" for name in ours}


@BOTH
@given(data=st.data())
@settings(max_examples=examples(80))
def test_extra_is_exactly_what_has_no_attribute(kind, sample, data):
    row = data.draw(rows(sample))
    record = read(kind, row)
    for field in msgspec.structs.fields(kind):
        name, value = field.encode_name, getattr(record, field.name)
        if name not in row or name in record.extra:
            assert value is None or field.name == "kept"
        elif field.name != "kept":
            assert value == row[name]
    others = set(row) - {field.encode_name for field in msgspec.structs.fields(kind) if field.name != "kept"}
    held = {
        field.encode_name for field in msgspec.structs.fields(kind) if getattr(record, field.name) is not None
    }
    odd = {name for name in row if name not in others and row[name] is not None and name not in held}
    assert record.extra == {name: row[name] for name in others | odd}


@pytest.mark.parametrize("dialect", [each() for each in dialects().values()], ids=lambda each: each.api)
def test_an_attribute_that_an_api_has_no_field_for_is_none(dialect):
    for kind in dialect.record_kinds:
        record = (
            dialect.session_of
            if issubclass(kind, Session)
            else partial(dialect.message_of, session_id="s", position=0)
        )
        names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
        found = record(json.dumps({"status": None, "startTime": None, names["id"].strip("·"): "x"}).encode())
        assert {
            found.to_dict()[name] for name in kind.attributes if name not in ("id", "metadata", "role")
        } == {None}


def test_a_transcript_as_a_dict_has_words_and_times_that_json_can_hold():
    session, message = read(NavTalkSession, SESSION | {"mood": 7}), read(NavTalkMessage, MESSAGE)
    transcript = Transcript(session=session, messages=[message])
    fields = transcript.to_dict()
    assert json.loads(json.dumps(fields)) == fields
    assert [fields[name] for name in ("id", "status", "start_time", "end_time", "user_id", "extra")] == [
        *(SESSION["id"], "completed", "2025-11-12T18:20:38Z", "2025-11-12T18:20:50Z", None, {"mood": 7}),
    ]
    [said] = fields["messages"]
    assert (said["role"], said["type"], said["created_at"]) == ("user", "text", "2025-11-12T18:20:43Z")
    assert "extra" not in said
    failed = Transcript(session=session, error=NotFound("Gone.")).to_dict()
    assert failed["error"].startswith("Gone.")


@BOTH
@given(data=st.data())
@settings(max_examples=examples(80))
def test_a_record_as_a_dict_has_the_names_of_the_api_where_those_are_asked_for(kind, sample, data):
    row = data.draw(rows(sample))
    assert read(kind, row).to_dict(by_alias=True) == row


@pytest.mark.parametrize("text", ["soon", "2025-13-01", ""])
def test_a_time_that_cannot_be_read_is_none_and_stands_under_extra(text):
    fields = read(NavTalkSession, SESSION | {"startTime": text}).to_dict()
    assert (fields["start_time"], fields["extra"]) == (None, {"startTime": text})


@BOTH
def test_a_row_of_the_documented_shape_holds_nothing_extra(kind, sample):
    assert read(kind, sample).extra == {}


@pytest.mark.parametrize("nothing", [None, "missing"])
def test_a_session_that_goes_on_has_no_end(nothing):
    row = SESSION | {"endTime": None}
    if nothing == "missing":
        del row["endTime"]
    assert read(NavTalkSession, row).end_time is None


@BOTH
@given(data=st.data())
@settings(max_examples=examples(50))
def test_a_record_comes_out_of_a_pickle_as_it_went_in(kind, sample, data):
    record = read(kind, data.draw(rows(sample)))
    again = pickle.loads(pickle.dumps(record))
    assert (again, again.raw, type(again)) == (record, record.raw, kind)
    assert copy.deepcopy(record) == record


@pytest.mark.parametrize("kind", ENUMS)
@given(number=st.integers())
def test_an_open_enum_keeps_any_number(kind, number):
    assert kind(number) == number
    assert isinstance(kind(number), kind)
    assert hash(kind(number)) == hash(number)
    assert kind(number).value == number
    assert json.loads(msgspec.json.encode({"it": kind(min(max(number, -(2**63)), 2**63 - 1))}))


@pytest.mark.parametrize("kind", ENUMS)
@given(number=st.integers())
def test_an_open_enum_travels_by_pickle_and_copy(kind, number):
    member = kind(number)
    for again in (pickle.loads(pickle.dumps(member)), copy.copy(member), copy.deepcopy(member)):
        assert (type(again), again, again.known) == (kind, member, member.known)


@pytest.mark.parametrize("kind", ENUMS)
@given(number=st.integers())
def test_a_word_is_given_for_known_numbers_alone(kind, number):
    assert kind(number).known == (number in list(kind))
    assert isinstance(kind(number).word, str) == kind(number).known
    assert kind(number).known or kind(number).word == number


def test_an_unknown_number_is_not_remembered():
    before = len(Role)
    Role(123)
    assert len(Role) == before
    assert 123 not in Role._value2member_map_


@pytest.mark.parametrize("kind", ENUMS)
@pytest.mark.parametrize("odd", ["active", None, 1.5, [], b"1"])
def test_an_open_enum_takes_nothing_but_numbers(kind, odd):
    with pytest.raises(ValueError, match="is not a valid"):
        kind(odd)


@pytest.mark.parametrize(
    ("value", "word"),
    [(SessionStatus.FAILED, "failed"), (Role(7), 7), ("archived", "archived"), (None, None)],
)
def test_files_have_words_where_one_is_known(value, word):
    assert format_word(value) == word


@given(st.datetimes(timezones=st.timezones() | st.none()))
def test_any_written_moment_is_read_as_that_moment_in_utc(moment):
    assume(1 < moment.year < 9999)
    # Not the moment itself: Python lets no time in the gap of a zone equal any other.
    expected = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    # A zone with seconds in its offset is written with them only by Python itself.
    read_back = parse_utc(moment.isoformat())
    assert read_back.tzinfo is UTC
    assert read_back == expected


@given(st.text() | st.datetimes(timezones=st.timezones()).map(str))
def test_a_text_is_an_aware_utc_time_or_a_value_error(text):
    with suppress(ValueError):
        assert parse_utc(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"])
def test_a_time_that_does_not_exist_in_utc_is_a_value_error(text):
    with pytest.raises(ValueError, match="outside of the years"):
        parse_utc(text)


def test_times_are_aware_and_utc():
    session, message = read(NavTalkSession, SESSION), read(NavTalkMessage, MESSAGE)
    assert session.start_time == datetime(2025, 11, 12, 18, 20, 38, tzinfo=UTC)
    assert session.end_time == datetime(2025, 11, 12, 18, 20, 50, tzinfo=UTC)
    assert message.created_at == datetime(2025, 11, 12, 18, 20, 43, tzinfo=UTC)


requests = st.builds(
    Request,
    path=texts.map("/{}".format),
    params=st.dictionaries(texts, texts),
    method=st.sampled_from(["GET", "POST"]),
    body=st.none() | st.binary(),
)


@given(requests)
def test_a_request_is_written_as_json_and_read_back_equal(request_):
    assert msgspec.json.decode(msgspec.json.encode(request_), type=Request) == request_


@given(requests)
def test_a_request_comes_out_of_a_pickle_as_it_went_in(request_):
    assert pickle.loads(pickle.dumps(request_)) == request_


def test_a_request_has_no_room_for_a_key():
    assert Request.__struct_fields__ == ("path", "params", "method", "body", "operation")


@pytest.mark.parametrize("path", ["", "@example.com/", ".example.com/x", ":8080/x", "api/chat"])
def test_a_request_cannot_name_another_host(path):
    with pytest.raises(ValueError, match="does not begin with a slash"):
        Request(path=path)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json.dumps({"path": path}), type=Request)


@given(requests, texts)
def test_having_changes_a_copy(request_, cursor):
    before = copy.deepcopy(request_)
    assert request_.having(cursor=cursor).params == {**before.params, "cursor": cursor}
    assert request_ == before
    assert "cursor" not in request_.having(cursor=cursor).having(cursor=None).params


@pytest.mark.parametrize(("method", "repeatable"), [("GET", True), ("POST", False), ("DELETE", False)])
def test_only_a_get_is_repeated_without_a_thought(method, repeatable):
    assert Request(path="/", method=method).repeatable is repeatable


def test_a_transcript_and_a_page_travel_by_pickle():
    session, message = read(NavTalkSession, SESSION), read(NavTalkMessage, MESSAGE)
    transcript = Transcript(session=session, messages=[message])
    page = Page([session], Request(path="/next"))
    assert pickle.loads(pickle.dumps([transcript, page])) == [transcript, page]


def test_a_transcript_takes_its_error_along():
    session = read(NavTalkSession, SESSION)
    failed = Transcript(session=session, error=NotFound("Gone.", status=404, attempts=2))
    again = pickle.loads(pickle.dumps(failed))
    assert (type(again.error), again.error.status, again.error.attempts) == (NotFound, 404, 2)
    assert (again.session, again.messages) == (session, [])


@pytest.mark.parametrize(
    "value",
    [read(NavTalkSession, SESSION), read(NavTalkMessage, MESSAGE), Request(path="/"), Page([])],
    ids=lambda value: type(value).__name__,
)
def test_what_travels_is_frozen(value):
    name = value.__struct_fields__[0]
    with pytest.raises(AttributeError, match="immutable"):
        setattr(value, name, "other")


def test_a_record_is_shown_by_the_fields_that_it_has():
    row = b'{"id":"c","createdAt":"2025-11-12T18:20:38Z","likes":1}'
    assert repr(Kodey().session_of(row)) == "KodeyChat(id='c', start_time_text='2025-11-12T18:20:38Z')"
    assert "kept" not in repr(Page([Kodey().session_of(row)]))
    assert repr(event_of(b'{"type":"text","content":"Hi"}')) == "Text(content='Hi')"
