"""A local chat record API that answers out of ready-made bytes, so that only the client costs anything.

It knows a `World`, runs in a process of its own and keeps to the last core.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from urllib.parse import parse_qs
from urllib.request import urlopen

import msgspec

from benchmarks import world as w
from benchmarks.limits import Bucket, Window
from benchmarks.loops import run_on
from benchmarks.world import World

PATIENCE_SECONDS = 20.0
SHORT = 7
DRIP_SECONDS = 0.1


@contextmanager
def running(world: World) -> Iterator[str]:
    """The address of a new server, which stops with the block."""
    command = [sys.executable, "-m", "benchmarks.server", msgspec.json.encode(world).decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            [port] = islice(process.stdout or [], 1)
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.kill()


def counts(address: str) -> dict[str, int]:
    """How many requests of the API were `asked`, and how many of them `refused`, so far; when the `latest`
    came, in microseconds of `time.monotonic`.
    """
    with urlopen(f"{address}/counts", timeout=PATIENCE_SECONDS) as answer:
        return msgspec.json.decode(answer.read(), type=dict[str, int])


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


REFUSED = http(b'{"code":429,"message":"Too Many Requests"}', "429 Too Many Requests")
REFUSED_FOR_A_SECOND = http(b'{"code":429}', "429 Too Many Requests", "Retry-After: 1")
REFUSED_FOR_A_MINUTE = http(b'{"code":429}', "429 Too Many Requests", "Retry-After: 60")
UNAVAILABLE = http(b'{"code":503}', "503 Service Unavailable")
MISSING = http(b'{"code":404}', "404 Not Found")
FAULTS = {"429": REFUSED_FOR_A_MINUTE, "503": UNAVAILABLE}


class Chats:
    """The answers of the server."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._starts = w.starts(world.sessions)
        self._sessions = [w.session_row(number, start) for number, start in enumerate(self._starts)]
        self._messages = [w.message_row(number) for number in range(world.messages)]
        self._pages: dict[tuple[int, int], bytes] = {}

    def answer(self, target: bytes) -> bytes:
        """The answer to *target*."""
        path, _, query = target.decode().partition("?")
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        if path == "/api/chat/messages":
            return self._messages_page(asked)
        if path == "/api/chat/sessions":
            return self._sessions_page(asked)
        number = int(path.rpartition("/")[2][:8], 16)
        return http(b'{"code":200,"message":"SUCCESS","data":%b}' % self._sessions[number])

    def _sessions_page(self, asked: dict[str, str]) -> bytes:
        first, end = 0, len(self._starts)
        if "startTime" in asked:
            first = bisect_left(self._starts, w.seconds_of(asked["startTime"]))
        if "endTime" in asked:
            end = bisect_right(self._starts, w.seconds_of(asked["endTime"]))
        first = int(asked.get("cursor", first))
        stop = min(end, first + int(asked.get("limit", "20")))
        return http(w.page(self._sessions[first:stop], self._cursor(first, stop, end)))

    def _messages_page(self, asked: dict[str, str]) -> bytes:
        digits = asked["sessionId"][:8]
        every = self._world.short_every
        most = SHORT if every and int(digits, 16) % every == every - 1 else w.MESSAGES_A_PAGE
        first = int(asked.get("cursor", "0"))
        stop = min(len(self._messages), first + min(most, int(asked.get("limit", "20"))))
        made = self._pages.get((first, stop))
        if made is None:
            cursor = self._cursor(first, stop, len(self._messages))
            made = self._pages[first, stop] = http(w.page(self._messages[first:stop], cursor))
        return made.replace(b"SSSSSSSS", digits.encode())

    def _cursor(self, first: int, stop: int, end: int) -> int | None:
        return stop if stop < end or (self._world.cursor == "always" and stop > first) else None


class Admission:
    """Which requests are accepted, and how long an answer takes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asked = self.refused = self.in_flight = self.latest = 0
        self.chats = Chats(world)
        counted = Bucket if world.rate_by == "bucket" else Window
        self._rate = counted(world.rate) if world.rate else None

    def refusal(self, now: float) -> bytes | None:
        """The refusal of a request that is one too many at *now*; None for a request that is accepted."""
        self.asked += 1
        self.latest = time.monotonic_ns() // 1000
        if self.world.at_once is not None and self.in_flight >= self.world.at_once:
            self.refused += 1
            return REFUSED
        if self._rate is not None and not self._rate.admits(now):
            self.refused += 1
            return REFUSED_FOR_A_SECOND
        return None

    def latency(self) -> float:
        """Seconds from a request to its answer, with as many in flight as there are."""
        bend = self.world.bends_at
        crowd = (self.in_flight / bend) ** 2 if bend else 0.0
        return self.world.latency_seconds * (1.0 + crowd)


class Connection(asyncio.Protocol):
    """Keep-alive, pipelining, GET without a body: all that a client of ours needs."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._unread = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # for TCP it is
        """Remember whom to answer."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every question that is complete."""
        *heads, self._unread = (self._unread + data).split(b"\r\n\r\n")
        for head in heads:
            self._take(head.split(b" ", 2)[1])

    def _take(self, target: bytes) -> None:
        admission = self._admission
        if not target.startswith(b"/api/chat/"):
            asked = {"asked": admission.asked, "refused": admission.refused, "latest": admission.latest}
            self._transport.write(http(json.dumps(asked).encode()) if target == b"/counts" else MISSING)
        elif admission.world.fault:
            admission.asked += 1
            self._fail(admission.world.fault)
        elif (refusal := admission.refusal(self._loop.time())) is not None:
            self._loop.call_later(admission.world.latency_seconds, self._write, refusal)
        elif admission.world.latency_seconds:
            admission.in_flight += 1
            self._loop.call_later(admission.latency(), self._answer_late, admission.chats.answer(target))
        else:
            self._transport.write(admission.chats.answer(target))

    def _answer_late(self, answer: bytes) -> None:
        self._admission.in_flight -= 1
        self._write(answer)

    def _write(self, answer: bytes) -> None:
        # Whoever asked may have left meanwhile.
        if not self._transport.is_closing():
            self._transport.write(answer)

    def _fail(self, fault: str) -> None:
        if fault == "reset":
            self._transport.abort()
        elif fault == "drip":
            self._transport.write(http(b" " * 1_000_000)[:200])
            self._drip()
        elif fault != "hang":
            self._transport.write(FAULTS[fault])

    def _drip(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b" ")
            self._loop.call_later(DRIP_SECONDS, self._drip)


def keep_to_the_last_core() -> None:
    """Stay off the core of the contenders, where there is another."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


async def serve(world: World) -> None:
    admission = Admission(world)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Connection, admission), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    keep_to_the_last_core()
    run_on("uvloop", serve(msgspec.json.decode(sys.argv[1], type=World)))


if __name__ == "__main__":
    main()
