"""An archive in PostgreSQL that is read, and not written to."""

from collections.abc import AsyncGenerator, Sequence
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from navtalk_async.errors import StoreError
from navtalk_async.store.postgres_address import Address, in_our_words, silent
from navtalk_async.store.postgres_server import close, connect_to_read
from navtalk_async.store.postgres_text import read_id, read_message, read_session, written_id
from navtalk_async.store.postgres_turns import PATIENCE, Patience, Turns, numbered
from navtalk_async.store.progress_rows import about, counts
from navtalk_async.store.rows import MessageRow, SessionRow, StoredTranscript
from navtalk_async.store.statements import COUNTS, FAILURES, FLAWS, PROJECTS, SESSIONS_A_READ
from navtalk_async.store.store import About, Counts, Failed, Flaw
from navtalk_async.surely import surely

if TYPE_CHECKING:
    from navtalk_async.store.postgres_turns import Connection

__all__ = ["PostgresReader"]

SESSIONS = f"""
SELECT {", ".join(f"s.{name}" for name in SessionRow._fields)}, y.digest, y.row_digest,
       y.state <> 'kept' OR y.watched
FROM sessions AS s LEFT JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = $1 ORDER BY s.start_time NULLS FIRST, s.id
"""

MESSAGES = f"""
SELECT {", ".join(MessageRow._fields)} FROM messages
WHERE project = $1 AND session_id = ANY($2) ORDER BY session_id, position
"""

THERE = """
SELECT id FROM (
    SELECT id FROM sessions WHERE project = ?
    UNION ALL SELECT session_id FROM sync_sessions WHERE project = ? AND state <> 'kept') AS there
WHERE id = ANY(?)
"""


class PostgresReader:
    """An `async with` to read the archive at *url* in; others may read it and write to it meanwhile.

    The archive is in the current schema of the database: `postgresql://user@host/database`, or another one
    with `?search_path=name`. The text of messages that holds a NUL is told with it, as in any other store;
    in the table it has U+FFFD there, since PostgreSQL's TEXT cannot hold it.

    Raises:
        ValueError: *url* is no address of PostgreSQL, or asyncpg is not installed.
        StoreUnreachable: there is no archive, or it is not for us.
        StoreBroken: it is damaged, or there is something else.
        StoreMismatch: it was written by another version.
        StoreError: the server is away, or does not answer.
    """

    def __init__(self, url: str, *, patience: Patience = PATIENCE) -> None:
        self._address = Address(url)
        self._patience = patience
        self._run = Turns(self._address, self._hang_up, grace=patience.grace)
        self._db: Connection | None = None
        self._is_silent = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address}>"

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            await surely(self.close())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await surely(self.close())

    async def close(self) -> None:
        """Let go of the database. What is under way is given a few seconds to end."""
        self._run.hurry()
        await self._run(self._close)

    async def projects(self) -> list[About]:
        """See `Reader.projects`."""
        return [about(row) for row in await self._run(self._all, PROJECTS)]

    async def counts(self, project: str) -> Counts:
        """See `Reader.counts`."""
        [row] = await self._run(self._all, COUNTS, *[project] * COUNTS.count("?"))
        return counts(row)

    async def failures(self, project: str) -> list[Failed]:
        """See `Reader.failures`."""
        rows = await self._run(self._all, FAILURES, project)
        return [Failed(read_id(session_id), *told) for session_id, *told in rows]

    async def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """See `Reader.transcripts`."""
        with in_our_words(self._address):
            db = await connect_to_read(self._address, self._patience)
        try:
            with in_our_words(self._address):
                await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                sessions = await db.cursor(SESSIONS, project)
            while True:
                with in_our_words(self._address):
                    rows = await sessions.fetch(SESSIONS_A_READ)
                    told = await _with_messages(db, project, rows) if rows else []
                if not told:
                    return
                yield told
        finally:
            await surely(close(db, self._patience))

    async def flaws(self, project: str, *, is_thorough: bool = True) -> list[Flaw]:  # noqa: ARG002
        """See `Reader.flaws`; the server finds damage of its files by itself, where it is told to."""
        return [
            Flaw(read_id(session_id), sentence.format(read_id(session_id)))
            for sentence, query in FLAWS.items()
            for (session_id,) in await self._run(self._all, query, project)
        ]

    async def lacks(self, project: str, sessions: Sequence[str]) -> list[str]:
        """See `Reader.lacks`."""
        rows = await self._run(self._all, THERE, project, project, [written_id(each) for each in sessions])
        there = {read_id(session_id) for (session_id,) in rows}
        return [each for each in sessions if each not in there]

    # What follows runs one at a time.

    async def _open(self) -> None:
        self._is_silent = False
        self._db = await connect_to_read(self._address, self._patience)

    async def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            await close(db, self._patience)

    def _hang_up(self) -> None:
        self._is_silent = True
        if self._db is not None:
            self._db.terminate()

    @property
    def _connection(self) -> "Connection":
        if self._is_silent:
            raise silent(self._address)
        if self._db is None:
            raise StoreError(f"{self._address} is not open; use it in an `async with`.")
        return self._db

    async def _all(self, query: str, *values: object) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(numbered(query), *values)
        return rows


async def _with_messages(db: "Connection", project: str, rows: Sequence[Any]) -> list[StoredTranscript]:
    noted = [row[-3:] for row in rows]
    sessions = [read_session(SessionRow(*row[:-3])) for row in rows]
    found = await db.fetch(MESSAGES, project, [written_id(each.id) for each in sessions])
    by_session = grouped(found)
    return [
        StoredTranscript(session, by_session.get(session.id, []), *each)
        for session, each in zip(sessions, noted, strict=True)
    ]


def grouped(rows: Sequence[Any]) -> dict[str, list[MessageRow]]:
    """The messages of each session; *rows* are in the order of their sessions, and in each in order."""
    messages = groupby((read_message(MessageRow(*row)) for row in rows), key=lambda row: row.session_id)
    return {session_id: list(group) for session_id, group in messages}
