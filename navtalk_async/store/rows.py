"""What a store holds of a session and of a message, and how that is made of what the API said."""

from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import msgspec

from navtalk_async.models import Message, Session, SessionStatus, as_utc, as_word

__all__ = [
    "MessageRow",
    "SessionRow",
    "StoredTranscript",
    "content_hash",
    "digest",
    "is_final",
    "iso",
    "message_row",
    "session_row",
]


MIDNIGHT = "24"
"""The hour that belongs to the next day."""


class SessionRow(NamedTuple):
    """A row of the table `sessions`; times are ISO 8601 with a `Z`, status is a word or an unknown number."""

    project: str
    id: str
    api: str
    status: str | int | None
    start_time: str | None
    end_time: str | None
    title: str | None
    video_url: str | None
    raw: str
    content_hash: str
    first_seen_at: str
    last_changed_at: str
    deleted_at: str | None = None


class MessageRow(NamedTuple):
    """A row of the table `messages`; *position* is its place in the API's order, from 0."""

    project: str
    id: str
    session_id: str
    position: int
    role: str | int | None
    type: str | int | None
    content: str | None
    created_at: str | None
    raw: str


class StoredTranscript(NamedTuple):
    """A session as it is kept, with its messages in order."""

    session: SessionRow
    messages: list[MessageRow]
    digest: str | None = None
    """What `digest` gave of the messages when they were kept; None while they are pending, and where a
    version kept them that did not note it."""


def is_final(session: Session) -> bool:
    """Whether nothing more is expected of *session*."""
    return session.status is not SessionStatus.ACTIVE and session.ended is not None


def content_hash(raw: bytes) -> str:
    """What two equal JSON objects of a session share, however they are written."""
    canonical = msgspec.json.encode(msgspec.json.decode(raw), order="sorted")
    return blake2b(canonical, digest_size=16).hexdigest()


def digest(messages: Iterable[tuple[str, str]]) -> str:
    """What tells the id and raw object of each of a session's *messages*, in their order, from all others."""
    told = "\0".join(chain.from_iterable(messages))
    return blake2b(told.encode(), digest_size=16).hexdigest()


def iso(text: str | None) -> str | None:
    """An API's time as ISO 8601 in UTC with a `Z`; None for what is no time (its row's `raw` keeps it)."""
    if text is None:
        return None
    try:
        if is_plain(text):
            datetime.fromisoformat(text)
            return f"{text[:10]}T{text[11:]}Z"
        return as_utc(text).isoformat().replace("+00:00", "Z")
    except ValueError:
        return None


def is_plain(text: str) -> bool:
    """Whether *text*, if it is a time at all, is one to the second and without a zone, digit by digit.

    Nearly all are; and to check such a one costs a fifth of what it costs to write it anew.
    """
    return len(text) == 19 and text[4:17:3] in ("-- ::", "--T::") and text[11:13] != MIDNIGHT


def session_row(project: str, api: str, session: Session, now: str) -> SessionRow:
    """*session* as it is kept."""
    raw = session.raw
    return SessionRow(
        project,
        session.id,
        api,
        storable(as_word(session.status)),
        iso(session.started),
        iso(session.ended),
        session.title,
        session.video_url,
        raw.decode(),
        content_hash(raw),
        now,
        now,
    )


def message_row(project: str, session_id: str, position: int, message: Message) -> MessageRow:
    """*message* as it is kept."""
    kind = message.type
    return MessageRow(
        project,
        message.id,
        session_id,
        position,
        storable(as_word(message.role)),
        storable(int(kind) if isinstance(kind, int) else kind),
        message.content,
        iso(message.created),
        message.raw.decode(),
    )


def storable(value: str | int | None) -> str | int | None:
    """*value*, as text where it is a number that no database holds."""
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
