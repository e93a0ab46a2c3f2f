"""A PostgreSQL server: reached, recognised, prepared, held by one writer; its failures as sentences.

None of the driver's errors gets out: they may quote the address with its password, and what was said in a
chat.
"""

import asyncio
import re
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeAlias

from navtalk_async.archive._database import Access
from navtalk_async.archive._schema import COLUMNS, INDEXES, SCHEMA_VERSION, refuse_version, schema, upgrade
from navtalk_async.archive._views import VIEWS, comments
from navtalk_async.archive.failpoints import reach
from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreUnreachable

Connection: TypeAlias = Any  # asyncpg.Connection, which has no types

CONNECT_SECONDS = 15.0

LOCK = 0x6E617674
"""Whose advisory locks are ours, in a database that others may use: "navt", as `application_id` in SQLite."""

LOCK_SECONDS = 2
"""How long a run waits for the lock of one that was killed: its server's process has to notice that first."""

WORDS = {
    "text": 'TEXT COLLATE "C"',
    "word": "TEXT",
    "nulls_first": " NULLS FIRST",
    "random": "left(md5(random()::text || clock_timestamp()::text), 16)",
    "seconds": "EXTRACT(EPOCH FROM CAST(",
    "of": " AS TIMESTAMPTZ))",
}
"""The words of the schema. Text is compared by its bytes, as in SQLite, whatever the database's own order."""

