"""Does a worker grow, over 10,000 rounds?

Each round is a whole `sync` into SQLite, one behind the other, without the pauses between them: a week of
`--watch 60s`. Its memory and its handles are counted after a tenth of the rounds, and at the end.
"""

import asyncio
import gc
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.meter import Meter, peak_kib
from benchmarks.peers.peer import KEY
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Question
from benchmarks.world import World
from navtalk_async import NavTalkClient
from navtalk_async.ingest import RoundResult, Rounds

EARLY = 0.1
"""The share of the rounds after which a worker is warm."""


def world(_: Job) -> World:
    return World(sessions=100, messages=2)


class Looks:
    """The resources of the process after some rounds; after the last, the worker stops."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self.seen: dict[int, Figures] = {}

    def heard(self, result: RoundResult) -> None:
        """Look, if it is time to."""
        if result.error is not None:
            raise result.error
        if result.number in (int(self._rounds * EARLY), self._rounds):
            self.seen[result.number] = held()

    async def rest(self, _: float) -> None:
        """Take no time; or no more of it."""
        if self._rounds in self.seen:
            raise asyncio.CancelledError


def held() -> Figures:
    gc.collect()
    return {
        "memory": peak_kib() / 1024,
        "descriptors": float(len(list(Path("/proc/self/fd").iterdir()))),
        "tasks": float(len(asyncio.all_tasks())),
        "objects": float(len(gc.get_objects())),
    }


async def rounds(job: Job) -> Figures:
    looks = Looks(job.size)
    with TemporaryDirectory() as folder:
        async with NavTalkClient(KEY, base_url=job.address) as client:
            path = Path(folder) / "archive.db"
            async with Rounds(client, path, {}, every=60.0, rest=looks.rest) as results:
                with Meter() as meter, suppress(asyncio.CancelledError):
                    async for result in results:
                        looks.heard(result)
    early, late = looks.seen.values()
    grown = {name: late[name] / early[name] for name in late}
    return {"memory": late["memory"], "round": 1e3 * meter.wall_seconds / job.size} | {
        f"{name} grown": value for name, value in grown.items()
    }


GROWN = {
    "memory": ("Peak memory", 1.03),
    "descriptors": ("Descriptors", 1.0),
    "tasks": ("Tasks", 1.0),
    "objects": ("Python objects", 1.01),
}
"""What may grow, its name, and the most that it may grow by."""


def grown(name: str) -> Bar:
    what, at_most = GROWN[name]
    return Bar(
        says=f"{what} of a worker after all its rounds, times those after a tenth",
        value=lambda of: of(f"{name} grown", OURS),
        at_most=at_most,
    )


QUESTION = Question(
    contenders={OURS: Contender(work=rounds)},
    figures=(
        Figure(name="memory", unit="MiB at the peak", form=".1f"),
        Figure(name="round", unit="ms a round", form=".2f"),
        *(Figure(name=f"{name} grown", unit=f"times the {name}", form=".3f") for name in GROWN),
    ),
    bars=tuple(map(grown, GROWN)),
    world=world,
    rounds=1,
    size=10_000,
    quick_size=1_000,
)
