"""The rows of sessions and messages, made of the API's objects, and their digests."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import count, repeat
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from navtalk_async.models import Message, MessageType, Role, Session, format_word
from navtalk_async.times import parse_time

__all__ = [
    "MessageRow",
    "SessionRow",
    "StoredTranscript",
    "content_hash",
    "digest",
    "format_api_time",
    "format_time",
    "is_same_state",
    "message_row",
    "message_rows",
    "names_itself",
    "old_digest",
    "row_digest",
    "session_row",
]


PLAIN = ("-- ::", "--T::")
"""What stands between the digits of a time to the second, without a zone."""

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
    updated_at: str | None
    title: str | None
    user_id: str | None
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


new_message_row: Callable[[Iterable[object]], MessageRow] = partial(tuple.__new__, MessageRow)

encode_lines: Callable[[Iterable[object]], bytes] = msgspec.json.Encoder().encode_lines

encode_columns: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode


class StoredTranscript(NamedTuple):
    """A session as it is kept, with its messages in order."""

    session: SessionRow
    messages: list[MessageRow]
    digest: str | None = None
    """The `digest` of the messages when they were kept; None before, and where an older version kept them."""
    row_digest: str | None = None
    """The `row_digest` of the session when it was written; None where an older version wrote it."""
    due_for_reread: bool = False
    """Whether the next round reads it again: it is watched, pending or failed."""


def content_hash(session: Session) -> str:
    """A hash of a session's JSON object, however it is written; compared by `is_same_state`.

    Fields that only some of the API's answers have follow it with a hash each: ` message_count=…`.
    """
    fields = msgspec.json.decode(session.raw)
    only_in_detail = {name: fields.pop(name) for name in sorted(session.detail_only_fields & fields.keys())}
    return _hash_of_json(fields, 16) + "".join(
        f" {name}={_hash_of_json(value, 4)}" for name, value in only_in_detail.items()
    )


def is_same_state(kept: str | None, new: str, *, is_listed: bool) -> bool:
    """Whether a session with the `content_hash` *new* is as it is *kept*.

    A field that is not in each answer counts where both have it; and where a list has it for the first time.
    """
    if kept is None or kept == new:
        return kept == new
    before, after = _parts(kept), _parts(new)
    same_in_both = all(before[name] == after[name] for name in before.keys() & after.keys())
    return same_in_both and (not is_listed or after.keys() <= before.keys())


def _parts(content_hash: str) -> dict[str, str]:
    whole, *fields = content_hash.split(" ")
    return {"": whole, **{name: value for name, _, value in (field.partition("=") for field in fields)}}


def _hash_of_json(value: object, size: int) -> str:
    return blake2b(msgspec.json.encode(value, order="sorted"), digest_size=size).hexdigest()


def digest(messages: Sequence[MessageRow]) -> str:
    """A hash of all columns of a session's *messages*, in their order."""
    return _hash_of_columns(messages)


def old_digest(messages: Sequence[MessageRow]) -> str:
    """The digest as versions before the fifth noted it, of ids and objects alone."""
    text = "\0".join(f"{row.id}\0{row.raw}" for row in messages)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def row_digest(row: SessionRow) -> str:
    """A hash of all columns of *row* that are exported."""
    # As versions before the sixth did it, which had no columns for these two.
    more = () if row.updated_at is row.user_id is None else (row.updated_at, row.user_id)
    first = (row.project, row.id, row.api, row.status, row.start_time, row.end_time, row.title)
    return _hash_of_columns((*first, row.video_url, row.raw, row.deleted_at, *more))


def names_itself(row: SessionRow) -> bool:
    """Whether the API's object has the id of *row*; the row of another one has it by damage."""
    try:
        fields = msgspec.json.decode(row.raw)
    except (msgspec.DecodeError, TypeError):
        return False
    return isinstance(fields, dict) and row.id in map(str, fields.values())


def _hash_of_columns(columns: Sequence[object]) -> str:
    return blake2b(encode_columns(columns), digest_size=16).hexdigest()


def format_api_time(text: str | None) -> str | None:
    """An API's time as ISO 8601 in UTC with a `Z`; None for what is no time (its row's `raw` keeps it)."""
    if text is None:
        return None
    # Nearly all are written like this; to check such a one takes a fifth of writing it anew.
    if len(text) == 19 and text[4:17:3] in PLAIN and text[11:13] != MIDNIGHT:
        try:
            datetime.fromisoformat(text)
            return text.replace(" ", "T") + "Z"
        except ValueError:
            pass
    moment = parse_time(text)
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def format_time(moment: datetime) -> str:
    """*moment*, aware and UTC, as an archive writes it: ISO 8601, to the second, with a `Z`."""
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def session_row(project: str, api: str, session: Session, now: str) -> SessionRow:
    """*session* as it is kept."""
    return SessionRow(
        project,
        session.id,
        api,
        storable(format_word(session.status)),
        format_api_time(session.start_time_text),
        format_api_time(session.end_time_text),
        format_api_time(session.updated_at_text),
        session.title,
        session.user_id,
        session.video_url,
        session.raw.decode(),
        content_hash(session),
        now,
        now,
    )


def message_row(project: str, session_id: str, position: int, message: Message) -> MessageRow:
    """*message* as it is kept."""
    return message_rows(project, session_id, position, [message])[0]


def message_rows(project: str, session_id: str, first: int, messages: Sequence[Message]) -> list[MessageRow]:
    """*messages* as they are kept, from the position *first* on.

    A sync makes a row of every message there is; column by column, that takes half as long.
    """
    rows = zip(
        repeat(project),
        [message.id for message in messages],
        repeat(session_id),
        count(first),
        [word(message.role) for message in messages],
        [number(message.type) for message in messages],
        [message.content for message in messages],
        [format_api_time(message.created_at_text) for message in messages],
        raws(messages),
        strict=False,
    )
    return list(map(new_message_row, rows))


def raws(messages: Sequence[Message]) -> list[str]:
    """The JSON object of each of *messages*: see `Record.raw`."""
    written = encode_lines(messages).decode().split("\n")
    return [
        line if message.kept is UNSET else message.kept.decode()
        for message, line in zip(messages, written, strict=False)
    ]


@lru_cache(64, typed=True)
def word(role: Role | str | None) -> str | int | None:
    """*role* as it is kept; there are so few of them that each is looked at once."""
    return storable(format_word(role))


@lru_cache(64, typed=True)
def number(kind: MessageType | str | None) -> str | int | None:
    """*kind* of message as it is kept: a plain number where it is one."""
    return storable(int(kind) if isinstance(kind, int) else kind)


def storable(value: str | int | None) -> str | int | None:
    """*value*, as text where it is a number that no database holds."""
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
