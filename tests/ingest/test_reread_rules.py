"""The rules of what is read again, as functions of values."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_rows import NOW, SETTLE, clock, session

from navtalk_async.archive.records import (
    FULL_PAGE,
    Clock,
    FetchTask,
    StoredSession,
)
from navtalk_async.archive.rows import content_hash, format_time
from navtalk_async.ingest._reread_rules import compare_sessions, read_from
from navtalk_async.models import Session

sessions = st.lists(
    st.builds(
        session,
        st.integers(0, 8),
        status=st.integers(0, 7),
        ended=st.sampled_from([None, "2025-11-12 18:30:00", "2025-12-31 23:59:30"]),
    ),
    max_size=8,
)


@given(sessions, sessions, st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)))
def test_a_page_is_compared_completely_and_nothing_is_fetched_without_a_reason(
    before, page, pending, failed, watched
):
    known = {
        each.id: StoredSession(
            content_hash(each),
            is_pending=(number := int(each.id[:8], 16)) in pending,
            has_failed=number in failed - pending,
            is_watched=number in watched,
        )
        for each in before
    }
    found = compare_sessions(page, known, clock=clock(), is_listed=True)
    sorts = [*found.inserted, *found.changed]
    assert {each.session.id for each in sorts} | {each.id for each in found.same} == {e.id for e in page}
    assert len(sorts) + len(found.same) == len({each.id for each in page})
    idle = {
        each.id
        for each in found.same
        if not known[each.id].is_watched or known[each.id].is_pending or known[each.id].has_failed
    }
    assert {each.id for each in found.to_fetch} == {each.id for each in page} - idle


def test_a_session_that_goes_on_is_watched():
    [change] = compare_sessions(
        [session(1, status=0, ended=None)], {}, clock=clock(), is_listed=True
    ).inserted
    assert (change.is_watched, change.settles_at) == (True, None)


@pytest.mark.parametrize(
    ("ended", "expected"),
    [
        ("2025-12-31 23:58:01", (True, "2026-01-01T00:02:00Z")),
        ("2025-12-31 23:58:00", (False, None)),
    ],
)
def test_a_session_that_ended_is_watched_until_it_has_settled(ended, expected):
    [change] = compare_sessions([session(1, ended=ended)], {}, clock=clock(), is_listed=True).inserted
    assert (change.is_watched, change.settles_at) == expected


def test_a_session_that_changes_is_watched_whatever_its_end():
    [change] = compare_sessions(
        [session(1)], {session(1).id: StoredSession("another")}, clock=clock(), is_listed=True
    ).changed
    assert (change.is_watched, change.settles_at) == (True, "2026-01-01T00:02:00Z")


def test_a_watched_session_that_was_read_in_this_round_is_not_read_again():
    one = session(1, status=0, ended=None)
    times = Clock.at(NOW + timedelta(minutes=2), SETTLE, NOW + timedelta(seconds=1))
    # What was read later than now was read before a clock went back.
    for minutes, fetched in ((0, 1), (1, 0), (3, 1)):
        at = format_time(NOW + timedelta(minutes=minutes))
        before = StoredSession(content_hash(one), is_watched=True, read_at=at)
        assert len(compare_sessions([one], {one.id: before}, clock=times, is_listed=True).to_fetch) == fetched


LAST = "2025-12-31T23:00:00Z"


@pytest.mark.parametrize(
    ("messages", "settles_at", "since"),
    [
        (FULL_PAGE - 1, None, None),
        (FULL_PAGE, None, "2025-12-31T22:58:00Z"),
        (FULL_PAGE, "2026-01-01T00:00:01Z", "2025-12-31T22:58:00Z"),
        (FULL_PAGE, "2026-01-01T00:00:00Z", None),
    ],
)
def test_a_long_session_is_read_from_its_last_messages_but_for_the_last_time(messages, settles_at, since):
    before = StoredSession(
        "h", is_watched=True, settles_at=settles_at, messages=messages, last_message_at=LAST
    )
    one = session(1)
    assert read_from(one, "h", before, clock()) == FetchTask(one.id, "h", since)


class Plain(Session, frozen=True, kw_only=True, gc=False):
    """A session of an API whose messages cannot be asked for from a moment on."""

    detail_only_fields = frozenset({"sometimes", "seldom"})


def plain(kept=b"{}"):
    return Plain(id="s", kept=kept)


def test_a_long_session_is_read_whole_where_the_api_has_no_moment_to_begin_at():
    before = StoredSession("h", is_watched=True, messages=FULL_PAGE, last_message_at=LAST)
    assert read_from(plain(), "h", before, clock()) == FetchTask("s", "h")
