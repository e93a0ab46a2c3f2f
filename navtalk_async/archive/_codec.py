"""How rows are written to a database, and read from it."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any, TypeVar

from navtalk_async.archive.rows import (
    MessageRow,
    SessionRow,
    StoredTranscript,
    TextRow,
    new_message_row,
    new_session_row,
    new_text_row,
)
from navtalk_async.archive.sqlite_file import in_sqlite

R = TypeVar("R", SessionRow, MessageRow)

WIDTH = len(SessionRow._fields)


class Codec:
    """That of a database which holds every text as it is."""

    def in_own_words(self, statement: str) -> str:
        """*statement* of which words differ from database to database, as `schema` has them."""
        return in_sqlite(statement)

    def write_id(self, text: str) -> str:
        return text

    def read_id(self, held: str) -> str:
        return held

    def texts(self, rows: Iterable[Any]) -> Iterable[TextRow]:
        """The rows of `TEXTS`."""
        return map(new_text_row, rows)

    def write_text(self, text: str) -> str:
        """A text for people."""
        return text

    def write_word(self, value: str | int) -> str | int:
        """A status, role or type."""
        return value

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
        rows = self.sessions(sessions)
        return [
            StoredTranscript(row, said.get(row.id, []), digest, row_digest, bool(due_for_reread))
            for row, (digest, row_digest, due_for_reread, *_) in zip(
                rows, [each[WIDTH:] for each in sessions], strict=True
            )
        ]

    def times(
        self, sessions: Sequence[Sequence[Any]], messages: Iterable[Any]
    ) -> list[tuple[SessionRow, list[tuple[Any, Any]]]]:
        """Some rows of `SESSIONS`, each with the `MESSAGE_TIMES` of its messages."""
        said = {each: [row[1:] for row in group] for each, group in groupby(messages, key=itemgetter(0))}
        rows = self.read_rows([new_session_row(each[:WIDTH]) for each in sessions])
        return [(row, said.get(held[1], [])) for row, held in zip(rows, sessions, strict=True)]

    def counted(self, sessions: Sequence[Sequence[Any]]) -> list[tuple[SessionRow, int | None]]:
        """Some rows of sessions, each with a number behind it."""
        rows = self.read_rows([new_session_row(each[:WIDTH]) for each in sessions])
        return [(row, held[WIDTH]) for row, held in zip(rows, sessions, strict=True)]

    def sessions(self, rows: Iterable[Sequence[Any]]) -> list[SessionRow]:
        """Those of some rows of `SESSIONS`."""
        return self.read_rows([new_session_row(each[:WIDTH]) for each in rows])

    def texts_by_session(self, rows: Iterable[Sequence[Any]]) -> dict[str, list[TextRow]]:
        """The texts of each session; *rows* are ordered by session, and by position."""
        return {each: list(group) for each, group in groupby(self.texts(rows), key=itemgetter(0))}

    def by_session(self, rows: Iterable[Any]) -> dict[str, list[MessageRow]]:
        """The messages of each session; *rows* are ordered by session, and by position."""
        messages = self.read_rows(list(map(new_message_row, rows)))
        return {each: list(group) for each, group in groupby(messages, key=attrgetter("session_id"))}
