"""What every store promises."""

import asyncio
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from store_rows import (
    FURTHER,
    LATER,
    NOW,
    ROUND,
    RUN,
    asked,
    clock,
    everything,
    fetched,
    journal,
    message,
    session,
    wanted,
)

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive.failpoints import arm
from navtalk_async.archive.records import (
    FULL_PAGE,
    FailedSession,
    FetchResult,
    MessageCounts,
    Round,
    UnfollowedCursor,
)
from navtalk_async.archive.rows import digest, format_time, message_row, row_digest, session_row
from navtalk_async.errors import StoreError, StoreLocked, StoreMismatch

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.sampled_from(["", "0", "7", "-1", "007", '"', '"7"', "a\0", "voice", str(2**63)]) | texts
projects = map("project {}".format, count())


async def claim(store, project="default", *, api="navtalk", scope="{}", **how):
    return await store.begin(project, api=api, scope=scope, **how)


@pytest.fixture
async def place(new_place):
    return await new_place()


@pytest.fixture
async def store(place):
    async with Archive.open(place) as store:
        await claim(store)
        yield store


async def changes(store):
    return {about.project: about.changes for about in await store.projects()}["default"]


async def ids(store, project="default"):
    """The ids of the messages of the first session that is kept."""
    [first, *_] = await everything(store, project)
    assert [row.position for row in first.messages] == list(range(len(first.messages)))
    assert first.digest == digest(first.messages)
    assert first.row_digest == row_digest(first.session)
    return [int(row.id[:8], 16) for row in first.messages]


async def test_what_was_kept_comes_back_in_order(store):
    sessions = [session(number) for number in range(60)]
    await journal(store, *sessions)
    read = [fetched(each, *range(100 * n, 100 * n + 3)) for n, each in enumerate(sessions)]
    assert await store.save_messages("default", read) == MessageCounts(inserted=180)
    kept = await everything(store)
    assert [each.session.id for each in kept] == [each.id for each in sessions]
    assert [[row.position for row in each.messages] for each in kept] == [[0, 1, 2]] * 60


@pytest.mark.slow
@settings(max_examples=examples(40))
@given(st.lists(st.tuples(texts, words, words), max_size=5), texts, words | st.integers(-(2**70), 2**70))
async def test_everything_comes_back_as_it_was(store, said, title, status):
    project = next(projects)
    await claim(store, project)
    held = session(1, title=title)
    held = msgspec.structs.replace(
        held, status=status if isinstance(status, str) else type(held.status)(status)
    )
    said = [message(n, text, role=role, type=kind) for n, (text, role, kind) in enumerate(said)]
    for reading in (MessageCounts(inserted=len(said)), MessageCounts(same=len(said))):
        await journal(store, held, project=project)
        assert (
            await store.save_messages(project, [FetchResult(wanted(held), said, at=format_time(NOW))])
            == reading
        )
    [kept] = await everything(store, project)
    assert kept.session == session_row(project, "navtalk", held, clock().now)
    assert kept.messages == [message_row(project, held.id, n, each) for n, each in enumerate(said)]


@settings(max_examples=examples(20))
@given(st.lists(words, min_size=1, max_size=5, unique=True))
async def test_an_id_may_be_any_text(store, names):
    project = next(projects)
    await claim(store, project)
    sessions = [msgspec.structs.replace(session(1), id=name) for name in names]
    await journal(store, *sessions, project=project, seen=names)
    assert {each.id for each in (await claim(store, project)).pending} == set(names)
    said = [[msgspec.structs.replace(message(1), id=name + end) for end in "ab"] for name in names]
    read = [FetchResult(wanted(each), some) for each, some in zip(sessions, said, strict=True)]
    await store.save_messages(project, read)
    kept = {each.session.id: [row.id for row in each.messages] for each in await everything(store, project)}
    claimed = {row: name for name in names for row in (name + "a", name + "b")}
    assert {row: name for name, rows in kept.items() for row in rows} == claimed
    assert await store.missing(project, since=None) == []
    for name in names:
        assert await store.mark_deleted(project, name)
    assert (await store.counts(project)).deleted == len(names)


@pytest.mark.parametrize("status", [0, 1, 2, 7])
async def test_a_number_that_has_no_name_stays_a_number(store, status):
    await journal(store, session(1, status=status), session(2, status=5))
    [kept, _] = await everything(store)
    assert kept.session.status == {0: "active", 1: "completed", 2: "failed"}.get(status, status)


