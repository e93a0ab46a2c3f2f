"""The README's web apps on their servers: in this event loop beside something else, or as a process."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from aiohttp import web

from benchmarks.peers.peer import KEY
from navtalk_async import Archive, NavTalkClient, sync

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
STARLETTE, AIOHTTP = "Starlette on uvicorn", "aiohttp.web"
APPS = {STARLETTE: "app_fastapi", AIOHTTP: "app_aiohttp"}
"""The modules of the README, by what they are made with."""
ARCHIVE = Path("chats/archive.db")
"""What the background worker of either keeps up to date, in the current folder."""
RUN_ON_A_FREE_PORT = {
    STARLETTE: "import uvicorn; uvicorn.run(app, port=0)",
    AIOHTTP: "web.run_app(app, host='127.0.0.1', port=0, handler_cancellation=True)",
}


def source(kind: str) -> str:
    """The text of the module."""
    return re.findall(rf"```python\n(# {APPS[kind]}\.py.*?)```", README, re.DOTALL)[0]


def environment(api: str) -> dict[str, str]:
    return {"NAVTALK_API_KEY": KEY, "NAVTALK_BASE_URL": api}


async def synced(api: str, place: Path = ARCHIVE) -> None:
    """Make the archive at *place*: with that, the worker of an app has next to nothing to do."""
    place.parent.mkdir(exist_ok=True)
    async with NavTalkClient(KEY, base_url=api) as client, Archive.open(place) as archive:
        await sync(client, archive)


@asynccontextmanager
async def running(kind: str, api: str) -> AsyncIterator[tuple[str, NavTalkClient]]:
    """The address of the app, which asks *api*, in this event loop; and its client."""
    os.environ.update(environment(api))
    module: dict[str, Any] = {"__name__": APPS[kind]}
    exec(compile(source(kind), APPS[kind], "exec"), module)
    app = module["app"]
    if kind == STARLETTE:
        async with _on_uvicorn(app) as port:
            yield f"http://127.0.0.1:{port}", app.state.nt
    else:
        async with _on_aiohttp(app) as port:
            yield f"http://127.0.0.1:{port}", app[module["NT"]]


@asynccontextmanager
async def _on_uvicorn(app: Any) -> AsyncIterator[int]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has nothing to wait for
        await asyncio.sleep(0.001)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def _on_aiohttp(app: web.Application) -> AsyncIterator[int]:
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextmanager
def process(kind: str, api: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of the app, which asks *api*, and the process in which it runs alone."""
    program = f"__name__ = {APPS[kind]!r}\n{source(kind)}\n{RUN_ON_A_FREE_PORT[kind]}"
    command = [sys.executable, "-uc", program]
    given = os.environ | environment(api)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=given
    ) as app:
        try:
            for line in app.stdout or []:
                if found := re.search(r"unning on (http://[\d.:]+)", line):
                    yield found[1], app
                    return
            raise RuntimeError(f"{kind} did not start.")
        finally:
            app.kill()
