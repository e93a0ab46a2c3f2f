"""A program that keeps a copy of an archive in a file of its own, by what the change feed hands on."""

import asyncio
import json
import sqlite3
import sys
from contextlib import closing

from feed_copies import Copy, told

from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive
from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.rows import MessageRow, SessionRow
from navtalk_async.ingest import sync

TABLES = """
CREATE TABLE IF NOT EXISTS sessions (project, id, row, PRIMARY KEY (project, id));
CREATE TABLE IF NOT EXISTS messages (project, session_id, id, row, PRIMARY KEY (project, session_id, id));
CREATE TABLE IF NOT EXISTS batches (token);
"""
NAME = "a {copy} of 'it'"
LIMIT = 3


def run():
    """What the program does: its arguments are what of `HOW`, an archive, and the file of the copy."""
    arguments = sys.argv[1:]
    asyncio.run(HOW[arguments[0]](*arguments[1:]))


async def drain(place, copy):
    """Store what there is, and end."""
    async with Archive.open(place, read_only=True) as archive:
        await consume(archive, copy)


async def follow(place, copy):
    """Store whatever comes, for ever."""
    async with Archive.open(place, read_only=True) as archive:
        await consume(archive, copy, follow=True)


async def sync_and_follow(place, copy, url):
    """Sync, and store whatever comes meanwhile, in one process; then what is left."""
    async with Archive.open(place) as archive, NavTalkClient("k", base_url=url) as client:
        following = asyncio.create_task(consume(archive, copy, follow=True))
        try:
            await sync(client, archive, concurrency=4)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await consume(archive, copy)


HOW = {"drain": drain, "follow": follow, "sync": sync_and_follow}


async def consume(archive, copy, **options):
    with closing(sqlite3.connect(copy)) as db:
        db.executescript(TABLES)
        async with archive.consume(NAME, limit=LIMIT, **options) as batches:
            async for batch in batches:
                with db:
                    store(db, batch)
                    reach("copy: before commit")
                reach("copy: after commit")
                await batch.ack()


def store(db, batch):
    for change in batch.changes:
        session = change.session
        values = (session.project, session.id, json.dumps(session))
        db.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", values)
        rows = [(*_key(row), json.dumps(row)) for row in (*change.new, *change.changed)]
        db.executemany("INSERT OR REPLACE INTO messages VALUES (?, ?, ?, ?)", rows)
        gone = map(_key, change.gone)
        db.executemany("DELETE FROM messages WHERE project = ? AND session_id = ? AND id = ?", gone)
    db.execute("INSERT INTO batches VALUES (?)", (batch.token,))


def _key(row):
    return row.project, row.session_id, row.id


def anew(path):
    """Count the batches that come from now on alone."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM batches")


def stored(path):
    """The `Copy` in the file at *path*, and how many batches were stored, and how many came again."""
    copy = Copy()
    with closing(sqlite3.connect(path)) as db:
        for *key, row in db.execute("SELECT * FROM sessions"):
            copy.sessions[tuple(key)] = told(SessionRow(*json.loads(row)))
        for *key, row in db.execute("SELECT * FROM messages"):
            copy.messages[tuple(key)] = MessageRow(*json.loads(row))
        [(batches, different)] = db.execute("SELECT COUNT(*), COUNT(DISTINCT token) FROM batches")
    return copy, batches, batches - different
