"""What a store makes of what comes: what is new in it, what is to be fetched, and what is watched."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from navtalk_async.archive.rows import MessageRow, content_hash, digest, is_same_state, iso, message_rows
from navtalk_async.models import Message, Request, Session, SessionStatus, as_utc

__all__ = [
    "FULL_PAGE",
    "UNKNOWN",
    "Change",
    "Clock",
    "FetchResult",
    "FetchTask",
    "JournalResult",
    "Known",
    "MessageCounts",
    "Rewrite",
    "SessionDiff",
    "apart",
    "damaged_below",
    "deduplicate",
    "instant",
    "judged",
    "rewritten",
    "wanted_again",
]

FULL_PAGE = 200
"""So many messages come with one request. A session that has fewer is read again as a whole: that costs no
more than its end, and shows as well what changed, came late or vanished before it."""


class FetchTask(NamedTuple):
    """A session whose messages are to be asked for, in the state that the listing gave it."""

    id: str
    content_hash: str | None
    since: str | None = None
    """Its messages before this moment (ISO 8601) are kept, and need not be asked for again."""
    is_unlisted: bool = False
    """Whether the session itself is to be asked for first, since this round's listing did not give it."""
    came_back: bool = False
    """Whether the listing gave it although it was marked as deleted."""


class FetchResult(NamedTuple):
    """A session's messages: all of them, those since a moment (`wanted.since`), or the rest of them."""

    wanted: FetchTask
    messages: list[Message]
    first: int = 0
    """The position of the first of them in the session; from 1 on, they are what was missing."""
    unread: Request | None = None
    """Where there might be more, which is not believed."""
    at: str = ""
    """When they were asked for, in ISO 8601."""

    @property
    def is_part(self) -> bool:
        """Whether some of what is kept stays, without having been asked for."""
        return self.wanted.since is not None or self.first > 0 or self.unread is not None


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
            now=instant(now),
            settled=instant(now - settle),
            settles=instant(now + settle),
            fresh=instant(fresh),
        )


class Known(NamedTuple):
    """What a store knows of a session before it hears of it again."""

    content_hash: str | None = None
    """None for a session it never heard of, or knows to be gone."""
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


UNKNOWN = Known()

ENDED = (SessionStatus.COMPLETED, SessionStatus.FAILED)
"""A status that a session keeps for good."""


class Change(NamedTuple):
    """A session as it came, and whether it is to be watched."""

    session: Session
    content_hash: str
    is_watched: bool
    settles_at: str | None


class JournalResult(NamedTuple):
    """What some sessions amount to."""

    inserted: int
    changed: int
    same: int
    to_fetch: list[FetchTask]
    """The sessions whose messages are to be asked for."""
    was_written: bool = True
    """Whether anything of it was written down; nothing is where nothing is new, in a quiet round."""


class SessionDiff(NamedTuple):
    """What some sessions amount to, and what is to be written of it."""

    inserted: list[Change]
    changed: list[Change]
    same: list[Session]
    to_fetch: list[FetchTask]
    left_out: list[Session]
    """Open sessions that the filter on their status leaves out, and that are not known to wait yet."""
    waited: list[str]
    """Sessions that wait no longer, since they match now, or never will."""
    unwanted: list[str]
    """Sessions that a look had failed at, and that the filter leaves out."""

    @property
    def is_news(self) -> bool:
        """Whether there is anything that the store does not know yet."""
        return bool(self.inserted or self.changed or self.left_out or self.waited or self.unwanted)

    def told(self, *, was_written: bool) -> JournalResult:
        """The same in numbers."""
        counts = len(self.inserted), len(self.changed), len(self.same)
        return JournalResult(*counts, self.to_fetch, was_written)


