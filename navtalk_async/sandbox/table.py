"""Rows in the order an API lists them: by time, then by id."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
Key = tuple[str, str]


class Table:
    """Rows kept sorted by their time and id, so that a page is found by bisection and never by sorting."""

    __slots__ = ("_time", "keys", "rows")

    def __init__(self, time: str, rows: Iterable[Row] = ()) -> None:
        self._time = time
        self.rows = sorted(rows, key=self.key)
        self.keys = [self.key(row) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def key(self, row: Row) -> Key:
        """Where *row* stands in the order."""
        return row[self._time], row["id"]

    def after(self, key: Key) -> int:
        """The index of the first row that comes after *key*, whether a row has that key or not."""
        return bisect_right(self.keys, key)

    def put(self, row: Row) -> None:
        """Let *row* in, where it belongs."""
        key = self.key(row)
        at = bisect_left(self.keys, key)
        self.keys.insert(at, key)
        self.rows.insert(at, row)

    def discard(self, row: Row) -> None:
        """Take *row* out; it must be there."""
        at = bisect_left(self.keys, self.key(row))
        del self.keys[at], self.rows[at]
