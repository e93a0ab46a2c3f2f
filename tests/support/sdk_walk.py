"""A walk through every call of LlamaCloud's chat API, by whatever client, whose results can be compared.

Run as a script, LlamaCloud's own SDK walks, in strict validation, and prints what it got as JSON: in a
process of its own, because two of its versions cannot share one, and its warnings do not concern us.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

OLD = Path(sys.prefix, "llama-cloud-2.7")
GET_OLD = ".venv/bin/python -m pip install -q --no-deps --target .venv/llama-cloud-2.7 llama-cloud==2.7.0"
INDEXES = ["index-1", "unknown-1"]
PROMPTS = (
    "What do the refund terms say?",
    "fail",
    "Wie geht's?\n\u2028日本",
    "And after thirty days?",
    "Thanks.",
)


class Calls(Protocol):
    """A client as the walk needs it: each call returns the JSON that the client's objects were made of."""

    titles: bool
    """Whether it can ask for a title."""
    shares: bool
    """Whether it knows ``shared_access`` and ``require_all_indexes``."""

    async def listed(self, page_size: int) -> list[dict[str, Any]]: ...
    async def created(self, **fields: Any) -> dict[str, Any]: ...
    async def session(self, session_id: str) -> dict[str, Any]: ...
    async def summary(self, session_id: str) -> dict[str, Any]: ...
    async def titled(self, session_id: str, first_message: str) -> dict[str, Any]: ...
    async def streamed(self, session_id: str, **fields: Any) -> list[dict[str, Any]]: ...
    async def deleted(self, session_id: str) -> None: ...
    async def refused(self, call: Any) -> int: ...


async def walk(calls: Calls) -> dict[str, Any]:
    """The results of *calls*: the whole list, every session, and a new session from creation to deletion."""
    got: dict[str, Any] = {"listed": await calls.listed(7)}
    ids = [item["session_id"] for item in got["listed"]]
    got["sessions"] = [await calls.session(name) for name in ids]
    got["summaries"] = [await calls.summary(name) for name in ids]
    shared = {"shared_access": "query"} if calls.shares else {}
    got["created"] = [await calls.created(), await calls.created(index_ids=INDEXES, **shared)]
    mine = got["created"][0]["session_id"]
    turns = [{"index_ids": INDEXES, "prompt": prompt} for prompt in PROMPTS]
    if calls.shares:
        turns.append({"index_ids": INDEXES, "prompt": "All?", "require_all_indexes": True})
    got["streamed"] = [await calls.streamed(mine, **turn) for turn in turns]
    if calls.titles:
        got["titled"] = await calls.titled(mine, PROMPTS[0])
    got["after"] = await calls.session(mine)
    got["deleted"] = await calls.deleted(mine)
    got["refused"] = [
        await calls.refused(calls.session(mine)),
        await calls.refused(calls.streamed(ids[0], index_ids=[], prompt="x" * 1_001)),
        await calls.refused(calls.streamed(ids[0], index_ids=["i"] * 11, prompt="x")),
    ]
    return got


async def sdk_results(url, key, *, old=False):
    """The results of the SDK at *url*: the newest one, or with *old* the 2.7.0 in its own folder."""
    if old and not (OLD / "llama_cloud").is_dir():
        raise AssertionError(f"llama-cloud 2.7.0 is not in {OLD}: {GET_OLD}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        url,
        key,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(OLD) if old else ""},
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


class Sdk:
    """The SDK that is found; `client.beta.chat` of the older one."""

    def __init__(self, sdk, client):
        from importlib import import_module  # noqa: PLC0415 - found only where the script runs

        self.titles = not hasattr(client, "chat")
        self.shares = not self.titles
        self.chat = client.beta.chat if self.titles else client.chat
        types = "llama_cloud.types.beta" if self.titles else "llama_cloud.types"
        self.event = import_module(f"{types}.chat_retrieve_response").Event
        self.validated = import_module("llama_cloud._models").validate_type
        self.decoder = import_module("llama_cloud._streaming").SSEDecoder
        self.error = sdk.APIStatusError

    async def listed(self, page_size):
        return [plain(item) async for item in self.chat.list(page_size=page_size)]

    async def created(self, **fields):
        return plain(await self.chat.create(**fields))

    async def session(self, session_id):
        return plain(await self.chat.retrieve(session_id))

    async def summary(self, session_id):
        return plain(await self.chat.get_summary(session_id))

    async def titled(self, session_id, first_message):
        return plain(await self.chat.set_title(session_id, first_message=first_message))

    async def streamed(self, session_id, **fields):
        """The events, each read by the SDK's own decoder and validated by its own model."""
        async with self.chat.with_streaming_response.stream(session_id, **fields) as response:
            events = self.decoder().aiter_bytes(response.iter_bytes())
            return [plain(self.validated(type_=self.event, value=each.json())) async for each in events]

    async def deleted(self, session_id):
        return await self.chat.delete(session_id)

    async def refused(self, call):
        try:
            await call
        except self.error as error:
            return error.status_code
        raise AssertionError("it was not refused")


def plain(model):
    """A model of the SDK as the JSON it was made of."""
    return model.model_dump(mode="json", exclude_unset=True)


async def main(url, key):
    import llama_cloud  # noqa: PLC0415 - found only where the script runs

    client = llama_cloud.AsyncLlamaCloud(
        api_key=key, base_url=url, max_retries=0, _strict_response_validation=True
    )
    async with client:
        return {"version": llama_cloud.__version__} | await walk(Sdk(llama_cloud, client))


if __name__ == "__main__":
    json.dump(asyncio.run(main(*sys.argv[1:])), sys.stdout)
