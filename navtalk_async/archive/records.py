"""What a store tells: of a project, its rounds and runs, and what is left to do."""

from typing import NamedTuple

import msgspec

from navtalk_async.archive.judging import FetchTask
from navtalk_async.models import Place, Request

__all__ = ["About", "Counts", "Failed", "Flaw", "Round", "Run", "SyncState", "Unread"]


class Round(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One time through the listing and the watched sessions; a run that was stopped leaves it open.

    Moments are ISO 8601, by the server's clock, but for those that say otherwise.
    """

    began: str
    since: str | None = None
    """Where its listing begins; None at the first session of all."""
    is_whole: bool = False
    """Whether everything that is kept is compared with the listing, asked for by `reconcile`."""
    reached: str | None = None
    """The latest begin of any session that it listed."""
    listed: str | None = None
    """When its listing came to the end; None before."""


class SyncState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a project has come."""

    places: list[Place] = []
    """Where an interrupted listing goes on."""
    round: Round | None = None
    """The round that an earlier run left open."""
    rounds: int = 0
    """How many came to their end."""
    watermark: str | None = None
    """The latest begin of any session in rounds that came to their end, in ISO 8601."""
    pending: list[FetchTask] = []
    """Sessions that are journalled, and whose messages are not kept yet."""
    failed: int = 0
    refuted: bool = False
    """Whether this server is known to have messages behind short pages."""
    known: list[str] = []
    """A few sessions that are certainly in this project."""
    server: str | None = None
    """The address that it was synced from; None where that is not known."""


class Unread(NamedTuple):
    """Where a session's messages might go on, though it is not believed that they do."""

    wanted: FetchTask
    next: Request
    first: int
    """The position that the first one there would have."""


class Failed(NamedTuple):
    """A session whose messages could not be had."""

    id: str
    reason: str
    attempts: int


class Flaw(NamedTuple):
    """Something wrong with the tables, not with what stands in a row."""

    session_id: str | None
    """None where it is the whole database."""
    what: str
    """A sentence."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
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
    unread: int
    """Sessions whose last page was short, and was taken for the last one in spite of its cursor."""
    listed: bool
    """Whether a round has come to its end, and no later one has been broken off."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run; the sessions it found, and their messages, by what was new of them."""

    began_at: str
    """By this machine's clock, in ISO 8601, as `ended_at`."""
    ended_at: str
    error: str | None = None
    """What ended it; None where it came to its end."""
    inserted: int = 0
    changed: int = 0
    same: int = 0
    vanished: int = 0
    messages_inserted: int = 0
    messages_changed: int = 0
    messages_same: int = 0
    messages_vanished: int = 0


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows of one project, beside its counts."""

    project: str
    api: str
    server: str | None
    """The address of the API; None where an older version synced it."""
    scope: str
    """The filters, as JSON."""
    watermark: str | None
    rounds: int
    """How many came to their end."""
    changes: int
    """How many transactions changed anything of the project; it only grows."""
    round: Round | None
    last_run: Run | None
