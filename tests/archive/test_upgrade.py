"""An archive of an earlier version opens, is synced on, and is as if it had always been of this one."""

import pytest
from earlier_schemas import downgrade
from feed_copies import Copy, assert_same, copy_of, told
from store_rows import asked, begin, everything, fetched, ids, journal, lived, message, session, wanted

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FetchResult
from navtalk_async.archive.rows import damage, row_digest
from navtalk_async.dialects.kodey import Kodey
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.errors import StoreMismatch


async def copied(store, copy, token):
    """*copy* with what changed since *token*, and the token to go on from; None if nothing did."""
    after = None
    async with store.changes(token, limit=10**30) as batches:
        async for batch in batches:
            for each in batch.changes:
                copy.put(each)
            after = batch.token
    return copy, after


@pytest.mark.parametrize("version", [3, 4, 5, 7])
async def test_an_archive_of_an_earlier_version_opens_and_is_synced_on(new_place, version):
    place = await new_place()
    async with Archive.open(place) as store:
        await lived(store, "default")
        before = await everything(store)
        about = await store.projects()
    await downgrade(place, version)
    with pytest.raises(StoreMismatch, match="older version; `navtalk sync"):
        async with Archive.open(place, read_only=True):
            pass
    async with Archive.open(place) as store:
        after = await everything(store)
        copy, token = await copied(store, Copy(), None)
        # The third was never fetched.
        assert_same(copy, copy_of(after), without=[("default", each) for each in await store.pending()])
        assert await copied(store, copy, token) == (copy, None)
        assert [each.session for each in after] == [each.session for each in before]
        assert [each.messages for each in after] == [each.messages for each in before]
        assert await store.projects() == about
        assert await store.flaws("default") == []
        await begin(store, dialect=NavTalk())
        # The third is still to be fetched.
        adopted = [each.row_digest for each in await everything(store)][:2]
        assert adopted == [each.row_digest for each in before][:2]
        # What one session says in a message of the same id is no other's any more.
        await journal(store, session(9))
        await store.save_messages("default", [fetched(session(9), 1)])
        assert [len(each.messages) for each in await everything(store)][-1] == 1
        assert await ids(store) == [1, 3, 5]
    assert (message(2).id, "deleted") in await asked(place, "SELECT id, reason FROM message_history")
    async with Archive.open(place) as store:
        assert len(await everything(store)) == len(before) + 1


async def test_columns_that_an_earlier_version_did_not_have_are_filled_unless_a_row_is_damaged(new_place):
    place, kodey = await new_place(), Kodey()
    raw = b'{"id":"%s","userId":"ann","createdAt":"2025-11-12T18:20:38Z","updatedAt":"2025-11-13T00:00:00Z"}'
    chats = [kodey.session_of(raw.replace(b"%s", name)) for name in (b"a", b"b")]
    async with Archive.open(place) as store:
        await begin(store, api="kodey")
        await journal(store, *chats)
        await store.save_messages("default", [FetchResult(wanted(each), []) for each in chats])
        before = await everything(store)
    await downgrade(place, 5)
    old = [row_digest(each.session._replace(user_id=None, updated_at=None)) for each in before]
    for each, of in zip(before, old, strict=True):
        await asked(
            place, f"UPDATE sync_sessions SET row_digest = '{of}' WHERE session_id = '{each.session.id}'"
        )
    await asked(place, "UPDATE sessions SET end_time = '2030-01-01T00:00:00Z' WHERE id = 'b'")
    async with Archive.open(place) as store:
        copy, token = await copied(store, Copy(), None)
        assert_same(copy, copy_of(await everything(store)))
        await begin(store, api="kodey", dialect=kodey)
        whole, damaged = await everything(store)
        copy, _ = await copied(store, copy, token)
        assert copy.sessions["default", "a"] == told(whole.session)
    assert whole == before[0]
    assert before[0].session.user_id == "ann"
    assert damage(damaged, kodey)
