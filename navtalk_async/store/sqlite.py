"""A store in one SQLite file: the embedded default.

One connection writes, in a thread of its own; readers have theirs. WAL lets both work at once, and
`synchronous=FULL` makes a commit outlast the power. WAL needs a local disk.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from navtalk_async.failpoints import reach
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
from navtalk_async.store.progress_rows import (
    KeptRow,
    StandingRow,
    as_json,
    kept_row,
    known,
    standing,
    unread,
    waiting_rows,
)
from navtalk_async.store.rows import MessageRow, SessionRow, row_digest, row_digest_after, session_row
from navtalk_async.store.seal import Seal, fingerprint, mark
from navtalk_async.store.sqlite_file import HeldFile, Transaction, connect, prepare
from navtalk_async.store.sqlite_reader import SqliteReader
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

__all__ = ["SqliteStore"]

PUT_SESSIONS = """
INSERT INTO sessions VALUES {rows}
ON CONFLICT (project, id) DO UPDATE SET
    status = excluded.status, start_time = excluded.start_time, end_time = excluded.end_time,
    title = excluded.title, video_url = excluded.video_url, raw = excluded.raw,
    content_hash = excluded.content_hash, last_changed_at = excluded.last_changed_at, deleted_at = NULL
"""

PUT_MESSAGES = """
INSERT INTO messages VALUES {rows}
ON CONFLICT (project, session_id, id) DO UPDATE SET
    position = excluded.position, role = excluded.role, type = excluded.type,
    content = excluded.content, created_at = excluded.created_at, raw = excluded.raw
"""

THE_MESSAGE = "project = ? AND session_id = ? AND id = ?"
place_of = attrgetter("project", "session_id", "id")

PUT_PENDING = """
INSERT INTO sync_sessions (project, session_id, state, content_hash, watched, settles_at, row_digest)
VALUES {rows}
ON CONFLICT (project, session_id) DO UPDATE SET
    state = 'pending', content_hash = excluded.content_hash, reason = NULL, attempts = 0,
    watched = excluded.watched, settles_at = excluded.settles_at, row_digest = excluded.row_digest
"""

PUT_KEPT = """
INSERT INTO sync_sessions
    (project, session_id, state, content_hash, read_at, settles_at, messages, digest, next, first)
VALUES {rows}
ON CONFLICT (project, session_id) DO UPDATE SET
    state = CASE WHEN state = 'pending' AND content_hash IS NOT excluded.content_hash
            THEN 'pending' ELSE 'kept' END,
    watched = watched AND NOT COALESCE(settles_at <= excluded.settles_at, 0),
    reason = NULL, attempts = 0, read_at = excluded.read_at, messages = excluded.messages,
    digest = excluded.digest, next = excluded.next, first = excluded.first
WHERE state <> 'kept' OR messages IS NOT excluded.messages OR digest IS NOT excluded.digest
    OR next IS NOT excluded.next OR (watched AND settles_at <= excluded.settles_at)
"""
"""One of which nothing is new is not touched."""

KNOWN = f"""
SELECT s.id, CASE WHEN s.deleted_at IS NULL THEN s.content_hash END,
       y.state = 'pending', y.state = 'failed', y.watched, y.settles_at, y.read_at, y.messages,
       CASE WHEN y.messages >= {FULL_PAGE} THEN (
           SELECT m.created_at FROM messages AS m WHERE m.project = s.project AND m.session_id = s.id
           ORDER BY m.position DESC LIMIT 1) END,
       s.deleted_at IS NOT NULL
