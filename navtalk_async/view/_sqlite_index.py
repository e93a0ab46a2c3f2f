"""The index of an archive in SQLite: a file beside it, with the words of all messages for FTS5.

It has no journal: before it is changed, its token is removed, and written again after the change is on the
disk. So one that was left half way has no token, and is built anew. A file can be replaced while others read
it, without a journal of the old one being taken for the new one's.
"""

import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from anyio import sleep, to_thread

from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.rows import MessageRow, SessionRow, TextRow
from navtalk_async.archive.sqlite_file import INDEX_ID, remove_index, translate_errors
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreLocked, StoreUnreachable
from navtalk_async.formats.words import LONGEST_WORD, AnyOf, Phrase, Query, spaced, words
from navtalk_async.view._index import (
    VERSION,
    Index,
    IndexedSession,
    MovedOn,
    Outdated,
    Place,
    SearchCriteria,
    Update,
    about,
    began,
    marks_of,
)

T = TypeVar("T")
Row: TypeAlias = MessageRow | TextRow

BUSY_SECONDS = 600.0
"""How long to wait for another process that builds or updates the index."""

SLOTS = 10
"""Of the number of a message, the bits below the second in which its session began: so the newest are found
first. Where more messages came in a second than there are numbers, they take those of the seconds behind."""

BEGIN = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -65536; BEGIN EXCLUSIVE"

SCHEMA = f"""
PRAGMA application_id = {INDEX_ID};
CREATE TABLE state (version TEXT NOT NULL, token TEXT, is_full BOOLEAN);
CREATE TABLE sessions (number INTEGER PRIMARY KEY, project TEXT NOT NULL, id TEXT NOT NULL,
    about TEXT NOT NULL, last INTEGER NOT NULL, UNIQUE (project, id));
CREATE TABLE blocks (first INTEGER PRIMARY KEY, messages INTEGER NOT NULL, session INTEGER,
    position INTEGER NOT NULL, began INTEGER NOT NULL);
CREATE INDEX blocks_of_session ON blocks (session);
CREATE VIRTUAL TABLE words USING fts5(text, content='', columnsize=0, tokenize='ascii');
INSERT INTO words (words, rank) VALUES ('hashsize', {1 << 26});
"""
"""A block is some messages of one session, with numbers and positions that follow one another; one without
a session is what the index still has the words of, and the archive has otherwise."""

FIND = """
SELECT s.project, s.id, b.position + f.rowid - b.first, f.rowid
FROM words AS f CROSS JOIN blocks AS b ON b.first = (SELECT MAX(first) FROM blocks WHERE first <= f.rowid)
CROSS JOIN sessions AS s ON s.number = b.session
WHERE f.words MATCH ? AND f.rowid BETWEEN ? AND ? AND f.rowid < b.first + b.messages
ORDER BY f.rowid DESC LIMIT ?
"""

MOST_DEAD = 10_000

DONE = f"""
UPDATE state SET token = ?, is_full = (
    SELECT TOTAL(messages * (session IS NULL)) > MAX({MOST_DEAD}, TOTAL(messages) / 2) FROM blocks)
"""
"""An index of which more than half is of use no more is built anew."""


