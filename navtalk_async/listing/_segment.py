"""Where a row stands in a list, and segments of the list: their bounds, how far each has been read, and the
rows that wait to be taken.
"""

import math
from collections import deque
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, Self

import msgspec

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import ApiError, NavTalkError, RateLimited
from navtalk_async.models import Request, ResumePoint, Session
from navtalk_async.paging import CycleGuard, refuses_cursor
from navtalk_async.times import parse_time

PositionedRows = list[tuple[int, Session]]

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - most APIs write their times without a zone, in UTC
SECOND = timedelta(seconds=1)
FIRST = (datetime.min - EPOCH) // SECOND  # noqa: DTZ901 - see above


def moment_at(seconds: int) -> datetime:
    """The aware UTC datetime *seconds* after 1970 began."""
    return EPOCH.replace(tzinfo=UTC) + seconds * SECOND


def seconds_of(moment: datetime) -> int:
    """The whole seconds from 1970 to *moment*, an aware datetime."""
    return (moment - EPOCH.replace(tzinfo=UTC)) // SECOND


class SortKey:
    """The order of the list of *request*: by start time, in whole seconds since 1970.

    Arguments:
        expected_end: when the last session is expected to start; rows may come later all the same.
    """

    def __init__(self, dialect: Dialect, request: Request, expected_end: datetime) -> None:
        self._dialect = dialect
        self._request = request
        self.expected_end: int = seconds_of(expected_end)

    @classmethod
    def of(
        cls, dialect: Dialect, request: Request, expected_end: datetime | date | str | None
    ) -> Self | None:
        """The key of the list, expected to end now by default; None where the API cannot list from a given
        start time on.
        """
        end = parse_time(str(expected_end)) or datetime.now(UTC)
        return cls(dialect, request, end) if dialect.starting_at(request, end) else None

    def request_from(self, position: int) -> Request:
        """The request for the first page of the rows from *position* on. Rows of the second before may come
        too: no API documents whether its bound is inclusive, and a second earlier both cases are the same.
        """
        moment = moment_at(max(position - 1, FIRST))
        return self._dialect.starting_at(self._request, moment) or self._request

    def positions(self, rows: Sequence[Session]) -> list[int] | None:
        """The position of each of *rows*; None if one of them has no start time."""
        try:
            return [(datetime.fromisoformat(row.start_time_text or "") - EPOCH) // SECOND for row in rows]
        except (TypeError, ValueError):
            moments = [row.start_time for row in rows]
        return None if None in moments else [seconds_of(moment) for moment in moments if moment]


class Chunk(NamedTuple):
    """Rows that wait to be taken."""

    rows: list[Session]
    next: Request | None
    reached: float
    verifies: "Segment | None" = None
    """The segment that saw these rows past its end."""


class Segment(msgspec.Struct, eq=False, kw_only=True):
    """The rows from position *begin* to before *end*, read page by page.

    A split moves the end down, but never below a row that came.
    """

    begin: float = -math.inf
    end: float = math.inf
    next: Request | None
    resume_at: Request | None
    """The request that continues after the rows that were taken; `next` follows those that came."""
    guard: CycleGuard
    reached: float = -math.inf
    """The position of the last row that came."""
    alike: int = 0
    """How many rows came that stand there."""
    taken: float = -math.inf
    """The position of the last row that was taken."""
    rows_left: float = 0.0
    """An estimate; 0 where it is unknown."""
    density: float = 0.0
    """Rows per position, in the last page."""
    was_short: bool = False
    """Whether the last page looked like the end of the list."""
    is_asked: bool = False
    """Whether its next page is being fetched."""
    is_restored: bool = False
    """Whether an earlier run began it; its earlier pages are unknown then."""
    chunks: deque[Chunk] = msgspec.field(default_factory=deque[Chunk])
    first_ids: frozenset[str] | None = None
    """The ids on its first page, once that has come."""
    first_until: float = math.inf
    """Rows from this position on may be on a later page."""
    border: tuple["Segment", PositionedRows] | None = None
    """The segment before this one and the rows that it saw past its end, to be found on the first page."""
    since: int | None = None
    """Where it went on when a cursor was refused; None if the list began again."""
    unverified: Request | None = None
    """The request that showed rows past the end, until the next segment is known to have them."""

    @classmethod
    def starting(cls, request: Request, *, begin: float = -math.inf, end: float = math.inf) -> Self:
        return cls(begin=begin, end=end, next=request, resume_at=request, guard=CycleGuard(request))

    @classmethod
    def restored(cls, place: ResumePoint) -> Self:
        segment = cls.starting(place.next)
        segment.begin = -math.inf if place.begin is None else place.begin
        segment.end = math.inf if place.end is None else place.end
        segment.reached = segment.taken = -math.inf if place.reached is None else place.reached
        segment.is_restored = True
        return segment

    def may_have_expired(self, error: NavTalkError) -> bool:
        """Whether *error*, of its next page, may mean that the cursor is too old."""
        if self.guard.has_moved:
            return isinstance(error, ApiError) and refuses_cursor(error)
        return self.is_restored and not isinstance(error, RateLimited)

    def restart(self, request: Request, error: NavTalkError) -> None:
        """Go on at *request* instead of the next page; see `CycleGuard.restart`."""
        if self.guard.has_moved and isinstance(error, ApiError):
            self.guard.restart(error, request, None if self.since is None else (self.reached, self.alike))
        else:
            self.guard = CycleGuard(request)
        self.next = request
        if self.chunks:
            self.chunks[-1] = self.chunks[-1]._replace(next=request)
        else:
            self.resume_at = request
        self.is_asked = self.is_restored = False
        self.reached = -math.inf

    @property
    def since_text(self) -> str | None:
        return None if self.since is None else moment_at(self.since).isoformat(" ").removesuffix("+00:00")

    @property
    def is_probe(self) -> bool:
        """Whether nothing is known of it yet."""
        return self.first_ids is None and not math.isinf(self.begin)

    @property
    def pages_ahead(self) -> int:
        return len(self.chunks) + self.is_asked

    @property
    def is_over(self) -> bool:
        """Whether all its rows were taken, and those past its end were found in the next segment."""
        return self.next is None and not self.chunks and self.unverified is None

    def missing(self, rows: PositionedRows) -> PositionedRows:
        """The *rows* that must be on its first page and are not. The first of them must be, wherever it
        stands.
        """
        return [
            (position, row)
            for number, (position, row) in enumerate(rows)
            if row.id not in (self.first_ids or ()) and (number == 0 or position < self.first_until)
        ]

    def split(self, key: SortKey) -> "Segment | None":
        """Cut off the later half of the rest; None if that is too short."""
        last = min(self.end, key.expected_end)
        middle = math.ceil((self.reached + last) / 2)
        # Asked from one step before it, a server that ignores where it should begin gives itself away.
        if not self.reached + 1 < middle < last:
            return None
        later = Segment.starting(key.request_from(middle), begin=middle, end=self.end)
        self.end = middle
        self._estimate(middle)
        return later

    def advance(self, positions: Sequence[int], *, page_size: int, expected_end: int) -> None:
        since = max(self.reached, self.begin)
        since = positions[0] if math.isinf(since) else since
        self.was_short = len(positions) < page_size
        self.density = 0.0 if self.was_short else len(positions) / max(1.0, positions[-1] - since + 1)
        before, self.reached = self.reached, min(positions[-1], self.end - 1)
        self.alike = positions.count(positions[-1]) + (self.alike if before == self.reached else 0)
        self._estimate(min(self.end, expected_end))

    def _estimate(self, last: float) -> None:
        self.rows_left = self.density * max(0.0, last - self.reached) if self.density else 0.0

    def take(self) -> list[Session]:
        """The rows of the next chunk, which belong to the caller from now on."""
        chunk = self.chunks.popleft()
        self.resume_at, self.taken = chunk.next, chunk.reached
        if chunk.verifies is not None:
            chunk.verifies.unverified = None
        return chunk.rows

    def place(self) -> ResumePoint | None:
        """Where a later run continues with the rows that were not taken; None when there are none."""
        begin, end = _finite(self.begin), _finite(self.end)
        if self.resume_at is not None:
            return ResumePoint(self.resume_at, begin, end, _finite(self.taken))
        # The rows past the end were not found in the next segment: their page must be read again.
        return None if self.unverified is None else ResumePoint(self.unverified, begin, end)


def _finite(position: float) -> int | None:
    return None if math.isinf(position) else int(position)
