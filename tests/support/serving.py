"""Web apps on real servers in this event loop."""

import asyncio
from contextlib import asynccontextmanager

import uvicorn
from aiohttp import web


@asynccontextmanager
async def on_uvicorn(app):
    """The port of an ASGI *app*."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it has nothing to wait for
        await asyncio.sleep(0.001)
    [port] = [each.getsockname()[1] for one in server.servers for each in one.sockets]
    try:
        yield port
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def on_aiohttp(app):
    """The port of an *app* of aiohttp.web."""
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
