"""Instructions a unit, counted by valgrind: slow, and repeatable to 2 % on the busiest machine.

Every contender runs with two sizes. What the larger run took more belongs to its larger size alone: starting,
importing and warming up cancel out.
"""

import json
import os
import re
import shutil

from benchmarks.pairs import Answer, RunFailed, command, output_of, results, surroundings
from benchmarks.question import Question

# Counting is all that is asked of it: without simulated caches it is many times as fast.
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
COUNTED = re.compile(r"I\s+refs:\s+([\d,]+)")
RUN_SECONDS = 900


def ask(question: Question, *, smaller: int, larger: int) -> Answer:
    """The instructions of every contender on every variant; only what runs in the client's process counts."""
    if shutil.which("valgrind") is None:
        raise RunFailed("--instructions needs valgrind.")
    with surroundings(question) as address:
        costs = {
            (contender, variant): [each(question, contender, variant, address, (smaller, larger))]
            for variant in question.variants
            for contender in question.contenders
        }
    return Answer(
        question=question,
        what=f"instructions a {question.unit}",
        pairs=1,
        results=results(costs, question.contenders[0]),
    )


def each(question: Question, contender: str, variant: str, address: str, sizes: tuple[int, int]) -> float:
    counts = [count(command(question, contender, variant, address, size)) for size in sizes]
    (less, fewer), (more, larger) = counts
    return (more - less) / (larger - fewer)


def count(run: list[str]) -> tuple[int, int]:
    """The instructions and the units of one run."""
    # Hashes decide which dictionary slots collide: the same ones every time, or two runs differ by them.
    done = output_of([*VALGRIND, *run], seconds=RUN_SECONDS, environment=os.environ | {"PYTHONHASHSEED": "0"})
    found = COUNTED.search(done.stderr)
    if found is None:
        raise RunFailed(f"valgrind counted nothing:\n{done.stderr[-2000:]}")
    return int(found[1].replace(",", "")), json.loads(done.stdout)["units"]
