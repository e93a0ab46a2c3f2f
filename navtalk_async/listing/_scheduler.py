"""Which page of a list to fetch next, and what a page that came means: decisions only, no await.

A walk by cursor is serial, so a long list is walked from many places at once. It is split by *lower bounds
only*: each segment begins with a bound of its own and ends where the next one begins. An upper bound is never
sent, because a server may not apply it to the field that orders the list. Every walk reads a row past its end
before it stops, and the next segment must have found that row too. If it has not, the server does not do what
it is asked, and the list is walked serially.

Splits cost requests: a page at a border is read from both sides, and a segment may turn out to be empty. A
list is split where most rows are expected, and only while few requests were wasted.
"""

import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

from navtalk_async.errors import NavTalkError
from navtalk_async.listing._segment import Chunk, PositionedRows, Segment, SortKey
from navtalk_async.models import Page, Request, ResumePoint, Session
from navtalk_async.paging import REMEMBERED, Recent

SPECULATION_BUDGET = 16
"""How many requests may be wasted before anything is known of the list, with up to `FEW_WALKERS` walkers;
with more walkers, in proportion."""

SHARE_WASTED = 0.18
"""How many more may be wasted per full page that came, with up to `FEW_WALKERS` walkers; with more, in
proportion."""

MAX_SHARE_WASTED = 0.5
"""The most that this share grows to."""

FEW_WALKERS = 32

PAGES_AHEAD_IN_ORDER = 16
"""How many pages per walker may wait for their turn in listed order: most of them for the slowest walker."""


class Task(NamedTuple):
    """A page to fetch."""

    request: Request
    segment: Segment
    missing: PositionedRows = []  # noqa: RUF012 - a default that nobody changes
    """Rows that the page must show; if there are any, the page is fetched only to find them."""


