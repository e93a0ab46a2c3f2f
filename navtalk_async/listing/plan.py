"""Which page of a list to ask for next, and what to make of it when it comes: judgement only.

A cursor walk is serial, so a long list is walked from many places at once. It is cut by *lower bounds only*:
each stretch begins with a bound of its own and ends where the next one begins. No upper bound is ever asked
for, since what a server bounds by it may not be what the list is ordered by. Every walk sees a row beyond its
border before it stops, and what it sees there the next stretch must have found as well. Where it has not, the
server does not do what it is asked, and the list is walked in the plain way.

Cuts cost requests: a page at a border is read from both sides, and a stretch may turn out to be empty. A list
is cut where most of it is thought to be left, and only while what came to nothing is little beside what came.
"""

import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar

from navtalk_async.listing.stretch import Axis, Head, Part, Seen, Stretch
from navtalk_async.models import Page, Place, Record, Request
from navtalk_async.paging import REMEMBERED, Recent

__all__ = ["FIRST_WASTE", "Ask", "Plan"]

T = TypeVar("T", bound=Record)

WORTH_A_CUT = 1
"""How many pages a stretch must be thought to hold for its later half to be walked by somebody else."""

FIRST_WASTE = 16
"""How many requests may come to nothing before anything is known of the list, with up to `FEW` walkers; with
more, in proportion."""

WASTE = 0.18
"""How many more may, for each page that was full, with up to `FEW` walkers; with more, in proportion."""

MOST_WASTE = 0.5
"""And never more than this."""

FEW = 32
"""So many walkers are not many."""

LEFT = attrgetter("left")

LISTED_AHEAD = 16
"""How many pages may wait for their turn in listed order, for each walker: most of them for the slowest."""


class Ask(NamedTuple, Generic[T]):
    """A page to ask for."""

    request: Request
    stretch: Stretch[T]
    missing: Seen[T] = []  # noqa: RUF012 - a default that nobody changes
    """Rows that the page should show to be there; if there are any, that is all it is asked for."""


