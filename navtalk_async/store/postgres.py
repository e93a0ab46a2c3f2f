"""A store in PostgreSQL: the schema of a database, for an archive that many read.

One connection writes. It holds the right to do so, which the server takes back when the connection ends; so
it is never made anew, and a run that loses it ends. That asks for a connection of its own: behind a pooler
that shares connections among transactions, two runs would not exclude each other.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from navtalk_async.models import Place, Session
from navtalk_async.store.judging import (
    FULL_PAGE,
    Change,
    Clock,
    Fetched,
    Journalled,
    Judged,
    Known,
    MessageCounts,
    Rewrite,
    apart,
    damaged_below,
    instant,
    judged,
    rewritten,
)
from navtalk_async.store.postgres_reader import PostgresReader, grouped
from navtalk_async.store.postgres_server import connect, hold, prepare
from navtalk_async.store.postgres_text import (
    plain,
    read_id,
    read_session,
    written_id,
    written_message,
    written_session,
)
from navtalk_async.store.postgres_turns import PATIENCE, Patience, Transaction, numbered
from navtalk_async.store.progress_rows import (
    StandingRow,
    as_json,
    kept_row,
    known,
    standing,
    unread,
    waiting_rows,
)
from navtalk_async.store.rows import MessageRow, SessionRow, row_digest, row_digest_after, session_row
from navtalk_async.store.statements import (
    DISTRUST,
    FORGET_SEEN,
    GIVE_UP_ROUND,
    KNOWN_ORDERS,
    NOTE_RUN,
    PLACES,
    READ_WHOLE,
    REFUTE,
    REREAD_ROW,
    RETRY,
    ROUND,
    SERVER,
    STANDING,
    UNFINISHED,
    UNREAD,
    UNWATCH,
    VANISH,
    VANISHED,
    VANISHING,
    WAITED,
    WAITING,
)
from navtalk_async.store.store import Failed, Round, Run, Standing, Unread

__all__ = ["PostgresStore"]


def lists(types: Iterable[str]) -> str:
    """A table with columns of those *types*, which are given as a list each."""
    return f"unnest({', '.join(f'${n}::{each}[]' for n, each in enumerate(types, 1))})"


PUT_SESSIONS = f"""
INSERT INTO sessions SELECT * FROM {lists(["text"] * len(SessionRow._fields))}
ON CONFLICT (project, id) DO UPDATE SET
    status = excluded.status, start_time = excluded.start_time, end_time = excluded.end_time,
    title = excluded.title, video_url = excluded.video_url, raw = excluded.raw,
    content_hash = excluded.content_hash, last_changed_at = excluded.last_changed_at, deleted_at = NULL
"""

PUT_MESSAGES = f"""
INSERT INTO messages
SELECT * FROM {lists("bigint" if name == "position" else "text" for name in MessageRow._fields)}
ON CONFLICT (project, session_id, id) DO UPDATE SET
    position = excluded.position, role = excluded.role, type = excluded.type,
    content = excluded.content, created_at = excluded.created_at, raw = excluded.raw
"""

PUT_PENDING = f"""
INSERT INTO sync_sessions (project, session_id, state, content_hash, watched, settles_at, row_digest)
SELECT project, id, 'pending', content_hash, watched, settles_at, row_digest
FROM {lists(["text", "text", "text", "boolean", "text", "text"])}
    AS new (project, id, content_hash, watched, settles_at, row_digest)
ON CONFLICT (project, session_id) DO UPDATE SET
    state = 'pending', content_hash = excluded.content_hash, reason = NULL, attempts = 0,
    watched = excluded.watched, settles_at = excluded.settles_at, row_digest = excluded.row_digest
"""

PUT_KEPT = f"""
UPDATE sync_sessions AS y SET
    state = CASE WHEN y.state = 'pending' AND y.content_hash IS DISTINCT FROM k.content_hash
                 THEN 'pending' ELSE 'kept' END,
    watched = y.watched AND NOT (k.is_whole AND COALESCE(y.settles_at <= k.at, FALSE)),
    reason = NULL, attempts = 0, read_at = k.at, messages = k.messages, digest = k.digest,
    next = k.next, first = k.first
