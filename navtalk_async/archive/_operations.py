"""The operations of an archive as steps: read, decide, write; a driver runs each in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Literal, TypeVar

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._database import Codec, Put, Query, Steps, Write
from navtalk_async.archive._progress_rows import (
    ProjectRow,
    as_json,
    kept_columns,
    read_columns,
    stored_session,
)
from navtalk_async.archive.damage import Records, damage
from navtalk_async.archive.message_diff import MessageDiff, damaged_below, diff_messages, split_repeats
from navtalk_async.archive.records import (
    UNKNOWN,
    FetchResult,
    JournalResult,
    MessageCounts,
    Round,
    RunReport,
    SessionDiff,
    StoredSession,
    SyncState,
)
from navtalk_async.archive.rows import (
    MessageRow,
    SessionRow,
    StoredTranscript,
    digest,
    format_time,
    iso,
    names_itself,
    old_digest,
    row_digest,
    row_digest_after,
    session_row,
)
from navtalk_async.models import ResumePoint, Session

T = TypeVar("T")

Compare = Callable[[Sequence[Session], Mapping[str, StoredSession]], SessionDiff]
"""Decides what is new, changed and to be fetched of some sessions, by what is stored of each, by id."""

WAIT_FOR_MATCH = timedelta(days=1)
"""How long a session that waits to match a filter is looked for after the API denied it first."""


class Operations:
    """The steps of each operation, for a database that writes rows as *codec* does."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    # Read.

    def transcripts(
        self, sessions: Sequence[Sequence[Any]], messages: Sequence[Any]
    ) -> list[StoredTranscript]:
        """The transcripts of some rows of `SESSIONS`, with the rows of all their messages."""
        by_session = self._by_session(messages)
        return [
            # An older version's digest is another one.
            StoredTranscript(
                session, by_session.get(session.id, []), row_noted and noted, row_noted, bool(is_due)
            )
            for *row, noted, row_noted, is_due in sessions
            for session in [self._codec.read_session(SessionRow(*row))]
        ]

    def transcript(self, project: str, session_id: str) -> Steps[StoredTranscript | None]:
        held_id = self._codec.write_id(session_id)
        sessions = yield Query(sql.ONE_SESSION, (project, held_id))
        messages = yield Query(sql.MESSAGES, (project, [held_id]))
        return next(iter(self.transcripts(sessions, messages)), None)

    def state(self, project: str, row: ProjectRow) -> Steps[SyncState]:
        read_id = self._codec.read_id
        unfinished = yield Query(sql.UNFINISHED, (project,))
        some: list[str] = []
        for query in sql.SOME:
            # Where the databases put what has no time differs, and matters to nobody.
            some += [read_id(session_id) for (session_id,) in (yield Query(query, (project,)))]
        return row.state([(read_id(name), of, state) for name, of, state in unfinished], some)

    def _by_session(self, rows: Sequence[Any]) -> dict[str, list[MessageRow]]:
        """The messages of each session; *rows* are ordered by session, and by position."""
        messages = self._codec.read_messages([MessageRow(*row) for row in rows])
        by_session = groupby(messages, key=lambda row: row.session_id)
        return {session_id: list(group) for session_id, group in by_session}

    # Begin, and end.

    def begin(
        self, where: object, project: str, asked: dict[str, Any], *, retry_failed: bool
    ) -> Steps[ProjectRow]:
        begun = (asked["api"], asked["server"], asked["scope"])
        yield Write(sql.UNBIND, (*begun, project, *begun, project))
        yield Write(sql.BEGIN, (project, asked["api"], asked["scope"]))
        [row] = yield Query(sql.STATE, (project,))
        found = read_columns(tuple(row), ProjectRow)
        found.refuse_others(where, project, **asked)
        if retry_failed:
            yield Write(sql.RETRY, (project,))
        return found

    def adopt_some(self, project: str, dialect: Records) -> Steps[bool]:
        """Fill columns and digests that an earlier version did not have, of some sessions; whether there were
        any.
        """
        found = yield Query(sql.OF_EARLIER_VERSIONS, (project,))
        if not found:
            return False
        [(change,)] = yield Query(sql.NEXT_CHANGE, (project,))
        for *columns, noted, row_noted in found:
            row = self._codec.read_session(SessionRow(*columns))
            if row_noted is None:
                is_whole, of = yield from self._judge_undigested(project, columns, noted, dialect)
            else:
                is_whole, of = row_noted == row_digest(row), noted
            if is_whole:
                session = dialect.session_of(row.raw.encode())
                row = row._replace(updated_at=iso(session.updated_at_text), user_id=session.user_id)
            row_of = row_digest(row) if is_whole or row_noted is None else row_noted
            held = self._codec.write_session(row)
            yield Write(sql.ADOPT, (held.updated_at, held.user_id, change, project, held.id))
            yield Write(sql.DIGESTED, (of, row_of, project, held.id))
        return True

    def _judge_undigested(
        self, project: str, columns: Sequence[Any], noted: str, dialect: Records
    ) -> Steps[tuple[bool, str]]:
        """Whether a session that was kept without a digest of every column is whole; and its digest."""
        rows = yield Query(sql.MESSAGES, (project, [columns[sql.ID_OF_SESSION]]))
        [kept] = self.transcripts([(*columns, None, None, False)], rows)
        # They may have been fetched again since, without any change of the session itself.
        is_whole = noted in (None, old_digest(kept.messages), digest(kept.messages)) and not damage(
            kept, dialect
        )
        # Nothing has the empty digest: what is damaged stays so until it is fetched again.
        return is_whole, digest(kept.messages) if is_whole else ""

    def give_up_round(self, project: str) -> Steps[None]:
        yield Write(sql.FORGET_SEEN, (project,))
        yield Write(sql.GIVE_UP_ROUND, (project,))

    def finish(self, project: str, round: Round, report: RunReport) -> Steps[None]:  # noqa: A002
        # A session dated in the future does not take the next round beyond this one.
        reached = None if round.reached is None else min(round.reached, round.began)
        yield Write(sql.FORGET_SEEN, (project,))
        yield Write(sql.FINISH, (as_json(report), reached, reached, project))

    # Sessions.

    def record_listing(
        self,
        project: str,
        api: str,
        sessions: Sequence[Session],
        *,
        compare: Compare,
        now: str,
        round: Round,  # noqa: A002
        places: Sequence[ResumePoint] | None,
        seen: Sequence[str],
        quiet: bool,
        may_wait: bool,
    ) -> Steps[JournalResult]:
        ids = self._codec.write_ids(session.id for session in sessions)
        found = compare(sessions, (yield from self._stored(project, ids, may_wait=may_wait)))
        is_written = found.is_news or not quiet
        if is_written:
            yield from self._put_sessions(project, api, found, now)
            yield from self._put_waiting(project, found)
            yield Put(sql.PUT_SEEN, [(project, each) for each in self._codec.write_ids(seen)], "tt")
            yield Write(sql.ROUND, (as_json(round), project))
            if places is not None:
                yield Write(sql.PLACES, (as_json(places) if places else None, project))
        return found.result(was_written=is_written)

    def _stored(self, project: str, ids: Sequence[str], *, may_wait: bool) -> Steps[dict[str, StoredSession]]:
        read_id = self._codec.read_id
        rows = yield Query(sql.STORED, (project, ids))
        stored = {read_id(session_id): stored_session(more) for session_id, *more in rows}
        if may_wait:
            for (session_id,) in (yield Query(sql.UNDER_WAY, (project, ids))):
                stored.setdefault(read_id(session_id), UNKNOWN._replace(is_pending=True))
            waiting = yield Query(f"{sql.WAITING} AND gone_at IS NULL AND session_id {{any}}", (project, ids))
            for session_id in (read_id(each) for (each,) in waiting):
                stored[session_id] = stored.get(session_id, UNKNOWN)._replace(is_waiting=True)
        return stored

    def _put_sessions(self, project: str, api: str, found: SessionDiff, now: str) -> Steps[None]:
        news = (*found.inserted, *found.changed)
        rows = [session_row(project, api, each.session, now) for each in news]
        [(change,)] = yield Query(sql.NEXT_CHANGE, (project,))
        written = [(*self._codec.write_session(row), change) for row in rows]
        yield Put(sql.PUT_SESSIONS, written, "t" * len(SessionRow._fields) + "i")
        pending = [
            (row.content_hash, each.is_watched, each.settles_at, row_digest(row))
            for each, row in zip(news, rows, strict=True)
        ]
        ids = self._codec.write_ids(row.id for row in rows)
        yield Put(
            sql.PUT_PENDING,
            [(project, each, "pending", *more) for each, more in zip(ids, pending, strict=True)],
            "ttttbtt",
        )

    def _put_waiting(self, project: str, found: SessionDiff) -> Steps[None]:
        write_id = self._codec.write_id
        rows = [(project, write_id(each.id), iso(each.start_time_text)) for each in found.left_out]
        yield Put(sql.PUT_WAITING, rows, "ttt")
        for each in found.waited:
            yield Write(sql.WAITED, (project, write_id(each)))
        for each in found.unwanted:
            yield Write(sql.UNWANTED, (project, write_id(each)))

    def mark_deleted(self, project: str, session_id: str) -> Steps[Literal["kept", "waiting"] | None]:
        moment = datetime.now(UTC)
        now = format_time(moment)
        rows = yield Query(sql.TO_DELETE, (project, session_id))
        waited = yield Query(f"{sql.WAITING} AND session_id = ?", (project, session_id))
        is_stray = yield from self._forget_stray(project, session_id, rows)
        yield Write(sql.MARK_DELETED, (now, project, project, session_id))
        for *row, noted in rows:
            of = row_digest_after(self._codec.read_session(SessionRow(*row)), noted, deleted_at=now)
            yield Write(sql.PROGRESS_OF_DELETED, (of, project, session_id))
        yield Write(sql.GONE_WAITING, (now, project, session_id))
        yield Write(sql.FORGET_WAITING, (project, format_time(moment - WAIT_FOR_MATCH)))
        return "kept" if rows or is_stray else "waiting" if waited else None

    def _forget_stray(self, project: str, session_id: str, rows: Sequence[Sequence[Any]]) -> Steps[bool]:
        """Whether what is kept of a session that the API never heard of was there by damage alone, under a
        damaged id; then it is removed.
        """
        strays = yield Query(sql.STRAYS, (project, session_id))
        sessions = [self._codec.read_session(SessionRow(*row)) for *row, _ in rows]
        if not strays or any(names_itself(each) for each in sessions):
            return False
        held = self._by_session((yield Query(sql.KEPT_MESSAGES, (project, [session_id]))))
        [(is_new,)] = strays
        if held and not is_new:
            return False
        yield from self._put_messages(project, [MessageDiff.of_gone(each) for each in held.values()])
        for statement in sql.FORGET:
            yield Write(statement, (project, session_id))
        return True

    def refetch(self, project: str, sessions: Sequence[str]) -> Steps[None]:
        yield Put(sql.REFETCH, [(project, each, "pending") for each in sessions], "ttt")
        for each in sessions:
            yield Write(sql.REREAD_ROW, (project, each))

    # Messages.

    def save_messages(self, project: str, fetched: Sequence[FetchResult]) -> Steps[MessageCounts]:
        total = MessageCounts()
        for readings in split_repeats(fetched):
            total = MessageCounts.all([total, (yield from self._put_readings(project, readings))])
        return total

    def _put_readings(self, project: str, readings: Sequence[FetchResult]) -> Steps[MessageCounts]:
        """Write *readings*, of different sessions."""
        ids = self._codec.write_ids(each.wanted.id for each in readings)
        held = self._by_session((yield Query(sql.KEPT_MESSAGES, (project, ids))))
        refused = yield from self._damaged(project, readings, held)
        found = [
            (each, diff_messages(project, each, held.get(each.wanted.id, [])))
            for each in readings
            if each.wanted.id not in refused
        ]
        yield from self._put_messages(project, [diff for _, diff in found])
        rows = [
            (project, self._codec.write_id(fetched.wanted.id), *kept_columns(fetched, diff))
            for fetched, diff in found
        ]
        yield Put(sql.PUT_KEPT, rows, "ttttttitti")
        return MessageCounts.all(diff.counts for _, diff in found)

    def _damaged(
        self, project: str, readings: Sequence[FetchResult], held: dict[str, list[MessageRow]]
    ) -> Steps[set[str]]:
        """Those sessions that cannot be added to; they are to be read whole."""
        parts = self._codec.write_ids(each.wanted.id for each in readings if each.is_part)
        if not parts:
            return set()
        rows = yield Query(sql.DIGESTS, (project, parts))
        noted = {self._codec.read_id(session_id): of for session_id, of in rows}
        refused = damaged_below(readings, held, noted)
        for each in refused:
            yield Write(sql.READ_WHOLE, (project, self._codec.write_id(each)))
        return refused

    def _put_messages(self, project: str, diffs: Sequence[MessageDiff]) -> Steps[None]:
        if not any(each.put or each.gone for each in diffs):
            return
        [(change,)] = yield Query(sql.NEXT_CHANGE, (project,))
        gone = self._codec.write_messages([row for each in diffs for row in each.gone])
        edited = self._codec.write_messages([row for each in diffs for row in each.edited])
        now = format_time(datetime.now(UTC))
        history = [
            (*row, change, now, reason)
            for reason, rows in (("edited", edited), ("deleted", gone))
            for row in rows
        ]
        yield Put(sql.PUT_HISTORY, history, "tttitttttitt")
        yield Put(sql.DROP_MESSAGES, [(row.project, row.session_id, row.id) for row in gone], "ttt")
        put = self._codec.write_messages([row for each in diffs for row in each.put])
        yield Put(sql.PUT_MESSAGES, [(*row, change) for row in put], "tttittttti")


def rows_of(statement: str, values: Sequence[object]) -> Steps[list[Any]]:
    return (yield Query(statement, values))


def write(statement: str, values: Sequence[object]) -> Steps[None]:
    yield Write(statement, values)


def put(statement: str, rows: Sequence[Sequence[object]], types: str) -> Steps[None]:
    yield Put(statement, rows, types)
