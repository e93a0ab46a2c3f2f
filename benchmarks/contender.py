"""One contender's one run, in a process of its own: it does the job and prints its figures."""

import argparse
import importlib
import inspect
import json
import os
import sys

from benchmarks.loops import run_on
from benchmarks.question import Job


def keep_to_the_first_core() -> None:
    """Stay off the server's core, and let no run wander between cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def command(question: str, contender: str, job: Job) -> list[str]:
    """What to run for *job* to be done."""
    return [
        *(sys.executable, "-m", "benchmarks.contender", question, contender),
        *(f"--size={job.size}", f"--case={job.case}", f"--address={job.address}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contender", description=__doc__)
    parser.add_argument("question")
    parser.add_argument("contender")
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--case", default="")
    parser.add_argument("--address", default="")
    given = parser.parse_args()
    keep_to_the_first_core()
    question = importlib.import_module(f"benchmarks.questions.{given.question}").QUESTION
    job = Job(size=given.size, case=given.case, address=given.address)
    figures = question.contenders[given.contender].work(job)
    if inspect.iscoroutine(figures):
        figures = run_on("uvloop", figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
