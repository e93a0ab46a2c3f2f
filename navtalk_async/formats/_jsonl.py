"""JSON Lines: a session a line, with its messages inside."""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec

from navtalk_async.archive.rows import StoredTranscript
from navtalk_async.formats._format import Format, IntactTranscripts, WholeFile, WrittenFile, fields_of


async def _write_lines(intact: IntactTranscripts, path: Path) -> WrittenFile:
    encoder = msgspec.json.Encoder()

    def lines(transcripts: Sequence[StoredTranscript]) -> bytes:
        return encoder.encode_lines(fields_of(transcripts, intact.kinds))

    async with WholeFile(path) as file, aclosing(intact.blocks()) as blocks:
        async for transcripts in blocks:
            await file.write(partial(lines, transcripts), rows=len(transcripts))
    return file.written()


JSONL = Format("jsonl", ".jsonl", _write_lines)
