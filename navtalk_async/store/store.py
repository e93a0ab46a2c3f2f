"""The promise of a store.

Data and progress are written in the same transaction, so whatever instant a process dies at, the store
holds what was finished and knows what was not.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from navtalk_async.models import Place, Request, Session
from navtalk_async.store.judging import Clock, Fetched, Journalled, MessageCounts, Wanted
from navtalk_async.store.rows import StoredTranscript

__all__ = ["About", "Counts", "Failed", "Flaw", "Reader", "Round", "Run", "Standing", "Store", "Unread"]


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


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a project has come."""

    places: list[Place] = []
    """Where an interrupted listing goes on."""
    round: Round | None = None
    """The round that an earlier run left open."""
    rounds: int = 0
    """How many came to their end."""
    watermark: str | None = None
    """The latest begin of any session in rounds that came to their end, in ISO 8601."""
    pending: list[Wanted] = []
    """Sessions that are journalled, and whose messages are not kept yet."""
    failed: int = 0
    refuted: bool = False
    """Whether this server is known to have messages behind short pages."""
    known: list[str] = []
    """A few sessions that are surely in this project."""
    waiting: list[str] = []
    """Open sessions that the filter on their status leaves out so far."""


class Unread(NamedTuple):
    """Where a session's messages might go on, though it is not believed that they do."""

    wanted: Wanted
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


class Reader(Protocol):
    """What can be read of a store, at any time, also while another process writes to it.

    Every method raises `StoreError`, with a sentence for the user, where the database does not work.
    """

    async def projects(self) -> list[About]:
        """What there is, by the projects' names."""
        ...

    async def counts(self, project: str) -> Counts:
        """How much there is of *project*."""
        ...

    async def failures(self, project: str) -> list[Failed]:
        """Every failed session."""
        ...

    def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """Everything, some sessions at a time, in the order of (start_time, id), from one moment's view."""
        ...

    async def flaws(self, project: str, *, is_thorough: bool = True) -> list[Flaw]:
        """What is wrong with the tables: messages without a session, sessions that were kept and are not
        there; and, where *is_thorough*, damage that the database finds in itself, which reads all of it.
        """
        ...

    async def lacks(self, project: str, sessions: Sequence[str]) -> list[str]:
        """Those of *sessions* that are neither kept nor known to be fetched yet."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...


class Store(Reader, Protocol):
    """Where sessions and messages are kept. Any task may call it; it does one thing after the other."""

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
    ) -> Standing:
        """Say what is about to be synced, and learn how far it has come.

        *scope* is the filters as JSON; *server* is the API's address, which the project remembers, and takes
        for a new one where *server_moved*; *retry_failed* makes the failed sessions pending again; to
        *reconcile*, an open round that does not compare everything is given up.

        Raises:
            StoreMismatch: the project was begun with another API, server or other filters.
        """
        ...

    async def journal(
        self,
        project: str,
        sessions: Sequence[Session],
        *,
        clock: Clock,
        round: Round,  # noqa: A002 - a round is what it is
        places: Sequence[Place] | None = None,
        seen: Sequence[str] = (),
        quiet: bool = False,
        matches: Callable[[Session], bool] | None = None,
    ) -> Journalled:
        """Keep some sessions, those to fetch as pending, and how far the round has come, all at once.

        *places* are where the listing goes on, none of them at its end; where they are not given, the
        sessions are not out of the listing. *seen* are the ids of sessions that the round has listed and that
        are to be written down as such. With *quiet*, nothing is written where nothing is new. Where *matches*
        is given, a session is kept from the first time on that it matches; an open one that does not yet is
        remembered as waiting.
        """
        ...

    async def keep(self, project: str, finished: Sequence[Fetched]) -> MessageCounts:
        """Keep the messages of some sessions, which are pending no more unless they have changed since.

        Rows are touched where their content changed; messages that are gone go to `sync_gone`.
        """
        ...

    async def missing(self, project: str, *, since: str | None) -> list[str]:
        """Sessions that are kept, began later than *since*, and were not seen in this round."""
        ...

    async def watched(self, project: str, *, fresh: str, since: str | None = None) -> list[str]:
        """Sessions that are watched, and were read before *fresh*, and those that wait to match the filter on
        their status. Those that began before *since* are watched no longer.
        """
        ...

    async def holds(self, project: str, sessions: Sequence[str]) -> bool:
        """Whether any of *sessions* is kept."""
        ...

    async def distrust(self, project: str, sessions: Sequence[str]) -> None:
        """Make some sessions pending, so that the next sync fetches them whole and writes all rows again,
        whether they are kept or not. Indexes are rebuilt first.
        """
        ...

    async def refute(self, project: str) -> None:
        """Record that there were messages behind a short page."""
        ...

    async def unread(self, project: str) -> list[Unread]:
        """Where sessions that are kept as whole, neither pending nor failed, might go on after all."""
        ...

    async def fail(self, project: str, failures: Sequence[Failed]) -> None:
        """Record sessions that cannot be had; attempts add up."""
        ...

    async def vanish(self, project: str, session_id: str) -> bool:
        """Record that a session is gone; what was kept of it stays. False if there never was such a one."""
        ...

    async def finish(self, project: str, round: Round, run: Run) -> None:  # noqa: A002
        """Record that *round* has come to its end."""
        ...

    async def note(self, project: str, run: Run) -> None:
        """Record that a run was ended by an error."""
        ...
