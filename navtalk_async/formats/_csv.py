"""CSV: the tables `sessions` and `messages`, exact, or for spreadsheets.

RFC 4180 in UTF-8, lines end with LF. Every text is in quotes; an empty field without quotes is no text. The
standard library's `csv` cannot tell an empty text from None on every Python, and takes twice as long.
"""

import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from navtalk_async.formats._compression import SUFFIXES, TEXT_COMPRESSIONS, compressor
from navtalk_async.formats._format import (
    NUMBER,
    TABLES,
    TEXT,
    Batch,
    Fields,
    Format,
    FormatOptions,
    Target,
    Write,
)

BOM = "\ufeff"
"""Without it, Excel takes UTF-8 for something else."""

RUN_BY_SPREADSHEETS = re.compile("(?=[\t\r\n]|[\\s\0-\x20\u200b\ufeff]*[=+\\-@|%\uff1d\uff0b\uff0d\uff20])")

Cell = Callable[[object], str]


def _names(options: FormatOptions) -> Sequence[tuple[str, str]]:
    return [(table, f".csv{SUFFIXES[options.compress]}") for table in TABLES]


@asynccontextmanager
async def _open(target: Target) -> AsyncGenerator[Write, None]:
    writers = {}
    async with AsyncExitStack() as files:
        for table, suffix in _names(target.options):
            file = await files.enter_async_context(target.file(target.name(table, suffix)))
            writers[table] = file, _lines_of(table, target), compressor(target.options.compress)
            head = ",".join(TABLES[table]) + "\n"
            first = (BOM if target.options.spreadsheet_safe else "") + head
            await file.write(partial(writers[table][2].add, first.encode()))

        async def write(batch: Batch) -> None:
            for table, (file, lines, compress) in writers.items():

                def make() -> bytes:
                    return compress.add(lines(getattr(batch, table)))  # noqa: B023 - called at once

                await file.write(make, rows=len(getattr(batch, table)))

        yield write
        for file, _, compress in writers.values():
            await file.write(compress.end)
    target.written += [file.written() for file, _, _ in writers.values()]


def _lines_of(table: str, target: Target) -> Callable[[Sequence[Fields]], bytes]:
    """What makes the lines of *table*."""
    text = _safe_text(target.replaced) if target.options.spreadsheet_safe else _exact_text(target.replaced)
    time = _spreadsheet_time if target.options.spreadsheet_safe else _bare
    cells: list[Cell] = [
        text if kind == TEXT else _bare if kind == NUMBER else time for kind in TABLES[table].values()
    ]

    def lines(rows: Sequence[Fields]) -> bytes:
        columns = [
            list(map(cell, [row[name] for row in rows]))
            for name, cell in zip(TABLES[table], cells, strict=True)
        ]
        return "".join([f"{line}\n" for line in map(",".join, zip(*columns, strict=True))]).encode()

    return lines


def _bare(value: object) -> str:
    return "" if value is None else str(value)


def _spreadsheet_time(value: object) -> str:
    """Excel reads no `T` and no `Z`."""
    return "" if value is None else str(value).replace("T", " ").removesuffix("Z")


def _exact_text(replaced: Counter[str]) -> Cell:
    def cell(value: object) -> str:
        if value is None:
            return ""
        text = str(value)
        if "\0" in text:
            # Readers end a text there, or refuse it.
            replaced["NUL by U+FFFD"] += text.count("\0")
            text = text.replace("\0", "\ufffd")
        return '"' + text.replace('"', '""') + '"'

    return cell


def _safe_text(replaced: Counter[str]) -> Cell:
    exact = _exact_text(replaced)

    def cell(value: object) -> str:
        if value is not None and RUN_BY_SPREADSHEETS.match(str(value)):
            replaced["' before a formula"] += 1
            return exact(f"'{value}")
        return exact(value)

    return cell


CSV = Format("csv", _names, _open, TEXT_COMPRESSIONS)