class SqliteIndex(Index):
    """The index in the file *path*. Each piece of work has a connection of its own, in another thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str | None:
        try:
            return await self._do(_token)
        except Outdated:
            return None

    async def known(self, session: SessionRow) -> IndexedSession | None:
        return await self._do(_known, session)

    async def update(self, after: str, token: str, updates: Sequence[Update]) -> bool:
        return await self._do(_update, after, token, updates)

    async def find(self, wanted: SearchCriteria, token: str, after: Any, limit: int) -> list[Place]:
        return await self._do(_find, wanted, token, after, limit)

    async def build(self, stale: str | None, token: str, batches: AsyncGenerator[list[Update], None]) -> None:
        del stale  # Two who build at once are both right.
        db = await self._in_thread(self._begin_anew)
        try:
            numbers = await self._in_thread(_Numbers, db)
            async for batch in batches:
                await self._in_thread(_write, db, numbers, batch)
            await self._in_thread(_finish, db, token)
        finally:
            await self._in_thread(db.close)

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        def do() -> T:
            with translate_errors(self._path):
                return work(*arguments)

        return await shielded(to_thread.run_sync(do))

    async def _do(self, work: Callable[..., T], *arguments: Any) -> T:
        """What *work* returns, once no other process keeps the file to itself."""
        until = monotonic() + BUSY_SECONDS
        while True:
            try:
                return await self._in_thread(self._connected, work, *arguments)
            except StoreLocked:
                if monotonic() > until:
                    raise
            await sleep(0.05)

    def _connected(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            with closing(self._connect()) as db:
                return work(db, *arguments)
        except sqlite3.DatabaseError as failure:
            if "locked" in str(failure):
                raise StoreLocked(f"Another process is writing {self._path}.") from None
            raise Outdated from failure

    def _connect(self) -> sqlite3.Connection:
        """A connection to the file, which is not made."""
        address = f"{self._path.as_uri()}?mode=rw"
        try:
            db = sqlite3.connect(
                address, uri=True, timeout=0.5, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as failure:
            raise Outdated from failure
        db.execute("PRAGMA journal_mode = MEMORY")
        return db

    def _begin_anew(self) -> sqlite3.Connection:
        reach("index: before remove")
        remove_index(self._path)
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            # Another process was quicker.
            raise Outdated from None
        reach("index: after create")
        db = self._connect()
        try:
            _make_tables(db)
        except sqlite3.OperationalError as failure:
            db.close()
            if "no such module" in str(failure):
                raise StoreUnreachable("A search needs FTS5, which this Python's SQLite lacks.") from None
            raise Outdated from failure
        except Outdated:
            db.close()
            raise
        return db


def _make_tables(db: sqlite3.Connection) -> None:
    for statement in BEGIN.split(";"):
        db.execute(statement)
    # Another process may have removed our file and made its own, which we opened.
    if db.execute("SELECT 1 FROM sqlite_master").fetchall():
        raise Outdated
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    db.execute("INSERT INTO state (version) VALUES (?)", (VERSION,))


def _token(db: sqlite3.Connection) -> str | None:
    rows = db.execute("SELECT token FROM state WHERE version = ? AND NOT is_full", (VERSION,)).fetchall()
    return rows[0][0] if rows else None


def _known(db: sqlite3.Connection, session: SessionRow) -> IndexedSession | None:
    query = "SELECT about, last FROM sessions WHERE project = ? AND id = ?"
    row = db.execute(query, session[:2]).fetchone()
    return None if row is None else IndexedSession(*row)


def _update(db: sqlite3.Connection, after: str, token: str, updates: Sequence[Update]) -> bool:
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("BEGIN EXCLUSIVE")
    if _token(db) != after:
        return False
    if updates:
        db.execute("UPDATE state SET token = NULL")
        _commit(db)
        db.execute("BEGIN")
        _write(db, _Numbers(db), updates)
    _finish(db, token)
    return True


def _finish(db: sqlite3.Connection, token: str) -> None:
    _commit(db)
    # In a transaction of its own: pages of one reach the disk in any order.
    db.execute("BEGIN")
    db.execute(DONE, (token,))
    _commit(db)


def _commit(db: sqlite3.Connection) -> None:
    reach("index: before commit")
    db.execute("COMMIT")
    reach("index: after commit")


class _Numbers:
    """Gives numbers to messages."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._wanted = self._end = 0
        query = "SELECT MAX(first + messages) FROM blocks"
        self._top = next((end for (end,) in db.execute(query) if end), 0)

    def take(self, wanted: int, count: int) -> int:
        """The first of *count* free numbers, from *wanted* on."""
        # Behind what the same second was given last, there is nothing to look for.
        start = self._end if self._wanted <= wanted < self._end else wanted
        if start < self._top:
            start = self._free(start, count)
        self._wanted, self._end = wanted, start + count
        self._top = max(self._top, self._end)
        return start

    def _free(self, start: int, count: int) -> int:
        query = "SELECT first + messages FROM blocks WHERE first <= ? ORDER BY first DESC LIMIT 1"
        for (end,) in self._db.execute(query, (start,)):
            start = max(start, end)
        query = "SELECT first, first + messages FROM blocks WHERE first >= ? ORDER BY first"
        for first, end in self._db.execute(query, (start,)):
            if first - start >= count:
                break
            start = end
        return start


