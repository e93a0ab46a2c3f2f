"""Does `concurrency="auto"` find the best concurrency for a server by itself?

Beside it every fixed setting: 1, 2, 4, ... 128 at once. The best of them differs from server to server: one
refuses the fifth request in flight, one the 65th, and one never refuses and grows slow instead (latency times
1 + (n/32)^2 with n in flight: the most goes through it at 32).
"""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

from msgspec.structs import replace

from benchmarks import server
from benchmarks.peers.peer import KEY
from benchmarks.question import Bar, Contender, Figure, Figures, Job, Panel, Question, Round, Work
from benchmarks.world import World, session_id
from navtalk_async import NavTalkClient
from navtalk_async.errors import NavTalkError
from navtalk_async.wire.gate import Concurrency

AUTO: Final = "auto"
FIXED = (1, 2, 4, 8, 16, 32, 64, 128)
QUICKLY = (4, 32, 64)
WORKERS = 200
SESSIONS = 1_000
LATENCY_SECONDS = 0.05
FOUR, SIXTY_FOUR, RISING = "4 at most", "64 at most", "rising latency"
CASES = (FOUR, SIXTY_FOUR, RISING)


def world(job: Job) -> World:
    plain = World(sessions=SESSIONS, latency_seconds=LATENCY_SECONDS)
    return {
        FOUR: replace(plain, at_once=4),
        SIXTY_FOUR: replace(plain, at_once=64),
        RISING: replace(plain, bends_at=32),
    }[job.case]


def throughput(concurrency: Concurrency, *, settle: float) -> Work:
    """Ask without end for *settle* times as long as is measured, and then measure."""

    async def work(job: Job) -> Figures:
        done = 0

        async def worker(client: NavTalkClient, numbers: Callable[[], int]) -> None:
            nonlocal done
            while True:
                try:
                    await client.messages.list(session_id(numbers() % SESSIONS))
                except NavTalkError:
                    continue
                done += 1

        async with NavTalkClient(KEY, base_url=job.address, concurrency=concurrency) as client:
            numbers = count().__next__
            workers = [asyncio.create_task(worker(client, numbers)) for _ in range(WORKERS)]
            await asyncio.sleep(settle * job.size)
            done_before, counts_before = done, await asyncio.to_thread(server.counts, job.address)
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(job.size)
            seconds = asyncio.get_running_loop().time() - began
            done_meanwhile, counts = done - done_before, await asyncio.to_thread(server.counts, job.address)
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        asked, refused = (counts[name] - counts_before[name] for name in ("asked", "refused"))
        return {"throughput": done_meanwhile / seconds, "refused": 100 * refused / max(1, asked)}

    return work


def share_of_best(of: Round, case: str) -> float:
    every = of.every("throughput", case)
    ours = every.pop(AUTO)
    return ours / max(every.values())


def as_good_as_the_best(case: str) -> Bar:
    return Bar(
        says=f"Throughput of `auto`, times the best fixed concurrency's: {case}",
        value=lambda of: share_of_best(of, case),
        at_least=0.9,
    )


QUESTION = Question(
    contenders={
        AUTO: Contender(work=throughput(AUTO, settle=2.5), ours=True),
        **{
            f"fixed {fixed}": Contender(work=throughput(fixed, settle=0.3), in_quick=fixed in QUICKLY)
            for fixed in FIXED
        },
    },
    cases=CASES,
    figures=(
        Figure(name="throughput", unit="answers a second", better="more"),
        Figure(name="refused", unit="% refused", form=".1f"),
    ),
    bars=(
        *map(as_good_as_the_best, CASES),
        Bar(
            says="Per cent of settled `auto`'s requests that are refused, on the worst of these servers",
            value=lambda of: max(of("refused", AUTO, case) for case in CASES),
            at_most=3.0,
        ),
    ),
    panels=(Panel(title="Latency that rises with the load", figure="throughput", case=RISING),),
    world=world,
    rounds=1,
    size=2,
    quick_size=1,
)