async def test_numbers_that_no_database_holds_are_kept_as_text(store):
    await journal(store, session(1, status=2**70))
    [kept] = await everything(store)
    assert kept.session.status == str(2**70)


async def test_transcripts_come_by_their_begin_and_then_by_the_bytes_of_their_ids(store):
    begins = [None, "2025-11-12 18:20:00", "2025-11-12 18:20:01"]
    expected = [
        msgspec.structs.replace(session(1), id=f"{name}{number}", start_time_text=begin)
        for number, begin in enumerate(begins)
        for name in "Bab\u00e4"
    ]
    expected = sorted(expected, key=lambda each: (each.start_time_text or "", each.id.encode()))
    await journal(store, *reversed(expected))
    assert [each.session.id for each in await everything(store)] == [each.id for each in expected]


async def test_transcripts_are_as_they_were_at_one_moment(store):
    sessions = [session(number) for number in range(60)]
    await journal(store, *sessions)
    walk = store.transcript_batches("default")
    got = await anext(walk)
    await store.save_messages("default", [fetched(each, n) for n, each in enumerate(sessions)])
    await store.mark_deleted("default", session(59).id)
    async for some in walk:
        got += some
    assert len(got) == 60
    assert [(each.messages, each.session.deleted_at) for each in got] == [([], None)] * 60


async def test_transcripts_may_be_left_early(store):
    await journal(store, *(session(number) for number in range(60)))
    walk = store.transcript_batches("default")
    await anext(walk)
    await walk.aclose()
    assert (await store.counts("default")).sessions == 60


async def test_an_archive_is_read_while_it_is_written_to(store, place):
    async with Archive.open(place, read_only=True) as reader:
        await journal(store, session(1))
        assert (await reader.counts("default")).pending == 1
        await store.save_messages("default", [fetched(session(1), 1)])
        assert (await reader.counts("default")).pending == 0
        assert await ids(reader) == [1]


async def test_an_archive_that_is_not_there_cannot_be_read(place):
    with pytest.raises(StoreError, match="no archive at"):
        async with Archive.open(place, read_only=True):
            pass


async def test_a_session_is_pending_from_its_journal_until_its_messages_are_kept(store):
    found = await journal(store, session(1), session(2))
    assert found.to_fetch == [wanted(session(1)), wanted(session(2))]
    await store.save_messages("default", [fetched(session(1))])
    assert (await claim(store)).pending == [wanted(session(2))]


async def test_the_round_and_its_places_are_kept_with_each_page(store):
    reached = Round(began=format_time(NOW), reached="2025-11-12T18:20:07Z")
    await journal(store, session(1), session(7), round=reached, places=[LATER])
    standing = await claim(store)
    assert (standing.places, standing.round, standing.watermark) == ([LATER], reached, None)
    await journal(store, session(7), round=reached, places=None)
    assert (await claim(store)).places == [LATER]
    await journal(store, session(7), round=reached)
    assert (await claim(store)).places == []


@pytest.mark.parametrize(
    ("reached", "watermarks"),
    [
        (["2025-11-12T18:20:07Z", "2025-11-12T18:20:08Z"], ["2025-11-12T18:20:07Z", "2025-11-12T18:20:08Z"]),
        (["2025-11-12T18:20:07Z", "2025-11-12T18:20:03Z"], ["2025-11-12T18:20:07Z"] * 2),
        (["2025-11-12T18:20:07Z", None], ["2025-11-12T18:20:07Z"] * 2),
        ([None, "2025-11-12T18:20:07Z"], [None, "2025-11-12T18:20:07Z"]),
        (["2099-01-01T00:00:00Z"], ["2026-01-01T00:00:00Z"]),
    ],
)
async def test_the_watermark_is_the_latest_begin_that_a_round_reached_and_never_goes_back(
    store, reached, watermarks
):
    for number, (each, watermark) in enumerate(zip(reached, watermarks, strict=True), 1):
        await journal(store, session(1), places=[LATER])
        await store.finish("default", Round(began=format_time(NOW), reached=each), RUN)
        standing = await claim(store)
        assert (standing.watermark, standing.round, standing.places) == (watermark, None, [])
        [about] = await store.projects()
        assert (about.rounds, about.watermark, about.last_run) == (number, watermark, RUN)