def _write(db: sqlite3.Connection, numbers: _Numbers, updates: Iterable[Update]) -> None:
    rows = [row for each in updates for row in _rows(db, numbers, *each)]
    # In their order: else, each one that is not makes a part of the index of its own.
    rows.sort()
    db.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", rows)
    reach("index: after write")


def _rows(
    db: sqlite3.Connection,
    numbers: _Numbers,
    session: SessionRow,
    messages: Sequence[Row],
    is_whole: bool,  # noqa: FBT001
) -> Iterator[tuple[int, str]]:
    """The rows of *messages*, which are given blocks."""
    moment = began(session)
    marks = {role: " ".join(marks_of(session, role)) for role in {each.role for each in messages}}
    number = _number(db, session, messages[-1].position if messages else -1, is_whole=is_whole)
    for some in _runs(messages):
        first = numbers.take((moment // 1_000_000) << SLOTS, len(some))
        values = (first, len(some), number, some[0].position, moment)
        db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", values)
        texts = [f"{_text(each.content or '')} {marks[each.role]}" for each in some]
        yield from enumerate(texts, first)


def _number(db: sqlite3.Connection, session: SessionRow, last: int, *, is_whole: bool) -> int | None:
    """The number of *session*, of which *last* is the position of the last message."""
    # No statement that SQLite may have to undo alone, an upsert say: before each, FTS5 writes what it has.
    row = db.execute("SELECT number FROM sessions WHERE project = ? AND id = ?", session[:2]).fetchone()
    if row is None:
        insert = "INSERT INTO sessions (project, id, about, last) VALUES (?, ?, ?, ?)"
        return db.execute(insert, (*session[:2], about(session), last)).lastrowid
    number: int = row[0]
    db.execute("UPDATE sessions SET about = ?, last = ? WHERE number = ?", (about(session), last, number))
    if is_whole:
        db.execute("UPDATE blocks SET session = NULL WHERE session = ?", (number,))
    return number


def _runs(messages: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """*messages* cut where their positions do not follow one another."""
    positions = [each.position for each in messages]
    if positions and positions == list(range(positions[0], positions[0] + len(positions))):
        yield messages
        return
    for _, group in groupby(enumerate(messages), key=lambda pair: pair[1].position - pair[0]):
        yield [each for _, each in group]


def _text(text: str) -> str:
    """*text* as FTS5 splits it into our words: at what is ASCII, and no letter or digit."""
    plain = text if text.isascii() else spaced(text)
    return plain if len(plain) <= LONGEST_WORD else " ".join(words(plain))


def _find(
    db: sqlite3.Connection, wanted: SearchCriteria, token: str, after: int | None, limit: int
) -> list[Place]:
    db.execute("BEGIN")
    if _token(db) != token:
        raise MovedOn
    least = 0 if wanted.since is None else (wanted.since // 1_000_000) << SLOTS
    most = (1 << 62) if after is None else after - 1
    if wanted.until is not None:
        query = "SELECT MAX(first + messages) FROM blocks WHERE began <= ?"
        [(end,)] = db.execute(query, (wanted.until,))
        most = min(most, end or 0)
    asked = " AND ".join([_expression(wanted.query), *(f'"{each}"' for each in wanted.marks)])
    return [Place(*row) for row in db.execute(FIND, (asked, least, most, limit))]


def _expression(query: Query) -> str:
    """*query* in the words of FTS5."""
    if isinstance(query, Phrase):
        return f'"{" ".join(query.words)}"{" *" if query.is_prefix else ""}'
    if isinstance(query, AnyOf):
        return f"({' OR '.join(map(_expression, query.parts))})"
    found = " AND ".join(map(_expression, query.parts))
    for each in query.without:
        found = f"({found}) NOT {_expression(each)}"
    return f"({found})"
