"""Answers as text: a table for the terminal, and one for the README."""

import statistics
from collections.abc import Iterator

from benchmarks.question import OURS, Figure
from benchmarks.rounds import Answer, Result, Verdict


def table(answer: Answer) -> str:
    """An answer as a terminal shows it."""
    heads = ["", *(head for figure in answer.figures for head in heads_of(figure))]
    below = ["", *("min - median - max" for _ in heads[1:])]
    rows = [[name_of(result), *cells(result, answer.figures)] for result in answer.results]
    widths = [max(map(len, column)) for column in zip(heads, below, *rows, strict=True)]
    lines = [
        f"{answer.question}: {answer.asks}",
        *(aligned(row, widths) for row in (heads, below, *rows)),
        *(f"FAILED   {failure}" for failure in answer.failures),
        *(verdict_text(verdict) for verdict in answer.verdicts),
        *(f"better than {OURS}: {line}" for line in answer.better),
        effort(answer),
    ]
    return "\n".join(line.rstrip() for line in lines)


def effort(answer: Answer) -> str:
    rounds = "1 round" if answer.rounds == 1 else f"{answer.rounds} rounds"
    return f"({rounds}, {answer.seconds:.0f} s{', quick: a look, no figures' if answer.quick else ''})"


def heads_of(figure: Figure) -> Iterator[str]:
    yield figure.unit
    if figure.against is not None:
        yield f"times {figure.against}"


def cells(result: Result, figures: list[Figure]) -> Iterator[str]:
    for figure in figures:
        yield spread(result.figures.get(figure.name, []), figure.form)
        if figure.against is not None:
            yield spread(result.times.get(figure.name, []), ".2f")


def verdict_text(verdict: Verdict) -> str:
    if not verdict.values:
        return f"NOT met  {verdict.says}: {verdict.limit}; could not be measured"
    came_to = spread(verdict.values, form_of(verdict.values))
    return f"{'met    ' if verdict.met else 'NOT met'}  {verdict.says}: {verdict.limit}; {came_to}"


def form_of(values: list[float]) -> str:
    """Four digits, or a whole number."""
    return ",.0f" if values and max(values) >= 1000 else ".4g"


def markdown(answers: list[Answer], taken_on: str) -> str:
    """Every bar, what each panel of the picture shows, and where others are better; for the README."""
    machine = taken_on.replace("\n", "; ")
    lines = [f"Taken on {machine}.", "", *bars_table(answers), "", *panels_table(answers)]
    better = [line for answer in answers for line in answer.better]
    failures = [f"{answer.question}: {failure}" for answer in answers for failure in answer.failures]
    return "\n".join([*lines, *listed("Where others do better", better), *listed("What failed", failures)])


def bars_table(answers: list[Answer]) -> Iterator[str]:
    yield "| what | must be | least, **median**, most |"
    yield "|---|---|---|"
    for answer in answers:
        for verdict in answer.verdicts:
            came_to = middle(verdict.values, form_of(verdict.values))
            yield f"| {verdict.says} | {verdict.limit} | {came_to}{'' if verdict.met else ' (not met)'} |"


def panels_table(answers: list[Answer]) -> Iterator[str]:
    yield "| what, in medians | ours | beside it |"
    yield "|---|---|---|"
    for answer in answers:
        for panel in answer.panels:
            [figure] = [figure for figure in answer.figures if figure.name == panel.figure]
            drawn = [
                result
                for result in answer.results
                if result.case == panel.case and panel.figure in result.figures
            ]
            ours = ", ".join(f"**{median_of(result, figure)}**" for result in drawn if result.ours)
            others = ", ".join(median_of(result, figure) for result in drawn if not result.ours)
            yield f"| {panel.title}: {figure.unit} | {ours} | {others} |"


def median_of(result: Result, figure: Figure) -> str:
    median = f"{statistics.median(result.figures[figure.name]):{figure.form}}"
    return median if result.contender == OURS else f"{result.contender} {median}"


def listed(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"{title}:", "")
        yield from (f"- {line}" for line in lines)


def name_of(result: Result) -> str:
    return ", ".join(filter(None, [result.contender, result.case]))


def spread(values: list[float], form: str) -> str:
    """The minimum, the median and the maximum; one figure if there is only one."""
    if len(values) < 2:
        return "".join(f"{value:{form}}" for value in values)
    return f"{min(values):{form}} - {statistics.median(values):{form}} - {max(values):{form}}"


def middle(values: list[float], form: str) -> str:
    if len(values) < 2:
        return "".join(f"**{value:{form}}**" for value in values) or "not measured"
    return f"{min(values):{form}}, **{statistics.median(values):{form}}**, {max(values):{form}}"


def aligned(row: list[str], widths: list[int]) -> str:
    first, *others = (
        f"{cell:{'<' if place == 0 else '>'}{width}}"
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "   ".join([first, *others])
