"""stdout is for data, stderr for everything said to people; neither can do anything to a terminal."""

import json
import logging
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import click
import msgspec
from anyio import to_thread

from navtalk_async.errors import NavTalkError, counted
from navtalk_async.wire.secret import LEAST_UNMISTAKABLE, scrub

JOINERS = "\u200c\u200d"
"""Invisible, but emoji and half the scripts of India and Iran are spelt with them."""

DOUBTFUL = re.compile(
    "[^\\x00-~\\xa0-\\xac\\xae-\\u0377\\u0400-\\u052f\\u2010-\\u2027\\u3000-\\u303f\\u3041-\\u3096\\u30a1-\\u30fa"
    "\\u4e00-\\u9fff\\uac00-\\ud7a3\\uff01-\\uff60]+"
)
"""Everything that encoded JSON may have to escape. ASCII is left out, whose control characters JSON escapes
already, and, for speed, the letters of most texts."""

SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """*text* in one line that does nothing to a terminal: invisible characters are written as in Python.

    That covers control characters, which can rewrite the screen, and marks that change the direction of text.
    """
    return _escaped(text, _python_escape)


def visible_json(encoded: str) -> str:
    """*encoded* JSON for a terminal: the same values; what `visible` escapes is escaped as JSON does it."""
    return DOUBTFUL.sub(lambda run: _escaped(run.group(), _json_escape), encoded)


def json_line(value: Any) -> bytes:
    """*value* as JSON and a line end; U+FFFD replaces a byte of a path that is not UTF-8."""
    try:
        return msgspec.json.encode(value) + b"\n"
    except UnicodeEncodeError:
        lenient = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return SURROGATE.sub("\ufffd", lenient + "\n").encode()


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return text if text.isprintable() else "".join(each if _is_shown(each) else escape(each) for each in text)


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or letter in JOINERS or unicodedata.category(letter) == "Zs"


def _python_escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def _json_escape(letter: str) -> str:
    digits = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))


def size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def amount(sessions: int, messages: int) -> str:
    return f"{counted(sessions, 'session')} with {counted(messages, 'message')}"


def first_of(lines: Sequence[str], most: int, more: str = "more") -> list[str]:
    """The first of *lines*, and how many *more* there are."""
    rest = [f"{len(lines) - most:,} {more}; --json lists them all."] if len(lines) > most else []
    return [*lines[:most], *rest]


QUIET = "navtalk_async.quiet"
SECRETS = "navtalk_async.secrets"


def be_quiet(context: click.Context, _: click.Parameter, is_quiet: bool) -> None:  # noqa: FBT001
    """Have the reporters that the command makes write errors only."""
    context.meta[QUIET] = is_quiet


class Reporter:
    """What goes to stderr: sentences, or with *as_json* an object a line; *errors_as_json*: of errors only.

    A reader who has gone away does not stop the work. *secrets* are never shown; no text should hold them
    anyway, and this is the second lock.
    """

    def __init__(
        self, *, as_json: bool = False, errors_as_json: bool = False, secrets: Iterable[str] = ()
    ) -> None:
        self._as_json = as_json
        self._errors_as_json = as_json or errors_as_json
        context = click.get_current_context(silent=True)
        # Those of one command hide each other's.
        self._secrets: list[str] = [] if context is None else context.meta.setdefault(SECRETS, [])
        self._secrets.extend(secrets)
        self.is_quiet: bool = context is not None and context.meta.get(QUIET, False)

    def hide(self, secret: str) -> None:
        # One as short as a word of ours is made up, and would be found all over our sentences.
        if len(secret) >= LEAST_UNMISTAKABLE and secret not in self._secrets:
            self._secrets.append(secret)

    @property
    def is_terminal(self) -> bool:
        return sys.stderr is not None and sys.stderr.isatty()

    def note(self, text: str) -> None:
        if self._as_json:
            self.event("note", text=self.redacted(text))
        elif not self.is_quiet:
            self._write_all(f"navtalk: {visible(self.redacted(text))}\n")

    def fail(self, kind: str, message: str, next_step: str, code: int, *, trace: str = "") -> None:
        """Write why the run ends with the exit *code*; *trace* is for our own bugs."""
        message, next_step, trace = map(self.redacted, (message, next_step, trace))
        if self._errors_as_json:
            facts = {"trace": trace} if trace else {}
            self.event("error", kind=kind, message=message, next_step=next_step, exit_code=int(code), **facts)
        else:
            lines = [*trace.splitlines(), f"navtalk: {message} {next_step}".rstrip()]
            self._write_all("".join(f"{visible(each)}\n" for each in lines))

    def event(self, name: str, **facts: Any) -> None:
        if self.is_quiet and name != "error":
            return
        line = json_line({"event": name, **facts}).decode()
        self._write_all(visible_json(line) if self.is_terminal else line)

    def redacted(self, text: str) -> str:
        return scrub(text, self._secrets)

    def _write_all(self, text: str) -> None:
        # The reader may have gone, or stderr may have been closed from the start.
        with suppress(OSError, AttributeError):
            sys.stderr.write(text)
            sys.stderr.flush()


class LogHandler(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self._reporter.note(f"{record.levelname.lower()}: {line}")


class OutputFailed(NavTalkError):
    """stdout cannot be written."""

    next_step = "Free some space, or redirect the output elsewhere."


async def put(text: str, *, descriptor: int | None = None) -> None:
    """Print *text* on stdout, or to another *descriptor*; in a thread, so that signals are handled while a
    slow reader makes us wait.
    """
    data = text.encode("utf-8", "backslashreplace")
    await to_thread.run_sync(_write_all, data, descriptor, abandon_on_cancel=True)


async def put_lines(lines: Iterable[str]) -> None:
    await put("".join(f"{visible(each)}\n" for each in lines))


async def put_json(*values: Any) -> None:
    """Print *values* as JSON, one a line; made safe where stdout is a terminal."""
    await to_thread.run_sync(_write_json, values, abandon_on_cancel=True)


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def _write_json(values: Sequence[Any]) -> None:
    data = b"".join(map(json_line, values))
    _write_all(visible_json(data.decode()).encode() if is_terminal() else data)


def _write_all(data: bytes, descriptor: int | None = None) -> None:
    if descriptor is None and sys.stdout is None:
        raise OutputFailed("There is no stdout to print to.")
    # Past Python's buffer, whose lock a hanging write would keep.
    into: int = sys.stdout.fileno() if descriptor is None else descriptor
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(into, rest) :]
    except BrokenPipeError:
        raise
    except OSError as failure:
        raise OutputFailed(f"The output cannot be written: {failure.strerror}.") from None
