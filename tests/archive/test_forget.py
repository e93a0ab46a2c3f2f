"""Sessions that are forgotten leave nothing but a hash, in whatever a database keeps on the disk."""

from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta, timezone

import asyncpg
import pytest
from canaries import NUMBERS, bytes_of, lived_with_canaries, numbers_found, told
from feed_copies import Copy, assert_same, copy_of
from postgres_box import new_schema
from store_rows import asked, begin, everything, fetched, journal, lived, session

from navtalk_async.archive import Archive
from navtalk_async.archive._forget import digest_of
from navtalk_async.archive.records import FailedSession, RunReport
from navtalk_async.errors import StoreError, StoreMismatch

GONE = {NUMBERS[each] for each in (1, 2, 5, 6, 7, 20)}
EVERY = set(NUMBERS)


async def test_a_forgotten_session_is_in_no_byte_of_the_archive(new_place):
    place = await new_place()
    async with Archive.open(place) as store:
        if store.path is not None:
            # As SQLite is built elsewhere: then what was edited and deleted stands on in free space.
            store._driver._connection.execute("PRAGMA secure_delete = OFF")
        await lived_with_canaries(store)
        before = {each.session.id: each for each in await everything(store)}
    # Statistics of columns hold texts, too.
    await asked(place, "ANALYZE")
    assert numbers_found(await bytes_of(place)).keys() == EVERY
    async with Archive.open(place) as store:
        found = await store.forget(sessions=[told(each).id for each in GONE])
        assert found.left == []
        assert sorted(found.sessions) == sorted(told(each).id for each in GONE)
        assert found.messages == sum(len(before[each].messages) for each in found.sessions)
        found = numbers_found(await bytes_of(place))
        assert {number: found[number] for number in found.keys() & GONE} == {}
        # And what is not forgotten is as it was.
        after = {each.session.id: each for each in await everything(store)}
        assert after == {name: each for name, each in before.items() if int(name[:8], 16) not in GONE}
        assert await store.flaws() == []
        assert await store.remains("default") == []
    assert numbers_found(await bytes_of(place)).keys() == EVERY - GONE


async def filled(store, project="default"):
    """Sessions of two users, a minute apart."""
    await begin(store, project)
    some = [session(number, started=f"2025-11-12 18:{number:02}:00") for number in range(6)]
    await journal(store, *some, project=project)
    await store.save_messages(project, [fetched(each, number) for number, each in enumerate(some)])
    await asked(store.path, "UPDATE sessions SET user_id = 'ann' WHERE substr(id, 8, 1) IN ('1','3','5')")


async def numbers_in(store, project="default"):
    return [int(each.session.id[:8], 16) for each in await everything(store, project)]


AT = datetime(2025, 11, 12, 18, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("criterion", "left"),
    [
        ({"user": "ann"}, [0, 2, 4]),
        ({"user": "nobody"}, [0, 1, 2, 3, 4, 5]),
        ({"before": AT}, [2, 3, 4, 5]),
        ({"before": AT + timedelta(microseconds=1)}, [3, 4, 5]),
        ({"before": AT.astimezone(timezone(timedelta(hours=5)))}, [2, 3, 4, 5]),
        ({"before": "2025-11-12T18:02:00Z"}, [2, 3, 4, 5]),
        ({"before": date(2025, 11, 13)}, []),
        ({"sessions": session(3).id}, [0, 1, 2, 4, 5]),
        ({"sessions": [session(3).id, "another"]}, [0, 1, 2, 4, 5]),
    ],
)
async def test_what_is_forgotten_is_chosen_in_every_project_or_one(tmp_path, criterion, left):
    async with Archive.open(tmp_path / "a.db") as store:
        await filled(store)
        await filled(store, "second")
        would = await store.forget("second", **criterion, dry_run=True)
        assert await numbers_in(store, "second") == [0, 1, 2, 3, 4, 5]
        assert await store.forget("second", **criterion) == would
        assert len(would.sessions) == would.messages == 6 - len(left)
        assert (await numbers_in(store), await numbers_in(store, "second")) == ([0, 1, 2, 3, 4, 5], left)
        await store.forget(**criterion)
        assert await numbers_in(store) == left
        assert await store.flaws("second") == []


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"user": "ann", "before": AT},
        {"before": datetime(2025, 1, 1)},
        {"before": "soon"},
        {"user": ""},
        {"sessions": [""]},
        {"sessions": [7]},
    ],
)
async def test_what_cannot_be_right_is_refused(tmp_path, wrong):
    async with Archive.open(tmp_path / "a.db") as store:
        await filled(store)
        with pytest.raises(ValueError, match=r"Give one|text|before="):
            await store.forget(**wrong)
        with pytest.raises(StoreMismatch, match="no project 'other'"):
            await store.forget("other", user="ann")
        assert len(await numbers_in(store)) == 6
    async with Archive.open(tmp_path / "a.db", read_only=True) as store:
        with pytest.raises(StoreError, match="read only"):
            await store.forget(user="ann")


