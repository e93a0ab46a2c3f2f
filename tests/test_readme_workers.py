"""The workers of the README pass on what changed, and are killed in the middle."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import asyncpg
import pytest
from aiohttp import web
from postgres_box import new_schema
from readme import WORKERS

from navtalk_async import Archive, NavTalkClient, sync
from navtalk_async.sandbox import Sandbox, World

SOON = 30.0


@asynccontextmanager
async def working(name, folder, **env):
    """The worker of this *name*, until it is killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WORKERS[name]), cwd=folder, env={**os.environ, **env}, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(condition, worker):
    """Until *condition* holds, which the *worker* makes true."""
    async with asyncio.timeout(SOON):
        while not await condition():
            assert worker.returncode is None, (await worker.stderr.read()).decode()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def kept(folder):
    """An archive of 700 sessions in *folder*, and a function that changes some of them."""
    place = folder / "chats" / "archive.db"
    async with Sandbox(World(700, messages=2)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:

        async def change():
            for number in range(0, 700, 70):
                name = box.world.sessions[number]["id"]
                box.world.change_message(name, box.world.messages(name)[0]["id"], content="corrected")
                box.world.change_session(name, status=2)
            await synced(reconcile=True)

        async def synced(**options):
            async with Archive.open(place) as archive:
                await sync(nt, archive, **options)

        await synced()
        yield place, change


async def transcripts(place):
    async with Archive.open(place, read_only=True) as archive:
        return {each.session.id: each async for each in archive.transcripts()}


def test_a_worker_has_few_lines():
    assert {name: len(block.splitlines()) <= 25 for name, block in WORKERS.items()} == dict.fromkeys(
        ("into_postgres", "into_files", "into_http"), True
    )


async def test_the_worker_into_postgres(tmp_path, postgres):
    warehouse = await new_schema(postgres)
    db = await asyncpg.connect(warehouse)
    async with kept(tmp_path) as (place, change):

        async def has_begun():
            there = await db.fetchval(
                "SELECT count(*) FROM pg_tables WHERE tablename = 'chats' AND schemaname = current_schema()"
            )
            return there and await db.fetchval("SELECT count(*) FROM chats") > 0

        async def is_equal():
            rows = {row["id"]: row async for row in rows_of(db)}
            there = await transcripts(place)
            return rows.keys() == there.keys() and all(
                json.loads(row["messages"]) == [each._asdict() for each in there[name].messages]
                and row["status"] == str(there[name].session.status)
                for name, row in rows.items()
            )

        async with working("into_postgres", tmp_path, WAREHOUSE=warehouse) as worker:
            await until(has_begun, worker)
        await change()
        async with working("into_postgres", tmp_path, WAREHOUSE=warehouse) as worker:
            await until(is_equal, worker)
    await db.close()


async def rows_of(db):
    for row in await db.fetch("SELECT * FROM chats"):
        yield row


async def test_the_worker_into_files(tmp_path):
    folder = tmp_path / "chats" / "json"
    async with kept(tmp_path) as (place, change):

        async def has_begun():
            return len(list(folder.glob("*.json"))) > 0

        async def is_equal():
            there = await transcripts(place)
            files = {path.stem: json.loads(path.read_bytes()) for path in folder.glob("*.json")}
            return files == {
                name: {**each.session._asdict(), "messages": [row._asdict() for row in each.messages]}
                for name, each in there.items()
            }

        async with working("into_files", tmp_path) as worker:
            await until(has_begun, worker)
        await change()
        async with working("into_files", tmp_path) as worker:
            await until(is_equal, worker)


@pytest.mark.parametrize("killed_at", [1, 3])
async def test_the_worker_into_http_is_killed_before_it_has_its_answer(tmp_path, killed_at):
    messages, batches, workers = {}, [], []

    async def receive(request):
        batches.append(await request.json())
        if len(batches) == killed_at:
            workers[0].kill()
        for change in batches[-1]:
            name = change["session"]["id"]
            messages.setdefault(name, {})
            for gone in change["gone"]:
                messages[name].pop(gone, None)
            messages[name].update({each["id"]: each for each in change["messages"]})
        return web.Response()

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"
    async with kept(tmp_path) as (place, change):

        async def is_equal():
            there = await transcripts(place)
            return messages == {
                name: {row.id: row._asdict() for row in each.messages} for name, each in there.items()
            }

        async with working("into_http", tmp_path, ENDPOINT=endpoint) as worker:
            workers.append(worker)
            await worker.wait()
        await change()
        async with working("into_http", tmp_path, ENDPOINT=endpoint) as worker:
            await until(is_equal, worker)
    assert batches[killed_at][0] == batches[killed_at - 1][0]
    await runner.cleanup()
