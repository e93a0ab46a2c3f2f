"""An archive kept up to date for months: `watch`."""

import asyncio
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async import NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.archive.sqlite_file import HeldFile
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    ClientClosed,
    ConnectFailed,
    ServerError,
    StoreBroken,
    StoreError,
    StoreLocked,
    StoreMismatch,
    StoreUnreachable,
)
from navtalk_async.ingest import Rounds, watch
from navtalk_async.ingest._health import is_healthy
from navtalk_async.ingest._rounds import LONGEST_PAUSE_SECONDS, STAND_BY_SECONDS, may_pass, pause_after
from navtalk_async.sandbox import Faults, Sandbox, World

QUICK = Retry(attempts=2, base_seconds=0.001, cap_seconds=0.01)


class Days:
    """Virtual time: resting takes none, and something may happen after each rest."""

    def __init__(self, happenings):
        self.now = 0.0
        self.rests = []
        self._happenings = iter(happenings)

    def clock(self):
        return self.now

    async def rest(self, seconds):
        self.now += seconds
        self.rests.append(seconds)
        await asyncio.sleep(0)
        try:
            happening = next(self._happenings)
        except StopIteration:
            raise asyncio.CancelledError from None
        if happening is not None and isawaitable(made := happening()):
            await made


class Log(list):
    """The results of some rounds."""

    @property
    def done(self):
        return [result for result in self if result.report]

    @property
    def failed(self):
        return [result for result in self if result.error]


async def worked(box, path, happenings, *, every=60.0, key="k", spans=None, **options):
    days, log = Days(happenings), Log()
    async with (
        NavTalkClient(key, base_url=box.navtalk_url, retry=QUICK) as nt,
        Rounds(
            *(nt, path, {"concurrency": 8, **options}),
            every=every,
            rest=days.rest,
            clock=days.clock,
            **(spans or {}),
        ) as results,
    ):
        with suppress(asyncio.CancelledError):
            async for result in results:
                log.append(result)
    return log, days


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.db"


async def ids(path):
    async with Archive.open(path) as store:
        return [each.session.id async for some in store.transcript_batches("default") for each in some]


async def test_every_round_finds_what_is_new(path):
    async with Sandbox(World(30, messages=1)) as box:
        log, days = await worked(box, path, [box.world.add_session, None, box.world.add_session])
        assert [result.report.inserted for result in log.done] == [30, 1, 0, 1]
        assert days.rests == [60.0] * 4
        assert await ids(path) == [session["id"] for session in box.world.sessions]


async def test_an_api_that_is_away_for_hours_is_waited_for_ever_longer_and_nothing_is_lost(path):
    async with Sandbox(World(30, messages=1)) as box:

        def away():
            box.faults = Faults(http_503=1.0)
            box.world.add_session()

        def back():
            box.faults = Faults()

        log, _ = await worked(box, path, [away, *[None] * 9, back, None])
        assert [result.failures_in_a_row for result in log.failed] == list(range(1, 11))
        assert [result.pause for result in log.failed][:4] == [60.0, 120.0, 240.0, 300.0]
        assert isinstance(log.failed[0].error, ServerError)
        assert log.done[1].report.inserted == 1
        assert await ids(path) == [session["id"] for session in box.world.sessions]


async def test_a_server_that_is_not_there_yet_is_waited_for(path):
    async with Sandbox(World(3)) as box:
        pass
    log, _ = await worked(box, path, [None, None], every=1.0)
    assert [type(result.error) for result in log.failed] == [ConnectFailed] * 3


async def test_a_key_that_is_wrong_from_the_start_ends_the_work_and_one_that_is_refused_later_does_not(path):
    async with Sandbox(World(3), keys={"k"}) as box:
        with pytest.raises(BadRequest):
            await worked(box, path, [], key="wrong")

        def refuse():
            box.keys = {"another"}

        def allow():
            box.keys = {"k"}

        log, _ = await worked(box, path, [refuse, None, allow, None])
        assert [result.error is None for result in log] == [True, False, False, True, True]


async def test_another_projects_key_ends_the_work_at_any_time(path):
    async with Sandbox(keys={"k": World(5, 1)}) as box:

        def another():
            box.keys = {"k": World(5, 2)}

        with pytest.raises(StoreMismatch):
            await worked(box, path, [another, None])


async def test_sessions_that_failed_for_good_are_tried_again_every_hour(path):
    async with Sandbox(World(20, messages=1)) as box:
        bad = box.world.sessions[3]["id"]
        box.fail_next("500", times=4, path=f"messages?sessionId={bad}")
        log, _ = await worked(box, path, [None] * 70)
        failed = [result.report.failed for result in log.done]
        assert failed == [1] * 60 + [0] * 11


