"""What a format is, how it may be asked to write, and where it writes to."""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeAlias, TypedDict, get_args

import msgspec

from navtalk_async.formats._tables import Batch
from navtalk_async.formats._whole_file import MadeFile, WholeFile, WrittenFile, put_file

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
