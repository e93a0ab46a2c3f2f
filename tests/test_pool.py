"""Many sessions at once, against the sandbox."""

import asyncio
import gc
import json
import re

import pytest

from navtalk_async import (
    KodeyClient,
    LlamaCloudClient,
    NavTalkClient,
    Retry,
    SessionPool,
    SessionStatus,
)
from navtalk_async.errors import ClientClosed, ServerError
from navtalk_async.sandbox import Answers, Faults, Sandbox, World

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
ONCE = Retry(attempts=1, attempts_at_first=1)


def client_of(box, **options):
    return NavTalkClient("k", base_url=box.navtalk_url, **{"retry": QUICK, **options})


def truth(world):
    return [
        (session["id"], [(each["id"], each["content"]) for each in world.messages(session["id"])])
        for session in world.sessions
    ]


def seen(transcript):
    return transcript.session.id, [(each.id, each.content) for each in transcript.messages]


@pytest.mark.parametrize("cursor_on_last_page", [True, False])
@pytest.mark.parametrize("max_page", [None, 7])
async def test_every_session_comes_once_with_all_its_messages(cursor_on_last_page, max_page):
    answers = Answers(cursor_on_last_page=cursor_on_last_page, max_page=max_page)
    async with Sandbox(sessions=150, answers=answers) as box, client_of(box) as nt:
        async with SessionPool(nt).transcripts() as transcripts:
            got = [seen(transcript) async for transcript in transcripts]
    assert sorted(got) == sorted(truth(box.world))


async def test_in_listed_order_transcripts_come_as_the_api_lists_them():
    async with Sandbox(sessions=150) as box, client_of(box) as nt:
        async with SessionPool(nt, concurrency=8).transcripts(order="listed") as transcripts:
            got = [seen(transcript) async for transcript in transcripts]
    assert got == truth(box.world)


@pytest.mark.parametrize("concurrency", ["auto", 1, 8])
async def test_tasks_may_begin_at_once(concurrency):
    async with Sandbox(sessions=150) as box, client_of(box) as nt:
        # Python 3.11 has no eager tasks: there, this is the usual way.
        asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
        async with SessionPool(nt, concurrency=concurrency).transcripts() as transcripts:
            got = [seen(transcript) async for transcript in transcripts]
    assert sorted(got) == sorted(truth(box.world))


@pytest.mark.parametrize("concurrency", [1, 3, 16])
async def test_the_server_never_sees_more_requests_at_once_than_the_pool_may_make(concurrency):
    async with Sandbox(sessions=120, latency=0.002) as box, client_of(box) as nt:
        async with SessionPool(nt, concurrency=concurrency).transcripts() as transcripts:
            count = len([None async for _ in transcripts])
        assert count == 120
        assert box.counts.peak_in_flight <= concurrency


async def test_messages_are_fetched_before_the_listing_has_ended():
    async with Sandbox(sessions=300) as box, client_of(box) as nt:
        async with SessionPool(nt, concurrency=4).transcripts() as transcripts:
            await anext(transcripts)
            assert box.counts.by_kind["sessions"] <= 2
            assert box.counts.by_kind["messages"] >= 1


async def test_the_filters_reach_the_listing_and_the_messages():
    async with Sandbox(sessions=150) as box, client_of(box) as nt:
        pool = SessionPool(nt)
        start = box.world.sessions[50]["startTime"]
        async with pool.transcripts(start_time=start, status=SessionStatus.COMPLETED, role=1) as transcripts:
            got = {t.session.id: {m.role for m in t.messages} async for t in transcripts}
    wanted = {s["id"] for s in box.world.sessions if s["startTime"] >= start and s["status"] == 1}
    assert set(got) == wanted
    assert set().union(*got.values()) == {1}


async def test_the_listing_alone_comes_in_order():
    async with Sandbox(sessions=250) as box, client_of(box) as nt:
        async with SessionPool(nt).sessions() as sessions:
            assert [session.id async for session in sessions] == [s["id"] for s in box.world.sessions]


async def test_a_bad_session_is_yielded_with_its_error_and_the_others_with_their_messages():
    async with Sandbox(World(40, messages=3)) as box, client_of(box, retry=ONCE) as nt:
        bad = box.world.sessions[7]["id"]
        box.fail_next("500", times=1, path=bad)
        async with SessionPool(nt).transcripts(on_error="yield") as transcripts:
            got = {t.session.id: t async for t in transcripts}
    assert len(got) == 40
    assert isinstance(got[bad].error, ServerError)
    assert [len(t.messages) for t in got.values() if t.error is None] == [3] * 39


