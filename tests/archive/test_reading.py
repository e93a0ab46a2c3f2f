"""Rows that are read, checked and handed on many at once: as they are one by one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.archive._database import _fit_at_once, _fitting
from navtalk_async.archive._statements import BYTES_A_READ, MESSAGES_A_READ
from navtalk_async.archive.rows import (
    StoredTranscript,
    _messages_flaws,
    damage,
    digest,
    flaws_of,
    message_row,
    row_digest,
    session_row,
)
from navtalk_async.dialects.kodey import Kodey
from navtalk_async.dialects.lexicon import Lexicon
from navtalk_async.dialects.llamacloud import LlamaCloud
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.formats import fields_of, message_fields, session_fields

DIALECTS = [NavTalk(), Kodey(), Lexicon(), LlamaCloud()]
NAMES = {
    "navtalk": ("createdAt", "messageType"),
    "kodey": ("createdAt", "type"),
    "lexicon": ("created_at", "t"),
}

MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "content": st.sampled_from(["Hello", "", None, "\0\n\U0001f642"]),
            "role": st.sampled_from([0, 7, "user", None]),
            "time": st.sampled_from(["2025-01-01 00:00:00", "soon", None]),
        },
        optional={"more": st.sampled_from([None, 1, "text"])},
    ),
    max_size=6,
)


def transcript(dialect, said):
    """A session as it is kept, with the messages of *said*."""
    time, sort = NAMES.get(dialect.api, ("time", "kind"))
    own_id = {"id": "s", "session_id": "s"}
    sent = {"status": 1, "startTime": None, "endTime": None, "videoUrl": None}
    session = dialect.session_of(msgspec.json.encode(own_id | (sent if dialect.api == "navtalk" else {})))
    row = session_row("p", dialect.api, session, "")
    raws = [
        msgspec.json.encode(
            {"id": f"m{at}", "role": each["role"], sort: 0, "content": each["content"], time: each["time"]}
            | {name: value for name, value in each.items() if name == "more"}
        )
        for at, each in enumerate(said)
    ]
    rows = [message_row("p", "s", at, dialect.message_of(raw, "s", at)) for at, raw in enumerate(raws)]
    return StoredTranscript(row, rows, digest(rows), row_digest(row))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.api)
@given(said=MESSAGES, data=st.data())
def test_a_damaged_message_is_found_among_many_as_it_is_alone(dialect, said, data):
    kept = transcript(dialect, said)
    assert damage(kept, dialect) == flaws_of(kept, dialect) == []
    if not said:
        return
    at = data.draw(st.integers(0, len(said) - 1))
    column = data.draw(st.sampled_from(["id", "position", "role", "content", "created_at", "raw"]))
    value = data.draw(st.sampled_from(["another", "", None, 99, b"\xff", "{}", "[1]", "{"]))
    rows = list(kept.messages)
    rows[at] = rows[at]._replace(**{column: value})
    is_same = rows == kept.messages
    found = flaws_of(kept._replace(messages=rows), dialect)
    alone = list(_messages_flaws(rows, dialect))
    noted = [] if is_same else ["its messages are not those that were saved, or not in their order"]
    assert found == damage(kept._replace(messages=rows), dialect) == (alone or noted)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: each.api)
@given(batch=st.lists(MESSAGES, max_size=4))
def test_the_fields_of_a_batch_are_those_of_each_row(dialect, batch):
    kept = [transcript(dialect, said) for said in batch]
    session_kind, message_kind = dialect.record_kinds
    assert fields_of(kept, dialect.record_kinds) == [
        session_fields(each.session, session_kind)
        | {"messages": [message_fields(row, message_kind) for row in each.messages]}
        for each in kept
    ]


@given(
    counts=st.lists(st.integers(0, 5_000) | st.none() | st.just(b"damaged"), min_size=1, max_size=200),
    most=st.integers(1, MESSAGES_A_READ),
)
def test_so_many_sessions_are_read_at_a_time_as_fit(counts, most):
    first = counts[: _fitting([("a session", each) for each in counts], most)]
    numbers = [each if isinstance(each, int) else 1 for each in counts]
    assert first
    assert len(first) == 1 or sum(numbers[: len(first)]) <= most
    assert len(first) == len(counts) or sum(numbers[: len(first) + 1]) > most


@given(st.lists(st.integers(0, 10_000), max_size=20), st.integers(1, 1_000))
def test_of_long_messages_fewer_are_read_at_a_time(lengths, times):
    messages = [(*"12345678", "x" * length * times) for length in lengths]
    most = _fit_at_once(messages, 8)
    assert bool(most) == bool(messages)
    assert most <= MESSAGES_A_READ
    if messages:
        assert (most - 1) * sum(lengths) * times <= BYTES_A_READ * len(messages)
