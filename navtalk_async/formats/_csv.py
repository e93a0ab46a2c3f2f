"""CSV: the tables `sessions` and `messages`, exact, or for spreadsheets.

RFC 4180 in UTF-8, lines end with LF. Every text is in quotes; an empty field without quotes is no text. The
standard library's `csv` cannot tell an empty text from None on every Python, and takes twice as long.
"""

import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from navtalk_async.formats._compression import SUFFIXES, TEXT_COMPRESSIONS, Compressor, compressor
from navtalk_async.formats._format import Format, FormatOptions, Target, Write
from navtalk_async.formats._tables import NUMBER, TABLES, TEXT, TIME, Batch, Columns
from navtalk_async.formats._whole_file import WholeFile

BOM = "\ufeff"
"""Without it, Excel takes UTF-8 for something else."""

RUN_BY_SPREADSHEETS = re.compile("(?=[\t\r\n]|[\\s\0-\x20\u200b\ufeff]*[=+\\-@|%\uff1d\uff0b\uff0d\uff20])")

Column: TypeAlias = Callable[[Sequence[Any]], list[str]]


def _names(options: FormatOptions) -> Sequence[tuple[str, str]]:
    return [(table, f".csv{SUFFIXES[options.compress]}") for table in TABLES]


@asynccontextmanager
async def _open(target: Target) -> AsyncGenerator[Write, None]:
    writers: dict[str, tuple[WholeFile, Callable[[Columns], bytes], Compressor]] = {}
    async with AsyncExitStack() as files:
        for table, suffix in _names(target.options):
            file = await files.enter_async_context(target.file(target.name(table, suffix)))
            writers[table] = file, _lines_of(table, target), compressor(target.options.compress)
            head = ",".join(TABLES[table]) + "\n"
            first = (BOM if target.options.spreadsheet_safe else "") + head
            await file.write(partial(writers[table][2].add, first.encode()))

        async def write(batch: Batch) -> None:
            for table, (file, lines, compress) in writers.items():
                write = partial(_add, compress, lines, batch, table)
                await file.write(write, rows=batch.rows(table))

        yield write
        for file, _, compress in writers.values():
            await file.write(compress.end)
    target.written += [file.written() for file, _, _ in writers.values()]


def _add(compress: Compressor, lines: Callable[[Columns], bytes], batch: Batch, table: str) -> bytes:
    return compress.add(lines(batch.table(table)))


def _lines_of(table: str, target: Target) -> Callable[[Columns], bytes]:
    """What makes the lines of *table*."""
    is_safe, replaced = target.options.spreadsheet_safe, target.replaced
    texts: Column = partial(_defused if is_safe else _quoted, replaced=replaced)
    times: Column = _spreadsheet_times if is_safe else _bare
    kinds = {TEXT: texts, NUMBER: _bare, TIME: times}

    def lines(columns: Columns) -> bytes:
        cells = [kinds[TABLES[table][name]](values) for name, values in columns.items()]
        return "\n".join([*map(",".join, zip(*cells, strict=True)), ""]).encode()

    return lines


def _bare(values: Sequence[Any]) -> list[str]:
    return ["" if value is None else str(value) for value in values]


def _spreadsheet_times(values: Sequence[str | None]) -> list[str]:
    """Excel reads no `T` and no `Z`."""
    return ["" if value is None else value.replace("T", " ").removesuffix("Z") for value in values]


def _quoted(values: Sequence[str | None], replaced: Counter[str]) -> list[str]:
    texts = "".join(filter(None, values))
    if "\0" in texts:
        # Readers end a text there, or refuse it.
        replaced["NUL by U+FFFD"] += texts.count("\0")
        values = [value and value.replace("\0", "\ufffd") for value in values]
    if '"' in texts:
        values = [value and value.replace('"', '""') for value in values]
    return ["" if value is None else f'"{value}"' for value in values]


def _defused(values: Sequence[str | None], replaced: Counter[str]) -> list[str]:
    are_run = [value is not None and RUN_BY_SPREADSHEETS.match(value) is not None for value in values]
    replaced["' before a formula"] += sum(are_run)
    safe = [f"'{value}" if is_run else value for value, is_run in zip(values, are_run, strict=True)]
    return _quoted(safe, replaced)


CSV = Format("csv", _names, _open, TEXT_COMPRESSIONS)
