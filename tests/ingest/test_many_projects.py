"""Many projects in one run: all complete, fair to each other, within one limit; and one that fails alone."""

import asyncio

import pytest
from archive_contents import contents_of, rows_of
from gate_callers import Caller, Log, now, quiet, run
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import Archive, KodeyClient, NavTalkClient, Project, Retry, sync_all
from navtalk_async.concurrency import Rotation, SharedLimiter
from navtalk_async.errors import BadRequest, ConnectFailed, StoreError, StoreMismatch
from navtalk_async.ingest import Progress
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.wire.gate import Gate
from navtalk_async.wire.shared_limit import SharedLimit

QUICK = Retry(attempts=2, base_seconds=0.001, cap_seconds=0.01)
NOBODY = "http://127.0.0.1:9"


def client(box, key="k", **options):
    return NavTalkClient(key, base_url=getattr(box, "navtalk_url", box), retry=QUICK, **options)


async def kept(archive, project):
    return [(each.session, each.messages) for each in await contents_of(archive, project)]


# The limits, in virtual time.

callers = st.builds(
    Caller,
    comes=st.floats(0, 5),
    stays=st.floats(0, 3),
    cancelled_after=st.none() | st.floats(0, 8),
    lane=st.sampled_from(["interactive", "normal", "bulk"]),
)
gates = st.lists(st.tuples(st.integers(1, 6), st.lists(callers, max_size=12)), min_size=1, max_size=4)


@settings(max_examples=examples(60))
@given(gates, st.integers(1, 5), st.lists(st.tuples(st.floats(0, 6), st.floats(0, 3)), max_size=2))
def test_gates_keep_their_limit_and_that_of_all_and_nobody_waits_for_ever(many, at_once, pauses):
    async def main():
        shared, log = SharedLimit(at_once), Log()
        loop, tasks, all_gates = asyncio.get_running_loop(), [], []
        for number, (own, calls) in enumerate(many):
            gate = Gate(own)
            gate.share(shared)
            all_gates.append(gate)
            for at, seconds in pauses if number == 0 else ():
                loop.call_later(at, gate.pause, seconds)
            for each in calls:
                task = asyncio.create_task(each.call(gate, log))
                tasks.append(task)
                if each.cancelled_after is not None:
                    loop.call_later(each.cancelled_after, task.cancel)
        if tasks:
            await asyncio.wait(tasks)
        assert log.peak <= at_once
        assert (shared.in_flight, log.inside, [gate.in_flight for gate in all_gates]) == (
            0,
            0,
            [0] * len(many),
        )
        assert all(task.cancelled() or task.exception() is None for task in tasks)

    run(main())


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_gate_with_little_to_do_does_not_wait_behind_all_of_another(at_once):
    async def main():
        shared, order = SharedLimit(at_once), []
        large, small = Gate(50), Gate(50)
        for gate in (large, small):
            gate.share(shared)

        async def call(gate, name):
            await gate.acquire(lane=2)
            order.append(name)
            await asyncio.sleep(1)
            gate.release(2)

        flood = [asyncio.create_task(call(large, "large")) for _ in range(60)]
        await quiet()
        for _ in range(5):
            await call(small, "small")
        assert order.count("large") <= 2 * 5 * at_once + at_once
        await asyncio.wait(flood)

    run(main())


def test_a_gate_that_is_paused_takes_nothing_of_the_limit_of_all():
    async def main():
        shared, paused, free = SharedLimit(1), Gate(4), Gate(4)
        for gate in (paused, free):
            gate.share(shared)
        paused.pause(1000.0)
        waiting = asyncio.create_task(paused.acquire())
        began = now()
        for _ in range(9):
            await free.acquire()
            free.release()
        assert now() == began
        await waiting
        assert now() == began + 1000.0

    run(main())


@given(st.sampled_from([5.0, 40.0, 250.0]), st.integers(1, 4), st.integers(1, 60))
def test_gates_keep_the_rate_of_all(rate, count, calls):
    async def main():
        shared, moments = SharedLimit(None, rate), []
        all_gates = [Gate(8) for _ in range(count)]
        for gate in all_gates:
            gate.share(shared)

        async def call(gate):
            await gate.acquire()
            moments.append(now())
            gate.release()

        await asyncio.gather(*(call(all_gates[number % count]) for number in range(calls)))
        assert calls / rate - 1 / rate - 0.06 <= moments[-1] - moments[0] <= calls / rate + 0.001

    run(main())


