"""Long output on a terminal goes through the user's pager, as that of git does."""

import os
import shlex
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from shutil import get_terminal_size, which
from typing import Any

from anyio import to_thread

from navtalk_async.cli import _output
from navtalk_async.cli._layout import cells_of
from navtalk_async.cli._output import is_terminal, json_line, visible_json
from navtalk_async.concurrency import shielded

DEFAULTS = {"LESS": "FRX", "LV": "-c"}
"""What lets pagers show colours, where the user has not said how they are to work."""


def pager_command() -> list[str]:
    """The words of the pager's command; empty where there is to be none."""
    if not is_terminal() or os.environ.get("TERM") == "dumb":
        return []
    try:
        words = shlex.split(os.environ.get("PAGER", "less"))
    except ValueError:
        return []
    return words if words and words != ["cat"] and which(words[0]) else []


class Pages:
    """Prints on stdout; what is longer than a terminal has lines, through the pager.

    A `BrokenPipeError` says that the user has left the pager.
    """

    def __init__(self) -> None:
        self._command = pager_command()
        self._size = get_terminal_size()
        self._held: list[str] = []
        self._lines = 0
        self._pager: subprocess.Popen[bytes] | None = None

    async def put(self, text: str) -> None:
        """Print *text*."""
        if self._pager is None and self._command:
            self._held.append(text)
            self._lines += sum(self._rows(line) for line in text.splitlines())
            if self._lines < self._size.lines:
                return
            await to_thread.run_sync(self._start)
            text = self._release()
        await _output.put(text, descriptor=self._descriptor)

    async def put_json(self, *values: Any) -> None:
        """Print *values* as JSON, one a line."""
        if self._command or self._pager:
            await self.put(visible_json(b"".join(map(json_line, values)).decode()))
        else:
            await _output.put_json(*values)

    async def close(self) -> None:
        """Print what is left, and wait until the user leaves the pager."""
        if self._pager is None:
            if text := self._release():
                await _output.put(text)
            return
        with suppress(BrokenPipeError):
            if self._pager.stdin is not None:
                self._pager.stdin.close()
        await to_thread.run_sync(self._pager.wait)

    def _release(self) -> str:
        held, self._held, self._command = self._held, [], []
        return "".join(held)

    @property
    def _descriptor(self) -> int | None:
        return self._pager.stdin.fileno() if self._pager and self._pager.stdin else None

    def _rows(self, line: str) -> int:
        return 1 + max(0, cells_of(line) - 1) // self._size.columns

    def _start(self) -> None:
        # One that cannot be started is none: then the text goes to the terminal itself.
        with suppress(OSError):
            self._pager = subprocess.Popen(  # noqa: S603 - the user chose it
                self._command, stdin=subprocess.PIPE, env={**DEFAULTS, **os.environ}
            )


@asynccontextmanager
async def paged() -> AsyncGenerator[Pages, None]:
    """What prints, until it is left; then the user has left the pager, if there was one."""
    pages = Pages()
    try:
        yield pages
    finally:
        await shielded(pages.close())