FROM {lists(["text", "text", "text", "text", "boolean", "bigint", "text", "text", "bigint"])}
    AS k (project, id, content_hash, at, is_whole, messages, digest, next, first)
WHERE y.project = k.project AND y.session_id = k.id AND (
    y.state <> 'kept' OR (y.messages, y.digest, y.next) IS DISTINCT FROM (k.messages, k.digest, k.next)
    OR (y.watched AND k.is_whole AND y.settles_at <= k.at))
"""
"""One of which nothing is new is not touched."""

PUT_WAITING = f"INSERT INTO sync_waiting SELECT * FROM {lists(['text'] * 3)} ON CONFLICT DO NOTHING"

PUT_SEEN = f"INSERT INTO sync_seen SELECT * FROM {lists(['text', 'text'])} ON CONFLICT DO NOTHING"

KNOWN = f"""
SELECT s.id, CASE WHEN s.deleted_at IS NULL THEN s.content_hash END,
       y.state = 'pending', y.state = 'failed', y.watched, y.settles_at, y.read_at, y.messages,
       CASE WHEN y.messages >= {FULL_PAGE} THEN (
           SELECT m.created_at FROM messages AS m WHERE m.project = s.project AND m.session_id = s.id
           ORDER BY m.position DESC LIMIT 1) END,
       s.deleted_at IS NOT NULL
