"""Stop at short pages, and audit that nothing came after them.

The reference ends a list with a null cursor, but its own samples have a cursor on short pages too. If the
server puts one on every page, most sessions cost a second request with an empty answer. Taking a short page
for the last one saves that request. It is a bet, so it is audited: the first short pages are followed all the
same, then every one that is longer than any before it, and a random sample of the others. The skipped cursors
are kept, and a single row behind any page that was followed means that all of them are followed after all.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Generic, Literal, NamedTuple, TypeVar

from navtalk_async.models import Page, Record, Request
from navtalk_async.paging import CycleGuard, OnMove

__all__ = ["RowsRead", "ShortPageAudit", "ShortPages", "checked_short_pages"]

T = TypeVar("T", bound=Record)

ShortPages = Literal["follow", "audit"]

ALWAYS_FOLLOWED = 12
"""How many short pages are followed before any is skipped."""

SAMPLE = 0.015
"""The share of the others that is followed."""


def checked_short_pages(short_pages: ShortPages) -> ShortPages:
    """*short_pages*, or a ValueError if it is neither `"follow"` nor `"audit"`."""
    if short_pages not in ("follow", "audit"):
        raise ValueError(f"short_pages={short_pages!r} is neither 'follow' nor 'audit'.")
    return short_pages


class RowsRead(NamedTuple, Generic[T]):
    """The rows of a list, and the request that may bring more; None where the list has certainly ended."""

    items: list[T]
    unread: Request | None = None


class ShortPageAudit:
    """Which short pages to follow, and what was found behind them.

    Arguments:
        disproved: whether an earlier run found a row behind a short page.
    """

    def __init__(self, chance: Callable[[], float] = random.random, *, disproved: bool = False) -> None:
        self.followed = 0
        """Short pages with a cursor that were followed."""
        self.skipped = 0
        """Short pages with a cursor that were taken for the last ones."""
        self.disproved = disproved
        """Whether a row was found behind a short page; from then on all are followed."""
        self._chance = chance
        self._longest = 0

    def __repr__(self) -> str:
        counts = f"{self.followed} followed, {self.skipped} skipped"
        return f"<ShortPageAudit [{counts}]{' disproved' * self.disproved}>"

    def follows(self, rows: int) -> bool:
        """Decide and count whether to follow a short page of so many *rows*."""
        # A server that cuts pages at some length of its own cuts the longest ones.
        is_longest = rows > self._longest
        self._longest = max(self._longest, rows)
        few = self.followed < ALWAYS_FOLLOWED
        follow = self.disproved or is_longest or few or self._chance() < SAMPLE
        self.followed += follow
        self.skipped += not follow
        return follow

    async def fetch_all(
        self,
        ask: Callable[[Request], Awaitable[Page[T]]],
        request: Request,
        *,
        page_limit: Callable[[Request], int],
        on_move: OnMove | None = None,
    ) -> RowsRead[T]:
        """All rows of a list; or those up to a short page that is not followed, and its cursor. A list paged
        by offset has no cursors, and is always read to its end.

        Arguments:
            request: asks for the first page.
            page_limit: the most rows that a request may bring.

        Raises:
            RepeatedPage: the pages lead in a circle, or go on without rows.
        """
        guard = CycleGuard(request)
        items: list[T] = []
        following: Request | None = request
        after_short = False
        while following is not None:
            page = await ask(following)
            rows, following = guard.take(page)
            items += rows
            if page.offset_param is not None:
                continue
            self.disproved = self.disproved or (after_short and bool(rows))
            # A page that was too large came as a smaller one: the next request has the limit that was used.
            is_short = following is None or len(page.items) < page_limit(following)
            # An empty page with a cursor says that the server left rows out: it is followed.
            if following is not None and is_short and page.items and not self.follows(len(page.items)):
                return RowsRead(items, following)
            after_short = is_short
        guard.tell(on_move)
        return RowsRead(items)
