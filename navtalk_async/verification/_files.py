"""What is wrong with exported files, compared with their manifest and with the archive."""

from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec

from navtalk_async.archive.records import ProjectInfo
from navtalk_async.archive.rows import SessionRow, StoredTranscript
from navtalk_async.archive.sqlite_file import open_file
from navtalk_async.dialects import dialects
from navtalk_async.errors import counted
from navtalk_async.formats import (
    MANIFEST,
    Manifest,
    ProjectFiles,
    WrittenFile,
    fields_of,
    read_manifest,
)
from navtalk_async.formats._media_index import MEDIA
from navtalk_async.models import Message, Session
from navtalk_async.verification._report import Finding, Remedy, Report

BLOCK = 1 << 20

encode = msgspec.json.Encoder().encode


class ExportedLine(msgspec.Struct):
    """A session of a file, as far as its place needs it."""

    project: str
    id: str
    start_time: str | None

    @property
    def key(self) -> tuple[str, bool, str, str]:
        """Its place in the order; projects that share a file follow each other."""
        return (self.project, self.start_time is not None, self.start_time or "", self.id)


class ExportedFile:
    """A file that is read once, line by line beside the archive's sessions.

    Attributes:
        kinds: the structs of the rows of the API of the project that is compared; None before the first.
        compared: the projects that are compared: they were not synced since.
    """

    def __init__(
        self, folder: Path, entries: Sequence[ProjectFiles], written: WrittenFile, *, quick: bool
    ) -> None:
        self.entries = {each.project: each for each in entries}
        self.kinds: tuple[type[Session], type[Message]] | None = None
        self.compared: set[str] = set()
        self.written = written
        # Files of other formats are known by their checksum alone.
        self._is_text = written.format == "jsonl" and written.name.endswith(".jsonl")
        self._is_parsed = self._is_text and not quick
        self._left_out = {
            (entry.project, each.id) for entry in entries for each in entry.failed if each.damaged
        }
        self._lines = self._read(folder / written.name)
        self._ahead: tuple[ExportedLine, bytes] | None = None
        self._rows = self._bytes = 0
        self._hash = sha256()
        self._failure: OSError | None = None
        self._flaws: list[str] = []

    def compare(self, block: Sequence[StoredTranscript]) -> None:
        """Compare the lines up to those of *block*, which follow in the archive."""
        if self.kinds is not None and self._is_parsed:
            wanted = [kept for kept in block if self._has(kept.session)]
            for kept, line in zip(wanted, lines_of(wanted, self.kinds), strict=True):
                self._compare(kept.session, line)

    def finish(self, report: Report) -> None:
        """Read the lines that are left, and report what is wrong with the file."""
        while (line := self._next()) is not None:
            self._flaws.append(f"session {line[0].id} is not in the archive")
        if self._failure is not None:
            self._flaws = [f"cannot be read: {self._failure.strerror or self._failure}"]
        else:
            report.checked.files += 1
            report.checked.bytes += self._bytes
            self._flaws += self._differences()
        remedy = Remedy.MEDIA if self.written.format == MEDIA else Remedy.EXPORT
        report.findings += [Finding(self.written.name, each, remedy) for each in self._flaws]

    def _differences(self) -> Iterator[str]:
        """How the file differs from the manifest."""
        if self._bytes != self.written.bytes:
            yield f"has {self._bytes:,} bytes; the manifest says {self.written.bytes:,}"
        elif self._hash.hexdigest() != self.written.sha256:
            yield "changed since the export: its SHA-256 is another"
        if self._is_text and self._rows != self.written.rows:
            yield f"has {counted(self._rows, 'row')}; the manifest says {self.written.rows:,}"

    def _has(self, row: SessionRow) -> bool:
        return row.project in self.compared and (row.project, row.id) not in self._left_out

    def _compare(self, row: SessionRow, expected: bytes | None) -> None:
        key = (str(row.project), row.start_time is not None, str(row.start_time or ""), str(row.id))
        while (line := self._next()) is not None and line[0].key < key:
            self._flaws.append(f"session {line[0].id} is not in the archive, or stands in the wrong place")
        if line is None or line[0].key > key:
            self._ahead = line
            self._flaws.append(f"session {row.id} is missing")
            return
        if expected not in (None, line[1]):
            self._flaws.append(f"session {row.id} differs from the archive")

    def _next(self) -> tuple[ExportedLine, bytes] | None:
        line, self._ahead = self._ahead, None
        while line is None and (found := next(self._lines, None)) is not None:
            # Other projects in the same file may not be asked for, or were synced since.
            line = found if found[0].project in self.compared else None
        return line

    def _read(self, path: Path) -> Iterator[tuple[ExportedLine, bytes]]:
        """Each line that can be parsed, in a full verification; the whole file is read in any."""
        before: ExportedLine | None = None
        try:
            with open_file(path) as file:
                # A line of what is no text may have any length.
                for data in file if self._is_text else iter(partial(file.read, BLOCK), b""):
                    self._hash.update(data)
                    self._bytes += len(data)
                    self._rows += 1
                    if self._is_parsed and (line := self._parse(data, before)) is not None:
                        before = line
                        yield line, data.removesuffix(b"\n")
        except OSError as failure:
            self._failure = failure

    def _parse(self, data: bytes, before: ExportedLine | None) -> ExportedLine | None:
        try:
            line = msgspec.json.decode(data, type=ExportedLine)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
            self._flaws.append(f"line {self._rows} cannot be parsed: {failure}")
            return None
        if not data.endswith(b"\n"):
            self._flaws.append(f"line {self._rows} breaks off")
        if before is not None and line.key <= before.key:
            how = "a second time" if line == before else "out of order"
            self._flaws.append(f"session {line.id} stands in line {self._rows} {how}")
        return line


