"""Fixtures of the tests that hold for every API."""

import asyncio

import pytest
from apis import APIS


@pytest.fixture(params=APIS, ids=str)
def api(request):
    """Each API in turn."""
    return request.param


@pytest.fixture
async def untraced():
    """Tens of thousands of requests are too many for every step of theirs to be traced."""
    asyncio.get_running_loop().set_debug(False)