class SplitScheduler:
    """The walk of one list by any number of walkers.

    A free walker calls `next_task`, fetches its page and passes it to `add`. The reader calls `next_rows`.
    The arguments are those of `ParallelListing`.
    """

    def __init__(
        self,
        request: Request,
        *,
        sort_key: SortKey | None,
        walkers: int,
        in_order: bool,
        page_size: int,
        speculation_budget: int = SPECULATION_BUDGET,
        places: Iterable[ResumePoint] = (),
    ) -> None:
        self.fallback_reason: str | None = None
        """Why the server made a serial walk necessary, if it did."""
        self.is_parallel = False
        self.walkers = walkers
        self._request = request
        self._sort_key = sort_key
        self._in_order = in_order
        self._parallel_pages_ahead = walkers * PAGES_AHEAD_IN_ORDER if in_order else walkers
        self._serial_pages_ahead = max(1, walkers // FEW_WALKERS)
        scale = max(1.0, walkers / FEW_WALKERS)
        self._speculation_budget = speculation_budget * scale
        self._share_wasted = min(MAX_SHARE_WASTED, SHARE_WASTED * scale)
        self._requests = self._rows = self._longest_page = 0
        self._page_size = page_size
        self._segments = [Segment.restored(place) for place in places] or [Segment.starting(request)]
        self._rechecks: deque[Task] = deque()
        self._taken_ids = array("q")
        """Hashes of the ids of all rows taken, eight bytes each: left out if the list is walked again."""
        self._taken_up_to = -math.inf
        self._skip: frozenset[int] = frozenset()
        self._order_kept_by: SortKey | None = None
        # In order of time, a row that comes twice comes again soon, though all other walkers may deliver a
        # page in between; in any other order, anywhere.
        self._recent = Recent(max(REMEMBERED, 2 * walkers * page_size) if sort_key is not None else None)

    # What to fetch.

    def next_task(self) -> Task | None:
        if self._rechecks:
            return self._rechecks.popleft()
        idle = (segment for segment in self._eligible() if not segment.is_asked)
        segment = next(idle, None) or self._split()
        if segment is None or segment.next is None:
            return None
        segment.is_asked = True
        return Task(segment.next, segment)

    def _eligible(self) -> Iterator[Segment]:
        """The segments that may read ahead. In listed order, pages that wait behind a segment do not count
        against it, or the first segments would starve.
        """
        ahead, limit = 0, self.max_pages_ahead
        is_full = sum(segment.pages_ahead for segment in self._segments) >= limit
        for segment in self._segments if self._in_order or not is_full else ():
            ahead += segment.pages_ahead if is_full else 0
            if ahead >= limit:
                return
            if segment.next is not None:
                yield segment

    @property
    def max_pages_ahead(self) -> int:
        """How many pages may be on their way or wait to be taken."""
        return self._parallel_pages_ahead if self.is_parallel else self._serial_pages_ahead

    def _split(self) -> Segment | None:
        """A new segment: the later half of the one with most rows left, if that is worth a page."""
        key = self._sort_key
        if key is None or not self.is_parallel or not self._can_afford_a_probe():
            return None
        best = max(self._eligible(), key=attrgetter("rows_left"), default=None)
        if best is None or best.rows_left < self._page_size:
            return None
        later = best.split(key)
        if later is not None:
            self._segments.insert(self._segments.index(best) + 1, later)
        return later

    def _can_afford_a_probe(self) -> bool:
        pages = self._rows / self._page_size
        probes = sum(segment.is_asked and segment.is_probe for segment in self._segments)
        wasted = self._requests + probes - pages
        return wasted < self._speculation_budget + self._share_wasted * pages

    # What came.

    def add(self, task: Task, page: Page[Session]) -> None:
        segment = task.segment
        self._requests += 1
        self._longest_page = max(self._longest_page, len(page.items))
        if segment not in self._segments:
            return
        key = self._sort_key
        if task.missing:
            if key is not None:
                self._recheck(task, page, key)
            return
        segment.is_asked = False
        positions = None if key is None else self._positions(key, segment, page)
        if key is not None and positions is not None:
            self._receive(task, page, key, positions)
        elif segment in self._segments:
            self._append(segment, *segment.guard.take(page))

    def can_retry(self, task: Task, error: NavTalkError) -> bool:
        """Whether *task*, which failed by *error*, is replaced by another one: its cursor may have expired,
        and the time of the last row that came says where to continue. Raises the *error* if that has not
        helped before.
        """
        segment = task.segment
        if task.missing or segment not in self._segments or not segment.may_have_expired(error):
            return False
        key, known = self._sort_key, max(segment.reached, segment.begin)
        segment.since = None if key is None or math.isinf(known) else int(known)
        begin = self._request if key is None or segment.since is None else key.request_from(segment.since)
        segment.restart(begin, error)
        return True

    def _positions(self, key: SortKey, segment: Segment, page: Page[Session]) -> list[int] | None:
        """The positions of the rows of *page*; None where they show that a serial walk is necessary."""
        positions = key.positions(page.items)
        if positions is None:
            self._fall_back("a row has no time", is_ordered=False)
        elif positions != sorted(positions) or (positions and positions[0] < segment.reached):
            self._fall_back("its rows do not come in the order of their times", is_ordered=False)
        elif positions and positions[0] < segment.begin - 1:
            self._fall_back("the server does not begin where it is asked to")
        else:
            return positions
        return None

    def _receive(self, task: Task, page: Page[Session], key: SortKey, positions: list[int]) -> None:
        segment = task.segment
        low, high = bisect_left(positions, segment.begin), bisect_left(positions, segment.end)
        beyond = list(zip(positions[high:], page.items[high:], strict=True))
        following = None if beyond else segment.guard.after(page)
        if positions:
            if segment.was_short:
                # More rows follow a page that looked like the last: the server's pages are shorter.
                self._page_size = max(1, self._longest_page)
            segment.advance(positions, page_size=self._page_size, expected_end=key.expected_end)
        self._append(segment, page.items[low:high], following)
        if segment.first_ids is None and (low < len(positions) or following is None):
            segment.first_ids = frozenset(row.id for row in page.items[low:])
            segment.first_until = math.inf if page.next is None else positions[-1]
            if segment.border is not None:
                self._verify(*segment.border, segment, key)
        if beyond:
            segment.unverified = task.request
            self._verify(segment, beyond, self._after(segment), key)

    def _append(self, segment: Segment, rows: list[Session], following: Request | None) -> None:
        if self._order_kept_by is not None:
            # A row that turned up before one that was taken is too late to be delivered in order.
            positions = self._order_kept_by.positions(rows)
            if positions is not None:
                rows = rows[bisect_left(positions, self._taken_up_to) :]
        segment.next = following
        self._rows += len(rows)
        if not rows and following is not None and segment.first_ids is None and not segment.chunks:
            # The segment has no rows yet, so nothing waits.
            segment.resume_at, segment.taken = following, segment.reached
            return
        segment.chunks.append(Chunk(rows, following, segment.reached))

    def _after(self, segment: Segment) -> Segment | None:
        following = self._segments[self._segments.index(segment) + 1 :][:1]
        return following[0] if following and following[0].begin == segment.end else None

    def _verify(self, segment: Segment, beyond: PositionedRows, later: Segment | None, key: SortKey) -> None:
        """Check that *later*, which begins where *segment* ends, has the rows that *segment* saw *beyond*."""
        if later is not None and not later.is_restored:
            if later.first_ids is None:
                later.border = (segment, beyond)
                return
            later.border = None
            beyond = later.missing(beyond)
        if beyond:
            self._rechecks.append(Task(key.request_from(int(segment.end)), segment, beyond))
        else:
            segment.unverified = None

    def _recheck(self, task: Task, page: Page[Session], key: SortKey) -> None:
        """Look again for the missing rows: if they are there now, they came late; if not, the server errs."""
        segment, positions = task.segment, key.positions(page.items) or []
        present = {row.id for row in page.items}
        owner = self._after(segment) or segment
        # A late row past the end of its owner is found by the segment after that.
        owner_end = math.inf if owner is segment else owner.end
        late = [row for position, row in task.missing if row.id in present and position < owner_end]
        missing = [each for each in task.missing if each[1].id not in present]
        until = math.inf if page.next is None or not positions else positions[-1]
        begins_early = bool(positions) and positions[0] < segment.end - 1
        if begins_early or any(position < until for position, _ in missing):
            self._fall_back("the server does not give all that follows where it is asked to begin")
            return
        if missing and page.next is not None:
            # More rows share these seconds than fit in one page.
            self._rechecks.append(Task(page.next, segment, missing))
        elif self._in_order or not late:
            segment.unverified = None
        if late:
            self._insert(late, owner, key, verifies=None if missing or self._in_order else segment)

    def _insert(self, late: list[Session], owner: Segment, key: SortKey, *, verifies: Segment | None) -> None:
        self._rows += len(late)
        chunk = Chunk(late, owner.resume_at, owner.taken, verifies)
        if self._in_order and owner.chunks:
            first = owner.chunks.popleft()
            rows = [*late, *first.rows]
            placed = zip(key.positions(rows) or [], rows, strict=True)
            chunk = first._replace(rows=[row for _, row in sorted(placed, key=lambda each: each[0])])
        owner.chunks.appendleft(chunk)

    def _fall_back(self, reason: str, *, is_ordered: bool = True) -> None:
        """Walk the list serially from now on: the walk from its begin continues where it is, unless it has
        ended; else the whole list is walked again without the rows that were taken. *is_ordered* is whether
        the rows still come in the order of the sort key.
        """
        # A list that nobody wants to split may be in any order.
        self.fallback_reason = reason if self.is_parallel else None
        self._order_kept_by = self._sort_key if self._in_order and is_ordered else None
        self._sort_key = None
        # A cursor that expires now makes the list begin again.
        self._recent = Recent(None)
        self._skip = frozenset(self._taken_ids)
        self._rechecks.clear()
        first = self._segments[0]
        if math.isinf(first.begin) and first.next is not None:
            first.end = math.inf
            self._segments = [first]
        else:
            self._segments = [Segment.starting(self._request)]

    # What the reader takes.

    def next_rows(self) -> list[Session] | None:
        """The rows of the next page, which may have none; None while no page is ready."""
        in_turn = (each for each in self._segments if (not each.is_over if self._in_order else each.chunks))
        segment = next(in_turn, None)
        if segment is None or not segment.chunks:
            return None
        rows = segment.take()
        self._taken_up_to = max(self._taken_up_to, segment.taken)
        if segment.is_over:
            self._forget()
        if self._sort_key is not None:
            self._taken_ids.extend([hash(row.id) for row in rows])
        elif self._skip:
            rows = [row for row in rows if hash(row.id) not in self._skip]
        return self._recent.new(rows)

    def _forget(self) -> None:
        """Drop the segments that are over, except those whose first page may still be compared."""
        segments = self._segments
        self._segments = [
            segment
            for number, segment in enumerate(segments)
            if not segment.is_over or (number and not segments[number - 1].is_over)
        ] or segments[-1:]

    @property
    def is_over(self) -> bool:
        return all(segment.is_over for segment in self._segments)

    def places(self) -> list[ResumePoint]:
        return [place for segment in self._segments if (place := segment.place()) is not None]
