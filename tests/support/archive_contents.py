"""Compares an archive with the server it came from, row by row."""

from typing import NamedTuple

import msgspec

from navtalk_async.archive import Archive
from navtalk_async.archive.rows import content_hash, digest, row_digest
from navtalk_async.dialects import dialect_of


class ArchivedSession(NamedTuple):
    """A session of an archive as the JSON of its API."""

    session: dict
    messages: list
    is_gone: bool


async def contents_at(address, project="default"):
    """Every session of the archive at *address*, in order; its digests and counts must be right."""
    async with Archive.open(address) as store:
        return await contents_of(store, project)


async def contents_of(store, project="default"):
    """Every session of *store*, in order; its digests and counts must be right."""
    found = [each async for some in store.transcript_batches(project) for each in some]
    assert await store.flaws(project) == []
    counts = await store.counts(project)
    assert counts.sessions == len(found)
    assert counts.messages == sum(len(each.messages) for each in found)
    for session, messages, reported, row_told, _ in found:
        assert content_hash(dialect_of(session.api).session_of(session.raw.encode())) == session.content_hash
        assert [row.position for row in messages] == list(range(len(messages)))
        assert reported is None or reported == digest(messages)
        assert row_told is None or row_told == row_digest(session)
    return [
        ArchivedSession(
            msgspec.json.decode(session.raw),
            [msgspec.json.decode(row.raw) for row in messages],
            session.deleted_at is not None,
        )
        for session, messages, *_ in found
    ]


def rows_of(world):
    """Every session of *world*, with its messages."""
    return [(session, world.messages(session["id"])) for session in world.sessions]


async def assert_finished(address, world, project="default", *, failed=0):
    """The archive equals *world*, and no session is pending but the *failed* ones."""
    async with Archive.open(address) as store:
        found = await contents_of(store, project)
        counts = await store.counts(project)
        [about] = await store.projects()
    there = [(each.session, each.messages) for each in found if not each.is_gone]
    if failed:
        assert [session for session, _ in there] == world.sessions
    else:
        assert there == rows_of(world)
    assert (counts.pending, counts.failed, counts.unfollowed, counts.listed) == (0, failed, 0, True), counts
    assert about.round is None


async def assert_matches_api(address, reported, project="default"):
    """The archive equals what an API *reported*, in any order, and no session is pending."""
    async with Archive.open(address) as store:
        found = await contents_of(store, project)
        rows = {row.session.id: row async for some in store.transcript_batches(project) for row in some}
        counts = await store.counts(project)
        [about] = await store.projects()
    assert (counts.pending, counts.failed, counts.unfollowed, counts.listed) == (0, 0, 0, True), counts
    assert about.round is None
    there = {name: each for name, each in zip(rows, found, strict=True) if not each.is_gone}
    assert {name: each.session for name, each in there.items()} == {
        each.id: each.session for each in reported
    }
    assert {name: each.messages for name, each in there.items()} == {
        each.id: each.messages for each in reported
    }
    return rows
