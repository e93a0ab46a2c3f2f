"""Contenders in turn, A B A B, each in a process of its own, and what the rounds say.

The machine is shared and its speed changes by the minute, so a figure alone means little. What ran within
seconds of each other is compared: those ratios are worth reading, and how far they lie apart says how much to
believe them.
"""

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain

import msgspec

from benchmarks import server
from benchmarks.contender import command
from benchmarks.question import OURS, Bar, Contender, Figure, Figures, Job, Panel, Question, Round

RUN_SECONDS = 600

Entry = tuple[str, str]
"""A contender and a case."""


class RunFailed(Exception):
    """A contender failed, or did not do all of the work."""


class Result(msgspec.Struct, kw_only=True):
    """How one contender did in one case."""

    contender: str
    case: str
    ours: bool
    figures: dict[str, list[float]]
    """Each figure, round by round."""
    times: dict[str, list[float]] = {}
    """The same as multiples of what the figure's `against` had in the same round."""


class Verdict(msgspec.Struct, kw_only=True):
    """The result of a bar."""

    says: str
    limit: str
    values: list[float]
    """Round by round; empty where something in it could not be measured."""
    met: bool


class Answer(msgspec.Struct, kw_only=True):
    """A question and its results."""

    question: str
    asks: str
    figures: list[Figure]
    panels: list[Panel]
    rounds: int
    quick: bool
    seconds: float
    results: list[Result]
    verdicts: list[Verdict]
    failures: list[str]
    better: list[str]
    """Where somebody else does better than ours, and by how much."""


Run = Callable[[str, Question, str, Job], Figures]
"""Runs the job of a contender of the named question; raises `RunFailed` if it fails."""


def ask(
    name: str,
    asks: str,
    question: Question,
    *,
    rounds: int,
    quick: bool,
    tell: Callable[[str], None],
    run: Run | None = None,
) -> Answer:
    """Put every contender of *question* through every case, *rounds* times around.

    Each runs in a process of its own, unless *run* says otherwise.
    """
    began = time.monotonic()
    failures: dict[Entry, str] = {}
    measured = []
    for turn in range(rounds):
        tell(f"{name}, round {turn + 1} of {rounds}")
        measured.append(
            one_round(name, jobs(question, turn, quick=quick), question, failures, run or run_apart)
        )
    # What failed once has no figures: the rounds in which it went well would hide it.
    kept = [{entry: had for entry, had in each.items() if entry not in failures} for each in measured]
    results = list(results_of(kept, question))
    return Answer(
        question=name,
        asks=asks,
        figures=list(question.figures),
        panels=list(question.panels),
        rounds=rounds,
        quick=quick,
        seconds=round(time.monotonic() - began, 1),
        results=results,
        verdicts=[verdict(bar, kept) for bar in question.bars],
        failures=[f"{' '.join(filter(None, entry))}: {why}" for entry, why in failures.items()],
        better=list(better_than_ours(results, question.figures)),
    )


def one_round(
    name: str, work: Iterable[tuple[Entry, Job]], question: Question, failures: dict[Entry, str], run: Run
) -> dict[Entry, Figures]:
    """The figures of every contender that has not failed yet; one that fails now is added to *failures*."""
    figures = {}
    for (contender, case), job in work:
        if (contender, case) in failures:
            continue
        try:
            figures[contender, case] = run(name, question, contender, job)
        except RunFailed as failure:
            failures[contender, case] = str(failure)
    return figures


def jobs(question: Question, turn: int, *, quick: bool) -> Iterable[tuple[Entry, Job]]:
    """The contenders of this *turn*, each with its job."""
    size = question.quick_size if quick else question.size
    for case in question.cases:
        for name, contender in question.contenders.items():
            if takes_part(contender, case, turn, quick=quick):
                yield (name, case), Job(size=max(1, round(size * contender.share)), case=case)


def takes_part(contender: Contender, case: str, turn: int, *, quick: bool) -> bool:
    return (
        (contender.cases is None or case in contender.cases)
        and (turn == 0 or not contender.once)
        and (contender.in_quick or not quick)
    )


def run_apart(name: str, question: Question, contender: str, job: Job) -> Figures:
    """The figures of one run, on a fresh server if the question has one."""
    world = question.world(job) if question.world else None
    with server.running(world) if world else nullcontext("") as address:
        done = output_of(command(name, contender, replace(job, address=address)))
    return json.loads(done.stdout.splitlines()[-1])


def output_of(
    what: list[str], *, seconds: float = RUN_SECONDS, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The output of the command *what*; raises its own error message if it failed."""
    try:
        done = subprocess.run(
            what, capture_output=True, text=True, timeout=seconds, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"It had not ended after {seconds:g} s.") from None
    if done.returncode:
        raise RunFailed(last_line(done.stderr) or f"It ended with {done.returncode}.")
    return done


def last_line(text: str) -> str:
    return next(iter(text.strip().splitlines()[::-1]), "")


def results_of(measured: list[dict[Entry, Figures]], question: Question) -> Iterable[Result]:
    for contender, case in measured[0]:
        rounds = [each for each in measured if (contender, case) in each]
        mine = [each[contender, case] for each in rounds]
        yield Result(
            contender=contender,
            case=case,
            ours=contender == OURS or question.contenders[contender].ours,
            figures={
                name: [figures[name] for figures in mine if name in figures]
                for name in dict.fromkeys(chain(*mine))
            },
            times={
                figure.name: ratios(
                    mine, [each.get((figure.against, case), {}) for each in rounds], figure.name
                )
                for figure in question.figures
                if figure.against is not None
            },
        )


def ratios(mine: list[Figures], theirs: list[Figures], name: str) -> list[float]:
    """*mine* as a multiple of *theirs*, in every round in which both have the figure."""
    return [
        one[name] / other[name]
        for one, other in zip(mine, theirs, strict=True)
        if name in one and name in other
    ]


def verdict(bar: Bar, measured: list[dict[Entry, Figures]]) -> Verdict:
    values = []
    for figures in measured:
        try:
            values.append(bar.value(Round(figures)))
        except (KeyError, ValueError, ZeroDivisionError):
            continue
    met = bool(values) and bar.met_by(statistics.median(values))
    return Verdict(says=bar.says, limit=bar.limit, values=values, met=met)


def better_than_ours(results: list[Result], shown: Iterable[Figure]) -> Iterable[str]:
    """Every figure in which somebody, other than the yardstick, does better than ours in the same case."""
    ours = {result.case: result.figures for result in results if result.contender == OURS}
    for result in results:
        if result.contender == OURS or result.case not in ours:
            continue
        for figure in shown:
            if result.contender == figure.against:
                continue
            pairs = zip(
                result.figures.get(figure.name, []), ours[result.case].get(figure.name, []), strict=False
            )
            ratios = [theirs / mine for theirs, mine in pairs if mine]
            if ratios and is_better(figure, statistics.median(ratios)):
                who = " ".join(filter(None, [result.contender, result.case]))
                yield f"{who}: {statistics.median(ratios):.2f} times ours ({figure.unit})"


def is_better(figure: Figure, ratio: float) -> bool:
    return ratio < 0.995 if figure.better == "less" else ratio > 1.005