async def test_a_bad_session_raises_its_own_error_outside_of_any_group():
    async with Sandbox(World(40, messages=3)) as box, client_of(box, retry=ONCE) as nt:
        box.fail_next("500", path=box.world.sessions[7]["id"])
        with pytest.raises(ServerError):
            async with SessionPool(nt).transcripts() as transcripts:
                async for _ in transcripts:
                    pass


async def test_an_error_of_the_listing_is_raised_after_the_listed_transcripts_were_delivered():
    async with Sandbox(World(250, messages=1)) as box, client_of(box, retry=ONCE) as nt:
        delivered = 0
        with pytest.raises(ServerError):
            async with SessionPool(nt).transcripts(on_error="yield") as transcripts:
                async for _ in transcripts:
                    if not delivered:
                        box.fail_next("500", path="/sessions")
                    delivered += 1
    assert delivered in (100, 200)


async def test_one_bad_answer_in_ten_costs_only_time():
    async with Sandbox(sessions=150, faults=Faults.parse("10%")) as box, client_of(box) as nt:
        async with SessionPool(nt).transcripts() as transcripts:
            got = [seen(transcript) async for transcript in transcripts]
    assert sorted(got) == sorted(truth(box.world))
    assert sum(box.counts.faults.values()) > 5


async def test_messages_that_are_too_long_for_one_page_come_in_smaller_pages():
    async with Sandbox(World(3, messages=0)) as box, client_of(box, body_limit=2**20) as nt:
        for number in range(30):
            box.world.add_message(box.world.sessions[1]["id"], content=f"{number} " + "long " * 20_000)
        async with SessionPool(nt).transcripts(order="listed") as transcripts:
            got = [seen(transcript) async for transcript in transcripts]
    assert got == truth(box.world)


async def test_pages_are_as_long_again_after_rows_that_are_too_long_together():
    async with Sandbox(World(1, messages=0)) as box, client_of(box, body_limit=2**20) as nt:
        session_id = box.world.sessions[0]["id"]
        for number in range(2000):
            box.world.add_message(session_id, content="x" * (20_000 if 100 <= number < 200 else 20))
        pages = [page async for page in nt.messages.list(session_id, limit=100).pages()]
    assert sum(len(page.items) for page in pages) == 2000
    assert [len(page.items) for page in pages[-10:-1]] == [100] * 9


@pytest.mark.parametrize("method", ["transcripts", "sessions"])
async def test_results_outside_of_an_async_with_raise_an_error_that_says_what_to_write(method):
    async with Sandbox(sessions=3) as box, client_of(box) as nt:
        with pytest.raises(RuntimeError, match="write `async with … as results:` around the `async for`"):
            async for _ in getattr(SessionPool(nt), method)():
                pass
        assert box.counts.total == 0


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_concurrency_bounds_everything_that_is_called_on_a_pool_together(concurrency):
    async with Sandbox(sessions=60, latency=0.002) as box, client_of(box) as nt:
        pool = SessionPool(nt, concurrency=concurrency)

        async def read(results):
            async with results as rows:
                return len([None async for _ in rows])

        counts = await asyncio.gather(
            read(pool.transcripts()), read(pool.transcripts(order="listed")), read(pool.sessions())
        )
        assert counts == [60, 60, 60]
        assert box.counts.peak_in_flight <= concurrency


def test_a_pool_works_in_one_event_loop_after_another():
    async def read(pool):
        async with pool.transcripts() as transcripts:
            return len([None async for _ in transcripts])

    async def main():
        async with Sandbox(sessions=20) as box:
            nt = client_of(box)
            pool = SessionPool(nt, concurrency=2)
            counts = [await asyncio.to_thread(asyncio.run, read(pool)) for _ in range(2)]
            await nt.aclose()
            return counts

    assert asyncio.run(main()) == [20, 20]


