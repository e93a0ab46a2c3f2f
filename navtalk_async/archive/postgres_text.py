"""What PostgreSQL's TEXT cannot hold, and how it is held all the same.

TEXT holds no NUL, which an API may send. A row's `raw` holds it, escaped as JSON has it. What is meant to be
read, a title or what was said, holds U+FFFD instead, and is told from `raw` when it is read here. An id with
a NUL is held as a JSON string, in quotes; and so is one that begins with a quote. A status, role or type may
be a word or a number: what is held without quotes and reads as a number was one.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from navtalk_async.archive.rows import MessageRow, SessionRow

__all__ = [
    "plain",
    "read_id",
    "read_messages",
    "read_session",
    "written_id",
    "written_messages",
    "written_session",
    "written_word",
]

MARK = "\N{REPLACEMENT CHARACTER}"
NUMBER = re.compile(r"0|-?[1-9][0-9]{0,18}").fullmatch


def written_id(text: str) -> str:
    """*text* as it is held; no two are held alike."""
    return _quoted(text) if text[:1] == '"' or "\0" in text else text


def read_id(held: str) -> str:
    """The text that is *held*."""
    return msgspec.json.decode(held, type=str) if held[:1] == '"' else held


def written_word(value: str | int | None) -> str | None:
    """A word or a number as it is held."""
    if value is None:
        return None
    if isinstance(value, int):
        return str(value)
    return _quoted(value) if NUMBER(value) else written_id(value)


def read_word(held: str | None) -> str | int | None:
    """The word or number that is *held*."""
    if held is None:
        return None
    return int(held) if NUMBER(held) else read_id(held)


def plain(text: str) -> str:
    """*text* as it is held, and meant to be read."""
    return text.replace("\0", MARK)


def read_plain(held: str | None, raw: str) -> str | None:
    """The text that is *held*, of a row that came as *raw*."""
    if held is None or MARK not in held or "\\u0000" not in raw:
        return held
    return next((text for text in _texts(msgspec.json.decode(raw)) if plain(text) == held), held)


def written_session(row: SessionRow) -> SessionRow:
    """*row* as it is held."""
    return row._replace(
        id=written_id(row.id),
        status=written_word(row.status),
        title=row.title and plain(row.title),
        video_url=row.video_url and plain(row.video_url),
    )


def read_session(held: SessionRow) -> SessionRow:
    """The row that is *held*."""
    return held._replace(
        id=read_id(held.id),
        status=read_word(_text(held.status)),
        title=read_plain(held.title, held.raw),
        video_url=read_plain(held.video_url, held.raw),
    )


def written_messages(rows: Iterable[MessageRow]) -> list[MessageRow]:
    """*rows* as they are held."""
    return [_written_message(row) for row in rows]


def _written_message(row: MessageRow) -> MessageRow:
    return MessageRow(
        row.project,
        written_id(row.id),
        written_id(row.session_id),
        row.position,
        written_word(row.role),
        written_word(row.type),
        row.content and plain(row.content),
        row.created_at,
        row.raw,
    )


def read_messages(held: Iterable[MessageRow]) -> list[MessageRow]:
    """The rows that are *held*."""
    return [_read_message(row) for row in held]


def _read_message(held: MessageRow) -> MessageRow:
    return MessageRow(
        held.project,
        read_id(held.id),
        read_id(held.session_id),
        held.position,
        read_word(_text(held.role)),
        read_word(_text(held.type)),
        read_plain(held.content, held.raw),
        held.created_at,
        held.raw,
    )


def _text(held: str | int | None) -> str | None:
    return held if isinstance(held, str) else None


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON *value*."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
