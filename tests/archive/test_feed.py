"""The change feed: whatever happens to an archive and to its readers, a copy by key equals the archive."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from feed_copies import Copy, assert_each_once, assert_exact, assert_same, copy_of
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from lives import PROJECTS, Life, acts, often
from profiles import examples
from store_rows import asked, everything, session

from navtalk_async.archive import Archive
from navtalk_async.archive._schema import COLUMNS
from navtalk_async.errors import StoreMismatch


@dataclass
class Reader:
    """A reader of changes that stores them, and every token it was given."""

    store: Archive
    copy: Copy = field(default_factory=Copy)
    tokens: list = field(default_factory=lambda: [None])

    async def read(self, limit, most=None, back=0):
        """Read at most so many batches behind the latest token, or the one so many before it."""
        given = []
        token = self.tokens[max(0, len(self.tokens) - 1 - back)]
        async with self.store.changes(token, limit=limit) as batches:
            async for batch in batches:
                assert 1 <= len(batch.changes) <= limit
                for each in batch.changes:
                    self.copy.put(each)
                    self.tokens.append(each.token)
                assert batch.token == self.tokens[-1]
                given += batch.changes
                if most is not None and (most := most - 1) <= 0:
                    break
        assert_each_once(given)
        return given


reads = st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from([0, 0, 0, 1, 2, 5, 20]))
"""The limit, the most batches or 0 for all of them, and so many tokens back."""


@pytest.fixture
async def empty(place):
    """`await empty()`: an archive without a row, each time it is called."""
    async with Archive.open(place) as store:

        async def emptied():
            for table in COLUMNS.keys() - {"sync_archive"}:
                await asked(place, f"DELETE FROM {table}")
            return store

        yield emptied


WITHOUT_SHRINKING = [Phase.explicit, Phase.generate]
"""Examples are small, and each takes its time."""

CRASHED = [
    (("new", 0, 0, 1), (2, 0, 0)),
    (("say", 0, 0, 2), (2, 0, 0)),
    (("unsay", 0, 0, 1), (2, 0, 1)),
]
"""A reader who goes on from an earlier token was given a message that came and went behind it."""

REFETCHED = [("new", 0, 0, 3), ("refetch", 0, 0, 3), ("fail", 0, 0, 1), ("say", 0, 0, 1)]


@settings(max_examples=examples(12), phases=WITHOUT_SHRINKING)
@example(steps=CRASHED)
@given(steps=st.lists(st.tuples(acts, st.none() | reads), min_size=3, max_size=20))
async def test_whatever_happens_a_copy_equals_the_archive(empty, steps):
    life, reader = Life(store := await empty()), Reader(store)
    await life.begin()
    for act, how in steps:
        await life.act(*act)
        if how is not None:
            limit, most, back = how
            await reader.read(limit, most or None, back)
    await reader.read(2)
    assert_same(reader.copy, await life.copy(), without=await life.pending())
    await life.finish()
    await reader.read(3)
    assert_same(reader.copy, await life.copy())
    assert await reader.read(1) == []


@settings(max_examples=examples(12), phases=WITHOUT_SHRINKING)
@example(steps=REFETCHED)
@given(steps=st.lists(acts, max_size=12))
async def test_a_reader_who_has_all_is_given_the_difference_and_nothing_else(empty, steps):
    life, reader = Life(store := await empty()), Reader(store)
    await life.begin()
    for act in steps:
        before = copy_of([])
        before.sessions, before.messages = dict(reader.copy.sessions), dict(reader.copy.messages)
        await life.act(*act)
        given, after = await reader.read(9), await life.copy()
        for change in given:
            assert_exact(change, before, after)
        assert_same(reader.copy, after, without=await life.pending())


async def test_any_of_300_rounds_is_rebuilt_by_its_token(store, place):
    # A trip to a server takes its time.
    rounds = 300 if isinstance(place, Path) else 50
    life, dice = Life(store), Random(300)
    await life.begin()
    key, taken = (PROJECTS[0], 0), []
    await life.new(key, 1)
    for _ in range(rounds):
        await getattr(life, dice.choice(often))(key, dice.randrange(6))
        [there] = await everything(store)
        taken.append((await store.latest_token(), there.messages))
    for token, messages in taken:
        found = await store.transcript(there.session.id, as_of=token)
        assert (found.session, found.messages) == (there.session, messages)


async def two_sessions(store):
    life = Life(store)
    await life.begin()
    for number in range(2):
        await life.new((PROJECTS[0], number), 1)
    return life


async def read_all(consumer):
    return [each.session.id async for batch in consumer for each in batch.changes]


async def test_a_batch_acknowledged_after_a_later_one_changes_nothing(store):
    await two_sessions(store)
    async with store.consume("it", limit=1) as batches:
        first, second = [batch async for batch in batches]
        await second.ack()
        await second.ack()
        await first.ack()
    async with store.consume("it") as batches:
        assert await read_all(batches) == []


@pytest.mark.parametrize("name", ["it's", '"', "{any}", "{0} {rows}", "%s ?", "$1", "; DROP TABLE sessions"])
async def test_a_consumer_of_any_name_goes_its_own_way_until_it_is_dropped(store, name):
    await two_sessions(store)
    async with store.consume("other", project=PROJECTS[0]) as batches:
        assert len(await read_all(batches)) == 2
    async with store.consume(name, limit=1) as batches:
        async for batch in batches:
            await batch.ack()
            break
    assert {each.name: each.behind for each in await store.consumers()} == {name: 1, "other": 2}
    await store.drop_consumer(name)
    with pytest.raises(StoreMismatch, match="has no consumer"):
        await store.drop_consumer(name)
    async with store.consume(name) as batches:
        assert len(await read_all(batches)) == 2


async def test_of_two_processes_that_read_as_one_the_slower_is_refused_and_nothing_is_lost(store, place):
    await two_sessions(store)
    async with (
        Archive.open(place, read_only=True) as other,
        store.consume("it", limit=1) as slow,
        other.consume("it") as fast,
    ):
        mine = await anext(slow)
        await (await anext(fast)).ack()
        with pytest.raises(StoreMismatch, match="another process reads as the same one"):
            await mine.ack()
        assert [each.behind for each in await store.consumers()] == [0]
        await store.drop_consumer("it")
        with pytest.raises(StoreMismatch, match="was dropped"):
            await mine.ack()
        assert await store.consumers() == []


async def test_a_token_that_is_damaged_is_refused_before_anything_is_read(store):
    await two_sessions(store)
    token = await store.latest_token()
    flipped = [
        token[:place] + other + token[place + 1 :]
        for place in range(len(token))
        for other in ("A", "_", " ", "\u00e9")
        if token[place] != other
    ]
    cut = [token[:length] for length in range(len(token))]
    for bad in [*flipped, *cut, f"{token}=", f"{token}\n", 7, b"", token.encode(), True]:
        with pytest.raises(ValueError, match="is no token"):
            store.changes(bad)
        with pytest.raises(ValueError, match="is no token"):
            await store.transcript("x", as_of=bad)


async def test_a_token_of_another_archive_is_refused(store, new_place):
    await two_sessions(store)
    async with Archive.open(await new_place()) as other:
        await two_sessions(other)
        with pytest.raises(StoreMismatch, match="of another archive"):
            await read_all_after(other, await store.latest_token())


async def read_all_after(store, token):
    async with store.changes(token) as batches:
        return await read_all(batches)


async def test_a_batch_gives_its_sessions_whole_as_they_are_by_now(store):
    life = await two_sessions(store)
    async with store.changes() as batches:
        batch = await anext(batches)
        await life.say((PROJECTS[0], 1), 5)
        assert [each async for each in batch.transcripts()] == await everything(store)


async def test_to_follow_is_cancelled_while_it_waits_and_leaves_nothing_behind(store, quiet_loop):
    await two_sessions(store)
    async with quiet_loop():
        seen = asyncio.Event()

        async def follow():
            async with store.consume("it", follow=True) as batches:
                async for batch in batches:
                    await batch.ack()
                    seen.set()

        task = asyncio.create_task(follow())
        await seen.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [each.behind for each in await store.consumers()] == [0]


async def test_a_follower_sees_each_commit_and_keeps_no_log_from_being_written_back(store, place):
    life = await two_sessions(store)
    async with (
        Archive.open(place, read_only=True) as other,
        other.consume("it", follow=True) as batches,
        store.changes(follow=True) as mine,
    ):
        for number in range(5):
            for reader in (batches, mine):
                batch = await anext(reader)
                assert batch.changes[-1].session.id == session(1).id
            # The writer waits for none of them.
            await life.say((PROJECTS[0], 1), 10 + number)
            await (await anext(batches)).ack()
            await life.say((PROJECTS[0], 1), 20 + number)
        if isinstance(place, Path):
            [(is_busy, pages, copied)] = await asked(place, "PRAGMA wal_checkpoint(TRUNCATE)")
            assert (is_busy, pages, copied) == (0, 0, 0)
