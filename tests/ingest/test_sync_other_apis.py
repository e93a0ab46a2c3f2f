"""What a sync of one of the sisters has to mind, beyond the laws that hold for all of them."""

import asyncio
from contextlib import asynccontextmanager, contextmanager, nullcontext

import msgspec
import pytest
from aiohttp import web

from navtalk_async import KodeyClient, LexiconClient, LlamaCloudClient
from navtalk_async.archive import Archive
from navtalk_async.errors import StoreMismatch
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox
from navtalk_async.verification import verify

TIME = "2024-01-15T10:30:00Z"


class Chats:
    """Two chats of Kodey.ai, as the reference has them: only the list says whose a chat is."""

    def __init__(self):
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()
        self.questions = 0
        """How often anybody asked for messages."""
        self.may_answer.set()
        self.said = {"a": ["m1"], "b": ["m1", "m2"]}
        self.listed = ["a", "b"]

    async def list(self, _):
        row = {"agentId": "x", "userId": "ann", "createdAt": TIME}
        rows = [name and {"id": name, **row} for name in self.listed]
        return web.json_response({"chats": rows})

    async def chat(self, request):
        name = request.match_info["name"]
        row = {"id": name, "agentId": "x", "teamId": "t", "messages": [], "createdAt": TIME}
        return web.json_response(row)

    async def messages(self, request):
        self.questions += 1
        self.asked.set()
        await self.may_answer.wait()
        said = self.said[request.match_info["name"]]
        row = {"role": "user", "createdAt": TIME}
        rows = [each and {"id": each, "content": each, **row} for each in said]
        return web.json_response({"messages": rows})

    @asynccontextmanager
    async def served(self):
        app = web.Application()
        app.add_routes(
            [
                web.get("/chat", self.list),
                web.get("/chat/{name}", self.chat),
                web.get("/chat/{name}/message", self.messages),
            ]
        )
        async with serving(app) as url:
            yield url


@asynccontextmanager
async def serving(app):
    """The address of *app* on this machine."""
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def held(store):
    """The sessions of *store* by id, each its object and the ids of its messages."""
    return {
        each.session.id: (msgspec.json.decode(each.session.raw), [row.id for row in each.messages])
        async for block in store.transcript_batches("default")
        for each in block
    }


async def test_a_chat_that_the_list_leaves_out_keeps_the_fields_that_only_the_list_has(tmp_path):
    chats = Chats()
    async with (
        chats.served() as url,
        KodeyClient("any", base_url=url) as client,
        Archive.open(tmp_path / "a.db") as store,
    ):
        await sync(client, store)
        before = await held(store)
        chats.listed.remove("b")
        chats.said["b"].append("m3")
        for _ in range(2):
            report = await sync(client, store)
            assert (report.changed, report.vanished) == (0, 0)
        after = await held(store)
        assert after == before | {"b": (before["b"][0], ["m1", "m2", "m3"])}
        report = await verify(store.path, client=client, remote=1)
        assert report.findings == []


async def test_a_row_that_cannot_be_read_is_counted_and_what_is_kept_of_it_is_not_gone(tmp_path):
    chats = Chats()
    chats.said["b"] = ["m1", "m2", "m3"]
    async with (
        chats.served() as url,
        KodeyClient("any", base_url=url) as client,
        Archive.open(tmp_path / "a.db") as store,
    ):
        await sync(client, store)
        before = await held(store)
        chats.listed, chats.said["b"] = ["a", None], ["m1", None, "m3"]
        report = await sync(client, store)
        assert (report.skipped_rows, report.vanished, report.messages_vanished) == (2, 0, 0)
        assert await held(store) == before
        checked = await verify(store.path, client=client, remote=1)
        assert (checked.checked.unasked, len(checked.notes)) == (2, 1)
        chats.said["b"] = ["m1", "m3"]
        assert (await sync(client, store)).messages_vanished == 1


async def test_a_chat_that_was_stopped_on_its_way_is_asked_for_once_more_and_not_left_pending(tmp_path):
    chats, scope = Chats(), {"sessions": ("b",)}
    async with (
        chats.served() as url,
        KodeyClient("any", base_url=url) as client,
        Archive.open(tmp_path / "a.db") as store,
    ):
        chats.may_answer.clear()
        stopped = asyncio.create_task(sync(client, store, **scope))
        await chats.asked.wait()
        stopped.cancel()
        await asyncio.wait([stopped])
        assert (await store.counts("default")).pending == 1
        chats.may_answer.set()
        await sync(client, store, **scope)
        # Asked for twice at once, the later answer would not answer what is pending.
        assert chats.questions == 2
        assert (await store.counts("default")).pending == 0
        assert (await held(store))["b"][1] == ["m1", "m2"]


@contextmanager
def refused(expected):
    with pytest.raises(StoreMismatch, match="you asked for") if expected else nullcontext():
        yield


async def test_projects_of_one_key_are_not_mixed_in_one_project_of_an_archive(tmp_path):
    async with Sandbox(sessions=3) as box, Archive.open(tmp_path / "a.db") as store:
        for project in ("one", "one", "two", None):
            client = LlamaCloudClient("any", base_url=box.llamacloud_url, project_id=project)
            async with client:
                with refused(project != "one"):
                    await sync(client, store)


class Counted:
    """A user's chats at Lexicon, whose list says how many messages each has, and no later time of change."""

    def __init__(self):
        self.said = {name: [f"{name}1", f"{name}2"] for name in "ab"}
        self.lists_count = True

    async def list(self, _):
        rows = [self.row(name) for name in self.said]
        return web.json_response(
            {"chats": rows, "total": len(rows), "offset": 0, "limit": 50, "has_more": False}
        )

    def row(self, name):
        count = {"message_count": len(self.said[name])} if self.lists_count else {}
        times = {"created_at": TIME, "updated_at": TIME, "last_message_at": None}
        return {"id": name, "user_id": "ann", "tenant_id": "t", "title": None, "config": {}, **times, **count}

    async def chat(self, request):
        return web.json_response(self.row(request.match_info["name"]) | {"status": "active"})

    async def messages(self, request):
        name = request.match_info["name"]
        rows = [{"id": each, "content": each, "created_at": TIME} for each in self.said[name]]
        page = {"total": len(rows), "offset": 0, "limit": 100, "has_more": False}
        return web.json_response({"messages": rows, **page})

    @asynccontextmanager
    async def served(self):
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/v1/chats/user/ann", self.list),
                web.get("/api/v1/chats/{name}", self.chat),
                web.get("/api/v1/chats/{name}/messages", self.messages),
            ]
        )
        async with serving(app) as url:
            yield url


async def test_another_number_of_messages_in_the_list_is_a_change_though_no_time_is(tmp_path):
    chats, scope = Counted(), {"user_id": "ann"}
    async with (
        chats.served() as url,
        LexiconClient("any", base_url=url) as client,
        Archive.open(tmp_path / "a.db") as store,
    ):
        await sync(client, store, **scope)
        for name, said in (("a", ["a1", "a2", "a3"]), ("b", ["b1"])):
            chats.said[name] = said
            assert (await sync(client, store, **scope)).changed == 1
            assert {each: ids for each, (_, ids) in (await held(store)).items()} == chats.said
        for chats.lists_count in (False, True):
            assert (await sync(client, store, **scope)).changed == 0
