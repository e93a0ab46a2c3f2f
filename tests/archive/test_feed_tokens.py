"""Tokens where they do not belong, and what they still say of sessions that went and came back."""

import shutil
import sqlite3
from contextlib import closing

import pytest
from store_rows import begin, fetched, journal, session

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession
from navtalk_async.errors import StoreMismatch


async def kept(store, *numbers):
    await begin(store)
    await journal(store, *map(session, numbers))
    await store.save_messages("default", [fetched(session(number), number) for number in numbers])


async def behind(store, token):
    async with store.changes(token) as batches:
        return {change.session.id async for batch in batches for change in batch.changes}


@pytest.mark.parametrize("further", [[], [7], [7, 8, 9, 10]])
async def test_a_token_of_commits_that_a_restored_copy_lost_is_refused_whatever_came_since(tmp_path, further):
    place, copy = tmp_path / "archive.db", tmp_path / "copy.db"
    async with Archive.open(place) as store:
        await kept(store, 1, 2)
        before = await store.latest_token()
    shutil.copy(place, copy)
    async with Archive.open(place) as store:
        for number in (3, 4, 5):
            await kept(store, number)
        lost = await store.latest_token()
        assert await behind(store, before) == {session(number).id for number in (3, 4, 5)}
    shutil.copy(copy, place)
    async with Archive.open(place) as store:
        for number in further:
            await kept(store, number)
        with pytest.raises(StoreMismatch, match="as after an older copy was restored"):
            await behind(store, lost)
        with pytest.raises(StoreMismatch, match="as after an older copy was restored"):
            await store.transcript(session(1).id, as_of=lost)
        assert await behind(store, before) == {session(number).id for number in further}


async def test_what_came_and_went_while_a_reader_was_away_is_gone_for_it(place):
    async with Archive.open(place) as store:
        await kept(store, 1, 2)
        token = await store.latest_token()
        await store.save_messages("default", [fetched(session(1), 1, 5)])
        async with store.changes(token) as batches:
            [first] = [change async for batch in batches for change in batch.changes]
        await store.save_messages("default", [fetched(session(1), 1)])
        async with store.changes(token) as batches:
            [second] = [change async for batch in batches for change in batch.changes]
    # It may have stored the first, and have stopped before it stored its token.
    assert first.new == second.gone
    assert (second.what, second.new, second.changed) == ("changed", [], [])


async def given(store, name):
    async with store.consume(name) as batches:
        return {
            change.session.id async for batch in batches for change in batch.changes if await acked(batch)
        }


async def acked(batch):
    await batch.ack()
    return True


async def test_a_consumer_that_is_ahead_of_a_restored_copy_begins_anew_once_it_is_dropped(tmp_path):
    place, copy = tmp_path / "archive.db", tmp_path / "copy.db"
    async with Archive.open(place) as store:
        await kept(store, 1, 2)
        await given(store, "copy")
    shutil.copy(place, copy)
    async with Archive.open(place) as store:
        await kept(store, 3)
        await given(store, "copy")
        [before] = await store._rows("SELECT token FROM sync_consumers")
    shutil.copy(copy, place)
    async with Archive.open(place) as store:
        assert await given(store, "copy") == set()
        with closing(sqlite3.connect(place)) as db, db:
            db.execute("UPDATE sync_consumers SET token = ?", before)
        with pytest.raises(StoreMismatch, match="Drop it, and it begins anew"):
            await given(store, "copy")
        [consumer] = await store.consumers()
        assert consumer.behind == 2
        await store.drop_consumer("copy")
        assert await given(store, "copy") == {session(1).id, session(2).id}


async def test_a_token_of_one_project_does_not_skip_the_others(place):
    async with Archive.open(place) as store:
        await kept(store, 1)
        async with store.changes(project="default") as batches:
            [token] = [batch.token async for batch in batches]
        with pytest.raises(StoreMismatch, match="pass project='default' with it"):
            await behind(store, token)
        async with store.changes(token, project="default") as batches:
            assert [batch async for batch in batches] == []
        async with store.changes(await store.latest_token(), project="default") as batches:
            assert [batch async for batch in batches] == []
        assert (await store.transcript(session(1).id, as_of=token)).messages


async def test_an_empty_session_that_came_back_is_there_as_of_before_it_was_gone(place):
    async with Archive.open(place) as store:
        nothing = await store.latest_token()
        await kept(store, 2)
        await journal(store, session(1))
        await store.save_messages("default", [fetched(session(1))])
        before = await store.latest_token()
        await store.mark_deleted("default", session(1).id)
        await journal(store, session(1), minutes=9)
        await store.save_messages("default", [fetched(session(1), minutes=9)])
        assert (await store.transcript(session(1).id, as_of=before)).messages == []
        assert await store.transcript(session(1).id, as_of=nothing) is None
        async with store.changes(before) as batches:
            assert [each.what async for batch in batches for each in batch.changes] == ["new"]


async def test_a_session_that_could_not_be_fetched_says_so_until_it_is(place):
    async with Archive.open(place) as store:
        await begin(store)
        await journal(store, session(1))
        token = await store.latest_token()
        for step in (
            store.record_failures("default", [FailedSession(session(1).id, "ServerError", 8)]),
            store.save_messages("default", [fetched(session(1), 1)]),
        ):
            await step
            async with store.changes(token) as batches:
                [change] = [each async for batch in batches for each in batch.changes]
            assert (change.what, change.has_failed) == ("new", not change.new)
