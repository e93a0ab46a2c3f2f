"""Which ids came before: any number of them in about ten bytes each, or the latest ones."""

from array import array
from typing import TypeVar

from navtalk_async.models import Record

__all__ = ["REMEMBERED", "CompactSet", "Recent"]

T = TypeVar("T", bound=Record)

MOST_IN_A_BUCKET = 48
"""On average; a bucket is searched from its begin."""


class CompactSet:
    """Holds the hashes of what is added, so that two ids are taken for the same once in 10^19.

    It grows by one bucket at a time (linear hashing, Litwin 1980), so that no addition takes long.
    """

    def __init__(self) -> None:
        self._buckets = [array("q")]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, value: object) -> bool:
        number = hash(value)
        return number in self._buckets[self._place(number)]

    def add(self, value: object) -> bool:
        """Add *value*; whether it is new."""
        number = hash(value)
        bucket = self._buckets[self._place(number)]
        if number in bucket:
            return False
        bucket.append(number)
        self._count += 1
        if self._count > MOST_IN_A_BUCKET * len(self._buckets):
            self._split()
        return True

    def _place(self, number: int) -> int:
        count = len(self._buckets)
        size = 1 << (count - 1).bit_length()
        place = number & (size - 1)
        return place if place < count else place & (size // 2 - 1)

    def _split(self) -> None:
        count = len(self._buckets)
        split = count - (1 << (count.bit_length() - 1))
        numbers, self._buckets[split] = self._buckets[split], array("q")
        self._buckets.append(array("q"))
        for number in numbers:
            self._buckets[self._place(number)].append(number)


REMEMBERED = 4_000
"""Among how many of the latest rows a walk by cursor looks for repeated ones."""


AT_ONCE = 500
"""So many ids are in a plain set, which is faster, before they become compact."""


class Recent:
    """The ids of at least the latest *most* rows, in hashes; of all rows, compactly, where that is None."""

    def __init__(self, most: int | None = REMEMBERED) -> None:
        self._keeps_all = most is None
        self._most = most or AT_ONCE
        self._ids: set[int] = set()
        self._older: set[int] | CompactSet = set()

    def new(self, rows: list[T]) -> list[T]:
        """The rows of *rows* with new ids."""
        new: list[T] = []
        for row in rows:
            number = hash(row.id)
            if number not in self._ids and number not in self._older:
                new.append(row)
                self._ids.add(number)
                if len(self._ids) == self._most:
                    self._age()
        return rows if len(new) == len(rows) else new

    def _age(self) -> None:
        if self._keeps_all:
            older = self._older if isinstance(self._older, CompactSet) else CompactSet()
            for number in self._ids:
                older.add(number)
            self._older, self._ids = older, set()
        else:
            self._ids, self._older = set(), self._ids