def judged(
    sessions: Sequence[Session],
    known: Mapping[str, Known],
    clock: Clock,
    *,
    is_listed: bool,
    matches: Callable[[Session], bool] | None = None,
    waiting: Collection[str] = (),
    unfinished: Collection[str] = frozenset(),
) -> SessionDiff:
    """Judge *sessions* by what is *known* of each, by id.

    To be fetched is what is new or has changed, and what is watched; not what is being fetched anyway, unless
    it changed meanwhile and may have said more since; nor what has failed, until it changes. A session that
    was never kept is taken when it *matches*. Those *waiting* did not match yet; a look at those *unfinished*
    had failed. Sessions that are not out of the list (*is_listed*) were asked for one by one.
    """
    found = SessionDiff([], [], [], [], [], [], [])
    for session in {session.id: session for session in sessions}.values():
        before = known.get(session.id, UNKNOWN)
        is_new = before.content_hash is None and not before.is_deleted
        is_left_out = matches is not None and is_new and not matches(session)
        # What the status is of one that has not ended for good, is for the next round to say.
        waits = is_left_out and session.status not in ENDED
        if waits and session.id not in waiting:
            found.left_out.append(session)
        elif session.id in waiting and not waits:
            found.waited.append(session.id)
        if is_left_out:
            found.unwanted.extend([session.id] if session.id in unfinished else [])
            continue
        new = content_hash(session)
        if is_same_state(before.content_hash, new, is_listed=is_listed):
            found.same.append(session)
            if before.is_watched and not before.has_failed and not before.is_pending:
                found.to_fetch.extend(again(session, before, clock))
            continue
        change = Change(session, new, *watch(session, is_new=is_new, clock=clock))
        (found.inserted if is_new else found.changed).append(change)
        # One that has come to its end is read as a whole at once: nobody knows when the next round is.
        is_whole = session.is_final or before.is_deleted
        wanted = FetchTask(session.id, new) if is_whole else wanted_again(session, new, before, clock)
        found.to_fetch.append(wanted._replace(came_back=before.is_deleted and is_listed))
    return found


def again(session: Session, before: Known, clock: Clock) -> list[FetchTask]:
    """The watched session, unless it was read a moment ago."""
    if before.read_at is not None and clock.fresh <= before.read_at <= clock.now:
        return []
    return [wanted_again(session, before.content_hash, before, clock)]


def watch(session: Session, *, is_new: bool, clock: Clock) -> tuple[bool, str | None]:
    """Whether *session*, new or changed, is to be watched; and when it will have settled, if it is final.

    Of one that is seen for the first time, its end tells how long it has been final. One that changes
    before our eyes may say more, whatever its end says.
    """
    if not session.is_final:
        return True, None
    ended = iso(session.final_since)
    if is_new and ended is not None and ended <= clock.settled:
        return False, None
    return True, clock.settles


def wanted_again(session: Session, of: str | None, before: Known, clock: Clock) -> FetchTask:
    """What to ask of a session: what it said since the last message that is kept, where that saves a request.

    Messages under way may have been said before that one, so we go back by as much as it takes to settle.
    The last reading of all is a whole one.
    """
    is_last = before.settles_at is not None and before.settles_at <= clock.now
    said = before.last_message_at
    if is_last or said is None or before.messages < FULL_PAGE or not session.is_read_on:
        return FetchTask(session.id, of)
    settle = as_utc(clock.now) - as_utc(clock.settled)
    return FetchTask(session.id, of, instant(as_utc(said) - settle))


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


class Rewrite(NamedTuple):
    """What is to be written of a session's messages."""

    put: list[MessageRow]
    """New or changed ones."""
    gone: list[MessageRow]
    """Those that the API no longer gives."""
    held: list[MessageRow]
    """Every message that the session has then, in order."""
    reached: int
    """The position behind the last message that came."""
    counts: MessageCounts

    @classmethod
    def of_gone(cls, rows: list[MessageRow]) -> "Rewrite":
        """Nothing is left of *rows*."""
        return cls([], rows, [], 0, MessageCounts(vanished=len(rows)))


def apart(finished: Iterable[FetchResult]) -> list[list[FetchResult]]:
    """*finished* as lists in which no session is twice, to be kept one after the other: a reading is judged
    by what the one before it left.
    """
    lists: list[list[FetchResult]] = []
    times: Counter[str] = Counter()
    for each in finished:
        if times[each.wanted.id] == len(lists):
            lists.append([])
        lists[times[each.wanted.id]].append(each)
        times[each.wanted.id] += 1
    return lists


