"""How far a project has come: written as a run begins and ends, and read as values."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from navtalk_async.archive import _statements as sql
from navtalk_async.archive._database import (
    Query,
    Steps,
    Transactions,
    Write,
    as_json,
    delete,
    transaction,
    update,
)
from navtalk_async.archive.records import (
    UNKNOWN,
    FetchTask,
    ProjectInfo,
    Round,
    RunReport,
    StoredSession,
    SyncState,
    UnfollowedCursor,
)
from navtalk_async.archive.rows import Records, damage, digest, format_api_time, old_digest, row_digest
from navtalk_async.errors import StoreBroken, StoreMismatch
from navtalk_async.lenient_json import is_list
from navtalk_async.models import OpenEnum, Request, ResumePoint, Role, SessionStatus

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


WORDS: dict[str, type[OpenEnum]] = {"status": SessionStatus, "role": Role}


FILTER_NAMES = {"start": "start_time", "end": "end_time", "user": "user_id"}


def filters_in_words(scope: str) -> dict[str, Any]:
    """The filters of *scope*, statuses and roles as words."""
    filters = _read_json(scope, dict[str, Any])
    return {name: WORDS[name](value).word if name in WORDS else value for name, value in filters.items()}


def _filters_in(scope: str) -> str:
    """The filters of *scope*, as the arguments that ask for them."""
    try:
        filters = filters_in_words(scope)
    except StoreBroken:
        return scope
    filters |= filters.pop("options", {}) | filters.pop("others", {})
    arguments: list[str] = []
    for name, value in filters.items():
        values: list[Any] = value if is_list(value) else [value]
        arguments += [f"{FILTER_NAMES.get(name, name)}={each!r}" for each in values]
    return " ".join(arguments) or "everything"


class RunOperations(Transactions):
    """The methods of an archive with which a run begins and ends."""

    @transaction
    def begin(
        self,
        project: str,
        *,
        api: str,
        scope: str,
        server: str | None = None,
        server_moved: bool = False,
        retry_failed: bool = False,
        reconcile: bool = False,
        dialect: Records | None = None,
    ) -> Steps[SyncState]:
        """Say what is about to be synced, and learn how far it has come.

        *scope* is the filters as JSON; *server* is the API's address, which must be the one that the project
        remembers, unless *server_moved*; *retry_failed* makes the failed sessions pending again; to
        *reconcile*, an open round that does not compare everything is given up. *dialect* reads
        the API's objects, to fill and check what an earlier version wrote.

        Raises:
            StoreMismatch: the project was begun with another API, server or other filters.
        """
        self._driver.refuse_another_file()
        begun = (api, server, scope)
        yield Write(sql.UNBIND, (*begun, project, *begun, project))
        yield Write(sql.BEGIN, (project, api, scope))
        [(*columns, places_text, disproved)] = yield Query(sql.STATE, (project,))
        found = project_info(columns)
        _refuse_others(found, self, api=api, scope=scope, server=server, server_moved=server_moved)
        self._begun[project] = found
        while dialect is not None and (yield from self._adopt(project, dialect)):
            pass
        if retry_failed:
            yield Write(sql.RETRY, (project,))
        places: list[ResumePoint] = _read_json(places_text, list[ResumePoint]) or []
        open_round = found.round
        if reconcile and open_round is not None and not open_round.is_whole:
            yield delete("sync_seen", project)
            yield update("sync_projects", project, round=None, places=None)
            open_round, places = None, []
        read_id = self._codec.read_id
        unfinished = yield Query(sql.UNFINISHED, (project,))
        kept: dict[str, Any] = msgspec.structs.asdict(found) | {"round": open_round}
        return SyncState(
            **kept,
            places=places,
            # One that failed before it was ever seen is to be looked at first.
            pending=[
                FetchTask(read_id(session_id), content_hash, is_unlisted=content_hash is None)
                for session_id, content_hash, state in unfinished
                if state != "failed"
            ],
            failed=sum(state == "failed" for _, _, state in unfinished),
            short_pages_disproved=bool(disproved),
        )

    def _adopt(self, project: str, dialect: Records) -> Steps[bool]:
        """Fill columns and digests that an earlier version did not have, of some sessions; whether there were
        any.
        """
        found = yield Query(sql.OF_EARLIER_VERSIONS, (project,))
        if not found:
            return False
        [(change,)] = yield Query(sql.NEXT_CHANGE)
        for *columns, noted, row_noted in found:
            held_id = columns[sql.ID_OF_SESSION]
            messages = yield Query(sql.MESSAGES, (project, [held_id]))
            noted_both = (None, None) if row_noted is None else (noted, row_noted)
            [kept] = self._codec.transcripts([(*columns, *noted_both, False)], messages)
            row, of = kept.session, digest(kept.messages)
            if noted not in (None, of, old_digest(kept.messages)) or damage(kept, dialect):
                # Nothing has the empty digest: what is damaged stays so until it is fetched again.
                of = ""
            else:
                session = dialect.session_of(row.raw.encode())
                row = row._replace(
                    updated_at=format_api_time(session.updated_at_text), user_id=session.user_id
                )
            [held] = self._codec.write_rows([row])
            filled = {"updated_at": held.updated_at, "user_id": held.user_id, "change": change}
            yield update("sessions", project, held_id, **filled)
            yield update("sync_sessions", project, held_id, digest=of, row_digest=row_digest(row))
            if row != kept.session:
                yield Write(sql.HAND_ON, (change, project, held_id))
        return True

    @transaction
    def finish(self, project: str, round: Round, report: RunReport) -> Steps[None]:  # noqa: A002
        """Record that *round* is complete; where nothing is new since `begin`, nothing is written."""
        self._driver.refuse_another_file()
        [(*columns, _, _)] = yield Query(sql.STATE, (project,))
        found = project_info(columns)
        # A session dated in the future does not take the next round beyond this one.
        reached = None if round.reached is None else min(round.reached, round.began)
        watermark = max(filter(None, (found.watermark, reached)), default=None)
        if _is_well(found) and found == self._begun.get(project) and watermark == found.watermark:
            return
        yield delete("sync_seen", project)
        ended = {"round": None, "places": None, "rounds": found.rounds + 1, "watermark": watermark}
        yield update("sync_projects", project, **ended, last_run=as_json(report))

    @transaction
    def record_run(self, project: str, report: RunReport) -> Steps[None]:
        """Record that a run began, or was ended by an error."""
        yield update("sync_projects", project, last_run=as_json(report))

    @transaction
    def remember_server(self, project: str, server: str) -> Steps[None]:
        """Record where *project* is synced from."""
        yield update("sync_projects", project, server=server)

    @transaction
    def distrust_short_pages(self, project: str) -> Steps[None]:
        """Record that there were messages behind a short page."""
        yield update("sync_projects", project, refuted=True)

    async def unfollowed_cursors(self, project: str) -> list[UnfollowedCursor]:
        """Where sessions that are kept as whole, neither pending nor failed, might go on after all."""
        rows = await self._rows(sql.UNFOLLOWED, project)
        read_id = self._codec.read_id
        return [unfollowed_cursor((read_id(session_id), *more)) for session_id, *more in rows]


def _is_well(project: ProjectInfo) -> bool:
    """Whether the last recorded run completed a round, and none began since."""
    last = project.last_run
    is_over = last is not None and last.ended_at is not None and last.error is None
    return is_over and project.rounds > 0 and project.round is None


def stored_session(row: Sequence[Any]) -> StoredSession:
    try:
        return msgspec.convert(row, StoredSession, strict=False)
    except msgspec.ValidationError:
        # It is damaged: it is fetched again, as a session that is new.
        return UNKNOWN


def project_info(row: Sequence[Any]) -> ProjectInfo:
    *plain, open_round, last_run = row
    rounds = _read_json(open_round, Round), _read_json(last_run, RunReport)
    return read_row((*plain, *rounds), ProjectInfo)


def unfollowed_cursor(row: Sequence[Any]) -> UnfollowedCursor:
    session_id, content_hash, cursor, first = row
    wanted = FetchTask(session_id, content_hash)
    return read_columns((wanted, _read_json(cursor, Request), first), UnfollowedCursor)


def read_row(row: Sequence[Any], kind: type[S]) -> S:
    """*row* as *kind*, whose fields are its columns in their order."""
    return read_columns(dict(zip(kind.__struct_fields__, row, strict=True)), kind)


def read_columns(values: object, kind: type[T]) -> T:
    """*values* of columns as *kind*; SQLite keeps any type in any column."""
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as failure:
        raise _damaged(failure) from None


def _read_json(text: str | None, kind: Any) -> Any:
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, TypeError) as failure:
        raise _damaged(failure) from None


def _damaged(failure: Exception) -> StoreBroken:
    return StoreBroken(f"The archive is damaged: the progress of a project cannot be read: {failure}.")


def _refuse_others(
    found: ProjectInfo, where: object, *, api: str, scope: str, server: str | None, server_moved: bool
) -> None:
    """Refuse to go on with another API, server, or other filters."""
    project, another = f"The project {found.project!r} in {where}", "Use another project=."
    if found.api != api:
        raise StoreMismatch(f"{project} is of the API {found.api}, and you asked {api}. {another}")
    if found.scope != scope:
        held, asked = _filters_in(found.scope), _filters_in(scope)
        raise StoreMismatch(f"{project} holds {held}; you asked for {asked}. {another}")
    if server != found.server and None not in (server, found.server) and not server_moved:
        if "sandbox" not in (found.server, server):
            another = (
                "If the same server has moved, confirm it with server_moved=True; else use another project=."
            )
        raise StoreMismatch(f"{project} was synced from {found.server}, and not from {server}. {another}")
