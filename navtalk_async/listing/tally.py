"""What came of a list that was walked, and whether that is all there is."""

from array import array
from collections.abc import Iterable
from typing import Generic, TypeVar

from navtalk_async.models import Record

__all__ = ["Seen", "Tally"]

T = TypeVar("T", bound=Record)


class Seen:
    """The ids of any number of rows, at 16 to 32 bytes each: their hashes, in an open table."""

    def __init__(self) -> None:
        self._table = array("q", bytes(8 * 1024))
        self._count = 0

    def add(self, name: str) -> bool:
        """Remember *name*; whether it is new."""
        number = hash(name) or 1
        place = self._place(number)
        if self._table[place]:
            return False
        self._table[place] = number
        self._count += 1
        if 2 * self._count > len(self._table):
            self._grow()
        return True

    def _place(self, number: int) -> int:
        """Where *number* is, or where there is room for it."""
        table, last = self._table, len(self._table) - 1
        place = number & last
        while table[place] and table[place] != number:
            place = (place + 1) & last
        return place

    def _grow(self) -> None:
        numbers, self._table = self._table, array("q", bytes(2 * 8 * len(self._table)))
        for number in numbers:
            if number:
                self._table[self._place(number)] = number


class Tally(Generic[T]):
    """What came of a list in one walk after the other, and whether that is all there is."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._total: int | None = None
        self._has_other_total = self._has_moved = False
        self._shared: dict[int, str] = {}
        self._walks = self._rows = self._new = 0
        self.stale = 0
        """How many pages in a row had rows, and none that is new."""

    def begin(self) -> None:
        """Count what comes from here on as another walk."""
        self._walks += 1
        self._total, self._has_other_total, self._has_moved = None, False, False
        self._shared.clear()
        self._rows = self._new = self.stale = 0

    def note(self, total: int | None, *, has_moved: bool) -> None:
        """Note what some page of this walk said to be the *total*, and whether the list *has moved* since the
        page before it.
        """
        self._has_moved |= has_moved
        if total is not None:
            self._has_other_total |= self._total not in (None, total)
            self._total = total

    def share(self, rows: Iterable[tuple[int, str]]) -> None:
        """Note the places and ids of *rows* that a chunk shares with its neighbours."""
        for place, name in rows:
            other = self._shared.pop(place, None)
            if other is None:
                self._shared[place] = name
            self._has_moved |= other not in (None, name)

    def new(self, rows: list[T]) -> list[T]:
        """Those of *rows* that were never given before; they are, from now on."""
        new = [row for row in rows if self._seen.add(row.id)]
        self._rows += len(rows)
        self._new += len(new)
        self.stale = self.stale + 1 if rows and not new else 0
        return new

    @property
    def doubt(self) -> str | None:
        """Why rows may be missing after this walk; None if it was a quiet one."""
        if self._has_other_total:
            return "its total changed while it was walked"
        # In the first walk, whatever came twice has taken the place of something else.
        came = self._new if self._walks == 1 else self._rows
        if self._total is not None and came < self._total and (self._new or self._walks == 1):
            return f"it gave {came:,} rows of {self._total:,}"
        # A row that only one of two neighbours has seen was not there for the other.
        if self._has_moved or self._shared:
            return "its rows moved while it was walked"
        return None
