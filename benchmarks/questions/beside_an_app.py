"""How long do 200 web requests at once take beside a bulk export in the app's own process, with `auto`?

The apps are the README's, with their background worker. 200 browsers in another process, or a few, ask them
without a pause, for pages of sessions and transcripts; the API's answers are 50 ms away, and more than 100
requests at once are refused. In turn, the app has nothing else to do; or it syncs everything into a new
archive and writes that as JSON Lines and CSV, over and over; or it only writes files.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import chdir
from itertools import count
from pathlib import Path

from benchmarks import apps
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.questions.lanes import Bulk, background
from benchmarks.world import World
from navtalk_async import Archive, NavTalkClient, export, sync

CASES = {
    f"{apps.STARLETTE}, 200 at once": (apps.STARLETTE, 200),
    f"{apps.AIOHTTP}, 200 at once": (apps.AIOHTTP, 200),
    f"{apps.AIOHTTP}, 5 at once": (apps.AIOHTTP, 5),
}
"""The app, and how many browsers ask it."""
SETTLE_SECONDS = 3.0
"""So long `auto` takes to learn."""
SESSIONS = 1_000
FORMATS = ["jsonl", "csv"]

Beside = Callable[[NavTalkClient, Bulk], Coroutine[None, None, None]]


def world(_: Job) -> World:
    return World(sessions=SESSIONS, latency_seconds=0.05, at_once=100)


async def whole_export(client: NavTalkClient, _: Bulk) -> None:
    """Sync and write files, each time from the beginning."""
    for number in count():
        async with Archive.open(f"export-{number}/archive.db") as archive:
            await sync(client, archive)
            await export(archive, f"export-{number}", formats=FORMATS)


async def only_files(_: NavTalkClient, bulk: Bulk) -> None:
    for number in count():
        async with Archive.open(apps.ARCHIVE, read_only=True) as archive:
            await export(archive, f"files-{number}", formats=FORMATS)
            bulk.done += SESSIONS


HERE = Path.cwd()


async def browsed(address: str, at_once: int, seconds: float) -> Figures:
    """What so many browsers say of the app."""
    command = [sys.executable, "-m", "benchmarks.browsers", address, f"--at-once={at_once}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        f"--seconds={seconds}",
        f"--settle={SETTLE_SECONDS}",
        stdout=asyncio.subprocess.PIPE,
        cwd=HERE,
    )
    answer, _ = await process.communicate()
    found = json.loads(answer)
    for failure in found.pop("failures"):
        print(failure, file=sys.stderr)
    return found


def beside(work: Beside | None) -> Work:
    """The app beside *work*; alone where there is none."""

    async def measure(job: Job) -> Figures:
        (kind, at_once), bulk, loop = CASES[job.case], Bulk(), asyncio.get_running_loop()
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            await apps.synced(job.address)
            async with (
                apps.running(kind, job.address) as (address, client),
                background(work(client, bulk) if work else None),
            ):
                began = loop.time()
                figures = await browsed(address, at_once, job.size)
                # Nearly each answer is that for a session.
                done = bulk.done or client.stats().lanes["bulk"].answers
                rate = done / (loop.time() - began)
        return figures | ({"bulk": rate} if work else {})

    return measure


ALONE, FILES = "app alone", "beside writing files"

QUESTION = Question(
    contenders={
        ALONE: Contender(work=beside(None)),
        OURS: Contender(work=beside(whole_export)),
        FILES: Contender(work=beside(only_files), ours=True),
    },
    cases=tuple(CASES),
    figures=(
        Figure(name="failed", unit="requests that failed"),
        Figure(name="asked", unit="requests meanwhile", better="more", against=ALONE),
        Figure(name="p50", unit="ms, median request", form=".1f", against=ALONE),
        Figure(name="p99", unit="ms, 99th percentile", form=".1f", against=ALONE),
        Figure(name="bulk", unit="sessions/s fetched or written meanwhile", better="more"),
    ),
    bars=tuple(
        bar
        for case in CASES
        for bar in (
            Bar(
                says=f"Web requests that fail beside an export ({case})",
                value=lambda of, case=case: sum(of("failed", each, case) for each in (OURS, FILES)),
                at_most=0,
            ),
            Bar(
                says=f"99th percentile of web requests beside an export, times that alone ({case})",
                value=lambda of, case=case: of("p99", OURS, case) / of("p99", ALONE, case),
                at_most=2.0,
            ),
            Bar(
                says=f"The same beside the writing of files alone ({case})",
                value=lambda of, case=case: of("p99", FILES, case) / of("p99", ALONE, case),
                at_most=2.0,
            ),
        )
    ),
    panels=tuple(Panel(title=f"Web requests: {case}", figure="p99", case=case) for case in CASES),
    world=world,
    rounds=3,
    size=8,
    quick_size=2,
)