async def test_nothing_of_a_forgotten_session_is_written_again(new_place):
    async with Archive.open(await new_place()) as store:
        await lived(store, "default")
        one = session(1, video_url="new")
        await store.forget(sessions=[one.id])
        # A run may be in the midst of it.
        found = await journal(store, one, session(7), seen=[one.id])
        assert ([each.session.id for each in found.inserted], found.forgotten) == ([session(7).id], 1)
        assert [each.id for each in found.to_fetch] == [session(7).id]
        await store.save_messages("default", [fetched(one, 1, 2), fetched(session(7), 8)])
        await store.record_failures("default", [FailedSession(one.id, "ServerError: 500", 8)])
        await store.refetch("default", [one.id])
        assert await store.mark_deleted("default", one.id) is None
        assert await store.lacks("default", [one.id, session(9).id]) == [session(9).id]
        assert await store.remains("default") == []
        assert await store.flaws() == []
        assert await numbers_in(store) == [2, 3, 7]


async def test_a_reader_of_changes_is_told_what_to_forget(new_place):
    place = await new_place()
    async with Archive.open(place) as store:
        await lived(store, "default")
        await lived(store, "other")
        copy, token = Copy(), None
        async with store.changes() as batches:
            async for batch in batches:
                token = batch.token
                for each in batch.changes:
                    copy.put(each)
        await store.forget("default", sessions=[session(1, video_url="new").id])
        await store.forget("default", sessions=["never seen"])
        told = []
        async with store.changes(token, limit=1) as batches:
            async for batch in batches:
                told += batch.changes
                assert [each async for each in batch.transcripts()] == []
        [change] = told
        assert (change.what, change.session.project) == ("forgotten", "default")
        forgotten = [key for key in copy.sessions if key[0] == "default" and change.is_of(key[1])]
        assert forgotten == [("default", session(1).id)]
        if store.path is None:
            # The statement of README.
            named = f"'{change.salt}' || ':' || project || ':' || id"
            found = "SELECT id FROM sessions WHERE encode(sha256(convert_to({}, 'UTF8')), 'hex') = '{}'"
            name = digest_of(change.salt, "other", session(2).id)
            assert await asked(place, found.format(named, name)) == [(session(2).id,)]
        copy.forget("default", change)
        assert_same(copy, copy_of([*await everything(store), *await everything(store, "other")]))
        async with store.changes(change.token) as batches:
            assert [batch async for batch in batches] == []


async def test_what_is_noted_of_a_run_is_read_whatever_the_ids_are(new_place):
    async with Archive.open(await new_place()) as store:
        await lived(store, "default")
        await store.record_run("default", RunReport(error='about a/ä"b and a%2F%C3%A4%22b', inserted=10))
        await store.forget(sessions=["error", "1", 'a/ä"b', "}"])
        [about] = await store.projects()
        assert (about.last_run.error, about.last_run.inserted) == ("about [forgotten] and [forgotten]", 10)


async def test_a_consumer_beside_it_acknowledges_on_and_its_place_names_nobody(new_place):
    place = await new_place()
    async with Archive.open(place) as store:
        await lived(store, "default")
        told = []
        async with store.consume("warehouse", limit=1) as batches:
            async for batch in batches:
                await batch.ack()
                [change] = batch.changes
                if not told:
                    await store.forget(sessions=[change.session.id])
                told.append(change)
        assert told[-1].what == "forgotten"
        assert told[-1].is_of(told[0].session.id)
        [info] = await store.consumers()
        assert info.behind == 0
        assert session(3).id in {each.session.id for each in told}


async def test_a_reader_that_holds_the_texts_is_named_and_the_same_again_erases_them(new_place):
    place = await new_place()
    async with Archive.open(place) as store:
        numbers = range(70_101, 70_105)
        await lived_with_canaries(store, numbers=numbers)
        async with aclosing(store.transcript_batches()) as reading:
            await anext(reading)
            found = await store.forget(sessions=[told(70_103).id])
            assert "forget the same again" in found.left[0]
            assert len(found.sessions) == 1
            assert len(await store.remains("default")) == 1
        found = await store.forget(sessions=[told(70_103).id])
        assert (found.sessions, found.left) == ([], [])
        assert await store.remains("default") == []
        assert numbers_found(await bytes_of(place), numbers).keys() == {70_101, 70_102, 70_104}


async def test_a_snapshot_that_holds_no_lock_keeps_rows_all_the_same(postgres):
    place = await new_schema(postgres)
    async with Archive.open(place) as store:
        await lived(store, "default")
        other = await asyncpg.connect(place)
        await other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        assert "as it was before" in (await store.forget(sessions=session(3).id)).left[0]
        assert len(await store.remains("default")) == 1
        await other.close()
        assert (await store.forget(sessions=session(3).id)).left == []
        assert await store.remains("default") == []
