"""JSON Lines: a session a line, with its messages inside."""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec

from navtalk_async.archive.rows import StoredTranscript
from navtalk_async.formats.files import WholeFile, WrittenFile
from navtalk_async.formats.intact import Intact
from navtalk_async.formats.rows import transcript_fields
from navtalk_async.models import Message, Session

__all__ = ["write_jsonl"]


async def write_jsonl(intact: Intact, kinds: tuple[type[Session], type[Message]], path: Path) -> WrittenFile:
    """Write the sessions of *intact* to the file *path*."""
    encoder = msgspec.json.Encoder()

    def lines(transcripts: Sequence[StoredTranscript]) -> bytes:
        return encoder.encode_lines([transcript_fields(each, kinds) for each in transcripts])

    async with WholeFile(path) as file, aclosing(intact.blocks()) as blocks:
        async for transcripts in blocks:
            await file.write(partial(lines, transcripts), rows=len(transcripts))
    return file.written()