SETTINGS = {
    # An archive may be idle for long: its lock is held by its connection.
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


VACUUM_SECONDS = 86_400.0
"""How long one table may take to be rewritten."""

OLDER_READERS = """
SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()
AND age(backend_xmin) >= (SELECT min(age(xmin)) FROM sync_forgotten WHERE NOT erased)
"""
"""Transactions that began before the latest session was forgotten: a vacuum keeps rows for them."""

INDEX_TABLES = "sync_search, sync_search_sessions, sync_search_state"

TABLES = """
SELECT array_agg(relname::text) FILTER (WHERE NOT pg_has_role(relowner, 'USAGE')),
       array_agg(oid::regclass::text) || CASE WHEN (
           SELECT pg_has_role(datdba, 'USAGE') FROM pg_database WHERE datname = current_database())
       THEN '{pg_statistic}'::text[] ELSE '{}' END
FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname::text = ANY($1)
"""
"""Those of others; and ours, with the statistics of columns, where the server lets us rewrite them."""


class Timeouts(NamedTuple):
    """How many seconds are waited for a server that may be silent, before its connection is ended."""

    read: float = 300.0
    """For a statement that reads, which may go through a whole table, or makes tables."""
    write: float = 60.0
    """For a statement of a transaction, which is of few rows; a run that is stopped waits for its commit."""
    grace: float = 5.0
    """For a piece of work whose caller was cancelled, or that is under way when the archive is closed."""
    farewell: float = 2.0
    """For a transaction to be rolled back, or the connection to be closed."""


class Server:
    """The server at a `postgresql://` URL as libpq has it, which is never shown with its password."""

    def __init__(self, url: str, timeouts: Timeouts) -> None:
        self.url = url
        self.timeouts = timeouts
        self._shown = without_password(url)
        driver()

    def __str__(self) -> str:
        return self._shown

    __repr__ = __str__

    @contextmanager
    def translated(self) -> Generator[None]:
        """The driver's errors, and the network's, as `StoreError`s that say what to do."""
        asyncpg = driver()
        try:
            yield
        except asyncpg.PostgresError as failure:
            # What follows the first line may quote rows.
            raise _kind_of(failure.sqlstate or "")(f"{self} cannot be used: {failure.args[0]}.") from None
        except asyncpg.DataError:
            raise StoreError(f"{self} cannot hold something that came.") from None
        except (asyncpg.InterfaceError, asyncpg.InternalClientError) as failure:
            raise StoreError(f"The connection to {self} is of no use: {failure.args[0]}.") from None
        except TimeoutError:
            raise self.silent() from None
        except OSError as failure:
            raise StoreError(f"{self} cannot be reached: {failure.strerror or failure}.") from None

    def silent(self) -> StoreError:
        return StoreError(f"{self} does not answer.")

    async def connect(self) -> Connection:
        """A connection that sees its current schema alone."""
        try:
            db = await driver().connect(self.url, timeout=CONNECT_SECONDS, command_timeout=self.timeouts.read)
        except OSError:
            raise
        except ValueError:
            raise StoreUnreachable(f"{self} is no address of a database.") from None
        try:
            _keep_alive(db)
            await self._settle(db)
        except BaseException:
            db.terminate()
            raise
        return db

    async def open(self, access: Access) -> Connection:
        """A connection to the archive; to write, it is made if there is none."""
        db = await self.connect()
        try:
            if access == "read":
                await db.execute("SET default_transaction_read_only = TRUE")
            elif access == "write":
                await self._hold(db)
            version = await self._version_in(db)
            if version is not None:
                refuse_version(version, self, read_only=access != "write")
            elif access != "write":
                raise StoreUnreachable(f"There is no archive at {self}.")  # noqa: TRY301
            if version != SCHEMA_VERSION:
                await self._prepare(db, version)
        except BaseException:
            db.terminate()
            raise
        return db

    async def _prepare(self, db: Connection, version: int | None) -> None:
        """Make an archive of this version: a new one, or of an earlier *version*."""
        if version is None:
            steps = [*schema(), "CREATE TABLE sync_schema (version INTEGER NOT NULL);", *comments()]
            steps += [f"INSERT INTO sync_schema VALUES ({SCHEMA_VERSION});"]
        else:
            rows = await db.fetch(
                "SELECT table_name::text, array_agg(column_name::text) FROM information_schema.columns "
                "WHERE table_schema = current_schema() GROUP BY table_name"
            )
            found: dict[str, list[str]] = dict(rows)
            steps = [*upgrade(version, found), *comments(VIEWS.keys() & found.keys())]
            steps += [f"UPDATE sync_schema SET version = {SCHEMA_VERSION};"]
        # In one text they are one transaction, which needs no trip of its own to be undone.
        await db.execute("".join(steps).format(**WORDS))

    async def remove_index(self, db: Connection) -> list[str]:
        """Drop the tables of the index for searches; sentences about what is left."""
        await db.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            reach("forget: before the index is removed")
            await db.execute(f"DROP TABLE IF EXISTS {INDEX_TABLES}")
            reach("forget: after the index is removed")
        except driver().LockNotAvailableError:
            return [f"Another session searches {self}: forget the same again when it has ended."]
        except driver().InsufficientPrivilegeError:
            return [f"The owner of the index for searches must run DROP TABLE {INDEX_TABLES}."]
        finally:
            await db.execute("RESET lock_timeout")
        return []

    async def erase(self, db: Connection) -> list[str]:
        """Rewrite all tables without their deleted rows; sentences about what may be left of those."""
        if await self._has_older_readers(db):
            return [
                f"Another session reads {self} as it was before: forget the same again when it has ended."
            ]
        foreign, tables = await db.fetchrow(TABLES, [*COLUMNS])
        if foreign:
            return [f"The owner of the tables must run VACUUM (FULL, ANALYZE) {', '.join(foreign)}."]
        await db.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            for table in tables:
                reach("erase: before vacuum")
                await db.execute(f"VACUUM (FULL, ANALYZE) {table}", timeout=VACUUM_SECONDS)
            reach("erase: after vacuum")
        except driver().LockNotAvailableError:
            return [f"Another session is reading {self}: forget the same again when it has ended."]
        finally:
            await db.execute("RESET lock_timeout")
        return []

    async def _has_older_readers(self, db: Connection) -> bool:
        """Whether some remain; an autovacuum, which is one too, soon ends."""
        for _ in range(10 * LOCK_SECONDS):
            if not await db.fetchval(OLDER_READERS):
                return False
            await asyncio.sleep(0.1)
        return True

    async def disconnect(self, db: Connection) -> None:
        """Let go of *db*, which may be dead."""
        try:
            await db.close(timeout=self.timeouts.farewell)
        except Exception:  # noqa: BLE001 - it is gone, one way or the other
            db.terminate()

    async def _settle(self, db: Connection) -> None:
        encoding, name = await db.fetchrow(
            "SELECT current_setting('server_encoding'), quote_ident(current_schema())",
            timeout=CONNECT_SECONDS,
        )
        if encoding != "UTF8":
            raise StoreUnreachable(
                f"{self} keeps text as {encoding}, which cannot hold every text; UTF8 can."
            )
        if name is None:
            raise StoreUnreachable(f"{self} has no schema to work in: none of its search_path may be used.")
        wanted = SETTINGS | {"search_path": name}
        await db.execute(
            "SELECT set_config(name, wanted.value, FALSE) FROM pg_settings "
            "JOIN unnest($1::text[], $2::text[]) AS wanted (name, value) USING (name)",
            list(wanted),
            list(wanted.values()),
            timeout=CONNECT_SECONDS,
        )

    async def _version_in(self, db: Connection) -> int | None:
        """The version of the archive in the schema of *db*; None if there is none."""
        found = await db.fetch(
            "SELECT relname::text FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace "
            "WHERE nspname = current_schema() AND relname::text = ANY($1)",
            ["sync_schema", *COLUMNS, *INDEXES, *VIEWS],
        )
        names = sorted(name for (name,) in found)
        if not names:
            return None
        version = (
            await db.fetchval("SELECT max(version) FROM sync_schema") if "sync_schema" in names else None
        )
        if version is None:
            raise StoreBroken(f"{self} has something else of the name {names[0]!r}; choose another schema.")
        return int(version)

    async def _hold(self, db: Connection) -> None:
        """The right to write to the schema, held until the connection ends, however it does."""
        await db.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        try:
            await db.execute(
                # The two keys of an advisory lock are signed; an oid is not.
                "SELECT pg_advisory_lock($1, oid::int) FROM pg_namespace WHERE nspname = current_schema()",
                LOCK,
            )
        except driver().LockNotAvailableError:
            raise StoreLocked(f"Another run is writing to {self}.") from None
        await db.execute("RESET lock_timeout")


def without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    # A password may hold any character, if not by right: it ends at the last @.
    user, at, place = rest.rpartition("@")
    shown = f"{scheme}://{user.partition(':')[0]}{at}{place}"
    return re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)


def driver() -> Any:
    """The module asyncpg, if it is installed."""
    try:
        import asyncpg  # noqa: PLC0415 - the extra may be missing
    except ImportError as missing:
        raise StoreUnreachable(
            "An archive in PostgreSQL needs: pip install 'navtalk-async[postgres]'"
        ) from missing
    return asyncpg


def _kind_of(state: str) -> type[StoreError]:
    """What an error of PostgreSQL's is to us (source: its documentation, "PostgreSQL Error Codes")."""
    # No permission to write, or none in a server that only repeats another one; authorization; no such
    # database, or schema.
    if state in {"42501", "25006"} or state[:2] in {"28", "3D", "3F"}:
        return StoreUnreachable
    # Tables that are not as we made them; damage.
    if state[:2] == "42" or state in {"XX001", "XX002"}:
        return StoreBroken
    return StoreError


def _keep_alive(db: Connection) -> None:
    wire = db._transport.get_extra_info("socket")  # noqa: SLF001 - the driver has no other way to it
    if wire.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    # A platform that refuses one of them is none the worse for it: each answer has its bound.
    with suppress(OSError):
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):
                wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
