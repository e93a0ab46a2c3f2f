"""An archive to look at, and the server that it came from."""

import pytest
from shell import navtalk

from navtalk_async.sandbox import Sandbox, World


@pytest.fixture
async def box():
    async with Sandbox(World(40, messages=3)) as box:
        yield box


@pytest.fixture
async def out(box, tmp_path):
    """The folder of an export."""
    assert (await navtalk("export", tmp_path / "out", box=box)).code == 0
    return tmp_path / "out"
