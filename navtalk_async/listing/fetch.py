"""Fetch a session's messages, and what an error says about the other sessions.

The reference ends a list with a null cursor, but its own samples have a cursor on short pages too. If the
server puts one on every page, most sessions cost a second request with an empty answer. Taking a short page
for the last one saves that request. It is a bet, so it is audited: the first short pages are followed all the
same, then every one that is longer than any before it, and a random sample of the others. The skipped cursors
are kept, and a single row behind any page that was followed means that all of them are followed after all.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Generic, Literal, NamedTuple, TypeVar

from navtalk_async.client import Client, inside
from navtalk_async.errors import (
    AccessDenied,
    ApiError,
    BadRequest,
    BodyTooLarge,
    ClientClosed,
    ConnectFailed,
    NavTalkError,
    NotFound,
    Redirected,
    RepeatedPage,
    StoreError,
    WrongShape,
)
from navtalk_async.models import Message, Page, Record, Request
from navtalk_async.paging import CycleGuard, OnMove, fetch_all

__all__ = ["RowsRead", "ShortPageAudit", "ShortPages", "fault_scope", "fetch_messages"]

T = TypeVar("T", bound=Record)

ShortPages = Literal["follow", "audit"]

OF_THE_RUN = (AccessDenied, ClientClosed, ConnectFailed, Redirected, StoreError)
OF_THE_SESSION = (BadRequest, NotFound, WrongShape, RepeatedPage, BodyTooLarge)

ALWAYS_FOLLOWED = 12
"""How many short pages are followed before any is skipped."""

SAMPLE = 0.015
"""The share of the others that is followed."""


def fault_scope(error: NavTalkError) -> Literal["run", "session", "answer"]:
    """Whether *error* is of the run, so that the next session would meet it too; of this session alone; or of
    this answer alone, unless the server is in trouble.
    """
    if isinstance(error, OF_THE_RUN):
        return "run"
    return "session" if isinstance(error, OF_THE_SESSION) else "answer"


class RowsRead(NamedTuple, Generic[T]):
    """The rows of a list, and the request that may bring more; None where the list has certainly ended."""

    items: list[T]
    unfollowed: Request | None = None
    skipped: int = 0
    """How many rows could not be read."""


async def fetch_messages(
    client: Client,
    request: Request,
    *,
    ask: Callable[[Request], Awaitable[Page[Message]]] | None = None,
    audit: "ShortPageAudit | None" = None,
    on_move: OnMove | None = None,
) -> RowsRead[Message]:
    """All messages of the list that *request* asks for; or those up to a short page that *audit* skips.

    Arguments:
        ask: fetches a page; by default, the client does.
        on_move: called if the rows of a list that is paged by offset moved; by default, the client announces.
    """
    ask, on_move = ask or inside(client).page_of_messages, on_move or inside(client).moved
    if audit is None:
        skipped: list[int] = []
        return RowsRead(await fetch_all(ask, request, on_move, skipped.append), skipped=sum(skipped))
    return await audit.fetch_all(ask, request, page_limit=client.dialect.page_limit, on_move=on_move)


class ShortPageAudit:
    """Which short pages to follow, and what was found behind them.

    Arguments:
        disproved: whether an earlier run found a row behind a short page.
    """

    def __init__(self, chance: Callable[[], float] = random.random, *, disproved: bool = False) -> None:
        self.followed: int = 0
        self.skipped: int = 0
        """Short pages with a cursor that were taken for the last ones."""
        self.disproved: bool = disproved
        """Whether a row was found behind a short page; from then on all are followed."""
        self._chance = chance
        self._longest = 0

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
        """The rows of a list, as `fetch_messages` returns them; *page_limit* is the most that a request may
        bring. A list that is paged by offset has no cursors, and is always read to its end.
        """
        guard = CycleGuard(request)
        items: list[T] = []
        following: Request | None = request
        after_short = False
        while following is not None:
            try:
                page = await ask(following)
            except ApiError as error:
                following, items, after_short = guard.begin_again(error), [], False
                continue
            rows, following = guard.take(page)
            items += rows
            if page.offset_param is not None:
                continue
            self.disproved = self.disproved or (after_short and bool(rows))
            # A page that was too large came as a smaller one: the next request has the limit that was used.
            came = len(page.items) + len(page.skipped)
            is_short = following is None or came < page_limit(following)
            # An empty page with a cursor says that the server left rows out: it is followed.
            if following is not None and is_short and page.items and not self.follows(len(page.items)):
                return RowsRead(items, following, guard.skipped)
            after_short = is_short
        guard.report(on_move)
        return RowsRead(items, skipped=guard.skipped)
