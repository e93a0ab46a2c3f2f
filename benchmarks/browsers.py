"""Many browsers at once, in a process of their own: each asks a web app again as soon as it has its answer.

Half of what they ask for is a page of sessions, half a transcript. It prints what came of it; or, after
SIGTERM, when the last of them left, in microseconds of `time.monotonic`.
"""

import argparse
import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import count

import aiohttp

from benchmarks.loops import run_on
from benchmarks.meter import percentile
from benchmarks.server import keep_to_the_last_core
from benchmarks.world import session_id

PATIENCE_SECONDS = 30.0
CONNECTIONS = 4096
SESSIONS = 500
"""They ask for so many transcripts in turn."""


class Asked:
    """What came of the requests."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []


async def browse(
    http: aiohttp.ClientSession, asked: Asked, numbers: Iterator[int], since: float, until: float
) -> None:
    """Ask one thing after the other; how long it takes counts from *since* on."""
    loop = asyncio.get_running_loop()
    while (began := loop.time()) < until:
        number = next(numbers)
        path = f"/sessions/{session_id(number % SESSIONS)}/messages" if number % 2 else "/sessions"
        try:
            async with http.get(path) as answer:
                body = await answer.read()
                if answer.status != 200 or not body or b'{"error"' in body:
                    asked.failures.append(f"{path}: {answer.status} {body[:80]!r}")
        except (aiohttp.ClientError, TimeoutError) as error:
            asked.failures.append(f"{path}: {error!r}")
        if began >= since:
            asked.seconds.append(loop.time() - began)


async def export(http: aiohttp.ClientSession) -> None:
    """Read an export that the app streams, until it or this process ends."""
    async with http.get("/export") as answer:
        async for _ in answer.content.iter_any():
            pass


def leave(*_: object) -> None:
    """End every connection at once, print when, and end."""
    os.closerange(3, CONNECTIONS)
    print(time.monotonic_ns() // 1000, flush=True)
    os._exit(0)


async def main(given: argparse.Namespace) -> dict[str, object]:
    asked, numbers = Asked(), count()
    since = asyncio.get_running_loop().time() + given.settle
    connector = aiohttp.TCPConnector(limit=0)
    patience = aiohttp.ClientTimeout(total=None if given.exports else PATIENCE_SECONDS)
    async with aiohttp.ClientSession(given.address, connector=connector, timeout=patience) as http:
        asking = [browse(http, asked, numbers, since, since + given.seconds) for _ in range(given.at_once)]
        await asyncio.gather(*asking, *(export(http) for _ in range(given.exports)))
    return {
        "asked": len(asked.seconds),
        "failed": len(asked.failures),
        "failures": asked.failures[:3],
        "p50": 1000 * percentile(asked.seconds, 0.5),
        "p99": 1000 * percentile(asked.seconds, 0.99),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browsers", description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--settle", type=float, default=0.0, help="seconds before, which do not count")
    parser.add_argument("--exports", type=int, default=0, help="so many more read an export")
    signal.signal(signal.SIGTERM, leave)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))  # else it is that of the app that it asks
    keep_to_the_last_core()
    print(json.dumps(run_on("uvloop", main(parser.parse_args()))))
