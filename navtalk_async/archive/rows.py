"""The rows of sessions and messages: made of the API's objects, digested, and compared with both."""

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import count, repeat
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, cast

import msgspec
from msgspec import UNSET

from navtalk_async.errors import DecodeFailed
from navtalk_async.lenient_json import decode_json, is_object
from navtalk_async.models import Message, MessageType, Role, Session, format_word
from navtalk_async.times import parse_time

__all__ = [
    "MessageRow",
    "Records",
    "SessionRow",
    "StoredTranscript",
    "TextRow",
    "content_hash",
    "damage",
    "digest",
    "flaws_of",
    "format_api_time",
    "format_time",
    "is_same_state",
    "message_row",
    "message_rows",
    "names_itself",
    "row_digest",
    "session_row",
]


T = TypeVar("T")

PLAIN = ("-- ::", "--T::")
"""What stands between the digits of a time to the second, without a zone."""

PLAIN_TIME = (
    "[1-9][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])[ T](?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}"
)
PLAIN_TIMES = re.compile(rf"{PLAIN_TIME}(?:\n{PLAIN_TIME})*")
"""Such times, one a line, of the days that every month has."""


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


class TextRow(NamedTuple):
    """What was said in a message."""

    session_id: str
    position: int
    role: str | int | None
    content: str | None


# Without the check of a namedtuple's `_make`, which would take longer than the rest.
new_row: Callable[..., Any] = tuple.__new__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
new_session_row: Callable[[Iterable[object]], SessionRow] = partial(new_row, SessionRow)
new_message_row: Callable[[Iterable[object]], MessageRow] = partial(new_row, MessageRow)
new_text_row: Callable[[Iterable[object]], TextRow] = partial(new_row, TextRow)

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
    fields = decode_json(session.raw)
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


def digest(messages: Sequence[object]) -> str:
    """A hash of all columns of a session's *messages*, in their order."""
    return blake2b(encode_columns(messages), digest_size=16).hexdigest()


def old_digest(messages: Sequence[MessageRow]) -> str:
    """The digest as versions before the fifth noted it, of ids and objects alone."""
    text = "\0".join(f"{row.id}\0{row.raw}" for row in messages)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def row_digest(row: SessionRow) -> str:
    """A hash of all columns of *row* that are exported."""
    project, own_id, api, status, start, end, updated_at, title, user_id, video_url, raw, *_, deleted_at = row
    # As versions before the sixth did it, which had no columns for these two.
    more = () if updated_at is user_id is None else (updated_at, user_id)
    return digest((project, own_id, api, status, start, end, title, video_url, raw, deleted_at, *more))


def names_itself(row: SessionRow) -> bool:
    """Whether the API's object has the id of *row*; the row of another one has it by damage."""
    try:
        fields = decode_json(row.raw)
    except (msgspec.DecodeError, TypeError):
        return False
    return is_object(fields) and row.id in map(str, fields.values())


def format_api_time(text: str | None) -> str | None:
    """An API's time as ISO 8601 in UTC with a `Z`; None for what is no time (its row's `raw` keeps it)."""
    if text is None:
        return None
    # Nearly all are written like this; to check such a one takes a fifth of writing it anew.
    if len(text) == 19 and text[4:17:3] in PLAIN and text[11:13] != "24":
        try:
            datetime.fromisoformat(text)
            return text.replace(" ", "T") + "Z"
        except ValueError:
            pass
    moment = parse_time(text)
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def format_api_times(texts: Sequence[str | None]) -> Sequence[str | None]:
    """`format_api_time` of each of *texts*; where all are plain, in a fraction of the time."""
    lines = "" if None in texts else "\n".join(cast("Sequence[str]", texts))
    if PLAIN_TIMES.fullmatch(lines) and lines.count("\n") == len(texts) - 1:
        return (lines.replace(" ", "T").replace("\n", "Z\n") + "Z").split("\n")
    return [format_api_time(text) for text in texts]


def format_time(moment: datetime) -> str:
    """*moment*, aware and UTC, as an archive writes it: ISO 8601, to the second, with a `Z`."""
    return moment.isoformat(timespec="seconds")[:19] + "Z"


def session_row(
    project: str, api: str, session: Session, now: str, known_hash: str | None = None
) -> SessionRow:
    """The row of *session*, of which the `content_hash` may be known."""
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
        known_hash or content_hash(session),
        now,
        now,
    )


def message_row(project: str, session_id: str, position: int, message: Message) -> MessageRow:
    """The row of *message*."""
    return message_rows(project, session_id, position, [message])[0]


def message_rows(project: str, session_id: str, first: int, messages: Sequence[Message]) -> list[MessageRow]:
    """The rows of *messages*, from the position *first* on; column by column, that takes half as long."""
    written = encode_lines(messages).decode().split("\n")
    # As `Record.raw` has it.
    raws = [
        line if message.kept is UNSET else message.kept.decode()
        for message, line in zip(messages, written, strict=False)
    ]
    return _rows_with(raws, project, session_id, first, messages)


