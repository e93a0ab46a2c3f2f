"""A place for an archive of each kind in turn, and an archive open there."""

import pytest
from store_rows import begin

from navtalk_async.archive import Archive


@pytest.fixture
async def place(new_place):
    return await new_place()


@pytest.fixture
async def store(place):
    async with Archive.open(place) as store:
        await begin(store)
        yield store
