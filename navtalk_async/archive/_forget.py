"""Sessions that are erased for good: what was kept of them is deleted, and a hash of each id stays, by which
a sync knows not to fetch it again.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._database import (
    Query,
    Steps,
    Transactions,
    Write,
    as_json,
    insert,
    transaction,
    update,
)
from navtalk_async.archive._tokens import parse_token
from navtalk_async.archive.records import RunReport
from navtalk_async.archive.rows import format_time
from navtalk_async.errors import StoreMismatch
from navtalk_async.paging.compact_set import CompactSet
from navtalk_async.times import parse_time

ERASED = "[forgotten]"
"""What stands for the id of a forgotten session in what is noted of a run."""


class Forgotten(msgspec.Struct, kw_only=True):
    """What `forget` erased, or would erase."""

    sessions: list[str] = []
    """The ids of the sessions that the archive held."""
    messages: int = 0
    """How many messages they had; earlier versions of messages are not counted."""
    left: list[str] = []
    """Sentences about what may still hold texts of theirs, and what to do about it."""


def digest_of(archive: str, project: str, session_id: str) -> str:
    """What stays of the id of a forgotten session: a SHA-256, salted with the id of the *archive*."""
    return sha256(f"{archive}:{project}:{session_id}".encode(errors="surrogatepass")).hexdigest()


class Tombstones(NamedTuple):
    """What is known of the forgotten sessions of a project."""

    project: str
    salt: str
    digests: Collection[str]
    change: int
    """The `changes` of the project by the latest time that something of it was erased."""

    def have(self, session_id: str) -> bool:
        """Whether that session was forgotten."""
        return digest_of(self.salt, self.project, session_id) in self.digests


class ForgetOperations(Transactions):
    """The methods of an archive that erase sessions, and that tell which were."""

    async def forget(
        self,
        project: str | None = None,
        *,
        sessions: str | Collection[str] = (),
        user: str | None = None,
        before: datetime | date | str | None = None,
        dry_run: bool = False,
    ) -> Forgotten:
        """Erase sessions with everything that is kept of them, and never fetch them again.

        Readers of the change feed are told. What another process is reading, or what PostgreSQL keeps, may
        be left; it is named, and the same call again erases it. A call that was interrupted is completed by
        the next one.

        Arguments:
            project: only this project; None, the default, takes all.
            sessions: these sessions, by id, also such as are not kept.
            user: the sessions of this user, by the column `user_id`.
            before: the sessions that began before: an aware datetime, a date, or ISO 8601 (UTC).
            dry_run: change nothing.

        Raises:
            StoreMismatch: there is no such project.
            ValueError: not one of *sessions*, *user* and *before* is given, or one cannot be right.
            StoreError: the archive does not work, or the disk is full; what is deleted stays deleted.
        """
        ids = [sessions] if isinstance(sessions, str) else [*sessions]
        if [bool(ids), user is not None, before is not None].count(True) != 1:
            raise ValueError("Give one of sessions=, user= and before=.")
        if not all(isinstance(each, str) and each for each in (*ids, "-" if user is None else user)):
            raise ValueError("An id of a session or user is a text, and not empty.")
        bound = None if before is None else _moment(before)
        names, found = [name for name, *_ in await self._rows(sql.PROJECTS)], Forgotten()
        if project is not None and project not in names:
            raise StoreMismatch(f"The archive has no project {project!r}.")
        for name in names if project is None else [project]:
            find = self._find(name, ids, user, bound)
            held, messages = await (self._driver.read(find) if dry_run else self._forget(name, find, ids))
            found.sessions += held
            found.messages += messages
        if not dry_run:
            found.left = [*(await self._driver.remove_index()), *(await self._erase())]
        return found

    def _find(
        self, project: str, ids: Sequence[str], user: str | None, before: str | None
    ) -> Steps[tuple[list[str], int]]:
        """The sessions to forget that *project* holds, and how many messages they have."""
        if ids:
            rows = yield Query(sql.CONTAINS, (project, self._codec.write_ids(ids)))
        elif user is not None:
            rows = yield Query(sql.HELD_OF_USER, (project, self._codec.write_text(user)))
        else:
            rows = yield Query(sql.HELD_BEFORE, (project, before, project, before))
        held = list(dict.fromkeys(each for (each,) in rows))
        counts = yield Query(sql.COUNT_MESSAGES, (project, held))
        return [self._codec.read_id(each) for each in held], sum(count for (count,) in counts)

    @transaction
    def _forget(
        self, project: str, find: Steps[tuple[list[str], int]], ids: Sequence[str] = ()
    ) -> Steps[tuple[list[str], int]]:
        held, messages = yield from find
        wanted = list(dict.fromkeys((*held, *ids)))
        if not wanted:
            return [], 0
        [(archive, _)], [(change,)] = (yield Query(sql.LATEST)), (yield Query(sql.NEXT_CHANGE))
        kept, now = set(held), format_time(datetime.now(UTC))
        rows = [
            (project, digest_of(archive or "", project, each), now, change if each in kept else 0)
            for each in wanted
        ]
        yield insert("sync_forgotten", "project, digest, forgotten_at, change", rows, sql.FORGOTTEN_AGAIN)
        for statement in sql.ERASE:
            yield Write(statement, (project, self._codec.write_ids(wanted)))
        yield from self._erase_names(project, wanted)
        self._digests.pop(project, None)
        return held, messages

    def _erase_names(self, project: str, ids: Sequence[str]) -> Steps[None]:
        """Erase the *ids* where what is noted of a run or a consumer names them."""
        [(places, last_run)] = yield Query(sql.NOTES, (project,))
        names = {form for each in ids for form in (each, as_json(each)[1:-1], quote(each, safe=""))}
        if any(name in f"{places} {last_run}" for name in names):
            # A listing that was interrupted begins once more.
            yield update("sync_projects", project, places=None, last_run=_without(last_run, names))
        held = set(self._codec.write_ids(ids))
        for consumer, _, text, acked_at in (yield Query(sql.CONSUMERS)):
            token = parse_token("token", text)
            if token.project == project and token.session_id in held:
                yield update("sync_consumers", consumer, token=token.unnamed().text(), acked_at=acked_at)

    async def _erase(self) -> list[str]:
        """Leave nothing of what was deleted in free pages; what is left all the same."""
        projects = [each for (each,) in await self._rows(sql.NOT_ERASED)]
        left = await self._driver.erase() if projects else []
        for project in () if left else projects:
            await self._mark_erased(project)
        return left

    @transaction
    def _mark_erased(self, project: str) -> Steps[None]:
        yield update("sync_forgotten", project, erased=True)

    async def forgotten(self, project: str, sessions: Iterable[str]) -> set[str]:
        """Those of *sessions* that were forgotten, and are not to be asked for."""
        # In one step: another thread may forget more meanwhile.
        if (known := self._digests.get(project)) is not None:
            return _among(*known, project, sessions)
        return await self._driver.read(self._forgotten_among(project, sessions))

    def _forgotten_among(self, project: str, sessions: Iterable[str]) -> Steps[set[str]]:
        if project not in self._digests:
            # Read once: nobody else writes meanwhile.
            [(archive, _)] = yield Query(sql.LATEST)
            digests, after = CompactSet(), ""
            while rows := (yield Query(sql.TOMBSTONES, (project, after))):
                for (after,) in rows:
                    digests.add(after)
            self._digests[project] = archive or "", digests
        return _among(*self._digests[project], project, sessions)

    async def tombstones(self) -> list[Tombstones]:
        """The forgotten sessions of each project that has any."""
        rows = await self._rows(sql.ALL_TOMBSTONES)
        found: dict[str, list[Sequence[Any]]] = {}
        for project, *more in rows:
            found.setdefault(project, []).append(more)
        return [
            Tombstones(project, some[0][0] or "", {each[1] for each in some}, max(each[2] for each in some))
            for project, some in found.items()
        ]

    async def remains(self, project: str) -> list[str]:
        """What is left of forgotten sessions in the tables of *project*, as sentences; empty where nothing
        is.
        """
        found = await self._driver.snapshot(self._remains(project))
        indexed = [self._codec.read_id(each) for each in await self._driver.indexed_ids(project)]
        count = len(await self.forgotten(project, indexed))
        return [*found, f"{count:,} forgotten sessions are in the index for searches."] if count else found

    def _remains(self, project: str) -> Steps[list[str]]:
        found: list[str] = []
        self._digests.pop(project, None)
        for table, query in sql.IDS_IN.items():
            rows: list[Any] = yield Query(query, (project,))
            ids = {self._codec.read_id(each) for (each,) in rows}
            count = len((yield from self._forgotten_among(project, ids)))
            found += [f"{count:,} forgotten sessions are in the table {table}."] if count else []
        if project in {each for (each,) in (yield Query(sql.NOT_ERASED))}:
            found.append("Texts of forgotten sessions may be left in free pages: run the same forget again.")
        return found


def _among(salt: str, digests: CompactSet, project: str, sessions: Iterable[str]) -> set[str]:
    return {each for each in sessions if digest_of(salt, project, each) in digests} if digests else set()


def _without(last_run: str | None, names: Iterable[str]) -> str | None:
    """What is noted of a run, without *names* in its sentences."""
    try:
        report = msgspec.json.decode(last_run or "null", type=RunReport | None)
    except msgspec.DecodeError:
        return None
    for name in sorted(names, key=len, reverse=True):
        for field in ("error", "moved", "fallback"):
            if report is not None and getattr(report, field):
                setattr(report, field, getattr(report, field).replace(name, ERASED))
    return None if report is None else as_json(report)


def _moment(before: object) -> str:
    """*before* as `RTRIM(start_time, 'Z')` is."""
    if isinstance(before, str):
        before = parse_time(before)
    elif isinstance(before, date) and not isinstance(before, datetime):
        before = datetime(before.year, before.month, before.day, tzinfo=UTC)
    if not isinstance(before, datetime) or before.tzinfo is None:
        raise ValueError("before= is no aware datetime, no date, and no text of one (ISO 8601).")
    return before.astimezone(UTC).isoformat().removesuffix("+00:00")
