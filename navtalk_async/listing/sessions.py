"""The list of sessions of any API, walked as wide as that one allows."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import Protocol

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.listing.by_time import ByTime
from navtalk_async.listing.by_total import OffsetListing
from navtalk_async.listing.listing import WideListing
from navtalk_async.listing.plan import FIRST_WASTE
from navtalk_async.models import Page, Place, Request, Session

__all__ = ["Listed", "listing_of"]


class Listed(Protocol):
    """A list that is walked."""

    def pages(self) -> AsyncGenerator[list[Session], None]:
        """The rows of one page after the other; a page may have none."""
        ...

    def places(self) -> list[Place]:
        """Where to go on with what was not given so far; none when all was."""
        ...


def listing_of(
    ask: Callable[[Request], Awaitable[Page[Session]]],
    dialect: Dialect,
    request: Request,
    *,
    horizon: datetime | date | str | None,
    walkers: int,
    listed: bool,
    cut: bool = True,
    is_awaited: Callable[[], bool] | None = None,
    waste: int = FIRST_WASTE,
    places: Sequence[Place] = (),
    on_doubt: Callable[[str], None] | None = None,
) -> Listed:
    """The sessions that *request* asks for.

    Arguments:
        horizon: when the last one is thought to begin, for an API that lists in the order of time; by default
            now.
        walkers: the most requests at once.
        cut: whether the list may be walked from several places.
        others: see `WideListing`.
    """
    if dialect.from_offset(request, 0) is not None:
        return OffsetListing(
            ask,
            request,
            asked_from=partial(dialect.from_offset, request),
            walkers=walkers if cut else 1,
            listed=listed,
            on_doubt=on_doubt,
        )
    return WideListing(
        ask,
        request,
        axis=ByTime.of(dialect, request, horizon) if cut else None,
        walkers=walkers,
        listed=listed,
        full=dialect.rows(request),
        is_awaited=is_awaited,
        waste=waste,
        places=places,
        on_doubt=on_doubt,
    )
