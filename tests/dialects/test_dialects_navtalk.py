"""NavTalk's dialect asks as the reference says, understands what it shows, and gets by with the rest."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from navtalk_answers import (
    CURSOR,
    ID,
    MESSAGE,
    MESSAGES_ANSWER,
    NAVTALK,
    READERS,
    SESSION,
    SESSION_ANSWER,
    SESSIONS_ANSWER,
    answer,
    enveloped,
    messages,
    page_of,
    session,
    sessions,
)

from navtalk_async.dialects.answers import refused
from navtalk_async.dialects.navtalk import NavTalk, seconds_text
from navtalk_async.errors import (
    BadRequest,
    DecodeFailed,
    NotJson,
    WrongShape,
)
from navtalk_async.lenient_json import strict_json
from navtalk_async.models import KeyPlace, MessageType, Response, Role, SessionStatus
from navtalk_async.wire.secret import Secret, redact

# What the reference shows ---------------------------------------------------------------------------------


def test_the_documented_sessions_are_read_field_for_field():
    page = sessions(SESSIONS_ANSWER)
    first, _ = page.items
    assert (first.id, first.status, first.video_url, first.title) == (ID, SessionStatus.COMPLETED, None, None)
    assert first.start_time == datetime(2025, 11, 12, 18, 20, 38, tzinfo=UTC)
    assert first.end_time == datetime(2025, 11, 12, 18, 20, 50, tzinfo=UTC)
    assert page.next == NAVTALK.list_sessions(cursor=CURSOR)


def test_the_documented_session_is_read_field_for_field():
    assert session(SESSION_ANSWER) == sessions(SESSIONS_ANSWER).items[0]


def test_the_documented_messages_are_read_field_for_field():
    first, second = messages(MESSAGES_ANSWER).items
    assert (first.id, first.role, first.type) == (MESSAGE["id"], Role.USER, MessageType.TEXT)
    assert (second.role, first.content) == (Role.ASSISTANT, "zaiganma")
    assert first.created_at == datetime(2025, 11, 12, 18, 20, 43, tzinfo=UTC)


@pytest.mark.parametrize(("read", "body"), [(sessions, SESSIONS_ANSWER), (messages, MESSAGES_ANSWER)])
def test_the_documented_rows_are_written_again_without_loss(read, body):
    assert [json.loads(row.raw) for row in read(body).items] == json.loads(body)["data"]["data"]


def test_the_questions_are_the_documented_ones():
    listing = NAVTALK.list_sessions(
        start_time="2025-11-12 00:00:00",
        end_time="2025-11-21 23:59:59",
        status=SessionStatus.COMPLETED,
        limit=20,
    )
    assert (listing.method, listing.path) == ("GET", "/api/chat/sessions")
    assert listing.params == {
        "startTime": "2025-11-12 00:00:00",
        "endTime": "2025-11-21 23:59:59",
        "status": "1",
        "limit": "20",
    }
    assert NAVTALK.get_session(ID).path == f"/api/chat/sessions/{ID}"
    said = NAVTALK.list_messages(ID, role=Role.USER, limit=50, cursor="c")
    assert (said.path, said.params) == (
        "/api/chat/messages",
        {"sessionId": ID, "role": "0", "limit": "50", "cursor": "c"},
    )


def test_the_key_goes_into_the_query():
    assert NAVTALK.key_place == KeyPlace("query", "apikey")


def test_without_a_limit_the_most_is_asked_for():
    assert NAVTALK.list_sessions().params == {"limit": "100"}
    assert NAVTALK.list_messages(ID).params == {"sessionId": ID, "limit": "200"}


@pytest.mark.parametrize("end", ["/api/chat", "", "/", "/api/chat/", "/api/chat\n"])
def test_the_base_url_may_end_in_api_chat_or_not(end):
    assert NAVTALK.root(f"https://transfer.navtalk.ai{end}") == "https://transfer.navtalk.ai"


@pytest.mark.parametrize("end", [{"nextCursor": None}, {"nextCursor": ""}, {}])
def test_a_null_empty_or_missing_cursor_is_the_end(end):
    assert sessions(enveloped({"data": [SESSION], **end})).next is None


def test_an_empty_page_may_have_a_cursor():
    page = sessions(page_of(cursor="c"))
    assert (page.items, page.next) == ([], NAVTALK.list_sessions(cursor="c"))


filters = st.fixed_dictionaries(
    {},
    optional={
        "start_time": st.datetimes(max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),
        "end_time": st.datetimes(min_value=datetime(2101, 1, 1), timezones=st.just(UTC)),
        "limit": st.integers(1, 100),
    },
)
texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(filters, st.none() | st.integers(), st.lists(texts.filter(bool), min_size=1, max_size=3))
def test_every_filter_is_sent_again_with_each_cursor(given_filters, status, cursors):
    request = first = NAVTALK.list_sessions(**given_filters, status=status)
    for cursor in cursors:
        request = NAVTALK.read_sessions(request, answer(page_of(cursor=cursor))).next
        assert request.params == first.params | {"cursor": cursor}


def test_messages_keep_their_session_and_role_with_each_cursor():
    request = NAVTALK.list_messages(ID, role=1)
    following = NAVTALK.read_messages(request, answer(page_of(MESSAGE, cursor="c"))).next
    assert following == NAVTALK.list_messages(ID, role=1, cursor="c")


# Bad arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "..",
        ".",
        "a/b",
        "%2e%2e",
        f"{ID}/..",
        f"{ID}?x=1",
        "709b712f",
        f"{ID} ",
        f"../{ID}",
        "\0",
        None,
        7,
    ],
)
def test_an_id_that_is_no_uuid_is_refused(bad):
    with pytest.raises(ValueError, match="is not a session id"):
        NAVTALK.checked_id(bad)


@given(st.text())
def test_whatever_id_the_api_gives_is_a_single_part_of_the_path(text):
    try:
        path = NAVTALK.get_session(text).path
    except WrongShape:
        assert text in ("", ".", "..")
        return
    before, _, part = path.rpartition("/")
    assert (before, unquote(part)) == ("/api/chat/sessions", text)
    assert not set(part) & set("?#%" if part == text else "?#")


@given(st.uuids())
def test_any_uuid_is_an_id(made):
    assert NAVTALK.checked_id(made) == NAVTALK.checked_id(str(made)) == str(made)
    assert NAVTALK.get_session(str(made)).path == f"/api/chat/sessions/{made}"


@pytest.mark.parametrize("form", [str.upper, lambda text: text.replace("-", "")])
def test_an_id_is_asked_for_in_the_form_it_was_given_in(form):
    assert NAVTALK.list_messages(NAVTALK.checked_id(form(ID))).params["sessionId"] == form(ID)


@pytest.mark.parametrize("limit", [-1, 0, 101, 10**9])
def test_a_limit_of_sessions_out_of_range_is_refused(limit):
    with pytest.raises(ValueError, match="is not from 1 to 100"):
        NAVTALK.list_sessions(limit=limit)


@pytest.mark.parametrize("limit", [-1, 0, 201])
def test_a_limit_of_messages_out_of_range_is_refused(limit):
    with pytest.raises(ValueError, match="is not from 1 to 200"):
        NAVTALK.list_messages(ID, limit=limit)


ASKING_WITH_TIMES = pytest.mark.parametrize(
    "ask", [NAVTALK.list_sessions, lambda **given_times: NAVTALK.list_messages(ID, **given_times)]
)


@ASKING_WITH_TIMES
@pytest.mark.parametrize("name", ["start_time", "end_time"])
def test_a_naive_datetime_is_refused_with_what_to_write(ask, name):
    with pytest.raises(ValueError, match=r"tzinfo=timezone\.utc, or write '2025-11-12 18:20:38'"):
        ask(**{name: datetime(2025, 11, 12, 18, 20, 38)})


@ASKING_WITH_TIMES
def test_an_end_before_the_start_is_refused(ask):
    with pytest.raises(ValueError, match="lies before the start"):
        ask(start_time="2025-11-12 00:00:01", end_time="2025-11-12 00:00:00")


@pytest.mark.parametrize(
    "bad",
    ["", "yesterday", "2025-11-12", "2025-11-12T18:20:38", "2025-11-12 18:20:38+1", "2025-02-30 00:00:00"],
)
def test_a_text_of_another_form_is_refused_with_what_to_write(bad):
    with pytest.raises(ValueError, match="write it as 2025-11-12 18:20:38"):
        seconds_text(bad)


@given(st.datetimes(timezones=st.timezones() | st.just(timezone(timedelta(hours=23)))))
def test_any_aware_datetime_is_written_as_documented_or_refused(moment):
    try:
        text = seconds_text(moment)
    except ValueError:
        assert not 2 < moment.year < 9998
        return
    assert len(text) == len("2025-11-12 18:20:38")
    assert datetime.fromisoformat(text).replace(tzinfo=UTC) == moment.astimezone(UTC).replace(microsecond=0)
    assert seconds_text(text) == text


@given(st.dates())
def test_a_date_is_its_first_second(day):
    assert seconds_text(day) == f"{day} 00:00:00"


def test_the_first_and_the_last_second_of_all_can_be_asked_for():
    NAVTALK.list_sessions(
        start_time=datetime.min.replace(tzinfo=UTC), end_time=datetime.max.replace(tzinfo=UTC)
    )
    NAVTALK.list_sessions(start_time=date.min, end_time=date.max)


# What rows may hold ---------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_through(content):
    [message] = messages(page_of(MESSAGE | {"content": content})).items
    assert message.content == content
    assert json.loads(message.raw)["content"] == content


# As JavaScript and Java cut strings: some of these halves meet their other half, most do not.
units = st.lists(st.sampled_from('a\\"/\ud83d\ude00\ud83dx\ude00\udfff\ud800u é\n'), max_size=8).map("".join)


@given(units, units)
def test_halves_of_surrogate_pairs_cost_a_character_and_no_page(content, name):
    whole = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    page = messages(json.dumps(page_of(MESSAGE, MESSAGE | {"content": content, "id": f"x{name}"})).encode())
    assert page.items[0].content == "zaiganma"
    assert page.items[1].content.count("�") >= whole.count("�")
    assert page.items[1].content.encode().decode().replace("�", "") == whole.replace("�", "")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_body_without_halves_is_left_as_it_is(text):
    for body in (json.dumps(text).encode(), json.dumps(text, ensure_ascii=False).encode()):
        assert json.loads(strict_json(body)) == text


def test_a_megabyte_of_content_comes_through():
    content = "\0é😀\\" * 250_000
    assert messages(page_of(MESSAGE | {"content": content})).items[0].content == content


@pytest.mark.parametrize(
    ("field", "odd", "becomes"),
    [
        ("role", 7, Role(7)),
        ("role", "user", "user"),
        ("role", None, None),
        ("role", 1.5, None),
        ("role", True, None),
        ("role", [1], None),
        ("content", None, None),
        ("content", 42, None),
        ("content", {"text": "hi"}, None),
        ("messageType", 3, MessageType(3)),
        ("createdAt", 1763000000, None),
    ],
)
def test_one_odd_value_loses_neither_the_row_nor_the_page(field, odd, becomes):
    attribute = {"messageType": "type", "createdAt": "created_at_text"}.get(field, field)
    plain, strange = messages(page_of(MESSAGE, MESSAGE | {field: odd, "new": [1, None]})).items
    assert plain.extra == {}
    assert getattr(strange, attribute) == becomes
    assert json.loads(strange.raw) == MESSAGE | {field: odd, "new": [1, None]}
    assert strange.extra == {"new": [1, None]} | ({field: odd} if becomes is None and odd is not None else {})


@pytest.mark.parametrize("field", [name for name in MESSAGE if name != "id"])
def test_a_missing_field_is_none(field):
    [row] = messages(page_of({name: value for name, value in MESSAGE.items() if name != field})).items
    assert json.loads(row.raw) == {name: value for name, value in MESSAGE.items() if name != field}


@pytest.mark.parametrize("row", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": 7.0}, [], "row"])
def test_a_row_that_cannot_be_told_from_others_is_skipped_and_alone_of_the_wrong_shape(row):
    page = sessions(page_of(SESSION, row))
    assert (len(page.items), page.skipped) == (1, (1,))
    with pytest.raises(WrongShape):
        sessions(page_of(row))


@given(st.integers(-(2**70), 2**70))
def test_an_id_that_is_a_whole_number_is_its_text(number):
    [session] = sessions(page_of(SESSION | {"id": number})).items
    [message] = messages(page_of(MESSAGE | {"id": number})).items
    for read, row, again in (
        (session, SESSION, NavTalk().session_of(session.raw)),
        (message, MESSAGE, NavTalk().message_of(message.raw, "", 0)),
    ):
        assert (read.id, again) == (str(number), read)
        assert json.loads(read.raw) == row | {"id": number}
        assert read.extra == {}


def test_deep_nesting_is_an_error_of_ours():
    deep = b'{"code":200,"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(WrongShape, match="nested too deeply"):
        sessions(deep)


@READERS
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", NotJson),
        (b"<!DOCTYPE html><html>", NotJson),
        (b"\xff\xfe\x00", NotJson),
        (SESSIONS_ANSWER[:80], NotJson),
        (b"null", WrongShape),
        (b"[]", WrongShape),
        (b"{}", WrongShape),
        (b'{"code":200}', WrongShape),
        (b'{"code":200,"data":"none"}', WrongShape),
        (b'{"code":200,"data":{"data":{"0":1}}}', WrongShape),
        (b'{"items":[],"total":0}', WrongShape),
    ],
)
def test_what_is_not_as_the_reference_says_is_named(read, body, kind):
    with pytest.raises(DecodeFailed) as caught:
        read(body)
    assert type(caught.value) is kind


def test_an_html_page_is_called_one():
    with pytest.raises(NotJson, match="It is an HTML page"):
        sessions(b"\n <html><body>Back soon</body></html>")


@pytest.mark.parametrize(
    "envelope", [{"code": None}, {}, {"message": None}, {"traceId": "x", "success": True}]
)
def test_an_envelope_may_hold_more_or_less(envelope):
    assert sessions({**envelope, "data": {"data": [SESSION]}}).items[0].id == ID


def test_a_body_is_decoded_once_where_it_is_as_documented():
    [row] = messages(page_of(MESSAGE)).items
    assert row.kept is msgspec.UNSET


@pytest.mark.parametrize("depth", [3, 100, 450, 900, 1_500, 100_000])
@pytest.mark.parametrize("shape", ['{{"detail": {}}}', '{{"detail": "no", "more": {}}}'])
def test_a_refusal_may_be_nested_as_deeply_as_it_likes(shape, depth):
    body = shape.format("[" * depth + "]" * depth).encode()
    error = redact(refused(Response(status=400, headers={}, body=body)), Secret("key"))
    assert isinstance(error, BadRequest)
    assert str(error)


@pytest.mark.parametrize("status", [SessionStatus.COMPLETED, "completed", "Completed", 1])
@pytest.mark.parametrize("role", [Role.ASSISTANT, "assistant", 1])
def test_a_word_an_enum_and_a_number_are_the_same_filter(status, role):
    assert NAVTALK.list_sessions(status=status).params["status"] == "1"
    assert NAVTALK.list_messages(ID, role=role).params["role"] == "1"


def test_a_number_that_the_reference_does_not_name_is_asked_for():
    assert NAVTALK.list_sessions(status=SessionStatus(9)).params["status"] == "9"


@pytest.mark.parametrize("status", ["done", "", 1.5, True, []])
def test_a_status_that_is_no_word_and_no_number_is_refused(status):
    with pytest.raises(
        ValueError, match=r"status=.* is neither active, completed, failed nor a whole number"
    ):
        NAVTALK.list_sessions(status=status)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("2025-11-12T18:20:38Z", "2025-11-12 18:20:38"),
        ("2025-11-12 18:20:38Z", "2025-11-12 18:20:38"),
        ("2025-11-12T19:20:38.250+01:00", "2025-11-12 18:20:38"),
        ("2025-11-12 18:20:38", "2025-11-12 18:20:38"),
    ],
)
def test_a_text_with_a_zone_is_the_moment_that_it_means(text, asked):
    assert NAVTALK.list_sessions(start_time=text).params["startTime"] == asked


def test_a_filter_that_the_api_lacks_is_refused_with_those_that_it_has():
    with pytest.raises(TypeError, match=r"sessions by statuss: only by start_time and end_time and status\."):
        NAVTALK.list_sessions(statuss=1)
    with pytest.raises(TypeError, match=r"messages by status: only by start_time and end_time and role\."):
        NAVTALK.list_messages(ID, status=1)


COMPACT = {"separators": (",", ":")}


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "content": st.text(),
                "new": st.text() | st.none(),
                "role": st.floats(allow_nan=False, allow_infinity=False),
            },
        )
    ),
    st.sampled_from([{}, COMPACT]),
    st.booleans(),
)
def test_rows_beside_each_other_are_read_as_each_alone(others, form, is_ascii):
    rows = [MESSAGE | other for other in others]
    body = json.dumps(page_of({"new": 1} | MESSAGE, *rows), ensure_ascii=is_ascii, **form)
    _, *together = messages(body.encode("utf-8", "replace")).items
    for read, row in zip(together, rows, strict=True):
        alone = NavTalk().message_of(json.dumps(row).encode(), "", 0)
        assert (read, read.raw, type(read)) == (alone, alone.raw, NavTalk.record_kinds[1])
