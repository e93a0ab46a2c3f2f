"""The answers as a picture: one panel per figure, for light and dark themes."""

import statistics
from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from benchmarks.question import Panel
from benchmarks.rounds import Answer

WIDTH, MARGIN, COLUMNS = 880, 16, 2
ROW, HEAD, GAP = 20, 42, 16
LABEL, VALUE = 162, 56
"""Room in pixels for a contender's name, and for the figure behind its bar."""

STYLE = """
  text { font: 12px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #24292f }
  .title { font-weight: 600 } .hint { fill: #6e7781 } .name { text-anchor: end }
  .ours { font-weight: 600 } rect { fill: #afb8c1 } rect.ours { fill: #1f883d }
  line { stroke: #57606a; stroke-width: 1 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .hint { fill: #8d96a0 }
    rect { fill: #484f58 } rect.ours { fill: #3fb950 } line { stroke: #9198a1 }
  }
"""


class Row(NamedTuple):
    """A contender in a panel."""

    name: str
    kind: str
    """The class of its bar and its texts: ours stand out."""
    values: list[float]
    form: str


class Drawn(NamedTuple):
    """A panel with all that is in it."""

    title: str
    hint: str
    rows: list[Row]

    @property
    def height(self) -> int:
        """In pixels."""
        return HEAD + ROW * len(self.rows) + GAP


def draw(answers: Iterable[Answer]) -> str:
    """An SVG of every panel of *answers*; it follows the reader's light or dark mode."""
    panels = [panel for answer in answers for panel in panels_of(answer)]
    columns = in_columns(panels)
    height = MARGIN + max((sum(panel.height for panel in column) for column in columns), default=0)
    body = "\n".join(line for place, column in enumerate(columns) for line in column_of(place, column))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Benchmarks of navtalk-async and others">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )


def panels_of(answer: Answer) -> Iterator[Drawn]:
    for panel in answer.panels:
        rows = list(rows_of(answer, panel))
        [figure] = [figure for figure in answer.figures if figure.name == panel.figure]
        if rows:
            yield Drawn(panel.title, f"{figure.unit}; {figure.better} is better", rows)


def rows_of(answer: Answer, panel: Panel) -> Iterator[Row]:
    forms = {figure.name: figure.form for figure in answer.figures}
    for result in answer.results:
        values = result.figures.get(panel.figure, [])
        if result.case == panel.case and values:
            yield Row(result.contender, "ours" if result.ours else "other", values, forms[panel.figure])


def in_columns(panels: list[Drawn]) -> list[list[Drawn]]:
    """Every panel, in order, each in the shortest column."""
    columns: list[list[Drawn]] = [[] for _ in range(COLUMNS)]
    for panel in panels:
        min(columns, key=lambda column: sum(each.height for each in column)).append(panel)
    return columns


def column_of(place: int, panels: list[Drawn]) -> Iterator[str]:
    width = (WIDTH - MARGIN) / COLUMNS
    top = MARGIN
    for panel in panels:
        yield f'<g transform="translate({MARGIN + place * width:g},{top})">'
        yield from panel_lines(panel, width - MARGIN)
        yield "</g>"
        top += panel.height


def panel_lines(panel: Drawn, width: float) -> Iterator[str]:
    yield f'<text class="title" y="12">{escape(panel.title)}</text>'
    yield f'<text class="hint" y="28">{escape(panel.hint)}</text>'
    most = max(max(row.values) for row in panel.rows)
    scale = (width - LABEL - VALUE) / most if most > 0 else 0.0
    for number, row in enumerate(panel.rows):
        yield from row_lines(row, HEAD + ROW * number, scale)


def row_lines(row: Row, top: int, scale: float) -> Iterator[str]:
    least, middle, most = (scale * value for value in (min(row.values), median(row), max(row.values)))
    yield f'<text class="name {row.kind}" x="{LABEL - 8}" y="{top + 9}">{escape(row.name)}</text>'
    yield f'<rect class="{row.kind}" x="{LABEL}" y="{top - 2}" width="{middle:.1f}" height="14" rx="2"/>'
    if most > least:
        yield f'<line x1="{LABEL + least:.1f}" x2="{LABEL + most:.1f}" y1="{top + 5}" y2="{top + 5}"/>'
    text = f"{median(row):{row.form}}"
    yield f'<text class="{row.kind}" x="{LABEL + most + 6:.1f}" y="{top + 9}">{text}</text>'


def median(row: Row) -> float:
    return statistics.median(row.values)
