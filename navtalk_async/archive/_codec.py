"""How rows are written to a database, and read from it.

PostgreSQL's TEXT holds no NUL, which an API may send. A row's `raw` holds it, escaped as JSON has it. A text
for people, a title or what was said, holds U+FFFD instead; reading it here takes the NUL from `raw`. An id
with a NUL is held as a JSON string, in quotes; and so is one that begins with a quote. A status, role or type
may be a word or a number: what is held without quotes and reads as a number was one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import msgspec

from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript

SESSION_TEXTS = ("title", "user_id", "video_url")
MARK = "\N{REPLACEMENT CHARACTER}"
NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}").fullmatch


class Codec:
    """For a database that holds every text: it changes nothing."""

    def write_id(self, text: str) -> str:
        return text

    def read_id(self, held: str) -> str:
        return held

    def write_session(self, row: SessionRow) -> SessionRow:
        return row

    def read_session(self, held: SessionRow) -> SessionRow:
        return held

    def write_messages(self, rows: list[MessageRow]) -> list[MessageRow]:
        return rows

    def read_messages(self, held: list[MessageRow]) -> list[MessageRow]:
        return held

    def write_text(self, text: str) -> str:
        """A text for people."""
        return text

    def write_ids(self, ids: Iterable[str]) -> list[str]:
        return [self.write_id(each) for each in ids]

    def transcripts(
        self, sessions: Iterable[Sequence[Any]], messages: Iterable[Any]
    ) -> list[StoredTranscript]:
        """The transcripts of some rows of `SESSIONS`, with the rows of all their messages."""
        said = self.by_session(messages)
        return [
            # An older version's digest is another one.
            StoredTranscript(
                session, said.get(session.id, []), row_noted and noted, row_noted, bool(due_for_reread)
            )
            for *row, noted, row_noted, due_for_reread in sessions
            for session in [self.read_session(SessionRow(*row))]
        ]

    def by_session(self, rows: Iterable[Any]) -> dict[str, list[MessageRow]]:
        """The messages of each session; *rows* are ordered by session, and by position."""
        messages = self.read_messages([MessageRow(*row) for row in rows])
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

    def write_session(self, row: SessionRow) -> SessionRow:
        texts: dict[str, Any] = {
            name: self._write_text(getattr(row, name), row.raw) for name in SESSION_TEXTS
        }
        return row._replace(id=self.write_id(row.id), status=self._write_word(row.status), **texts)

    def read_session(self, held: SessionRow) -> SessionRow:
        texts: dict[str, Any] = {
            name: self._read_text(getattr(held, name), held.raw) for name in SESSION_TEXTS
        }
        return held._replace(id=self.read_id(held.id), status=self._read_word(held.status), **texts)

    def write_messages(self, rows: list[MessageRow]) -> list[MessageRow]:
        return self._translated(rows, self.write_id, self._write_word, self._write_text)

    def read_messages(self, held: list[MessageRow]) -> list[MessageRow]:
        return self._translated(held, self.read_id, self._read_word, self._read_text)

    @staticmethod
    def _translated(
        rows: list[MessageRow],
        id_of: Callable[[str], str],
        word: Callable[[str | int | None], str | int | None],
        text: Callable[[str | None, str], str | None],
    ) -> list[MessageRow]:
        return [
            MessageRow(
                project,
                id_of(name),
                id_of(session_id),
                position,
                word(role),
                word(kind),
                text(content, raw),
                created_at,
                raw,
            )
            for project, name, session_id, position, role, kind, content, created_at, raw in rows
        ]

    def _write_word(self, value: str | int | None) -> str | None:
        if value is None or isinstance(value, int):
            return None if value is None else str(value)
        return _quoted(value) if NUMBER(value) else self.write_id(value)

    def _read_word(self, held: str | int | None) -> str | int | None:
        if not isinstance(held, str):
            return None
        return int(held) if NUMBER(held) else self.read_id(held)

    def _write_text(self, text: str | None, _raw: str) -> str | None:
        return text and self.write_text(text)

    def _read_text(self, held: str | None, raw: str) -> str | None:
        if held is None or MARK not in held or "\\u0000" not in raw:
            return held
        texts = _texts(msgspec.json.decode(raw))
        return next((text for text in texts if self.write_text(text) == held), held)


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON *value*."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
