"""Instructions a unit, counted by valgrind: slow, and repeatable to 2 % on the busiest machine.

A contender runs with two sizes. What the larger run took more belongs to its larger size alone: starting,
importing and warming up cancel out.
"""

import json
import os
import re
import shutil

from benchmarks.contender import command
from benchmarks.question import Job
from benchmarks.rounds import RunFailed, output_of

# Counting is all that is asked of it: without simulated caches it is many times as fast.
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
COUNTED = re.compile(r"I\s+refs:\s+([\d,]+)")


def per_unit(question: str, contender: str, smaller: Job, larger: Job) -> float:
    """What each further unit of *question* costs the *contender*'s process; its runs must say their `units`."""
    if shutil.which("valgrind") is None:
        raise RunFailed("It needs valgrind.")
    less, fewer = count(command(question, contender, smaller))
    more, many = count(command(question, contender, larger))
    return (more - less) / (many - fewer)


def count(run: list[str]) -> tuple[int, float]:
    """The instructions and the units of one run."""
    # Hashes decide which dictionary slots collide: the same ones every time, or two runs differ by them.
    done = output_of([*VALGRIND, *run], environment=os.environ | {"PYTHONHASHSEED": "0"})
    found = COUNTED.search(done.stderr)
    if found is None:
        raise RunFailed("valgrind counted nothing.")
    return int(found[1].replace(",", "")), json.loads(done.stdout)["units"]
