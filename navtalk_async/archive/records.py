"""What an archive says of a project, its rounds and runs, and what is left to do."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from navtalk_async.archive.rows import format_time
from navtalk_async.models import Message, Request, ResumePoint, Session

__all__ = [
    "FULL_PAGE",
    "UNKNOWN",
    "ArchiveDigest",
    "ChangeMarker",
    "Clock",
    "FailedSession",
    "FetchResult",
    "FetchTask",
    "Flaw",
    "MessageCounts",
    "ProjectCounts",
    "ProjectInfo",
    "Round",
    "RunReport",
    "SessionChange",
    "SessionDiff",
    "StoredSession",
    "SyncState",
    "UnfollowedCursor",
]

FULL_PAGE = 200
"""So many messages come with one request. A session that has fewer is read again as a whole: that costs no
more than its end, and also shows messages that changed, came late or vanished before it."""


class FetchTask(NamedTuple):
    """A session whose messages are to be fetched, in the state that the list showed."""

    id: str
    content_hash: str | None
    since: str | None = None
    """Its messages before this moment (ISO 8601) are kept, and not fetched again."""
    is_unlisted: bool = False
    """Whether to fetch the session itself first, since this round has not listed it."""
    came_back: bool = False
    """Whether it is listed although it was marked as deleted."""


class FetchResult(NamedTuple):
    """A session's messages: all of them, those since a moment (`wanted.since`), or the rest of them."""

    wanted: FetchTask
    messages: list[Message]
    first: int = 0
    """The position of the first of them in the session; from 1 on, they are what was missing."""
    unfollowed: Request | None = None
    """Where there might be more, which is not believed."""
    at: str = ""
    """When they were requested, in ISO 8601."""

    has_gaps: bool = False
    """Whether rows among them could not be read: what is kept and did not come may be one of them."""

    @property
    def is_part(self) -> bool:
        """Whether some of what is kept stays, without having come again."""
        return self.has_gaps or self.wanted.since is not None or self.first > 0 or self.unfollowed is not None


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The times that decide what is to be read again; ISO 8601, by the server's clock."""

    now: str
    settled: str
    """What ended before this has settled: messages that were under way have arrived."""
    settles: str
    """When what changes now will have settled."""
    fresh: str
    """What was read between then and now is not read again in this round."""

    @classmethod
    def at(cls, now: datetime, settle: timedelta, fresh: datetime) -> "Clock":
        """The times of *now*, with so long a delay to *settle*."""
        return cls(
            now=format_time(now),
            settled=format_time(now - settle),
            settles=format_time(now + settle),
            fresh=format_time(fresh),
        )


class StoredSession(NamedTuple):
    """What the archive holds of a session before the API lists it again."""

    content_hash: str | None = None
    """None for a session that is not kept, or is marked as deleted."""
    is_pending: bool = False
    has_failed: bool = False
    is_watched: bool = False
    settles_at: str | None = None
    """When one that is watched, and final, will have settled; None while it is not final."""
    read_at: str | None = None
    """When its messages were last asked for; None if never."""
    messages: int = 0
    last_message_at: str | None = None
    is_deleted: bool = False
    is_waiting: bool = False
    """Whether it is not kept, and waits to match the filter on its status."""


UNKNOWN = StoredSession()


class SessionChange(NamedTuple):
    """A new or changed session, and whether to watch it."""

    session: Session
    content_hash: str
    is_watched: bool
    settles_at: str | None


class SessionDiff(msgspec.Struct):
    """What is new of some sessions, compared with what is stored of them."""

    inserted: list[SessionChange] = []
    changed: list[SessionChange] = []
    same: list[Session] = []
    to_fetch: list[FetchTask] = []
    left_out: list[Session] = []
    """Open sessions that the filter on their status leaves out, and that are not known to wait yet."""
    waited: list[str] = []
    """Sessions that wait no longer, since they match now, or never will."""
    unwanted: list[str] = []
    """Sessions that a look had failed at, and that the filter leaves out."""
    forgotten: int = 0
    """How many more there were, which are never fetched again."""
    was_written: bool = False
    """Whether the archive has it; in a quiet round, what has no news is not written."""

    @property
    def is_news(self) -> bool:
        """Whether the archive does not hold all of it yet."""
        return bool(self.inserted or self.changed or self.left_out or self.waited or self.unwanted)


class MessageCounts(NamedTuple):
    """How many messages some readings brought, by what was new of them."""

    inserted: int = 0
    changed: int = 0
    same: int = 0
    vanished: int = 0

    @classmethod
    def all(cls, counts: Iterable["MessageCounts"]) -> "MessageCounts":
        """*counts* added up."""
        return cls(*map(sum, zip(cls(), *counts, strict=True)))