def lines_of(
    block: Sequence[StoredTranscript], kinds: tuple[type[Session], type[Message]]
) -> list[bytes | None]:
    """The line of each of *block*; None where the archive's own row is damaged, which is found there."""
    try:
        return [encode(each) for each in fields_of(block, kinds)]
    except (msgspec.DecodeError, TypeError):
        return [None] if len(block) == 1 else [line for each in block for line in lines_of([each], kinds)]


def select_files(
    about: ProjectInfo, files: Sequence[ExportedFile], where: str, report: Report
) -> list[ExportedFile]:
    """The files of a project; they are compared if they were written from the archive as it is now."""
    own = [each for each in files if about.project in each.entries]
    runs = {each: each.entries[about.project].formats.get(each.written.format) for each in own}
    if any(run is not None and run.changes != about.changes for run in runs.values()):
        report.notes.append(
            f"{about.project} was synced since the export, so its files are not compared with {where}; "
            "the same `navtalk export` brings them up to date."
        )
    elif about.api in dialects():
        for each, run in runs.items():
            # What was removed from a file cannot be compared.
            if run is not None and not run.privacy:
                each.kinds = dialects()[about.api].record_kinds
                each.compared.add(about.project)
    return own


def files_of(folder: Path, entries: Sequence[ProjectFiles], *, quick: bool) -> list[ExportedFile]:
    """Each file of *entries*, which may share them."""
    files = {each.name: each for entry in entries for each in entry.files}
    return [
        ExportedFile(folder, [entry for entry in entries if written in entry.files], written, quick=quick)
        for written in files.values()
    ]


def finish(files: Sequence[ExportedFile], report: Report) -> None:
    for each in files:
        each.finish(report)


def find_manifest(folder: Path, report: Report) -> Manifest | None:
    """The manifest of *folder*; None if something is wrong with it, which is reported."""
    try:
        with open_file(folder / MANIFEST) as file:
            return read_manifest(file.read())
    except FileNotFoundError:
        what = "is missing: the export did not finish, or the file was lost"
    except OSError as failure:
        what = f"cannot be read: {failure.strerror or failure}"
    except ValueError as failure:
        what = str(failure)
    report.findings.append(Finding(MANIFEST, what, Remedy.EXPORT))
    return None