async def test_a_session_that_changed_while_it_was_fetched_is_fetched_again(store):
    before, after = session(1, status=0, ended=None), session(1)
    await journal(store, before)
    assert (await journal(store, after)).to_fetch == [wanted(after)]
    await store.save_messages("default", [fetched(before, 1)])
    assert (await claim(store)).pending == [wanted(after)]


async def test_two_readings_of_a_session_that_end_at_once_are_kept_one_after_the_other(store):
    before, after = session(1, status=0, ended=None), session(1)
    await journal(store, before)
    await journal(store, after)
    counts = await store.save_messages("default", [fetched(after, 1, 2, 3), fetched(after, 1, 2)])
    assert counts == MessageCounts(3, 0, 2, 1)
    assert await ids(store) == [1, 2]


async def said(store):
    """What each session says, by the ids of its messages."""
    return [[row.id for row in each.messages] for each in await everything(store)]


async def test_messages_of_two_sessions_may_have_the_same_ids(store):
    a, b = message(5).id, message(6).id
    await journal(store, session(1), session(2))
    await store.save_messages("default", [fetched(session(1), 5, 6), fetched(session(2), 5, 6)])
    assert await said(store) == [[a, b], [a, b]]
    await store.save_messages("default", [fetched(session(1), 6, minutes=1)])
    assert await said(store) == [[b], [a, b]]
    await store.save_messages("default", [fetched(session(2), minutes=1)])
    await store.save_messages("default", [fetched(session(1), 5, 6, minutes=2)])
    assert await said(store) == [[a, b], []]


async def test_a_project_of_which_nothing_came_is_not_bound_to_its_filters(store):
    await claim(store, "tried", scope='{"status":1}')
    await claim(store, "tried")


async def test_a_project_counts_as_listed_when_a_round_has_ended_and_no_other_began(store):
    listed = []
    for ends in (False, True, False):
        if ends:
            await store.finish("default", ROUND, RUN)
        else:
            await journal(store, session(1))
        listed.append((await store.counts("default")).listed)
    assert listed == [False, True, False]
    assert not (await store.counts("never heard of")).listed


async def test_a_round_that_compares_everything_begins_afresh(store):
    await journal(store, session(1), places=[LATER], seen=[session(1).id])
    standing = await claim(store, reconcile=True)
    assert (standing.round, standing.places) == (None, [])
    assert await store.missing("default", since=None) == [session(1).id]


async def test_a_round_that_compares_everything_is_gone_on_with(store):
    whole = Round(began=format_time(NOW), is_whole=True)
    await journal(store, session(1), places=[LATER], round=whole, seen=[session(1).id])
    standing = await claim(store, reconcile=True)
    assert (standing.round, standing.places) == (whole, [LATER])
    assert await store.missing("default", since=None) == []


