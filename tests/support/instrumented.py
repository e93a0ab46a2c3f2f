"""A program that asks every API everything, while OpenTelemetry, Sentry and others watch aiohttp and report
each error. It prints every text that shows the key. `python instrumented.py UNUSED_PORT`.

Sentry cannot be taken out of a process again, so this is one of its own.
"""

import asyncio
import gc
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, FunctionType, MethodType, ModuleType, TracebackType

import aiohttp
import attr
import sentry_sdk
from key_leaks import KEYS, KeyLeaks, error_of
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.transport import Transport

from navtalk_async import (
    KodeyClient,
    LexiconClient,
    LlamaCloudClient,
    NavTalkClient,
    Retry,
    SessionPool,
)
from navtalk_async.archive import Archive
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Faults, Sandbox
from navtalk_async.wire.secret import Opaque

CLIENTS = {
    "navtalk": NavTalkClient,
    "kodey": KodeyClient,
    "lexicon": LexiconClient,
    "llamacloud": LlamaCloudClient,
}
FAULTS = [
    *("404", "500", "429", "echo-key", "html", "wrong-shape"),
    *("cut", "reset", "drop", "redirect", "lost-answer"),
]
PATIENT = Retry(attempts=2, attempts_at_first=2, base_seconds=0.001, cap_seconds=0.001)
SIGNALS = [name for name in dir(aiohttp.TraceConfig()) if name.startswith("on_")]


