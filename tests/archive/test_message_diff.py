"""Which messages of a reading are new, changed or gone; hashes, digests and times, as functions of values."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_rows import message

from navtalk_async.archive.message_diff import deduplicate, diff_messages, split_repeats
from navtalk_async.archive.records import (
    FetchResult,
    FetchTask,
    MessageCounts,
)
from navtalk_async.archive.rows import content_hash, digest, format_api_time, is_same_state, message_row
from navtalk_async.models import Message, Request, Session

MOMENTS = [f"2025-11-12 18:20:{second:02}" for second in range(6)]


said = st.lists(
    st.builds(
        message,
        st.integers(0, 12),
        st.sampled_from(["a", "b"]),
        created=st.sampled_from([None, "soon", *MOMENTS]),
    ),
    unique_by=lambda each: each.id,
    max_size=8,
)


def rows(messages, first=0):
    return [message_row("p", "s", position, each) for position, each in enumerate(messages, first)]


def after(kept, made):
    """What a store holds of a session then, in order."""
    held = {row.id: row for row in kept} | {row.id: row for row in made.put}
    for row in made.gone:
        del held[row.id]
    return sorted(held.values(), key=lambda row: row.position)


@given(kept=said, answer=said)
def test_a_whole_reading_leaves_the_answer_and_nothing_else(kept, answer):
    kept = rows(kept)
    made = diff_messages("p", FetchResult(FetchTask("s", None), answer), kept)
    assert after(kept, made) == rows(answer)
    assert {row.id for row in made.gone} == {row.id for row in kept} - {each.id for each in answer}
    assert made.counts.inserted + made.counts.changed == len(made.put)


@given(kept=said, answer=said, since=st.sampled_from(MOMENTS))
def test_a_reading_since_a_moment_leaves_what_it_did_not_ask_for_and_then_the_answer(kept, answer, since):
    since, kept = format_api_time(since), rows(kept)
    made = diff_messages("p", FetchResult(FetchTask("s", None, since), answer), kept)
    came = [
        each.id
        for each in answer
        if format_api_time(each.created_at_text) is None or format_api_time(each.created_at_text) >= since
    ]
    stays = [
        row.id for row in kept if row.id not in came and (row.created_at is None or row.created_at < since)
    ]
    assert [row.id for row in after(kept, made)] == [*stays, *came]
    assert {row.id for row in made.gone} == {row.id for row in kept} - {*stays, *came}


@given(kept=said, answer=said, first=st.integers(1, 6))
def test_the_rest_of_a_session_is_put_behind_what_was_kept_of_it(kept, answer, first):
    kept = rows(kept)[:first]
    new = [each for each in answer if each.id not in {row.id for row in kept}]
    made = diff_messages("p", FetchResult(FetchTask("s", None), new, first), kept)
    assert after(kept, made) == [*kept, *rows(new, len(kept))]
    assert ([*made.gone], made.counts.inserted) == ([], len(new))


@given(
    kept=said,
    answer=said,
    since=st.none() | st.sampled_from(MOMENTS),
    first=st.integers(0, 6),
)
def test_whatever_was_asked_the_positions_have_no_gap_and_the_counts_add_up(kept, answer, since, first):
    kept = rows(kept)
    made = diff_messages("p", FetchResult(FetchTask("s", None, format_api_time(since)), answer, first), kept)
    held = after(kept, made)
    assert [row.position for row in held] == list(range(len(held)))
    assert made.held == held
    assert len(held) == len(kept) + made.counts.inserted - made.counts.vanished
    assert made.counts.inserted + made.counts.changed + made.counts.same <= len(answer)


@given(kept=said, answer=said, since=st.none() | st.sampled_from(MOMENTS))
def test_the_same_answer_again_changes_nothing(kept, answer, since):
    kept, reading = rows(kept), FetchResult(FetchTask("s", None, format_api_time(since)), answer)
    held = after(kept, diff_messages("p", reading, kept))
    again = diff_messages("p", reading, held)
    assert ([*again.put], [*again.gone]) == ([], [])
    assert (again.counts.inserted, again.counts.changed, again.counts.vanished) == (0, 0, 0)


def test_a_message_that_is_given_twice_is_one():
    made = diff_messages(
        "p", FetchResult(FetchTask("s", None), [message(1, "a"), message(2), message(1, "b")]), []
    )
    assert [(row.position, row.content) for row in made.put] == [(0, "b"), (1, "hello")]


@given(st.lists(st.sampled_from("abc")))
def test_readings_of_one_session_are_kept_one_after_the_other(ids):
    readings = [FetchResult(FetchTask(each, None), [], number) for number, each in enumerate(ids)]
    lists = split_repeats(readings)
    assert all(len({each.wanted.id for each in some}) == len(some) for some in lists)
    for session_id in set(ids):
        of_it = [each for some in lists for each in some if each.wanted.id == session_id]
        assert of_it == [each for each in readings if each.wanted.id == session_id]
    assert sum(map(len, lists)) == len(readings)


class Plain(Session, frozen=True, kw_only=True, gc=False):
    """A session of an API whose messages cannot be asked for from a moment on."""

    detail_only_fields = frozenset({"sometimes", "seldom"})


def plain(kept=b"{}"):
    return Plain(id="s", kept=kept)


def test_a_session_has_one_hash_however_it_is_written():
    assert content_hash(plain(b'{"a": 1, "b": [2]}')) == content_hash(plain(b'{"b":[2],"a":1}'))


@pytest.mark.parametrize(
    ("new", "by_id", "in_the_list"),
    [
        (b'{"a":1,"sometimes":3}', True, True),
        (b'{"a":1}', True, True),
        (b'{"a":1,"sometimes":4}', False, False),
        (b'{"a":2,"sometimes":3}', False, False),
        (b'{"a":1,"sometimes":3,"seldom":null}', True, False),
    ],
)
def test_a_field_that_not_every_answer_has_is_a_change_where_its_value_is_another(new, by_id, in_the_list):
    kept = content_hash(plain(b'{"a": 1, "sometimes": 3}'))
    new = content_hash(plain(new))
    assert is_same_state(kept, new, is_listed=False) == by_id
    assert is_same_state(kept, new, is_listed=True) == in_the_list


@given(*[st.lists(st.tuples(st.sampled_from("ab"), st.just("{}")), max_size=3)] * 2)
def test_two_sessions_have_one_digest_only_with_the_same_messages_in_the_same_order(one, other):
    assert (digest(one) == digest(other)) == (one == other)


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
)
def test_a_time_is_kept_as_the_moment_it_means(moment):
    kept = format_api_time(f"{moment:%Y-%m-%d %H:%M:%S}")
    assert kept.endswith("Z")
    assert datetime.fromisoformat(kept) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+08:00", None),
        ("20251112T182038.123", "2025-11-12T18:20:38.123000Z"),
        ("2025-13-45 99:00:00", None),
        ("2026-04-22T12:34:41.342245", "2026-04-22T12:34:41.342245Z"),
        ("2026-04-22T12:34:41+02:00", "2026-04-22T10:34:41Z"),
        ("2024-01-15T10:30:00Z", "2024-01-15T10:30:00Z"),
    ],
)
def test_times_of_other_forms_become_the_same_form(text, kept):
    assert format_api_time(text) == kept


def test_what_was_kept_behind_a_skipped_cursor_stays():
    kept = [message_row("p", "s", n, message(n)) for n in range(5)]
    further = Request(path="/api/chat/messages")
    found = diff_messages(
        "p", FetchResult(FetchTask("s", "h"), [message(0), message(9)], unfollowed=further), kept
    )
    assert [row.id for row in found.held] == [message(n).id for n in (0, 9, 2, 3, 4)]
    assert (found.reached, found.counts) == (2, MessageCounts(inserted=1, same=1, vanished=1))


def test_a_message_within_the_second_since_which_is_asked_is_not_from_before():
    late = message(7, created="2025-11-12T18:20:43.5Z")
    wanted = FetchTask("s", "h", "2025-11-12T18:20:43Z")
    assert [row.id for row in diff_messages("p", FetchResult(wanted, [late]), []).held] == [late.id]


class Said(Message, frozen=True, kw_only=True, gc=False):
    """A message of an API that does not promise that its id is its own."""

    ids_are_unique = False

    content: str | None = None


def said_as(name, content):
    raw = msgspec.json.encode({"id": name, "content": content})
    return Said(id=name, content=content, kept=raw)


@given(st.lists(st.builds(said_as, st.sampled_from("ab"), st.sampled_from(["x", "y", "z"])), max_size=8))
def test_messages_that_share_an_id_get_their_own_and_repeats_are_one(messages):
    apart = deduplicate(messages)
    assert len({each.id for each in apart}) == len(apart)
    assert [each.raw for each in apart] == list(dict.fromkeys(each.raw for each in messages))
    assert [each.id.partition("#")[0] for each in apart] == [
        msgspec.json.decode(each.raw)["id"] for each in apart
    ]
