"""A PostgreSQL server: reached, recognised, held by one writer, and its failures told in our words.

None of the driver's errors gets out: they may quote the address, and what was said in a chat.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch, StoreUnreachable
from navtalk_async.failpoints import reach
from navtalk_async.store.postgres_schema import NAMES, SCHEMA, SCHEMA_VERSION, UPGRADES

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection

__all__ = [
    "PATIENCE",
    "SCHEMES",
    "Address",
    "Patience",
    "Transaction",
    "Turns",
    "close",
    "connect",
    "connect_to_read",
    "hold",
    "in_our_words",
    "numbered",
    "prepare",
    "silent",
    "without_password",
]

T = TypeVar("T")

SCHEMES = ("postgresql", "postgres")

CONNECT_SECONDS = 15.0


class Patience(NamedTuple):
    """How many seconds are waited for a server that may be silent, before its connection is ended."""

    read: float = 300.0
    """For a statement that reads, which may go through a whole table, or makes tables."""
    write: float = 60.0
    """For a statement of a transaction, which is of few rows; a run that is stopped waits for its commit."""
    grace: float = 5.0
    """For a piece of work whose caller was cancelled, or that is under way when the store is closed."""
    farewell: float = 2.0
    """For a transaction to be rolled back, or the connection to be closed."""


PATIENCE = Patience()

LOCK = 0x6E617674
"""Whose advisory locks are ours, in a database that others may use: "navt", as `application_id` in SQLite."""

LOCK_SECONDS = 2
"""How long a run waits for the lock of one that was killed: its server's process has to notice that first."""

ROWS_A_STATEMENT = 500
"""A statement has a bound of 1 GiB, and rows may be large."""

SETTINGS = {
    # A store may be idle for long: its lock is held by its connection.
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # The statements are small; compiling them takes longer than they do.
    "jit": "off",
    # A machine that is gone without a word must not hold the lock for the two hours that are the default.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}
"""What we set of what the server knows."""

KEEPALIVE = {
    "TCP_KEEPIDLE": 30,
    # As macOS calls it.
    "TCP_KEEPALIVE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    # In milliseconds: how long what was sent may be unacknowledged, while which nothing is probed.
    "TCP_USER_TIMEOUT": 60_000,
}
"""What we set of our end of the wire, where the platform has it: a dead one is known within a minute."""


class Address:
    """Where a store is: a `postgresql://` URL as libpq has it. It is never shown with its password.

    Raises:
        ValueError: it is none, or asyncpg is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._told = without_password(url)
        _driver()

    def __str__(self) -> str:
        return self._told

    def __repr__(self) -> str:
        return f"<Address {self._told}>"


def without_password(url: str) -> str:
    """*url* as it may be shown.

    Raises:
        ValueError: it is no URL of PostgreSQL.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in SCHEMES:
        raise ValueError("A store in PostgreSQL has an address such as postgresql://user@host/database.")
    # A password may hold any character, if not by right: it ends at the last @.
    user, at, place = rest.rpartition("@")
    shown = f"{scheme}://{user.partition(':')[0]}{at}{place}"
    return re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)


def _driver() -> Any:
    try:
        import asyncpg  # noqa: PLC0415 - the extra may be missing
    except ImportError as missing:
        raise ValueError("A store in PostgreSQL needs: pip install 'navtalk-async[postgres]'") from missing
    return asyncpg


