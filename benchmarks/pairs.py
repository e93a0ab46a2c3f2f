"""Contenders in turn, A B A B, each in a process of its own, and what the pairs say.

The machine is shared and its speed changes by the minute, so a figure alone means little. The two halves of a
pair run within seconds of each other: their ratio is what is worth reading, and how far the ratios lie apart
says how much to believe it.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

from benchmarks import server
from benchmarks.question import Question

RUN_SECONDS = 300

FACTORS = {"cpu_seconds": (1e6, "µs CPU"), "wall_seconds": (1e6, "µs"), "peak_kib": (1.0, "KiB")}


class RunFailed(Exception):
    """A contender did not come to its end, or asked for something else than it should have."""


@dataclass(frozen=True)
class Spread:
    """The least, the middle and the most."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """The spread of *values*, at least one."""
        ordered = sorted(values)
        return cls(ordered[0], statistics.median(ordered), ordered[-1])


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one contender did on one variant."""

    contender: str
    variant: str
    each: Spread
    """What a unit cost."""
    of_first: Spread
    """How many times what the first contender's run beside it cost."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A question and what came of it."""

    question: Question
    what: str
    pairs: int
    results: list[Result]

    @property
    def within_bar(self) -> bool:
        """Whether every contender is, by its median."""
        return all(result.of_first.median <= self.question.bar for result in self.results)

    def as_json(self) -> dict[str, object]:
        """All of it, for a file."""
        return asdict(self) | {"within_bar": self.within_bar}


def ask(question: Question, *, pairs: int, size: int) -> Answer:
    """Run every contender of *question* on every variant, *pairs* times around."""
    costs: dict[tuple[str, str], list[float]] = {}
    factor, what = FACTORS[question.figure]
    with surroundings(question) as address:
        for _ in range(pairs):
            for variant in question.variants:
                for contender in question.contenders:
                    figures = run(question, contender, variant, address, size)
                    each = factor * figures[question.figure] / figures["units"]
                    costs.setdefault((contender, variant), []).append(each)
    return Answer(
        question=question,
        what=f"{what} a {question.unit}",
        pairs=pairs,
        results=results(costs, question.contenders[0]),
    )


def surroundings(question: Question) -> AbstractContextManager[str]:
    """The address of a server where *question* needs one, else an empty one."""
    return server.running() if question.served else nullcontext("")


def results(costs: dict[tuple[str, str], list[float]], first: str) -> list[Result]:
    """What each of *costs* is, alone and beside the *first* contender's in the same round."""
    return [
        Result(
            contender=contender,
            variant=variant,
            each=Spread.of(each),
            of_first=Spread.of(mine / plain for mine, plain in zip(each, costs[first, variant], strict=True)),
        )
        for (contender, variant), each in costs.items()
    ]


def run(question: Question, contender: str, variant: str, address: str, size: int) -> dict[str, float]:
    """The figures of one run, once the server agrees with it."""
    counted = question.served and question.unit == "request"
    before = server.served(address) if counted else 0
    figures = json.loads(output_of(command(question, contender, variant, address, size)).stdout)
    if counted:
        asked, units = server.served(address) - before, figures["units"] + question.warm_up_units
        if asked != units:
            raise RunFailed(f"{contender} says {units} requests, the server {asked}.")
    return figures


def command(question: Question, contender: str, variant: str, address: str, size: int) -> list[str]:
    return [
        *(sys.executable, "-m", "benchmarks.contender", question.name, contender),
        *(f"--size={size}", f"--address={address}", f"--variant={variant}"),
    ]


def output_of(
    command: list[str], *, seconds: float = RUN_SECONDS, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What *command* printed; its own complaint if it failed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{' '.join(command)} had not ended after {seconds:g} s.") from None
    if done.returncode:
        raise RunFailed(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done
