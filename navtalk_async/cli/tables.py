"""Tables for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from navtalk_async.cli.show import cell

__all__ = ["messages_table", "sessions_table"]

STYLES = {"active": "green", "failed": "red", "user": "cyan", "assistant": "magenta"}

ROOM_FOR_VIDEO = 120


def sessions_table(rows: Sequence[dict[str, Any]], *, header: bool) -> str:
    """*rows* of sessions as wide as the terminal; pages printed one below the other line up."""
    console = Console()
    with_video = console.width >= ROOM_FOR_VIDEO
    table = _table(header=header, expand=with_video)
    table.add_column("id", width=36, no_wrap=True)
    table.add_column("status", width=9, no_wrap=True)
    table.add_column("start (UTC)", width=19, no_wrap=True)
    table.add_column("end", width=8, no_wrap=True)
    if with_video:
        table.add_column("video", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        video = [_text(row["video_url"])] if with_video else []
        start, end = _moment(row["start_time"]), _moment(row["end_time"])
        # The hour says enough of an end on the same day; of another day, only the day fits.
        short_end = end[11:] if end[:10] == start[:10] else end[2:10]
        table.add_row(_text(row["id"]), _coloured(row["status"]), Text(start), Text(short_end), *video)
    return _printed(console, table)


def messages_table(rows: Sequence[dict[str, Any]], *, header: bool) -> str:
    """*rows* of messages as wide as the terminal."""
    table = _table(header=header, expand=True)
    table.add_column("#", width=4, justify="right")
    table.add_column("time (UTC)", width=19, no_wrap=True)
    table.add_column("role", width=9, no_wrap=True)
    table.add_column("content", overflow="fold", ratio=1)
    for row in rows:
        time, content = Text(_moment(row["created_at"])), _text(row["content"])
        table.add_row(str(row["position"]), time, _coloured(row["role"]), content)
    return _printed(Console(), table)


def _table(*, header: bool, expand: bool) -> Table:
    return Table(box=None, show_header=header, header_style="bold", pad_edge=False, expand=expand)


def _moment(text: str | None) -> str:
    return cell(text).replace("T", " ").removesuffix("Z")


def _text(value: Any, style: str = "") -> Text:
    # A cell that is a plain str would be read as rich's markup: `[red]`, `:smile:`.
    return Text(cell(value), style)


def _coloured(word: str | int | None) -> Text:
    return _text(word, STYLES.get(str(word), ""))


def _printed(console: Console, table: Table) -> str:
    with console.capture() as captured:
        console.print(table)
    return captured.get()
