"""A store in PostgreSQL: the schema of a database, for an archive that many read.

One connection writes. It holds the right to do so, which the server takes back when the connection ends; so
it is never made anew, and a run that loses it ends. That asks for a connection of its own: behind a pooler
that shares connections among transactions, two runs would not exclude each other.
"""

from typing import TypeVar

from navtalk_async.archive.database import Steps
from navtalk_async.archive.postgres_reader import PostgresReader
from navtalk_async.archive.postgres_server import connect, hold, prepare
from navtalk_async.archive.postgres_turns import Transaction, completed
from navtalk_async.archive.store import Store

__all__ = ["PostgresStore"]

T = TypeVar("T")


class PostgresStore(PostgresReader, Store):
    """A store in the database at *url*, its tables made if they are not there; an `async with` that holds the
    schema alone. See `PostgresReader` for *url*.

    Raises:
        StoreLocked: another run writes to it.
        StoreUnreachable: the user, the database or the schema is refused.
        StoreBroken: there is something else of the same names, or it is damaged.
        StoreMismatch: it was written by a newer version.
        StoreError: the server is away, or does not answer.
    """

    async def _change(self, name: str, project: str, steps: Steps[T]) -> T:
        return await self._run(self._write_all, name, project, steps)

    # What follows runs one at a time.

    async def _write_all(self, name: str, project: str, steps: Steps[T]) -> T:
        async with Transaction(self._connection, name, project, self._patience) as change:
            return await completed(steps, change.do)

    async def _open(self) -> None:
        self._is_silent = False
        self._db = await connect(self._address, self._patience)
        await hold(self._db, self._address)
        await prepare(self._db, self._address)