def _rows_with(
    raws: Iterable[str], project: str, session_id: str, first: int, messages: Sequence[Message]
) -> list[MessageRow]:
    """The rows of *messages*, of which the API's objects are *raws*."""
    rows = zip(
        repeat(project),
        [message.id for message in messages],
        repeat(session_id),
        count(first),
        _each([message.role for message in messages], word),
        _each([message.type for message in messages], number),
        [message.content for message in messages],
        format_api_times([message.created_at_text for message in messages]),
        raws,
        strict=False,
    )
    return list(map(new_message_row, rows))


def _each(values: Sequence[T], make: Callable[[T], object]) -> list[object]:
    """What *make* makes of each of *values*, most of which are the same few objects."""
    made = {key: make(value) for key, value in {id(value): value for value in values}.items()}
    return [made[id(value)] for value in values]


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


class Records(Protocol):
    """What reads the raw objects of an API: its dialect."""

    api: ClassVar[str]
    """Its name."""

    @abstractmethod
    def session_of(self, raw: bytes) -> Session:
        """Read a session."""

    @abstractmethod
    def message_of(self, raw: bytes, session_id: str, position: int) -> Message:
        """Read a message."""

    @abstractmethod
    def messages_of(self, raws: Sequence[bytes], session_id: str) -> Sequence[Message]:
        """Read all messages of a session."""


R = TypeVar("R", SessionRow, MessageRow)

OF_A_SESSION = ("api", "id", "status", "start_time", "end_time", "title", "video_url")
OF_A_MESSAGE = ("id", "role", "type", "content", "created_at")


def damage(kept: StoredTranscript, dialect: Records) -> list[str]:
    """What is wrong with the exported columns of *kept*, in sentences without a subject.

    Its digests show that. Only where an older version noted none, or they do not match, every raw object is
    parsed, which takes several times as long.
    """
    if kept.digest == digest(kept.messages) and kept.row_digest == row_digest(kept.session):
        return []
    return flaws_of(kept, dialect)


def flaws_of(kept: StoredTranscript, dialect: Records) -> list[str]:
    """What is wrong with *kept*, in sentences without a subject; empty where it is whole."""
    flaws = [] if _are_as_made(kept, dialect) else [*_messages_flaws(kept.messages, dialect)]
    return (_session_flaws(kept.session, dialect) or _row_flaws(kept)) + (flaws or _order_flaws(kept))


def _are_as_made(kept: StoredTranscript, dialect: Records) -> bool:
    """Whether all messages are the rows that are made of their raw objects: for nearly all sessions, which
    saves to look at each.
    """
    project, session_id = kept.session[:2]
    try:
        raws = [row.raw for row in kept.messages]
        messages = dialect.messages_of(list(map(str.encode, raws)), session_id)
        return _rows_with(raws, project, session_id, 0, messages) == kept.messages
    except (DecodeFailed, ValueError, OverflowError, TypeError):
        return False


def _messages_flaws(rows: Sequence[MessageRow], dialect: Records) -> Iterator[str]:
    for position, row in enumerate(rows):
        yield from _message_flaws(row, dialect)
        if row.position != position:
            yield f"message {row.id} is at position {row.position}, where {position} should be"
            return


def _session_flaws(row: SessionRow, dialect: Records) -> list[str]:
    def make(raw: bytes) -> SessionRow:
        return session_row(row.project, dialect.api, dialect.session_of(raw), "")

    # An empty hash asks for the session to be fetched again.
    return _differences("its", row, (*OF_A_SESSION, *(["content_hash"] if row.content_hash else [])), make)


def _message_flaws(row: MessageRow, dialect: Records) -> list[str]:
    def make(raw: bytes) -> MessageRow:
        message = dialect.message_of(raw, row.session_id, row.position)
        made = message_row(row.project, row.session_id, 0, message)
        # One of several of the same id has a number behind it: see `deduplicate`.
        is_numbered = not message.ids_are_unique and str(row.id).startswith(f"{made.id}#")
        return made._replace(id=row.id) if is_numbered else made

    return _differences(f"message {row.id}'s", row, OF_A_MESSAGE, make)


def _differences(whose: str, row: R, names: Sequence[str], make: Callable[[bytes], R]) -> list[str]:
    """How the columns *names* of *row* differ from those that *make* makes of its raw object, which is not
    quoted.
    """
    if not isinstance(row.raw, str):
        return [f"{whose} raw object is damaged: it is not a text"]
    try:
        made = make(row.raw.encode())
    except (DecodeFailed, ValueError, OverflowError) as failure:
        why = failure.args[0] if isinstance(failure, DecodeFailed) else failure
        return [f"{whose} raw object is damaged: {str(why).removesuffix('.')}"]
    others = [name for name in names if getattr(row, name) != getattr(made, name)]
    return [f"{whose} {' and '.join(others)} differ from its raw object"] if others else []


def _row_flaws(kept: StoredTranscript) -> list[str]:
    is_saved = kept.row_digest in (None, row_digest(kept.session))
    return [] if is_saved else ["its row is not the one that was saved"]


def _order_flaws(kept: StoredTranscript) -> list[str]:
    """Whether the messages are those that were saved, in their order; the first version noted no digest, so
    the times of the messages show the order.
    """
    if kept.digest is not None:
        is_saved = digest(kept.messages) == kept.digest
        return [] if is_saved else ["its messages are not those that were saved, or not in their order"]
    times = [row.created_at for row in kept.messages if isinstance(row.created_at, str)]
    return [] if times == sorted(times) else ["its messages are not in the order of their times"]
