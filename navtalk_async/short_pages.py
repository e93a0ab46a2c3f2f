"""Stop at short pages, and audit that nothing came after them.

The reference ends a list with a cursor that is null. Its own samples have a cursor on short pages too: if the
server puts one on every page, most sessions cost a second request, whose answer is empty. Who would rather
not pay for it may take a short page for the last one. That is a bet, so it is watched: the first short pages
are followed all the same, then every one that is longer than any before it, and a random sample of the
others. The cursors that were not followed are kept, and a single row behind any page that was followed means
that all of them are followed after all.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Generic, Literal, NamedTuple, TypeVar

from navtalk_async.models import Page, Record, Request
from navtalk_async.paging import CycleGuard, OnMove

__all__ = ["Rows", "ShortPageAudit", "ShortPages", "checked_short_pages"]

T = TypeVar("T", bound=Record)

ShortPages = Literal["follow", "audit"]

FIRST = 12
"""How many short pages are followed before any is taken for the last one."""

SAMPLE = 0.015
"""The share of the others that is followed."""


def checked_short_pages(short_pages: ShortPages) -> ShortPages:
    """*short_pages*, if it is one of the two; else a ValueError."""
    if short_pages not in ("follow", "audit"):
        raise ValueError(f"short_pages={short_pages!r} is neither 'follow' nor 'audit'.")
    return short_pages


class Rows(NamedTuple, Generic[T]):
    """The rows of a list, and where it may go on; None where it certainly ended."""

    items: list[T]
    unread: Request | None = None


class ShortPageAudit:
    """Which short pages to follow, and what came of it."""

    def __init__(self, chance: Callable[[], float] = random.random, *, refuted: bool = False) -> None:
        self.followed = 0
        """Short pages with a cursor that were followed."""
        self.trusted = 0
        """Short pages with a cursor that were taken for the last ones."""
        self.refuted = refuted
        """Whether there was a row behind a short page, now or earlier; from then on all are followed."""
        self._chance = chance
        self._longest = 0

    def __repr__(self) -> str:
        return (
            f"<ShortPageAudit [{self.followed} followed, {self.trusted} trusted]{' refuted' * self.refuted}>"
        )

    def follows(self, rows: int) -> bool:
        """Whether to follow a short page of so many *rows*; it is counted."""
        # A server that cuts pages at some length of its own cuts the longest ones.
        longest = rows > self._longest
        self._longest = max(self._longest, rows)
        follow = self.refuted or longest or self.followed < FIRST or self._chance() < SAMPLE
        self.followed += follow
        self.trusted += not follow
        return follow

    async def whole(
        self,
        ask: Callable[[Request], Awaitable[Page[T]]],
        request: Request,
        *,
        full: Callable[[Request], int],
        on_move: OnMove | None = None,
    ) -> Rows[T]:
        """All rows from the page that *request* asks for on; or up to a page with fewer rows than *full* says
        that a request may bring, and its cursor. A list that is paged by offset has no cursors, and is always
        walked to its end.

        Raises:
            RepeatedPage: see `paging.CycleGuard`.
        """
        trail = CycleGuard(request)
        items: list[T] = []
        following: Request | None = request
        after_short = False
        while following is not None:
            page = await ask(following)
            rows, following = trail.take(page)
            items += rows
            if page.offset_param is not None:
                continue
            self.refuted = self.refuted or (after_short and bool(rows))
            # A page that was too large came as a smaller one: what follows says how many rows were asked for.
            is_short = following is None or len(page.items) < full(following)
            # An empty page is followed as ever: it says that rows were left out of it.
            if following is not None and is_short and page.items and not self.follows(len(page.items)):
                return Rows(items, following)
            after_short = is_short
        trail.tell(on_move)
        return Rows(items)
