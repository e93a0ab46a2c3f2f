"""A worker that goes on for months."""

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async import NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.archive._sqlite_file import HeldFile
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    ConnectFailed,
    ServerError,
    StoreBroken,
    StoreError,
    StoreLocked,
    StoreMismatch,
)
from navtalk_async.ingest import RoundDone, RoundFailed, Worker, sync
from navtalk_async.ingest.worker import LONGEST_PAUSE_SECONDS, may_pass, pause_after
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
        if happening is not None:
            happening()


class Log(list):
    """What a worker told."""

    @property
    def done(self):
        return [event for event in self if isinstance(event, RoundDone)]

    @property
    def failed(self):
        return [event for event in self if isinstance(event, RoundFailed)]


@asynccontextmanager
async def worker(box, path, days, *, every=60.0, key="k", log=None):
    log = Log() if log is None else log
    async with NavTalkClient(key, base_url=box.navtalk_url, retry=QUICK) as nt:

        async def once(store, retry_failed):
            return await sync(nt, store, concurrency=8, retry_failed=retry_failed)

        yield (
            Worker(
                once,
                lambda: Archive.open(path),
                every=every,
                heard=log.append,
                rest=days.rest,
                clock=days.clock,
            ),
            log,
        )


async def worked(box, path, happenings, **options):
    days = Days(happenings)
    async with worker(box, path, days, **options) as (one, log):
        with suppress(asyncio.CancelledError):
            await one.run()
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
        assert [event.report.inserted for event in log.done] == [30, 1, 0, 1]
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
        assert [event.in_a_row for event in log.failed] == list(range(1, 11))
        assert [event.pause for event in log.failed][:4] == [60.0, 120.0, 240.0, 300.0]
        assert isinstance(log.failed[0].error, ServerError)
        assert log.done[1].report.inserted == 1
        assert await ids(path) == [session["id"] for session in box.world.sessions]


async def test_a_server_that_is_not_there_yet_is_waited_for(path):
    async with Sandbox(World(3)) as box:
        url = box.url
    days, log = Days([None, None]), Log()
    async with NavTalkClient("k", base_url=url, retry=QUICK) as nt:
        one = Worker(
            lambda store, _: sync(nt, store),
            lambda: Archive.open(path),
            every=1.0,
            heard=log.append,
            rest=days.rest,
            clock=days.clock,
        )
        with pytest.raises(asyncio.CancelledError):
            await one.run()
    assert [type(event.error) for event in log.failed] == [ConnectFailed] * 3


async def test_a_key_that_is_wrong_from_the_start_ends_the_work_and_one_that_is_refused_later_does_not(path):
    async with Sandbox(World(3), keys={"k"}) as box:
        with pytest.raises(BadRequest):
            await worked(box, path, [], key="wrong")

        def refuse():
            box.keys = {"another"}

        def allow():
            box.keys = {"k"}

        log, _ = await worked(box, path, [refuse, None, allow, None])
        assert [isinstance(event, RoundDone) for event in log] == [True, False, False, True, True]


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
        failed = [event.report.failed for event in log.done]
        assert failed == [1] * 60 + [0] * 11


async def test_a_store_that_is_held_by_another_ends_the_work(path):
    async with Sandbox(World(3)) as box, Archive.open(path):
        with pytest.raises(StoreLocked):
            await worked(box, path, [])


async def test_the_store_stays_held_while_the_api_is_away(path):
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


@pytest.mark.parametrize("error", [AccessDenied("x"), BadRequest("x"), StoreLocked("x")])
def test_what_is_a_mistake_at_first_may_pass_later(error):
    assert not may_pass(error, was_well=False)
    assert may_pass(error, was_well=True)


@pytest.mark.parametrize("error", [ServerError("x"), ConnectFailed("x"), StoreError("x")])
def test_what_passes_by_itself_is_waited_for_from_the_start(error):
    assert may_pass(error, was_well=False)
