"""Whether an exported file is what its manifest says, and what the archive holds."""

from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from navtalk_async.archive.rows import StoredTranscript
from navtalk_async.archive.seal import open_file
from navtalk_async.formats import WrittenFile, transcript_fields
from navtalk_async.models import Message, Session
from navtalk_async.verification.report import Checked, Finding, Remedy

__all__ = ["Lines", "is_parsed", "judge_file", "open_lines"]

CHUNK = 1 << 20

Key = tuple[bool, str, str]


class Said(msgspec.Struct):
    """A message in a line."""

    id: str
    position: int


class Line(msgspec.Struct):
    """A session in a line, as far as it is looked into."""

    id: str
    start_time: str | None
    messages: list[Said]

    @property
    def key(self) -> Key:
        """Its place in the order."""
        return (self.start_time is not None, self.start_time or "", self.id)


def judge_file(folder: Path, told: WrittenFile, checked: Checked) -> list[Finding]:
    """The file against what the manifest told of it: size, hash, rows."""
    name = told.name
    rows = 0
    summed = sha256()
    try:
        size = (folder / name).stat().st_size
        with open_file(folder / name) as file:
            while chunk := file.read(CHUNK):
                summed.update(chunk)
                rows += chunk.count(b"\n")
                checked.bytes += len(chunk)
    except OSError as failure:
        return [Finding(name, f"it cannot be read: {failure.strerror or failure}", Remedy.EXPORT)]
    checked.files += 1
    what = []
    if size != told.bytes:
        what.append(f"it has {size:,} bytes, and the manifest says {told.bytes:,}")
    elif summed.hexdigest() != told.sha256:
        what.append("its content is not what was written: its SHA-256 is another")
    if is_parsed(name) and rows != told.rows:
        what.append(f"it has {rows:,} rows, and the manifest says {told.rows:,}")
    return [Finding(name, each, Remedy.EXPORT) for each in what]


def is_parsed(name: str) -> bool:
    """Whether the file of that *name* is parsed; others are known by their hash alone."""
    return name.endswith(".jsonl")


class Lines:
    """The lines of an exported file, looked at one after the other beside the archive's sessions.

    Arguments:
        lines: as they stand in the file.
        name: the file's.
        left_out: sessions that are not in it, since they were damaged.

    Attributes:
        kinds: the structs of the API's rows; None where the archive has gone on since, and there is nothing
            to compare with.
    """

    def __init__(self, lines: Iterator[bytes], name: str, left_out: Collection[str] = ()) -> None:
        self.name = name
        self.rows = self.messages = 0
        self.kinds: tuple[type[Session], type[Message]] | None = None
        self._lines = lines
        self._left_out = left_out
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(Line).decode
        self._before: Key | None = None
        self._ahead: tuple[Line, bytes] | None = None
        self._flaws: list[str] = []

    def beside(self, kept: Sequence[StoredTranscript]) -> list[Finding]:
        """What is wrong with the lines up to those of *kept*, which follow in the archive."""
        if self.kinds is not None:
            for each in kept:
                if each.session.id not in self._left_out:
                    self._compare(each, self.kinds)
        return self._told()

    def rest(self) -> list[Finding]:
        """What is wrong with the lines that are left."""
        while (line := self._next()) is not None:
            if self.kinds is not None:
                self._flaws.append(f"session {line[0].id} is not in the archive")
        return self._told()

    def _compare(self, kept: StoredTranscript, kinds: tuple[type[Session], type[Message]]) -> None:
        row = kept.session
        key = (row.start_time is not None, str(row.start_time or ""), str(row.id))
        while (line := self._next()) is not None and line[0].key < key:
            self._flaws.append(f"session {line[0].id} is not in the archive, or not here")
        if line is None or line[0].key > key:
            self._ahead = line
            self._flaws.append(f"session {row.id} is missing")
            return
        try:
            expected = self._encode(transcript_fields(kept, kinds))
        except (msgspec.DecodeError, TypeError):
            return  # The archive's own row is damaged, and found there.
        if line[1] != expected:
            self._flaws.append(f"session {row.id} is not as the archive has it")

    def _next(self) -> tuple[Line, bytes] | None:
        if self._ahead is not None:
            line, self._ahead = self._ahead, None
            return line
        for data in self._lines:
            self.rows += 1
            found = self._parsed(data)
            if found is not None:
                return found, data.removesuffix(b"\n")
        return None

    def _parsed(self, data: bytes) -> Line | None:
        """The line that *data* is, its own flaws noted."""
        try:
            line = self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
            self._flaws.append(f"line {self.rows} cannot be parsed: {failure}")
            return None
        if not data.endswith(b"\n"):
            self._flaws.append(f"line {self.rows} breaks off")
        self.messages += len(line.messages)
        if self._before is not None and line.key <= self._before:
            how = "a second time" if line.key == self._before else "out of its order"
            self._flaws.append(f"session {line.id} stands in line {self.rows} {how}")
        self._before = line.key
        if [each.position for each in line.messages] != list(range(len(line.messages))):
            self._flaws.append(f"the messages of session {line.id} are not in their order")
        if len({each.id for each in line.messages}) != len(line.messages):
            self._flaws.append(f"a message of session {line.id} stands there twice")
        return line

    def _told(self) -> list[Finding]:
        told, self._flaws = self._flaws, []
        return [Finding(self.name, each, Remedy.EXPORT) for each in told]


def open_lines(path: Path) -> Iterator[bytes]:
    """The lines of *path*; none where it cannot be read, which `judge_file` tells."""
    try:
        with open_file(path) as file:
            yield from file
    except OSError:
        return
