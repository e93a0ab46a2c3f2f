"""A local server with the pages of an archive, for one browser."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from navtalk_async.archive import Archive
from navtalk_async.errors import NavTalkError
from navtalk_async.formats.html.pages import assets
from navtalk_async.lenient_json import DECODE_ERRORS
from navtalk_async.view._guard import HEADERS, Guard, Refusal
from navtalk_async.view._reader import NoSuchPage, Reader, UrlQuery

__all__ = ["serve"]

Page: TypeAlias = Callable[[str, UrlQuery], Awaitable[bytes]]

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

LONGEST_LINE = 1 << 15
"""Bytes of an address: words of a search take up to nine each letter."""

GOODBYE_SECONDS = 1.0

LOG = logging.getLogger(__name__)
# A request that is none is no bug of ours.
LOG.addFilter(lambda each: not (each.exc_info and isinstance(each.exc_info[1], HttpProcessingError)))

UNKNOWN = Refusal(403, "Open the address that `navtalk view` has printed: it works once, in one browser.")
NOTHING = Refusal(404, "There is no page of this address.")

WELCOME = """<!doctype html>
<meta charset="utf-8"><title>Archive</title>
<link rel="icon" href="/assets/icon.svg"><meta http-equiv="refresh" content="0;url=/"><a href="/">Go on</a>
"""
"""Redirected from elsewhere, a browser would not send the cookie; from a page of ours, it does."""


@asynccontextmanager
async def serve(
    archive: Archive, *, title: str, project: str | None = None, port: int = 0
) -> AsyncGenerator[str, None]:
    """Serve the pages of *archive* on this machine until it is left; it is only read.

    Arguments:
        title: what pages call the archive.
        project: only this one of its projects.
        port: 0 for any that is free.

    Returns:
        The address to open, with a token that lets in the first browser that comes with it.

    Raises:
        OSError: the port cannot be used.
    """
    app = web.Application()
    runner = web.AppRunner(
        app,
        logger=LOG,
        access_log=None,
        shutdown_timeout=GOODBYE_SECONDS,
        max_line_size=LONGEST_LINE,
        handle_signals=False,
    )
    # The guard needs the port, which is known once there is a server.
    reader = Reader(archive, title, project)
    door = _Door(reader)
    app.router.add_route("*", "/{path:.*}", door.answer)
    app.on_response_prepare.append(_add_headers)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        number = runner.addresses[0][1]
        door.guard = Guard(number)
        # It takes seconds in a large archive, and its page stands first.
        await reader.prepare()
        yield f"http://127.0.0.1:{number}/?token={door.guard.token}"
    finally:
        await reader.close()
        await runner.cleanup()


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


class _Door:
    guard: Guard

    def __init__(self, reader: Reader) -> None:
        self._assets = assets()
        self._pages: dict[str, Page] = {
            "": reader.overview,
            "sessions": reader.sessions,
            "search": reader.search,
            "session": reader.session,
        }

    async def answer(self, request: web.Request) -> web.Response:
        """A page, a file that pages need, or a sentence about why there is none."""
        refusal = self.guard.refusal(request.method, request.headers)
        if refusal is not None or not request.raw_path.startswith("/"):
            return _sentence(refusal or NOTHING)
        if request.path == "/" and "token" in request.query:
            return self._let_in(request)
        if not self.guard.is_known(request.headers):
            return _sentence(UNKNOWN)
        folder, _, name = request.path.removeprefix("/").rpartition("/")
        if folder == "assets" and name in self._assets:
            kind = TYPES[name.rpartition(".")[2]]
            return web.Response(body=self._assets[name], content_type=kind, charset="utf-8")
        page = self._pages.get(name)
        if page is None or "/" in folder or (folder and not folder.startswith("p")):
            return _sentence(NOTHING)
        return await _made(page, folder, request.query)

    def _let_in(self, request: web.Request) -> web.Response:
        # Links are looked at by programs that show previews.
        cookie = self.guard.exchange(request.query["token"]) if request.method == "GET" else None
        if cookie is None and not self.guard.is_known(request.headers):
            return _sentence(UNKNOWN)
        response = web.Response(text=WELCOME, content_type="text/html")
        if cookie is not None:
            response.headers["Set-Cookie"] = cookie
        return response


async def _made(page: Page, key: str, asked: UrlQuery) -> web.Response:
    try:
        return web.Response(body=await page(key, asked), content_type="text/html", charset="utf-8")
    except NoSuchPage as failure:
        return _sentence(Refusal(404, str(failure)))
    except NavTalkError as failure:
        return _sentence(Refusal(500, str(failure)))
    except (*DECODE_ERRORS, TypeError):  # Damage may have made anything of a column.
        return _sentence(Refusal(500, "This is damaged in the archive: `navtalk verify` says more."))


def _sentence(refusal: Refusal) -> web.Response:
    headers = {"Allow": "GET, HEAD"} if refusal.status == 405 else {}
    return web.Response(status=refusal.status, text=f"{refusal.why}\n", headers=headers)
