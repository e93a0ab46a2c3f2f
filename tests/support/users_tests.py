"""Tests as users of the plugin write them, run by `tests/sandbox/test_fixtures.py`."""

import asyncio

import pytest

from navtalk_async import NavTalkClient, SessionPool
from navtalk_async.errors import DeadlineExceeded
from navtalk_async.sandbox import World

TIMES = 3


def one_chat():
    world = World(sessions=0)
    world.add_message(world.add_session("2025-01-01 00:00:00")["id"], "Hello")
    return world


async def failing_first(sandbox, client, limit=10):
    sandbox.fail_next("500", times=TIMES)
    page = await client.sessions.list(limit=limit)
    return len(page.items)


@pytest.mark.asyncio
async def test_with_asyncio(navtalk_sandbox, navtalk_client):
    assert await failing_first(navtalk_sandbox, navtalk_client) == 10
    asked = navtalk_sandbox.counts.asked
    assert [(each.method, each.kind, each.params) for each in asked] == [
        ("GET", "sessions", {"limit": "10"})
    ] * (TIMES + 1)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("limit", [9, 10])
async def test_in_the_sessions_loop(navtalk_sandbox, navtalk_client, limit):
    assert await failing_first(navtalk_sandbox, navtalk_client, limit) == limit
    navtalk_sandbox.hold()
    held = asyncio.create_task(navtalk_client.sessions.list(limit=1).first())
    await navtalk_sandbox.arrived(TIMES + 2)
    navtalk_sandbox.release()
    assert await held


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_with_anyio(navtalk_sandbox, navtalk_client):
    assert await failing_first(navtalk_sandbox, navtalk_client) == 10


@pytest.mark.asyncio
@pytest.mark.navtalk_sandbox(world=one_chat, answers={"cursor_on_last_page": False})
async def test_of_every_api(navtalk_sandbox, navtalk_client, kodey_client, lexicon_client, llamacloud_client):
    for client in (navtalk_client, kodey_client, lexicon_client, llamacloud_client):
        filters = {"user_id": "user-0"} if client is lexicon_client else {}
        async with SessionPool(client).transcripts(**filters) as transcripts:
            assert [len(each.messages) async for each in transcripts] in ([1], [2])
    assert set(navtalk_sandbox.counts.by_api) == {"navtalk", "kodey", "lexicon", "llamacloud"}


@pytest.mark.asyncio
@pytest.mark.navtalk_sandbox(faults="retry-after=100")
async def test_without_waiting(navtalk_sandbox, navtalk_client):
    navtalk_sandbox.fail_next("429", times=2)
    async with asyncio.timeout(50):
        assert await navtalk_client.sessions.list(limit=10)
        assert navtalk_client.stats().paused_seconds >= 200
        navtalk_sandbox.fail_next("429", times=9)
        with pytest.raises(DeadlineExceeded):
            await navtalk_client.sessions.list(limit=10)


@pytest.mark.asyncio
@pytest.mark.navtalk_sandbox(sessions=7, faults="hang=100%")
@pytest.mark.navtalk_client(timeout=0.01)
async def test_with_options(navtalk_sandbox, navtalk_client):
    assert len(navtalk_sandbox.world.sessions) == 7
    with pytest.raises(DeadlineExceeded):
        await navtalk_client.sessions.list()


@pytest.mark.usefixtures("navtalk_environment")
def test_without_a_loop():
    async def program():
        async with NavTalkClient() as client:
            return len(await client.sessions.list().all())

    assert asyncio.run(program()) == 60
