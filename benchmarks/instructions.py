"""Instructions, counted by valgrind: slow, and repeatable to 2 % on the busiest machine.

A contender runs with two sizes. The difference belongs to the larger size alone: starting, importing
and warming up cancel out.
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

Count = tuple[int, float]
"""Instructions, and for how many units."""


def per_unit(smaller: Count, larger: Count) -> float:
    """The instructions of each further unit."""
    (less, fewer), (more, many) = smaller, larger
    return (more - less) / (many - fewer)


def count(question: str, contender: str, job: Job) -> Count:
    """The instructions of a run of *contender*, and its figure `units`."""
    if shutil.which("valgrind") is None:
        raise RunFailed("It needs valgrind.")
    run = [*VALGRIND, *command(question, contender, job)]
    # Hashes decide which dictionary slots collide: the same ones every time, or two runs differ by them.
    done = output_of(run, environment=os.environ | {"PYTHONHASHSEED": "0"})
    found = COUNTED.search(done.stderr)
    if found is None:
        raise RunFailed("valgrind counted nothing.")
    return int(found[1].replace(",", "")), json.loads(done.stdout)["units"]
