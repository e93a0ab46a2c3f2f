"""How far a list goes, by a few requests."""

import asyncio
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.ingest._last_start import MOST_REQUESTS, bisected

FIRST = datetime(2025, 1, 1, tzinfo=UTC)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(301, 400))
def test_the_last_session_is_found_within_a_few_parts_of_a_hundred_of_the_range(days, end):
    starts = sorted(FIRST + timedelta(days=each) for each in days)
    asked = []

    async def begins_later(moment):
        asked.append(moment)
        return next((each for each in starts if each >= moment), None)

    found = asyncio.run(bisected(begins_later, FIRST, FIRST + timedelta(days=end)))
    assert len(asked) <= MOST_REQUESTS
    assert timedelta(0) <= found - starts[-1] <= max(timedelta(days=1), 0.03 * (starts[-1] - FIRST))
