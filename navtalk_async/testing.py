"""The sandbox as pytest fixtures: `pytest_plugins = ["navtalk_async.testing"]` in your conftest.py."""

from collections.abc import AsyncIterator

from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient, NavTalkClient
from navtalk_async.sandbox import Sandbox

try:
    import pytest_asyncio
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        f"navtalk_async.testing needs {_missing.name}, which is not installed: pip install pytest-asyncio",
        name=_missing.name,
    ) from None

__all__ = ["kodey_client", "lexicon_client", "llamacloud_client", "navtalk_client", "navtalk_sandbox"]

KEY = "sandbox-key"


@pytest_asyncio.fixture
async def navtalk_sandbox() -> AsyncIterator[Sandbox]:
    """A running local server of all APIs, with 60 sessions; its world, faults and answers may be replaced."""
    async with Sandbox(sessions=60) as sandbox:
        yield sandbox


@pytest_asyncio.fixture
async def navtalk_client(navtalk_sandbox: Sandbox) -> AsyncIterator[NavTalkClient]:
    """A client of NavTalk in `navtalk_sandbox`."""
    async with NavTalkClient(KEY, base_url=navtalk_sandbox.navtalk_url) as client:
        yield client


@pytest_asyncio.fixture
async def kodey_client(navtalk_sandbox: Sandbox) -> AsyncIterator[KodeyClient]:
    """A client of Kodey.ai in `navtalk_sandbox`."""
    async with KodeyClient(KEY, base_url=navtalk_sandbox.kodey_url) as client:
        yield client


@pytest_asyncio.fixture
async def lexicon_client(navtalk_sandbox: Sandbox) -> AsyncIterator[LexiconClient]:
    """A client of Lexicon in `navtalk_sandbox`; its users are `user-0` to `user-3`."""
    async with LexiconClient(KEY, base_url=navtalk_sandbox.lexicon_url) as client:
        yield client


@pytest_asyncio.fixture
async def llamacloud_client(navtalk_sandbox: Sandbox) -> AsyncIterator[LlamaCloudClient]:
    """A client of LlamaCloud in `navtalk_sandbox`."""
    async with LlamaCloudClient(KEY, base_url=navtalk_sandbox.llamacloud_url) as client:
        yield client