def rewritten(project: str, fetched: FetchResult, kept: Sequence[MessageRow]) -> Rewrite:
    """What *fetched* changes in a session of which *kept* is kept, in order."""
    said = _those_since(fetched.wanted.since, deduplicate(fetched.messages))
    ids = {message.id for message in said} if kept else set()
    stays = [row for row in _unasked(fetched, kept) if row.id not in ids]
    came = message_rows(project, fetched.wanted.id, len(stays), said)
    reached = len(stays) + len(came)
    # What was kept of behind a page that is taken for the last one was not asked for.
    behind = [row for row in kept[reached:] if row.id not in ids] if fetched.unread is not None else []
    held = [*stays, *came, *behind]
    if len(stays) == len(kept):
        return Rewrite(came, [], held, reached, MessageCounts(inserted=len(came)))
    return _changes(kept, held, {row.id for row in came}, reached)


def deduplicate(messages: Sequence[Message]) -> list[Message]:
    """*messages*, each once and with an id of its own.

    What came twice is one message. What is another and yet has the same id, where the API does not promise
    that ids are its own, gets the number of its turn behind it, as in `id#2`.
    """
    once = {message.id: message for message in messages}
    if len(once) == len(messages) or messages[0].has_own_id:
        return list(once.values())
    apart: list[Message] = []
    turns: dict[str, list[bytes]] = {}
    for message in messages:
        others = turns.setdefault(message.id, [])
        if message.raw not in others:
            others.append(message.raw)
            number = f"#{len(others)}" if len(others) > 1 else ""
            apart.append(msgspec.structs.replace(message, id=message.id + number))
    return apart


def damaged_below(
    readings: Iterable[FetchResult], held: Mapping[str, list[MessageRow]], noted: Mapping[str, str | None]
) -> set[str]:
    """The sessions of which only a part was read, and whose kept messages are not those whose digest was
    *noted*: to add to them would vouch for damage.
    """
    parts = (each.wanted.id for each in readings if each.is_part)
    return {
        name for name in parts if noted.get(name) is not None and digest(held.get(name, [])) != noted[name]
    }


def _changes(
    kept: Sequence[MessageRow],
    held: Sequence[MessageRow],
    came: Collection[str],
    reached: int,
) -> Rewrite:
    """What is to be written where *held* takes the place of *kept*, some of which just *came*."""
    old = {row.id: row for row in kept}
    placed = [row._replace(position=place) for place, row in enumerate(held)]
    put = [row for row in placed if old.get(row.id) != row]
    new = sum(row.id not in old for row in placed)
    changed = sum(row.id in came for row in put) - new
    left = {row.id for row in held}
    gone = [row for row in kept if row.id not in left]
    counts = MessageCounts(new, changed, len(came) - new - changed, len(gone))
    return Rewrite(put, gone, placed, reached, counts)


def _unasked(fetched: FetchResult, kept: Sequence[MessageRow]) -> Iterable[MessageRow]:
    """The messages of *kept*, before those that came, that were not asked for: nothing is told by their
    absence.
    """
    if fetched.first:
        return kept[: fetched.first]
    since = fetched.wanted.since
    if since is None:
        return ()
    # One without a time may or may not be among those since a moment.
    return (row for row in kept if row.created_at is None or not _is_since(since, row.created_at))


def _those_since(moment: str | None, messages: Iterable[Message]) -> list[Message]:
    """*messages* without those before *moment*, which a server may give all the same."""
    if moment is None:
        return list(messages)
    return [each for each in messages if (said := iso(each.created)) is None or _is_since(moment, said)]


def _is_since(moment: str, said: str) -> bool:
    # Without its Z, a moment comes before its own fractions too.
    return said >= moment.removesuffix("Z")


def instant(moment: datetime) -> str:
    """*moment*, aware and UTC, as a store writes it: ISO 8601, to the second, with a `Z`."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