async def test_a_call_that_is_cancelled_from_outside_leaves_the_store_as_well_as_ever(place):
    sessions = [session(n) for n in range(100)]
    for turns in range(20):
        async with Archive.open(place) as store:
            await claim(store)
            call = asyncio.create_task(journal(store, *sessions, seen=[each.id for each in sessions]))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert (await store.counts("default")).sessions in {0, 100}
            keeping = asyncio.create_task(
                store.save_messages("default", [fetched(session(1), *range(turns))])
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    async with Archive.open(place, read_only=True) as reader:
        assert (await reader.counts("default")).sessions == 100
        assert await reader.flaws("default") == []


async def test_many_tasks_may_ask_at_once(store):
    await asyncio.gather(*(journal(store, session(n)) for n in range(30)))
    await asyncio.gather(*(store.save_messages("default", [fetched(session(n), n)]) for n in range(30)))
    counts = await store.counts("default")
    assert (counts.sessions, counts.messages, counts.pending) == (30, 30, 0)


async def test_a_failed_session_is_pending_no_more_until_somebody_asks_for_it(store):
    await journal(store, session(1))
    for reason in ("ServerError: 500", "ServerError: 503"):
        await store.record_failures("default", [FailedSession(session(1).id, reason, 8)])
    assert ((await claim(store)).failed, (await claim(store)).pending) == (1, [])
    assert await store.failures("default") == [FailedSession(session(1).id, "ServerError: 503", 16)]
    standing = await claim(store, retry_failed=True)
    assert (standing.pending, standing.failed) == ([wanted(session(1))], 0)


async def test_a_vanished_session_stays_with_the_time_it_went_and_comes_back_if_it_does(store):
    await journal(store, session(1, ended=None))
    await store.save_messages("default", [fetched(session(1, ended=None), 1)])
    assert await store.mark_deleted("default", session(1).id)
    [gone] = await everything(store)
    assert (gone.session.deleted_at is not None, len(gone.messages)) == (True, 1)
    assert await store.mark_deleted("default", session(1).id)
    assert not await store.mark_deleted("default", session(2).id)
    assert await store.watched("default", fresh=clock(60).fresh) == []
    assert await store.missing("default", since=None) == []
    found = await journal(store, session(1, ended=None))
    [back] = await everything(store)
    assert (found.inserted, found.changed) == (0, 1)
    assert found.to_fetch == [wanted(session(1, ended=None), came_back=True)]
    assert back.session.deleted_at is None
    assert await store.watched("default", fresh=clock(60).fresh) == [session(1).id]


async def test_a_session_that_was_never_there_does_not_vanish(store):
    assert not await store.mark_deleted("default", session(1).id)


async def test_projects_do_not_see_each_other(store):
    await claim(store, "other", scope='{"status":1}')
    await journal(store, session(1))
    await journal(store, session(1), session(2), project="other")
    assert [(await store.counts(each)).sessions for each in ("default", "other")] == [1, 2]
    assert [each.project for each in await store.projects()] == ["default", "other"]


@pytest.mark.parametrize("other", [{"api": "kodey"}, {"scope": '{"status":1}'}])
async def test_another_api_or_other_filters_on_a_project_are_refused_and_change_nothing(store, other):
    await journal(store, session(1))
    await store.record_failures("default", [FailedSession(session(1).id, "ServerError: 500", 8)])
    with pytest.raises(StoreMismatch, match=r"is of the API|holds .*; you asked for"):
        await claim(store, **other, retry_failed=True)
    assert len(await store.failures("default")) == 1


async def test_the_filters_of_another_package_are_written_as_options(store):
    await journal(store, session(1))
    other = '{"role":1,"options":{"project_id":"p"},"others":{"team":"blue"}}'
    with pytest.raises(StoreMismatch, match="you asked for role='assistant' project_id='p' team='blue'"):
        await claim(store, scope=other)


async def test_a_second_writer_is_told_that_somebody_writes(place):
    async with Archive.open(place):
        with pytest.raises(StoreLocked, match="Another run"):
            async with Archive.open(place):
                pass
    async with Archive.open(place):
        pass


async def test_a_store_that_is_not_open_says_so(place):
    with pytest.raises(StoreError, match="async with"):
        await Archive.open(place).counts("default")


async def test_a_store_says_where_it_is(place):
    assert redacted(place) in repr(Archive.open(place))


# Unfollowed, watched, missing and deleted sessions.


async def test_a_cursor_that_was_not_followed_is_kept_until_it_is(store):
    await journal(store, session(1), session(2))
    await store.save_messages(
        "default", [fetched(session(n), 10 * n, 10 * n + 1, unfollowed=FURTHER) for n in (1, 2)]
    )
    left = [UnfollowedCursor(wanted(session(n)), FURTHER, 2) for n in (1, 2)]
    assert await store.unfollowed_cursors("default") == left
    assert (await store.counts("default")).unfollowed == 2
    await store.save_messages("default", [fetched(session(1), 12, first=2)])
    assert await store.unfollowed_cursors("default") == left[1:]
    assert await ids(store) == [10, 11, 12]


async def test_a_session_that_vanished_has_no_cursor_to_follow(store):
    await journal(store, session(1))
    await store.save_messages("default", [fetched(session(1), 5, unfollowed=FURTHER)])
    await store.mark_deleted("default", session(1).id)
    assert await store.unfollowed_cursors("default") == []


async def test_that_there_were_messages_behind_a_short_page_is_remembered(store):
    assert not (await claim(store)).short_pages_disproved
    await journal(store, session(1))
    await store.distrust_short_pages("default")
    assert (await claim(store)).short_pages_disproved


async def test_a_session_that_goes_on_is_read_again_in_every_round(store):
    going_on = session(1, ended=None)
    await journal(store, going_on, session(2))
    await store.save_messages("default", [fetched(going_on, 1), fetched(session(2))])
    for minutes in (10, 20):
        assert await store.watched("default", fresh=clock(minutes).fresh) == [going_on.id]
        found = await journal(store, going_on, session(2), minutes=minutes)
        assert (found.same, found.to_fetch) == (2, [wanted(going_on)])
        read = [fetched(going_on, *range(minutes), minutes=minutes)]
        await store.save_messages("default", read)
        assert await store.watched("default", fresh=format_time(NOW)) == []
    assert (await store.counts("default")).watched == 1


async def test_a_session_is_watched_until_it_has_been_final_and_read_after_it_settled(store):
    await journal(store, session(1, ended=None))
    await store.save_messages("default", [fetched(session(1, ended=None), 1)])
    ended = session(1, ended="2026-01-01 00:09:59")
    read = []
    for minutes in (10, 11, 12, 13):
        found = await journal(store, ended, minutes=minutes)
        read.append(len(found.to_fetch))
        await store.save_messages("default", [fetched(ended, 1, minutes=minutes)] * len(found.to_fetch))
    assert read == [1, 1, 1, 0]
    assert (await store.counts("default")).watched == 0


async def test_old_sessions_need_not_be_watched(store):
    await journal(store, session(1, ended=None), session(30, ended=None))
    await store.save_messages("default", [fetched(session(n, ended=None)) for n in (1, 30)])
    watched = await store.watched("default", fresh=clock(9).fresh, since="2025-11-12T18:20:30Z")
    assert watched == [session(30).id]


async def test_a_long_session_is_read_from_its_last_messages_on(store):
    going_on = session(1, ended=None)
    await journal(store, going_on)
    said = [
        message(n, created=f"2025-11-12 {18 + n // 3600}:{n // 60 % 60:02}:{n % 60:02}") for n in range(300)
    ]
    await store.save_messages("default", [FetchResult(wanted(going_on), said, at=format_time(NOW))])
    [again] = (await journal(store, going_on, minutes=10)).to_fetch
    assert again == wanted(going_on, since="2025-11-12T18:02:59Z")
    late = [*said[179:250], *said[251:], message(300, created="2025-11-12 18:06:00")]
    counts = await store.save_messages("default", [FetchResult(again, late, at=format_time(NOW))])
    assert counts == MessageCounts(inserted=1, changed=49, same=71, vanished=1)
    assert await ids(store) == [n for n in range(301) if n != 250]
    assert len(said) > FULL_PAGE


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE messages SET content = 'another' WHERE position = 7",
        "UPDATE messages SET created_at = NULL WHERE position = 7",
        "DELETE FROM messages WHERE position = 7",
        "DELETE FROM messages",
    ],
)
async def test_nothing_is_added_to_messages_that_are_damaged_but_all_are_read_again(store, place, harm):
    going_on = session(1, status=0, ended=None)
    said = [message(n, created=f"2025-11-12 18:{n // 60:02}:{n % 60:02}") for n in range(FULL_PAGE + 9)]
    await journal(store, going_on)
    await store.save_messages("default", [FetchResult(wanted(going_on), said, at=format_time(NOW))])
    await asked(place, harm)
    [again] = (await journal(store, going_on, minutes=10)).to_fetch
    since = again if again.since else wanted(going_on, since="2025-11-12T18:02:59Z")
    late = [*said[179:], message(300, created="2025-11-12 18:06:00")]
    assert (
        await store.save_messages("default", [FetchResult(since, late, at=format_time(NOW))])
        == MessageCounts()
    )
    assert (await store.counts("default")).pending == 1
    [whole] = (await journal(store, going_on, minutes=20)).to_fetch or [wanted(going_on)]
    assert whole.since is None
    await store.save_messages("default", [FetchResult(whole, [*said, late[-1]], at=format_time(NOW))])
    assert await ids(store) == [*range(FULL_PAGE + 9), 300]
    assert (await store.counts("default")).pending == 0


