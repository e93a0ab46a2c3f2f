"""A PostgreSQL server: reached, recognised, made ready, and held by one writer."""

import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from navtalk_async.archive._postgres_address import Address, driver
from navtalk_async.archive._postgres_turns import Patience
from navtalk_async.archive._schema import COLUMNS, INDEXES, SCHEMA_VERSION, schema, upgrade
from navtalk_async.errors import StoreBroken, StoreLocked, StoreMismatch, StoreUnreachable

if TYPE_CHECKING:
    from navtalk_async.archive._postgres_turns import Connection

__all__ = ["close", "connect", "connect_to_read", "hold", "prepare"]

CONNECT_SECONDS = 15.0


LOCK = 0x6E617674
"""Whose advisory locks are ours, in a database that others may use: "navt", as `application_id` in SQLite."""

LOCK_SECONDS = 2
"""How long a run waits for the lock of one that was killed: its server's process has to notice that first."""

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


async def connect(address: Address, patience: Patience) -> "Connection":
    """A connection to the database at *address*, which sees its current schema alone."""
    try:
        db = await driver().connect(address.url, timeout=CONNECT_SECONDS, command_timeout=patience.read)
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
        ["sync_schema", *COLUMNS, *INDEXES],
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
    except driver().LockNotAvailableError:
        raise StoreLocked(f"Another run is writing to {address}.") from None
    await db.execute("RESET lock_timeout")


async def prepare(db: "Connection", address: Address) -> None:
    """Make an archive if there is none, and refuse what is none, or a later one."""
    version = await recognised(db, address)
    if version == SCHEMA_VERSION:
        return
    if version is None:
        steps = [*schema(), "CREATE TABLE sync_schema (version INTEGER NOT NULL);"]
        steps.append(f"INSERT INTO sync_schema VALUES ({SCHEMA_VERSION});")
    else:
        found = await db.fetch(
            "SELECT table_name::text, array_agg(column_name::text) FROM information_schema.columns "
            "WHERE table_schema = current_schema() GROUP BY table_name"
        )
        steps = [*upgrade(version, dict(found)), f"UPDATE sync_schema SET version = {SCHEMA_VERSION};"]
    # In one text they are one transaction, which needs no trip of its own to be undone. What is compared and
    # ordered is so by its bytes, as in SQLite, whatever the database's own order is.
    words = {"text": 'TEXT COLLATE "C"', "word": "TEXT", "nulls_first": " NULLS FIRST"}
    await db.execute("".join(steps).format(**words))
