"""How rows are written to a database, and read from it.

PostgreSQL's TEXT holds no NUL, which an API may send. A row's `raw` holds it, escaped as JSON has it. A text
for people, a title or what was said, holds U+FFFD instead; reading it here takes the NUL from `raw`. An id
with a NUL is held as a JSON string, in quotes; and so is one that begins with a quote. A status, role or type
may be a word or a number: what is held without quotes and reads as a number was one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, TypeVar

import msgspec

from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript

R = TypeVar("R", SessionRow, MessageRow)

IDS = ("id", "session_id")
WORDS = ("status", "role", "type")
TEXTS = ("title", "user_id", "video_url", "content")
MARK = "\N{REPLACEMENT CHARACTER}"
NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}").fullmatch


class Codec:
    """For a database that holds every text: it changes nothing."""

    def write_id(self, text: str) -> str:
        return text

    def read_id(self, held: str) -> str:
        return held

    def write_text(self, text: str) -> str:
        """A text for people."""
        return text

    def write_rows(self, rows: list[R]) -> list[R]:
        return rows

    def read_rows(self, held: list[R]) -> list[R]:
        return held

    def write_ids(self, ids: Iterable[str]) -> list[str]:
        return [self.write_id(each) for each in ids]

    def transcripts(
        self, sessions: Sequence[Sequence[Any]], messages: Iterable[Any]
    ) -> list[StoredTranscript]:
        """The transcripts of some rows of `SESSIONS`, with the rows of all their messages."""
        said = self.by_session(messages)
        rows = self.read_rows([SessionRow(*row) for *row, _, _, _ in sessions])
        return [
            StoredTranscript(row, said.get(row.id, []), digest, row_digest, bool(due_for_reread))
            for row, (*_, digest, row_digest, due_for_reread) in zip(rows, sessions, strict=True)
        ]

    def by_session(self, rows: Iterable[Any]) -> dict[str, list[MessageRow]]:
        """The messages of each session; *rows* are ordered by session, and by position."""
        messages = self.read_rows([MessageRow(*row) for row in rows])
        return {
            session_id: list(group) for session_id, group in groupby(messages, key=lambda row: row.session_id)
        }


class PostgresCodec(Codec):
    def write_id(self, text: str) -> str:
        return _quoted(text) if text[:1] == '"' or "\0" in text else text

    def read_id(self, held: str) -> str:
        return msgspec.json.decode(held, type=str) if held[:1] == '"' else held

    def write_text(self, text: str) -> str:
        return text.replace("\0", MARK)

    def write_rows(self, rows: list[R]) -> list[R]:
        return _translated(rows, self.write_id, self._write_word, lambda text, _: self.write_text(text))

    def read_rows(self, held: list[R]) -> list[R]:
        return _translated(held, self.read_id, self._read_word, self._read_text)

    def _write_word(self, value: str | int) -> str:
        if isinstance(value, int):
            return str(value)
        return _quoted(value) if NUMBER(value) else self.write_id(value)

    def _read_word(self, held: str) -> str | int:
        return int(held) if NUMBER(held) else self.read_id(held)

    def _read_text(self, held: str, raw: str) -> str:
        if MARK not in held or "\\u0000" not in raw:
            return held
        texts = _texts(msgspec.json.decode(raw))
        return next((text for text in texts if self.write_text(text) == held), held)


def _translated(
    rows: list[R],
    id_of: Callable[[str], str],
    word_of: Callable[[Any], str | int],
    text_of: Callable[[str, str], str],
) -> list[R]:
    if not rows:
        return []
    ids, words, texts = ([name for name in names if name in rows[0]._fields] for names in (IDS, WORDS, TEXTS))
    translated = []
    for row in rows:
        new: dict[str, Any] = {name: id_of(getattr(row, name)) for name in ids}
        new |= {name: word_of(held) for name in words if (held := getattr(row, name)) is not None}
        new |= {name: text_of(held, row.raw) for name in texts if (held := getattr(row, name)) is not None}
        translated.append(row._replace(**new))
    return translated


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON *value*."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