FROM sessions AS s JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = $1 AND s.id = ANY($2)
"""

HELD = f"""
SELECT {", ".join(f"m.{name}" for name in MessageRow._fields)}
FROM sync_sessions AS y JOIN messages AS m ON m.project = y.project AND m.session_id = y.session_id
WHERE y.project = $1 AND y.session_id = ANY($2) AND y.messages IS DISTINCT FROM 0
ORDER BY m.session_id, m.position
"""

DIGESTS = "SELECT session_id, digest FROM sync_sessions WHERE project = $1 AND session_id = ANY($2)"

THE_MESSAGES = "project = $1 AND (session_id, id) IN (SELECT * FROM unnest($2::text[], $3::text[]))"

PUT_GONE = f"""
INSERT INTO sync_gone ({", ".join(MessageRow._fields)}, gone_at)
SELECT {", ".join(MessageRow._fields)}, $4 FROM messages WHERE {THE_MESSAGES}
ON CONFLICT (project, session_id, id) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in (*MessageRow._fields[3:], "gone_at"))}
"""

PUT_FAILED = """
INSERT INTO sync_sessions AS y (project, session_id, reason, attempts, state)
VALUES ($1, $2, $3, $4, 'failed')
ON CONFLICT (project, session_id) DO UPDATE
SET state = 'failed', reason = excluded.reason, attempts = y.attempts + excluded.attempts
"""


class PostgresStore(PostgresReader):
    """A store in the database at *url*, its tables made if they are not there; an `async with` that holds the
    schema alone. See `PostgresReader` for *url*.

    Raises:
        StoreLocked: another run writes to it.
        StoreUnreachable: the user, the database or the schema is refused.
        StoreBroken: there is something else of the same names, or it is damaged.
        StoreMismatch: it was written by a newer version.
        StoreError: the server is away, or does not answer.
    """

    def __init__(self, url: str, *, patience: Patience = PATIENCE) -> None:
        super().__init__(url, patience=patience)
        self._apis: dict[str, str] = {}

    async def claim(
        self,
        project: str,
        *,
        api: str,
        scope: str,
        server: str | None = None,
        server_moved: bool = False,
        retry_failed: bool = False,
        reconcile: bool = False,
    ) -> Standing:
        """See `Store.claim`."""
        self._apis[project] = api
        asked = {"api": api, "scope": scope, "server": server, "server_moved": server_moved}
        return await self._run(self._claim, project, asked, retry_failed, reconcile)

    async def journal(
        self,
        project: str,
        sessions: Sequence[Session],
        *,
        clock: Clock,
        round: Round,  # noqa: A002
        places: Sequence[Place] | None = None,
        seen: Sequence[str] = (),
        quiet: bool = False,
        matches: Callable[[Session], bool] | None = None,
    ) -> Journalled:
        """See `Store.journal`."""
        judge = partial(self._judged, project, sessions, clock, matches, is_listed=places is not None)
        write = partial(self._journal, project, clock=clock, round=round, places=places, seen=seen)
        return await self._run(_journalled, judge, write, quiet)

    async def keep(self, project: str, finished: Sequence[Fetched]) -> MessageCounts:
        """See `Store.keep`."""
        return await self._run(self._keep, project, finished)

    async def missing(self, project: str, *, since: str | None) -> list[str]:
        """See `Store.missing`."""
        rows = await self._run(
            self._all,
            """SELECT id FROM sessions AS s WHERE project = ? AND deleted_at IS NULL
            AND (?::text IS NULL OR start_time > ?) AND NOT EXISTS (
                SELECT 1 FROM sync_seen WHERE project = s.project AND session_id = s.id)
            ORDER BY start_time, id""",
            *(project, since, since),
        )
        return [read_id(session_id) for (session_id,) in rows]

    async def watched(self, project: str, *, fresh: str, since: str | None = None) -> list[str]:
        """See `Store.watched`."""
        if since is not None:
            await self._run(self._write, project, "unwatch", UNWATCH, project, project, since)
        rows = await self._run(
            self._all,
            """SELECT session_id FROM sync_sessions AS y JOIN sessions AS s
            ON s.project = y.project AND s.id = y.session_id
            WHERE y.project = ? AND watched AND (
                (state = 'kept' AND COALESCE(read_at, '') < ?)
                OR (state = 'pending' AND last_changed_at < ?))
            UNION SELECT session_id FROM sync_waiting
            WHERE project = ? AND (?::text IS NULL OR COALESCE(start_time >= ?, TRUE))""",
            *(project, fresh, fresh, project, since, since),
        )
        return [read_id(session_id) for (session_id,) in rows]

    async def holds(self, project: str, sessions: Sequence[str]) -> bool:
        """See `Store.holds`."""
        rows = await self._run(
            self._all,
            "SELECT 1 FROM sessions WHERE project = ? AND id = ANY(?) LIMIT 1",
            *(project, [written_id(each) for each in sessions]),
        )
        return bool(rows)

    async def distrust(self, project: str, sessions: Sequence[str]) -> None:
        """See `Store.distrust`; what the server's indexes need is the server's business."""
        await self._run(self._distrust, project, [written_id(each) for each in sessions])

    async def refute(self, project: str) -> None:
        """See `Store.refute`."""
        await self._run(self._write, project, "refute", REFUTE, project)

    async def unread(self, project: str) -> list[Unread]:
        """See `Store.unread`."""
        rows = await self._run(self._all, UNREAD, project)
        return [unread((read_id(session_id), *told)) for session_id, *told in rows]

    async def fail(self, project: str, failures: Sequence[Failed]) -> None:
        """See `Store.fail`."""
        await self._run(self._fail, project, failures)

    async def vanish(self, project: str, session_id: str) -> bool:
        """See `Store.vanish`."""
        return await self._run(self._vanish, project, written_id(session_id))

    async def finish(self, project: str, round: Round, run: Run) -> None:  # noqa: A002
        """See `Store.finish`."""
        await self._run(self._finish, project, round, run)

    async def note(self, project: str, run: Run) -> None:
        """See `Store.note`."""
        await self._run(self._write, project, "note", NOTE_RUN, as_json(run), project)

    # What follows runs one at a time.

    async def _open(self) -> None:
        self._is_silent = False
        self._db = await connect(self._address, self._patience)
        await hold(self._db, self._address)
        await prepare(self._db, self._address)

    def _change(self, project: str, name: str) -> Transaction:
        return Transaction(self._connection, name, project, self._patience)

    async def _write(self, project: str, name: str, statement: str, *values: object) -> None:
        async with self._change(project, name) as change:
            await change.write(numbered(statement), *values)

    async def _claim(
        self,
        project: str,
        asked: dict[str, Any],
        retry_failed: bool,  # noqa: FBT001
        reconcile: bool,  # noqa: FBT001
    ) -> Standing:
        async with self._change(project, "claim") as change:
            # A project of which nothing came yet, its key being refused, say, is not bound to its filters.
            await change.write(
                """UPDATE sync_projects SET api = $2, server = $3, scope = $4, refuted = FALSE
                WHERE project = $1 AND (api <> $2 OR server <> $3 OR scope <> $4)
                AND round IS NULL AND rounds = 0
                AND NOT EXISTS (SELECT 1 FROM sessions WHERE project = $1)""",
                *(project, asked["api"], asked["server"], asked["scope"]),
            )
            await change.write(
                "INSERT INTO sync_projects (project, api, server, scope) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT DO NOTHING",
                *(project, asked["api"], asked["server"], asked["scope"]),
            )
            if retry_failed:
                await change.write(numbered(RETRY), project)
            [row] = await change.all(numbered(STANDING), project)
            found = StandingRow(*row)
            found.refuse_others(self._address, project, **asked)
            if asked["server"] not in (None, found.server):
                await change.write(numbered(SERVER), asked["server"], project)
        if found.is_given_up(reconcile=reconcile):
            await self._give_up_round(project)
            found = found._replace(round=None, places=None)
        unfinished = await self._all(UNFINISHED, project)
        return standing(
            found,
            [(read_id(session_id), of, state) for session_id, of, state in unfinished],
            await self._some(project),
            [read_id(session_id) for (session_id,) in await self._all(WAITING, project)],
        )

    async def _give_up_round(self, project: str) -> None:
        async with self._change(project, "give up") as change:
            await change.write(numbered(FORGET_SEEN), project)
            await change.write(numbered(GIVE_UP_ROUND), project)

    async def _some(self, project: str) -> list[str]:
        """Some sessions that are kept."""
        some: list[str] = []
        for order in KNOWN_ORDERS:
            # Where PostgreSQL puts what has no time is not where SQLite does: it matters to nobody.
            query = (
                f"SELECT id FROM sessions WHERE project = ? AND deleted_at IS NULL ORDER BY {order} LIMIT 1"
            )
            some += [read_id(session_id) for (session_id,) in await self._all(query, project)]
        return some

    async def _judged(
        self,
        project: str,
        sessions: Sequence[Session],
        clock: Clock,
        matches: Callable[[Session], bool] | None,
        *,
        is_listed: bool,
    ) -> Judged:
        known = await self._what_is_known(project, sessions)
        if matches is None:
            return judged(sessions, known, clock, is_listed=is_listed)
        held = [written_id(session.id) for session in sessions]
        waiting = await self._all(f"{WAITING} AND session_id = ANY(?)", project, held)
        ids = {read_id(session_id) for (session_id,) in waiting}
        return judged(sessions, known, clock, is_listed=is_listed, matches=matches, waiting=ids)

    async def _journal(
        self,
        project: str,
        found: Judged,
        *,
        clock: Clock,
        round: Round,  # noqa: A002
        places: Sequence[Place] | None,
        seen: Sequence[str],
    ) -> None:
        async with self._change(project, "journal") as change:
            await self._put_sessions(change, project, found, clock)
            await change.write_all(PUT_SEEN, [(project, written_id(session_id)) for session_id in seen])
            waiting = waiting_rows(project, found.left_out)
            await change.write_all(PUT_WAITING, [(each, written_id(name), at) for each, name, at in waiting])
            for session_id in found.waited:
                await change.write(numbered(WAITED), project, written_id(session_id))
            await change.write(numbered(ROUND), as_json(round), project)
            if places is not None:
                await change.write(numbered(PLACES), as_json(places) if places else None, project)

    async def _what_is_known(self, project: str, sessions: Sequence[Session]) -> Mapping[str, Known]:
        rows = await self._all(KNOWN, project, [written_id(session.id) for session in sessions])
        return {read_id(session_id): known(told) for session_id, *told in rows}

    async def _put_sessions(self, change: Transaction, project: str, found: Judged, clock: Clock) -> None:
        news: Sequence[Change] = (*found.inserted, *found.changed)
        rows = [session_row(project, self._apis[project], each.session, clock.now) for each in news]
        await change.write_all(PUT_SESSIONS, [written_session(row) for row in rows])
        pending = [
            (written_id(row.id), row.content_hash, each.is_watched, each.settles_at, row_digest(row))
            for each, row in zip(news, rows, strict=True)
        ]
        await change.write_all(PUT_PENDING, [(project, *each) for each in pending])

    async def _keep(self, project: str, finished: Sequence[Fetched]) -> MessageCounts:
        async with self._change(project, "keep") as change:
            counts = [await self._put_readings(change, project, readings) for readings in apart(finished)]
        return MessageCounts.all(counts)

    async def _put_readings(
        self, change: Transaction, project: str, readings: Sequence[Fetched]
    ) -> MessageCounts:
        """Write *readings*, of different sessions."""
        sessions = [written_id(each.wanted.id) for each in readings]
        held = grouped(await change.all(HELD, project, sessions))
        parts = [written_id(each.wanted.id) for each in readings if each.is_part]
        noted = {read_id(name): of for name, of in await change.all(DIGESTS, project, parts)} if parts else {}
        refused = damaged_below(readings, held, noted)
        for session_id in refused:
            await change.write(numbered(READ_WHOLE), project, written_id(session_id))
        found = [
            (each, rewritten(project, each, held.get(each.wanted.id, [])))
            for each in readings
            if each.wanted.id not in refused
        ]
        await self._put_messages(change, project, [each for _, each in found])
        kept = [kept_row(project, fetched, made) for fetched, made in found]
        await change.write_all(PUT_KEPT, [row._replace(id=written_id(row.id)) for row in kept])
        return MessageCounts.all(each.counts for _, each in found)

    async def _put_messages(self, change: Transaction, project: str, made: Sequence[Rewrite]) -> None:
        gone = places_of(row for each in made for row in each.gone)
        if any(gone):
            await change.write(PUT_GONE, project, *gone, instant(datetime.now(UTC)))
            await change.write(f"DELETE FROM messages WHERE {THE_MESSAGES}", project, *gone)
        put = [row for each in made for row in each.put]
        await change.write_all(PUT_MESSAGES, [written_message(row) for row in put])
        if put:
            # Some may have come back.
            await change.write(f"DELETE FROM sync_gone WHERE {THE_MESSAGES}", project, *places_of(put))

    async def _fail(self, project: str, failures: Sequence[Failed]) -> None:
        async with self._change(project, "fail") as change:
            for session_id, reason, attempts in failures:
                await change.write(PUT_FAILED, project, written_id(session_id), plain(reason), attempts)

    async def _vanish(self, project: str, session_id: str) -> bool:
        now = instant(datetime.now(UTC))
        async with self._change(project, "vanish") as change:
            rows = await change.all(numbered(VANISHING), project, session_id)
            waited = await change.all(numbered(f"{WAITING} AND session_id = ?"), project, session_id)
            await change.write(numbered(VANISH), now, project, session_id)
            for *row, noted in rows:
                of = row_digest_after(read_session(SessionRow(*row)), noted, deleted_at=now)
                await change.write(numbered(VANISHED), of, project, session_id)
            await change.write(numbered(WAITED), project, session_id)
        return bool(rows or waited)

    async def _distrust(self, project: str, sessions: Sequence[str]) -> None:
        async with self._change(project, "distrust") as change:
            for each in sessions:
                await change.write(numbered(DISTRUST), project, each)
                await change.write(numbered(REREAD_ROW), project, each)

    async def _finish(self, project: str, round: Round, run: Run) -> None:  # noqa: A002
        # A session dated in the future does not take the next round beyond this one.
        reached = None if round.reached is None else min(round.reached, round.began)
        async with self._change(project, "finish") as change:
            await change.write(numbered(FORGET_SEEN), project)
            await change.write(
                """UPDATE sync_projects SET round = NULL, places = NULL, rounds = rounds + 1, last_run = $2,
                watermark = GREATEST(watermark, $3) WHERE project = $1""",
                *(project, as_json(run), reached),
            )


def places_of(rows: Iterable[MessageRow]) -> tuple[list[str], list[str]]:
    """The sessions and the ids of messages, as they are written, a list each."""
    found = [(written_id(row.session_id), written_id(row.id)) for row in rows]
    return [session_id for session_id, _ in found], [name for _, name in found]


async def _journalled(
    judge: Callable[[], Awaitable[Judged]],
    write: Callable[[Judged], Awaitable[None]],
    quiet: bool,  # noqa: FBT001
) -> Journalled:
    found = await judge()
    is_written = found.is_news or not quiet
    if is_written:
        await write(found)
    return found.told(was_written=is_written)
