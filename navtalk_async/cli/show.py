"""What goes to stdout: JSON, or what people read."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from anyio import to_thread

from navtalk_async.cli.talk import json_line, visible, visible_json
from navtalk_async.errors import NavTalkError

__all__ = ["OutputFailed", "cell", "details_text", "put", "put_json", "tab_separated", "transcript_text"]


class OutputFailed(NavTalkError):
    """What we print cannot be written where it should go."""

    next_step = "Make room, or send it somewhere else."


async def put(text: str) -> None:
    """Print *text*; in a thread, so that a reader who is slow does not keep a signal from being heard."""
    await to_thread.run_sync(_write, text.encode("utf-8", "backslashreplace"), abandon_on_cancel=True)


async def put_json(*values: Any) -> None:
    """Print *values* as JSON, one a line; to a terminal, only what does nothing to it."""
    await to_thread.run_sync(_write_json, values, abandon_on_cancel=True)


def _write_json(values: Sequence[Any]) -> None:
    data = b"".join(map(json_line, values))
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    _write(visible_json(data.decode()).encode() if is_terminal else data)


def _write(data: bytes) -> None:
    if sys.stdout is None:
        raise OutputFailed("There is no stdout to print to.")
    # Past Python's buffer, whose lock a hanging write would keep.
    descriptor, rest = sys.stdout.fileno(), memoryview(data)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        raise
    except OSError as failure:
        raise OutputFailed(f"The output cannot be written: {failure.strerror}.") from None


PLAIN_TYPES = (None, 0, "text", "user_input")


def cell(value: Any) -> str:
    """*value* for a table: one line, and nothing that plays with the terminal."""
    return "" if value is None else visible(str(value).replace("\\", "\\\\"))


def tab_separated(columns: Sequence[str], rows: Sequence[dict[str, Any]], *, header: bool) -> str:
    """*rows* as lines of cells between tabs; inside cells, tabs and line ends are written as in Python."""
    lines = ["\t".join(columns)] if header else []
    lines += ["\t".join(cell(row[name]) for name in columns) for row in rows]
    return "".join(f"{each}\n" for each in lines)


def details_text(fields: dict[str, Any]) -> str:
    """*fields* one below the other."""
    cells = {cell(name): cell(value) for name, value in fields.items()}
    width = max(map(len, cells))
    return "".join(f"{name:<{width}}  {value}".rstrip() + "\n" for name, value in cells.items())


def transcript_text(session: dict[str, Any], messages: Sequence[dict[str, Any]]) -> str:
    """A conversation to read: line ends in what was said stay line ends, and are set in."""
    parts = [details_text(session)]
    for message in messages:
        said = [visible(each) for each in (message["content"] or "").replace("\r\n", "\n").split("\n")]
        parts.append(f"\n{'  '.join(filter(None, map(cell, heading(message))))}\n")
        parts += [f"    {each}".rstrip() + "\n" for each in said]
    return "".join(parts)


def heading(message: dict[str, Any]) -> list[Any]:
    """Who said something, what kind of thing it is where it is none like any other, and when."""
    kind = message["type"]
    return [message["role"], None if kind in PLAIN_TYPES else kind, message["created_at"]]
