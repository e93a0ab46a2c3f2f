"""An archive: what can be read of it, and what a sync writes, in a SQLite file or in PostgreSQL.

Data and progress are written in the same transaction, so whatever instant a process dies at, the archive
holds what was finished and knows what was not.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._database import Driver, Steps
from navtalk_async.archive._operations import Compare, Operations, put, rows_of, write
from navtalk_async.archive._progress_rows import as_json, project_counts, project_info, unfollowed_cursor
from navtalk_async.archive.damage import Records
from navtalk_async.archive.records import (
    ArchiveDigest,
    ChangeMarker,
    FailedSession,
    FetchResult,
    Flaw,
    JournalResult,
    MessageCounts,
    ProjectCounts,
    ProjectInfo,
    Round,
    RunReport,
    SyncState,
    UnfollowedCursor,
)
from navtalk_async.archive.rows import StoredTranscript
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreError
from navtalk_async.models import ResumePoint, Session

__all__ = ["SCHEMES", "Archive", "is_url", "redacted"]

T = TypeVar("T")

SCHEMES = ("postgresql", "postgres")


class Archive:
    """Where sessions and messages are kept. Make one with `Archive.open`; any task may call it.

    Methods raise `StoreError`, with a sentence for the user, where the database does not work. *project* is
    the name under which the sessions of one API key are kept.
    """

    def __init__(self, driver: Driver, *, read_only: bool = False) -> None:
        self._driver = driver
        self._read_only = read_only
        self._operations = Operations(driver.codec)
        self._apis: dict[str, str] = {}

    @classmethod
    def open(cls, place: str | Path, *, read_only: bool = False, immutable: bool = False) -> "Archive":
        """The archive at *place*, as an `async with`; one that is not there is made.

        Only one run writes to an archive at a time; any number may read it meanwhile.

        Arguments:
            place: a path, or `postgresql://user@host/database`; its tables are in the current schema, or in
                another one with `?search_path=name`.
            read_only: change nothing, and make nothing.
            immutable: with *read_only*, make no files beside an archive that nobody has open; for readers who
                are done before anybody writes to it.

        Raises:
            ValueError: *place* cannot be an archive.
            StoreLocked: another run writes to it.
            StoreUnreachable: it is not there, or cannot be opened; or asyncpg is not installed.
            StoreBroken: it is damaged, or something else.
            StoreMismatch: it was written by a newer version; to read only, by an older one.
        """
        if is_url(place):
            from navtalk_async.archive._postgres import PostgresDriver  # noqa: PLC0415 - needs asyncpg

            return cls(PostgresDriver(str(place), read_only=read_only), read_only=read_only)
        from navtalk_async.archive._sqlite import SqliteDriver  # noqa: PLC0415 - one of the two is needed

        driver = SqliteDriver(Path(place), read_only=read_only, immutable=immutable)
        return cls(driver, read_only=read_only)

    def __str__(self) -> str:
        return str(self._driver)

    def __repr__(self) -> str:
        return f"<Archive {self}>"

    async def __aenter__(self) -> Self:
        try:
            await self._driver.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the database."""
        await shielded(self._driver.close())

    @property
    def path(self) -> Path | None:
        """The archive's file; None for a database on a server."""
        return self._driver.path

    # What can be read, also while another process writes.

    async def projects(self) -> list[ProjectInfo]:
        """Every project, by name."""
        return [project_info(row) for row in await self._rows(sql.PROJECTS)]

    async def counts(self, project: str = "default") -> ProjectCounts:
        """How many sessions and messages there are of *project*."""
        [row] = await self._rows(sql.COUNTS, *[project] * sql.COUNTS.count("?"))
        return project_counts(row)

    async def transcripts(self, project: str = "default") -> AsyncGenerator[StoredTranscript, None]:
        """Every session with its messages, in the order of (start_time, id), as of one moment."""
        async with aclosing(self.transcript_batches(project)) as batches:
            async for batch in batches:
                for each in batch:
                    yield each

    async def transcript_batches(
        self, project: str = "default"
    ) -> AsyncGenerator[list[StoredTranscript], None]:
        """The same, some sessions at a time."""
        async with aclosing(self._driver.walk(project)) as batches:
            async for sessions, messages in batches:
                yield self._operations.transcripts(sessions, messages)

    async def transcript(self, session_id: str, project: str = "default") -> StoredTranscript | None:
        """One session with its messages; None if the archive does not hold it."""
        return await self._driver.read(self._operations.transcript(project, session_id))

    async def failures(self, project: str = "default") -> list[FailedSession]:
        """Every failed session."""
        rows = await self._rows(sql.FAILURES, project)
        return [FailedSession(self._driver.codec.read_id(session_id), *more) for session_id, *more in rows]

    async def pending(self, project: str = "default") -> list[str]:
        """The ids of sessions that are still to be fetched."""
        return await self._ids(sql.PENDING, project)

    async def flaws(self, project: str = "default", *, is_thorough: bool = True) -> list[Flaw]:
        """What is wrong with the tables: messages without a session, sessions that were kept and are not
        there; and, where *is_thorough*, damage that the database finds in itself, which reads all of it.
        """
        damage = await self._driver.find_damage() if is_thorough else []
        found = [Flaw(None, each) for each in damage]
        for sentence, query in sql.FLAWS.items():
            for (name,) in await self._rows(query, *[project] * query.count("?")):
                session_id = None if name is None else self._driver.codec.read_id(name)
                found.append(Flaw(session_id, sentence.format(session_id)))
        return found

    async def contains(self, project: str, sessions: Sequence[str]) -> bool:
        """Whether any of *sessions* is kept."""
        return bool(await self._rows(sql.CONTAINS, project, self._driver.codec.write_ids(sessions)))

    async def lacks(self, project: str, sessions: Sequence[str]) -> list[str]:
        """Those of *sessions* that are neither kept nor known to be fetched yet."""
        there = {
            session_id
            for query in (sql.CONTAINS, sql.UNDER_WAY)
            for session_id in await self._ids(query, project, self._driver.codec.write_ids(sessions))
        }
        return [each for each in sessions if each not in there]

    async def change_marker(self) -> ChangeMarker | None:
        """How far the archive has come; None for a database on a server."""
        return await self._driver.change_marker()

    async def digest(self) -> ArchiveDigest | None:
        """The file as it is now, with all that was ever committed in it; until something is written, it stays
        so. None for a database on a server, and where others read in it just now for longer than we wait.
        """
        return await self._driver.digest()

    # What a sync writes.

    async def begin(
        self,
        project: str = "default",
        *,
        api: str,
        scope: str,
        server: str | None = None,
        server_moved: bool = False,
        retry_failed: bool = False,
        reconcile: bool = False,
        dialect: Records | None = None,
    ) -> SyncState:
        """Say what is about to be synced, and learn how far it has come.

        *scope* is the filters as JSON; *server* is the API's address, which must be the one that the project
        remembers, unless *server_moved*; *retry_failed* makes the failed sessions pending again; to
        *reconcile*, an open round that does not compare everything is given up. *dialect* reads
        the API's objects, to fill and check what an earlier version wrote.

        Raises:
            StoreMismatch: the project was begun with another API, server or other filters.
        """
        operations = self._operations
        self._apis[project] = api
        while dialect is not None and await self._write(
            "adopt", project, operations.adopt_some(project, dialect)
        ):
            pass
        asked = {"api": api, "scope": scope, "server": server, "server_moved": server_moved}
        steps = operations.begin(str(self), project, asked, retry_failed=retry_failed)
        found = await self._write("begin", project, self._in_same_file(steps))
        if found.is_given_up(reconcile=reconcile):
            await self._write("give up", project, operations.give_up_round(project))
            found = found._replace(round=None, places=None)
        return await self._driver.read(operations.state(project, found))

    async def record_listing(
        self,
        project: str,
        sessions: Sequence[Session],
        *,
        compare: Compare,
        now: str,
        round: Round,  # noqa: A002 - a round is what it is
        places: Sequence[ResumePoint] | None = None,
        seen: Sequence[str] = (),
        quiet: bool = False,
        may_wait: bool = False,
    ) -> JournalResult:
        """Keep some sessions, those to fetch as pending, and how far the round has come, all at once.

        Arguments:
            compare: decides what is new, changed and to be fetched, by what is stored of each session.
            now: the time, in ISO 8601.
            places: where the listing goes on, empty at its end; None where the sessions are not out of the
                listing.
            seen: the ids of sessions that the round has listed and that are to be recorded as such.
            quiet: write nothing where nothing is new.
            may_wait: whether *compare* leaves out sessions that do not match a filter; those that wait to
                match it are then marked.
        """
        steps = self._operations.record_listing(
            project,
            self._apis[project],
            sessions,
            compare=compare,
            now=now,
            round=round,
            places=places,
            seen=seen,
            quiet=quiet,
            may_wait=may_wait,
        )
        return await self._write("record listing", project, steps)

    async def save_messages(self, project: str, fetched: Sequence[FetchResult]) -> MessageCounts:
        """Save the messages of some sessions, which are pending no more unless they have changed since.

        Rows are touched where their content changed; earlier texts go to `message_history`.
        """
        return await self._write("save messages", project, self._operations.save_messages(project, fetched))

    async def missing(self, project: str, *, since: str | None) -> list[str]:
        """Sessions that are kept, began later than *since*, and were not seen in this round."""
        return await self._ids(sql.MISSING, project, since, since)

    async def watched(self, project: str, *, fresh: str, since: str | None = None) -> list[str]:
        """Sessions that are watched, and were read before *fresh*, and those that wait to match the filter on
        their status. Those that began before *since* are watched no longer.
        """
        if since is not None:
            await self._write("unwatch", project, write(sql.UNWATCH, (project, project, since)))
        return await self._ids(sql.WATCHED, project, fresh, fresh, project, since, since)

    async def refetch(self, project: str, sessions: Sequence[str]) -> None:
        """Make some sessions pending, so that the next sync fetches them whole and writes all rows again,
        whether they are kept or not. Indexes are rebuilt first.
        """
        # A damaged index hides rows: to write them again would double them.
        await self._driver.rebuild()
        ids = self._driver.codec.write_ids(sessions)
        await self._write("refetch", project, self._operations.refetch(project, ids))

    async def remember_server(self, project: str, server: str) -> None:
        """Record where *project* is synced from."""
        await self._write("server", project, write(sql.SERVER, (server, project)))

    async def distrust_short_pages(self, project: str) -> None:
        """Record that there were messages behind a short page."""
        await self._write("distrust short pages", project, write(sql.DISTRUST_SHORT_PAGES, (project,)))

    async def unfollowed_cursors(self, project: str) -> list[UnfollowedCursor]:
        """Where sessions that are kept as whole, neither pending nor failed, might go on after all."""
        rows = await self._rows(sql.UNFOLLOWED, project)
        read_id = self._driver.codec.read_id
        return [unfollowed_cursor((read_id(session_id), *more)) for session_id, *more in rows]

    async def record_failures(self, project: str, failures: Sequence[FailedSession]) -> None:
        """Record sessions that cannot be fetched; attempts add up."""
        codec = self._driver.codec
        rows = [
            (project, codec.write_id(each.id), codec.write_text(each.reason), each.attempts, "failed")
            for each in failures
        ]
        await self._write("record failures", project, put(sql.PUT_FAILED, rows, "tttit"))

    async def mark_deleted(self, project: str, session_id: str) -> Literal["kept", "waiting"] | None:
        """Record that the API no longer has a session, and return what it was; None if it is unknown.

        What was kept of it stays. One that waits to match a filter does so for a day more: an API may deny
        for a moment what it has.
        """
        held_id = self._driver.codec.write_id(session_id)
        return await self._write("mark deleted", project, self._operations.mark_deleted(project, held_id))

    async def finish(self, project: str, round: Round, report: RunReport) -> None:  # noqa: A002
        """Record that *round* is complete."""
        await self._write(
            "finish", project, self._in_same_file(self._operations.finish(project, round, report))
        )

    async def record_run(self, project: str, report: RunReport) -> None:
        """Record that a run was ended by an error."""
        await self._write("record run", project, write(sql.RECORD_RUN, (as_json(report), project)))

    async def _write(self, name: str, project: str, steps: Steps[T]) -> T:
        if self._read_only:
            raise StoreError(f"{self} is open to be read only.")
        return await self._driver.write(name, project, steps)

    def _in_same_file(self, steps: Steps[T]) -> Steps[T]:
        self._driver.refuse_another_file()
        return (yield from steps)

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        return await self._driver.read(rows_of(statement, values))

    async def _ids(self, statement: str, *values: object) -> list[str]:
        return [self._driver.codec.read_id(each) for (each,) in await self._rows(statement, *values)]


def is_url(place: str | Path) -> bool:
    """Whether *place* is the URL of a database, and no path.

    Raises:
        ValueError: it is neither.
    """
    scheme, mark, _ = str(place).partition(":/")
    if scheme in SCHEMES and mark and (isinstance(place, Path) or "://" not in place):
        # A password must not become the name of a folder.
        raise ValueError(f"The address of a database is a text that begins with {scheme}://.")
    if isinstance(place, Path) or "://" not in place:
        return False
    if scheme not in SCHEMES:
        raise ValueError(f"{scheme}:// is no known database; use a path, or postgresql://user@host/database.")
    return True


def redacted(place: str | Path) -> str:
    """*place* as it may be shown: without its password.

    Raises:
        ValueError: *place* cannot be an archive.
    """
    if not is_url(place):
        return str(place)
    from navtalk_async.archive._postgres_server import without_password  # noqa: PLC0415 - only where needed

    return without_password(str(place))