@pytest.mark.parametrize("method", ["transcripts", "sessions"])
async def test_a_misspelled_filter_is_refused_before_any_request(method):
    async with Sandbox(sessions=3) as box, client_of(box) as nt:
        with pytest.raises(TypeError, match="statuss: only by start_time and end_time and status"):
            getattr(SessionPool(nt), method)(statuss=1)
        assert box.counts.total == 0


async def test_a_million_at_once_asked_for_three_sessions_are_three():
    async with Sandbox(World(3, messages=1)) as box, client_of(box) as nt:
        async with SessionPool(nt, concurrency=1_000_000).transcripts() as transcripts:
            assert len([each async for each in transcripts]) == 3


async def test_leaving_early_stops_the_requests_and_leaves_no_task():
    async with Sandbox(sessions=300) as box, client_of(box) as nt:
        before = asyncio.all_tasks()
        async with SessionPool(nt, concurrency=4).transcripts() as transcripts:
            async for _ in transcripts:
                break
        assert {t for t in asyncio.all_tasks() - before if "FanOut" in repr(t)} == set()
        asked = box.counts.total
        assert asked < 100
        await nt.sessions.list(limit=1)
        assert box.counts.total <= asked + 1 + 4


async def test_a_client_closed_by_another_task_ends_the_pool_with_that_error():
    noise = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    async with Sandbox(sessions=100) as box, client_of(box) as nt:
        box.hold()
        arrived = asyncio.ensure_future(box.arrived(1))

        async def close():
            await arrived
            await nt.aclose()

        closing = asyncio.create_task(close())
        with pytest.raises(ClientClosed):
            async with SessionPool(nt).transcripts() as transcripts:
                async for _ in transcripts:
                    pass
        await closing
        box.release()
    gc.collect()
    assert noise == []


@pytest.mark.parametrize(
    "bad", [{"concurrency": 0}, {"concurrency": "many"}, {"concurrency": True}, {"listing": "fast"}]
)
async def test_a_wrong_argument_is_refused_before_any_request(bad):
    async with Sandbox(sessions=1) as box, client_of(box) as nt:
        with pytest.raises(ValueError, match=next(iter(bad))):
            SessionPool(nt, **bad)
        assert box.counts.total == 0


@pytest.mark.parametrize("thing", [None, 5, "https://example.com", NavTalkClient])
def test_a_pool_without_a_client_is_refused_at_once(thing):
    with pytest.raises(TypeError, match=re.escape(f"SessionPool({thing!r}) has no client to ask with")):
        SessionPool(thing)


async def test_an_unknown_on_error_is_refused():
    async with Sandbox(sessions=1) as box, client_of(box) as nt:
        with pytest.raises(ValueError, match="on_error"):
            SessionPool(nt).transcripts(on_error="ignore")


# A session that a list has twice ------------------------------------------------------------------------


SESSION = {"id": "a", "startTime": "2025-11-12 18:20:38", "endTime": None, "status": 1, "videoUrl": None}
TWICE = {
    NavTalkClient: {"data": {"data": [SESSION, SESSION, SESSION | {"id": "b"}], "nextCursor": None}},
    KodeyClient: {"chats": [{"id": "a"}, {"id": "b"}, {"id": "a"}]},
}


@pytest.mark.parametrize("kind", TWICE)
@pytest.mark.parametrize("order", ["done", "listed"])
@pytest.mark.parametrize("listing", ["auto", "serial"])
async def test_a_session_that_an_answer_has_twice_is_yielded_once(scripted, kind, order, listing):
    async with scripted(json.dumps(TWICE[kind]).encode()) as box, kind("k", base_url=box.url) as client:
        async with SessionPool(client, listing=listing).sessions(order=order) as sessions:
            assert [session.id async for session in sessions] == ["a", "b"]


@pytest.mark.parametrize("order", ["done", "listed"])
async def test_a_session_that_moves_to_the_end_of_the_list_meanwhile_is_yielded_once(order):
    answers = Answers(llamacloud_order="oldest")
    async with Sandbox(World(60, messages=1), answers=answers) as box:
        async with (
            LlamaCloudClient("k", base_url=box.llamacloud_url) as llama,
            SessionPool(llama).sessions(order=order, limit=10) as sessions,
        ):
            got = []
            async for session in sessions:
                if not got:
                    box.world.add_message(session.id, created_at="2030-01-01 00:00:00")
                got.append(session.id)
    assert sorted(got) == sorted(session["id"] for session in box.world.sessions)