class Plan(Generic[T]):
    """The walk of one list by any number of walkers.

    Whoever is free calls `take`, asks what that says, and brings the page to `answered`. Whoever wants rows
    calls `give`.

    Arguments:
        request: the question for the whole list.
        axis: what it may be cut by; None if it may not.
        walkers: how many there will be.
        listed: whether rows are given in the order of the list, or page by page as they come.
        full: how many rows are asked for at once.
        waste: how many requests may come to nothing before anything is known of the list.
        places: where an earlier walk of the same list had come to.
    """

    def __init__(
        self,
        request: Request,
        *,
        axis: Axis[T] | None,
        walkers: int,
        listed: bool,
        full: int,
        waste: int = FIRST_WASTE,
        places: Iterable[Place] = (),
    ) -> None:
        self.doubt: str | None = None
        """Why the list is walked in the plain way, if the server made that necessary."""
        self.is_wide = False
        """Whether pages are wanted faster than one walk gives them."""
        self._request = request
        self._axis = axis
        self._listed = listed
        self._most_ahead = walkers * LISTED_AHEAD if listed else walkers
        self._few_ahead = max(1, walkers // FEW)
        self._waste = waste * max(1.0, walkers / FEW)
        self._share = min(MOST_WASTE, WASTE * max(1.0, walkers / FEW))
        self._requests = self._rows = self._longest = 0
        self._full = full
        self._stretches: list[Stretch[T]] = [Stretch.of(place) for place in places]
        self._stretches = self._stretches or [_from_the_start(request)]
        self._open = list(self._stretches)
        """Those with pages to come, in the same order."""
        self._ahead = self._probes = 0
        self._came: deque[Stretch[T]] = deque()
        self._looks: deque[Ask[T]] = deque()
        self._given = array("q")
        """Hashes of the ids of all rows given, eight bytes each: left out, should all be walked again."""
        self._given_up_to = -math.inf
        self._skip: frozenset[int] = frozenset()
        self._order_kept_by: Axis[T] | None = None
        # In order of time a row comes again soon, if at all; in any other order, anywhere. All
        # others may bring a page between two of a walker.
        self._recent = Recent(max(REMEMBERED, 2 * walkers * full) if axis is not None else None)

    def __repr__(self) -> str:
        return f"<Plan [{len(self._stretches)} stretches, {self._requests} requests, {self._rows} rows]>"

    # What to ask.

    def take(self) -> Ask[T] | None:
        """The page that somebody free should ask for now; None if there is none."""
        if self._looks:
            return self._looks.popleft()
        within_reach = self._within_reach()
        idle = (stretch for stretch in within_reach if not stretch.asked)
        stretch = next(idle, None) or self._cut(within_reach)
        if stretch is None or stretch.next is None:
            return None
        stretch.asked = True
        self._ahead += 1
        self._probes += stretch.is_probe
        return Ask(stretch.next, stretch)

    def _within_reach(self) -> list[Stretch[T]]:
        """The stretches with pages to come for which there is room. In listed order what waits behind a
        stretch takes none of its room, or the first ones would starve.
        """
        if self._ahead < self.room:
            return self._open
        return list(_leading(self._stretches, self.room)) if self._listed else []

    @property
    def room(self) -> int:
        """How many pages may be on their way or wait to be given."""
        return self._most_ahead if self.is_wide else self._few_ahead

    def _cut(self, within_reach: list[Stretch[T]]) -> Stretch[T] | None:
        """A new stretch, the later half of the one that has most left; None if no cut is worth it."""
        axis = self._axis
        if axis is None or not within_reach or not self.is_wide or not self._can_afford_a_probe():
            return None
        best = max(within_reach, key=LEFT)
        if best.left < WORTH_A_CUT * self._full:
            return None
        middle = best.middle(axis.horizon)
        if middle is None:
            return None
        later = best.cut(middle, axis.asked_from(middle))
        for stretches in (self._stretches, self._open):
            stretches.insert(stretches.index(best) + 1, later)
        return later

    def _can_afford_a_probe(self) -> bool:
        pages = self._rows / self._full
        return self._requests + self._probes - pages < self._waste + self._share * pages

    # What came.

    def answered(self, ask: Ask[T], page: Page[T]) -> None:
        """Take in the *page* that came for *ask*.

        Raises:
            RepeatedPage: see `paging.CycleGuard`.
        """
        stretch = ask.stretch
        self._requests += 1
        self._longest = max(self._longest, len(page.items))
        if stretch not in self._stretches:
            return
        if ask.missing:
            self._looked(ask, page)
            return
        self._is_back(stretch)
        if (positions := self._positions(stretch, page)) is not None:
            self._received(stretch, ask.request, page, positions)
        elif stretch in self._stretches:
            self._keep(stretch, *stretch.trail.take(page))

    def _is_back(self, stretch: Stretch[T]) -> None:
        stretch.asked = False
        self._ahead -= 1
        self._probes -= stretch.is_probe

    def refused(self, ask: Ask[T]) -> bool:
        """Whether to ask again otherwise: a cursor from an earlier run may have grown too old, and then the
        time beside it says where to go on.
        """
        stretch = ask.stretch
        if not stretch.restored or stretch.trail.has_moved or ask.missing:
            return False
        self._is_back(stretch)
        stretch.restored = False
        known = [position for position in (stretch.taken, stretch.begin) if not math.isinf(position)]
        from_there = self._axis.asked_from(int(max(known))) if self._axis and known else self._request
        stretch.reached = -math.inf
        stretch.restart(from_there)
        return True

    def _positions(self, stretch: Stretch[T], page: Page[T]) -> list[int] | None:
        """Where the rows of *page* are; None where the list is not, or from now on no more, cut by that."""
        if self._axis is None:
            return None
        positions = self._axis.positions(page.items)
        if positions is None:
            self._fall_back("a row has no time", in_order=False)
        elif positions != sorted(positions) or (positions and positions[0] < stretch.reached):
            self._fall_back("its rows do not come in the order of their times", in_order=False)
        elif positions and positions[0] < stretch.begin - 1:
            self._fall_back("the server does not begin where it is asked to")
        else:
            return positions
        return None

    def _received(self, stretch: Stretch[T], request: Request, page: Page[T], positions: list[int]) -> None:
        low, high = bisect_left(positions, stretch.begin), bisect_left(positions, stretch.end)
        beyond = list(zip(positions[high:], page.items[high:], strict=True))
        following = None if beyond else stretch.trail.after(page)
        if positions:
            if stretch.was_short:
                # There is more behind a page that seemed to be the last: the server's pages are shorter.
                self._full = max(1, self._longest)
            stretch.advance(positions, full=self._full)
            stretch.estimate(self._axis.horizon if self._axis else 0)
        self._keep(stretch, page.items[low:high], following)
        if stretch.head is None and (low < len(positions) or following is None):
            until = math.inf if page.next is None else positions[-1]
            stretch.head = Head(frozenset(row.id for row in page.items[low:]), until)
            if stretch.expected is not None:
                self._compare(*stretch.expected, stretch)
        if beyond:
            stretch.unsettled = request
            self._compare(stretch, beyond, self._after(stretch))

    def _keep(self, stretch: Stretch[T], rows: list[T], following: Request | None) -> None:
        if self._skip:
            rows = [row for row in rows if hash(row.id) not in self._skip]
        if self._order_kept_by is not None:
            # What came late before a row that was given has come too late to be given in order.
            positions = self._order_kept_by.positions(rows)
            if positions is not None:
                rows = rows[bisect_left(positions, self._given_up_to) :]
        stretch.next = following
        if following is None:
            self._open.remove(stretch)
        self._rows += len(rows)
        if not rows and following is not None and stretch.head is None and not stretch.parts:
            # Nothing of it came yet: what waits behind nobody takes no room.
            stretch.place, stretch.taken = following, stretch.reached
            return
        stretch.parts.append(Part(rows, following, stretch.reached))
        self._ahead += 1
        self._came.append(stretch)

    def _after(self, stretch: Stretch[T]) -> Stretch[T] | None:
        following = self._stretches[self._stretches.index(stretch) + 1 :][:1]
        return following[0] if following and following[0].begin == stretch.end else None

    def _compare(self, stretch: Stretch[T], beyond: Seen[T], later: Stretch[T] | None) -> None:
        """See that *later*, which begins where *stretch* ends, has found what that saw *beyond* its end."""
        missing = beyond
        if later is not None and not later.restored:
            if later.head is None:
                later.expected = (stretch, beyond)
                return
            later.expected = None
            missing = later.head.lacks(beyond)
        if missing and self._axis is not None:
            self._looks.append(Ask(self._axis.asked_from(int(stretch.end)), stretch, missing))
        else:
            stretch.unsettled = None

    def _looked(self, ask: Ask[T], page: Page[T]) -> None:
        """Rows that were missing and are there now have come late; if they are not, the server errs."""
        positions = (self._axis and self._axis.positions(page.items)) or []
        there = {row.id for row in page.items}
        owner = self._after(ask.stretch) or ask.stretch
        # What came late beyond its end as well is for the stretch there to find.
        own_end = math.inf if owner is ask.stretch else owner.end
        late = [row for position, row in ask.missing if row.id in there and position < own_end]
        lacking = [seen for seen in ask.missing if seen[1].id not in there]
        until = math.inf if page.next is None or not positions else positions[-1]
        begins = positions[0] if positions else math.inf
        if begins < ask.stretch.end - 1 or any(position < until for position, _ in lacking):
            self._fall_back("the server does not give all that follows where it is asked to begin")
            return
        if lacking and page.next is not None:
            # More begins in those seconds than fits in one page.
            self._looks.append(Ask(page.next, ask.stretch, lacking))
        elif self._listed or not late:
            ask.stretch.unsettled = None
        if not late:
            return
        self._rows += len(late)
        if self._listed and owner.parts:
            first = owner.parts[0]
            owner.parts[0] = first._replace(rows=self._merged(late, first.rows))
        else:
            settles = None if lacking or self._listed else ask.stretch
            owner.parts.appendleft(Part(late, owner.place, owner.taken, settles))
            self._ahead += 1
            self._came.append(owner)

    def _merged(self, late: list[T], rows: list[T]) -> list[T]:
        every = [*late, *rows]
        positions = (self._axis and self._axis.positions(every)) or [0] * len(every)
        order = sorted(zip(positions, every, strict=True), key=lambda each: (each[0], each[1].id))
        return [row for _, row in order]

    def _fall_back(self, reason: str, *, in_order: bool = True) -> None:
        """Walk the list in the plain way from now on: the walk from its begin goes on where it is, if it is
        not over; else all is walked again, and what was given is left out. *in_order* is whether the list is
        in the order of its axis all the same.
        """
        # A list that nobody wants to cut may be in any order.
        self.doubt = reason if self.is_wide else None
        self._order_kept_by = self._axis if self._listed and in_order else None
        self._axis = None
        self._skip = frozenset(self._given)
        self._looks.clear()
        first = self._stretches[0]
        if math.isinf(first.begin) and first.next is not None:
            first.end = math.inf
            self._stretches = [first]
        else:
            self._stretches = [_from_the_start(self._request)]
        self._came = deque(stretch for stretch in self._came if stretch in self._stretches)
        self._open = list(self._stretches)
        self._ahead = sum(stretch.ahead for stretch in self._stretches)
        self._probes = 0

    # What is given.

    def give(self) -> list[T] | None:
        """The next rows; None if there are none at the moment. There may be none in a page."""
        stretch = self._first_in_order() if self._listed else self._first_that_came()
        if stretch is None:
            return None
        rows = stretch.take()
        self._given_up_to = stretch.taken
        self._ahead -= 1
        if stretch.is_over:
            self._forget()
        if self._axis is not None:
            self._given.extend([hash(row.id) for row in rows])
        return self._recent.new(rows)

    def _first_that_came(self) -> Stretch[T] | None:
        return self._came.popleft() if self._came else None

    def _first_in_order(self) -> Stretch[T] | None:
        for stretch in self._stretches:
            if not stretch.is_over:
                return stretch if stretch.parts else None
        return None

    def _forget(self) -> None:
        """Drop the stretches that are over, but for those whose head may yet be compared."""
        stretches = self._stretches
        if self._listed:
            while len(stretches) > 1 and stretches[0].is_over:
                del stretches[0]
            return
        self._stretches = [
            stretch
            for number, stretch in enumerate(stretches)
            if not stretch.is_over or (number and not stretches[number - 1].is_over)
        ] or stretches[-1:]

    @property
    def is_over(self) -> bool:
        """Whether all rows were given."""
        return all(stretch.is_over for stretch in self._stretches)

    def places(self) -> list[Place]:
        """Where to go on with what was not given; none when all was."""
        return [place for stretch in self._stretches if (place := stretch.written()) is not None]


def _leading(stretches: Iterable[Stretch[T]], room: int) -> Iterator[Stretch[T]]:
    """Those of *stretches* with pages to come that have fewer than *room* pages before and in them."""
    ahead = 0
    for stretch in stretches:
        ahead += stretch.ahead
        if ahead >= room:
            return
        if stretch.next is not None:
            yield stretch


def _from_the_start(request: Request) -> Stretch[T]:
    return Stretch.begun(request, begin=-math.inf, end=math.inf)
