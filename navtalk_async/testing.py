"""The sandbox as pytest fixtures: `pytest_plugins = ["navtalk_async.testing"]` in your conftest.py."""

from collections.abc import AsyncIterator

import pytest_asyncio

from navtalk_async.client import NavTalkClient
from navtalk_async.sandbox import Sandbox

__all__ = ["navtalk_client", "navtalk_sandbox"]


@pytest_asyncio.fixture
async def navtalk_sandbox() -> AsyncIterator[Sandbox]:
    """A running local server with 60 sessions; its world, faults and answers may be replaced."""
    async with Sandbox(sessions=60) as sandbox:
        yield sandbox


@pytest_asyncio.fixture
async def navtalk_client(navtalk_sandbox: Sandbox) -> AsyncIterator[NavTalkClient]:
    """A client of `navtalk_sandbox`."""
    async with NavTalkClient("sandbox-key", base_url=navtalk_sandbox.navtalk_url) as client:
        yield client
