"""Pokes: a session that may have changed is asked for at once, beside the rounds of a `watch`."""

import asyncio
import gc
from collections import Counter
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from random import Random

import pytest
from archive_contents import assert_finished, contents_at, contents_of
from changes import CHANGES, Change, Clock, apply_change, arrived_or_over
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import run_in_virtual_time

from navtalk_async import KodeyClient, NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.errors import NavTalkError, NotFound, ServerError, StoreLocked, StoreMismatch
from navtalk_async.ingest import watch
from navtalk_async.ingest._pokes import MOST_WAITING, PokeQueue
from navtalk_async.sandbox import Faults, Sandbox, World

QUICK = Retry(attempts=2, base_seconds=0.001, cap_seconds=0.01)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.db"


@asynccontextmanager
async def watched(box, place, **options):
    async with (
        NavTalkClient("k", base_url=box.navtalk_url, retry=QUICK) as nt,
        watch(nt, place, every=0.001, **options) as results,
    ):
        yield results


async def kept(place, session_id):
    async with Archive.open(place, read_only=True) as archive:
        return await archive.transcript(session_id)


async def texts(place, session_id):
    return [each.content for each in (await kept(place, session_id)).messages]


async def test_a_poke_that_is_awaited_returns_once_the_session_is_kept(address):
    async with Sandbox(World(30, messages=2)) as box, watched(box, address) as results:
        await anext(results)
        changed, new = box.world.sessions[3]["id"], box.world.add_session()["id"]
        box.world.add_message(changed, "more")
        box.world.change_session(changed, videoUrl="https://example.org/v")
        await results.poke(changed, new)
        assert "more" in await texts(address, changed)
        assert (await kept(address, changed)).session.video_url == "https://example.org/v"
        assert await kept(address, new) is not None
        async with Archive.open(address, read_only=True) as archive:
            [about] = await archive.projects()
            assert (about.round, about.rounds) == (None, 1)
            assert await archive.pending() == []
    await assert_finished(address, box.world)


async def test_a_message_in_a_session_that_looks_the_same_is_found(path):
    async with Sandbox(World(5, messages=2)) as box, watched(box, path) as results:
        await anext(results)
        session = box.world.sessions[0]["id"]
        box.world.change_message(session, box.world.messages(session)[0]["id"], content="corrected")
        await results.poke(session)
        assert (await texts(path, session))[0] == "corrected"


async def test_a_poke_before_the_first_round_opens_the_archive(address):
    async with Sandbox(World(30, messages=2)) as box, watched(box, address) as results:
        await results.poke(box.world.sessions[7]["id"])
        assert len(await texts(address, box.world.sessions[7]["id"])) == 2
        assert (await anext(results)).report.inserted == 29
    await assert_finished(address, box.world)


async def test_pokes_that_nobody_awaits_are_done_without_a_complaint(path, caplog):
    async with Sandbox(World(5, messages=2)) as box:
        async with watched(box, path) as results:
            results.poke(UNKNOWN)
            results.poke(box.world.sessions[0]["id"])
            await results.poke(box.world.sessions[1]["id"])
        assert len(await contents_at(path)) == 2
    gc.collect()
    assert [each for each in caplog.records if each.name == "asyncio"] == []


async def test_a_poke_can_be_made_a_task_and_be_given_up(path):
    async with Sandbox(World(5, messages=2)) as box, watched(box, path) as results:
        session = box.world.sessions[0]["id"]
        given_up = asyncio.create_task(results.poke(session))
        awaited = results.poke(session)
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.wait_for(awaited, 60)
        await awaited
        assert await kept(path, session) is not None


@pytest.mark.parametrize("wrong", ["", " ", None, 7, b"x", "../x", ".", "a\nb"])
async def test_what_is_no_id_of_a_session_is_refused_and_nothing_is_asked(wrong, path):
    async with Sandbox(World(5)) as box, watched(box, path) as results:
        for ids in ((wrong,), (box.world.sessions[0]["id"], wrong)):
            with pytest.raises(ValueError, match="session"):
                results.poke(*ids)
        with pytest.raises(TypeError, match="session_id"):
            results.poke()
        await asyncio.sleep(0)
        assert box.counts.total == 0
    assert not path.exists()


async def test_a_session_that_the_api_never_had_is_an_error_and_changes_nothing(path):
    async with Sandbox(World(5)) as box, watched(box, path) as results:
        await anext(results)
        async with Archive.open(path, read_only=True) as archive:
            before = await archive.change_marker()
            with pytest.raises(NotFound):
                await results.poke(UNKNOWN)
            assert await archive.change_marker() == before


