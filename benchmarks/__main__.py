"""`python -m benchmarks`: ask the questions of this folder, and print what comes of them."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks import instructions, pairs
from benchmarks.machine import machine
from benchmarks.pairs import Answer, RunFailed, Spread
from benchmarks.question import Question, all_questions

PAIRS, QUICK_PAIRS = 9, 3


def main() -> int:
    questions = all_questions()
    given = options(questions)
    here = machine()
    show_machine(here)
    answers = []
    for name in given.questions or questions:
        try:
            answers.append(answer(questions[name], given))
        except RunFailed as failure:
            print(f"{name}: {failure}", file=sys.stderr)
            return 1
        show(answers[-1])
    if given.json:
        report = {"machine": here, "answers": [answer.as_json() for answer in answers]}
        given.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def options(names: Iterable[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "questions", nargs="*", metavar="question", help=f"of {', '.join(names)}; all of them"
    )
    parser.add_argument("--pairs", type=int, help=f"how often each contender runs ({PAIRS})")
    parser.add_argument("--quick", action="store_true", help="less work and fewer pairs: a look, no figures")
    parser.add_argument(
        "--instructions", action="store_true", help="count instructions with valgrind instead"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as well")
    given = parser.parse_args()
    if unknown := set(given.questions) - set(names):
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    if given.pairs is not None and given.pairs < 1:
        parser.error("--pairs: the least is 1")
    return given


def answer(question: Question, given: argparse.Namespace) -> Answer:
    if given.instructions:
        return instructions.ask(question, smaller=question.quick_size // 2, larger=question.quick_size)
    if given.quick:
        return pairs.ask(question, pairs=given.pairs or QUICK_PAIRS, size=question.quick_size)
    return pairs.ask(question, pairs=given.pairs or PAIRS, size=question.size)


def show_machine(here: dict[str, object]) -> None:
    libraries = ", ".join(f"{name} {version}" for name, version in here["libraries"].items())
    print(f"{here['cpu']}, {here['cores']} cores, {here['system']}, {here['python']}\n{libraries}")


def show(answer: Answer) -> None:
    first = answer.question.contenders[0]
    print(f"\n{answer.question.name}: {answer.question.asks}")
    print(f"{'':24}{answer.what:>28}{'times ' + first:>24}")
    print(f"{'':24}{'min - median - max':>28}{'min - median - max':>24}")
    for result in answer.results:
        name = f"{result.contender} {result.variant}".strip()
        print(f"{name:24}{spread(result.each, '.0f'):>28}{spread(result.of_first, '.2f'):>24}")
    verdict = "met" if answer.within_bar else "NOT met"
    print(
        f"The bar, {answer.question.bar} times {first}, is {verdict} (pairs: {answer.pairs}; by the median)."
    )


def spread(values: Spread, form: str) -> str:
    return f"{values.least:{form}} - {values.median:{form}} - {values.most:{form}}"


if __name__ == "__main__":
    sys.exit(main())
