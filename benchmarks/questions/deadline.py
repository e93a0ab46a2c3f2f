"""How long can a call take that was given half a second?

The server hangs, drips a byte at a time, wants a minute's pause (429), is unavailable (503) or resets the
connection: to every request. Retries and pauses are part of the half second. A peer that has not come back
after two seconds is cut off there.
"""

import asyncio
import time

from benchmarks.peers.peer import CALLERS, Call, calls
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work
from benchmarks.world import World, session_id

TIMEOUT_SECONDS = 0.5
CUT_OFF_SECONDS = 2.0
CALLS = 20
CASES = ("hang", "drip", "429", "503", "reset")


def world(job: Job) -> World:
    return World(sessions=CALLS, fault=job.case)


def longest(name: str) -> Work:
    """The longest of twenty calls at once, and of twenty more after the client knows the server."""

    async def work(job: Job) -> Figures:
        async with calls(name)(job.address, TIMEOUT_SECONDS) as call:
            seconds = [await at_once(call) for _ in range(job.size)]
        return {"longest": max(seconds)}

    return work


async def at_once(call: Call) -> float:
    began = time.monotonic()
    tasks = [asyncio.create_task(how_late(call, session_id(number))) for number in range(CALLS)]
    # Not by a timeout around each: what swallows a cancellation would run on.
    done, late = await asyncio.wait(tasks, timeout=CUT_OFF_SECONDS)
    for task in late:
        task.cancel()
    return max([task.result() - began for task in done] + [CUT_OFF_SECONDS] * bool(late))


async def how_late(call: Call, session: str) -> float:
    """The seconds until the call raised an error, the only possible result."""
    try:
        await call(session)
    except Exception:  # noqa: BLE001 - how late it comes is all that is asked
        return time.monotonic()
    raise AssertionError("It was answered.")


QUESTION = Question(
    contenders={
        name: Contender(work=longest(name), share=1.0 if name == OURS else 0.5, in_quick=name == OURS)
        for name in CALLERS
    },
    cases=CASES,
    figures=(Figure(name="longest", unit="s, the longest call", form=".3f"),),
    bars=(
        Bar(
            says="The longest call with `timeout=0.5`, in seconds, whatever the server does",
            value=lambda of: max(of("longest", OURS, case) for case in CASES),
            at_most=0.55,
        ),
    ),
    panels=(
        Panel(
            title="A call given 0.5 s, to a server that drips (cut off at 2 s)", figure="longest", case="drip"
        ),
    ),
    world=world,
    rounds=1,
    size=2,
)
