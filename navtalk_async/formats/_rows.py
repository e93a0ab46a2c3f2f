"""What is handed on: intact transcripts as dicts of columns, with what is personal in them removed."""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cache
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.archive.damaged_rows import checked
from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript, damage
from navtalk_async.dialects import dialects
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreBroken, StoreMismatch
from navtalk_async.formats._tables import Batch, Fields
from navtalk_async.lenient_json import DECODE_ERRORS, decode_json
from navtalk_async.models import Message, Record, Session, sort_out, to_fields, unreadable_times

A_FEW = 3
"""How many flaws of a session are named."""

SESSION_FIELDS = tuple(
    name
    for name in SessionRow._fields
    if name not in ("raw", "content_hash", "first_seen_at", "last_changed_at")
)
SESSION_VALUES = attrgetter(*SESSION_FIELDS)
MESSAGE_FIELDS = tuple(name for name in MessageRow._fields if name not in ("project", "session_id", "raw"))


def _attributes(fields: Sequence[str], kind: type[Record]) -> set[str]:
    """The attributes of *kind* that *fields* hold, and the texts of their times."""
    own = set(fields).intersection(kind.attributes)
    return own | {text for name in own if hasattr(kind, text := f"{name}_text")}


SESSION_ATTRIBUTES = _attributes(SESSION_FIELDS, Session)
MESSAGE_ATTRIBUTES = _attributes(MESSAGE_FIELDS, Message)


