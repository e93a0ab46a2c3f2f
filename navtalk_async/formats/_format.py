"""What a format is made of: intact transcripts, their fields, and a file that appears whole or not at all."""

import errno
import os
import stat
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cache
from hashlib import sha256
from io import BytesIO
from itertools import islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript, damage
from navtalk_async.archive.sqlite_file import open_file
from navtalk_async.concurrency import shielded
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreBroken
from navtalk_async.lenient_json import DECODE_ERRORS, decode_json
from navtalk_async.models import Message, Record, Session, sort_out, to_fields, unreadable_times

MANIFEST = "manifest.json"

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


class WrittenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the manifest lists it."""

    name: str
    bytes: int
    rows: int
    sha256: str


class IntactTranscripts:
    """The transcripts of *project* that are as they were saved. The others are left out, like those already
    known to be *damaged*.

    Attributes:
        damaged: why a session is left out, by its id.
        read: number of sessions read.
        sessions, messages: number of intact ones.
        kinds: the structs of the API's rows.
    """

    def __init__(self, reader: Archive, project: str, dialect: Dialect, damaged: Mapping[str, str]) -> None:
        self.damaged = dict(damaged)
        self.read = self.sessions = self.messages = 0
        self.kinds = dialect.record_kinds
        self._reader, self._project, self._dialect = reader, project, dialect
        self._last: str | None = None

    async def blocks(self) -> AsyncGenerator[list[StoredTranscript], None]:
        """Some at a time, in the order of `Archive.transcripts`."""
        self.read = self.sessions = self.messages = 0
        self._last = None
        async with aclosing(self._reader.transcript_batches(self._project)) as blocks:
            async for block in blocks:
                # Takes long, so it runs in another thread.
                intact = await to_thread.run_sync(self._select, block)
                self.read += len(block)
                self.sessions += len(intact)
                self.messages += sum(len(each.messages) for each in intact)
                yield intact

    def _select(self, block: Sequence[StoredTranscript]) -> list[StoredTranscript]:
        intact = []
        for kept in block:
            # A damaged index hides a session from the sync, which then inserts it again.
            if kept.session.id == self._last:
                raise StoreBroken(f"An index of the archive is damaged: session {self._last} is there twice.")
            self._last = kept.session.id
            if flaws := damage(kept, self._dialect):
                gone = [] if kept.session.deleted_at is None else ["the API no longer has it"]
                self.damaged[str(kept.session.id)] = "; ".join([*flaws[:A_FEW], *gone])
            elif kept.session.id not in self.damaged:
                intact.append(kept)
        return intact


class Format(NamedTuple):
    """A format of exported files, which `FORMATS` lists by name."""

    name: str
    suffix: str
    write: Callable[[IntactTranscripts, Path], Awaitable[WrittenFile]]


def transcript_fields(kept: StoredTranscript, kinds: tuple[type[Session], type[Message]]) -> dict[str, Any]:
    """A session's columns and its `messages`; *kinds* are the structs of its API's rows."""
    return fields_of([kept], kinds)[0]


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
    return all_session_fields([row], kind)[0]


def message_fields(row: MessageRow, kind: type[Message]) -> dict[str, Any]:
    """A message's columns; under `extra`, what else the API's object holds."""
    return all_message_fields([row], kind)[0]


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


class WholeFile:
    """An `async with` that writes the file *path* beside its place, and renames it when it is complete. One
    that holds the same already is only read: a backup or a watcher of the folder sees no change.

    The disk is waited for in other threads. A file that is replaced hands on its mode; otherwise the mode is
    *mode*, by default 600. The manifest, which may list that file, is removed first.
    """

    def __init__(self, path: Path, *, mode: int | None = None) -> None:
        self.path = path
        self._mode = mode
        self._beside = path.with_name(path.name + ".partial")
        self._earlier: BinaryIO = BytesIO()
        """What stands in the place, read as far as it is the same."""
        self._file: BinaryIO | None = None
        """Where it is written; None as long as it is the same."""
        self._hash = sha256()
        self._bytes = self._rows = 0

    async def __aenter__(self) -> Self:
        await to_thread.run_sync(self._open)
        return self

    async def __aexit__(self, error: type[BaseException] | None, *_: object) -> None:
        await shielded(to_thread.run_sync(self._put_in_place if error is None else self._discard))

    async def write(self, make: Callable[[], bytes], *, rows: int = 0) -> None:
        """Append what *make* returns, which runs in another thread and makes so many *rows*."""
        await to_thread.run_sync(self._append, make)
        self._rows += rows

    def written(self) -> WrittenFile:
        return WrittenFile(
            name=self.path.name, bytes=self._bytes, rows=self._rows, sha256=self._hash.hexdigest()
        )

    def _open(self) -> None:
        # What another run left is removed, not written into: it may be a link to another file.
        self._beside.unlink(missing_ok=True)
        if mode_of(self.path) is None:
            self._create()
        else:
            self._earlier = open_file(self.path)

    def _create(self) -> None:
        """Make the file beside, with what was the same so far."""
        self._file = file = open(self._beside, "xb", opener=_private)  # noqa: SIM115 - closed as it is put in place
        self._earlier.seek(0)
        copied, left = sha256(), self._bytes
        while data := self._earlier.read(min(left, 1 << 20)):
            file.write(data)
            copied.update(data)
            left -= len(data)
        if copied.digest() != self._hash.digest():
            raise OSError(errno.EBUSY, f"{self.path.name} changed while it was being read")

    def _append(self, make: Callable[[], bytes]) -> None:
        data = make()
        if self._file is None and self._earlier.read(len(data)) != data:
            self._create()
        if self._file is not None:
            reach("file: before write")
            self._file.write(data)
            reach("file: after write")
        self._hash.update(data)
        self._bytes += len(data)

    def _put_in_place(self) -> None:
        if self._file is None and self._earlier.read(1):
            self._create()
        self._earlier.close()
        if self._file is None:
            return
        with self._file:
            self._file.flush()
            mode = mode_of(self.path) or self._mode
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(self._file.fileno(), mode)
            reach("file: before fsync")
            os.fsync(self._file.fileno())
            reach("file: after fsync")
        if self.path.name != MANIFEST:
            withdraw(self.path.parent)
        reach("file: before rename")
        self._beside.replace(self.path)
        reach("file: after rename")
        _sync_folder(self.path.parent)
        reach("file: after fsync of the folder")

    def _discard(self) -> None:
        self._earlier.close()
        if self._file is not None:
            self._file.close()
        self._beside.unlink(missing_ok=True)


def withdraw(folder: Path) -> None:
    """Remove the manifest of *folder*: it must not list files that it has not seen."""
    reach("manifest: before unlink")
    (folder / MANIFEST).unlink(missing_ok=True)
    reach("manifest: after unlink")


def mode_of(path: Path) -> int | None:
    """The mode of a file; None if there is no file."""
    is_file = path.is_file() and not path.is_symlink()
    return stat.S_IMODE(path.lstat().st_mode) if is_file else None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    # A rename is on the disk only when its folder is; nothing can be done about a folder that does not open.
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
