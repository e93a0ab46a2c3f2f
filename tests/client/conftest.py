"""Fixtures of the tests that hold for every API."""

import pytest
from apis import APIS


@pytest.fixture(params=APIS, ids=str)
def api(request):
    """Each API in turn."""
    return request.param
