"""A store: what can be read of it, and what a sync writes, for any database.

Data and progress are written in the same transaction, so whatever instant a process dies at, the store
holds what was finished and knows what was not.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, ClassVar, Literal, TypeVar

from navtalk_async.archive import statements as sql
from navtalk_async.archive.database import Codec, Put, Query, Steps, Write
from navtalk_async.archive.message_diff import MessageDiff, damaged_below, diff_messages, split_repeats
from navtalk_async.archive.progress_rows import (
    StandingRow,
    about,
    as_json,
    counts,
    kept_columns,
    known,
    read_columns,
    standing,
    unread,
    waiting_rows,
)
from navtalk_async.archive.records import (
    UNKNOWN,
    About,
    Counts,
    Failed,
    FetchResult,
    Flaw,
    JournalResult,
    MessageCounts,
    Round,
    RunReport,
    SessionDiff,
    StoredSession,
    SyncState,
    Unread,
)
from navtalk_async.archive.rows import (
    MessageRow,
    SessionRow,
    StoredTranscript,
    digest,
    format_time,
    names_itself,
    old_digest,
    row_digest,
    row_digest_after,
    session_row,
)
from navtalk_async.models import Place, Session

__all__ = ["About", "Counts", "Failed", "Flaw", "Reader", "Round", "Store", "SyncState", "Unread"]

T = TypeVar("T")

Compare = Callable[[Sequence[Session], Mapping[str, StoredSession]], SessionDiff]
"""The rule of what some sessions amount to, given what is held of each, by id."""

PATIENCE = timedelta(days=1)
"""How long a session that waits to match a filter is looked for after the API denied it first."""


class Reader(ABC):
    """What can be read of a store, at any time, also while another process writes to it.

    Every method raises `StoreError`, with a sentence for the user, where the database does not work.
    """

    _text: ClassVar[Codec]

    @abstractmethod
    async def _ask(self, steps: Steps[T]) -> T:
        """What *steps* return, which only read."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """Everything, some sessions at a time, in the order of (start_time, id), from one moment's view."""

    async def projects(self) -> list[About]:
        """What there is, by the projects' names."""
        return [about(row) for row in await self._all(sql.PROJECTS)]

    async def counts(self, project: str) -> Counts:
        """How much there is of *project*."""
        [row] = await self._all(sql.COUNTS, *[project] * sql.COUNTS.count("?"))
        return counts(row)

    async def failures(self, project: str) -> list[Failed]:
        """Every failed session."""
        rows = await self._all(sql.FAILURES, project)
        return [Failed(self._text.read_id(session_id), *more) for session_id, *more in rows]

    async def pending(self, project: str) -> list[str]:
        """The sessions that are still to be fetched."""
        return await self._ids(sql.PENDING, project)

    async def flaws(self, project: str, *, is_thorough: bool = True) -> list[Flaw]:
        """What is wrong with the tables: messages without a session, sessions that were kept and are not
        there; and, where *is_thorough*, damage that the database finds in itself, which reads all of it.
        """
        found = await self._damage() if is_thorough else []
        for sentence, query in sql.FLAWS.items():
            for (name,) in await self._all(query, *[project] * query.count("?")):
                session_id = None if name is None else self._text.read_id(name)
                found.append(Flaw(session_id, sentence.format(session_id)))
        return found

    async def lacks(self, project: str, sessions: Sequence[str]) -> list[str]:
        """Those of *sessions* that are neither kept nor known to be fetched yet."""
        there = {
            session_id
            for query in (sql.HOLDS, sql.UNDER_WAY)
            for session_id in await self._ids(query, project, self._written(sessions))
        }
        return [each for each in sessions if each not in there]

    async def _damage(self) -> list[Flaw]:
        """What the database finds wrong in itself."""
        return []

    async def _all(self, statement: str, *values: object) -> list[Any]:
        return await self._ask(_rows(statement, values))

    async def _ids(self, statement: str, *values: object) -> list[str]:
        """The ids that *statement* finds."""
        return [self._text.read_id(session_id) for (session_id,) in await self._all(statement, *values)]

    def _written(self, ids: Iterable[str]) -> list[str]:
        return [self._text.written_id(each) for each in ids]

    def _transcripts(self, rows: Sequence[Sequence[Any]], found: Sequence[Any]) -> list[StoredTranscript]:
        """The transcripts of some *rows* of sessions, of which all messages were *found*."""
        by_session = self._grouped(found)
        return [
            # An older version's digest is another one.
            StoredTranscript(
                session, by_session.get(session.id, []), row_noted and noted, row_noted, bool(is_due)
            )
            for *row, noted, row_noted, is_due in rows
            for session in [self._text.read_session(SessionRow(*row))]
        ]

    def _grouped(self, rows: Sequence[Any]) -> dict[str, list[MessageRow]]:
        """The messages of each session; *rows* are in the order of their sessions, and in each in order."""
        messages = self._text.read_messages([MessageRow(*row) for row in rows])
        by_session = groupby(messages, key=lambda row: row.session_id)
        return {session_id: list(group) for session_id, group in by_session}


