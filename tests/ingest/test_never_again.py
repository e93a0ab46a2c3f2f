"""A session that was forgotten is never asked for again, whatever asks, and wherever it was killed."""

import asyncio
import shutil
from collections import Counter

import pytest
from apis import APIS
from canaries import bytes_of
from command_runs import command_runner, settled
from postgres_box import copy_schema, new_schema

from navtalk_async import NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of
from navtalk_async.ingest import Progress, sync, watch
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import verify

QUICK = Retry(attempts=2, base_seconds=0.001, cap_seconds=0.01)
KEY = {"NAVTALK_API_KEY": "k"}


def a_client(box, api="navtalk"):
    return Client(dialect_of(api), "k", base_url=box.url_of(api), retry=QUICK)


def asked_for(box):
    """The sessions that were asked for, by id."""
    return {each for _, params in box.counts.recent for each in params.values()}


def stir(world, names, number):
    """Give a sync every reason to fetch the sessions of these *names* again."""
    for each in names:
        world.change_session(each, videoUrl=f"https://example.org/{number}", status=number % 2)
        world.add_message(each, f"more {number}")


@pytest.mark.parametrize("api", APIS, ids=str)
async def test_ten_rounds_never_ask_for_a_forgotten_session(api, tmp_path):
    place = tmp_path / "archive.db"
    async with Sandbox(World(8, messages=2)) as box, a_client(box, api.name) as client:
        async with Archive.open(place) as archive:
            await sync(client, archive, **api.filters)
            kept = [each.session.id async for each in archive.transcripts()]
            gone = {kept[0], kept[4], kept[-1]}
            found = await archive.forget(sessions=gone)
            assert {*found.sessions} == gone
            box.counts.reset()
            for number in range(10):
                stir(box.world, gone, number)
                how = {"reconcile": number % 3 == 1, "retry_failed": number % 2 == 1}
                report = await sync(client, archive, **api.filters, **how)
                assert report.forgotten == 0 or report.failed == 0
                if number == 5:
                    await archive.refetch("default", sorted(gone))
            assert [each.session.id async for each in archive.transcripts()] == [
                each for each in kept if each not in gone
            ]
        report = await verify(place, client=client, remote=1.0, repair=True, forgotten=True)
        assert [each for each in report.findings if each.session in gone or each.remedy == "forget"] == []
        assert asked_for(box) & gone == set()
        assert asked_for(box) & set(kept)


async def test_the_list_of_a_round_counts_those_that_it_leaves_out(address):
    async with (
        Sandbox(World(12, messages=3)) as box,
        a_client(box) as client,
        Archive.open(address) as archive,
    ):
        await sync(client, archive)
        gone = [each["id"] for each in box.world.sessions[-2:]]
        await archive.forget(sessions=gone)
        report = await sync(client, archive, reconcile=True)
        assert (report.listed, report.forgotten, report.inserted, report.vanished) == (12, 2, 0, 0)


async def test_neither_a_poke_nor_a_session_that_is_named_is_asked_for(address):
    async with Sandbox(World(6, messages=3)) as box:
        names = [each["id"] for each in box.world.sessions]
        async with a_client(box) as client:
            async with Archive.open(address) as archive:
                await sync(client, archive, sessions=names[:3])
                await archive.forget(sessions=names[:1])
            box.counts.reset()
            async with watch(client, address, every=0.001, sessions=names[:3]) as results:
                result = await anext(results)
                assert result.report.forgotten == 1
                await results.poke(names[0])
                await results.poke(names[1])
                # And one that is forgotten while the watch runs.
                await results.archive.forget(sessions=names[1:2])
                box.counts.reset()
                await results.poke(names[1])
                await anext(results)
                assert asked_for(box) & set(names[:3]) == {names[2]}


async def test_what_was_fetched_while_it_was_forgotten_is_not_kept(address, until):
    async with Sandbox(World(20, messages=3)) as box, Archive.open(address) as archive:
        async with NavTalkClient("k", base_url=box.navtalk_url, retry=QUICK, concurrency=2) as client:
            await sync(client, archive)
            names = [each["id"] for each in box.world.sessions]
            stir(box.world, names, 1)
            box.latency = 0.01
            progress = Progress()
            run = asyncio.create_task(sync(client, archive, progress=progress, reconcile=True))
            await until(lambda: progress.report.done >= 3)
            await archive.forget(sessions=names)
            await run
            assert (await archive.counts()).sessions == 0
            assert await archive.remains("default") == []
            assert await archive.flaws() == []


class Scene:
    """An archive with canaries in three sessions, to be forgotten again and again."""

    def __init__(self, place, spare):
        self.place, self._spare = place, spare

    async def keep(self):
        if self._spare.__class__ is str:
            await copy_schema(self.place, self._spare)
        else:
            shutil.copytree(self.place.parent, self._spare)

    async def rewind(self):
        if self._spare.__class__ is str:
            await copy_schema(self._spare, self.place)
        else:
            shutil.rmtree(self.place.parent)
            shutil.copytree(self._spare, self.place.parent)


@pytest.fixture(params=["sqlite", "postgres"])
async def scene(request, tmp_path):
    if request.param == "sqlite":
        return Scene(tmp_path / "run" / "archive.db", tmp_path / "spare")
    server = request.getfixturevalue("postgres")
    return Scene(await new_schema(server), await new_schema(server))


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_wherever_forgetting_is_killed_the_same_command_completes_it(scene):
    async with Sandbox(World(8, messages=3)) as box, command_runner() as commands:
        names = [each["id"] for each in box.world.sessions]
        gone = names[1:4]
        for each in gone:
            box.world.add_message(each, f"canary of {each}")
        async with a_client(box) as client, Archive.open(scene.place) as archive:
            await sync(client, archive)
        await scene.keep()
        arguments = ("forget", scene.place, *(word for each in gone for word in ("--session", each)))
        recorded = await commands.run(*arguments, env=KEY, armed=True)
        assert recorded.code == 0, recorded.err
        arrivals = Counter(recorded.arrivals)
        assert {
            "forget: after commit",
            "erase: before vacuum",
            "mark erased: before commit",
        } <= arrivals.keys()
        moments = {(name, number) for name, last in arrivals.items() for number in (1, last)}
        if isinstance(scene.place, str):
            # To make a schema anew takes its time; transactions are the same.
            moments = {each for each in moments if "erase" in each[0] or "after commit" in each[0]}
        for name, number in sorted(moments):
            await scene.rewind()
            killed = await commands.run(*arguments, env=KEY, end=[name, number])
            assert killed.code == -9
            again = await commands.run(*arguments, env=KEY)
            assert again.code == 0, again.err
            data = await bytes_of(scene.place)
            if isinstance(scene.place, str):
                data = {"dump": data["dump"]}
            assert [where for where, held in data.items() if b"canary of" in held] == [], name
        box.counts.reset()
        stir(box.world, gone, 1)
        synced = await commands.run("sync", scene.place, "--base-url", box.url, "--reconcile", env=KEY)
        assert synced.code == 0, synced.err
        await settled(box)
        assert asked_for(box) & set(gone) == set()
        checked = await commands.run("verify", scene.place, "--forgotten", env=KEY)
        assert checked.code == 0, checked.err
