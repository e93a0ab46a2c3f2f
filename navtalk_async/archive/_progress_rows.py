"""How far a project has come: the columns that an archive writes, and what they mean when they are read."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from navtalk_async.archive.message_diff import MessageDiff
from navtalk_async.archive.records import (
    UNKNOWN,
    FetchResult,
    FetchTask,
    ProjectCounts,
    ProjectInfo,
    Round,
    RunReport,
    StoredSession,
    SyncState,
    UnfollowedCursor,
)
from navtalk_async.archive.rows import digest
from navtalk_async.errors import StoreBroken, StoreMismatch
from navtalk_async.models import OpenEnum, Request, ResumePoint, Role, SessionStatus

T = TypeVar("T")


def kept_columns(fetched: FetchResult, diff: MessageDiff) -> tuple[object, ...]:
    """The columns of `PUT_KEPT` after its key."""
    is_whole = fetched.wanted.since is None and not fetched.first
    return (
        *("kept", fetched.wanted.content_hash),
        *(fetched.at, fetched.at if is_whole else None),
        *(len(diff.held), digest(diff.held)),
        None if fetched.unread is None else as_json(fetched.unread),
        None if fetched.unread is None else diff.reached,
    )


class ProjectRow(NamedTuple):
    """The columns of `sync_projects` that `STATE` reads."""

    api: str
    server: str | None
    scope: str
    places: str | None
    round: str | None
    rounds: int
    watermark: str | None
    refuted: bool

    def refuse_others(
        self, where: object, project: str, *, api: str, scope: str, server: str | None, server_moved: bool
    ) -> None:
        """Refuse to go on with another API, server, or other filters."""
        if self.api != api:
            raise StoreMismatch(
                f"The project {project!r} in {where} is of the API {self.api}, and you asked {api}. "
                "Use another --project name."
            )
        if self.scope != scope:
            raise StoreMismatch(
                f"The project {project!r} in {where} holds {_options_of(self.scope)}; you asked for "
                f"{_options_of(scope)}. Use another --project name."
            )
        if server != self.server and None not in (server, self.server) and not server_moved:
            what = f"The project {project!r} in {where} was synced from {self.server}, and not from {server}."
            if "sandbox" in (self.server, server):
                raise StoreMismatch(f"{what} Use another --project.")
            raise StoreMismatch(
                f"{what} If the same server has moved, confirm it with --server-moved; "
                "else use another --project."
            )

    def is_given_up(self, *, reconcile: bool) -> bool:
        """Whether its open round ends, since one is wanted that compares everything."""
        open_round = _read_json(self.round, Round)
        return reconcile and open_round is not None and not open_round.is_whole

    def state(self, unfinished: Sequence[tuple[str, str | None, str]], some: Sequence[str]) -> SyncState:
        """How far the project has come; *some* are sessions that it certainly holds."""
        return SyncState(
            places=_places(self.places),
            round=_read_json(self.round, Round),
            rounds=self.rounds,
            watermark=self.watermark,
            # One that failed before it was ever seen is to be looked at first.
            pending=[
                FetchTask(session_id, content_hash, is_unlisted=content_hash is None)
                for session_id, content_hash, state in unfinished
                if state != "failed"
            ],
            failed=sum(state == "failed" for _, _, state in unfinished),
            short_pages_disproved=self.refuted,
            known_sessions=list(dict.fromkeys(some)),
            server=self.server,
        )


WORDS: dict[str, type[OpenEnum]] = {"status": SessionStatus, "role": Role}


def _options_of(scope: str) -> str:
    """The filters of *scope*, as the options of the command that ask for them."""
    try:
        filters = msgspec.json.decode(scope, type=dict[str, Any])
    except msgspec.DecodeError:
        return scope
    given = filters | filters.pop("options", {}) | filters.pop("others", {})
    options = []
    for name, value in given.items():
        option = "session" if name == "sessions" else name.replace("_", "-")
        values = [WORDS[name](value).word] if name in WORDS else value if isinstance(value, list) else [value]
        options += [f"--{option} {each}" for each in values]
    return " ".join(options) or "everything"


def stored_session(row: Sequence[Any]) -> StoredSession:
    content_hash, pending, failed, watched, settles_at, read_at, messages, last_at, deleted = row
    flags = bool(pending), bool(failed), bool(watched)
    found = (content_hash, *flags, settles_at, read_at, messages or 0, last_at, bool(deleted))
    try:
        return msgspec.convert(found, StoredSession)
    except msgspec.ValidationError:
        # It is damaged: it is fetched again, as a session that is new.
        return UNKNOWN


def project_info(row: Sequence[Any]) -> ProjectInfo:
    *plain, open_round, last_run = row
    rounds = _read_json(open_round, Round), _read_json(last_run, RunReport)
    return read_columns(dict(zip(ProjectInfo.__struct_fields__, (*plain, *rounds), strict=True)), ProjectInfo)


def project_counts(row: Sequence[Any]) -> ProjectCounts:
    return read_columns(dict(zip(ProjectCounts.__struct_fields__, row, strict=True)), ProjectCounts)


def unfollowed_cursor(row: Sequence[Any]) -> UnfollowedCursor:
    session_id, content_hash, cursor, first = row
    wanted = FetchTask(session_id, content_hash)
    return read_columns((wanted, _read_json(cursor, Request), first), UnfollowedCursor)


def as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


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


def _places(text: str | None) -> list[ResumePoint]:
    """Where a listing goes on, as this version or the first one wrote it."""
    if text is None:
        return []
    if text.startswith("{"):
        return [ResumePoint(_read_json(text, Request))]
    places: list[ResumePoint] = _read_json(text, list[ResumePoint])
    return places
