"""The tables `sessions` and `messages`, column by column, for formats that have tables."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import msgspec

Fields: TypeAlias = dict[str, Any]
"""Columns by their names."""

Columns: TypeAlias = dict[str, list[Any]]


class Batch:
    """Some transcripts: each a session's columns with its `messages`, as `transcript_fields` makes them."""

    def __init__(self, transcripts: Sequence[Fields]) -> None:
        self.transcripts = transcripts

    @cached_property
    def sessions(self) -> Columns:
        """The columns of the table `sessions`: what is no time and no number is a text or None."""
        return {
            **{
                name: [each[name] for each in self.transcripts] for name in TABLES["sessions"] if name in SAME
            },
            "status": _as_texts([each["status"] for each in self.transcripts]),
            "messages": [len(each["messages"]) for each in self.transcripts],
            "extra": [_json_text(each.get("extra")) for each in self.transcripts],
        }

    @cached_property
    def messages(self) -> Columns:
        """The columns of the table `messages`."""
        rows = [each for session in self.transcripts for each in session["messages"]]
        counted = [(session, len(session["messages"])) for session in self.transcripts]
        return {
            "project": [session["project"] for session, count in counted for _ in range(count)],
            "session_id": [session["id"] for session, count in counted for _ in range(count)],
            "id": [each["id"] for each in rows],
            "position": [each["position"] for each in rows],
            "role": _as_texts([each["role"] for each in rows]),
            "type": _as_texts([each["type"] for each in rows]),
            "content": [each["content"] for each in rows],
            "created_at": [each["created_at"] for each in rows],
            "extra": [_json_text(each["extra"]) if "extra" in each else None for each in rows],
        }

    def table(self, name: str) -> Columns:
        """The columns of a table, in its order."""
        columns: Columns = getattr(self, name)
        return {each: columns[each] for each in TABLES[name]}

    def rows(self, name: str) -> int:
        """The number of a table's rows."""
        if name == "sessions":
            return len(self.transcripts)
        return sum(len(each["messages"]) for each in self.transcripts)


TIME = "timestamp"
TEXT = "text"
NUMBER = "integer"

TABLES: dict[str, dict[str, str]] = {
    "sessions": {
        **dict.fromkeys(("project", "id", "api", "status"), TEXT),
        **dict.fromkeys(("start_time", "end_time", "updated_at"), TIME),
        **dict.fromkeys(("title", "user_id", "video_url"), TEXT),
        "deleted_at": TIME,
        "messages": NUMBER,
        "extra": TEXT,
    },
    "messages": {
        **dict.fromkeys(("project", "session_id", "id"), TEXT),
        "position": NUMBER,
        "role": TEXT,
        "type": TEXT,
        "content": TEXT,
        "created_at": TIME,
        "extra": TEXT,
    },
}
"""The columns of the tables that formats of tables have, with their types. Times are UTC; `extra` is the JSON
of fields without a column."""


SAME = TABLES["sessions"].keys() - {"status", "messages", "extra"}


def _as_texts(values: Sequence[str | int | None]) -> list[str | None]:
    texts = {each: str(each) if isinstance(each, int) else each for each in set(values)}
    return [texts[each] for each in values]


def _json_text(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
