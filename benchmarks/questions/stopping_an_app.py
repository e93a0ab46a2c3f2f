"""Are 200 web requests answered that are in flight as the app's process gets SIGTERM, and how does it end?

The apps are the README's, each the only thing in its process; the API's answers are 0.2 s away.
"""

import asyncio
import signal
import sys
import tempfile
import time
from contextlib import chdir

import aiohttp

from benchmarks import apps
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.world import World, session_id

AT_ONCE = 200
PATIENCE_SECONDS = 60.0
SENT_SECONDS = 0.15
"""Until all have sent theirs; the first answer comes later."""
ENDS_BY_ITSELF = {apps.STARLETTE: -signal.SIGTERM, apps.AIOHTTP: 0}
"""What a process of each server ends with after SIGTERM: uvicorn raises it again when all is done."""


def world(_: Job) -> World:
    return World(sessions=AT_ONCE, latency_seconds=0.2)


async def stop(job: Job) -> Figures:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        await apps.synced(job.address)
        with apps.process(job.case, job.address) as (address, app):
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(address, connector=connector) as http:

                async def status(number: int) -> int:
                    path = f"/sessions/{session_id(number)}/messages" if number % 2 else "/sessions"
                    async with http.get(path) as answer:
                        await answer.read()
                        return answer.status

                # What waits to be accepted is not in flight: all have their connections before.
                await asyncio.gather(*map(status, range(AT_ONCE)))
                asking = [asyncio.create_task(status(number)) for number in range(AT_ONCE)]
                await asyncio.sleep(SENT_SECONDS)
                done = sum(task.done() for task in asking)
                app.send_signal(signal.SIGTERM)
                began = time.monotonic()
                found = await asyncio.gather(*asking, return_exceptions=True)
                code = await asyncio.to_thread(app.wait, PATIENCE_SECONDS)
    for each in found:
        if isinstance(each, BaseException):
            print(repr(each), file=sys.stderr)
    return {
        "in flight": AT_ONCE - done,
        "failed": sum(each != 200 for each in found),
        "seconds": time.monotonic() - began,
        "code": code,
    }


QUESTION = Question(
    contenders={OURS: Contender(work=stop)},
    cases=tuple(apps.APPS),
    figures=(
        Figure(name="in flight", unit="requests in flight at SIGTERM", better="more"),
        Figure(name="failed", unit="of 200 requests that were not answered"),
        Figure(name="seconds", unit="s from SIGTERM to the end of the process", form=".2f"),
        Figure(name="code", unit="the process's exit code"),
    ),
    bars=tuple(
        bar
        for case in apps.APPS
        for bar in (
            Bar(
                says=f"Of 200 web requests around SIGTERM, those that are not answered ({case})",
                value=lambda of, case=case: of("failed", OURS, case),
                at_most=0,
            ),
            Bar(
                says=f"Whether the process then ends by itself, with its exit code ({case})",
                value=lambda of, case=case: of("code", OURS, case) == ENDS_BY_ITSELF[case],
                at_least=1,
            ),
        )
    ),
    world=world,
    rounds=3,
)
