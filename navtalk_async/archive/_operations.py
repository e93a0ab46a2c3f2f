"""What a sync writes to an archive: each operation is the steps of one transaction, which the driver runs:
read, decide, write.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._database import (
    Put,
    Query,
    Steps,
    Weight,
    Write,
    as_json,
    delete,
    insert,
    transaction,
    update,
)
from navtalk_async.archive._forget import ForgetOperations
from navtalk_async.archive._runs import RunOperations, stored_session
from navtalk_async.archive.message_diff import MessageDiff, diff_messages, split_repeats
from navtalk_async.archive.records import (
    UNKNOWN,
    FailedSession,
    FetchResult,
    MessageCounts,
    Round,
    SessionDiff,
    StoredSession,
)
from navtalk_async.archive.rows import (
    MessageRow,
    SessionRow,
    digest,
    format_api_time,
    format_time,
    names_itself,
    row_digest,
    session_row,
)
from navtalk_async.models import ResumePoint, Session

Compare = Callable[[Sequence[Session], Mapping[str, StoredSession]], SessionDiff]
"""Decides what is new, changed and to be fetched of some sessions, by what is stored of each, by id."""

WAIT_FOR_MATCH = timedelta(days=1)
"""How long a session that waits to match a filter is looked for after the API denied it first."""


class Operations(RunOperations, ForgetOperations):
    """The methods of an archive with which a sync writes."""

    # Sessions.

    @transaction
    def record_listing(
        self,
        project: str,
        sessions: Sequence[Session],
        *,
        compare: Compare,
        now: str,
        round: Round | None,  # noqa: A002 - a round is what it is
        places: Sequence[ResumePoint] | None = None,
        seen: Sequence[str] = (),
        quiet: bool = False,
        may_wait: bool = False,
    ) -> Steps[SessionDiff]:
        """Keep some sessions, those to fetch as pending, and how far the round has come, all at once.

        Arguments:
            compare: decides what is new, changed and to be fetched, by what is stored of each session.
            now: the time, in ISO 8601.
            round: how far the round has come; None outside of rounds.
            places: where the listing goes on, empty at its end; None where the sessions are not out of the
                listing.
            seen: the ids of sessions that the round has listed and that are to be recorded as such.
            quiet: write nothing where nothing is new.
            may_wait: whether *compare* leaves out sessions that do not match a filter; those that wait to
                match it are then marked.
        """
        gone = yield from self._forgotten_among(project, [*(session.id for session in sessions), *seen])
        forgotten = [session for session in sessions if session.id in gone]
        if gone:
            sessions = [session for session in sessions if session.id not in gone]
            seen = [each for each in seen if each not in gone]
        ids = self._codec.write_ids(session.id for session in sessions)
        found = compare(sessions, (yield from self._stored(project, ids, may_wait=may_wait)))
        found.forgotten = len(forgotten)
        found.was_written = found.is_news or not quiet
        if found.was_written:
            yield from self._put_sessions(project, found, now)
            yield from self._put_waiting(project, found)
            rows = [(project, each) for each in self._codec.write_ids(seen)]
            yield insert("sync_seen", "project, session_id", rows)
            if round is not None:
                yield update("sync_projects", project, round=as_json(round))
            if places is not None:
                yield update("sync_projects", project, places=as_json(places) if places else None)
        return found

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

    def _put_sessions(self, project: str, found: SessionDiff, now: str) -> Steps[None]:
        news = (*found.inserted, *found.changed)
        api = self._begun[project].api
        rows = [session_row(project, api, each.session, now, each.content_hash) for each in news]
        [(change,)] = yield Query(sql.NEXT_CHANGE)
        held = self._codec.write_rows(rows)
        yield insert("sessions", sql.ALL_OF_SESSION, held, sql.NEW_SESSION, change)
        pending = [
            (
                *(project, row.id, "pending", row.content_hash),
                each.is_watched,
                each.settles_at,
                row_digest(made),
            )
            for row, made, each in zip(held, rows, news, strict=True)
        ]
        columns = "project, session_id, state, content_hash, watched, settles_at, row_digest"
        yield insert("sync_sessions", columns, pending, sql.PENDING_AGAIN)

    def _put_waiting(self, project: str, found: SessionDiff) -> Steps[None]:
        write_id = self._codec.write_id
        rows = [
            (project, write_id(each.id), format_api_time(each.start_time_text)) for each in found.left_out
        ]
        yield insert("sync_waiting", "project, session_id, start_time", rows, "gone_at = NULL")
        for each in found.waited:
            yield delete("sync_waiting", project, write_id(each))
        for each in found.unwanted:
            yield Write(sql.UNWANTED, (project, write_id(each)))

    async def missing(
        self, project: str, *, since: str | None, after: str = "", limit: int = -1
    ) -> list[str]:
        """Sessions that are kept, began later than *since*, and were not seen in this round, by id; those
        *after* an id, at most *limit* of them.
        """
        bound = (1 << 62) if limit < 0 else limit
        return await self._ids(sql.MISSING, project, self._codec.write_id(after), since, since, bound)

    async def watched(
        self, project: str, *, fresh: str, since: str | None = None, after: str = "", limit: int = -1
    ) -> list[str]:
        """Sessions that are watched, and were read before *fresh*, and those that wait to match the filter on
        their status, by id; those *after* an id, at most *limit* of them. Those that began before *since* are
        watched no longer.
        """
        if since is not None:
            await self.unwatch(project, since)
        bound, begin = (1 << 62) if limit < 0 else limit, self._codec.write_id(after)
        values = (project, begin, fresh, fresh, project, begin, since, since, bound)
        return await self._ids(sql.WATCHED, *values)

    @transaction
    def unwatch(self, project: str, since: str) -> Steps[None]:
        """Watch the sessions that began before *since* no longer."""
        yield Write(sql.UNWATCH, (project, project, since))

    @transaction
    def mark_deleted(self, project: str, session_id: str) -> Steps[Literal["kept", "known"] | None]:
        """Record that the API no longer has a session, and return what it was: `"kept"`, or `"known"` if it
        was deleted already, or waits to match a filter; None if it is unknown.

        What was kept of it stays. One that waits to match a filter does so for a day more: an API may deny
        for a moment what it has.
        """
        session_id = self._codec.write_id(session_id)
        moment = datetime.now(UTC)
        now = format_time(moment)
        rows = yield Query(sql.TO_DELETE, (project, session_id))
        waited = yield Query(f"{sql.WAITING} AND session_id = ?", (project, session_id))
        is_news = yield from self._forget_stray(project, session_id, rows)
        yield Write(sql.MARK_DELETED, (now, project, session_id))
        for *row, noted in rows:
            [before] = self._codec.read_rows([SessionRow(*row)])
            # A digest that does not match stays: it shows the damage.
            is_news = before.deleted_at is None
            is_whole = is_news and noted == row_digest(before)
            of = row_digest(before._replace(deleted_at=now)) if is_whole else noted
            yield Write(sql.DONE_WITH, (of, project, session_id, is_news))
            if is_news:
                yield Write(sql.HAND_ON_DELETED, (project, session_id))
        yield Write(sql.GONE_WAITING, (now, project, session_id))
        yield Write(sql.FORGET_WAITING, (project, format_time(moment - WAIT_FOR_MATCH)))
        return "kept" if is_news else "known" if rows or waited else None

    def _forget_stray(self, project: str, session_id: str, rows: Sequence[Sequence[Any]]) -> Steps[bool]:
        """Whether what is kept of a session that the API never heard of was there by damage alone, under a
        damaged id; then it is removed.
        """
        strays = yield Query(sql.STRAYS, (project, session_id))
        sessions = self._codec.read_rows([SessionRow(*row) for *row, _ in rows])
        if not strays or any(names_itself(each) for each in sessions):
            return False
        held = self._codec.by_session((yield Query(sql.MESSAGES, (project, [session_id]))))
        [(is_new,)] = strays
        if held and not is_new:
            return False
        gone = [row for rows in held.values() for row in rows]
        [(change,)] = yield Query(sql.NEXT_CHANGE)
        yield from self._put_messages([MessageDiff(gone=gone)], change)
        yield delete("sync_sessions", project, session_id)
        yield delete("sessions", project, session_id)
        return True

    async def refetch(self, project: str, sessions: Sequence[str]) -> None:
        """Make some sessions pending, so that the next sync fetches them whole and writes all rows again,
        whether they are kept or not. Indexes are rebuilt first.
        """
        # A damaged index hides rows: to write them again would double them.
        await self._driver.rebuild()
        await self._refetch(project, self._codec.write_ids(sessions))

    @transaction
    def _refetch(self, project: str, sessions: Sequence[str]) -> Steps[None]:
        gone = yield from self._forgotten_among(project, map(self._codec.read_id, sessions))
        sessions = [each for each in sessions if self._codec.read_id(each) not in gone]
        rows = [(project, each, "pending") for each in sessions]
        yield insert("sync_sessions", "project, session_id, state", rows, sql.WANTED_WHOLE)
        for each in sessions:
            # An empty hash is no session's: its row is written again, whatever the API says.
            yield update("sessions", project, each, content_hash="")

    # Messages.

    @transaction
    def record_failures(self, project: str, failures: Sequence[FailedSession]) -> Steps[None]:
        """Record sessions that cannot be fetched; attempts add up."""
        write_id, write_text = self._codec.write_id, self._codec.write_text
        gone = yield from self._forgotten_among(project, (each.id for each in failures))
        rows = [
            (project, write_id(each.id), write_text(each.reason), each.attempts, "failed")
            for each in failures
            if each.id not in gone
        ]
        columns = "project, session_id, reason, attempts, state"
        yield insert("sync_sessions", columns, rows, sql.FAILED_AGAIN)

    async def save_messages(self, project: str, fetched: Sequence[FetchResult]) -> MessageCounts:
        """Save the messages of some sessions, which are pending no more unless they have changed since.

        Rows are touched where their content changed; earlier texts go to `message_history`.
        """
        # A version that only lived within a transaction would not be an earlier one.
        return MessageCounts.all(
            [await self._save_messages(project, each) for each in split_repeats(fetched)]
        )

    @transaction
    def _save_messages(self, project: str, readings: Sequence[FetchResult]) -> Steps[MessageCounts]:
        """Save *readings*, of different sessions."""
        yield Weight(sum(len(each.messages) for each in readings))
        gone = yield from self._forgotten_among(project, (each.wanted.id for each in readings))
        readings = [each for each in readings if each.wanted.id not in gone]
        ids = self._codec.write_ids(each.wanted.id for each in readings)
        held = self._codec.by_session((yield Query(sql.MESSAGES, (project, ids))))
        refused = yield from self._damaged(project, readings, held)
        found = [
            (each, diff_messages(project, each, held.get(each.wanted.id, [])))
            for each in readings
            if each.wanted.id not in refused
        ]
        [(change,)] = yield Query(sql.NEXT_CHANGE)
        yield from self._put_messages([diff for _, diff in found], change)
        rows = [
            (
                *(project, self._codec.write_id(each.wanted.id), "kept", each.wanted.content_hash),
                *(each.at, None if each.wanted.since is not None or each.first else each.at),
                *(len(diff.held), digest(diff.held)),
                *((as_json(each.unfollowed), diff.reached) if each.unfollowed is not None else (None, None)),
                *(change, change),
            )
            for each, diff in found
        ]
        yield insert("sync_sessions", sql.COLUMNS_OF_KEPT, rows, sql.KEPT)
        return MessageCounts.all(diff.counts for _, diff in found)

    def _damaged(
        self, project: str, readings: Sequence[FetchResult], held: dict[str, list[MessageRow]]
    ) -> Steps[set[str]]:
        """Those sessions that cannot be added to; they are to be read whole."""
        parts = self._codec.write_ids(each.wanted.id for each in readings if each.is_part)
        if not parts:
            return set()
        rows = yield Query(sql.DIGESTS, (project, parts))
        noted = {self._codec.read_id(session_id): of for session_id, of in rows if of is not None}
        # Adding to messages that are not those that were saved would hide the damage.
        refused = {name for name, of in noted.items() if digest(held.get(name, [])) != of}
        for each in refused:
            yield update("sync_sessions", project, self._codec.write_id(each), state="pending", messages=None)
        return refused

    def _put_messages(self, diffs: Sequence[MessageDiff], change: int) -> Steps[None]:
        """Write what *diffs* say, in the commit of the number *change*."""
        write_rows, now = self._codec.write_rows, format_time(datetime.now(UTC))
        gone = write_rows([row for each in diffs for row in each.gone])
        edited = write_rows([row for each in diffs for row in each.edited])
        moved = write_rows([row for each in diffs for row in each.moved])
        put = write_rows([row for each in diffs for row in each.put])

        def earlier(rows: Sequence[MessageRow], reason: str) -> list[tuple[object, ...]]:
            return [(row.project, row.session_id, row.id, change, now, reason) for row in rows]

        types = ("text", "text", "text", "bigint", "text", "text")
        texts = [*earlier(edited, "edited"), *earlier(gone, "deleted")]
        yield Put(sql.KEEP_EARLIER_TEXTS, texts, types)
        yield Put(sql.KEEP_EARLIER_POSITIONS, earlier(moved, "moved"), types)
        yield Put(sql.DROP_MESSAGES, [(row.project, row.session_id, row.id) for row in gone], types[:3])
        yield insert("messages", f"{sql.MESSAGE_COLUMNS}, change", put, sql.NEW_MESSAGE, change)
