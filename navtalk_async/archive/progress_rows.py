"""What a store writes of how far a project has come, and what it makes of that when it is read."""

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

__all__ = [
    "StandingRow",
    "as_json",
    "counts",
    "kept_columns",
    "project_info",
    "read_columns",
    "read_or_none",
    "standing",
    "stored_session",
    "unfollowed_cursor",
]

T = TypeVar("T")


def kept_columns(fetched: FetchResult, diff: MessageDiff) -> tuple[object, ...]:
    """What `statements.PUT_KEPT` puts of *fetched*, whose changes are *diff*, after its key."""
    is_whole = fetched.wanted.since is None and not fetched.first
    return (
        *("kept", fetched.wanted.content_hash),
        *(fetched.at, fetched.at if is_whole else None),
        *(len(diff.held), digest(diff.held)),
        None if fetched.unread is None else as_json(fetched.unread),
        None if fetched.unread is None else diff.reached,
    )


class StandingRow(NamedTuple):
    """What `sync_projects` tells of how far a project has come."""

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
        """Refuse to go on with another API, server, or other filters.

        Raises:
            StoreMismatch: it is one.
        """
        if self.api != api:
            raise StoreMismatch(
                f"The project {project!r} in {where} is of the API {self.api}, and you asked {api}. "
                "Use another --project name."
            )
        if self.scope != scope:
            raise StoreMismatch(
                f"The project {project!r} in {where} holds {described(self.scope)}; you asked for "
                f"{described(scope)}. Use another --project name."
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
        open_round = read_or_none(self.round, Round)
        return reconcile and open_round is not None and not open_round.is_whole


WORDS: dict[str, type[OpenEnum]] = {"status": SessionStatus, "role": Role}


def described(scope: str) -> str:
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


def standing(
    row: StandingRow,
    unfinished: Sequence[tuple[str, str | None, str]],
    some: Sequence[str],
) -> SyncState:
    """How far a project has come; *some* are sessions that it certainly holds."""
    return SyncState(
        places=_places(row.places),
        round=read_or_none(row.round, Round),
        rounds=row.rounds,
        watermark=row.watermark,
        # One that failed before it was ever seen is to be looked at first.
        pending=[
            FetchTask(session_id, of, is_unlisted=of is None)
            for session_id, of, state in unfinished
            if state != "failed"
        ],
        failed=sum(state == "failed" for _, _, state in unfinished),
        refuted=row.refuted,
        known=list(dict.fromkeys(some)),
        server=row.server,
    )


def stored_session(row: Sequence[Any]) -> StoredSession:
    """What is known of a session, but for its id."""
    of, pending, failed, watched, settles_at, read_at, messages, said, deleted = row
    flags = bool(pending), bool(failed), bool(watched)
    found = (of, *flags, settles_at, read_at, messages or 0, said, bool(deleted))
    try:
        return msgspec.convert(found, StoredSession)
    except msgspec.ValidationError:
        # It is damaged: as one that was never heard of, it is fetched again.
        return UNKNOWN


def project_info(row: Sequence[Any]) -> ProjectInfo:
    """What `statements.PROJECTS` tells of a project."""
    *told, open_round, last_run = row
    rounds = read_or_none(open_round, Round), read_or_none(last_run, RunReport)
    return read_columns(dict(zip(ProjectInfo.__struct_fields__, (*told, *rounds), strict=True)), ProjectInfo)


def counts(row: Sequence[Any]) -> ProjectCounts:
    """What `statements.COUNTS` tells."""
    return read_columns(dict(zip(ProjectCounts.__struct_fields__, row, strict=True)), ProjectCounts)


def unfollowed_cursor(row: Sequence[Any]) -> UnfollowedCursor:
    """What `statements.UNREAD` tells of a session."""
    session_id, of, following, first = row
    return read_columns(
        (FetchTask(session_id, of), read_or_none(following, Request), first), UnfollowedCursor
    )


def as_json(value: object) -> str:
    """*value* as it is written."""
    return msgspec.json.encode(value).decode()


def read_or_none(text: str | None, kind: Any) -> Any:
    """*text* as *kind*, or nothing for nothing.

    Raises:
        StoreBroken: it is something else.
    """
    try:
        return None if text is None else msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, TypeError) as failure:
        raise _no_note(failure) from None


def read_columns(values: object, kind: type[T]) -> T:
    """*values* of columns as *kind*; SQLite keeps any type in any column.

    Raises:
        StoreBroken: they are of other types.
    """
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as failure:
        raise _no_note(failure) from None


def _no_note(failure: Exception) -> StoreBroken:
    return StoreBroken(f"The archive is damaged: what it noted of a project is no note: {failure}.")


def _places(text: str | None) -> list[ResumePoint]:
    """Where a listing goes on, as this version or the first one wrote it."""
    if text is None:
        return []
    if text.startswith("{"):
        return [ResumePoint(read_or_none(text, Request))]
    places: list[ResumePoint] = read_or_none(text, list[ResumePoint])
    return places