async def test_a_session_that_is_gone_is_marked_as_deleted(path):
    async with Sandbox(World(5, messages=1)) as box, watched(box, path) as results:
        await anext(results)
        gone = box.world.sessions[2]["id"]
        box.world.remove_session(gone)
        await results.poke(gone)
        assert (await kept(path, gone)).session.deleted_at is not None
        assert len(await texts(path, gone)) == 1


async def test_another_projects_key_marks_nothing_as_deleted(path):
    async with Sandbox(keys={"k": World(5, 1)}) as box, watched(box, path) as results:
        await anext(results)
        session = box.keys["k"].sessions[2]["id"]
        box.keys = {"k": World(5, 2)}
        with pytest.raises(StoreMismatch):
            await results.poke(session)
        assert (await kept(path, session)).session.deleted_at is None


async def test_sessions_that_the_filters_leave_out_stay_out(path):
    async with Sandbox(World(20, messages=1)) as box:
        rows = box.world.sessions
        start = datetime.fromisoformat(rows[10]["startTime"]).replace(tzinfo=UTC)
        box.world.change_session(rows[12]["id"], status=2)
        later = box.world.add_session(status=0)["id"]
        async with watched(box, path, start_time=start, status="completed") as results:
            await results.poke(rows[3]["id"], rows[12]["id"], rows[15]["id"], later)
            assert [each.session["id"] for each in await read(path)] == [rows[15]["id"]]
            await anext(results)
            box.world.change_session(later, status=1)
            assert later not in [each.session["id"] for each in await read(path)]
            await anext(results)
            assert later in [each.session["id"] for each in await read(path)]
        async with watched(box, path.with_name("b.db"), sessions=[rows[0]["id"]]) as results:
            await results.poke(rows[1]["id"], rows[0]["id"])
        assert [each.session["id"] for each in await contents_at(path.with_name("b.db"))] == [rows[0]["id"]]


async def read(path):
    async with Archive.open(path, read_only=True) as archive:
        return await contents_of(archive)


async def test_what_only_the_list_says_of_a_session_is_left_as_it_is(path):
    async with Sandbox(World(6, messages=2)) as box, KodeyClient("k", base_url=box.kodey_url) as kodey:
        async with watch(kodey, path, every=0.001) as results:
            await anext(results)
            session = box.world.sessions[1]["id"]
            before = (await kept(path, session)).session
            box.world.add_message(session, "more")
            await results.poke(session)
            assert (await kept(path, session)).session == before
            assert "more" in await texts(path, session)


async def test_a_poke_while_the_api_is_away_fails_and_is_made_up_for_by_the_next_round(path):
    async with Sandbox(World(5, messages=1)) as box, watched(box, path) as results:
        await anext(results)
        session = box.world.sessions[0]["id"]
        box.world.add_message(session, "more")
        box.faults = Faults(http_503=1.0)
        with pytest.raises(ServerError):
            await results.poke(session)
        box.faults = Faults()
        await anext(results)
        assert "more" in await texts(path, session)


async def test_a_poke_of_an_archive_that_another_run_holds_fails_at_once(address):
    async with Sandbox(World(5)) as box, Archive.open(address), watched(box, address) as results:
        with pytest.raises(StoreLocked):
            await results.poke(box.world.sessions[0]["id"])
        assert box.counts.total == 0


async def test_a_poke_that_waits_when_the_block_is_left_ends_with_an_error(path):
    async with Sandbox(World(5), latency=0.01) as box:
        async with watched(box, path) as results:
            pokes = [results.poke(each["id"]) for each in box.world.sessions]
        for each in pokes:
            with pytest.raises(NavTalkError, match="watch ended"):
                await each
        with pytest.raises(RuntimeError, match="async with"):
            results.poke(UNKNOWN)


async def test_pokes_are_answered_while_a_round_is_under_way_and_while_its_result_is_looked_at(path):
    async with Sandbox(World(60, messages=1)) as box, watched(box, path, concurrency=4) as results:
        first = asyncio.create_task(anext(results))
        await box.arrived(20)
        await results.poke(box.world.sessions[-1]["id"])
        assert not first.done()
        await first
    await assert_finished(path, box.world)


async def test_what_a_round_read_before_a_poke_does_not_replace_what_came_after_it(path):
    faults = Faults(slow_seconds=0.2)
    async with Sandbox(World(8, messages=3), faults=faults) as box, watched(box, path) as results:
        await anext(results)
        session = box.world.add_session(start_time=datetime.now(UTC), status=0)["id"]
        box.world.add_message(session, "first")
        box.fail_next("slow", path=f"messages?sessionId={session}")
        running = asyncio.create_task(anext(results))
        while not box.counts.messages_by_session[session]:
            await box.arrived(box.counts.total + 1)
        box.world.add_message(session, "second")
        await results.poke(session)
        assert set(await texts(path, session)) == {"first", "second"}
        await running
        assert set(await texts(path, session)) == {"first", "second"}