@pytest.mark.parametrize("name", ["a\0b", "a\0", "\0", "a"])
async def test_a_session_of_any_id_is_new_once(store, name):
    odd = msgspec.structs.replace(session(1), id=name)
    assert (await journal(store, odd, session(2))).inserted == 2
    await store.save_messages("default", [fetched(odd, 1), fetched(session(2), 2)])
    again = await journal(store, odd, session(2))
    assert (again.inserted, again.same, again.to_fetch) == (0, 2, [])
    counts = await store.save_messages("default", [fetched(odd, 1)])
    assert counts == MessageCounts(same=1)
    assert await store.contains("default", [name])


async def test_a_damaged_session_is_not_vouched_for_by_its_deletion(store, place):
    await journal(store, session(1), session(2))
    await asked(place, f"UPDATE sessions SET end_time = '2030-01-01T00:00:00Z' WHERE id = '{session(1).id}'")
    for each in (session(1), session(2)):
        assert await store.mark_deleted("default", each.id)
    damaged, sound = await everything(store)
    assert damaged.row_digest != row_digest(damaged.session)
    assert sound.row_digest == row_digest(sound.session)


async def test_what_is_missing_is_kept_began_since_and_was_not_listed(store):
    await journal(store, *(session(n) for n in range(5)), session(5, status=0), seen=[session(2).id])
    await store.mark_deleted("default", session(3).id)
    missing = [int(each[:8], 16) for each in await store.missing("default", since="2025-11-12T18:20:00Z")]
    assert missing == [1, 4, 5]
    assert [int(each[:8], 16) for each in await store.missing("default", since=None)] == [0, 1, 4, 5]


