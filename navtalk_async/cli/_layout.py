"""Sessions, messages and conversations as text: cells between tabs for a pipe, tables for a terminal."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from shutil import get_terminal_size
from typing import Any

from navtalk_async.cli._output import is_terminal, visible

PLAIN_TYPES = (None, 0, "text", "user_input")

SESSION_COLUMNS = {
    "id": 36,
    "status": 9,
    "start_time": 19,
    "end_time": 8,
    "updated_at": 19,
    "title": 0,
    "video_url": 0,
}
MESSAGE_COLUMNS = {"position": 4, "created_at": 19, "role": 9, "content": 0}
"""The columns of tables on a terminal with their widths; 0 is what the others leave."""

IMPORTANCE = ("id", "content", "title", "updated_at", "status", "start_time", "end_time", "video_url")
"""Which columns stay where a terminal has no room for all; those that are not here always do."""

NEVER_CUT = ("id", "position")

TITLES = {
    "start_time": "start ({zone})",
    "end_time": "end",
    "updated_at": "updated ({zone})",
    "replaced_at": "replaced ({zone})",
    "video_url": "video",
    "position": "#",
    "created_at": "time ({zone})",
}

LEAST_ROOM = 20

STYLES = {"active": "green", "failed": "red", "user": "cyan", "assistant": "magenta"}

CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "cyan": 36, "magenta": 35}


def has_colours() -> bool:
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str | None) -> str:
    """*text* in a style of `CODES`, where the terminal has colours."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if style and text and has_colours() else text


def cells_of(text: str) -> int:
    """How many columns of a terminal *text* fills: an emoji or a letter of Chinese fills two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - only a terminal needs rich

    return cell_len(text)


def clipped(text: str, width: int) -> str:
    """*text* as wide as *width*: filled up, or cut, which an ellipsis then shows."""
    if text.isascii() and len(text) <= width:
        return text.ljust(width)
    from rich.cells import set_cell_size  # noqa: PLC0415 - see above

    is_whole = cells_of(text) <= width
    return set_cell_size(text, width) if is_whole else f"{set_cell_size(text, width - 1)}…"


def wrapped(text: str, width: int) -> list[str]:
    """*text* in lines of at most *width* columns, between words where that is possible."""
    from rich.cells import chop_cells  # noqa: PLC0415 - see above

    lines, line, used = list[str](), "", 0
    for number, word in enumerate(text.split(" ")):
        gap = number > 0
        for part in chop_cells(word, width) or [""]:
            size = cells_of(part)
            if used + gap + size > width:
                lines += [line] if line else []
                line, used = part, size
            else:
                line, used = f"{line}{' ' * gap}{part}", used + gap + size
            gap = False
    return [*lines, line]


def cell(value: Any) -> str:
    """*value* for a table: one line, and nothing that does something to the terminal."""
    return "" if value is None else visible(str(value).replace("\\", "\\\\"))


def tab_separated(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, header: bool) -> str:
    """*rows* as lines of cells between tabs; inside cells, tabs and line ends are written as in Python."""
    lines = ["\t".join(columns)] if header else []
    lines += ["\t".join(cell(row[name]) for name in columns) for row in rows]
    return "".join(f"{each}\n" for each in lines)


def details_text(fields: Mapping[str, Any]) -> str:
    cells = {cell(name): cell(value) for name, value in fields.items()}
    width = max(map(cells_of, cells))
    return "".join(f"{clipped(name, width)}  {value}".rstrip() + "\n" for name, value in cells.items())


def transcript_text(session: Mapping[str, Any], messages: Iterable[Mapping[str, Any]]) -> str:
    """A conversation to read: line ends of a message stay line ends, and its lines are indented."""
    parts = [details_text(session)]
    for message in messages:
        lines = [visible(each) for each in (message["content"] or "").replace("\r\n", "\n").split("\n")]
        kind = None if message["type"] in PLAIN_TYPES else message["type"]
        role, *others = map(cell, (message["role"], kind, message["created_at"]))
        heading = filter(None, (styled(role, STYLES.get(role, "bold")), *others))
        parts.append(f"\n{'  '.join(heading)}\n")
        parts += [f"    {each}".rstrip() + "\n" for each in lines]
    return "".join(parts)


class Table:
    """A table as wide as the terminal, of which parts that are printed one below the other line up."""

    def __init__(self, columns: Mapping[str, int], *, zone: str = "UTC") -> None:
        self._zone = zone
        self._widths = fitted(columns, get_terminal_size().columns)

    def text(self, rows: Iterable[Mapping[str, Any]], *, header: bool) -> str:
        cells = [{name: cell(_short(name, row)) for name in self._widths} for row in rows]
        for name in NEVER_CUT:
            if name in self._widths:
                self._widths[name] = max([self._widths[name], *(cells_of(row[name]) for row in cells)])
        lines = [line for row in cells for line in self._lines(row)]
        if header:
            titles = {name: TITLES.get(name, name).format(zone=self._zone) for name in self._widths}
            lines.insert(0, " ".join(styled(self._fit(name, text), "bold") for name, text in titles.items()))
        return "".join(f"{each.rstrip()}\n" for each in lines)

    def _lines(self, row: Mapping[str, str]) -> Iterator[str]:
        texts = {name: styled(self._fit(name, text), STYLES.get(text)) for name, text in row.items()}
        if "content" not in row:
            yield " ".join(texts.values())
            return
        width = self._widths["content"]
        first, *rest = wrapped(row["content"], width)
        # The content is the last column.
        yield " ".join([*[*texts.values()][:-1], first])
        indent = " " * (sum(self._widths.values()) - width + len(self._widths) - 1)
        yield from (f"{indent}{each}" for each in rest)

    def _fit(self, name: str, text: str) -> str:
        width = self._widths[name]
        return text.rjust(width) if name == "position" else clipped(text, width)


def fitted(columns: Mapping[str, int], room: int) -> dict[str, int]:
    """The width of each of *columns* that there is *room* for."""
    left, chosen = room + 1, set[str]()
    for name in sorted(columns, key=_rank):
        needed = (columns[name] or LEAST_ROOM) + 1
        if needed <= left or _rank(name) < IMPORTANCE.index("title"):
            chosen.add(name)
            left -= needed
    wide = [name for name in columns if name in chosen and not columns[name]]
    more = max(0, left) // len(wide) if wide else 0
    return {name: width or LEAST_ROOM + more for name, width in columns.items() if name in chosen}


def _rank(name: str) -> int:
    return IMPORTANCE.index(name) if name in IMPORTANCE else -1


def _short(name: str, row: Mapping[str, Any]) -> Any:
    if not name.endswith(("_time", "_at")):
        return row[name]
    text = (row[name] or "").replace("T", " ")[:19].removesuffix("Z")
    if name != "end_time":
        return text
    # The hour says enough of an end on the same day; of another day, only the day fits.
    return text[11:] if text[:10] == (row["start_time"] or "")[:10] else text[2:10]
