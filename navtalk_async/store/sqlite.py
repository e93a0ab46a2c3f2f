"""A store in one SQLite file: the embedded default.

One connection writes, in a thread of its own; readers have theirs. WAL lets both work at once, and
`synchronous=FULL` makes a commit outlast the power. WAL needs a local disk.
"""

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

from navtalk_async.errors import StoreError, StoreMismatch
from navtalk_async.models import Place, Request, Session
from navtalk_async.store.sqlite_file import Turns, connect, hold, prepare
from navtalk_async.store.store import (
    Counts,
    Fetched,
    Journalled,
    MessageRow,
    SessionRow,
    Standing,
    StoredTranscript,
    Unread,
    Wanted,
    journalled,
    message_row,
    now_text,
    session_row,
)

__all__ = ["SqliteStore"]

SESSIONS_A_READ = 25

PUT_SESSION = f"""
INSERT INTO sessions VALUES ({", ".join("?" * len(SessionRow._fields))})
ON CONFLICT (project, id) DO UPDATE SET
    status = excluded.status, start_time = excluded.start_time, end_time = excluded.end_time,
    title = excluded.title, video_url = excluded.video_url, raw = excluded.raw,
    content_hash = excluded.content_hash, last_changed_at = excluded.last_changed_at, deleted_at = NULL
"""

PUT_MESSAGE = f"""
INSERT INTO messages VALUES ({", ".join("?" * len(MessageRow._fields))})
ON CONFLICT (project, id) DO UPDATE SET
    session_id = excluded.session_id, position = excluded.position, role = excluded.role,
    type = excluded.type, content = excluded.content, created_at = excluded.created_at, raw = excluded.raw
WHERE (raw, position, session_id) IS NOT (excluded.raw, excluded.position, excluded.session_id)
"""


