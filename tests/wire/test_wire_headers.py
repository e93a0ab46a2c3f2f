"""Answers come through whatever a proxy adds to their headers."""

import pytest
from navtalk_clients import EMPTY, ONCE

from navtalk_async import NavTalkClient
from navtalk_async.errors import NotFound

LONG = {
    "a policy of 9 kB": ["Content-Security-Policy: " + "x" * 9_000],
    "a link of 60 kB": ["Link: " + "x" * 60_000],
    "950 lines": [f"X-Trace-{n}: y" for n in range(950)],
}


@pytest.mark.parametrize("lines", LONG.values(), ids=LONG)
async def test_long_and_many_headers_are_read(lines, scripted):
    async with scripted(EMPTY, 200, *lines) as box:
        async with NavTalkClient("key", base_url=box.url, retry=ONCE) as nt:
            assert await nt.sessions.list().all() == []
    async with scripted(b"{}", 404, *lines) as box:
        async with NavTalkClient("key", base_url=box.url, retry=ONCE) as nt:
            with pytest.raises(NotFound):
                await nt.sessions.list()
