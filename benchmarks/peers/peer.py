"""The functions `opened` of this folder's files, and how long each takes to fetch everything."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import NamedTuple

from benchmarks import server
from benchmarks.meter import Meter, peak_kib
from benchmarks.question import OURS, Figures, Job
from benchmarks.world import LAST_DAY, World

KEY = "a-made-up-key"


class Haul(NamedTuple):
    """The number of rows that were fetched."""

    sessions: int
    messages: int


Walk = Callable[[str | None], Awaitable[Haul]]
"""Gets every session from that `startTime` on, each with all its messages."""

Opened = Callable[[str, int], AbstractAsyncContextManager[Walk]]
"""Takes the address and the most requests at once."""

Call = Callable[[str], Awaitable[int]]
"""Asks once for the messages of the session of that id, retries included, and says how many there are."""

OpenedCalls = Callable[[str, float], AbstractAsyncContextManager[Call]]
"""Takes the address and the seconds that a call may take."""

WALKERS = {
    "bare": "bare",
    OURS: "ours",
    "aiohttp + json": "aiohttp_json",
    "niquests": "niquests_gather",
    "requests + threads": "requests_threads",
    "httpx + pydantic": "httpx_pydantic",
    "dlt": "dlt_source",
}
"""The peers that do the whole job."""

CALLERS = {
    OURS: "our_calls",
    "aiohttp + tenacity": "tenacious_aiohttp",
    "openai SDK": "openai_sdk",
}
"""The peers that make single calls."""


def peer(name: str) -> Opened:
    """The peer of this *name*; the libraries of the others are not imported."""
    return import_module(f"benchmarks.peers.{WALKERS[name]}").opened


def calls(name: str) -> OpenedCalls:
    """The peer of this *name* that makes single calls."""
    return import_module(f"benchmarks.peers.{CALLERS[name]}").opened


async def whole_walk(opened: Opened, job: Job, world: World, *, at_once: int) -> Figures:
    """The cost of fetching everything, after a small job as a warm-up."""
    async with opened(job.address, at_once) as walk:
        await walk(LAST_DAY)
        before = server.counts(job.address)["asked"]
        with Meter() as meter:
            haul = await walk(None)
        requests = server.counts(job.address)["asked"] - before
    check(haul, world)
    return {
        "requests": requests,
        "cpu_seconds": meter.cpu_seconds,
        "wall_seconds": meter.wall_seconds,
        "peak_kib": peak_kib(),
    }


def check(haul: Haul, world: World) -> None:
    """Raise if a row is missing."""
    if haul != (world.sessions, world.sessions * world.messages):
        raise AssertionError(f"{haul} of {world.sessions} sessions with {world.messages} messages each.")