class Turns:
    """Does one piece of work after the other, each to its end, and says in our words what fails.

    A caller who is cancelled does not wait for the end of what has begun; the next one does. What has begun
    is then given *grace* seconds. *hang_up* is called when there is no answer in time.
    """

    def __init__(self, address: Address, hang_up: Callable[[], None], *, grace: float) -> None:
        self._address = address
        self._hang_up = hang_up
        self._grace = grace
        self._lock = asyncio.Lock()
        self._bound: asyncio.Timeout | None = None

    async def __call__(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        """What *work* gives."""
        await self._lock.acquire()
        task = asyncio.create_task(self._told(work, *arguments))
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.hurry()
            raise

    def hurry(self) -> None:
        """Give what has begun its grace, and no more."""
        # What was begun just now has not entered its bound yet.
        asyncio.get_running_loop().call_soon(self._hurry)

    def _hurry(self) -> None:
        if self._bound is not None and self._bound.when() is None:
            self._bound.reschedule(asyncio.get_running_loop().time() + self._grace)

    async def _told(self, work: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        with in_our_words(self._address):
            try:
                async with asyncio.timeout(None) as self._bound:
                    return await work(*arguments)
            except TimeoutError:
                self._hang_up()
                raise
            finally:
                self._bound = None

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._lock.release()
        if not task.cancelled():
            # Who would have raised it may have been cancelled.
            task.exception()


class Transaction:
    """An `async with` in which everything of *project* is written, or nothing; *name* is what a failpoint
    calls it.

    Where a row was touched, the project's `changes` are counted; where none was, nothing is written.
    """

    def __init__(self, db: "Connection", name: str, project: str, patience: Patience) -> None:
        self._db = db
        self._patience = patience
        self._name = name
        self._project = project
        self._touched = 0

    async def __aenter__(self) -> Self:
        await self._execute("BEGIN")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            await self._undo()
            return
        try:
            await self._commit()
        except BaseException:
            await self._undo()
            raise
        reach(f"{self._name}: after commit")

    async def all(self, query: str, *values: object) -> list[Any]:
        """The rows that *query* finds."""
        rows: list[Any] = await self._db.fetch(query, *values, timeout=self._patience.write)
        return rows

    async def write(self, statement: str, *values: object) -> None:
        """Execute *statement*."""
        reach(f"{self._name}: before write")
        self._touched += touched(await self._execute(statement, *values))
        reach(f"{self._name}: after write")

    async def write_all(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute *statement*, which takes a list for each column, for all *rows*."""
        reach(f"{self._name}: before write")
        for begin in range(0, len(rows), ROWS_A_STATEMENT):
            columns = zip(*rows[begin : begin + ROWS_A_STATEMENT], strict=True)
            self._touched += touched(await self._execute(statement, *columns))
        reach(f"{self._name}: after write")

    async def _execute(self, statement: str, *values: object) -> str:
        status: str = await self._db.execute(statement, *values, timeout=self._patience.write)
        return status

    async def _commit(self) -> None:
        if self._touched:
            counted = "UPDATE sync_projects SET changes = changes + 1 WHERE project = $1"
            await self._execute(counted, self._project)
        reach(f"{self._name}: before commit")
        await self._execute("COMMIT")

    async def _undo(self) -> None:
        try:
            await self._db.execute("ROLLBACK", timeout=self._patience.farewell)
        except Exception:  # noqa: BLE001 - with the connection, the server ends the transaction
            self._db.terminate()


def touched(status: str) -> int:
    """The number of rows that a statement touched, by what the server says of it: `INSERT 0 7`."""
    return int(status.rpartition(" ")[2])


def numbered(statement: str) -> str:
    """*statement* with its question marks numbered, as PostgreSQL has them."""
    numbers = count(1)
    return re.sub(r"\?", lambda _: f"${next(numbers)}", statement)


async def connect(address: Address, patience: Patience) -> "Connection":
    """A connection to the database at *address*, which sees its current schema alone."""
    try:
        db = await _driver().connect(address.url, timeout=CONNECT_SECONDS, command_timeout=patience.read)
    except OSError:
        raise
    except ValueError:
        raise StoreUnreachable(f"{address} is no address of a database.") from None
    try:
        _keep_alive(db)
        await _settle(db, address)
    except BaseException:
        db.terminate()
        raise
    return db


def _keep_alive(db: "Connection") -> None:
    wire = db._transport.get_extra_info("socket")  # noqa: SLF001 - the driver has no other way to it
    if wire.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    # A platform that refuses one of them is none the worse for it: each answer has its bound.
    with suppress(OSError):
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _settle(db: "Connection", address: Address) -> None:
    encoding, schema = await db.fetchrow(
        "SELECT current_setting('server_encoding'), quote_ident(current_schema())", timeout=CONNECT_SECONDS
    )
    if encoding != "UTF8":
        raise StoreUnreachable(f"{address} keeps text as {encoding}, which cannot hold every text; UTF8 can.")
    if schema is None:
        raise StoreUnreachable(f"{address} has no schema to work in: none of its search_path may be used.")
    wanted = SETTINGS | {"search_path": schema}
    await db.execute(
        "SELECT set_config(name, wanted.value, FALSE) FROM pg_settings "
        "JOIN unnest($1::text[], $2::text[]) AS wanted (name, value) USING (name)",
        list(wanted),
        list(wanted.values()),
        timeout=CONNECT_SECONDS,
    )


async def connect_to_read(address: Address, patience: Patience) -> "Connection":
    """A connection that changes nothing.

    Raises:
        StoreUnreachable: there is no archive.
        StoreBroken, StoreMismatch: there is something else, or one that is not of this version.
    """
    db = await connect(address, patience)
    try:
        await db.execute("SET default_transaction_read_only = TRUE")
        refuse_others(await recognised(db, address), address)
    except BaseException:
        db.terminate()
        raise
    return db


def refuse_others(version: int | None, address: Address) -> None:
    """Refuse to read an archive that is not there, or of an earlier version."""
    if version is None:
        raise StoreUnreachable(f"There is no archive at {address}.")
    if version < SCHEMA_VERSION:
        raise StoreMismatch(
            f"{address} was written by an older version; `navtalk sync {address}` upgrades it."
        )


async def close(db: "Connection", patience: Patience) -> None:
    """Let go of *db*, which may be dead."""
    try:
        await db.close(timeout=patience.farewell)
    except Exception:  # noqa: BLE001 - it is gone, one way or the other
        db.terminate()


async def recognised(db: "Connection", address: Address) -> int | None:
    """The version of the archive in the schema of *db*; None if there is none.

    Raises:
        StoreBroken: there is something else of the same names.
        StoreMismatch: it is of a newer version.
    """
    found = await db.fetch(
        "SELECT relname::text FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace "
        "WHERE nspname = current_schema() AND relname::text = ANY($1)",
        NAMES,
    )
    names = sorted(name for (name,) in found)
    if not names:
        return None
    version = await db.fetchval("SELECT max(version) FROM sync_schema") if "sync_schema" in names else None
    if version is None:
        raise StoreBroken(f"{address} has something else of the name {names[0]!r}; choose another schema.")
    if version > SCHEMA_VERSION:
        raise StoreMismatch(f"{address} was written by a newer version of navtalk-async; please upgrade.")
    return int(version)


async def hold(db: "Connection", address: Address) -> None:
    """The right to write to the schema, held until the connection ends, however it does.

    Raises:
        StoreLocked: another run has it.
    """
    await db.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
    try:
        await db.execute(
            # The two keys of an advisory lock are signed; an oid is not.
            "SELECT pg_advisory_lock($1, oid::int) FROM pg_namespace WHERE nspname = current_schema()",
            LOCK,
        )
    except _driver().LockNotAvailableError:
        raise StoreLocked(f"Another run is writing to {address}.") from None
    await db.execute("RESET lock_timeout")


async def prepare(db: "Connection", address: Address) -> None:
    """Make an archive if there is none, and refuse what is none, or a later one."""
    version = await recognised(db, address)
    steps = [SCHEMA] if version is None else [UPGRADES[each] for each in range(version, SCHEMA_VERSION)]
    if steps:
        # In one text they are one transaction, which needs no trip of its own to be undone.
        await db.execute("".join(steps))


@contextmanager
def in_our_words(address: Address) -> Iterator[None]:
    """The driver's errors, and the network's, as `StoreError`s that say what to do."""
    driver = _driver()
    try:
        yield
    except driver.PostgresError as failure:
        # What follows the first line may quote rows.
        raise kind_of(failure.sqlstate or "")(f"{address} cannot be used: {failure.args[0]}.") from None
    except driver.DataError:
        raise StoreError(f"{address} cannot hold something that came.") from None
    except (driver.InterfaceError, driver.InternalClientError) as failure:
        raise StoreError(f"The connection to {address} is of no use: {failure.args[0]}.") from None
    except TimeoutError:
        raise silent(address) from None
    except OSError as failure:
        raise StoreError(f"{address} cannot be reached: {failure.strerror or failure}.") from None


def silent(address: Address) -> StoreError:
    """The error of a server that lets us wait."""
    return StoreError(f"{address} does not answer.")


def kind_of(state: str) -> type[StoreError]:
    """What an error of PostgreSQL's is to us (source: its documentation, "PostgreSQL Error Codes")."""
    # No permission to write, or none in a server that only repeats another one.
    if state in {"42501", "25006"}:
        return StoreUnreachable
    # Authorization; no such database, or schema.
    if state[:2] in {"28", "3D", "3F"}:
        return StoreUnreachable
    # Tables that are not as we made them; damage.
    if state[:2] == "42" or state in {"XX001", "XX002"}:
        return StoreBroken
    return StoreError
