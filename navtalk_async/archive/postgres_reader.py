"""An archive in PostgreSQL that is read, and not written to."""

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from navtalk_async.archive.database import Codec, Step, Steps
from navtalk_async.archive.postgres_address import Address, silent, translate_errors
from navtalk_async.archive.postgres_server import close, connect_to_read
from navtalk_async.archive.postgres_text import (
    plain,
    read_id,
    read_messages,
    read_session,
    written_id,
    written_messages,
    written_session,
)
from navtalk_async.archive.postgres_turns import PATIENCE, Patience, Turns, completed, numbered
from navtalk_async.archive.rows import SessionRow, StoredTranscript
from navtalk_async.archive.statements import MESSAGES, SESSIONS, SESSIONS_A_READ
from navtalk_async.archive.store import Reader
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError

if TYPE_CHECKING:
    from navtalk_async.archive.postgres_turns import Connection

__all__ = ["PostgresReader"]

T = TypeVar("T")

CODEC = Codec(written_id, read_id, written_session, read_session, written_messages, read_messages, plain)


class PostgresReader(Reader):
    """An `async with` to read the archive at *url* in; others may read it and write to it meanwhile.

    The archive is in the current schema of the database: `postgresql://user@host/database`, or another one
    with `?search_path=name`. The text of messages that holds a NUL is told with it, as in any other store;
    in the table it has U+FFFD there, since PostgreSQL's TEXT cannot hold it.

    Raises:
        ValueError: *url* is no address of PostgreSQL.
        StoreUnreachable: there is no archive, it is not for us, or asyncpg is not installed.
        StoreBroken: it is damaged, or there is something else.
        StoreMismatch: it was written by another version.
        StoreError: the server is away, or does not answer.
    """

    _text = CODEC

    def __init__(self, url: str, *, patience: Patience = PATIENCE) -> None:
        super().__init__()
        self._address = Address(url)
        self._patience = patience
        self._run = Turns(self._address, self._hang_up, grace=patience.grace)
        self._db: Connection | None = None
        self._is_silent = False

    def __str__(self) -> str:
        return str(self._address)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address}>"

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            await shielded(self.close())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await shielded(self.close())

    async def close(self) -> None:
        """Let go of the database. What is under way is given a few seconds to end."""
        self._run.hurry()
        await self._run(self._close)

    async def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """See `Reader.transcripts`."""
        with translate_errors(self._address):
            db = await connect_to_read(self._address, self._patience)
        try:
            with translate_errors(self._address):
                await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                sessions = await db.cursor(numbered(SESSIONS), project)
            while True:
                with translate_errors(self._address):
                    rows = await sessions.fetch(SESSIONS_A_READ)
                    told = await self._with_messages(db, project, rows) if rows else []
                if not told:
                    return
                yield told
        finally:
            await shielded(close(db, self._patience))

    async def _ask(self, steps: Steps[T]) -> T:
        return await self._run(self._read, steps)

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

    async def _read(self, steps: Steps[T]) -> T:
        return await completed(steps, self._found)

    async def _found(self, step: Step) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(numbered(step.statement), *step[1])
        return rows

    async def _with_messages(
        self, db: "Connection", project: str, rows: Sequence[Sequence[Any]]
    ) -> list[StoredTranscript]:
        ids = [row[SessionRow._fields.index("id")] for row in rows]
        return self._transcripts(rows, await db.fetch(numbered(MESSAGES), project, ids))
