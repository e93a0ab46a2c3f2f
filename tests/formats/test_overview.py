"""The statistics of an archive: the same from its rows, from what is exported, and from its SQL view."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from store_rows import asked, begin, journal, message, session, wanted

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FetchResult
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.formats import fields_of
from navtalk_async.formats.overview import Overview, SessionFacts, facts_of, read_overview
from navtalk_async.models import Role

BEGIN = datetime(2025, 11, 10)
MOMENTS = st.integers(0, 3 * 86_400_000).map(
    lambda each: (BEGIN + timedelta(milliseconds=each)).isoformat(" ", "milliseconds")
)
SAID = st.lists(st.tuples(st.sampled_from([Role.USER, Role.ASSISTANT, Role(7)]), MOMENTS), max_size=8)
SESSIONS = st.lists(
    st.tuples(SAID, st.none() | MOMENTS, st.sampled_from([0, 1, 2, 9]), st.sampled_from([None, "A & B"])),
    max_size=6,
)


async def fill(store, sessions):
    await begin(store)
    rows = [
        session(number, status=status, started=said[0][1] if said else None, ended=ended, title=title)
        for number, (said, ended, status, title) in enumerate(sessions)
    ]
    await journal(store, *rows)
    for row, (said, *_) in zip(rows, sessions, strict=True):
        kept = [message(at, role=role, created=time) for at, (role, time) in enumerate(said)]
        await store.save_messages("default", [FetchResult(wanted(row), kept)])


COLUMNS = "messages, user_messages, assistant_messages, duration_seconds, longest_wait_seconds"


def plain(value):
    return value if value is None else float(value)


COLUMNS = "messages, user_messages, assistant_messages, duration_seconds, longest_wait_seconds"


@settings(max_examples=examples(12))
@given(sessions=SESSIONS)
async def test_rows_exports_and_the_sql_view_have_the_same_statistics(new_place, sessions):
    place = await new_place()
    async with Archive.open(place) as store:
        await fill(store, sessions)
        kept = [each async for each in store.transcripts()]
        exported = [facts_of(each) for each in fields_of(kept, NavTalk().record_kinds)]
        of_rows = await read_overview(store, ["default"])
    assert of_rows.to_dict() == overview_of(exported).to_dict()
    view = await asked(place, f"SELECT session_id, {COLUMNS} FROM session_stats")
    assert sorted((*row[:4], *map(plain, row[4:])) for row in view) == sorted(
        (each.id, each.messages, each.user, each.assistant, each.duration, each.longest_wait)
        for each in exported
    )


def facts(number=0, **more):
    blank = dict.fromkeys(SessionFacts._fields)
    counts = dict.fromkeys(("user", "assistant", "other"), 0)
    return SessionFacts(**{**blank, **counts, "project": "p", "id": f"s{number}", **more})


def overview_of(all_facts):
    overview = Overview()
    for each in all_facts:
        overview.add(each)
    return overview


@given(st.lists(st.dates(), min_size=1, max_size=30), st.integers(1, 80))
def test_a_timeline_has_every_session_once_and_at_most_so_many_bars(days, most):
    overview = overview_of(facts(start_time=f"{day}T10:00:00Z") for day in days)
    unit, bars = overview.timeline(most)
    names = [each.label for each in bars]
    assert sum(each.sessions for each in bars) == len(days)
    assert names == sorted(set(names))
    # Of weeks, the first may begin before the first day.
    assert len(bars) <= most + (unit == "week")
    assert bars[-1].sessions


@given(st.lists(st.floats(0, 1e7).map(lambda each: round(each, 3)), min_size=1, max_size=60))
def test_quantiles_are_those_of_the_sorted_numbers(numbers):
    counted = overview_of(facts(user=int(each)) for each in numbers).messages_a_session
    timed = overview_of(facts(duration=each) for each in numbers).durations
    ordered = sorted(numbers)
    for percent, of_counts, of_times in ((50, counted.median, timed.median), (90, counted.p90, timed.p90)):
        number = ordered[-(-len(ordered) * percent // 100) - 1]
        assert of_counts == int(number)
        assert of_times == pytest.approx(number, rel=0.05, abs=0.001)
    assert (counted.max, timed.max) == (int(ordered[-1]), ordered[-1])
    assert sum(bar.sessions for bar in timed.bars) == len(numbers)


@given(st.lists(st.integers(0, 20), max_size=40))
def test_the_longest_waits_are_the_longest(waits):
    overview = overview_of(facts(at, longest_wait=wait) for at, wait in enumerate(waits))
    found = [each.seconds for each in overview.waits]
    assert found == sorted(filter(None, waits), reverse=True)[:10]


@settings(max_examples=examples(30))
@given(st.lists(st.text(max_size=3), max_size=200), st.sampled_from([None, "", "soon", "2025-13-01T99"]))
def test_statuses_and_times_that_make_no_sense_are_counted_in_flat_memory(statuses, time):
    overview = overview_of(facts(status=each, start_time=time) for each in statuses)
    assert overview.statuses.total() == overview.undated == len(statuses)
    assert len(overview.statuses) <= 51
    assert overview.timeline() == ("day", [])


def test_the_week_is_counted_in_utc_from_monday():
    overview = overview_of(
        [facts(start_time="2025-11-10T00:59:59Z"), facts(start_time="2025-11-16T23:00:00Z")]
    )
    assert (overview.week[0][0], overview.week[6][23]) == (1, 1)
    assert (overview.first, overview.last) == ("2025-11-10T00:59:59Z", "2025-11-16T23:00:00Z")
