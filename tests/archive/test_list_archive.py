"""Lists of sessions, and pages of transcripts, as they are read: those of a plain sort of everything."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from store_rows import begin, fetched, journal, session

from navtalk_async.archive import Archive
from navtalk_async.archive.listing import COLUMNS, SessionFilter

BEGIN = datetime(2025, 11, 10, tzinfo=UTC)
TITLES = [None, "Bills", "bills 100%", "a_b", "Äpfel", "NUL \0", ""]
LIVES = st.lists(
    st.tuples(
        st.none() | st.integers(0, 5),
        st.none() | st.integers(0, 300),
        st.sampled_from(TITLES),
        st.integers(0, 3),
        st.sampled_from([0, 1, 7]),
    ),
    max_size=12,
)


def text(seconds):
    return None if seconds is None else (BEGIN + timedelta(hours=seconds)).strftime("%Y-%m-%d %H:%M:%S")


async def fill(store, lives):
    await begin(store)
    for number, (started, lasted, title, messages, status) in enumerate(lives):
        ended = None if started is None or lasted is None else text(started + lasted / 60)
        kept = session(number, ended=ended, title=title, status=status)
        # No API of ours leaves a start out of some sessions only.
        kept = type(kept)(
            **{**{n: getattr(kept, n) for n in kept.__struct_fields__}, "start_time_text": text(started)}
        )
        await journal(store, kept)
        await store.save_messages("default", [fetched(kept, *range(messages))])


def value(row, count, order):
    start, end = (
        None if each is None else datetime.fromisoformat(each) for each in (row.start_time, row.end_time)
    )
    lasted = None if start is None or end is None else (end - start).total_seconds()
    return {
        "started": row.start_time,
        "status": row.status,
        "user": None,
        "messages": count,
        "lasted": lasted,
    }[order]


@settings(max_examples=examples(6))
@given(
    lives=LIVES,
    first=st.integers(0, 5),
    count=st.integers(1, 5),
    newest=st.booleans(),
    status=st.sampled_from([None, "completed", 7]),
)
async def test_a_page_is_a_part_of_everything_in_order(  # noqa: PLR0917 - each is drawn
    new_place, lives, first, count, newest, status
):
    async with Archive.open(await new_place()) as store:
        await fill(store, lives)
        every = [(each.session, len(each.messages)) async for each in store.transcripts()]
        every = [each for each in every if status in (None, each[0].status)]
        only = SessionFilter(project="default", status=status)
        listed = [each async for batch in store.list_sessions(only, newest=newest) for each in batch]
        assert sorted(each[0].id for each in listed) == sorted(each[0].id for each in every)
        for order in sorted(COLUMNS.keys() - {"title", "status"}):
            page = await store.session_page(only, order, newest=newest, first=first, count=count)
            assert page.total == len(every)
            values = [value(*each, order) for each in every]
            known = sorted((each for each in values if each is not None), reverse=newest)
            unknown = [None] * (len(values) - len(known))
            ordered = [*unknown, *known] if order == "started" and not newest else [*known, *unknown]
            assert [value(*each, order) for each in page.rows] == ordered[first : first + count]
            if order == "started":
                assert page.rows == listed[first : first + count]


@pytest.mark.parametrize(
    "words", [["bill"], ["BILLS", "100%"], ["%"], ["_"], ["2025-11-10"], ["\\"], ["NUL \0"], []]
)
async def test_words_are_found_in_titles_ids_and_days(new_place, words):
    async with Archive.open(await new_place()) as store:
        lives = [(at, 1, title, 0, 1) for at, title in enumerate(TITLES)]
        await fill(store, lives)
        page = await store.session_page(SessionFilter(words=words))
        every = [each.session async for each in store.transcripts()]
    assert {row.id for row, _ in page.rows} == {
        row.id
        for row in every
        if all(
            any(w.lower() in (each or "").lower() for each in (row.title, row.id, row.start_time))
            for w in words
        )
    }


@settings(max_examples=examples(6))
@given(lives=LIVES.filter(bool), first=st.integers(0, 4), count=st.integers(1, 4), data=st.data())
async def test_a_page_of_a_transcript_knows_what_is_around_it(new_place, lives, first, count, data):
    async with Archive.open(await new_place()) as store:
        await fill(store, lives)
        every = [each async for each in store.transcripts()]
        at = data.draw(st.integers(0, len(every) - 1))
        kept = every[at]
        page = await store.transcript_page(kept.session.id, first=first, count=count)
        assert await store.transcript_page("none") is None
    assert (page.session, page.total) == (kept.session, len(kept.messages))
    assert page.messages == kept.messages[first : first + count]
    before = kept.messages[first - 1].created_at if 0 < first <= len(kept.messages) else None
    assert page.before == before
    same = [
        each.session
        for each in every
        if (each.session.start_time is None) == (kept.session.start_time is None)
    ]
    place = same.index(kept.session)
    around = [None, *same, None]
    assert (page.earlier, page.later) == (around[place], around[place + 2])


async def test_times_within_a_second_are_bounded_to_the_second(new_place):
    starts = ["2025-11-10 00:00:00", "2025-11-10T00:00:00.5Z", "2025-11-10 00:00:01"]
    async with Archive.open(await new_place()) as store:
        await begin(store)
        for number, start in enumerate(starts):
            await journal(store, session(number, started=start))
        later = await store.session_page(SessionFilter(start_time=BEGIN))
        sooner = await store.session_page(SessionFilter(end_time=BEGIN))
        both = await store.session_page(
            SessionFilter(start_time=BEGIN, end_time=BEGIN + timedelta(seconds=1))
        )
    assert (later.total, sooner.total, both.total) == (3, 1, 3)
