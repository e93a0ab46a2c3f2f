"""Whether a session in an archive is what the API gave: by its digests, or by what its raw objects mean."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from navtalk_async.archive.rows import (
    MessageRow,
    SessionRow,
    StoredTranscript,
    digest,
    message_row,
    row_digest,
    session_row,
)
from navtalk_async.errors import DecodeFailed
from navtalk_async.models import Message, Record, Session

__all__ = ["Records", "damage", "flaws_of"]

R = TypeVar("R", bound=Record)


class Records(Protocol):
    """What reads the raw objects of an API: its dialect."""

    @property
    def api(self) -> str:
        """Its name."""

    @property
    def record_kinds(self) -> tuple[type[Session], type[Message]]:
        """The kinds of its sessions and messages."""

    def session_of(self, raw: bytes) -> Session:
        """Read a session."""

    def message_of(self, raw: bytes, session_id: str, position: int) -> Message:
        """Read a message."""


OF_A_SESSION = ("api", "id", "status", "start_time", "end_time", "title", "video_url")
OF_A_MESSAGE = ("id", "role", "type", "content", "created_at")


def damage(kept: StoredTranscript, dialect: Records) -> list[str]:
    """What is wrong with the exported columns of *kept*, in sentences without a subject.

    Its digests show that. Only where an older version noted none, or they do not match, every raw object is
    parsed, which takes several times as long.
    """
    is_noted = None not in (kept.digest, kept.row_digest)
    return [] if is_noted and not _row_flaws(kept) and not _order_flaws(kept) else flaws_of(kept, dialect)


def flaws_of(kept: StoredTranscript, dialect: Records) -> list[str]:
    """What is wrong with *kept*, in sentences without a subject; empty where it is whole."""
    flaws: list[str] = []
    for position, row in enumerate(kept.messages):
        flaws += _message_flaws(row, dialect)
        if row.position != position:
            flaws.append(f"message {row.id} is at position {row.position}, where {position} should be")
            break
    return (_session_flaws(kept.session, dialect) or _row_flaws(kept)) + (flaws or _order_flaws(kept))


def _session_flaws(row: SessionRow, dialect: Records) -> list[str]:
    try:
        made = session_row(row.project, dialect.api, _read(row.raw, dialect.session_of), "")
    except Unreadable as failure:
        return [f"its raw object is damaged: {failure}"]
    # An empty hash asks for the session to be fetched again.
    names = (*OF_A_SESSION, "content_hash") if row.content_hash else OF_A_SESSION
    return _unequal("its", names, row, made)


def _row_flaws(kept: StoredTranscript) -> list[str]:
    if kept.row_digest in (None, row_digest(kept.session)):
        return []
    return ["its row is not the one that was saved"]


def _message_flaws(row: MessageRow, dialect: Records) -> list[str]:
    of = partial(dialect.message_of, session_id=row.session_id, position=row.position)
    try:
        made = message_row(row.project, row.session_id, row.position, _read(row.raw, of))
    except Unreadable as failure:
        return [f"the raw object of message {row.id} is damaged: {failure}"]
    if not dialect.record_kinds[1].ids_are_unique and str(row.id).startswith(f"{made.id}#"):
        # One of several of the same id: see `deduplicate`.
        made = made._replace(id=row.id)
    return _unequal(f"message {row.id}'s", OF_A_MESSAGE, row, made)


def _unequal(whose: str, names: Sequence[str], row: object, made: object) -> list[str]:
    others = [name for name in names if getattr(row, name) != getattr(made, name)]
    return [f"{whose} {' and '.join(others)} differ from its raw object"] if others else []


def _order_flaws(kept: StoredTranscript) -> list[str]:
    """Whether the messages are those that were saved, in their order; versions before the third noted no
    digest, so the times of the messages show the order.
    """
    rows = kept.messages
    if kept.digest is not None:
        return (
            []
            if digest(rows) == kept.digest
            else ["its messages are not those that were saved, or not in their order"]
        )
    times = [row.created_at for row in rows if isinstance(row.created_at, str)]
    return [] if times == sorted(times) else ["its messages are not in the order of their times"]


class Unreadable(Exception):
    """A raw object cannot be read; the message does not quote it."""


def _read(raw: object, read: Callable[[bytes], R]) -> R:
    if not isinstance(raw, str):
        raise Unreadable("it is not a text")
    try:
        return read(raw.encode())
    except DecodeFailed as failure:
        raise Unreadable(str(failure.args[0]).removesuffix(".")) from None
    except (ValueError, OverflowError) as failure:
        raise Unreadable(str(failure)) from None
