"""Every call of LlamaCloud's own SDK, in strict validation, against one server: what it got, as JSON.

A script, run in a process of its own by `walked`, for two versions of the SDK cannot live in one. The older
one asks for a title too, which those since 2.18 cannot.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

OLD = Path(sys.prefix, "llama-cloud-2.7")
GET_OLD = "python -m pip install -q --no-deps --target .venv/llama-cloud-2.7 llama-cloud==2.7.0"
PROMPTS = (
    "What do the refund terms say?",
    "fail",
    "Wie geht's?\n\u2028日本",
    "And after thirty days?",
    "Thanks.",
)
PAGE = 7
INDEXES = ["index-1", "unknown-1"]


async def walked(url, key, *, old=False):
    """What the SDK got from the server at *url*: the newest, or with *old* the 2.7.0 of its own folder."""
    if old and not (OLD / "llama_cloud").is_dir():
        raise AssertionError(f"there is no {OLD}; {GET_OLD}")
    paths = [str(OLD)] if old else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        url,
        key,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


def plain(model):
    """A model of the SDK as the JSON it was made of."""
    return model.model_dump(mode="json", exclude_unset=True)


async def refused(call):
    """The status and the body the SDK's error tells of."""
    import llama_cloud  # noqa: PLC0415 - found only where the script runs

    try:
        await call
    except llama_cloud.APIStatusError as error:
        return {"error": type(error).__name__, "status": error.status_code, "body": error.body}
    return None


async def streamed(chat, session_id, event_type, **asked):
    """The events of one turn, each read by the SDK's own decoder and validated by its own model."""
    from llama_cloud._models import validate_type  # noqa: PLC0415
    from llama_cloud._streaming import SSEDecoder  # noqa: PLC0415

    events = []
    async with chat.with_streaming_response.stream(session_id, index_ids=INDEXES, **asked) as response:
        async for event in SSEDecoder().aiter_bytes(response.iter_bytes()):
            data = plain(validate_type(type_=event_type, value=event.json()))
            events.append({"event": event.event, "data": data})
    return events


async def walk(url, key):
    import llama_cloud  # noqa: PLC0415

    options = {"api_key": key, "base_url": url, "max_retries": 0, "_strict_response_validation": True}
    async with llama_cloud.AsyncLlamaCloud(**options) as client:
        old = not hasattr(client, "chat")
        chat = client.beta.chat if old else client.chat
        if old:
            from llama_cloud.types.beta.chat_retrieve_response import Event  # noqa: PLC0415
        else:
            from llama_cloud.types.chat_retrieve_response import Event  # noqa: PLC0415

        got = {"version": llama_cloud.__version__}
        got["listed"] = [plain(item) async for item in chat.list(page_size=PAGE)]
        ids = [item["session_id"] for item in got["listed"]]
        got["sessions"] = [plain(await chat.retrieve(name)) for name in ids]
        got["summaries"] = [plain(await chat.get_summary(name)) for name in ids]
        bound = {"index_ids": INDEXES} if old else {"index_ids": INDEXES, "shared_access": "query"}
        got["created"] = [plain(await chat.create()), plain(await chat.create(**bound))]
        mine = got["created"][0]["session_id"]
        got["streamed"] = [await streamed(chat, mine, Event, prompt=prompt) for prompt in PROMPTS]
        if old:
            got["titled"] = plain(await chat.set_title(mine, first_message=PROMPTS[0]))
        else:
            asked = {"prompt": PROMPTS[0], "require_all_indexes": True}
            got["streamed"].append(await streamed(chat, mine, Event, **asked))
        got["after"] = plain(await chat.retrieve(mine))
        got["deleted"] = await chat.delete(mine)
        got["gone"] = await refused(chat.retrieve(mine))
        got["too_long"] = await refused(chat.stream(ids[0], index_ids=[], prompt="x" * 1001))
        got["too_many"] = await refused(chat.stream(ids[0], index_ids=["i"] * 11, prompt="x"))
    async with llama_cloud.AsyncLlamaCloud(**options | {"api_key": "wrong"}) as stranger:
        chat = stranger.beta.chat if old else stranger.chat
        got["stranger"] = await refused(chat.get_summary(mine))
    return got


if __name__ == "__main__":
    json.dump(asyncio.run(walk(*sys.argv[1:])), sys.stdout)
