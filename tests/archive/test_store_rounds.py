"""How far a project has come: its rounds, and which sessions are pending, watched, missing or deleted."""

import msgspec
import pytest
from store_rows import (
    FURTHER,
    LATER,
    NOW,
    ROUND,
    RUN,
    asked,
    begin,
    clock,
    everything,
    fetched,
    ids,
    journal,
    message,
    session,
    wanted,
)

from navtalk_async.archive.records import (
    FULL_PAGE,
    FailedSession,
    FetchResult,
    MessageCounts,
    Round,
    UnfollowedCursor,
)
from navtalk_async.archive.rows import format_time, row_digest


async def test_a_session_is_pending_from_its_journal_until_its_messages_are_kept(store):
    found = await journal(store, session(1), session(2))
    assert found.to_fetch == [wanted(session(1)), wanted(session(2))]
    await store.save_messages("default", [fetched(session(1))])
    assert (await begin(store)).pending == [wanted(session(2))]


async def test_the_round_and_its_places_are_kept_with_each_page(store):
    reached = Round(began=format_time(NOW), reached="2025-11-12T18:20:07Z")
    await journal(store, session(1), session(7), round=reached, places=[LATER])
    standing = await begin(store)
    assert (standing.places, standing.round, standing.watermark) == ([LATER], reached, None)
    await journal(store, session(7), round=reached, places=None)
    assert (await begin(store)).places == [LATER]
    await journal(store, session(7), round=reached)
    assert (await begin(store)).places == []


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
        standing = await begin(store)
        assert (standing.watermark, standing.round, standing.places) == (watermark, None, [])
        [about] = await store.projects()
        assert (about.rounds, about.watermark, about.last_run) == (number, watermark, RUN)


async def test_a_session_that_changed_while_it_was_fetched_is_fetched_again(store):
    before, after = session(1, status=0, ended=None), session(1)
    await journal(store, before)
    assert (await journal(store, after)).to_fetch == [wanted(after)]
    await store.save_messages("default", [fetched(before, 1)])
    assert (await begin(store)).pending == [wanted(after)]


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
    await begin(store, "tried", scope='{"status":1}')
    await begin(store, "tried")


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
    standing = await begin(store, reconcile=True)
    assert (standing.round, standing.places) == (None, [])
    assert await store.missing("default", since=None) == [session(1).id]


async def test_a_round_that_compares_everything_is_gone_on_with(store):
    whole = Round(began=format_time(NOW), is_whole=True)
    await journal(store, session(1), places=[LATER], round=whole, seen=[session(1).id])
    standing = await begin(store, reconcile=True)
    assert (standing.round, standing.places) == (whole, [LATER])
    assert await store.missing("default", since=None) == []


async def test_a_failed_session_is_pending_no_more_until_somebody_asks_for_it(store):
    await journal(store, session(1))
    for reason in ("ServerError: 500", "ServerError: 503"):
        await store.record_failures("default", [FailedSession(session(1).id, reason, 8)])
    assert ((await begin(store)).failed, (await begin(store)).pending) == (1, [])
    assert await store.failures("default") == [FailedSession(session(1).id, "ServerError: 503", 16)]
    standing = await begin(store, retry_failed=True)
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
    assert (len(found.inserted), len(found.changed)) == (0, 1)
    assert found.to_fetch == [wanted(session(1, ended=None), came_back=True)]
    assert back.session.deleted_at is None
    assert await store.watched("default", fresh=clock(60).fresh) == [session(1).id]


async def test_a_session_that_was_never_there_does_not_vanish(store):
    assert not await store.mark_deleted("default", session(1).id)


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
    assert not (await begin(store)).short_pages_disproved
    await journal(store, session(1))
    await store.distrust_short_pages("default")
    assert (await begin(store)).short_pages_disproved


async def test_a_session_that_goes_on_is_read_again_in_every_round(store):
    going_on = session(1, ended=None)
    await journal(store, going_on, session(2))
    await store.save_messages("default", [fetched(going_on, 1), fetched(session(2))])
    for minutes in (10, 20):
        assert await store.watched("default", fresh=clock(minutes).fresh) == [going_on.id]
        found = await journal(store, going_on, session(2), minutes=minutes)
        assert (len(found.same), found.to_fetch) == (2, [wanted(going_on)])
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
    assert len((await journal(store, odd, session(2))).inserted) == 2
    await store.save_messages("default", [fetched(odd, 1), fetched(session(2), 2)])
    again = await journal(store, odd, session(2))
    assert (again.inserted, len(again.same), again.to_fetch) == ([], 2, [])
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


async def test_a_few_sessions_that_are_kept_are_known(store):
    await journal(store, *(session(n) for n in range(9)))
    assert set(await store.known_sessions()) == {session(0).id, session(8).id}
    assert await store.contains("default", [session(20).id, session(3).id])
    assert not await store.contains("default", [session(20).id])
    assert not await store.contains("default", [])


async def test_each_flaw_is_a_sentence(store, place):
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
