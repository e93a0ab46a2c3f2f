"""The index of an archive in PostgreSQL: a table beside its own, with the words of all messages."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any, Self

from navtalk_async.archive import Archive
from navtalk_async.archive.beside import (
    Driver,
    Put,
    Query,
    Steps,
    Weight,
    Write,
    connection_beside,
    rows_of,
)
from navtalk_async.archive.rows import MessageRow, SessionRow, TextRow
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreBroken
from navtalk_async.formats import words as asked
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

LOCK = 0x6E617673
"""Whose advisory locks are those of indexes: "navs"."""

TABLES = """
DROP TABLE IF EXISTS sync_search, sync_search_sessions, sync_search_state;
CREATE TABLE sync_search_state (version TEXT NOT NULL, token TEXT);
CREATE TABLE sync_search_sessions (
    number INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, project TEXT NOT NULL,
    session_id TEXT NOT NULL, about TEXT NOT NULL, last BIGINT NOT NULL, UNIQUE (project, session_id));
CREATE TABLE sync_search (
    began BIGINT NOT NULL, session INTEGER NOT NULL, position INTEGER NOT NULL, whole BOOLEAN NOT NULL,
    words TSVECTOR)
"""
"""A row is a message; *whole* where its words have all their places, without which they are no phrases."""

INDEXES = """
CREATE INDEX ON sync_search USING gin (words);
CREATE INDEX ON sync_search (began, session, position);
CREATE INDEX ON sync_search (session);
CREATE INDEX ON sync_search (began) WHERE NOT whole;
ANALYZE sync_search
"""

SESSION_TYPES = ("text", "text", "text", "bigint")
INSERT_SESSIONS = """
INSERT INTO sync_search_sessions AS y (project, session_id, about, last) {rows}
ON CONFLICT (project, session_id) DO UPDATE SET about = excluded.about, last = excluded.last
"""
TYPES = ("text", "text", "bigint", "bigint", "boolean", "text")
INSERT = """
INSERT INTO sync_search
SELECT began, number, position, whole, words::tsvector
FROM ({rows}) AS r (project, session_id, began, position, whole, words)
JOIN sync_search_sessions USING (project, session_id)
"""
DELETE = """
DELETE FROM sync_search WHERE session IN (
    SELECT number FROM sync_search_sessions WHERE project = ? AND session_id = ?)
