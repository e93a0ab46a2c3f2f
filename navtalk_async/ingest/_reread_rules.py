"""The rules of what is read again: where a round lists from, which sessions it fetches, from which message
on, and until when it watches them. Pure functions of what the API lists and what the archive holds.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from navtalk_async.archive.records import (
    FULL_PAGE,
    UNKNOWN,
    Clock,
    FetchTask,
    Round,
    SessionChange,
    SessionDiff,
    StoredSession,
)
from navtalk_async.archive.rows import content_hash, format_api_time, format_time, is_same_state
from navtalk_async.models import Session, SessionStatus
from navtalk_async.times import parse_time, parse_utc

OVERLAP = timedelta(hours=24)
"""How far behind the latest known session the next listing begins: rows may be filled in late, and a
session changes after it was listed."""

SETTLE = timedelta(seconds=120)
"""How long messages may be under way: a session is final only when it ended so long ago, and is read once
more then."""

ONE_SECOND = timedelta(seconds=1)
"""What was read in the second in which a round began may have been read before it."""

ENDED = (SessionStatus.COMPLETED, SessionStatus.FAILED)
"""The statuses that never change again."""


def compare_sessions(
    sessions: Sequence[Session],
    stored: Mapping[str, StoredSession],
    *,
    clock: Clock,
    is_listed: bool,
    matches: Callable[[Session], bool] | None = None,
    is_poked: bool = False,
) -> SessionDiff:
    """Compare *sessions* with what is *stored* of each, by id.

    New, changed and watched sessions are fetched. A session that is being fetched already is not, unless it
    changed meanwhile; one that failed is not, until it changes. A session that was never kept is taken when
    it *matches*. Sessions that were not listed (*is_listed*) were asked for one by one; those that somebody
    says have changed (*is_poked*) are fetched whole, whatever is stored of them.
    """
    diff = SessionDiff()
    for session in {session.id: session for session in sessions}.values():
        before = stored.get(session.id, UNKNOWN)
        is_new = before.content_hash is None and not before.is_deleted
        is_left_out = matches is not None and is_new and not matches(session)
        # A session that has not ended may match the filter in a later round.
        waits = is_left_out and session.status not in ENDED
        if waits and not before.is_waiting:
            diff.left_out.append(session)
        elif before.is_waiting and not waits:
            diff.waited.append(session.id)
        if is_left_out:
            diff.unwanted.extend([session.id] if before.is_pending else [])
            continue
        new = content_hash(session)
        if is_same_state(before.content_hash, new, is_listed=is_listed):
            diff.same.append(session)
            if is_poked:
                diff.to_fetch.append(FetchTask(session.id, before.content_hash))
            elif due_for_reread(before, clock):
                diff.to_fetch.append(read_from(session, before.content_hash, before, clock))
            continue
        change = SessionChange(session, new, *_watch(session, is_new=is_new, clock=clock))
        (diff.inserted if is_new else diff.changed).append(change)
        # A session that has just ended is read as a whole at once: the next round may be far away.
        is_whole = session.is_final or before.is_deleted or is_poked
        wanted = FetchTask(session.id, new) if is_whole else read_from(session, new, before, clock)
        diff.to_fetch.append(wanted._replace(came_back=before.is_deleted and is_listed))
    return diff


def compare_poked(
    sessions: Sequence[Session],
    stored: Mapping[str, StoredSession],
    *,
    clock: Clock,
    matches: Callable[[Session], bool] | None,
    lists: Callable[[Session], bool],
) -> SessionDiff:
    """As `compare_sessions`, for sessions that somebody says have changed. One of which nothing is kept is
    taken where the list is sure to have it (*lists*).
    """

    def keeps_row(session: Session) -> bool:
        # It came from the list, and is more than the session says itself.
        return not session.detail_is_complete and bool(stored.get(session.id, UNKNOWN).content_hash)

    some = [each for each in sessions if not keeps_row(each) and (each.id in stored or lists(each))]
    diff = compare_sessions(some, stored, clock=clock, is_listed=False, matches=matches, is_poked=True)
    diff.to_fetch.extend(FetchTask(each.id, None) for each in sessions if keeps_row(each))
    return diff


def due_for_reread(before: StoredSession, clock: Clock) -> bool:
    """Whether a session that did not change is read again: it is watched, and was not read a moment ago."""
    if not before.is_watched or before.has_failed or before.is_pending:
        return False
    return before.read_at is None or not clock.fresh <= before.read_at <= clock.now


def read_from(session: Session, content_hash: str | None, before: StoredSession, clock: Clock) -> FetchTask:
    """What to fetch of a session: what was said since its last kept message, where that saves a request.

    Messages under way may be older than that message, so the reading begins earlier by the time to settle.
    The last reading of all is a whole one.
    """
    is_last = before.settles_at is not None and before.settles_at <= clock.now
    said = before.last_message_at
    if is_last or said is None or before.messages < FULL_PAGE or not session.supports_since:
        return FetchTask(session.id, content_hash)
    settle = parse_utc(clock.now) - parse_utc(clock.settled)
    return FetchTask(session.id, content_hash, format_time(parse_utc(said) - settle))


def _watch(session: Session, *, is_new: bool, clock: Clock) -> tuple[bool, str | None]:
    """Whether *session*, new or changed, is watched; and when it will have settled, if it is final.

    The end of a new session says how long it has been final. A session that changes while we know it may
    say more, whatever its end says.
    """
    if not session.is_final:
        return True, None
    ended = format_api_time(session.final_since)
    if is_new and ended is not None and ended <= clock.settled:
        return False, None
    return True, clock.settles


def fresh_since(
    open_round: Round | None, now: datetime, *, settle: timedelta, overlap: timedelta, by_time: bool
) -> datetime | None:
    """Since when a session that was read is not read again in this round; None where what an *open_round*
    read does not count as read, since the clock has gone back.
    """
    began = None if open_round is None else parse_time(open_round.began)
    if began is None or began > now:
        return None
    # Where an API shows no change, everything is watched: a run that was stopped would read it all again.
    span = settle if by_time else max(settle, overlap)
    return max(began, now - span)


def listed_since(open_round: Round, overlap: timedelta) -> str | None:
    """Where the listing of a round begins; one that was listed to its end lists what came since."""
    if open_round.listed is None or open_round.reached is None:
        return open_round.since
    begin = earlier(min(open_round.reached, open_round.began), overlap)
    return max(filter(None, (open_round.since, begin)), default=None)


def latest(reached: str | None, sessions: Sequence[Session], now: datetime) -> str | None:
    """The latest begin among *sessions* and what was *reached* before, in ISO 8601.

    A session that is dated in the future does not show how far the others have come.
    """
    begins = [format_api_time(session.start_time_text) for session in sessions]
    past = (each for each in (reached, *begins) if each is not None and each <= format_time(now))
    return max(past, default=None)


def earlier(text: str | None, by: timedelta) -> str | None:
    """The moment *by* that much before the one that *text* means; None where there is none."""
    moment = parse_time(text)
    try:
        return None if moment is None else format_time(moment - by)
    except OverflowError:
        return None