@given(st.integers(1, 4), st.integers(2, 4), st.data())
def test_jobs_take_turns_and_none_is_lost(limit, jobs, data):
    cancelled = data.draw(st.sets(st.tuples(st.integers(0, jobs - 1), st.integers(0, 7)), max_size=5))

    async def main():
        rotation, order = Rotation(lambda: limit), []
        inside = peak = 0

        async def ask(job):
            nonlocal inside, peak
            order.append(job)
            inside += 1
            peak = max(peak, inside)
            try:
                await asyncio.sleep(1)
            finally:
                inside -= 1

        bound = [SharedLimiter(rotation).bound(ask) for _ in range(jobs)]
        tasks = {
            (job, number): asyncio.create_task(bound[job](job)) for job in range(jobs) for number in range(8)
        }
        await quiet()
        for each in cancelled:
            tasks[each].cancel()
        await asyncio.wait(tasks.values())
        assert peak <= limit
        await asyncio.gather(*(each(0) for each in bound))
        if not cancelled:
            waited = order[limit : 8 * jobs]
            assert all(
                set(waited[at : at + jobs]) == set(range(jobs)) for at in range(0, jobs * (8 - limit), jobs)
            )

    run(main())


# Real servers.


async def test_every_project_is_complete_and_what_fails_stops_no_other(tmp_path):
    async with (
        Sandbox(World(60, messages=3)) as one,
        Sandbox(World(40, seed=2), keys={"another"}) as refusing,
        client(one) as nt,
        KodeyClient("k", base_url=one.kodey_url, retry=QUICK) as kodey,
        client(refusing) as refused,
        client(NOBODY) as away,
        Archive.open(tmp_path / "a.db") as archive,
    ):
        ended = []
        projects = [
            Project("refused", refused),
            Project("nt", nt),
            Project("away", away),
            Project("kodey", kodey),
        ]
        results = await sync_all(projects, archive, on_end=ended.append)
        assert [type(each.error) for each in results] == [BadRequest, type(None), ConnectFailed, type(None)]
        assert results[0].error.may_be_key
        assert {each.project for each in ended} == {each.name for each in projects}
        assert await kept(archive, "nt") == rows_of(one.world)
        assert len(await kept(archive, "kodey")) == len(one.world.sessions)
        assert results[1].report.inserted == results[1].report.done == 60
        again = await sync_all(projects[1:2], archive)
        assert again[0].report.inserted == 0


async def test_projects_of_one_client_have_reports_of_their_own_and_the_small_ones_do_not_wait(tmp_path):
    async with Sandbox(World(400, messages=3)) as box, client(box, concurrency=2) as nt:
        ids = [row["id"] for row in box.world.sessions]
        progress = Progress()
        large = Project("large", nt, progress=progress, listing="serial")
        small = [Project(f"small {n}", nt.using(lane="normal"), sessions=ids[n : n + 4]) for n in range(5)]
        seen = []
        async with Archive.open(tmp_path / "a.db") as archive:
            results = await sync_all(
                [large, *small], archive, on_end=lambda _: seen.append(progress.report.done)
            )
            assert len(await kept(archive, "large")) == 400
            assert [len(await kept(archive, each.name)) for each in small] == [4] * 5
        assert sum(each.report.requests for each in results) == box.counts.total
        assert results[1].report.requests < 20
        # All small ones ended while the large one had most still to do.
        assert max(seen[:5]) < 100


async def test_who_stops_it_has_what_was_fetched_and_the_rest_comes_next_time(tmp_path):
    async with Sandbox(World(200, messages=2)) as box, client(box, concurrency=4) as nt:
        projects = [Project(name, nt) for name in "ab"]
        async with Archive.open(tmp_path / "a.db") as archive:
            running = asyncio.create_task(sync_all(projects, archive))
            await box.arrived(150)
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()
            assert {each.last_run.error for each in await archive.projects()} == {"stopped"}
            results = await sync_all([Project(name, nt) for name in "ab"], archive)
            assert all(each.report.resumed for each in results)
            for name in "ab":
                assert await kept(archive, name) == rows_of(box.world)


async def test_an_archive_that_does_not_work_ends_them_all_and_another_server_only_its_own(tmp_path):
    async with (
        Sandbox(World(5)) as box,
        Sandbox(World(5)) as other,
        client(box) as nt,
        client(other) as elsewhere,
    ):
        async with Archive.open(tmp_path / "a.db") as archive:
            await sync_all([Project("a", nt)], archive)
            results = await sync_all([Project("a", elsewhere), Project("b", nt)], archive)
            assert [type(each.error) for each in results] == [StoreMismatch, type(None)]
        with pytest.raises(StoreError):
            await sync_all([Project("a", nt), Project("b", nt)], archive)


@pytest.mark.parametrize(
    ("projects", "options", "error"),
    [
        (["a", "a"], {}, "project='a' is the name of two projects"),
        ([" "], {}, "is not a name"),
        (["a"], {"concurrency": 0}, "concurrency=0"),
        (["a"], {"rate": 0}, "rate=0"),
    ],
)
async def test_what_cannot_be_right_is_refused_before_any_request(tmp_path, projects, options, error):
    async with Sandbox(World(5)) as box, client(box) as nt, Archive.open(tmp_path / "a.db") as archive:
        with pytest.raises(ValueError, match=error):
            await sync_all([Project(each, nt) for each in projects], archive, **options)
        assert box.counts.total == 0
        assert await archive.projects() == []
