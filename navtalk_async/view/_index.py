"""An index of the texts of an archive, which is kept beside it, follows its change feed, and is never
believed: what it finds is compared with the archive, and what it cannot be sure of is built anew.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple, Self
from unicodedata import unidata_version

from navtalk_async.archive import Archive
from navtalk_async.archive.changes import Change
from navtalk_async.archive.damaged_rows import intact
from navtalk_async.archive.rows import MessageRow, SessionRow, TextRow
from navtalk_async.concurrency import off_the_loop
from navtalk_async.errors import StoreBroken, StoreError, StoreMismatch
from navtalk_async.formats.words import Query
from navtalk_async.times import parse_time

VERSION = f"1 {unidata_version}"
"""Of the tables, and of what folds the words in them."""

REBUILDS = 10

UNKNOWN = 0
"""When a session began that has no time."""


class Outdated(Exception):
    """The index is of no use, and has to be built anew."""


class MovedOn(Exception):
    """The index is not at the token that it was at."""


class IndexedSession(NamedTuple):
    """What an index has of a session."""

    about: str
    last: int
    """The position of its last message."""


class Update(NamedTuple):
    """Messages to index; those of a session as a *whole* take the place of what the index has of it."""

    session: SessionRow
    messages: Sequence[MessageRow | TextRow]
    is_whole: bool


class SearchCriteria(NamedTuple):
    """What is searched for."""

    query: Query
    project: str | None = None
    role: str | None = None
    user_id: str | None = None
    since: int | None = None
    until: int | None = None

    @property
    def marks(self) -> list[str]:
        """Those of all messages that are wanted."""
        wanted = {"project": self.project, "role": self.role, "user": self.user_id}
        return [mark(name, value) for name, value in wanted.items() if value is not None]

    def includes(self, session: SessionRow, message: MessageRow) -> bool:
        """Whether a message is of the session, role and time that are wanted."""
        return (
            self.project in (None, session.project)
            and self.role in (None, str(message.role))
            and self.user_id in (None, session.user_id)
            and (self.since is None or began(session) >= self.since)
            and (self.until is None or UNKNOWN < began(session) <= self.until)
        )


class Place(NamedTuple):
    """Where a message is that may be one of those wanted."""

    project: str
    session_id: str
    position: int
    cursor: Any
    """To go on behind it."""


class Index(ABC):
    """The index of one archive. Its methods raise `Outdated` where it is found to be broken."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @abstractmethod
    async def token(self) -> str | None:
        """The place in the change feed up to which it has everything; None where it has to be built."""

    @abstractmethod
    async def build(self, stale: str | None, token: str, batches: AsyncGenerator[list[Update], None]) -> None:
        """Index *batches* from nothing, which are all there is at *token* at least; but where another
        process has done so meanwhile, and the index has another token than the *stale* one, nothing.
        """

    @abstractmethod
    async def known(self, session: SessionRow) -> IndexedSession | None: ...

    @abstractmethod
    async def update(self, after: str, token: str, updates: Sequence[Update]) -> bool:
        """Make of the index *after* that token the one at *token*; False where it has another one."""

    @abstractmethod
    async def find(self, wanted: SearchCriteria, token: str, after: Any, limit: int) -> list[Place]:
        """Some places, those of the sessions that began last first, behind the cursor *after*; a `MovedOn`
        where the index is not at *token*.
        """


async def catch_up(archive: Archive, index: Index, *, is_broken: bool = False) -> str:
    """Bring *index* to where *archive* is now, and return that token; one that *is_broken* is built anew."""
    for _ in range(REBUILDS):
        token = await index.token()
        try:
            if token is not None and not is_broken:
                return await _follow(archive, index, token)
        except (Outdated, StoreBroken, StoreMismatch, ValueError):
            # The feed refuses damaged rows, and what is read to build the index leaves them out.
            pass
        # Nothing is said of why: a database may quote texts.
        with suppress(Outdated):
            now = await archive.latest_token()
            async with aclosing(_everything(archive)) as batches:
                await index.build(token, now, batches)
                is_broken = False
    raise StoreError(f"The index of {archive} cannot be built, because others change it at the same time.")


async def _everything(archive: Archive) -> AsyncGenerator[list[Update], None]:
    for about in await archive.projects():
        async with aclosing(archive.text_batches(about.project)) as batches:
            async for batch in batches:
                yield await off_the_loop(sum(len(texts) for _, texts in batch), _updates_of, batch)


def _updates_of(batch: Sequence[tuple[SessionRow, list[TextRow]]]) -> list[Update]:
    return [Update(session, intact(texts), is_whole=True) for session, texts in batch if intact([session])]


async def _follow(archive: Archive, index: Index, token: str) -> str:
    if token == await archive.latest_token():
        return token
    async with archive.changes(token) as batches:
        async for batch in batches:
            if any(each.what == "forgotten" for each in batch.changes):
                # Words of it would stay in a part of the index that was written before.
                raise Outdated
            found = [await _update(archive, index, each) for each in batch.changes]
            if not await index.update(token, batch.token, [each for each in found if each is not None]):
                raise Outdated
            token = batch.token
    return token


async def _update(archive: Archive, index: Index, change: Change) -> Update | None:
    session = change.session
    if change.what == "new":
        return Update(session, change.new, is_whole=True)
    known = await index.known(session)
    if (
        known is not None
        and known.about == about(session)
        and not (change.changed or change.gone)
        and all(each.position > known.last for each in change.new)
    ):
        return Update(session, change.new, is_whole=False) if change.new else None
    whole = await archive.transcript(session.id, session.project)
    if whole is None or not intact([whole.session]):
        return None
    return Update(whole.session, intact(whole.messages), is_whole=True)


def began(session: SessionRow) -> int:
    """When a session began, in microseconds since 1970."""
    return _microseconds_of(session.start_time)


@lru_cache(64)
def _microseconds_of(start_time: str | None) -> int:
    moment = parse_time(start_time)
    return UNKNOWN if moment is None else max(1, microseconds(moment.timestamp()))


def microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def about(session: SessionRow) -> str:
    """What the index has of a session, beside its messages."""
    return f"{began(session)} {mark('user', session.user_id)}"


def marks_of(session: SessionRow, role: object) -> list[str]:
    """Words that no text has, by which messages of this *role* in *session* are found."""
    facts = {"project": session.project, "role": role, "user": session.user_id}
    return [mark(name, value) for name, value in facts.items() if value is not None]


@lru_cache(4096)
def mark(name: str, value: object) -> str:
    # What is for private use is in no word.
    return "\ue000" + blake2b(f"{name} {value}".encode(), digest_size=5).hexdigest()
