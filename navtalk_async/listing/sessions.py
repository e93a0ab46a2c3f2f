"""The list of sessions of any API, walked as wide as that one allows."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.events import Event
from navtalk_async.listing.by_time import ByTime
from navtalk_async.listing.listing import WideListing
from navtalk_async.listing.plan import FIRST_WASTE
from navtalk_async.models import Page, Place, Request, Session

__all__ = ["listing_of"]


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
    announce: Callable[[Event], None] | None = None,
) -> WideListing[Session]:
    """The sessions that *request* asks for.

    Arguments:
        horizon: when the last one is thought to begin, for an API that lists in the order of time; by default
            now.
        walkers: the most requests at once.
        cut: whether the list may be walked from several places.
        others: see `WideListing`.
    """
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
        announce=announce,
    )