class IntactTranscripts:
    """The transcripts of *project* that are as they were saved. The others are left out, like those already
    known to be *damaged*.

    Attributes:
        damaged: why a session is left out, by its id.
        read: number of sessions read.
        sessions, messages: number of intact ones.
    """

    def __init__(
        self,
        reader: Archive,
        project: str,
        dialect: Dialect,
        damaged: Mapping[str, str],
        change: Callable[[Fields], Fields] | None = None,
    ) -> None:
        self.damaged = dict(damaged)
        self.read = self.sessions = self.messages = 0
        self._reader, self._project, self._dialect, self._change = reader, project, dialect, change
        self._last: str | None = None

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Some at a time, in the order of `Archive.transcripts`; each as *change* returns it."""
        async with aclosing(self._reader.transcript_batches(self._project)) as blocks:
            async for block in blocks:
                # Takes long, so it runs in another thread.
                batch = await to_thread.run_sync(self._batch_of, block)
                self.read += len(block)
                self.sessions += len(batch.transcripts)
                self.messages += sum(len(each["messages"]) for each in batch.transcripts)
                yield batch

    def _batch_of(self, block: Sequence[StoredTranscript]) -> Batch:
        kinds = self._dialect.record_kinds
        transcripts = fields_of(self._select(block), kinds)
        return Batch(transcripts if self._change is None else list(map(self._change, transcripts)))

    def _select(self, block: Sequence[StoredTranscript]) -> list[StoredTranscript]:
        intact: list[StoredTranscript] = []
        for kept in block:
            project, own_id = kept.session[:2]
            # A damaged index hides a session from the sync, which then inserts it again; and it may be where
            # the project was read from.
            if own_id == self._last or project != self._project:
                flaw = "there twice" if own_id == self._last else f"in the project {project!r}"
                raise StoreBroken(f"An index of the archive is damaged: session {own_id} is {flaw}.")
            self._last = own_id
            if flaws := damage(kept, self._dialect):
                gone = [] if kept.session.deleted_at is None else ["the API no longer has it"]
                self.damaged[str(kept.session.id)] = "; ".join([*flaws[:A_FEW], *gone])
            elif kept.session.id not in self.damaged:
                intact.append(kept)
        return intact


@cache
def kinds_of(api: str) -> tuple[type[Session], type[Message]]:
    """The structs of the rows of an API; a StoreMismatch where that is not installed."""
    if api not in dialects():
        raise StoreMismatch(f"The archive has sessions of the API {api!r}, which is not installed.")
    return dialects()[api]().record_kinds


def transcript_fields(kept: StoredTranscript, kinds: tuple[type[Session], type[Message]]) -> dict[str, Any]:
    """A session's columns and its `messages`; *kinds* are the structs of its API's rows.

    Like the two below, it raises one of `DECODE_ERRORS` for a damaged row.
    """
    messages = list(map(checked, kept.messages))
    return fields_of([kept._replace(session=checked(kept.session), messages=messages)], kinds)[0]


def fields_of(
    batch: Sequence[StoredTranscript], kinds: tuple[type[Session], type[Message]]
) -> list[dict[str, Any]]:
    """The `transcript_fields` of each of *batch*; of many at once, in half the time."""
    session_kind, message_kind = kinds
    messages = iter(all_message_fields([row for kept in batch for row in kept.messages], message_kind))
    sessions = all_session_fields([kept.session for kept in batch], session_kind)
    for fields, kept in zip(sessions, batch, strict=True):
        fields["messages"] = list(islice(messages, len(kept.messages)))
    return sessions


def session_fields(row: SessionRow, kind: type[Session]) -> dict[str, Any]:
    """A session's columns; under `extra`, what else the API's object holds."""
    return all_session_fields([checked(row)], kind)[0]


def message_fields(row: MessageRow, kind: type[Message]) -> dict[str, Any]:
    """A message's columns; under `extra`, what else the API's object holds."""
    return all_message_fields([checked(row)], kind)[0]


def all_session_fields(rows: Sequence[SessionRow], kind: type[Session]) -> list[dict[str, Any]]:
    """The `session_fields` of each of *rows*."""
    columns = [dict(zip(SESSION_FIELDS, values, strict=True)) for values in map(SESSION_VALUES, rows)]
    return _with_extra(columns, [row.raw for row in rows], kind, "start_time", "end_time")


def all_message_fields(rows: Sequence[MessageRow], kind: type[Message]) -> list[dict[str, Any]]:
    """The `message_fields` of each of *rows*."""
    # Written out, they take a third of the time that a loop over the names takes.
    columns: list[dict[str, Any]] = [
        {"id": own_id, "position": at, "role": role, "type": sort, "content": content, "created_at": time}
        for _, own_id, _, at, role, sort, content, time, _ in rows
    ]
    return _with_extra(columns, [row.raw for row in rows], kind, "created_at")


def _with_extra(
    columns: list[dict[str, Any]], raws: Sequence[str], kind: type[Record], *times: str
) -> list[dict[str, Any]]:
    """The *columns* of some rows, each with the `extra` of its object; *times* are those of times."""
    # Nearly every row is as the API documents it, and this is the fastest check.
    is_plain = _has_columns_only(kind) and _are_all(kind, raws)
    if not is_plain or any(None in map(itemgetter(name), columns) for name in times):
        for fields, raw in zip(columns, raws, strict=True):
            fields.update(extra(raw, kind, *(fields[name] for name in times)))
    return columns


def _are_all(kind: type[Record], raws: Sequence[str]) -> bool:
    """Whether each of *raws* is a *kind*, as it is documented."""
    try:
        deque(map(msgspec.json.Decoder(kind).decode, raws), maxlen=0)
    except DECODE_ERRORS:
        return False
    return True


def extra(raw: str, kind: type[Record], *times: str | None) -> dict[str, Any]:
    """What the API's object *raw* holds beyond the columns, under `extra`; empty if that is nothing. *times*
    are its columns of times.
    """
    if None not in times and _has_columns_only(kind):
        # Nearly every row is as the API documents it, and this is the fastest check.
        with suppress(msgspec.ValidationError):
            msgspec.json.decode(raw, type=kind)
            return {}
    others = beyond_columns(kind, decode_json(raw))
    return {"extra": others} if others else {}


def beyond_columns(kind: type[Record], value: Any) -> dict[str, Any]:
    """The fields of *value*, an API's object, that no column holds: those without a column, and times that
    cannot be read; JSON that is not an object is the field `value`.
    """
    columns = SESSION_ATTRIBUTES if issubclass(kind, Session) else MESSAGE_ATTRIBUTES
    values, others = sort_out(kind, to_fields(value), columns)
    return others | unreadable_times(kind, values)


@cache
def _has_columns_only(kind: type[Record]) -> bool:
    columns = {"kept", *SESSION_ATTRIBUTES, *MESSAGE_ATTRIBUTES} - {"updated_at_text"}
    return kind.__struct_config__.forbid_unknown_fields and columns.issuperset(kind.__struct_fields__)
