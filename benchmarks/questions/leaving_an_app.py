"""How long does a web app go on asking the API for browsers that have left?

The apps are the README's; the API's answers are 50 ms away. One browser reads an export that the app streams;
or 20 do, beside 180 that ask for pages and transcripts without a pause. Then all end their connections, five
times.
"""

import asyncio
import statistics
import sys
import tempfile
from contextlib import chdir

from benchmarks import apps, server
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.questions.beside_an_app import HERE
from benchmarks.world import World

BUSY_SECONDS = 1.5
QUIET_SECONDS = 1.5
"""So long after they have left, it is looked when the latest request came."""
COMMAND = [sys.executable, "-m", "benchmarks.browsers", "--seconds=60"]
CASES = {
    f"{kind}, {exports + asking} at once": (kind, f"--exports={exports}", f"--at-once={asking}")
    for kind in apps.APPS
    for exports, asking in ((1, 0), (20, 180))
}


def world(_: Job) -> World:
    return World(sessions=5_000, latency_seconds=0.05)


async def requests_after_leaving(api: str, address: str, *who: str) -> tuple[float, int]:
    """The milliseconds from when the last browser left to the latest request, and the requests since shortly
    before.
    """
    quiet = await asyncio.to_thread(server.counts, api)
    browsers = await asyncio.create_subprocess_exec(
        *COMMAND, *who, address, stdout=asyncio.subprocess.PIPE, cwd=HERE
    )
    while (await asyncio.to_thread(server.counts, api))["asked"] == quiet["asked"]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.sleep(BUSY_SECONDS)
    before = await asyncio.to_thread(server.counts, api)
    browsers.terminate()
    left, _ = await browsers.communicate()
    await asyncio.sleep(QUIET_SECONDS)
    after = await asyncio.to_thread(server.counts, api)
    return max(0, after["latest"] - int(left)) / 1000, after["asked"] - before["asked"]


async def leave(job: Job) -> Figures:
    kind, *who = CASES[job.case]
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        # Else its worker's requests would be taken for the browsers'.
        await apps.synced(job.address)
        async with apps.running(kind, job.address) as (address, _):
            await asyncio.sleep(QUIET_SECONDS)
            found = [await requests_after_leaving(job.address, address, *who) for _ in range(job.size)]
    waits, requests = zip(*found, strict=True)
    return {"latest": max(waits), "typical": statistics.median(waits), "requests": max(requests)}


QUESTION = Question(
    contenders={OURS: Contender(work=leave)},
    cases=tuple(CASES),
    figures=(
        Figure(name="latest", unit="ms from leaving to the latest request, the most of five", form=".0f"),
        Figure(name="typical", unit="ms, the median of five", form=".0f"),
        Figure(name="requests", unit="requests in the last moments, the most of five"),
    ),
    bars=tuple(
        Bar(
            says=f"Milliseconds from browsers' leaving to the latest request for them ({case})",
            value=lambda of, case=case: of("latest", OURS, case),
            at_most=300,
        )
        for case in CASES
    ),
    world=world,
    rounds=3,
    size=5,
    quick_size=2,
)
