"""A local NavTalk API that answers out of ready-made bytes, so that only the client costs anything.

It has `PAGES` pages of sessions, one for each hour since `BEGIN`. A job that wants fewer asks from a later
`startTime` on: the last *n* pages are what `begin_of_last(n)` leaves.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs
from urllib.request import urlopen
from uuid import UUID

try:
    import uvloop
except ImportError:
    uvloop = None

PAGES = 500
SESSIONS_A_PAGE = 100
MESSAGES_A_SESSION = 10
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
SAYINGS = (
    "Is the museum open on Monday?",
    "It is closed on Mondays, and open from ten to six on every other day. Shall I book a tour for you?",
)
PATIENCE_SECONDS = 20.0


def begin_of_last(pages: int) -> str:
    """The `startTime` that leaves the last *pages* of the listing."""
    return f"{BEGIN + timedelta(hours=PAGES - pages):%Y-%m-%d %H:%M:%S}"


@contextmanager
def running() -> Iterator[str]:
    """The address of a server in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def served(address: str) -> int:
    """How many requests of the API the server has answered so far."""
    with urlopen(f"{address}/served", timeout=PATIENCE_SECONDS) as answer:
        return int(answer.read())


def answer(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def rows(items: list[dict[str, object]], cursor: str | None) -> bytes:
    page = {"code": 200, "message": "SUCCESS", "data": {"data": items, "nextCursor": cursor}}
    return answer(json.dumps(page, separators=(",", ":")).encode())


def sessions_page(number: int) -> bytes:
    begin = BEGIN + timedelta(hours=number)
    sessions = [
        {
            "id": str(UUID(int=number * SESSIONS_A_PAGE + row)),
            "status": 1,
            "startTime": f"{begin + timedelta(seconds=30 * row):%Y-%m-%d %H:%M:%S}",
            "endTime": f"{begin + timedelta(seconds=30 * row + 20):%Y-%m-%d %H:%M:%S}",
            "videoUrl": None,
        }
        for row in range(SESSIONS_A_PAGE)
    ]
    return rows(sessions, str(number + 1) if number + 1 < PAGES else None)


def messages_page() -> bytes:
    messages = [
        {
            "id": str(UUID(int=number)),
            "role": number % 2,
            "messageType": 0,
            "content": SAYINGS[number % 2],
            "createdAt": f"{BEGIN + timedelta(seconds=number):%Y-%m-%d %H:%M:%S}",
        }
        for number in range(MESSAGES_A_SESSION)
    ]
    return rows(messages, None)


class World:
    """What there is to be asked for, and how much of it was."""

    def __init__(self) -> None:
        self.served = 0
        self._messages = messages_page()
        self._sessions = [sessions_page(number) for number in range(PAGES)]

    def answer(self, target: bytes) -> bytes:
        """What the server says to *target*."""
        if target.startswith(b"/api/chat/messages?"):
            self.served += 1
            return self._messages
        if target.startswith(b"/api/chat/sessions?"):
            self.served += 1
            return self._sessions[page_asked_for(target)]
        if target == b"/served":
            return answer(b"%d" % self.served)
        return answer(b"{}", "404 Not Found")


def page_asked_for(target: bytes) -> int:
    asked = parse_qs(target.decode().partition("?")[2])
    if "cursor" in asked:
        return int(asked["cursor"][0])
    if "startTime" in asked:
        since = datetime.fromisoformat(asked["startTime"][0]).replace(tzinfo=UTC) - BEGIN
        return int(since.total_seconds()) // 3600
    return 0


class Connection(asyncio.Protocol):
    """Keep-alive, pipelining, GET without a body: all that a client of ours needs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember whom to answer."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every question that is complete."""
        *heads, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for head in heads:
            self._transport.write(self._world.answer(head.split(b" ", 2)[1]))


def keep_to_the_last_core() -> None:
    """Stay off the core of the contenders, where there is another."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


async def serve() -> None:
    world = World()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(world), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    keep_to_the_last_core()
    (uvloop or asyncio).run(serve())


if __name__ == "__main__":
    main()
