"""A stretch of a list: where it begins and ends, how far it is walked, and what of it waits to be taken."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import msgspec

from navtalk_async.models import Place, Record, Request
from navtalk_async.paging import CycleGuard

__all__ = ["Axis", "Head", "Part", "Seen", "Stretch"]

T = TypeVar("T", bound=Record)
T_contra = TypeVar("T_contra", bound=Record, contravariant=True)

Seen = list[tuple[int, T]]
"""Rows and where they are."""


class Axis(Protocol[T_contra]):
    """What a list is ordered by, as whole numbers, and how to ask for it from any of them on."""

    horizon: int
    """Where the list is thought to end; it may go on beyond."""

    def asked_from(self, position: int) -> Request:
        """The question for a first page of the rows from *position* on. Rows one step before it may come as
        well, earlier ones do not.
        """
        ...

    def positions(self, rows: Sequence[T_contra]) -> list[int] | None:
        """Where each of *rows* is; None if one of them is nowhere."""
        ...


class Head(NamedTuple):
    """The first rows of a stretch, to be compared with what the walk before it saw beyond its border."""

    ids: frozenset[str]
    until: float
    """From here on, rows may be on a later page."""

    def lacks(self, seen: Seen[T]) -> Seen[T]:
        """Those of *seen* that it should have, and has not; the first of them, it must."""
        return [
            (position, row)
            for number, (position, row) in enumerate(seen)
            if row.id not in self.ids and (number == 0 or position < self.until)
        ]


class Part(NamedTuple, Generic[T]):
    """Rows that came and are not taken yet."""

    rows: list[T]
    following: Request | None
    reached: float
    settles: "Stretch[T] | None" = None
    """The stretch whose walk saw them beyond its end."""


class Stretch(msgspec.Struct, Generic[T], eq=False, kw_only=True):
    """The rows from *begin* to before *end*, walked page by page.

    The end moves down when somebody else takes over the later half, but never below a row that came.
    """

    begin: float
    end: float
    next: Request | None
    """What to ask next; None when all its rows came."""
    place: Request | None = None
    """What to ask next, by somebody who has only the rows that were taken."""
    reached: float = -math.inf
    """Where the last row is that came."""
    taken: float = -math.inf
    """Where the last row is that was taken."""
    pace: float = 0.0
    """Rows a step, in the last page."""
    left: float = 0.0
    """How many rows are thought to be still to come; 0 where that is not known."""
    was_short: bool = False
    """Whether the last page seemed to be the end of the list."""
    asked: bool = False
    """Whether its next page is being asked for."""
    restored: bool = False
    """Whether an earlier run began it, whose pages are not known."""
    parts: deque[Part[T]] = msgspec.field(default_factory=deque)
    head: Head | None = None
    expected: tuple["Stretch[T]", Seen[T]] | None = None
    """The stretch before this one, and what its walk saw beyond the border: to be found in `head`."""
    unsettled: Request | None = None
    """The question that showed what lies beyond the end, until that is found in the stretch there."""
    trail: CycleGuard

    @classmethod
    def begun(cls, request: Request, *, begin: float, end: float) -> Self:
        """The rows from *begin* to before *end*, of which *request* asks for the first."""
        return cls(begin=begin, end=end, next=request, place=request, trail=CycleGuard(request))

    @classmethod
    def of(cls, place: Place) -> Self:
        """The stretch that goes on at *place*."""
        reached = -math.inf if place.reached is None else place.reached
        return cls(
            begin=-math.inf if place.begin is None else place.begin,
            end=math.inf if place.end is None else place.end,
            next=place.next,
            place=place.next,
            reached=reached,
            taken=reached,
            restored=True,
            trail=CycleGuard(place.next),
        )

    def restart(self, request: Request) -> None:
        """Go on with *request* instead."""
        self.next = self.place = request
        self.trail = CycleGuard(request)

    @property
    def is_probe(self) -> bool:
        """Whether it is just being found out what it holds."""
        return self.head is None and not math.isinf(self.begin)

    @property
    def ahead(self) -> int:
        """Pages that are asked for or wait to be taken."""
        return len(self.parts) + self.asked

    @property
    def is_over(self) -> bool:
        """Whether all its rows were taken, and what lay beyond them was found."""
        return self.next is None and not self.parts and self.unsettled is None

    def estimate(self, horizon: int) -> None:
        """Note how much is left of a list that is thought to end at *horizon*."""
        self.left = self.pace * max(0.0, min(self.end, horizon) - self.reached) if self.pace else 0.0

    def middle(self, horizon: int) -> int | None:
        """Where the later half of what is left begins, if there is any; None if it cannot be halved."""
        last = min(self.end, horizon)
        middle = math.ceil((self.reached + last) / 2)
        # Asked from one step before it, a server that ignores where it should begin gives itself away.
        return middle if self.reached + 1 < middle < last else None

    def cut(self, middle: int, request: Request) -> "Stretch[T]":
        """Leave everything from *middle* on to another stretch, which begins with *request*."""
        later: Stretch[T] = Stretch.begun(request, begin=middle, end=self.end)
        self.end = middle
        self.estimate(middle)
        return later

    def advance(self, positions: Sequence[int], *, full: int) -> None:
        """Note that the rows at *positions* came, in order, as a page that was asked for *full* rows."""
        known = [position for position in (self.reached, self.begin) if not math.isinf(position)]
        since = max(known, default=positions[0])
        self.was_short = len(positions) < full
        self.pace = 0.0 if self.was_short else len(positions) / max(1.0, positions[-1] - since + 1)
        self.reached = min(positions[-1], self.end - 1)

    def take(self) -> list[T]:
        """The rows of the next part, which are the taker's from now on."""
        part = self.parts.popleft()
        self.place, self.taken = part.following, part.reached
        if part.settles is not None:
            part.settles.unsettled = None
        return part.rows

    def written(self) -> Place | None:
        """Where to go on with what was not taken; None when there is nothing left."""
        begin, end = _finite(self.begin), _finite(self.end)
        if self.place is not None:
            return Place(self.place, begin, end, _finite(self.taken))
        # What the last page showed beyond the end is doubted: that page is to be looked at again.
        return None if self.unsettled is None else Place(self.unsettled, begin, end)


def _finite(position: float) -> int | None:
    return None if math.isinf(position) else int(position)