async def test_a_listed_page_does_not_bring_back_what_a_session_was_before_a_poke(path):
    async with Sandbox(World(250, messages=0)) as box:
        async with watched(box, path, concurrency=2, listing="serial") as results:
            first, session = asyncio.create_task(anext(results)), box.world.sessions[-1]["id"]
            await box.arrived(3)
            await results.poke(session)
            assert not first.done()
            assert (await first).report.inserted == 249
            # The page is not believed: the session is asked for once more.
            asked = [more["sessionId"] for kind, more in box.counts.recent if kind == "session"]
            assert asked.count(session) == 2
    await assert_finished(path, box.world)


async def test_changes_are_followed_though_pokes_are_shuffled_doubled_and_dropped(address):
    dice, clock = Random(14), Clock(datetime.now(UTC))
    async with Sandbox(World(0)) as box, watched(box, address) as results:
        for _ in range(20):
            box.world.add_session(start_time=clock.before(minutes=dice.randrange(600)), status=0)
        await anext(results)

        async def rounds():
            async for _ in results:
                pass

        beside, pokes, changed = asyncio.create_task(rounds()), [], []
        for step in range(120):
            before, there = Counter(box.world.changes), {each["id"] for each in box.world.sessions}
            apply_change(box.world, clock, Change(0, dice.choice(CHANGES), dice.randrange(1000)))
            changed += [each for each, count in box.world.changes.items() if count != before[each]]
            changed += [each["id"] for each in box.world.sessions if each["id"] not in there]
            if step % 10 == 9:
                changed *= 2
                dice.shuffle(changed)
                pokes += [results.poke(each) for each in changed if dice.random() > 0.2]
                changed.clear()
                await arrived_or_over(box, dice.randrange(20), beside)
        for each in pokes:
            # One that came and went between two rounds was never kept.
            with suppress(NotFound):
                await each
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
        result = await anext(results)
        assert result.error is None
        assert result.report.failed == 0
    await assert_finished(address, box.world)


# When sessions are asked for.


class Asks:
    """What was asked for in virtual time: when each ask began, ended, and was kept."""

    def __init__(self, takes=lambda: 0.0, at_once=4):
        self.asked, self.kept, self.under_way = [], [], 0
        self._takes, self.most = takes, 0
        self.queue = PokeQueue(self.ask, self.keep, lambda: at_once)

    async def ask(self, session_id):
        began = asyncio.get_running_loop().time()
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self._takes())
        self.under_way -= 1
        self.asked.append((session_id, began, asyncio.get_running_loop().time()))
        return began, session_id

    async def keep(self, readings):
        await asyncio.sleep(0.001)
        self.kept += readings


@given(
    st.lists(st.tuples(st.floats(0, 0.7), st.integers(0, 5)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_every_poke_is_followed_by_an_ask_and_asks_are_a_second_apart(pokes, dice):
    asks = Asks(takes=lambda: dice.choice([0.0, 0.01, 0.4, 2.5]))

    async def work():
        loop, done = asyncio.get_running_loop(), []
        for pause, session in pokes:
            await asyncio.sleep(pause)
            poked = loop.time()
            asks.queue.add(str(session)).add_done_callback(
                lambda _, session=session, poked=poked: done.append(
                    any(name == str(session) and began >= poked for began, name in asks.kept)
                )
            )
        await asyncio.sleep(200)
        assert done == [True] * len(pokes)
        assert asks.queue._free_at.keys() <= {"0", "1", "2", "3", "4", "5"}
        await asks.queue.close()

    run_in_virtual_time(work())
    for session in {name for name, _, _ in asks.asked}:
        spans = sorted((began, ended) for name, began, ended in asks.asked if name == session)
        # A loop lets timers be early by the resolution of its clock.
        assert all(later[0] > earlier[1] + 0.999999 for earlier, later in pairwise(spans))
    assert asks.most <= 4


def test_a_million_pokes_take_the_memory_of_the_sessions_alone():
    asks = Asks(takes=lambda: 1.0, at_once=2)

    async def work():
        pokes = [asks.queue.add(str(number)) for number in range(MOST_WAITING + 2) for _ in range(3)]
        assert len(set(pokes[: 3 * MOST_WAITING])) == MOST_WAITING
        with pytest.raises(NavTalkError, match="wait to be asked for"):
            await pokes[-1]
        await asks.queue.close()

    run_in_virtual_time(work())