async def test_what_a_round_has_seen_is_forgotten_with_it(store):
    await journal(store, session(1), seen=[session(1).id, session(1).id])
    assert await store.missing("default", since=None) == []
    await store.finish("default", ROUND, RUN)
    assert await store.missing("default", since=None) == [session(1).id]


async def test_messages_that_are_gone_are_kept_apart(store, place):
    await journal(store, session(1))
    await store.save_messages("default", [fetched(session(1), 1, 2, 3)])
    counts = await store.save_messages("default", [fetched(session(1), 1, 3)])
    assert counts == MessageCounts(changed=1, same=1, vanished=1)
    assert await ids(store) == [1, 3]
    gone = await asked(place, "SELECT id, session_id, position, raw, reason FROM message_history")
    assert gone == [(message(2).id, session(1).id, 1, message(2).raw.decode(), "deleted")]


async def test_a_message_may_go_twice(store, place):
    await journal(store, session(1))
    for numbers in ([1, 2], [1], [1, 2], [1]):
        await store.save_messages("default", [fetched(session(1), *numbers)])
    assert await asked(place, "SELECT id, reason FROM message_history") == [(message(2).id, "deleted")] * 2


async def test_every_earlier_text_of_an_edited_message_is_kept(store, place):
    await journal(store, session(1))
    for content in ("a", "b", "b", "c"):
        said = [message(1, content), message(2)]
        await store.save_messages("default", [FetchResult(wanted(session(1)), said, at=format_time(NOW))])
    history = "SELECT content, reason FROM message_history ORDER BY change"
    assert await asked(place, history) == [("a", "edited"), ("b", "edited")]


async def test_a_message_that_only_moved_has_no_history(store, place):
    await journal(store, session(1))
    for numbers in ([1, 2], [2, 1]):
        await store.save_messages("default", [fetched(session(1), *numbers)])
    assert await ids(store) == [2, 1]
    assert await asked(place, "SELECT * FROM message_history") == []


async def test_each_row_tells_the_number_of_the_commit_that_wrote_it(store, place):
    await journal(store, session(1), session(2))
    first = await changes(store)
    await store.save_messages("default", [fetched(session(1), 1, 2)])
    second = await changes(store)
    await store.save_messages("default", [fetched(session(1), 1, 3)])
    third = await changes(store)
    await store.mark_deleted("default", session(2).id)
    assert first < second < third < await changes(store)
    sessions = await asked(place, "SELECT change FROM sessions ORDER BY id")
    messages = await asked(place, "SELECT change FROM messages ORDER BY position")
    assert sessions == [(first,), (await changes(store),)]
    assert messages == [(second,), (third,)]
    assert await asked(place, "SELECT change FROM message_history") == [(third,)]


async def test_sessions_that_are_held_are_known(store):
    await journal(store, *(session(n) for n in range(9)))
    assert set(await store.known_sessions()) == {session(0).id, session(8).id}
    assert await store.contains("default", [session(20).id, session(3).id])
    assert not await store.contains("default", [session(20).id])
    assert not await store.contains("default", [])


async def test_what_is_wrong_is_told_a_sentence_each(store, place):
    await journal(store, session(1), session(2), session(3))
    await store.save_messages("default", [fetched(session(1), 1)])
    assert await store.flaws("default") == []
    for statement in (
        f"DELETE FROM sessions WHERE id = '{session(1).id}'",
        f"DELETE FROM sync_sessions WHERE session_id = '{session(2).id}'",
    ):
        await asked(place, statement)
    assert [each.what for each in await store.flaws("default")] == [
        f"Messages of session {session(1).id} are kept, and the session is not.",
        f"Session {session(1).id} was kept, and is not there.",
        f"Nothing is known of how session {session(2).id} was kept.",
    ]