FROM sessions AS s JOIN sync_sessions AS y ON y.project = s.project AND y.session_id = s.id
WHERE s.project = ? AND s.id IN ({{ids}})
"""

HELD = f"""
SELECT {", ".join(f"m.{name}" for name in MessageRow._fields)}
FROM sync_sessions AS y JOIN messages AS m ON m.project = y.project AND m.session_id = y.session_id
WHERE y.project = ? AND y.session_id IN ({{ids}}) AND y.messages IS NOT 0
ORDER BY m.session_id, m.position
"""

DIGESTS = "SELECT session_id, digest FROM sync_sessions WHERE project = ? AND session_id IN ({ids})"

PUT_WAITING = """
INSERT INTO sync_waiting VALUES {rows} ON CONFLICT (project, session_id) DO NOTHING
"""


class SqliteStore(SqliteReader):
    """A store in the file *path*, made if it is not there; an `async with` that holds it alone.

    Raises:
        StoreLocked: another process writes to it.
        StoreBroken: the file is damaged, or is no archive.
        StoreMismatch: it was written by a newer version.
        StoreError: it cannot be opened there.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._file: HeldFile | None = None
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
            AND (? IS NULL OR start_time > ?) AND NOT EXISTS (
                SELECT 1 FROM sync_seen WHERE project = s.project AND session_id = s.id)
            ORDER BY start_time, id""",
            (project, since, since),
        )
        return [session_id for (session_id,) in rows]

    async def watched(self, project: str, *, fresh: str, since: str | None = None) -> list[str]:
        """See `Store.watched`."""
        if since is not None:
            await self._run(self._write, project, "unwatch", UNWATCH, [(project, project, since)])
        rows = await self._run(
            self._all,
            """SELECT session_id FROM sync_sessions AS y JOIN sessions AS s
            ON s.project = y.project AND s.id = y.session_id
            WHERE y.project = ? AND watched = 1 AND (
                (state = 'kept' AND COALESCE(read_at, '') < ?)
                OR (state = 'pending' AND last_changed_at < ?))
            UNION SELECT session_id FROM sync_waiting
            WHERE project = ? AND (? IS NULL OR COALESCE(start_time >= ?, TRUE))""",
            (project, fresh, fresh, project, since, since),
        )
        return [session_id for (session_id,) in rows]

    async def holds(self, project: str, sessions: Sequence[str]) -> bool:
        """See `Store.holds`."""
        query = "SELECT 1 FROM sessions WHERE project = ? AND id IN ({ids}) LIMIT 1"
        return bool(await self._run(self._all_of, query, project, sessions))

    async def distrust(self, project: str, sessions: Sequence[str]) -> None:
        """See `Store.distrust`."""
        await self._run(self._distrust, project, sessions)

    async def refute(self, project: str) -> None:
        """See `Store.refute`."""
        await self._run(self._write, project, "refute", REFUTE, [(project,)])

    async def unread(self, project: str) -> list[Unread]:
        """See `Store.unread`."""
        return [unread(row) for row in await self._run(self._all, UNREAD, (project,))]

    async def fail(self, project: str, failures: Sequence[Failed]) -> None:
        """See `Store.fail`."""
        await self._run(
            self._write,
            project,
            "fail",
            """INSERT INTO sync_sessions (project, session_id, reason, attempts, state)
            VALUES (?, ?, ?, ?, 'failed') ON CONFLICT (project, session_id) DO UPDATE
            SET state = 'failed', reason = excluded.reason, attempts = attempts + excluded.attempts""",
            [(project, *failure) for failure in failures],
        )

    async def vanish(self, project: str, session_id: str) -> bool:
        """See `Store.vanish`."""
        return await self._run(self._vanish, project, session_id)

    async def finish(self, project: str, round: Round, run: Run) -> None:  # noqa: A002
        """See `Store.finish`."""
        await self._run(self._finish, project, round, run)

    async def note(self, project: str, run: Run) -> None:
        """See `Store.note`."""
        await self._run(self._write, project, "note", NOTE_RUN, [(as_json(run), project)])

    async def sealed(self) -> Seal | None:
        """The file as it is now, with all that was ever committed in it; until something is written, it stays
        so. None where others read in it just now for longer than we wait.
        """
        return await self._run(self._sealed)

    # What follows runs in the store's thread, one at a time.

    def _sealed(self) -> Seal | None:
        reach("seal: before checkpoint")
        [(is_busy, _, _)] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        reach("seal: after checkpoint")
        found = mark(self._connection)
        self._connection.close()
        self._db = None
        try:
            size, sha256 = fingerprint(self.path)
        finally:
            self._db = connect(self.path)
        if is_busy:
            return None
        return Seal(name=self.path.name, bytes=size, sha256=sha256, changes=found.changes, state=found.state)

    def _open(self) -> None:
        self._file = HeldFile(self.path)
        self._db = connect(self.path)
        prepare(self._db)

    def _close(self) -> None:
        super()._close()
        if self._file is not None:
            self._file.close()
        self._file = None

    def _refuse_another_file(self) -> None:
        """Refuse to go on in a file that nobody will find again."""
        if self._file is not None:
            self._file.refuse_another(self.path)

    def _change(self, project: str, name: str) -> Transaction:
        return Transaction(self._connection, name, project)

    def _write(self, project: str, name: str, statement: str, rows: Sequence[Sequence[object]]) -> None:
        with self._change(project, name) as change:
            change.write(statement, rows)

    def _claim(
        self,
        project: str,
        asked: dict[str, Any],
        retry_failed: bool,  # noqa: FBT001
        reconcile: bool,  # noqa: FBT001
    ) -> Standing:
        self._refuse_another_file()
        with self._change(project, "claim") as change:
            # A project of which nothing came yet, its key being refused, say, is not bound to its filters.
            change.write(
                """UPDATE sync_projects SET api = :api, server = :server, scope = :scope, refuted = 0
                WHERE project = :project AND (api <> :api OR server <> :server OR scope <> :scope)
                AND round IS NULL AND rounds = 0
                AND NOT EXISTS (SELECT 1 FROM sessions WHERE project = :project)""",
                [{"project": project} | asked],
            )
            change.write(
                "INSERT OR IGNORE INTO sync_projects (project, api, server, scope) "
                "VALUES (:project, :api, :server, :scope)",
                [{"project": project} | asked],
            )
            [row] = change.all(STANDING, (project,))
            found = StandingRow(*row)
            found.refuse_others(self.path, project, **asked)
            if asked["server"] not in (None, found.server):
                change.write(SERVER, [(asked["server"], project)])
            if retry_failed:
                change.write(RETRY, [(project,)])
        if found.is_given_up(reconcile=reconcile):
            self._give_up_round(project)
            found = found._replace(round=None, places=None)
        waiting = [session_id for (session_id,) in self._all(WAITING, (project,))]
        return standing(found, self._all(UNFINISHED, (project,)), self._some(project), waiting)

    def _give_up_round(self, project: str) -> None:
        with self._change(project, "give up") as change:
            change.write(FORGET_SEEN, [(project,)])
            change.write(GIVE_UP_ROUND, [(project,)])

    def _some(self, project: str) -> list[str]:
        """Some sessions that are kept."""
        found = [
            self._all(
                f"SELECT id FROM sessions WHERE project = ? AND deleted_at IS NULL ORDER BY {order} LIMIT 1",
                (project,),
            )
            for order in KNOWN_ORDERS
        ]
        return [session_id for rows in found for (session_id,) in rows]

    def _judged(
        self,
        project: str,
        sessions: Sequence[Session],
        clock: Clock,
        matches: Callable[[Session], bool] | None,
        *,
        is_listed: bool,
    ) -> Judged:
        known = self._what_is_known(project, sessions)
        if matches is None:
            return judged(sessions, known, clock, is_listed=is_listed)
        query = f"{WAITING} AND session_id IN ({{ids}})"
        waiting = self._all_of(query, project, [session.id for session in sessions])
        ids = {session_id for (session_id,) in waiting}
        return judged(sessions, known, clock, is_listed=is_listed, matches=matches, waiting=ids)

    def _journal(
        self,
        project: str,
        found: Judged,
        *,
        clock: Clock,
        round: Round,  # noqa: A002
        places: Sequence[Place] | None,
        seen: Sequence[str],
    ) -> None:
        with self._change(project, "journal") as change:
            self._put_sessions(change, project, found, clock)
            change.write(
                "INSERT OR IGNORE INTO sync_seen VALUES (?, ?)",
                [(project, session_id) for session_id in seen],
            )
            change.put(PUT_WAITING, waiting_rows(project, found.left_out))
            change.write(WAITED, [(project, session_id) for session_id in found.waited])
            change.write(ROUND, [(as_json(round), project)])
            if places is not None:
                change.write(PLACES, [(as_json(places) if places else None, project)])

    def _what_is_known(self, project: str, sessions: Sequence[Session]) -> Mapping[str, Known]:
        rows = self._all_of(KNOWN, project, [session.id for session in sessions])
        return {session_id: known(row) for session_id, *row in rows}

    def _put_sessions(self, change: Transaction, project: str, found: Judged, clock: Clock) -> None:
        news: Sequence[Change] = (*found.inserted, *found.changed)
        api = self._apis[project]
        rows = [session_row(project, api, each.session, clock.now) for each in news]
        change.put(PUT_SESSIONS, rows)
        pending = [
            (row.id, "pending", row.content_hash, each.is_watched, each.settles_at, row_digest(row))
            for each, row in zip(news, rows, strict=True)
        ]
        change.put(PUT_PENDING, [(project, *each) for each in pending])

    def _keep(self, project: str, finished: Sequence[Fetched]) -> MessageCounts:
        with self._change(project, "keep") as change:
            return MessageCounts.all([self._put(change, project, each) for each in apart(finished)])

    def _put(self, change: Transaction, project: str, readings: Sequence[Fetched]) -> MessageCounts:
        """Write *readings*, of different sessions."""
        held = self._held(project, [each.wanted.id for each in readings])
        noted = dict(self._all_of(DIGESTS, project, [each.wanted.id for each in readings if each.is_part]))
        refused = damaged_below(readings, held, noted)
        change.write(READ_WHOLE, [(project, session_id) for session_id in refused])
        found = [
            (each, rewritten(project, each, held.get(each.wanted.id, [])))
            for each in readings
            if each.wanted.id not in refused
        ]
        self._put_messages(change, [each for _, each in found])
        change.put(PUT_KEPT, [_kept(kept_row(project, fetched, made)) for fetched, made in found])
        return MessageCounts.all(each.counts for _, each in found)

    def _held(self, project: str, sessions: Sequence[str]) -> dict[str, list[MessageRow]]:
        rows = self._all_of(HELD, project, sessions)
        messages = groupby((MessageRow(*row) for row in rows), key=lambda row: row.session_id)
        return {session_id: list(group) for session_id, group in messages}

    def _put_messages(self, change: Transaction, made: Sequence[Rewrite]) -> None:
        gone = [row for each in made for row in each.gone]
        if gone:
            columns = ", ".join(MessageRow._fields)
            change.write(
                f"INSERT OR REPLACE INTO sync_gone ({columns}, gone_at) SELECT {columns}, "
                f"strftime('%Y-%m-%dT%H:%M:%SZ') FROM messages WHERE {THE_MESSAGE}",
                list(map(place_of, gone)),
            )
            change.write(f"DELETE FROM messages WHERE {THE_MESSAGE}", list(map(place_of, gone)))
        put = [row for each in made for row in each.put]
        change.put(PUT_MESSAGES, put)
        if put and change.all("SELECT 1 FROM sync_gone WHERE project = ? LIMIT 1", (put[0].project,)):
            # Some may have come back.
            change.write(f"DELETE FROM sync_gone WHERE {THE_MESSAGE}", list(map(place_of, put)))

    def _vanish(self, project: str, session_id: str) -> bool:
        now = instant(datetime.now(UTC))
        with self._change(project, "vanish") as change:
            rows = change.all(VANISHING, (project, session_id))
            waited = change.all(f"{WAITING} AND session_id = ?", (project, session_id))
            gone = [row_digest_after(SessionRow(*row), noted, deleted_at=now) for *row, noted in rows]
            change.write(VANISH, [(now, project, session_id)])
            change.write(VANISHED, [(each, project, session_id) for each in gone])
            change.write(WAITED, [(project, session_id)])
        return bool(gone or waited)

    def _distrust(self, project: str, sessions: Sequence[str]) -> None:
        # A damaged index hides rows: to write them again would double them. Where rows are doubled by now,
        # it cannot be rebuilt.
        with suppress(sqlite3.IntegrityError):
            self._connection.execute("REINDEX")
        rows = [(project, each) for each in sessions]
        with self._change(project, "distrust") as change:
            change.write(DISTRUST, rows)
            change.write(REREAD_ROW, rows)

    def _finish(self, project: str, round: Round, run: Run) -> None:  # noqa: A002
        self._refuse_another_file()
        with self._change(project, "finish") as change:
            change.write(FORGET_SEEN, [(project,)])
            change.write(
                """UPDATE sync_projects SET round = NULL, places = NULL, rounds = rounds + 1, last_run = :run,
                watermark = COALESCE(MAX(watermark, MIN(:reached, :began)), watermark, MIN(:reached, :began))
                WHERE project = :project""",
                [{"run": as_json(run), "reached": round.reached, "began": round.began, "project": project}],
            )


def _journalled(judge: Callable[[], Judged], write: Callable[[Judged], None], quiet: bool) -> Journalled:  # noqa: FBT001
    found = judge()
    is_written = found.is_news or not quiet
    if is_written:
        write(found)
    return found.told(was_written=is_written)


def _kept(row: KeptRow) -> tuple[object, ...]:
    # Only a whole reading ends the watch of a session that has settled by then.
    settled_by = row.at if row.is_whole else None
    noted = (row.messages, row.digest, row.next, row.first)
    return (row.project, row.id, "kept", row.content_hash, row.at, settled_by, *noted)
