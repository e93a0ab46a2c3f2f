"""Requests to the sandbox's NavTalk without any of our code."""

import asyncio
import json

import aiohttp


def new_connections():
    """A session that never reuses a connection: aiohttp quietly asks again when a kept one breaks."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


async def get(box, path, *, key="any", **params):
    """The status and the JSON."""
    params = {"apikey": key, **params} if key is not None else params
    async with new_connections() as http, http.get(f"{box.navtalk_url}/{path}", params=params) as response:
        return response.status, json.loads(await response.read())


async def raw(box, path="sessions?apikey=k", **headers):
    """The head and the body of everything the server sends until it closes."""
    reader, writer = await asyncio.open_connection(box.host, box.port)
    lines = [f"GET /api/chat/{path} HTTP/1.1", "Host: x", "Connection: close"]
    writer.write("\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode())
    try:
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return head.decode(), body
