"""`transcripts.jsonl`: a session a line, with its messages inside."""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import msgspec

from navtalk_async.export.files import WholeFile, WrittenFile
from navtalk_async.export.rows import transcript_fields
from navtalk_async.models import Message, Session
from navtalk_async.store.rows import StoredTranscript
from navtalk_async.store.store import Store

__all__ = ["write_jsonl"]


async def write_jsonl(
    store: Store, project: str, kinds: tuple[type[Session], type[Message]], folder: Path
) -> list[WrittenFile]:
    """Write *project* to `transcripts.jsonl` in *folder*."""
    encoder = msgspec.json.Encoder()

    def lines(transcripts: Sequence[StoredTranscript]) -> bytes:
        return encoder.encode_lines([transcript_fields(each, kinds) for each in transcripts])

    async with (
        WholeFile(folder / "transcripts.jsonl") as file,
        aclosing(store.transcripts(project)) as blocks,
    ):
        async for transcripts in blocks:
            await file.write(partial(lines, transcripts), rows=len(transcripts))
    return [file.written()]