async def test_a_watch_stands_by_where_another_run_holds_the_archive_and_says_so_once(address):
    async with Sandbox(World(3)) as box, AsyncExitStack() as another:
        await another.enter_async_context(Archive.open(address))
        log, days = await worked(box, address, [None, another.aclose, None])
    assert [type(result.error) for result in log.failed] == [StoreLocked]
    assert [result.report.inserted for result in log.done] == [3, 0]
    assert days.rests == [STAND_BY_SECONDS] * 2 + [60.0] * 2


async def test_health_says_how_far_a_watch_is_behind_and_why(path):
    async with Sandbox(World(3)) as box:
        seen = []

        def away():
            box.faults = Faults(http_503=1.0)
            seen.append(results.health())

        def look():
            seen.append(results.health())

        days = Days([away, *[look] * 4])
        async with NavTalkClient("k", base_url=box.navtalk_url, retry=QUICK) as nt:
            results = Rounds(nt, path, {}, every=60.0, rest=days.rest, clock=days.clock)
            assert not results.health().alive
            async with results:
                with suppress(asyncio.CancelledError):
                    async for _ in results:
                        pass
            assert not results.health().alive
    well, *failing = seen
    assert (well.healthy, well.behind_by, well.error, well.paused_until) == (True, 60.0, None, None)
    assert [each.behind_by for each in failing] == [120.0, 240.0, 480.0, 780.0]
    assert [each.healthy for each in failing] == [True, True, True, False]
    assert all(each.error.startswith("ServerError") and each.alive for each in failing)
    assert {each.last_success for each in seen} == {well.last_success}


async def test_a_watch_that_stands_by_is_healthy_and_one_that_an_error_ended_is_not(path):
    async with Sandbox(keys={"k": World(3, 1)}) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with watch(nt, path, every=0.001) as results:
            async with Archive.open(path):
                await anext(results)
                found = results.health()
                assert (found.healthy, found.standing_by, found.alive) == (True, True, True)
            await anext(results)
            assert not results.health().standing_by
            box.keys = {"k": World(3, 2)}
            with pytest.raises(StoreMismatch):
                await anext(results)
            found = results.health()
            assert (found.healthy, found.alive, found.error[:13]) == (False, False, "StoreMismatch")


async def test_the_end_of_a_task_of_rounds_that_nobody_looks_at_is_logged(path, caplog):
    async with NavTalkClient("k", base_url="http://127.0.0.1:9") as nt, watch(nt, path) as results:
        await nt.aclose()
        with pytest.raises(ClientClosed):
            await results.run()
    [record] = [each for each in caplog.records if each.levelname == "ERROR"]
    assert record.name == "navtalk_async"
    assert f"{path} is not kept up to date" in record.getMessage()


async def test_health_says_until_when_the_server_asked_for_a_pause(path):
    async with (
        Sandbox(World(3), faults=Faults(retry_after=60)) as box,
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
        watch(nt, path) as results,
    ):
        box.fail_next("429")
        running = asyncio.create_task(anext(results))
        while not nt.stats().refused:  # noqa: ASYNC110 - the client tells nobody
            await asyncio.sleep(0)
        found, now = results.health(), datetime.now(UTC)
        assert now < found.paused_until <= now + timedelta(seconds=90)
        assert found.healthy
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@given(st.floats(0, 1e4), st.floats(0.1, 1e3), st.booleans(), st.booleans())
def test_a_watch_is_healthy_that_stands_by_or_gets_on(stalled_for, every, alive, standing_by):
    healthy = is_healthy(
        alive=alive, standing_by=standing_by, stalled_for=stalled_for, every=every, longest_pause=300.0
    )
    assert healthy == (alive and (standing_by or stalled_for <= 3 * every + 300))


async def test_the_archive_stays_held_while_the_api_is_away(path):
    async with Sandbox(World(3)) as box:

        def away():
            box.faults = Faults(http_503=1.0)

        held = []

        def look():
            with pytest.raises(StoreLocked):
                HeldFile(path)
            held.append(True)

        await worked(box, path, [away, look, None])
        assert held == [True]


async def test_a_hundred_rounds_leave_no_descriptor_and_no_task_behind(path):
    async with Sandbox(World(40, messages=1)) as box:
        seen = []

        def look():
            seen.append((len(list(Path("/dev/fd").iterdir())), len(asyncio.all_tasks())))

        await worked(box, path, [*[None] * 20, look, *[None] * 100, look])
        assert seen[0] == seen[1]


