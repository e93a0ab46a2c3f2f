"""What an archive writes: only what is new, all of a transaction or nothing, and what it replaces."""

from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from store_rows import (
    LATER,
    NOW,
    ROUND,
    RUN,
    asked,
    begin,
    changes,
    fetched,
    ids,
    journal,
    lived,
    message,
    session,
    wanted,
)

from navtalk_async.archive import Archive
from navtalk_async.archive.failpoints import arm
from navtalk_async.archive.records import (
    FailedSession,
    FetchResult,
    MessageCounts,
)
from navtalk_async.archive.rows import format_time


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


async def test_a_run_that_was_ended_by_an_error_is_noted(store):
    await journal(store, session(1))
    run = msgspec.structs.replace(RUN, error="ServerError: 500 \0")
    await store.record_run("default", run)
    [about] = await store.projects()
    assert (about.last_run, about.rounds, about.round) == (run, 0, ROUND)


async def test_where_nothing_is_new_nothing_is_written(store, place):
    sessions = [session(n) for n in range(30)]
    await journal(store, *sessions)
    await store.save_messages("default", [fetched(each, 2 * n, 2 * n + 1) for n, each in enumerate(sessions)])
    await store.finish("default", ROUND, RUN)
    rows, counted = await every_row(place), await changes(store)
    await begin(store)
    found = await journal(store, *sessions, quiet=True, minutes=10)
    assert (len(found.same), found.was_written, found.to_fetch) == (30, False, [])
    read = [fetched(each, 2 * n, 2 * n + 1, minutes=10) for n, each in enumerate(sessions)]
    assert await store.save_messages("default", read) == MessageCounts(same=60)
    await store.finish("default", ROUND, RUN)
    assert (await every_row(place), await changes(store)) == (rows, counted)


async def nothing(_store):
    pass


async def stopped(store):
    await store.record_run("default", msgspec.structs.replace(RUN, error="stopped"))


async def killed(store):
    await store.record_run("default", msgspec.structs.replace(RUN, ended_at=None))


async def listed(store):
    await journal(store, session(1), places=[LATER])


async def failed(store):
    await store.record_failures("default", [FailedSession(session(1).id, "ServerError: 500", 8)])


WORTH_RECORDING = {
    "the first round": (nothing, nothing, ROUND, True),
    "an error before": (stopped, nothing, ROUND, False),
    "a kill before": (killed, nothing, ROUND, False),
    "a round that was open": (listed, nothing, ROUND, False),
    "a page with news": (nothing, listed, ROUND, False),
    "a session that failed": (nothing, failed, ROUND, False),
    "a failed session that is tried again": (failed, nothing, ROUND, False),
    "a later watermark": (nothing, nothing, msgspec.structs.replace(ROUND, reached=ROUND.began), False),
}


@pytest.mark.parametrize(
    ("before", "meanwhile", "round_", "is_first"), WORTH_RECORDING.values(), ids=WORTH_RECORDING
)
async def test_a_round_with_something_to_say_is_recorded_once(store, before, meanwhile, round_, is_first):
    await begin(store)
    if not is_first:
        await store.finish("default", ROUND, RUN)
    await before(store)
    run, recorded = msgspec.structs.replace(RUN, inserted=7), []
    for is_again in (False, True):
        await begin(store, retry_failed=not is_again)
        await (nothing if is_again else meanwhile)(store)
        counted = await changes(store)
        await store.finish("default", round_, run)
        recorded.append(await changes(store) - counted)
    [about] = await store.projects()
    assert (recorded, about.last_run, about.rounds) == ([1, 0], run, 2 - is_first)
    assert about.watermark == round_.reached


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
