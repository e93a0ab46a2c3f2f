"""What each file of this folder has as its `opened`, and how long it takes to get everything that way."""

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
    """How much was brought home."""

    sessions: int
    messages: int


Walk = Callable[[str | None], Awaitable[Haul]]
"""Gets every session from that `startTime` on, each with all its messages."""

Opened = Callable[[str, int], AbstractAsyncContextManager[Walk]]
"""Given the address and how many requests may be under way at once."""

Call = Callable[[str], Awaitable[int]]
"""Asks once for the messages of the session of that id, retries included, and says how many there are."""

OpenedCalls = Callable[[str, float], AbstractAsyncContextManager[Call]]
"""Given the address and the seconds that a call may take."""

WALKERS = {
    "bare": "bare",
    OURS: "ours",
    "aiohttp + json": "aiohttp_json",
    "niquests": "niquests_gather",
    "requests + threads": "requests_threads",
    "httpx + pydantic": "httpx_pydantic",
    "dlt": "dlt_source",
}
"""Who does the whole job."""

CALLERS = {
    OURS: "our_calls",
    "aiohttp + tenacity": "tenacious_aiohttp",
    "openai SDK": "openai_sdk",
}
"""Who makes single calls."""


def peer(name: str) -> Opened:
    """The way of that *name*; nobody's libraries are imported for anybody else."""
    return import_module(f"benchmarks.peers.{WALKERS[name]}").opened


def calls(name: str) -> OpenedCalls:
    """The way of that *name* to make single calls."""
    return import_module(f"benchmarks.peers.{CALLERS[name]}").opened


async def whole_walk(opened: Opened, job: Job, world: World, *, at_once: int) -> Figures:
    """What it takes to get all there is, after a small job to warm up."""
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
    """Raise, unless all is there that should be."""
    if haul != (world.sessions, world.sessions * world.messages):
        raise AssertionError(f"{haul} of {world.sessions} sessions with {world.messages} messages each.")