class Store(Reader):
    """Where sessions and messages are kept. Any task may call it; it does one thing after the other."""

    def __init__(self) -> None:
        self._apis: dict[str, str] = {}

    @abstractmethod
    async def _change(self, name: str, project: str, steps: Steps[T]) -> T:
        """What *steps* return, whose writes are all made, or none; *name* is what a failpoint calls them."""

    def _refuse_another_file(self) -> None:
        """Refuse to go on in a database that nobody will find again."""

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
        is_sound: Callable[[StoredTranscript], bool] | None = None,
    ) -> SyncState:
        """Say what is about to be synced, and learn how far it has come.

        *scope* is the filters as JSON; *server* is the API's address, which must be the one that the project
        remembers, unless *server_moved*; *retry_failed* makes the failed sessions pending again; to
        *reconcile*, an open round that does not compare everything is given up. *is_sound* judges what an
        older version kept without a digest of every column.

        Raises:
            StoreMismatch: the project was begun with another API, server or other filters.
        """
        self._apis[project] = api
        while is_sound is not None and await self._change(
            "digest", project, self._digest_some(project, is_sound)
        ):
            pass
        asked = {"api": api, "scope": scope, "server": server, "server_moved": server_moved}
        found = await self._change("claim", project, self._claim(project, asked, retry_failed=retry_failed))
        if found.is_given_up(reconcile=reconcile):
            await self._change("give up", project, _give_up_round(project))
            found = found._replace(round=None, places=None)
        return await self._ask(self._standing(project, found))

    async def journal(
        self,
        project: str,
        sessions: Sequence[Session],
        *,
        compare: Compare,
        now: str,
        round: Round,  # noqa: A002 - a round is what it is
        places: Sequence[Place] | None = None,
        seen: Sequence[str] = (),
        quiet: bool = False,
        may_wait: bool = False,
    ) -> JournalResult:
        """Keep some sessions, those to fetch as pending, and how far the round has come, all at once.

        *places* are where the listing goes on, none of them at its end; where they are not given, the
        sessions are not out of the listing. *seen* are the ids of sessions that the round has listed and that
        are to be written down as such. With *quiet*, nothing is written where nothing is new. Where *matches*
        is given, a session is kept from the first time on that it matches; an open one that does not yet is
        remembered as waiting.
        """
        judge = self._judge(project, sessions, compare, may_wait=may_wait)
        write = self._journal(project, now, round, places, seen)
        return await self._change("journal", project, _judged_and_journalled(judge, write, quiet=quiet))

    async def keep(self, project: str, finished: Sequence[FetchResult]) -> MessageCounts:
        """Keep the messages of some sessions, which are pending no more unless they have changed since.

        Rows are touched where their content changed; messages that are gone go to `sync_gone`.
        """
        return await self._change("keep", project, self._keep(project, finished))

    async def missing(self, project: str, *, since: str | None) -> list[str]:
        """Sessions that are kept, began later than *since*, and were not seen in this round."""
        return await self._ids(sql.MISSING, project, since, since)

    async def watched(self, project: str, *, fresh: str, since: str | None = None) -> list[str]:
        """Sessions that are watched, and were read before *fresh*, and those that wait to match the filter on
        their status. Those that began before *since* are watched no longer.
        """
        if since is not None:
            await self._write("unwatch", project, sql.UNWATCH, project, project, since)
        return await self._ids(sql.WATCHED, project, fresh, fresh, project, since, since)

    async def holds(self, project: str, sessions: Sequence[str]) -> bool:
        """Whether any of *sessions* is kept."""
        return bool(await self._all(sql.HOLDS, project, self._written(sessions)))

    async def distrust(self, project: str, sessions: Sequence[str]) -> None:
        """Make some sessions pending, so that the next sync fetches them whole and writes all rows again,
        whether they are kept or not. Indexes are rebuilt first.
        """
        await self._change("distrust", project, self._distrust(project, self._written(sessions)))

    async def remember_server(self, project: str, server: str) -> None:
        """Record where *project* is synced from."""
        await self._write("server", project, sql.SERVER, server, project)

    async def refute(self, project: str) -> None:
        """Record that there were messages behind a short page."""
        await self._write("refute", project, sql.REFUTE, project)

    async def unread(self, project: str) -> list[Unread]:
        """Where sessions that are kept as whole, neither pending nor failed, might go on after all."""
        rows = await self._all(sql.UNREAD, project)
        return [unread((self._text.read_id(session_id), *more)) for session_id, *more in rows]

    async def fail(self, project: str, failures: Sequence[Failed]) -> None:
        """Record sessions that cannot be had; attempts add up."""
        rows = [
            (project, self._text.written_id(each.id), self._text.plain(each.reason), each.attempts, "failed")
            for each in failures
        ]
        await self._change("fail", project, _put(sql.PUT_FAILED, rows, "tttit"))

    async def vanish(self, project: str, session_id: str) -> Literal["kept", "waiting"] | None:
        """Record that a session is gone, and return what it was; None if there never was such a one.

        What was kept of it stays. One that waits to match a filter does so for a day more: an API may deny
        for a moment what it has.
        """
        return await self._change("vanish", project, self._vanish(project, self._text.written_id(session_id)))

    async def finish(self, project: str, round: Round, report: RunReport) -> None:  # noqa: A002
        """Record that *round* has come to its end."""
        await self._change("finish", project, self._finish(project, round, report))

    async def note(self, project: str, report: RunReport) -> None:
        """Record that a run was ended by an error."""
        await self._write("note", project, sql.NOTE_RUN, as_json(report), project)

    async def _write(self, name: str, project: str, statement: str, *values: object) -> None:
        await self._change(name, project, _write(statement, values))

    def _claim(self, project: str, asked: dict[str, Any], *, retry_failed: bool) -> Steps[StandingRow]:
        self._refuse_another_file()
        begun = (asked["api"], asked["server"], asked["scope"])
        yield Write(sql.UNBIND, (*begun, project, *begun, project))
        yield Write(sql.BEGIN, (project, asked["api"], asked["scope"]))
        [row] = yield Query(sql.STANDING, (project,))
        found = read_columns(tuple(row), StandingRow)
        found.refuse_others(self, project, **asked)
        if retry_failed:
            yield Write(sql.RETRY, (project,))
        return found

    def _digest_some(self, project: str, is_sound: Callable[[StoredTranscript], bool]) -> Steps[bool]:
        """Note the digests of some sessions that an older version kept; whether there were any."""
        found = yield Query(sql.UNDIGESTED, (project,))
        for *columns, noted in found:
            session_id = columns[SessionRow._fields.index("id")]
            rows = yield Query(sql.MESSAGES, (project, [session_id]))
            [kept] = self._transcripts([(*columns, None, None, False)], rows)
            # They may have been fetched again since, without any change of the session itself.
            known = (None, old_digest(kept.messages), digest(kept.messages))
            is_whole = noted in known and is_sound(kept)
            # Nothing has the empty digest: what is damaged stays so until it is fetched again.
            of = digest(kept.messages) if is_whole else ""
            yield Write(sql.DIGESTED, (of, row_digest(kept.session), project, session_id))
        return bool(found)

    def _standing(self, project: str, row: StandingRow) -> Steps[SyncState]:
        read_id = self._text.read_id
        unfinished = yield Query(sql.UNFINISHED, (project,))
        some: list[str] = []
        for query in sql.SOME:
            # Where the databases put what has no time differs, and matters to nobody.
            some += [read_id(session_id) for (session_id,) in (yield Query(query, (project,)))]
        return standing(row, [(read_id(name), of, state) for name, of, state in unfinished], some)

    def _judge(
        self, project: str, sessions: Sequence[Session], compare: Compare, *, may_wait: bool
    ) -> Steps[SessionDiff]:
        ids, read_id = self._written(session.id for session in sessions), self._text.read_id
        rows = yield Query(sql.KNOWN, (project, ids))
        stored: dict[str, StoredSession] = {read_id(session_id): known(more) for session_id, *more in rows}
        if may_wait:
            under_way = yield Query(sql.UNDER_WAY, (project, ids))
            for (session_id,) in under_way:
                if stored.get(read_id(session_id), UNKNOWN) == UNKNOWN:
                    stored[read_id(session_id)] = StoredSession(is_pending=True)
            waiting = yield Query(f"{sql.WAITING} AND gone_at IS NULL AND session_id {{any}}", (project, ids))
            for (session_id,) in waiting:
                before = stored.get(read_id(session_id), UNKNOWN)
                stored[read_id(session_id)] = before._replace(is_waiting=True)
        return compare(sessions, stored)

    def _journal(
        self,
        project: str,
        now: str,
        round: Round,  # noqa: A002
        places: Sequence[Place] | None,
        seen: Sequence[str],
    ) -> "Callable[[SessionDiff], Steps[None]]":
        written_id = self._text.written_id

        def write(found: SessionDiff) -> Steps[None]:
            yield from self._put_sessions(project, found, now)
            yield Put(sql.PUT_SEEN, [(project, written_id(each)) for each in seen], "tt")
            waiting = waiting_rows(project, found.left_out)
            yield Put(sql.PUT_WAITING, [(_, written_id(each), at) for _, each, at in waiting], "ttt")
            for each in found.waited:
                yield Write(sql.WAITED, (project, written_id(each)))
            for each in found.unwanted:
                yield Write(sql.UNWANTED, (project, written_id(each)))
            yield Write(sql.ROUND, (as_json(round), project))
            if places is not None:
                yield Write(sql.PLACES, (as_json(places) if places else None, project))

        return write

    def _put_sessions(self, project: str, found: SessionDiff, now: str) -> Steps[None]:
        news = (*found.inserted, *found.changed)
        rows = [session_row(project, self._apis[project], each.session, now) for each in news]
        yield Put(sql.PUT_SESSIONS, [self._text.written_session(row) for row in rows], "t" * 13)
        pending = [
            (row.content_hash, each.is_watched, each.settles_at, row_digest(row))
            for each, row in zip(news, rows, strict=True)
        ]
        ids = self._written(row.id for row in rows)
        yield Put(
            sql.PUT_PENDING,
            [(project, each, "pending", *more) for each, more in zip(ids, pending, strict=True)],
            "ttttbtt",
        )

    def _keep(self, project: str, finished: Sequence[FetchResult]) -> Steps[MessageCounts]:
        total = MessageCounts()
        for readings in split_repeats(finished):
            total = MessageCounts.all([total, (yield from self._put_readings(project, readings))])
        return total

    def _put_readings(self, project: str, readings: Sequence[FetchResult]) -> Steps[MessageCounts]:
        """Write *readings*, of different sessions."""
        held = self._grouped((yield Query(sql.HELD, (project, self._written(r.wanted.id for r in readings)))))
        refused = yield from self._damaged(project, readings, held)
        found = [
            (each, diff_messages(project, each, held.get(each.wanted.id, [])))
            for each in readings
            if each.wanted.id not in refused
        ]
        yield from self._put_messages(project, [made for _, made in found])
        rows = [
            (project, self._text.written_id(fetched.wanted.id), *kept_columns(fetched, made))
            for fetched, made in found
        ]
        yield Put(sql.PUT_KEPT, rows, "ttttttitti")
        return MessageCounts.all(each.counts for _, each in found)

    def _damaged(
        self, project: str, readings: Sequence[FetchResult], held: dict[str, list[MessageRow]]
    ) -> Steps[set[str]]:
        """Those sessions that cannot be added to; they are to be read whole."""
        parts = self._written(each.wanted.id for each in readings if each.is_part)
        if not parts:
            return set()
        rows = yield Query(sql.DIGESTS, (project, parts))
        noted = {self._text.read_id(session_id): of for session_id, of in rows}
        refused = damaged_below(readings, held, noted)
        for each in refused:
            yield Write(sql.READ_WHOLE, (project, self._text.written_id(each)))
        return refused

    def _put_messages(self, project: str, made: Sequence[MessageDiff]) -> Steps[None]:
        gone = self._text.written_messages([row for each in made for row in each.gone])
        now = format_time(datetime.now(UTC))
        yield Put(sql.PUT_GONE, [(*row, now) for row in gone], "tttittttt" + "t")
        yield Put(sql.DROP_MESSAGES, [_key(row) for row in gone], "ttt")
        put = self._text.written_messages([row for each in made for row in each.put])
        yield Put(sql.PUT_MESSAGES, put, "tttittttt")
        sessions = self._written(each.put[0].session_id for each in made if each.put)
        if were_gone := (yield Query(sql.GONE, (project, sessions))):
            came_back = {(project, *each) for each in were_gone} & {_key(row) for row in put}
            yield Put(sql.DROP_GONE, list(came_back), "ttt")

    def _vanish(self, project: str, session_id: str) -> Steps[Literal["kept", "waiting"] | None]:
        moment = datetime.now(UTC)
        now = format_time(moment)
        rows = yield Query(sql.VANISHING, (project, session_id))
        waited = yield Query(f"{sql.WAITING} AND session_id = ?", (project, session_id))
        is_stray = yield from self._forget_stray(project, session_id, rows)
        yield Write(sql.VANISH, (now, project, session_id))
        for *row, noted in rows:
            of = row_digest_after(self._text.read_session(SessionRow(*row)), noted, deleted_at=now)
            yield Write(sql.VANISHED, (of, project, session_id))
        yield Write(sql.GONE_WAITING, (now, project, session_id))
        yield Write(sql.FORGET_WAITING, (project, format_time(moment - PATIENCE)))
        return "kept" if rows or is_stray else "waiting" if waited else None

    def _forget_stray(self, project: str, session_id: str, rows: Sequence[Sequence[Any]]) -> Steps[bool]:
        """Whether what is kept of a session that the API never heard of was there by damage alone, under a
        damaged id; then it is removed.
        """
        strays = yield Query(sql.STRAYS, (project, session_id))
        sessions = [self._text.read_session(SessionRow(*row)) for *row, _ in rows]
        if not strays or any(names_itself(each) for each in sessions):
            return False
        held = self._grouped((yield Query(sql.HELD, (project, [session_id]))))
        [(is_new,)] = strays
        if held and not is_new:
            return False
        yield from self._put_messages(project, [MessageDiff.of_gone(each) for each in held.values()])
        for statement in sql.FORGET:
            yield Write(statement, (project, session_id))
        return True

    def _distrust(self, project: str, sessions: Sequence[str]) -> Steps[None]:
        yield Put(sql.DISTRUST, [(project, each, "pending") for each in sessions], "ttt")
        for each in sessions:
            yield Write(sql.REREAD_ROW, (project, each))

    def _finish(self, project: str, round: Round, report: RunReport) -> Steps[None]:  # noqa: A002
        self._refuse_another_file()
        # A session dated in the future does not take the next round beyond this one.
        reached = None if round.reached is None else min(round.reached, round.began)
        yield Write(sql.FORGET_SEEN, (project,))
        yield Write(sql.FINISH, (as_json(report), reached, reached, project))


def _rows(statement: str, values: Sequence[object]) -> Steps[list[Any]]:
    return (yield Query(statement, values))


def _write(statement: str, values: Sequence[object]) -> Steps[None]:
    yield Write(statement, values)


def _put(statement: str, rows: Sequence[Sequence[object]], types: str) -> Steps[None]:
    yield Put(statement, rows, types)


def _give_up_round(project: str) -> Steps[None]:
    yield Write(sql.FORGET_SEEN, (project,))
    yield Write(sql.GIVE_UP_ROUND, (project,))


def _judged_and_journalled(
    judge: Steps[SessionDiff], write: Callable[[SessionDiff], Steps[None]], *, quiet: bool
) -> Steps[JournalResult]:
    found = yield from judge
    is_written = found.is_news or not quiet
    if is_written:
        yield from write(found)
    return found.result(was_written=is_written)


def _key(row: MessageRow) -> tuple[str, str, str]:
    return row.project, row.session_id, row.id
