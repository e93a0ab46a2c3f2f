"""An archive in PostgreSQL: the schema of a database, for an archive that many read.

One connection writes. It holds the right to do so, which the server takes back when the connection ends; so
it is never made anew, and a run that loses it ends. That asks for a connection of its own: behind a pooler
that shares connections among transactions, two runs would not exclude each other.
"""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeVar

from navtalk_async.archive._database import Step, Steps
from navtalk_async.archive._postgres_address import Address, silent, translate_errors
from navtalk_async.archive._postgres_server import close, connect, connect_to_read, hold, prepare
from navtalk_async.archive._postgres_text import PostgresCodec
from navtalk_async.archive._postgres_turns import PATIENCE, Patience, Transaction, Turns, completed, numbered
from navtalk_async.archive._statements import ID_OF_SESSION, MESSAGES, SESSIONS, SESSIONS_A_READ
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError

if TYPE_CHECKING:
    from navtalk_async.archive._postgres_turns import Connection

T = TypeVar("T")


class PostgresDriver:
    """The archive in the current schema of the database at *url*."""

    codec = PostgresCodec()
    path = None

    def __init__(self, url: str, *, read_only: bool = False, patience: Patience = PATIENCE) -> None:
        self._address = Address(url)
        self._read_only = read_only
        self._patience = patience
        self._run = Turns(self._address, self._hang_up, grace=patience.grace)
        self._db: Connection | None = None
        self._is_silent = False

    def __str__(self) -> str:
        return str(self._address)

    async def open(self) -> None:
        await self._run(self._open)

    async def close(self) -> None:
        """Close the connection; what is under way is given a few seconds to end."""
        self._run.hurry()
        await self._run(self._close)

    async def read(self, steps: Steps[T]) -> T:
        return await self._run(self._read, steps)

    async def write(self, name: str, project: str, steps: Steps[T]) -> T:
        return await self._run(self._write, name, project, steps)

    async def walk(self, project: str) -> AsyncGenerator[tuple[list[Any], list[Any]], None]:
        with translate_errors(self._address):
            db = await connect_to_read(self._address, self._patience)
        try:
            with translate_errors(self._address):
                await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                sessions = await db.cursor(numbered(SESSIONS), project)
            while True:
                with translate_errors(self._address):
                    rows = await sessions.fetch(SESSIONS_A_READ)
                    ids = [row[ID_OF_SESSION] for row in rows]
                    messages = await db.fetch(numbered(MESSAGES), project, ids) if rows else []
                if not rows:
                    return
                yield rows, messages
        finally:
            await shielded(close(db, self._patience))

    def refuse_another_file(self) -> None:
        """There is no file."""

    async def rebuild(self) -> None:
        """Nothing: a server sees to its indexes."""

    async def find_damage(self) -> list[str]:
        return []

    async def change_marker(self) -> None:
        return None

    async def digest(self) -> None:
        return None

    # What follows runs one at a time.

    async def _open(self) -> None:
        self._is_silent = False
        if self._read_only:
            self._db = await connect_to_read(self._address, self._patience)
            return
        self._db = await connect(self._address, self._patience)
        await hold(self._db, self._address)
        await prepare(self._db, self._address)

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

    async def _write(self, name: str, project: str, steps: Steps[T]) -> T:
        async with Transaction(self._connection, name, project, self._patience) as change:
            return await completed(steps, change.do)