@given(st.integers(1, 10_000), st.floats(0.0, 1e6))
def test_pauses_grow_and_are_bounded(failures, every):
    pause = pause_after(failures, every)
    assert pause <= max(every, LONGEST_PAUSE_SECONDS)
    assert pause >= min(every, 1.0)
    assert pause_after(failures + 1, every) >= pause


@pytest.mark.parametrize("error", [StoreBroken("x"), StoreMismatch("x")])
def test_what_is_damaged_or_does_not_fit_never_passes(error):
    assert not may_pass(error, was_well=True)


@pytest.mark.parametrize("error", [AccessDenied("x"), BadRequest("x"), StoreUnreachable("x")])
def test_what_is_a_mistake_at_first_may_pass_later(error):
    assert not may_pass(error, was_well=False)
    assert may_pass(error, was_well=True)


@pytest.mark.parametrize("error", [ServerError("x"), ConnectFailed("x"), StoreError("x"), StoreLocked("x")])
def test_what_passes_by_itself_is_waited_for_from_the_start(error):
    assert may_pass(error, was_well=False)


async def test_sessions_that_failed_are_tried_again_in_the_first_round_where_that_is_asked_for(path):
    async with Sandbox(World(20, messages=1)) as box:
        box.fail_next("500", times=4, path=f"messages?sessionId={box.world.sessions[3]['id']}")
        log, _ = await worked(box, path, [])
        assert [result.report.failed for result in log] == [1]
        log, _ = await worked(box, path, [], retry_failed=True)
        assert [result.report.failed for result in log] == [0]


async def test_everything_is_compared_once_a_day_where_that_is_asked_for(path):
    async with Sandbox(World(5, messages=1)) as box:

        def remove():
            box.world.remove_session(box.world.sessions[0]["id"])

        log, _ = await worked(box, path, [remove, *[None] * 25], every=3600.0, reconcile=True)
        assert [result.report.vanished for result in log] == [0] * 24 + [1, 0, 0]


@pytest.mark.parametrize(
    ("spans", "reconcile", "found_in"),
    [
        ({"reconcile_every": 300.0}, False, 5),
        ({"reconcile_every": 300.0}, True, 5),
        ({"reconcile_every": 120.0}, True, 2),
        ({}, False, None),
    ],
)
async def test_everything_is_compared_as_often_as_is_asked_for(spans, reconcile, found_in, path):
    async with Sandbox(World(5, messages=1)) as box:

        def remove():
            box.world.remove_session(box.world.sessions[0]["id"])

        log, _ = await worked(box, path, [remove, *[None] * 6], spans=spans, reconcile=reconcile)
        found = [number for number, result in enumerate(log.done) if result.report.vanished]
        assert found == ([] if found_in is None else [found_in])


@pytest.mark.parametrize(("span", "failed"), [(120.0, [1, 1, 0, 0, 0]), (None, [1] * 5)])
async def test_sessions_that_failed_are_tried_again_as_often_as_is_asked_for(span, failed, path):
    async with Sandbox(World(20, messages=1)) as box:
        box.fail_next("500", times=4, path=f"messages?sessionId={box.world.sessions[3]['id']}")
        log, _ = await worked(box, path, [None] * 4, spans={"retry_failed_every": span})
        assert [result.report.failed for result in log.done] == failed


async def test_leaving_a_watch_frees_the_archive_and_its_results_can_be_asked_for_again(path):
    async with Sandbox(World(3)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        for expected in (3, 0):
            async with watch(nt, str(path)) as results:
                async for result in results:
                    assert result.report.inserted == expected
                    break
            HeldFile(path).close()


async def test_results_read_without_a_block_are_refused_and_nothing_is_opened(path):
    async with NavTalkClient("k") as nt:
        with pytest.raises(RuntimeError, match="async with"):
            await anext(aiter(watch(nt, path)))
    assert not path.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0},
        {"status": "done"},
        {"user_id": "a"},
        {"start_time": datetime(2026, 1, 1)},
        {"statuss": 1},
        {"every": "60s"},
        {"every": None},
        {"retry_failed_every": 0},
        {"retry_failed_every": "1h"},
        {"reconcile_every": -1},
        {"overlap": "24h"},
        {"cursor": "MjAy"},
        {"project": ""},
    ],
)
async def test_arguments_that_cannot_be_right_are_refused_before_anything_is_opened(path, options):
    refused = TypeError if options.keys() & {"user_id", "statuss"} else ValueError
    async with NavTalkClient("k") as nt:
        with pytest.raises(refused, match=r"every=|status|time|cursor|project"):
            watch(nt, path, **options)
    assert not path.exists()
