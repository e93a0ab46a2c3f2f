"""Limits in a table of a PostgreSQL database, for the processes of many machines.

The clock is the server's. Each change is one statement: no lock waits for a client, which may be gone.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from navtalk_async.archive._postgres_server import LOCK, Server, Timeouts
from navtalk_async.errors import StoreBroken, StoreError
from navtalk_async.scale import SharedLimits, no_rate
from navtalk_async.scale._rule import AGAIN, AHEAD, KEPT, RECOVERY, SLOWEST
from navtalk_async.wire.rate import checked_rate
from navtalk_async.wire.retry import LONGEST_PAUSE
from navtalk_async.wire.shared_turns import Reservation

if TYPE_CHECKING:
    from navtalk_async.archive._postgres_server import Connection

TABLE = f"""
BEGIN;
SELECT pg_advisory_xact_lock({LOCK});
CREATE TABLE IF NOT EXISTS sync_limits (name TEXT PRIMARY KEY, rate FLOAT8 NOT NULL,
    next_at FLOAT8 NOT NULL DEFAULT 0, paused_until FLOAT8 NOT NULL DEFAULT 0,
    share FLOAT8 NOT NULL DEFAULT 1, share_at FLOAT8 NOT NULL DEFAULT 0) WITH (fillfactor = 20);
COMMENT ON TABLE sync_limits IS 'Rates that processes share; each name is a hash of a server and a key.';
COMMIT;
"""

JOIN = """INSERT INTO sync_limits (name, rate) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET rate = EXCLUDED.rate"""

# The row, as nobody else changes it any more, and then the time.
NOW = f"""WITH row AS MATERIALIZED (SELECT * FROM sync_limits WHERE name = $1 FOR UPDATE),
clock AS MATERIALIZED (SELECT row.*, EXTRACT(EPOCH FROM clock_timestamp())::float8 AS now FROM row),
state AS MATERIALIZED (SELECT clock.*,
    rate * LEAST(1.0, share + GREATEST(0.0, now - share_at) / {RECOVERY}) AS speed FROM clock)"""

RESERVE = f"""{NOW},
begun AS (SELECT state.*, LEAST(paused_until - now, {LONGEST_PAUSE}) AS paused_for,
    GREATEST(now, LEAST(next_at, now + {AHEAD} + 1 / speed)) AS first FROM state),
granted AS (SELECT begun.*, CASE WHEN paused_for > 0 THEN 0
    ELSE GREATEST(0, LEAST($2::float8, CEIL((now + {AHEAD} - first) * speed))) END AS count FROM begun)
UPDATE sync_limits AS kept
SET next_at = CASE WHEN g.paused_for > 0 THEN g.next_at ELSE g.first + g.count / g.speed END
FROM granted AS g WHERE kept.name = g.name
RETURNING g.first - g.now, g.count::int, 1 / g.speed, kept.next_at - g.now - {AGAIN}, g.paused_for"""

PAUSE = f"""{NOW},
told AS (SELECT state.*, paused_until <= now + {LONGEST_PAUSE} AS is_sane FROM state)
UPDATE sync_limits AS kept SET
    paused_until = GREATEST(t.now + $2, CASE WHEN is_sane THEN t.paused_until ELSE 0 END),
    share = CASE WHEN $3 AND NOT (t.now < t.paused_until AND is_sane)
        THEN GREATEST({SLOWEST}, {KEPT} * speed / t.rate) ELSE t.share END,
    share_at = CASE WHEN $3 AND NOT (t.now < t.paused_until AND is_sane)
        THEN t.now + $2 ELSE t.share_at END
FROM told AS t WHERE kept.name = t.name"""


class PostgresLimits(SharedLimits):
    """The limits in the current schema of the database at *url*."""

    def __init__(self, url: str) -> None:
        self._server = Server(url, Timeouts())
        self._db: Connection | None = None
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<SharedLimits in {self._server}>"

    async def aclose(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            async with self._turn:
                await self._server.disconnect(db)

    async def join(self, name: str, rate: float | None) -> float:
        if checked_rate(rate) is not None:
            await self._ask(JOIN, name, rate)
        rows = await self._ask("SELECT rate FROM sync_limits WHERE name = $1", name)
        if not rows:
            raise no_rate(self._server)
        return float(rows[0][0])

    async def reserve(self, name: str, most: int) -> Reservation:
        rows = await self._ask(RESERVE, name, most)
        at = time.monotonic()
        if not rows:
            raise StoreBroken(f"The limit was removed from {self._server} while it was in use.")
        first, count, between, again, paused_for = rows[0]
        turns = [first + number * between for number in range(count)]
        if paused_for > 0:
            again = paused_for
        return Reservation(at, turns, 0.0 if count == most else again, max(0.0, paused_for), between)

    async def pause(self, name: str, seconds: float, *, refused: bool) -> None:
        await self._ask(PAUSE, name, min(seconds, LONGEST_PAUSE), refused)

    async def _open(self) -> None:
        with self._server.translated():
            self._db = await self._connected()

    async def _connected(self) -> "Connection":
        db = await self._server.connect()
        try:
            # What is lost with the power was old.
            await db.execute("SET synchronous_commit = off")
            # Who may not make tables may use one that is there.
            if await db.fetchval("SELECT to_regclass('sync_limits') IS NULL"):
                await db.execute(TABLE)
        except BaseException:
            db.terminate()
            raise
        return db

    async def _ask(self, statement: str, *values: Any) -> Sequence[Any]:
        """The rows of *statement*; a connection that was lost is made again, once."""
        async with self._turn:
            db = self._db
            if db is None:
                raise StoreError(f"The limits in {self._server} are not open: use their `async with`.")
            with self._server.translated():
                if db.is_closed():
                    db = self._db = await self._connected()
                rows: Sequence[Any] = await db.fetch(statement, *values)
                return rows
