"""The event loop is never kept waiting: no call blocks it, and none of its steps computes for long."""

import asyncio
import time
from contextlib import aclosing

import anyio.lowlevel
import pytest
from blockbuster import BlockBuster, BlockingError
from loop_steps import LoopSteps, slowness

from navtalk_async import Archive, NavTalkClient, SessionPool, export, search, sync, verify
from navtalk_async.dialects import dialects
from navtalk_async.formats import FORMATS
from navtalk_async.sandbox import Sandbox, World

BUDGET = 0.010
"""Seconds of CPU in a step, on a machine as fast as that of the README's figures."""

ATTEMPTS = 3
"""What takes long takes long each time; what something else slowed down does not."""


@pytest.fixture(scope="module")
def box():
    def messages(number):
        return 3000 if number == 3 else 400 if number % 30 == 0 else 4

    with Sandbox(World(90, messages=messages, long_messages=1)) as box:
        yield box


@pytest.fixture(scope="module")
def url(box):
    return box.navtalk_url


@pytest.fixture
async def blocking():
    """Calls that block an event loop raise."""
    await anyio.lowlevel.checkpoint()  # which imports much, once
    dialects.cache_clear()
    buster = BlockBuster()
    # It reads ~/.pgpass.
    buster.functions["os.stat"].can_block_in("asyncpg/connect_utils.py", "_parse_connect_arguments")
    buster.activate()
    yield
    buster.deactivate()


class Watched:
    """Runs pieces of work, and knows the longest step of each."""

    def __init__(self):
        self._longest = {}

    async def run(self, name, work):
        with LoopSteps() as steps:
            await asyncio.ensure_future(work)
        self._longest[name] = steps.longest

    def too_long(self, budget):
        return {name: step for name, step in self._longest.items() if step.seconds > budget}


async def too_long(work, *arguments):
    """The steps of `work(watched, *arguments)` that take too long each time."""
    for _ in range(ATTEMPTS):
        watched = Watched()
        await work(watched, *arguments)
        if not (found := watched.too_long(BUDGET * slowness())):
            break
    return found


async def walked(results):
    async with results as found:
        async for _ in found:
            pass


async def handed_on(archive):
    async with archive.changes() as batches:
        async for batch in batches:
            await walked(aclosing(batch.transcripts()))


async def ask(watched, box, url):
    async with NavTalkClient("k", base_url=url) as nt:
        await watched.run("list", nt.sessions.list().all())
        await watched.run("transcript", nt.transcript(box.world.session_rows[3]["id"]))
        await watched.run("pool", walked(SessionPool(nt).transcripts()))


async def keep(watched, box, url, place, folder):
    async with NavTalkClient("k", base_url=url) as nt:
        async with Archive.open(place) as archive:
            await watched.run("sync", sync(nt, archive))
            for session in box.world.sessions[::10]:
                message = box.world.messages(session["id"])[0]
                box.world.change_message(session["id"], message["id"], content=f"{message['content']}!")
            await watched.run("sync again", sync(nt, archive, reconcile=True))
            for name in FORMATS:
                await watched.run(f"export {name}", export(archive, folder / name, formats=[name]))
            await watched.run("export again", export(archive, folder / "jsonl", formats=["jsonl"]))
            await watched.run("read", walked(aclosing(archive.transcripts())))
            await watched.run("changes", walked(archive.changes()))
            await watched.run("transcripts of changes", handed_on(archive))
            await watched.run("search", walked(aclosing(search(archive, "hello"))))
        await watched.run("verify", verify(place))
        await watched.run("verify an export", verify(folder / "jsonl"))
        await watched.run("verify with the API", verify(place, client=nt, remote=0.2))


@pytest.mark.usefixtures("blocking")
async def test_asking_does_not_block_the_loop(box, url):
    assert await too_long(ask, box, url) == {}


@pytest.mark.usefixtures("blocking")
async def test_keeping_exporting_and_verifying_do_not_block_the_loop(box, url, new_place, tmp_path):
    async def in_a_new_place(watched):
        place = await new_place()
        await keep(watched, box, url, place, tmp_path / f"of {str(place)[-8:]}")

    assert await too_long(in_a_new_place) == {}


@pytest.mark.usefixtures("blocking")
async def test_a_call_that_blocks_raises():
    with pytest.raises(BlockingError):
        time.sleep(0.001)  # noqa: ASYNC251 - as planned


async def test_a_step_that_computes_for_long_is_seen():
    async def compute():
        ends = time.thread_time() + 2 * BUDGET
        while time.thread_time() < ends:
            pass

    watched = Watched()
    await watched.run("compute", compute())
    await watched.run("wait", anyio.sleep(2 * BUDGET))
    assert watched.too_long(BUDGET).keys() == {"compute"}
