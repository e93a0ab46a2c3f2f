"""The promise of a store, and the rows and judgements that all stores share.

Data and progress are written in the same transaction, so whatever instant a process dies at, the store
holds what was finished and knows what was not.
"""

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple, Protocol

import msgspec

from navtalk_async.models import Message, Place, Request, Session, SessionStatus, as_utc, as_word

__all__ = [
    "Counts",
    "Fetched",
    "Journalled",
    "MessageRow",
    "SessionRow",
    "Standing",
    "Store",
    "StoredTranscript",
    "Unread",
    "Wanted",
    "is_final",
    "iso",
    "journalled",
    "message_row",
    "session_row",
]


class SessionRow(NamedTuple):
    """A row of the table `sessions`; times are ISO 8601 with a `Z`, status is a word or an unknown number."""

    project: str
    id: str
    api: str
    status: str | int | None
    start_time: str | None
    end_time: str | None
    title: str | None
    video_url: str | None
    raw: str
    content_hash: str
    first_seen_at: str
    last_changed_at: str
    deleted_at: str | None = None


class MessageRow(NamedTuple):
    """A row of the table `messages`; *position* is its place in the API's order, from 0."""

    project: str
    id: str
    session_id: str
    position: int
    role: str | int | None
    type: str | int | None
    content: str | None
    created_at: str | None
    raw: str


class StoredTranscript(NamedTuple):
    """A session as it is kept, with its messages in order."""

    session: SessionRow
    messages: list[MessageRow]


class Wanted(NamedTuple):
    """A session whose messages are to be asked for, in the state that the listing gave it."""

    id: str
    content_hash: str


class Fetched(NamedTuple):
    """A session's messages, or those that were still missing of them."""

    wanted: Wanted
    messages: list[Message]
    first: int = 0
    """The position of the first of them in the session; from 1 on, they are what was missing."""
    unread: Request | None = None
    """Where there might be more, which is not believed."""


class Unread(NamedTuple):
    """Where a session's messages might go on, though it is not believed that they do."""

    wanted: Wanted
    next: Request
    first: int
    """The position that the first one there would have."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a project has come."""

    places: list[Place] = []
    """Where an interrupted listing goes on; none where the last one came to its end."""
    watermark: str | None = None
    """The latest begin of any session in listings that came to their end, as the API wrote it."""
    pending: list[Wanted] = []
    """Sessions that are journalled, and whose messages are not kept yet."""
    failed: int = 0
    refuted: bool = False
    """Whether this server is known to have messages behind short pages."""
    known: list[str] = []
    """A few sessions that are surely in this project."""


class Journalled(NamedTuple):
    """What a page of a listing amounts to."""

    inserted: list[Session]
    changed: list[Session]
    same: list[Session]
    to_fetch: list[Wanted]
    """The sessions whose messages are to be asked for."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much a project holds."""

    sessions: int
    messages: int
    pending: int
    failed: int
    unread: int
    """Sessions whose last page was short, and was taken for the last one in spite of its cursor."""
    listed: bool
    """Whether a listing has come to its end, and no later one has been broken off."""


class Store(Protocol):
    """Where sessions and messages are kept. Any task may call it; it does one thing after the other.

    Every method raises `StoreError`, with a sentence for the user, where the database does not work.
    """

    async def claim(self, project: str, *, api: str, scope: str, retry_failed: bool = False) -> Standing:
        """Say what is about to be synced, and learn how far it has come.

        *scope* is the filters as JSON; *retry_failed* makes the failed sessions pending again.

        Raises:
            StoreMismatch: the project was begun with another API or other filters.
        """
        ...

    async def journal(
        self, project: str, sessions: Sequence[Session], places: Sequence[Place], *, now: str
    ) -> Journalled:
        """Keep a page of sessions, those to fetch as pending, and where the listing goes on, all at once.

        No *places* are left at the end of a listing. *now* is when the run began, in the API's form: a
        session dated later does not move the watermark.
        """
        ...

    async def keep(self, project: str, finished: Sequence[Fetched]) -> None:
        """Keep the messages of some sessions, which are pending no more unless they have changed since."""
        ...

    async def refute(self, project: str) -> None:
        """Record that there were messages behind a short page."""
        ...

    async def unread(self, project: str) -> list[Unread]:
        """Where sessions that were kept as whole might go on after all."""
        ...

    async def fail(self, project: str, failures: Sequence[tuple[str, str, int]]) -> None:
        """Record the id, the reason and the attempts of sessions that cannot be had."""
        ...

    async def vanish(self, project: str, session_id: str) -> None:
        """Record that a session is gone; what was kept of it stays."""
        ...

    async def counts(self, project: str) -> Counts:
        """How much there is."""
        ...

    async def failures(self, project: str) -> list[tuple[str, str, int]]:
        """The id, the reason and the attempts of every failed session."""
        ...

    def transcripts(self, project: str) -> AsyncGenerator[list[StoredTranscript], None]:
        """Everything, some sessions at a time, in the order of (start_time, id), from one moment's view."""
        ...

    async def close(self) -> None:
        """Let go of the database."""
        ...


def is_final(session: Session) -> bool:
    """Whether nothing more is expected of *session*."""
    return session.status is not SessionStatus.ACTIVE and session.ended is not None


def content_hash(raw: bytes) -> str:
    """What two equal JSON objects of a session share, however they are written."""
    canonical = msgspec.json.encode(msgspec.json.decode(raw), order="sorted")
    return blake2b(canonical, digest_size=16).hexdigest()


def journalled(
    sessions: Sequence[Session], *, hashes: dict[str, str], pending: set[str], failed: set[str]
) -> Journalled:
    """Judge a page: *hashes* are those of the sessions that are kept already, by id; *pending* are being
    fetched anyway, and *failed* are left alone until they change or somebody asks for them.
    """
    found = Journalled([], [], [], [])
    for session in {session.id: session for session in sessions}.values():
        kept, new = hashes.get(session.id), content_hash(session.raw)
        news = kept != new
        (found.inserted if kept is None else found.changed if news else found.same).append(session)
        wanted = news or not (is_final(session) or session.id in failed)
        # One that changed while it was being fetched may have said more since: it is fetched again.
        if wanted and (session.id not in pending or (news and kept is not None)):
            found.to_fetch.append(Wanted(session.id, new))
    return found


def now_text() -> str:
    """This moment, as a store writes it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def iso(text: str | None) -> str | None:
    """An API's time as ISO 8601 in UTC with a `Z`; None for what is no time (its row's `raw` keeps it)."""
    if text is None:
        return None
    try:
        moment = as_utc(text)
    except ValueError:
        return None
    return moment.isoformat().replace("+00:00", "Z")


def storable(value: str | int | None) -> str | int | None:
    """*value*, as text where it is a number that no database holds."""
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def session_row(project: str, api: str, session: Session, now: str) -> SessionRow:
    """*session* as it is kept."""
    raw = session.raw
    return SessionRow(
        project,
        session.id,
        api,
        storable(as_word(session.status)),
        iso(session.started),
        iso(session.ended),
        session.title,
        session.video_url,
        raw.decode(),
        content_hash(raw),
        now,
        now,
    )


def message_row(project: str, session_id: str, position: int, message: Message) -> MessageRow:
    """*message* as it is kept."""
    kind = message.type
    return MessageRow(
        project,
        message.id,
        session_id,
        position,
        storable(as_word(message.role)),
        storable(int(kind) if isinstance(kind, int) else kind),
        message.content,
        iso(message.created),
        message.raw.decode(),
    )
