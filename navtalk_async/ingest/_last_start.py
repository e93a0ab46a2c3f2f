"""How far a list goes: without it, nobody knows how much of the list is left."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from navtalk_async.client import Client, inside
from navtalk_async.dialects.dialect import smallest_page
from navtalk_async.ingest.scope import Scope

MOST_REQUESTS = 12
CLOSE_ENOUGH = 0.02
"""The part of the time range by which the moment may be off."""


async def last_start(client: Client, scope: Scope, first: datetime, end: datetime) -> datetime:
    """About when the last session between *first* and *end* began, of a list that can begin at a time."""

    async def begins_later(moment: datetime) -> datetime | None:
        request = smallest_page(client.dialect, scope.first_page(client.dialect, moment))
        page = await inside(client).page_of_sessions(request)
        return max((each.start_time for each in page.items if each.start_time is not None), default=None)

    return await bisected(begins_later, first, end)


async def total_of(client: Client, scope: Scope) -> int | None:
    """How many sessions the API says that the list has."""
    request = smallest_page(client.dialect, scope.first_page(client.dialect))
    return (await inside(client).page_of_sessions(request)).total


async def bisected(
    begins_later: Callable[[datetime], Awaitable[datetime | None]], first: datetime, end: datetime
) -> datetime:
    """Between a moment at which a session began and one after which none did, as close as is needed;
    *begins_later* returns when one began at a moment or later.
    """
    low, high = first, end
    for _ in range(MOST_REQUESTS):
        if high - low <= max(timedelta(seconds=1), CLOSE_ENOUGH * (low - first)):
            break
        middle = low + (high - low) / 2
        found = await begins_later(middle)
        if found is None:
            high = middle
        else:
            low = min(max(found, middle), high)
    return high
