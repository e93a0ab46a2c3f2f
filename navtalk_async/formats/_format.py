"""What every format is handed: intact transcripts as dicts of columns, what is personal in them removed."""

import sys
from collections import Counter, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from functools import cache, cached_property, partial
from importlib.util import find_spec
from itertools import islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, TypedDict, get_args

import msgspec
from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.archive.rows import MessageRow, SessionRow, StoredTranscript, damage
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import StoreBroken
from navtalk_async.formats._whole_file import MadeFile, WholeFile, WrittenFile, put_file
from navtalk_async.lenient_json import DECODE_ERRORS, decode_json
from navtalk_async.models import Message, Record, Session, sort_out, to_fields, unreadable_times

Fields: TypeAlias = dict[str, Any]
"""Columns by their names."""

Columns: TypeAlias = dict[str, list[Any]]

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
            "status": [_as_text(each["status"]) for each in self.transcripts],
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
            "role": [_as_text(each["role"]) for each in rows],
            "type": [_as_text(each["type"]) for each in rows],
            "content": [each["content"] for each in rows],
            "created_at": [each["created_at"] for each in rows],
            "extra": [_json_text(each["extra"]) if "extra" in each else None for each in rows],
        }

    def table(self, name: str) -> tuple[Columns, int]:
        """The columns of a table, in its order, and the number of its rows."""
        columns: Columns = getattr(self, name)
        return {each: columns[each] for each in TABLES[name]}, len(columns["id"])


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


def _as_text(value: str | int | None) -> str | None:
    return str(value) if isinstance(value, int) else value


def _json_text(value: object) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


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


Compression: TypeAlias = Literal["none", "gzip", "zstd", "snappy"]
Partition: TypeAlias = Literal["month", "day"]
COMPRESSIONS: tuple[Compression, ...] = get_args(Compression)
PARTITIONS: tuple[Partition, ...] = get_args(Partition)


class FormatOptions(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How formats write their files; each format has its own default where there is none.

    Attributes:
        compress: how to compress text files (gzip, zstd) and `parquet` (also snappy; zstd by default).
        partition: cut `parquet` into a file a month or day, of the time a session started.
        spreadsheet_safe: `csv` that a spreadsheet opens without running it, with times it reads; not exact.
        min_messages, max_messages: leave sessions with fewer, or more, messages out of `openai-jsonl`.
    """

    compress: Compression | None = None
    partition: Partition | None = None
    spreadsheet_safe: bool = False
    min_messages: Annotated[int, msgspec.Meta(ge=0)] = 0
    max_messages: Annotated[int, msgspec.Meta(ge=0)] | None = None


class FormatKeywords(TypedDict, total=False):
    """The same as keyword arguments."""

    compress: Compression | None
    partition: Partition | None
    spreadsheet_safe: bool
    min_messages: int
    max_messages: int | None


class Target:
    """Where a format writes, and what it has written.

    Attributes:
        written: the files that are in their places.
        replaced: how often a format replaced what it cannot hold, by what it was.
    """

    def __init__(
        self, folder: Path, label: str, options: FormatOptions, claim: Callable[[str], object]
    ) -> None:
        self.folder = folder
        self.options = options
        self.written: list[WrittenFile] = []
        self.replaced: Counter[str] = Counter()
        self._label, self._claim = label, claim

    def name(self, stem: str, suffix: str) -> str:
        """The name of this project's file, or folder."""
        return f"{stem}{self._label}{suffix}"

    def file(self, name: str) -> WholeFile:
        """A file that is written piece by piece."""
        return WholeFile(self.folder, name, before=partial(self._claim, name))

    def put_file(self, name: str, data: bytes, rows: int) -> WrittenFile:
        """Write a small file, from a thread; the disk is not waited for."""
        return put_file(self.folder, name, data, rows=rows, before=partial(self._claim, name))

    def made_file(self, name: str) -> MadeFile:
        """A file that a library makes."""
        return MadeFile(self.folder, name, before=partial(self._claim, name))


Write: TypeAlias = Callable[[Batch], Awaitable[None]]


class Format(NamedTuple):
    """A format of exported files, which `FORMATS` lists by name.

    Attributes:
        names: stems and suffixes of its files and folders, of which a project's label goes in between.
        open: an `async with` that is handed one batch after the other; at its end the files are put in their
            places, and listed in the target.
        compressions: how its files can be compressed.
        needs: the module without which it cannot be written, which the extra of its last word installs.
    """

    name: str
    names: Callable[[FormatOptions], Sequence[tuple[str, str]]]
    open: Callable[[Target], AbstractAsyncContextManager[Write]]
    compressions: Sequence[Compression] = ()
    needs: str = ""


def refuse_options(formats: Sequence[Format], options: FormatOptions) -> None:
    """Raise a ValueError for options that *formats* do not know, an ImportError for a missing library."""
    method = options.compress
    can = [each for each in formats if each.compressions]
    unable = next((each for each in can or formats if method not in (None, *each.compressions)), None)
    if unable is not None:
        ways = f" with {method}; it knows {', '.join(unable.compressions)}" if unable.compressions else ""
        raise ValueError(f"{unable.name} cannot be compressed{ways}.")
    for option, name in OF_ONE_FORMAT.items():
        if getattr(options, option) and name not in [each.name for each in formats]:
            raise ValueError(f"{option}= is an option of the format {name}, which is not chosen.")
    for each in formats:
        module = ZSTD if method == "zstd" and each.needs == "" and each.compressions else each.needs
        if module and not _is_installed(module):
            raise ImportError(f"{each.name} needs {module}: pip install 'navtalk-async[{EXTRAS[module]}]'.")


def _is_installed(module: str) -> bool:
    with suppress(ModuleNotFoundError):
        return find_spec(module) is not None
    return False


OF_ONE_FORMAT = {
    "partition": "parquet",
    "spreadsheet_safe": "csv",
    "min_messages": "openai-jsonl",
    "max_messages": "openai-jsonl",
}

ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"

EXTRAS = {"duckdb": "duckdb", ZSTD: "zstd"}
"""What installs a module that a format needs."""


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
