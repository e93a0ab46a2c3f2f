"""One contender's one run, in a process of its own: it warms up, does the job and prints what that cost."""

import argparse
import asyncio
import gc
import importlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

try:
    import uvloop
except ImportError:
    uvloop = None


class Meter:
    """What happens within its `with` counts; `units` says how much of it there was."""

    def __init__(self) -> None:
        self.units = 0
        self._cpu = self._wall = 0.0
        self._cpu_from = self._wall_from = 0.0

    def __enter__(self) -> Self:
        # What the warm-up left lying about is not this part's to sweep.
        gc.collect()
        self._cpu_from, self._wall_from = _cpu_seconds(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cpu += _cpu_seconds() - self._cpu_from
        self._wall += time.perf_counter() - self._wall_from

    def figures(self) -> dict[str, float]:
        """What was measured, as the parent process reads it."""
        return {
            "units": self.units,
            "cpu_seconds": self._cpu,
            "wall_seconds": self._wall,
            "peak_kib": _peak_kib(),
        }


def _peak_kib() -> int:
    # Linux counts the parent's memory at the time of the fork into ru_maxrss; VmHWM begins with the program.
    status = Path("/proc/self/status")
    if status.exists():
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(peak)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a contender is given: how much to do, where, on which variant, and the meter to do it under."""

    size: int
    address: str = ""
    variant: str = ""
    meter: Meter = field(default_factory=Meter)


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run *main* on the event *loop* of that name."""
    (uvloop if loop == "uvloop" else asyncio).run(main)


def keep_to_the_first_core() -> None:
    """Stay off the server's core, and let no run wander between cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def job_of(arguments: list[str]) -> tuple[str, str, Job]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contender", description=__doc__)
    parser.add_argument("question")
    parser.add_argument("name")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--address", default="")
    parser.add_argument("--variant", default="")
    given = parser.parse_args(arguments)
    return given.question, given.name, Job(size=given.size, address=given.address, variant=given.variant)


def main() -> None:
    question, name, job = job_of(sys.argv[1:])
    keep_to_the_first_core()
    work = importlib.import_module(f"benchmarks.{question}").CONTENDERS[name](job)
    if asyncio.iscoroutine(work):
        run_on(job.variant, work)
    print(json.dumps(job.meter.figures()))


if __name__ == "__main__":
    main()
