"""`python -m benchmarks`: ask the questions of this folder, and show their answers."""

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import msgspec

from benchmarks import picture, questions, report
from benchmarks.machine import Machine, this_machine
from benchmarks.rounds import Answer, ask


class Report(msgspec.Struct):
    """A whole run, as the JSON file has it."""

    machine: Machine
    answers: list[Answer]


def main() -> int:
    names = [found.name for found in pkgutil.iter_modules(questions.__path__)]
    given = options(names)
    if given.shown:
        done = joined(given.shown)
        print("\n\n".join([str(done.machine), *map(report.table, done.answers)]))
    else:
        done = Report(machine=this_machine(), answers=[])
        print(done.machine, flush=True)
        for name in given.questions or all_of(names, quick=given.quick):
            done.answers.append(answer_to(name, given))
            print("\n" + report.table(done.answers[-1]), flush=True)
    write(done, given)
    return 1 if any(answer.failures for answer in done.answers) else 0


def options(names: Iterable[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("questions", nargs="*", metavar="question", help=f"of {', '.join(names)}; all of them")
    add("--pairs", type=int, help="how many rounds; each question has its own number")
    add("--quick", action="store_true", help="less work, one round: a look, no figures")
    add("--json", type=Path, metavar="FILE", help="write everything there as well")
    add("--markdown", type=Path, metavar="FILE", help="write the tables for the README")
    add("--picture", type=Path, metavar="FILE", help="draw the answers, as SVG")
    add(
        "--from",
        dest="shown",
        type=Path,
        action="append",
        metavar="FILE",
        help="ask nothing, show what --json wrote; of several such files, the last that has an answer",
    )
    given = parser.parse_args()
    if unknown := set(given.questions) - set(names):
        parser.error(f"no such question: {', '.join(sorted(unknown))}")
    if given.pairs is not None and given.pairs < 1:
        parser.error("--pairs: the least is 1")
    return given


def joined(files: list[Path]) -> Report:
    """All answers of *files*, each question's from the last file that has it."""
    reports = [msgspec.json.decode(file.read_bytes(), type=Report) for file in files]
    answers = {answer.question: answer for report in reports for answer in report.answers}
    return Report(machine=reports[-1].machine, answers=[answers[name] for name in sorted(answers)])


def all_of(names: Iterable[str], *, quick: bool) -> list[str]:
    """The questions that are asked by default."""
    return [name for name in names if module_of(name).QUESTION.in_quick or not quick]


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.questions.{name}")


def answer_to(name: str, given: argparse.Namespace) -> Answer:
    module = module_of(name)
    asks = (module.__doc__ or "").partition("\n")[0]
    rounds = given.pairs or (1 if given.quick else module.QUESTION.rounds)
    return ask(name, asks, module.QUESTION, rounds=rounds, quick=given.quick, tell=tell)


def tell(what: str) -> None:
    """Say what is running, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}\r", end="", file=sys.stderr, flush=True)


def write(done: Report, given: argparse.Namespace) -> None:
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(done)) + b"\n")
    if given.markdown:
        given.markdown.write_text(report.markdown(done.answers, str(done.machine)) + "\n", encoding="utf-8")
    if given.picture:
        given.picture.write_text(picture.draw(done.answers), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