class SqliteStore:
    """A store in the file *path*, made if it is not there; an `async with` that holds it alone.

    Raises:
        StoreLocked: another process writes to it.
        StoreBroken: the file is damaged, or is no archive.
        StoreMismatch: it was written by a newer version.
        StoreError: it cannot be opened there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._run = Turns(self.path)
        self._db: sqlite3.Connection | None = None
        self._lock: sqlite3.Connection | None = None
        self._apis: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<SqliteStore {self.path}>"

    async def __aenter__(self) -> Self:
        try:
            await self._run(self._open)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self.close()

    async def close(self) -> None:
        """Let go of the file, and of the right to write to it."""
        await self._run(self._close)

    async def claim(self, project: str, *, api: str, scope: str, retry_failed: bool = False) -> Standing:
        """See `Store.claim`."""
        self._apis[project] = api
        return await self._run(self._claim, project, api, scope, retry_failed)

    async def journal(
        self, project: str, sessions: Sequence[Session], places: Sequence[Place], *, now: str
    ) -> Journalled:
        """See `Store.journal`."""
        return await self._run(self._journal, project, sessions, places, now)

    async def keep(self, project: str, finished: Sequence[Fetched]) -> None:
        """See `Store.keep`."""
        await self._run(self._keep, project, finished)

    async def refute(self, project: str) -> None:
        """See `Store.refute`."""
        await self._run(self._write, "UPDATE sync_projects SET refuted = 1 WHERE project = ?", [(project,)])

    async def unread(self, project: str) -> list[Unread]:
        """See `Store.unread`."""
        rows = await self._run(
            self._all,
            "SELECT session_id, content_hash, next, first FROM sync_unread WHERE project = ?",
            (project,),
        )
        return [
            Unread(Wanted(session_id, of), msgspec.json.decode(following, type=Request), first)
            for session_id, of, following, first in rows
        ]

    async def fail(self, project: str, failures: Sequence[tuple[str, str, int]]) -> None:
        """See `Store.fail`."""
        rows = [(project, *failure) for failure in failures]
        await self._run(
            self._write,
            """INSERT INTO sync_pending (project, session_id, reason, attempts) VALUES (?, ?, ?, ?)
            ON CONFLICT (project, session_id)
            DO UPDATE SET reason = excluded.reason, attempts = attempts + excluded.attempts""",
            rows,
        )

    async def vanish(self, project: str, session_id: str) -> None:
        """See `Store.vanish`."""
        await self._run(self._vanish, project, session_id)

    async def counts(self, project: str) -> Counts:
        """See `Store.counts`."""
        return await self._run(self._counts, project)

    async def failures(self, project: str) -> list[tuple[str, str, int]]:
        """See `Store.failures`."""
        return await self._run(
            self._all,
            "SELECT session_id, reason, attempts FROM sync_pending "
            "WHERE project = ? AND reason IS NOT NULL ORDER BY session_id",
            (project,),
        )

    async def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """See `Store.transcripts`."""
        run = Turns(self.path)
        reader = await run(connect, self.path)
        try:
            sessions = await run(_sessions, reader, project)
            while rows := await run(sessions.fetchmany, SESSIONS_A_READ):
                yield await run(_with_messages, reader, project, rows)
        finally:
            with anyio.CancelScope(shield=True):
                await run(reader.close)

    # What follows runs in the store's thread, one at a time.

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        real = self.path.resolve()
        self._lock = hold(real.with_name(real.name + ".lock"))
        self._db = connect(self.path)
        prepare(self._db, self.path)

    def _close(self) -> None:
        for connection in (self._db, self._lock):
            if connection is not None:
                connection.close()
        self._db = self._lock = None

    @property
    def _writer(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(f"{self.path} is not open; use it in an `async with`.")
        return self._db

    def _all(self, query: str, values: Sequence[Any]) -> list[Any]:
        return self._writer.execute(query, values).fetchall()

    def _write(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._writer as db:
            db.executemany(statement, rows)

    def _claim(self, project: str, api: str, scope: str, retry_failed: bool) -> Standing:  # noqa: FBT001
        with self._writer as db:
            # A project of which nothing came yet, its key being refused, say, is not bound to its filters.
            db.execute(
                """DELETE FROM sync_projects WHERE project = :project AND next IS NULL AND listings = 0
                AND NOT EXISTS (SELECT 1 FROM sessions WHERE project = :project)""",
                {"project": project},
            )
            db.execute(
                "INSERT OR IGNORE INTO sync_projects (project, api, scope) VALUES (?, ?, ?)",
                (project, api, scope),
            )
        [(begun_api, begun_scope, places, watermark, refuted)] = self._all(
            "SELECT api, scope, next, watermark, refuted FROM sync_projects WHERE project = ?", (project,)
        )
        _same(self.path, project, "API", begun_api, api)
        _same(self.path, project, "filters", begun_scope, scope)
        if places is None:
            self._write("UPDATE sync_projects SET reached = NULL WHERE project = ?", [(project,)])
        if retry_failed:
            self._write("UPDATE sync_pending SET reason = NULL, attempts = 0 WHERE project = ?", [(project,)])
        states = self._all(
            "SELECT session_id, content_hash, reason FROM sync_pending WHERE project = ?", (project,)
        )
        return Standing(
            places=_places(places),
            watermark=watermark,
            pending=[Wanted(session_id, of) for session_id, of, reason in states if reason is None],
            failed=sum(reason is not None for _, _, reason in states),
            refuted=bool(refuted),
            known=self._known(project),
        )

    def _known(self, project: str) -> list[str]:
        """The newest session, the oldest, and the first by id: seldom all of one sort, such as trials."""
        found = [
            self._all(
                f"SELECT id FROM sessions WHERE project = ? AND deleted_at IS NULL ORDER BY {order} LIMIT 1",
                (project,),
            )
            for order in ("start_time DESC", "start_time", "id")
        ]
        return list(dict.fromkeys(session_id for rows in found for (session_id,) in rows))

    def _journal(
        self, project: str, sessions: Sequence[Session], places: Sequence[Place], began: str
    ) -> Journalled:
        now = now_text()
        with self._writer as db:
            page = self._judge(project, sessions)
            rows = [
                session_row(project, self._apis[project], s, now) for s in (*page.inserted, *page.changed)
            ]
            db.executemany(PUT_SESSION, rows)
            db.executemany(
                """INSERT INTO sync_pending (project, session_id, content_hash) VALUES (?, ?, ?)
                ON CONFLICT (project, session_id) DO UPDATE
                SET content_hash = excluded.content_hash, reason = NULL, attempts = 0""",
                [(project, *wanted) for wanted in page.to_fetch],
            )
            reached = max((s.started for s in sessions if s.started is not None), default="")
            db.execute(
                """UPDATE sync_projects SET next = ?, reached = NULLIF(MAX(COALESCE(reached, ''), ?), '')
                WHERE project = ?""",
                (msgspec.json.encode(places).decode() if places else None, reached, project),
            )
            if not places:
                db.execute("UPDATE sync_projects SET listings = listings + 1 WHERE project = ?", (project,))
                db.execute(
                    """UPDATE sync_projects SET watermark = MAX(COALESCE(watermark, ''), MIN(reached, ?))
                    WHERE project = ? AND reached IS NOT NULL""",
                    (began, project),
                )
        return page

    def _judge(self, project: str, sessions: Sequence[Session]) -> Journalled:
        ids = [session.id for session in sessions]
        marks = ", ".join("?" * len(ids))
        hashes = self._all(
            f"""SELECT id, content_hash FROM sessions
            WHERE project = ? AND deleted_at IS NULL AND id IN ({marks})""",
            (project, *ids),
        )
        states = self._all(
            f"SELECT session_id, reason FROM sync_pending WHERE project = ? AND session_id IN ({marks})",
            (project, *ids),
        )
        return journalled(
            sessions,
            hashes=dict(hashes),
            pending={session_id for session_id, reason in states if reason is None},
            failed={session_id for session_id, reason in states if reason is not None},
        )

    def _keep(self, project: str, finished: Sequence[Fetched]) -> None:
        with self._writer as db:
            db.executemany(
                PUT_MESSAGE,
                [
                    message_row(project, fetched.wanted.id, position, message)
                    for fetched in finished
                    for position, message in enumerate(fetched.messages, fetched.first)
                ],
            )
            db.executemany(
                "DELETE FROM sync_pending WHERE project = ? AND session_id = ? AND content_hash IS ?",
                [(project, *fetched.wanted) for fetched in finished if not fetched.first],
            )
            db.executemany(
                "DELETE FROM sync_unread WHERE project = ? AND session_id = ?",
                [(project, fetched.wanted.id) for fetched in finished],
            )
            db.executemany(
                "INSERT OR REPLACE INTO sync_unread VALUES (?, ?, ?, ?, ?)",
                [
                    (project, *each.wanted, msgspec.json.encode(each.unread).decode(), len(each.messages))
                    for each in finished
                    if each.unread is not None
                ],
            )

    def _vanish(self, project: str, session_id: str) -> None:
        with self._writer as db:
            db.execute(
                "UPDATE sessions SET deleted_at = ? WHERE project = ? AND id = ? AND deleted_at IS NULL",
                (now_text(), project, session_id),
            )
            for table in ("sync_pending", "sync_unread"):
                db.execute(f"DELETE FROM {table} WHERE project = ? AND session_id = ?", (project, session_id))

    def _counts(self, project: str) -> Counts:
        [(sessions, messages, pending, failed, unread, listed)] = self._all(
            """SELECT (SELECT COUNT(*) FROM sessions WHERE project = ?),
                      (SELECT COUNT(*) FROM messages WHERE project = ?),
                      (SELECT COUNT(*) FROM sync_pending WHERE project = ? AND reason IS NULL),
                      (SELECT COUNT(*) FROM sync_pending WHERE project = ? AND reason IS NOT NULL),
                      (SELECT COUNT(*) FROM sync_unread WHERE project = ?),
                      EXISTS (SELECT 1 FROM sync_projects
                              WHERE project = ? AND next IS NULL AND listings > 0)""",
            (project,) * 6,
        )
        return Counts(
            sessions=sessions,
            messages=messages,
            pending=pending,
            failed=failed,
            unread=unread,
            listed=bool(listed),
        )


def _places(text: str | None) -> list[Place]:
    """Where a listing goes on, as this version or the first one wrote it."""
    if text is None:
        return []
    if text.startswith("{"):
        return [Place(msgspec.json.decode(text, type=Request))]
    return msgspec.json.decode(text, type=list[Place])


def _same(path: Path, project: str, what: str, begun: str, asked: str) -> None:
    if begun != asked:
        raise StoreMismatch(
            f"The project {project!r} in {path} was begun with other {what}: {begun}, and not {asked}. "
            "Use the same, or another --project, or another place."
        )


def _sessions(reader: sqlite3.Connection, project: str) -> sqlite3.Cursor:
    reader.execute("BEGIN")
    return reader.execute(
        f"SELECT {', '.join(SessionRow._fields)} FROM sessions WHERE project = ? ORDER BY start_time, id",
        (project,),
    )


def _with_messages(
    reader: sqlite3.Connection, project: str, rows: list[tuple[Any, ...]]
) -> list[StoredTranscript]:
    sessions = [SessionRow(*row) for row in rows]
    marks = ", ".join("?" * len(sessions))
    found = reader.execute(
        f"SELECT {', '.join(MessageRow._fields)} FROM messages WHERE project = ? "
        f"AND session_id IN ({marks}) ORDER BY session_id, position",
        (project, *(session.id for session in sessions)),
    )
    messages = groupby((MessageRow(*row) for row in found), key=lambda row: row.session_id)
    by_session = {session_id: list(group) for session_id, group in messages}
    return [StoredTranscript(session, by_session.get(session.id, [])) for session in sessions]
