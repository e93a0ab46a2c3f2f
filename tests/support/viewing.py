"""A viewer of an archive, and a client of it that has been let in."""

import re
from contextlib import asynccontextmanager
from html import unescape
from typing import NamedTuple

import aiohttp
from yarl import URL

from navtalk_async.archive import Archive
from navtalk_async.view.server import serve

LINK = re.compile(r'href="(/[^"]*)"')


class Answer(NamedTuple):
    status: int
    text: str
    headers: object

    @property
    def links(self):
        return [unescape(each) for each in LINK.findall(self.text)]


class Viewer:
    """What is served at *address*, which has the token."""

    def __init__(self, http, stranger, address):
        self._http, self._stranger, self.address = http, stranger, address
        self.root, _, query = address.partition("/?")
        self.entry = f"/?{query}"

    async def ask(self, path, method="GET", *, is_stranger=False, **headers):
        """The answer to a request of the browser that was let in, or of another."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        # Addresses as they stand: what is quoted in them is not to be tidied up.
        url = URL(self.root + path, encoded=True)
        http = self._stranger if is_stranger else self._http
        async with http.request(method, url, headers=named, allow_redirects=False) as answer:
            return Answer(answer.status, await answer.text(), answer.headers)

    async def enter(self):
        return await self.ask(self.entry)


@asynccontextmanager
async def viewer(place, *, enters=True, **options):
    """`async with viewer(place) as seen:` a `Viewer` of the archive at *place*."""
    async with (
        Archive.open(place, read_only=True) as archive,
        serve(archive, **{"title": "My chats", **options}) as address,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as stranger,
    ):
        seen = Viewer(http, stranger, address)
        if enters:
            assert (await seen.enter()).status == 200
        yield seen
