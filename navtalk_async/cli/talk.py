"""What is said to people, or to their programs, on stderr; stdout is for data alone."""

import json
import logging
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec

from navtalk_async.events import LEAST_UNMISTAKABLE, scrub

__all__ = ["Talk", "TalkHandler", "counted", "json_line", "visible", "visible_json"]

JOINERS = "\u200c\u200d"
"""Invisible, but emoji and half the scripts of India and Iran are spelt with them."""

NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

DOUBTFUL = re.compile(
    "[^\\x00-~\\xa0-\\xac\\xae-\\u0377\\u0400-\\u052f\\u2010-\\u2027\\u3000-\\u303f\\u3041-\\u3096\\u30a1-\\u30fa"
    "\\u4e00-\\u9fff\\uac00-\\ud7a3\\uff01-\\uff60]+"
)
"""All that encoded JSON may have to escape. Left out are ASCII, whose control characters it escapes already,
and, for speed, the letters of most texts."""

SURROGATE = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """*text* in one line that does nothing to a terminal: what cannot be seen is written as in Python.

    That goes for control characters, which can rewrite what stands on the screen, and for those that turn
    the direction of the text around.
    """
    return _escaped(text, _python_escape)


def visible_json(encoded: str) -> str:
    """*encoded* JSON for a terminal: the same values; what `visible` escapes is escaped as JSON does it."""
    return DOUBTFUL.sub(lambda run: _escaped(run.group(), _json_escape), encoded)


def json_line(value: Any) -> bytes:
    """*value* as JSON and a line end; U+FFFD stands for a byte of a path that is not UTF-8."""
    try:
        return msgspec.json.encode(value) + b"\n"
    except UnicodeEncodeError:
        lenient = json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return SURROGATE.sub("\ufffd", lenient + "\n").encode()


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(each if _is_shown(each) else escape(each) for each in text)


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or letter in JOINERS or unicodedata.category(letter) == "Zs"


def _python_escape(letter: str) -> str:
    return NAMED.get(letter) or letter.encode("unicode_escape").decode()


def _json_escape(letter: str) -> str:
    digits = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{digits[at : at + 4]}" for at in range(0, len(digits), 4))


def counted(count: int, one: str, more: str = "") -> str:
    """*count* of something, by its name for *one* and, where an s will not do, for *more*."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


class Talk:
    """What goes to stderr: sentences, or with *as_json* an object a line.

    A reader who has gone away is no reason to stop the work. *secrets* are never shown; nothing should
    hold them anyway, and this is the second lock.
    """

    def __init__(self, *, as_json: bool = False, secrets: Iterable[str] = ()) -> None:
        self._as_json = as_json
        self._secrets = list(secrets)

    def hide(self, secret: str) -> None:
        """Never show *secret* from now on."""
        # One as short as a word of ours is made up, and would be found all over what we say.
        if len(secret) >= LEAST_UNMISTAKABLE and secret not in self._secrets:
            self._secrets.append(secret)

    @property
    def is_terminal(self) -> bool:
        """Whether a person is looking."""
        return sys.stderr is not None and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """One paragraph."""
        if self._as_json:
            self.tell("note", text=self.scrubbed(text))
        else:
            self._write(f"navtalk: {visible(self.scrubbed(text))}\n")

    def fail(self, text: str, code: int, *, trace: str = "") -> None:
        """Say why the run ends with the exit *code*; *trace* is for our bugs only."""
        if self._as_json:
            facts = {"trace": self.scrubbed(trace)} if trace else {}
            self.tell("error", text=self.scrubbed(text), exit_code=int(code), **facts)
        else:
            lines = [*self.scrubbed(trace).splitlines(), f"navtalk: {self.scrubbed(text)}"]
            self._write("".join(f"{visible(each)}\n" for each in lines))

    def tell(self, event: str, **facts: Any) -> None:
        """One object, for programs."""
        line = json_line({"event": event, **facts}).decode()
        self._write(visible_json(line) if self.is_terminal else line)

    def scrubbed(self, text: str) -> str:
        """*text* without the secrets."""
        return scrub(text, self._secrets)

    def _write(self, text: str) -> None:
        # Our reader may have gone, or whoever started us may have closed it from the start.
        with suppress(OSError, AttributeError):
            sys.stderr.write(text)
            sys.stderr.flush()


class TalkHandler(logging.Handler):
    """Our log, as a part of the talk."""

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self._talk = talk

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        for line in self.format(record).splitlines():
            self._talk.say(f"{record.levelname.lower()}: {line}")