# What is written, and what is not.


async def test_a_run_that_was_ended_by_an_error_is_noted(store):
    await journal(store, session(1))
    run = msgspec.structs.replace(RUN, error="ServerError: 500 \0")
    await store.record_run("default", run)
    [about] = await store.projects()
    assert (about.last_run, about.rounds, about.round) == (run, 0, ROUND)


async def test_where_nothing_is_new_nothing_is_written_but_that_the_round_has_ended(store, place):
    sessions = [session(n) for n in range(30)]
    await journal(store, *sessions)
    await store.save_messages("default", [fetched(each, 2 * n, 2 * n + 1) for n, each in enumerate(sessions)])
    await store.finish("default", ROUND, RUN)
    rows, counted = await every_row(place), await changes(store)
    await claim(store)
    found = await journal(store, *sessions, quiet=True, minutes=10)
    assert (found.same, found.was_written, found.to_fetch) == (30, False, [])
    read = [fetched(each, 2 * n, 2 * n + 1, minutes=10) for n, each in enumerate(sessions)]
    assert await store.save_messages("default", read) == MessageCounts(same=60)
    assert (await every_row(place), await changes(store)) == (rows, counted)
    await store.finish("default", ROUND, RUN)
    assert {name for name, table in (await every_row(place)).items() if table != rows[name]} == {
        "sync_projects"
    }
    assert await changes(store) == counted + 1


TABLES = ("sessions", "messages", "message_history", "sync_projects", "sync_sessions", "sync_seen")


async def every_row(place):
    # A row of PostgreSQL that was written again has another xmin, whatever it holds.
    columns = "*" if isinstance(place, Path) else "xmin::text, *"
    return {name: sorted(await asked(place, f"SELECT {columns} FROM {name}"), key=repr) for name in TABLES}


async def test_a_page_that_is_new_in_part_touches_that_part(store, place):
    await journal(store, session(1), session(2))
    await store.save_messages("default", [fetched(session(1), 1, 2), fetched(session(2), 3)])
    before = await every_row(place)
    await journal(store, session(1), session(2, title="new"), session(3), quiet=True)
    after = await every_row(place)
    assert [row in after["sessions"] for row in before["sessions"]] == [True, False]
    assert after["messages"] == before["messages"]


async def lived(store, project):
    """A little of everything that a store is asked to write."""
    await claim(store, project)
    seen = [session(1).id]
    await journal(store, session(1, ended=None), session(2), project=project, places=[LATER], seen=seen)
    await store.save_messages(project, [fetched(session(1, ended=None), 1, 2, 3), fetched(session(2), 4)])
    await journal(store, session(1, video_url="new"), session(3), project=project)
    await store.save_messages(project, [fetched(session(1, video_url="new"), 1, 3, 5, minutes=3)])
    await store.record_failures(project, [FailedSession(session(3).id, "ServerError: 500", 8)])
    await store.distrust_short_pages(project)
    await store.mark_deleted(project, session(2).id)
    await claim(store, project, reconcile=True, retry_failed=True)
    await journal(store, project=project)
    await store.record_run(project, RUN)
    await store.finish(project, ROUND, RUN)


class Stop(Exception):
    """What a test raises where the process might end."""


@pytest.mark.slow
async def test_an_error_at_any_step_leaves_all_of_a_transaction_or_nothing(store, place):
    names = []
    with armed(names.append):
        await lived(store, "whole")
    # What another connection sees is what was committed; and nothing else is seen by the store's own.
    async with Archive.open(place, read_only=True) as reader:
        for name in dict.fromkeys(names):
            await stopped(store, reader, name)


async def stopped(store, reader, name):
    def reached(where):
        if where == name:
            raise Stop

    with armed(reached), pytest.raises(Stop):
        await lived(store, name)
    counts = await store.counts(name)
    assert (await reader.counts(name), await reader.flaws(name)) == (counts, [])
    await lived(store, name)
    assert await ids(store, name) == [1, 3, 5]


@contextmanager
def armed(reached):
    arm(reached)
    try:
        yield
    finally:
        arm(None)
