"""The walk of a list that is paged by offset and may move meanwhile; pure.

Offsets shift when rows come and go before them. So each page begins with the last row of the page before it:
rows that stay in the list keep their order, so that nothing was skipped where a page begins with a row that
has come before. Where it does not, rows before it are gone, and the walk steps back until a page does. Where
it begins with an earlier row, the last one must come again before any new one: else rows were moved to the
end, and the list is walked again from its begin.

Two things are not found: rows that a deletion moves past pages of a single row, which cannot overlap; and
rows that take the places of others which moved to the end together with the last row that had come.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

from navtalk_async.errors import RepeatedPage
from navtalk_async.models import Message, Page, Record, Request

__all__ = ["OffsetWalk", "goes_on"]

T = TypeVar("T", bound=Record)

MAX_TRIES = 2
"""How often a page without rows that promises more is asked for again; once, after rows."""

MAX_SKIPPED_PAGES = 3
"""How many pages without rows are skipped where more is promised: rows that a server counts and leaves out
may fill pages."""

MAX_ALIKE = 2
"""How many full pages may begin with the same row where no more is promised: rows may be added."""

MAX_ALIKE_IF_PROMISED = 10
"""The same where more is promised."""

MAX_RESTARTS = 2
"""How often a list is walked again from its begin."""

MAX_STALE_PAGES = 20
"""How many pages in a row may have no new row, in addition to as many as had new ones."""


def goes_on(rows: int, reached: int, *, full: int, has_more: bool | None, total: int | None) -> bool:
    """Whether a list may go on after a page of so many *rows*, the last of which is the *reached*-th.

    A full page may always be followed by another, whatever the server says. Neither of its two promises
    outweighs the other: the reference's own sample has them contradict each other.
    """
    total = _plausible(total, reached)
    says_nothing = has_more is None and total is None
    return says_nothing or rows >= full or _promises_more(reached, total, has_more=has_more)


def _plausible(total: int | None, reached: int) -> int | None:
    # Some servers count the rows of a page.
    return None if total is not None and total < reached else total


def _promises_more(reached: int, total: int | None, *, has_more: bool | None) -> bool:
    return has_more is True or (total is not None and reached < total)


class OffsetWalk(Generic[T]):
    """Which page of such a list to ask for next, and which rows of a page are new; *param* is the parameter
    of *request*, for the first page, that counts the rows before a page.
    """

    def __init__(self, request: Request, param: str) -> None:
        self._request = request
        self._param = param
        self._start = self._at = int(request.params.get(param) or 0)
        self._seen: set[int] = set()
        self._yielded = self._unreadable = 0
        self._first: int | None = None
        self._last: int | None = None
        self._expected: int | None = None
        """The row that must come again before a new one may, where a page began with an earlier one."""
        self._is_unmoved = True
        """Whether each page began with the last row of the one before."""
        self._overlaps = False
        """Whether the page asked for should begin with a row that came before."""
        self._largest = 0
        self._pages = 0
        """How many pages had new rows."""
        self._stale = self._alike = self._tries = self._skipped = 0
        """How many pages in a row had no new rows; began with the same row; were asked for again; were
        skipped."""
        self._back = self._restarts = 0
        self._moved = False
        self.following: Request | None = request
        """The request for the next page; None at the end."""
        self.anomaly: str | None = None
        """What was wrong with the list, once its walk has ended."""

    def take(self, page: Page[T]) -> list[T]:
        """The rows of *page* that are new; then `following` is the next request. Raises a RepeatedPage where
        the same rows come again and again.
        """
        if page.next is not None:
            # It asks for fewer rows where a page was too large.
            self._request = page.next
        items: list[T | None] = [*page.items]
        for place in page.skipped:
            items.insert(place, None)
        # A row that could not be read is known by its place.
        keys = [hash(self._at + place) if row is None else _key(row) for place, row in enumerate(items)]
        self._largest = max(self._largest, len(keys))
        if self._overlaps and self._at > self._start:
            if not keys or keys[0] not in self._seen:
                return self._step_back()
            if keys[0] != self._last and self._expected is None and self._restarts < MAX_RESTARTS:
                self._expected = self._last
        if self._expected in keys:
            self._expected = None
        rows = self._unseen(items, keys)
        if self._expected is not None and rows:
            self._seen.difference_update(_key(row) for row in rows if row is not None)
            return self._restart()
        self._yielded += len(rows)
        self._unreadable += rows.count(None)
        self._alike = self._alike + 1 if keys and keys[0] == self._first else 0
        self._back = 0
        at = self._after(page, keys, rows)
        if at is not None:
            self._ask(at)
        elif self._expected is not None:
            self._restart()
        else:
            self.following, self.anomaly = None, self._anomaly_of(page)
        return [row for row in rows if row is not None]

    @property
    def reached(self) -> Request | None:
        """The request for the rows behind those that came, without overlap; None at the end."""
        return self.following and self._request.having(**{self._param: str(self._at + self._overlaps)})

    @property
    def _arrived(self) -> int:
        return self._start + self._yielded

    def _unseen(self, rows: Sequence[T | None], keys: Sequence[int]) -> list[T | None]:
        may_share_ids = any(row is not None and not row.ids_are_unique for row in rows)
        as_expected = keys[:1] == [self._last] if self._overlaps else not self._seen
        self._is_unmoved = self._is_unmoved and as_expected
        if may_share_ids and self._overlaps and self._is_unmoved:
            # All behind the row that it shares with the page before is new, whatever its ids.
            new: list[T | None] = [*rows[1:]]
        else:
            came: set[int] = set()
            new = []
            for key, row in zip(keys, rows, strict=True):
                if key not in self._seen and (may_share_ids or key not in came):
                    new.append(row)
                    came.add(key)
        self._seen.update(keys)
        return new

    def _after(self, page: Page[T], keys: Sequence[int], new: Sequence[T | None]) -> int | None:
        has_more, reached = page.has_more, self._at + len(keys)
        # Offsets that count rows which are not given run ahead of those that came.
        came = min(reached, self._arrived)
        total = _plausible(page.total, came)
        behind = self._behind(reached, keys)
        # A server that ignores the offset begins each page with the same row.
        rows = len(keys) if new or self._alike < MAX_ALIKE else 0
        follows = goes_on(rows, came, full=page.full, has_more=has_more, total=total)
        if new:
            self._stale = self._skipped = 0
            self._tries = 1
            self._pages += 1
            return behind if follows else None
        self._count_stale()
        if len(keys) > 1 or (keys and self._largest == 1):
            return behind if follows else None
        if not _promises_more(came, total, has_more=has_more) or (not keys and has_more is False):
            return None
        if keys and self._tries < MAX_TRIES:
            # The last row alone: what is promised behind it is asked for once.
            self._tries = MAX_TRIES
            return behind
        return self._try_further(page, total)

    def _behind(self, reached: int, keys: Sequence[int]) -> int:
        # With the last row of this page, unless that is all it has.
        self._overlaps = len(keys) > 1
        self._first, self._last = (keys[0], keys[-1]) if keys else (None, None)
        return reached - self._overlaps

    def _try_further(self, page: Page[T], total: int | None) -> int | None:
        # After a page without rows that promises more: there again, or further on.
        if self._tries < MAX_TRIES:
            self._tries += 1
            return self._at
        # A server may give fewer rows than are asked for: what lies behind those was not looked at.
        step = self._largest if self._pages > 1 else page.full
        if self._skipped >= self._max_skips(step, total, has_more=page.has_more):
            return None
        self._skipped += 1
        return self._at + step

    def _max_skips(self, step: int, total: int | None, *, has_more: bool | None) -> int:
        if total is None or self._at + step < total:
            return MAX_SKIPPED_PAGES
        # Offsets may count rows that neither the total nor a page has.
        lacks_many = has_more is True and total - self._arrived > step // 2
        return int(self._at > self._arrived or lacks_many)

    def _step_back(self) -> list[T]:
        # Rows before the offset are gone: go back by half a page, and twice as far each time.
        self._moved, self._is_unmoved = True, False
        self._count_stale()
        self._back = 2 * self._back or max(1, self._largest // 2)
        self._ask(max(self._start, self._at - self._back))
        return []

    def _restart(self) -> list[T]:
        # Rows may have moved to the end, and others taken their places.
        self._moved, self._overlaps, self._expected, self._is_unmoved = True, False, None, False
        self._restarts += 1
        self._stale = 0
        self._ask(self._start)
        return []

    def _count_stale(self) -> None:
        self._stale += 1
        if self._stale > MAX_STALE_PAGES + self._pages or self._alike > MAX_ALIKE_IF_PROMISED:
            raise RepeatedPage(f"{self._request.path} gives the same rows again and again.")

    def _ask(self, at: int) -> None:
        self._at = at
        self.following = self._request.having(**{self._param: str(at)})

    def _anomaly_of(self, page: Page[T]) -> str | None:
        came, total = self._arrived, page.total
        if self._moved:
            return "its rows moved while it was listed, so parts of it were listed again"
        if total is not None and (total > came or (self._yielded and total < came - self._unreadable)):
            return f"it has a total of {total:,} and gave {came:,}"
        return "it promised more rows than it gave" if page.has_more is True else None


def _key(row: Record) -> int:
    # Other fields may differ each time, as signed links do.
    if isinstance(row, Message) and not row.ids_are_unique:
        return hash((row.id, row.created_at_text))
    return hash(row.id)
