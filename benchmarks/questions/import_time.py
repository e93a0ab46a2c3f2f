"""How long does the import take?

CPU time beyond a bare Python's, the least of several fresh processes. Everything is compiled and the disk
warm, so that nothing else is measured.
"""

import subprocess
import sys
from resource import RUSAGE_CHILDREN

from benchmarks.meter import cpu_seconds
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Work

MODULES = {
    "aiohttp": "aiohttp",
    OURS: "navtalk_async",
    "httpx": "httpx",
    "requests": "requests",
    "niquests": "niquests",
    "openai SDK": "openai",
    "dlt": "dlt",
}
SLOW = ("openai SDK", "dlt")


def imported(module: str) -> Work:
    def work(job: Job) -> Figures:
        return {"ms": 1000 * (least(f"import {module}", job.size) - least("pass", job.size))}

    return work


def least(program: str, times: int) -> float:
    """The CPU seconds that Python takes to run *program*: the minimum of *times* runs."""
    return min(seconds(program) for _ in range(times))


def seconds(program: str) -> float:
    before = cpu_seconds(RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    return cpu_seconds(RUSAGE_CHILDREN) - before


QUESTION = Question(
    contenders={
        name: Contender(work=imported(module), in_quick=name not in SLOW) for name, module in MODULES.items()
    },
    figures=(Figure(name="ms", unit="ms of CPU", against="aiohttp"),),
    bars=(
        Bar(
            says="`import navtalk_async`, in ms beyond `import aiohttp`",
            value=lambda of: of("ms", OURS) - of("ms", "aiohttp"),
            at_most=40.0,
        ),
    ),
    panels=(Panel(title="Import, beyond a bare Python", figure="ms"),),
    rounds=1,
    size=7,
    quick_size=4,
)