class Envelopes(Transport):
    """Keeps what Sentry would send."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen
        self.count = 0

    def capture_envelope(self, envelope):
        self.count += 1
        self.seen.append(envelope.serialize().decode("utf-8", "replace"))


class Watch(KeyLeaks):
    """The instrumentation, and every text it saw."""

    def __init__(self):
        super().__init__()
        self.spans = InMemorySpanExporter()
        self.envelopes = Envelopes(self.seen)
        self.answers = []
        self.signals = set()

    def begin(self):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        trace.set_tracer_provider(provider)
        AioHttpClientInstrumentor().instrument()
        sentry_sdk.init(
            "http://public@127.0.0.1:9/1",
            transport=self.envelopes,
        )
        self.patch()

    def patch(self):
        """Give every session a trace config for every signal, and a middleware, as a library would."""
        begin = aiohttp.ClientSession.__init__
        ask = aiohttp.ClientSession._request

        def made(session, *args, **options):
            config = aiohttp.TraceConfig()
            for name in SIGNALS:
                getattr(config, name).append(self.signalled(name))
            options["trace_configs"] = [*(options.get("trace_configs") or ()), config]
            begin(session, *args, middlewares=[self.between], **options)

        async def asked(session, *args, **options):
            self.see_all(args, options)
            answer = await ask(session, *args, **options)
            # Not its headers, which are what the server says: some repeat the key.
            self.see_all(answer.url, answer.real_url, answer.request_info)
            if answer.status not in {302, 400}:
                self.answers.append(answer)
            return answer

        aiohttp.ClientSession.__init__ = made
        aiohttp.ClientSession._request = asked

    def signalled(self, name):
        async def signal(_session, context, parameters):
            self.signals.add(name)
            said = {"response", "chunk"} if name.startswith(("on_response", "on_request_end")) else set()
            facts = {each.name: getattr(parameters, each.name) for each in attr.fields(type(parameters))}
            self.see_all(vars(context), *(fact for each, fact in facts.items() if each not in said))

        return signal

    async def between(self, request, handler):
        try:
            return await handler(request)
        finally:
            self.see_all(*(fact for name, fact in vars(request).items() if name != "response"))
            self.see(request.request_info)

    def see_all(self, *things):
        for thing in things:
            self.see(thing)

    def see_error(self, error):
        super().see_error(error)
        sentry_sdk.capture_exception(error)


def contents(folder):
    return [path.read_bytes().decode("latin-1") for path in folder.iterdir()]


def calls(api, client, session_id, watch):
    """Every kind of call."""

    async def streamed():
        async with client.sessions.stream(session_id, "Hello", index_ids=["i"]) as events:
            return [event async for event in events]

    async def all_of(pool):
        async with pool.transcripts(**({"user_id": "user-1"} if api == "lexicon" else {})) as found:
            return [transcript async for transcript in found]

    async def synced():
        with TemporaryDirectory() as folder:
            try:
                async with Archive.open(Path(folder) / "archive.db") as store:
                    user = "user-1" if api == "lexicon" else None
                    watch.see(await sync(client, store, user_id=user))
            finally:
                watch.seen += contents(Path(folder))

    yield synced()
    yield all_of(SessionPool(client))
    match api:
        case "navtalk":
            yield client.sessions.list(limit=2)
            yield client.sessions.get(session_id)
            yield client.messages.list(session_id)
        case "kodey":
            yield client.chats.list()
            yield client.chats.get(session_id)
            yield client.messages.list(session_id)
            yield client.chats.create(agent_id="a")
            yield client.messages.create(session_id, "Hello")
            yield client.chats.delete(session_id)
        case "lexicon":
            yield client.chats.list_for_user("user-1", limit=2)
            yield client.chats.get(session_id)
            yield client.messages.list(session_id)
            yield client.chats.create(user_id="user-1")
            yield client.chats.delete(session_id)
        case "llamacloud":
            yield client.sessions.list(page_size=2)
            yield client.sessions.get(session_id)
            yield client.sessions.summary(session_id)
            yield client.sessions.create(index_ids=["i"])
            yield client.sessions.generate_title(session_id, "Hello")
            yield streamed()
            yield client.sessions.delete(session_id)


async def every_call(api, url, key, watch, box, **options):
    session_id = box.world.sessions[0]["id"]
    async with CLIENTS[api](key, base_url=url, on_event=watch, **{"retry": PATIENT} | options) as client:
        ended = [await error_of(call, watch) for call in calls(api, client, session_id, watch)]
        watch.see(client)
    return ended


async def over_the_sandbox(api, key, watch):
    async with Sandbox(sessions=3) as box:
        ended = await every_call(api, box.url_of(api), key, watch, box)
        assert not any(ended), ended
    async with Sandbox(sessions=3) as box:
        url = box.url_of(api)
        for fault in FAULTS:
            box.fail_next(fault, 1_000_000)
            # A refused pace is waited for, however few the attempts.
            await every_call(api, url, key, watch, box, timeout=0.05 if fault == "429" else 5.0)
            box.forget_planned()
        for patience in (1e-9, 0.02):
            box.hold()
            await every_call(api, url, key, watch, box, timeout=patience)
            box.release()


async def repeat(reader, writer):
    writer.write(await reader.read(10_000))
    writer.close()


async def elsewhere(api, key, watch, port):
    """Calls to a port nobody listens on, over TLS to a server without, and to an echo."""
    async with Sandbox(sessions=3) as box, await asyncio.start_server(repeat, "127.0.0.1", 0) as server:
        mirror = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for url in (f"http://127.0.0.1:{port}", box.url.replace("http", "https"), mirror):
            await every_call(api, url, key, watch, box)


async def left_early(api, key, watch):
    """Calls that are cancelled, and clients that are closed, while they wait or read."""
    for fault in ("hang", "slow"):
        for is_cancelled in (True, False):
            async with Sandbox(sessions=3, faults=Faults(slow_seconds=99)) as box:
                client = CLIENTS[api](key, base_url=box.url_of(api), on_event=watch)
                box.fail_next(fault, 1_000_000)
                session_id = box.world.sessions[0]["id"]
                tasks = [
                    asyncio.create_task(error_of(call, watch))
                    for call in calls(api, client, session_id, watch)
                ]
                await box.arrived(len(tasks))
                for task in tasks if is_cancelled else ():
                    task.cancel()
                await client.aclose()
                await asyncio.gather(*tasks)


async def run_everything(api, key, watch, port):
    await over_the_sandbox(api, key, watch)
    await elsewhere(api, key, watch, port)
    await left_early(api, key, watch)


NOT_FOLLOWED = (
    *(type, ModuleType, FunctionType, MethodType, FrameType, TracebackType),
    *(asyncio.AbstractEventLoop, asyncio.Task, Opaque, Watch),
)


def texts_behind(things):
    """Every text reachable from *things*, except through modules, functions and the loop."""
    seen, todo = set(), list(things)
    while todo:
        found = todo.pop()
        if id(found) in seen or isinstance(found, NOT_FOLLOWED):
            continue
        seen.add(id(found))
        if isinstance(found, str):
            yield found
        elif isinstance(found, bytes | bytearray | memoryview):
            yield bytes(found).decode("latin-1")
        else:
            todo += gc.get_referents(found)


async def main(port):
    watch = Watch()
    watch.begin()
    await asyncio.gather(
        *(run_everything(api, KEYS[number % len(KEYS)], watch, port) for number, api in enumerate(CLIENTS))
    )
    spans = watch.spans.get_finished_spans()
    watch.seen += [span.to_json() for span in spans]
    kept = {text for text in texts_behind(watch.answers) if "CANARY" in text}
    return {
        "spans": len(spans),
        "envelopes": watch.envelopes.count,
        "signals": sorted(watch.signals),
        "answers": len(watch.answers),
        "shown": watch.texts_with_key()[:3],
        "kept": sorted(kept)[:3],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(int(sys.argv[1])))))