"""
FIND = """
SELECT s.project, s.session_id, f.position, f.began, f.session
FROM (SELECT * FROM sync_search WHERE {} ORDER BY began DESC, session DESC, position DESC LIMIT ?) AS f
JOIN sync_search_sessions AS s ON s.number = f.session
ORDER BY f.began DESC, f.session DESC, f.position DESC
"""
BEGIN = "UPDATE sync_search_state SET token = token WHERE token = ?"
DONE = "UPDATE sync_search_state SET token = ?"

A_ROW_OF_WORDS = 10
"""How many times as long it takes to find the words of a message as to write a row."""

MOST_WORDS, MOST_OF_ONE = 16_383, 255
"""So many places of words, and of one word, a tsvector has (source: PostgreSQL, "Limitations")."""
MOST_BYTES = 500_000
"""About half of what it can hold."""


class PostgresIndex(Index):
    """The index in the database of *archive*."""

    def __init__(self, archive: Archive) -> None:
        self._driver: Driver[Any] = connection_beside(archive)

    async def __aenter__(self) -> Self:
        await self._driver.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await shielded(self._driver.close())

    async def _read(self, steps: Steps[Any], *, at_once: bool = False) -> Any:
        try:
            return await (self._driver.snapshot(steps) if at_once else self._driver.read(steps))
        except StoreBroken as failure:
            # Another process may have removed the table.
            raise Outdated from failure

    async def _write(self, steps: Steps[Any]) -> Any:
        try:
            return await self._driver.write("index", None, steps)
        except StoreBroken as failure:
            raise Outdated from failure

    async def token(self) -> str | None:
        if (await self._rows("SELECT to_regclass('sync_search_state') IS NULL"))[0][0]:
            return None
        try:
            rows = await self._rows("SELECT token FROM sync_search_state WHERE version = ?", VERSION)
        except Outdated:
            return None
        return rows[0][0] if rows else None

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        rows: list[Any] = await self._read(rows_of(statement, values))
        return rows

    async def build(self, stale: str | None, token: str, batches: AsyncGenerator[list[Update], None]) -> None:
        lock = f"SELECT {{}}({LOCK}, oid::int) FROM pg_namespace WHERE nspname = current_schema()"
        await self._rows(lock.format("pg_advisory_lock"))
        try:
            if await self.token() != stale:
                return
            for statement in TABLES.split(";"):
                await self._rows(statement)
            async for batch in batches:
                await self._write(self._insert(batch))
            for statement in INDEXES.split(";"):
                await self._rows(statement)
            row = Put("INSERT INTO sync_search_state {rows}", [(VERSION, token)], ("text", "text"))
            await self._write(_done(row))
        finally:
            await self._rows(lock.format("pg_advisory_unlock"))

    async def known(self, session: SessionRow) -> IndexedSession | None:
        query = "SELECT about, last FROM sync_search_sessions WHERE project = ? AND session_id = ?"
        return next((IndexedSession(*row) for row in await self._rows(query, *self._key(session))), None)

    def _key(self, session: SessionRow) -> tuple[str, str]:
        return session.project, self._driver.codec.write_id(session.id)

    async def update(self, after: str, token: str, updates: Sequence[Update]) -> bool:
        return bool(await self._write(self._update(after, token, updates)))

    def _update(self, after: str, token: str, updates: Sequence[Update]) -> Steps[bool]:
        # Others wait until this one is committed.
        yield Write(BEGIN, (after,))
        if [each for (each,) in (yield Query("SELECT token FROM sync_search_state"))] != [after]:
            return False
        for each in updates:
            if each.is_whole:
                yield Write(DELETE, self._key(each.session))
        yield from self._insert(updates)
        yield Write(DONE, (token,))
        return True

    def _insert(self, updates: Sequence[Update]) -> Steps[None]:
        yield Weight(A_ROW_OF_WORDS * sum(len(each.messages) for each in updates))
        keys = [self._key(each.session) for each in updates]
        sessions = [
            (*key, about(session), messages[-1].position if messages else -1)
            for key, (session, messages, _) in zip(keys, updates, strict=True)
        ]
        rows = [
            (*key, began(session), each.position, *_vector(session, each))
            for key, (session, messages, _) in zip(keys, updates, strict=True)
            for each in messages
        ]
        if sessions:
            yield Put(INSERT_SESSIONS, sessions, SESSION_TYPES)
        if rows:
            yield Put(INSERT, rows, TYPES)

    async def find(self, wanted: SearchCriteria, token: str, after: Any, limit: int) -> list[Place]:
        exact, loose = (
            "({})".format(" & ".join([each, *(f"'{mark}'" for mark in wanted.marks)]))
            for each in (_expression(wanted.query, " <-> "), _loose(wanted.query))
        )
        conditions = [
            "(words @@ ?::text::tsquery OR (NOT whole AND (words IS NULL OR words @@ ?::text::tsquery)))"
        ]
        values: list[object] = [exact, loose]
        for condition, value in (("began >= ?", wanted.since), ("began <= ?", wanted.until)):
            if value is not None:
                conditions.append(condition)
                values.append(value)
        if after is not None:
            conditions.append("(began, session, position) < (?, ?, ?)")
            values += after
        values.append(limit)
        query = Query(FIND.format(" AND ".join(conditions)), values)
        rows = await self._read(_found_at(token, query), at_once=True)
        read_id = self._driver.codec.read_id
        return [
            Place(project, read_id(held_id), position, (moment, number, position))
            for project, held_id, position, moment, number in rows
        ]


def _found_at(token: str, query: Query) -> Steps[list[Any]]:
    if [each for (each,) in (yield Query("SELECT token FROM sync_search_state"))] != [token]:
        raise MovedOn
    return (yield query)


def _done(step: Put) -> Steps[None]:
    yield step


def _vector(session: SessionRow, message: MessageRow | TextRow) -> tuple[bool, str | None]:
    """The words of a message as a tsvector; and whether it has the place of each. None of too many words."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    numbers = count(1)
    for word in asked.words(message.content or ""):
        places[word].append(next(numbers))
    is_whole = next(numbers) <= MOST_WORDS + 1 and all(len(each) <= MOST_OF_ONE for each in places.values())
    if sum(len(word.encode()) + 16 for word in places) > MOST_BYTES:
        return False, None
    if is_whole:
        found = [f"'{word}':{','.join(map(str, each))}" for word, each in places.items()]
    else:
        found = [f"'{word}'" for word in places]
    return is_whole, " ".join([*found, *(f"'{each}'" for each in marks_of(session, message.role))])


def _expression(query: asked.Query, between: str) -> str:
    """*query* in the words of PostgreSQL, with the words of a phrase joined by *between*."""
    if isinstance(query, asked.Phrase):
        words = [f"'{word}'" for word in query.words]
        return f"({between.join(words)}{':*' if query.is_prefix else ''})"
    parts = [_expression(each, between) for each in query.parts]
    if isinstance(query, asked.AnyOf):
        return f"({' | '.join(parts)})"
    return f"({' & '.join(parts + [f'!{_expression(each, between)}' for each in query.without])})"


def _loose(query: asked.Query) -> str:
    """What *query* asks for at least, wherever in a text the words of a phrase are."""
    if isinstance(query, asked.AllOf):
        query = query._replace(without=())
    if isinstance(query, asked.Phrase):
        return _expression(query, " & ")
    return f"({(' & ' if isinstance(query, asked.AllOf) else ' | ').join(map(_loose, query.parts))})"
