"""JSON Lines: a session a line, with its messages inside."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from navtalk_async.formats._compression import SUFFIXES, TEXT_COMPRESSIONS, compressor
from navtalk_async.formats._format import Format, FormatOptions, Target, Write
from navtalk_async.formats._tables import Batch


def _names(options: FormatOptions) -> Sequence[tuple[str, str]]:
    return [("transcripts", f".jsonl{SUFFIXES[options.compress]}")]


@asynccontextmanager
async def _open(target: Target) -> AsyncGenerator[Write, None]:
    [name] = _names(target.options)
    encode, compress = msgspec.json.Encoder().encode_lines, compressor(target.options.compress)

    async def write(batch: Batch) -> None:
        await file.write(lambda: compress.add(encode(batch.transcripts)), rows=len(batch.transcripts))

    async with target.file(target.name(*name)) as file:
        yield write
        await file.write(compress.end)
    target.written.append(file.written())


JSONL = Format("jsonl", _names, _open, TEXT_COMPRESSIONS)
