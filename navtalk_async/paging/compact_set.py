"""A set of any number of ids in about ten bytes each."""

from array import array

__all__ = ["CompactSet"]

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