class Round(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One time through the listing and the watched sessions; a run that was stopped leaves it open.

    Moments are ISO 8601, by the server's clock, but for those that say otherwise.
    """

    began: str
    since: str | None = None
    """Where its listing begins; None at the first session of all."""
    is_whole: bool = False
    """Whether everything that is kept is compared with the listing, as `reconcile` asks."""
    reached: str | None = None
    """The latest begin of any session that it listed."""
    listed: str | None = None
    """When its listing came to the end; None before."""


class UnfollowedCursor(NamedTuple):
    """Where a session's messages might go on, though its short last page was taken for the end."""

    wanted: FetchTask
    next: Request
    first: int
    """The position that the first one there would have."""


class FailedSession(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session whose messages could not be fetched, or that is damaged in the archive."""

    id: str
    reason: str
    attempts: int
    damaged: bool = False
    """Whether it is damaged in the archive, and therefore left out of exported files."""


class Flaw(NamedTuple):
    """Something wrong with the tables, not with what stands in a row."""

    session_id: str | None
    """None where it is the whole database."""
    what: str
    """A sentence."""


class ProjectCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How much a project holds."""

    sessions: int
    """Those that are gone included."""
    messages: int
    deleted: int
    """Sessions that the API no longer has."""
    pending: int
    failed: int
    watched: int
    """Sessions that are read again in every round, until they are final and have settled."""
    unfollowed: int
    """Sessions whose last page was short, and was taken for the last one in spite of its cursor."""
    listed: bool
    """Whether the latest round is complete."""


class RunReport(msgspec.Struct, kw_only=True):
    """What a run did: `sync` returns it, the archive remembers the last one with news, `--json` prints it.

    Sessions and messages are counted by what was new of them.
    """

    began_at: str | None = None
    """By this machine's clock, in ISO 8601, as `ended_at`."""
    ended_at: str | None = None
    process: str | None = None
    """The process that runs or ran, and its machine."""
    error: str | None = None
    """What ended the run; None where it came to its end."""
    resumed: bool = False
    """Whether the run went on with what an earlier one had left."""
    listed: int = 0
    """Sessions that the API listed."""
    inserted: int = 0
    changed: int = 0
    same: int = 0
    vanished: int = 0
    messages_inserted: int = 0
    messages_changed: int = 0
    messages_same: int = 0
    messages_vanished: int = 0
    forgotten: int = 0
    """Sessions that were listed or asked for, and are not fetched: see `Archive.forget`."""
    done: int = 0
    """Sessions whose messages were fetched and kept."""
    open: int = 0
    """Sessions that are to be fetched and not kept yet."""
    failed: int = 0
    """Sessions in the archive whose messages could not be fetched, in this run or an earlier one."""
    messages: int = 0
    """Messages fetched."""
    short_pages_followed: int = 0
    """Short pages with a cursor that were followed."""
    short_pages_skipped: int = 0
    """Short pages with a cursor that were taken for the last ones."""
    short_pages_disproved: bool = False
    """Whether there was a message behind a short page; then all cursors were followed after all."""
    fallback: str | None = None
    """Why sessions were listed page by page, where the server made that necessary."""
    skipped_rows: int = 0
    """Rows of sessions and messages that could not be read (null, or without an id), and are not kept."""
    moved: str | None = None
    """The first list that moved while it was read, or whose total was wrong, and how."""
    requests: int = 0
    """Requests that the client sent meanwhile, repeated ones included."""
    retries: int = 0
    seconds: float = 0.0

    def count_messages(self, counts: MessageCounts) -> None:
        """Add *counts* of messages that were kept."""
        self.messages_inserted += counts.inserted
        self.messages_changed += counts.changed
        self.messages_same += counts.same
        self.messages_vanished += counts.vanished


class ChangeMarker(NamedTuple):
    """How far an archive has come. Two numbers that grow together: damage hits one of them, a sync both."""

    changes: int
    """How many transactions changed anything, in all projects; it only grows."""
    state: str
    """The hash of what progress the archive has noted, without *changes*."""


class ArchiveDigest(msgspec.Struct, frozen=True, kw_only=True):
    """A SQLite archive's file at a moment at which everything stood in it, and nothing beside it."""

    name: str
    bytes: int
    sha256: str
    changes: int
    """See `ChangeMarker.changes`; with more of them, the file has rightly become another."""
    state: str


class ProjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One project, without its counts."""

    project: str
    api: str
    server: str | None
    """The address of the API; None where an older version synced it."""
    scope: str
    """The filters, as JSON."""
    watermark: str | None
    """The latest start of any session in complete rounds, in ISO 8601."""
    rounds: int
    """How many complete rounds are recorded; one that found nothing new is not."""
    changes: int
    """How many transactions changed anything of the project; it only grows."""
    round: Round | None
    """The round that is not complete yet."""
    last_run: RunReport | None
    """The last run but for those that found nothing new, which are not recorded."""


class SyncState(ProjectInfo, frozen=True, kw_only=True):
    """How far a project has come, and what is left to do."""

    places: list[ResumePoint]
    """Where an interrupted listing goes on."""
    pending: list[FetchTask]
    """Sessions that are recorded, and whose messages are not saved yet."""
    failed: int
    short_pages_disproved: bool
    """Whether this server is known to have messages behind short pages."""
