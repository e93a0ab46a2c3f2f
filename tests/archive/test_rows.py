"""How rows are made of what came: quick where everything is as usual, and right whatever comes."""

from datetime import UTC, datetime
from itertools import chain

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from navtalk_async.archive._sqlite import VALUES_AT_ONCE, cut, with_rows
from navtalk_async.archive.rows import (
    MessageRow,
    format_api_time,
    format_api_times,
    message_row,
    message_rows,
    session_row,
)
from navtalk_async.dialects.kodey import Kodey
from navtalk_async.dialects.lexicon import Lexicon
from navtalk_async.dialects.navtalk import NavTalk, NavTalkMessage
from navtalk_async.formats import message_fields, session_fields
from navtalk_async.models import MessageType, Role
from navtalk_async.times import http_date, parse_utc

DIGIT = st.sampled_from("0123456789")
USUAL = st.tuples(
    *[DIGIT] * 4, st.just("-"), *[DIGIT] * 2, st.just("-"), *[DIGIT] * 2, st.sampled_from(" T"),
    *[DIGIT] * 2, st.just(":"), *[DIGIT] * 2, st.just(":"), *[DIGIT] * 2,
).map("".join)  # fmt: skip
ODD = st.sampled_from("0123456789+-:.,TZWt \u0661\u00e9\0")
NEARLY = st.tuples(USUAL, st.integers(0, 18), ODD, st.integers(0, 18), ODD).map(
    lambda parts: replaced(replaced(parts[0], *parts[1:3]), *parts[3:])
)
TIMES = st.one_of(
    st.datetimes().map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}"),
    st.datetimes().map(str),
    st.datetimes(timezones=st.just(UTC)).map(str),
    USUAL,
    NEARLY,
    st.text(ODD, min_size=19, max_size=19),
)


def replaced(text, at, by):
    return text[:at] + by + text[at + 1 :]


def written_anew(text):
    """The long way, which any time takes that is not as usual."""
    try:
        return parse_utc(text).isoformat().replace("+00:00", "Z")
    except ValueError:
        return None


@given(TIMES)
@example("2025-01-01 24:00:00")
@example("2025-W01-1 12:00:00")
@example("2025-01-01 12:00+01")
@example("2025-01-01 12:00:0Z")
@example("2025-01-01 12:00:60")
@example("2025-02-29 12:00:00")
@example("0000-01-01 00:00:00")
def test_a_time_is_written_as_if_it_were_always_written_anew(text):
    assert format_api_time(text) == written_anew(text)


@given(
    st.lists(st.datetimes().map(lambda moment: f"{moment:%Y-%m-%d %H:%M:%S}") | st.none() | TIMES, max_size=4)
)
@example(["2025-01-01 00:00:00", "2025-01-01 00:00:00\n2025-01-02 00:00:00"])
@example(["2024-02-29 10:00:00", "2025-02-29 10:00:00", "2025-01-31T24:00:00", "0000-01-01 00:00:00"])
@example(["2025-01-01 00:00:00", "2025-01-01 00:00:00\n"])
@example(["2025-01-28T23:59:59"])
def test_times_are_written_at_once_as_they_are_one_by_one(texts):
    assert format_api_times(texts) == [format_api_time(text) for text in texts]


def message(number, kept):
    said = {} if kept is None else {"kept": kept}
    return NavTalkMessage(
        id=str(number),
        role=(Role.USER, Role.ASSISTANT, Role(7), Role(2**70), "narrator", None)[number % 6],
        type=(MessageType.TEXT, MessageType(9), "image", None)[number % 4],
        content=("two\nlines", "", None)[number % 3],
        created_at_text=("2025-01-01 00:00:00", "soon", None)[number % 3],
        **said,
    )


@given(st.lists(st.sampled_from([None, b'{"id": 1}', b'{\n"id":\n1}'])), st.integers(0, 3))
def test_rows_made_together_are_those_made_one_by_one(kept, first):
    messages = [message(number, raw) for number, raw in enumerate(kept)]
    rows = message_rows("p", "s", first, messages)
    assert rows == [message_row("p", "s", first + n, each) for n, each in enumerate(messages)]
    assert [row.raw.encode() for row in rows] == [each.raw for each in messages]
    assert all(type(row) is MessageRow for row in rows)


@pytest.mark.parametrize(
    ("role", "kept"),
    [(Role.USER, "user"), (Role(7), 7), (Role(2**70), str(2**70)), ("narrator", "narrator"), (None, None)],
)
def test_a_role_is_kept_as_its_word_or_as_it_came(role, kept):
    said = NavTalkMessage(id="1", role=role, type=MessageType.TEXT, content="", created_at_text=None)
    assert message_row("p", "s", 0, said).role == kept


@pytest.mark.parametrize("dialect", [NavTalk(), Kodey(), Lexicon()])
@given(
    began=st.none() | st.sampled_from(["", "soon", "2025-13-01"]) | TIMES,
    ended=st.none() | st.just("never") | TIMES,
)
def test_a_time_stands_in_its_column_or_under_extra_as_it_came(dialect, began, ended):
    session, message = dialect.record_kinds
    columns = {"start_time_text", "end_time_text", "created_at_text", "role", "type"}
    names = {name: name for name in columns} | {
        field.name: field.encode_name for field in chain(*map(msgspec.structs.fields, (session, message)))
    }
    sent = {"id": "1", names["start_time_text"]: began, names["end_time_text"]: ended, "status": None}
    kept = session_row("p", dialect.api, dialect.session_of(msgspec.json.encode(sent)), "")
    fields = session_fields(kept, session)
    said = {
        "id": "1",
        names["created_at_text"]: began,
        names["role"]: None,
        names["type"]: None,
        "content": None,
    }
    kept = message_row("p", "s", 0, dialect.message_of(msgspec.json.encode(said), "s", 0))
    for found, name, api, text in (
        (fields, "start_time", names["start_time_text"], began),
        (fields, "end_time", names["end_time_text"], ended),
        (message_fields(kept, message), "created_at", names["created_at_text"], began),
    ):
        if api in columns:
            continue
        assert found[name] == (None if text is None else written_anew(text))
        odd = {} if text is None or found[name] is not None else {api: text}
        assert found.get("extra", {}).get(api) == odd.get(api)
        assert (api in found.get("extra", {})) == bool(odd)


@given(st.integers(0, 350), st.integers(1, 13))
def test_rows_are_cut_into_pieces_of_few_lengths_and_none_is_lost(rows, columns):
    all_rows = [tuple(range(columns))] * rows
    pieces = list(cut(all_rows, columns))
    assert list(chain.from_iterable(pieces)) == all_rows
    most = VALUES_AT_ONCE // columns
    assert {len(piece) for piece in pieces} <= {most, 32, 16, 8, 4, 2, 1}
    assert len(pieces) <= rows // most + 5 + most // 32
    assert all(with_rows("{rows}", len(p), columns).count("?") <= VALUES_AT_ONCE for p in pieces)


def test_the_date_of_an_answer_is_understood_each_time():
    for _ in range(2):
        assert http_date("Sat, 22 Nov 2025 10:00:00 GMT") == datetime(2025, 11, 22, 10, tzinfo=UTC)
        assert http_date("soon") is None
