"""A server whose connections are the test's, and streams from it."""

import asyncio
from contextlib import asynccontextmanager, suppress

import pytest

from navtalk_async import Retry
from navtalk_async.dialects.answers import refused
from navtalk_async.errors import NavTalkError
from navtalk_async.models import KeyPlace, Request
from navtalk_async.wire.retry import CallOptions
from navtalk_async.wire.sender import Sender

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
BEARER = KeyPlace("header", "Authorization", "Bearer ")
PLACES = [KeyPlace("query", "apikey"), KeyPlace("header", "x-api-key"), BEARER]
POST = Request(path="/stream", method="POST", body=b'{"prompt":"?"}')
GET = Request(path="/stream")
HEAD = b"HTTP/1.1 200 So\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 So\r\n\r\n"
"""The head of an answer whose end is that of its connection."""


def chunked(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def refusal(status, body=b"no", *headers):
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Box:
    """A server whose connections are the test's: `await box.asked()` is the writer of the next one."""

    def __init__(self):
        self.heads = []
        self.bodies = []
        self.open = 0
        self.most_open = 0
        self.came = asyncio.Queue()
        self.serving = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        # Until every connection is ended: by the client, which therefore leaves none behind.
        await asyncio.gather(*self.serving)

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.bodies.append(await reader.readexactly(len(POST.body) if head.startswith("POST") else 0))
            self.came.put_nowait(writer)
            await reader.read()
        self.open -= 1
        writer.close()

    async def asked(self):
        return await self.came.get()


def refuse(_, response):
    raise refused(response)


def patient(**options):
    return CallOptions(**{"timeout": 30.0, "retry": QUICK} | options)


@asynccontextmanager
async def wired(url, key="key", place=BEARER, **options):
    wire = Sender(root=url, key=key, key_place=place, **options)
    try:
        yield wire
    finally:
        await wire.aclose()


async def entered(wire, box, request=POST, **options):
    """A stream that has begun, its first chunk to come, and the server's writer."""
    stream = wire.stream(request, refuse, patient(**options))
    entering = asyncio.create_task(stream.__aenter__())
    writer = await box.asked()
    writer.write(HEAD)
    return await entering, writer


async def collected(stream):
    """What came, and the error it ended with."""
    came = []
    try:
        async for chunk in stream:
            came.append(chunk)
    except NavTalkError as error:
        return b"".join(came), error
    return b"".join(came), None


async def failure(wire, request=POST, **options):
    with pytest.raises(NavTalkError) as caught:
        async with wire.stream(request, refuse, patient(**options)):
            pass
    return caught.value


async def begun(wire, request=POST, **options):
    async with wire.stream(request, refuse, patient(**options)) as chunks:
        return await collected(chunks)
