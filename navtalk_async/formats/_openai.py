"""Training data for chat models: a conversation a line, in the format of OpenAI's fine-tuning."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec
from anyio import to_thread

from navtalk_async.formats._compression import SUFFIXES, TEXT_COMPRESSIONS, compressor
from navtalk_async.formats._format import Format, FormatOptions, Target, Write
from navtalk_async.formats._tables import Batch, Fields

ROLES = {"user": "user", "assistant": "assistant", "agent": "assistant", "system": "system"}
"""Of the APIs' roles; messages of other roles, as of tools, are left out, like those without a text."""


def _names(options: FormatOptions) -> Sequence[tuple[str, str]]:
    return [("training", f".jsonl{SUFFIXES[options.compress]}")]


@asynccontextmanager
async def _open(target: Target) -> AsyncGenerator[Write, None]:
    options = target.options
    encode, compress = msgspec.json.Encoder().encode_lines, compressor(options.compress)

    async def write(batch: Batch) -> None:
        chosen = await to_thread.run_sync(_chosen, batch, options)
        target.replaced["conversations left out"] += len(batch.transcripts) - len(chosen)
        await file.write(lambda: compress.add(encode(chosen)), rows=len(chosen))

    async with target.file(target.name(*_names(options)[0])) as file:
        yield write
        await file.write(compress.end)
    target.written.append(file.written())


def _chosen(batch: Batch, options: FormatOptions) -> list[Fields]:
    examples = [_example(each["messages"]) for each in batch.transcripts if each["deleted_at"] is None]
    return [each for each in examples if _is_wanted(each["messages"], options)]


def _example(messages: Sequence[Fields]) -> Fields:
    """The example of *messages*, up to the last one of the assistant: behind it there is nothing to learn."""
    said = [
        {"role": ROLES[each["role"]], "content": each["content"]}
        for each in messages
        if each["role"] in ROLES and each["content"]
    ]
    while said and said[-1]["role"] != "assistant":
        said.pop()
    return {"messages": said}


def _is_wanted(messages: Sequence[Fields], options: FormatOptions) -> bool:
    roles = {each["role"] for each in messages}
    return (
        {"user", "assistant"} <= roles
        and options.min_messages <= len(messages)
        and (options.max_messages is None or len(messages) <= options.max_messages)
    )


OPENAI = Format("openai-jsonl", _names, _open, TEXT_COMPRESSIONS)
