"""An archive: what can be read of it, and what a sync writes, in a SQLite file or in PostgreSQL.

Data and progress are written in the same transaction, so whatever instant a process dies at, the archive
holds what was finished and knows what was not.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import groupby
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any, Self

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._database import Access, Query, Steps
from navtalk_async.archive._feed import EarlierMessage, read_as_of, read_end, read_history, read_start
from navtalk_async.archive._forget import Forgotten, Tombstones
from navtalk_async.archive._operations import Operations
from navtalk_async.archive._runs import project_info, read_row
from navtalk_async.archive._tokens import Token, parse_token
from navtalk_async.archive.changes import (
    Batches,
    Consumer,
    ConsumerInfo,
    checked_consumer,
    drop_consumer,
    read_consumers,
)
from navtalk_async.archive.damaged_rows import damage_named
from navtalk_async.archive.listing import (
    Order,
    SessionFilter,
    SessionPage,
    TranscriptPage,
    list_query,
    read_page,
    read_transcript_page,
)
from navtalk_async.archive.records import (
    ArchiveDigest,
    ChangeMarker,
    FailedSession,
    Flaw,
    ProjectCounts,
    ProjectInfo,
)
from navtalk_async.archive.rows import SessionRow, StoredTranscript, TextRow
from navtalk_async.concurrency import off_the_loop, shielded

__all__ = ["Archive", "Forgotten", "Tombstones", "is_url", "redacted"]

SCHEMES = ("postgresql", "postgres")

CHANGES_A_BATCH = 500
EVERY_SESSION = SessionFilter()


class Archive(Operations):
    """Where sessions and messages are kept. Make one with `Archive.open`; any task may call it.

    Methods raise `StoreError`, with a sentence for the user, where the database does not work. *project* is
    the name under which the sessions of one API key are kept.
    """

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
            TypeError: *place* is no path and no address.
            ValueError: *place* cannot be an archive.
            StoreLocked: another run writes to it.
            StoreUnreachable: it is not there, or cannot be opened; or asyncpg is not installed.
            StoreBroken: it is damaged, or something else.
            StoreMismatch: it was written by a newer version; to read only, by an older one.
        """
        if not isinstance(place, str | PathLike):
            raise TypeError(f"{place!r} is no path of an archive, and no postgresql:// address.")
        access: Access = "read" if read_only else "write"
        if is_url(place):
            from navtalk_async.archive._postgres import PostgresDriver  # noqa: PLC0415 - needs asyncpg

            return cls(PostgresDriver(str(place), access), read_only=read_only)
        from navtalk_async.archive._sqlite import SqliteDriver  # noqa: PLC0415 - one of the two is needed

        driver = SqliteDriver(Path(place), access, immutable=immutable)
        return cls(driver, read_only=read_only)

    def __repr__(self) -> str:
        return f"<Archive {self}>"

    async def __aenter__(self) -> Self:
        try:
            await self._driver.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
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
        """How many sessions and messages *project* has."""
        [row] = await self._rows(sql.COUNTS, *[project] * sql.COUNTS.count("?"))
        return read_row(row, ProjectCounts)

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
                yield await off_the_loop(len(messages), self._transcripts, sessions, messages)

    def _transcripts(self, sessions: list[Any], messages: list[Any]) -> list[StoredTranscript]:
        batch = self._codec.transcripts(sessions, messages)
        messages.clear()  # All are in memory once.
        return batch

    async def list_sessions(
        self, wanted: SessionFilter = EVERY_SESSION, *, newest: bool = False
    ) -> AsyncGenerator[list[tuple[SessionRow, int | None]], None]:
        """The sessions that are *wanted*, by their starts; each with the number of its messages (None where
        they are not kept yet), some at a time, as of one moment.
        """
        query = list_query(self._codec, wanted, newest=newest)
        async with aclosing(self._driver.walk_sessions(query)) as batches:
            async for rows in batches:
                yield self._codec.counted(rows)

    async def session_page(
        self,
        wanted: SessionFilter = EVERY_SESSION,
        order: Order = "started",
        *,
        newest: bool = False,
        first: int = 0,
        count: int = 100,
    ) -> SessionPage:
        """So many of the sessions that are *wanted*, from the *first* on (from 0), in an *order*."""
        steps = read_page(self._codec, wanted, order, newest=newest, first=first, count=count)
        return await self._driver.snapshot(steps)

    async def transcript_page(
        self, session_id: str, project: str = "default", *, first: int = 0, count: int = 500
    ) -> TranscriptPage | None:
        """So many messages of a session, from the position *first* on; None if it is not held."""
        steps = read_transcript_page(self._codec, project, session_id, first, count)
        return await self._driver.snapshot(steps)

    async def message_times(
        self, project: str = "default"
    ) -> AsyncGenerator[list[tuple[SessionRow, list[tuple[Any, Any]]]], None]:
        """Every session with the role and `created_at` of each of its messages, in the same order; some at a
        time, in a fraction of the time.
        """
        async with aclosing(self._driver.walk(project, sql.MESSAGE_TIMES)) as batches:
            async for sessions, messages in batches:
                yield await off_the_loop(len(messages), self._codec.times, sessions, messages)

    async def text_batches(
        self, project: str = "default"
    ) -> AsyncGenerator[list[tuple[SessionRow, list[TextRow]]], None]:
        """Every session with the texts of its messages, in the order of `transcripts`, some at a time."""
        async with aclosing(self._driver.walk(project, sql.TEXTS)) as batches:
            async for sessions, texts in batches:
                said = await off_the_loop(len(texts), self._codec.texts_by_session, texts)
                yield [(row, said.get(row.id, [])) for row in self._codec.sessions(sessions)]

    async def transcript(
        self, session_id: str, project: str = "default", *, as_of: str | None = None
    ) -> StoredTranscript | None:
        """One session with its messages; None if the archive does not hold it.

        Arguments:
            as_of: a token of the change feed, for the messages as they were then, and None if there was no
                such session yet; the session's own row is today's.

        Raises:
            ValueError: *as_of* is no token.
            StoreMismatch: it is of another archive.
        """
        held_id, token = self._codec.write_id(session_id), None
        if as_of is not None:
            token = parse_token("as_of", as_of)
        with damage_named(self):
            return await self._driver.snapshot(self._transcript(project, held_id, token))

    def _transcript(self, project: str, held_id: str, token: Token | None) -> Steps[StoredTranscript | None]:
        if token is not None:
            yield from read_start(self, token, token.scope)
            return (yield from read_as_of(self._codec, project, held_id, token.commit))
        sessions = yield Query(sql.SOME_SESSIONS, (project, [held_id]))
        messages = yield Query(sql.MESSAGES, (project, [held_id]))
        return next(iter(self._codec.transcripts(sessions, messages)), None)

    async def messages_at(self, places: Sequence[tuple[str, str, int]]) -> list[StoredTranscript]:
        """The messages at *places* (project, session id, position), with their sessions, each of which comes
        once; what is not there is left out.
        """
        return await self._driver.snapshot(self._messages_at(places))

    def _messages_at(self, places: Sequence[tuple[str, str, int]]) -> Steps[list[StoredTranscript]]:
        found: list[StoredTranscript] = []
        for (project, session_id), some in groupby(sorted(places), key=itemgetter(0, 1)):
            held_id = self._codec.write_id(session_id)
            sessions = yield Query(sql.SOME_SESSIONS, (project, [held_id]))
            positions = [position for *_, position in some]
            messages = yield Query(sql.MESSAGES_AT, (project, held_id, positions))
            found += self._codec.transcripts(sessions, messages)
        return found

    async def history(self, session_id: str, project: str = "default") -> list[EarlierMessage]:
        """Every earlier version of messages that were edited, or deleted, by when it was replaced."""
        steps = read_history(self._codec, project, self._codec.write_id(session_id))
        with damage_named(self):
            return await self._driver.read(steps)

    # What changed.

    def changes(
        self,
        after: str | None = None,
        *,
        project: str | None = None,
        limit: int = CHANGES_A_BATCH,
        follow: bool = False,
    ) -> Batches:
        """What changed since a token, in batches; also while another process writes to the archive.

            async with archive.changes(after=token) as batches:
                async for batch in batches:
                    for change in batch.changes:
                        print(change.what, change.session.id, len(change.new))
                    token = batch.token

        A session comes once its messages are kept, or failed for good; however often it changed since, it
        comes once. Changes may come twice, so store them by their keys: (project, session id) and (project,
        session id, message id).

        Arguments:
            after: the token of a batch or change, to go on behind it; None begins with everything that is
                kept.
            project: one project; None, the default, takes all of them.
            limit: the most sessions in a batch, 500; fewer where they are large.
            follow: wait for more at the end, for ever, instead of ending.

        Raises:
            ValueError: *after* is no token, or *limit* no number above 0; before anything is read.
            StoreMismatch: the token is of another archive, or ahead of this one; from the `async with`.
            StoreBroken: a row is damaged; from the `async for`.
        """
        driver = self._driver.beside("read")
        return Batches(driver, after=after, project=project, limit=limit, follow=follow)

    def consume(
        self,
        name: str,
        *,
        project: str | None = None,
        limit: int = CHANGES_A_BATCH,
        follow: bool = False,
    ) -> Consumer:
        """The same for a consumer of this *name*, of which the archive remembers how far it has come.

            async with archive.consume("warehouse") as batches:
                async for batch in batches:
                    await store(batch.changes)
                    await batch.ack()

        A new name begins with everything that is kept. What is not acknowledged comes again. Acknowledging
        works beside a sync in another process, and with an archive that is open to be read only.

        Raises:
            ValueError: *name* or *limit* cannot be right.
            StoreMismatch: the consumer reads another *project*, or commits that this archive does not have;
                from `ack`: it was dropped, or another process reads under the same name.
        """
        driver = self._driver.beside("consume")
        return Consumer(driver, name, project=project, limit=limit, follow=follow)

    async def consumers(self) -> list[ConsumerInfo]:
        """Every consumer, by name, and how far it is behind."""
        return await self._driver.snapshot(read_consumers())

    async def drop_consumer(self, name: str) -> None:
        """Forget a consumer; the same name begins anew. A StoreMismatch if there is none of this name."""
        driver = self._driver.beside("consume")
        try:
            await driver.open()
            await driver.write("drop consumer", None, drop_consumer(checked_consumer(name)))
        finally:
            await shielded(driver.close())

    async def latest_token(self) -> str:
        """The token of now: for `changes` from now on, and `transcript` as of now."""
        return (await self._driver.snapshot(read_end())).text()

    async def failures(self, project: str = "default") -> list[FailedSession]:
        """Every failed session."""
        rows = await self._rows(sql.FAILURES, project)
        return [FailedSession(self._codec.read_id(session_id), *more) for session_id, *more in rows]

    async def pending(self, project: str = "default") -> list[str]:
        """The ids of sessions whose messages are not saved yet."""
        return await self._ids(sql.PENDING, project)

    async def known_sessions(self, project: str = "default") -> list[str]:
        """The ids of a few sessions that are certainly in *project*."""
        # Where the databases put what has no time differs, and matters to nobody.
        some = [each for query in sql.SOME for each in await self._ids(query, project)]
        return list(dict.fromkeys(some))

    async def flaws(self, project: str = "default", *, is_thorough: bool = True) -> list[Flaw]:
        """What is wrong with the tables; where *is_thorough*, the database also checks all of itself."""
        damage = await self.damage() if is_thorough else []
        found = [Flaw(None, each) for each in damage]
        for sentence, query in sql.FLAWS.items():
            for (name,) in await self._rows(query, *[project] * query.count("?")):
                session_id = None if name is None else self._codec.read_id(name)
                found.append(Flaw(session_id, sentence.format(session_id)))
        return found

    async def damage(self) -> list[str]:
        """Sentences about what the database finds wrong in itself."""
        return await self._driver.find_damage()

    async def ancestry(self) -> list[str]:
        """The id of the archive, which its copies have, too; then one for each time that it was written to
        between opening and closing it, of which each copy has its own.
        """
        rows = await self._rows("SELECT id FROM sync_archive")
        rows += await self._rows("SELECT id FROM sync_epochs ORDER BY change")
        return [found for (found,) in rows]

    async def copy_to(self, path: Path) -> None:
        """Write a copy, as of one moment, to the new file *path*; of an archive in a file alone."""
        await self._driver.copy_to(path)

    async def contains(self, project: str, sessions: Sequence[str]) -> bool:
        """Whether any of *sessions* is kept."""
        return bool(await self._rows(sql.CONTAINS, project, self._codec.write_ids(sessions)))

    async def lacks(self, project: str, sessions: Sequence[str]) -> list[str]:
        """Those of *sessions* that are neither kept nor pending, and were not forgotten."""
        there = await self.forgotten(project, sessions) | {
            session_id
            for query in (sql.CONTAINS, sql.UNDER_WAY)
            for session_id in await self._ids(query, project, self._codec.write_ids(sessions))
        }
        return [each for each in sessions if each not in there]

    async def change_marker(self) -> ChangeMarker | None:
        """How far the archive has come; None for a database on a server."""
        return await self._driver.change_marker()

    async def digest(self) -> ArchiveDigest | None:
        """The file with all that was committed; None for a server, and where others keep reading it."""
        return await self._driver.digest()


def is_url(place: str | Path) -> bool:
    """Whether *place* is the URL of a database, not a path; a ValueError if it is neither."""
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
    """*place* without its password; a ValueError if it cannot be an archive."""
    if not is_url(place):
        return str(place)
    from navtalk_async.archive._postgres_server import without_password  # noqa: PLC0415 - only where needed

    return without_password(str(place))
