"""A store kept up to date, against the sandbox."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    ConnectFailed,
    DeadlineExceeded,
    ServerError,
    StoreMismatch,
)
from navtalk_async.ingest import Progress, sync
from navtalk_async.sandbox import Answers, Faults, Sandbox, World

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.db"


async def synced(box, path, *, key="k", client=None, **options):
    options = {"concurrency": 8, **options}
    async with (
        NavTalkClient(key, base_url=box.navtalk_url, **{"retry": QUICK, **(client or {})}) as nt,
        Archive.open(path) as store,
    ):
        return await sync(nt, store, **options)


@asynccontextmanager
async def opened(path):
    async with Archive.open(path) as store:
        yield store


async def kept(path, project="default"):
    """What the store holds, as the API would say it."""
    async with opened(path) as store:
        return [
            (msgspec.json.decode(each.session.raw), [msgspec.json.decode(row.raw) for row in each.messages])
            async for some in store.transcript_batches(project)
            for each in some
        ]


def truth(world):
    return [(session, world.messages(session["id"])) for session in world.sessions]


@pytest.mark.parametrize(
    "answers",
    [
        Answers(),
        Answers(cursor_on_last_page=False, last_cursor="missing"),
        Answers(cursor_on_last_page=False, last_cursor="empty", errors="body"),
        Answers(max_page=9, start_inclusive=False, end_inclusive=False, end_bounds="end"),
        Answers(filters_ignored=True, cursor_needs_filters=False),
    ],
)
async def test_a_first_run_keeps_everything_whatever_the_server_answers_to_the_unknowns(path, answers):
    async with Sandbox(World(150, unknown_fields=True), answers=answers) as box:
        report = await synced(box, path)
        assert (report.inserted, report.done, report.open, report.failed) == (150, 150, 0, 0)
        assert await kept(path) == truth(box.world)


async def test_a_second_run_asks_only_for_the_overlap(path):
    async with Sandbox(sessions=400) as box:
        await synced(box, path)
        finished = {s["id"] for s in box.world.sessions if s["status"] != 0}
        box.counts.reset()
        report = await synced(box, path)
        assert report.inserted == report.changed == 0
        assert box.counts.by_kind["sessions"] <= 3
        assert not finished & set(box.counts.messages_by_session)


async def test_a_second_run_finds_what_is_new_what_has_changed_and_what_goes_on(path):
    async with Sandbox(World(120, messages=2)) as box:
        world = box.world
        last = world.sessions[-1]
        world.change_session(last["id"], status=0, endTime=None)
        await synced(box, path)
        world.add_message(last["id"], content="late")
        await synced(box, path)
        assert await kept(path) == truth(world)
        world.change_session(last["id"], status=1, endTime="2026-01-01 00:00:00")
        new = world.add_session(start_time=last["startTime"])
        world.add_message(new["id"], content="new")
        report = await synced(box, path)
        assert (report.inserted, report.changed) == (1, 1)
        assert await kept(path) == truth(world)


async def test_an_empty_project_is_a_good_run_and_is_listed_again(path):
    async with Sandbox(World(0)) as box:
        assert (await synced(box, path)).listed == 0
        box.world.add_session(start_time="2025-11-05 00:00:00")
        assert (await synced(box, path)).inserted == 1


@pytest.mark.slow
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("requests", [3, 9, 20, 40])
async def test_a_parallel_listing_is_resumed_wherever_it_was_stopped(path, requests, ignored):
    # More at once than a page has sessions: so the listing is waited for, and goes wide.
    async with Sandbox(World(1200, messages=0), answers=Answers(filters_ignored=ignored)) as box:
        run = asyncio.create_task(synced(box, path, concurrency=120))
        await box.arrived(requests)
        run.cancel()
        await asyncio.wait([run])
        report = await synced(box, path, concurrency=120)
        assert report.open == 0
        assert await kept(path) == truth(box.world)


@pytest.mark.parametrize("requests", [1, 2, 5, 40, 120, 200])
async def test_a_run_stopped_at_any_request_is_finished_by_the_next(path, requests):
    async with Sandbox(World(220, messages=3), answers=Answers(cursor_on_last_page=False)) as box:
        run = asyncio.create_task(synced(box, path))
        await box.arrived(requests)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await synced(box, path)
        assert await kept(path) == truth(box.world)
        twice = [session for session, times in box.counts.messages_by_session.items() if times > 1]
        active = {s["id"] for s in box.world.sessions if s["status"] == 0}
        assert len(set(twice) - active) <= 8


async def test_an_old_cursor_that_is_refused_costs_nothing_but_a_page(path):
    async with Sandbox(World(320, messages=1)) as box:
        run = asyncio.create_task(synced(box, path))
        await box.arrived(150)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        box.fail_next("400", path="sessions?limit=100&cursor=")
        report = await synced(box, path)
        assert report.resumed
        assert box.counts.faults["400"] == 1
        assert await kept(path) == truth(box.world)


async def test_a_session_that_keeps_failing_is_recorded_and_the_rest_goes_on(path):
    async with Sandbox(World(60, messages=2)) as box:
        bad = box.world.sessions[5]["id"]
        box.fail_next("500", times=16, path=bad)
        report = await synced(box, path)
        assert (report.done, report.failed) == (59, 1)
        async with opened(path) as store:
            [failure] = await store.failures("default")
        assert (failure.id, failure.attempts) == (bad, 16)
        assert failure.reason.startswith("ServerError")


async def test_a_session_that_failed_while_the_server_was_ill_is_fetched_in_the_end(path):
    async with Sandbox(World(60, messages=2)) as box:
        box.fail_next("500", times=8, path=box.world.sessions[5]["id"])
        assert (await synced(box, path)).failed == 0
        assert await kept(path) == truth(box.world)


async def test_a_session_that_is_never_answered_in_time_is_a_failure_of_its_own(path):
    async with Sandbox(World(20, messages=2)) as box:
        box.fail_next("hang", times=10, path=box.world.sessions[5]["id"])
        report = await synced(box, path, client={"timeout": 0.4})
        assert (report.done, report.failed) == (19, 1)


async def test_a_pause_that_no_call_can_wait_for_ends_the_run_and_blames_no_session(path):
    async with Sandbox(World(60, messages=2), faults=Faults(retry_after=3600)) as box:
        box.fail_next("429", path="/messages")
        with pytest.raises(DeadlineExceeded):
            await synced(box, path)
        async with opened(path) as store:
            assert (await store.counts("default")).failed == 0


async def test_many_bad_sessions_beside_each_other_are_recorded_and_the_rest_goes_on(path):
    async with Sandbox(World(150, messages=2)) as box:
        bad = [session["id"] for session in box.world.sessions[20:45]]
        for each in bad:
            box.fail_next("500", times=100, path=f"messages?sessionId={each}")
        report = await synced(box, path, client={"retry": Retry(attempts=2, base_seconds=0.001)})
        assert (report.done, report.failed) == (125, 25)


async def test_a_first_page_of_bad_sessions_does_not_keep_the_good_ones_behind_it_away(path):
    async with Sandbox(World(120, messages=2)) as box:
        for session in box.world.sessions[:40]:
            box.fail_next("404", times=100, path=f"messages?sessionId={session['id']}")
        report = await synced(box, path)
        assert (report.done, report.failed) == (80, 40)


async def test_a_session_dated_in_the_future_hides_none_that_comes_after_it(path):
    async with Sandbox(World(20, messages=1)) as box:
        box.world.add_session(start_time="2999-01-01 00:00:00")
        await synced(box, path)
        new = box.world.add_session(start_time="2026-01-01 00:00:00")
        report = await synced(box, path, overlap=timedelta(days=365 * 30))
        assert report.inserted == 1
        assert new["id"] in {session["id"] for session, _ in await kept(path)}


async def test_a_session_that_is_not_there_costs_no_other_that_is_named(path):
    async with Sandbox(World(20, messages=1)) as box:
        ids = (
            box.world.sessions[0]["id"],
            "00000000-0000-1000-8000-000000000000",
            box.world.sessions[9]["id"],
        )
        report = await synced(box, path, sessions=ids)
        assert (report.done, report.failed) == (2, 1)


@pytest.mark.parametrize(
    "scope",
    [
        {"start_time": "12.11.2025"},
        {"sessions": ("nope",)},
        {"start_time": "2025-02-01", "end_time": "2025-01-01"},
        {"limit": 5},
        {"cursor": "MjAy"},
        {"project": 5},
        {"project": " "},
        {"project": "a\0b"},
        {"overlap": "24h"},
        {"overlap": timedelta(days=-1)},
        {"settle": -5},
        {"watch_max_age": "30d"},
        {"listing": "wide"},
    ],
)
async def test_options_that_cannot_be_right_are_refused_and_bind_nothing(path, scope):
    async with Sandbox(World(5)) as box:
        with pytest.raises(ValueError, match=r"time|session id|limit|cursor|name|listing"):
            await synced(box, path, **scope)
        assert box.counts.total == 0
        await synced(box, path)


@pytest.mark.parametrize("kind", ["404", "500", "html"])
async def test_a_stored_cursor_that_is_refused_in_any_way_is_replaced_by_the_time(path, kind):
    async with Sandbox(World(320, messages=1)) as box:
        run = asyncio.create_task(synced(box, path))
        await box.arrived(150)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        box.fail_next(kind, times=8, path="sessions?limit=100&cursor=")
        await synced(box, path)
        assert await kept(path) == truth(box.world)


async def test_a_path_in_place_of_an_archive_is_refused_with_what_to_write(path):
    async with NavTalkClient("k") as nt:
        with pytest.raises(TypeError, match=r"Archive\.open"):
            await sync(nt, path)


async def test_one_known_session_that_cannot_be_fetched_does_not_keep_the_run_away(path):
    async with Sandbox(World(20, messages=1)) as box:
        await synced(box, path)
        box.fail_next("500", times=8, path=f"/sessions/{box.world.sessions[-1]['id']}")
        await synced(box, path)


async def test_nothing_is_new_where_a_neighbour_on_the_page_is_written_otherwise(path):
    async with Sandbox(World(30, messages=1)) as box:
        odd = box.world.sessions[0]["id"]
        box.world.change_session(odd, someField={"a": [1, 2.5]})
        await synced(box, path)
        box.world.remove_session(odd)
        report = await synced(box, path, overlap=timedelta(days=90))
        assert (report.inserted, report.changed) == (0, 0)


async def test_a_failed_session_is_left_alone_until_somebody_asks_for_it(path):
    async with Sandbox(World(60, messages=2)) as box:
        bad = box.world.sessions[5]["id"]
        box.fail_next("500", times=16, path=bad)
        await synced(box, path)
        assert (await synced(box, path)).failed == 1
        assert box.counts.messages_by_session[bad] == 16
        report = await synced(box, path, retry_failed=True)
        assert (report.failed, report.messages_inserted) == (0, 2)
        assert await kept(path) == truth(box.world)


async def test_a_server_in_trouble_stops_the_run_and_blames_no_session(path):
    async with Sandbox(World(150, messages=2)) as box:
        box.fail_next("500", times=10_000, path="/messages")
        with pytest.raises(ServerError):
            await synced(box, path)
        async with opened(path) as store:
            counts = await store.counts("default")
        assert counts.failed == 0
        assert counts.pending > 0


async def test_a_run_goes_on_after_a_server_in_trouble_has_recovered(path):
    async with Sandbox(World(150, messages=2)) as box:
        box.faults = Faults(http_500=1.0)
        with pytest.raises(ServerError):
            await synced(box, path)
        box.faults = Faults()
        await synced(box, path)
        assert await kept(path) == truth(box.world)


async def test_a_session_that_vanishes_after_it_was_listed_is_marked_and_is_no_failure(path):
    async with Sandbox(World(30, messages=2)) as box:
        gone = box.world.sessions[4]["id"]
        listed = box.arrived(1)
        box.hold()
        run = asyncio.create_task(synced(box, path))
        await listed
        box.release()
        await box.arrived(2)
        box.world.remove_session(gone)
        report = await run
        assert report.failed == 0
        assert report.vanished <= 1


async def test_messages_that_are_not_found_of_a_session_that_is_are_a_failure(path):
    async with Sandbox(World(30, messages=2)) as box:
        box.fail_next("404", times=2, path=f"sessionId={box.world.sessions[4]['id']}")
        report = await synced(box, path)
        assert (report.failed, report.vanished) == (1, 0)


async def test_a_key_refused_in_the_middle_ends_the_run_and_blames_no_session(path):
    async with Sandbox(World(300, messages=2), keys={"k"}) as box:
        run = asyncio.create_task(synced(box, path))
        await box.arrived(50)
        box.keys = {"another"}
        with pytest.raises(BadRequest):
            await run
        async with opened(path) as store:
            assert (await store.counts("default")).failed == 0
        box.keys = {"k"}
        await synced(box, path)
        assert await kept(path) == truth(box.world)


async def test_an_expired_key_ends_the_run(path):
    async with Sandbox(World(30)) as box:
        with pytest.raises(AccessDenied):
            await synced(box, path, key="expired")


async def test_a_server_that_is_away_ends_the_run(path):
    async with Sandbox(World(30)) as box:
        pass
    with pytest.raises(ConnectFailed):
        await synced(box, path)


async def test_another_projects_key_is_refused_and_a_rotated_one_goes_on(path):
    async with Sandbox(keys={"old": World(40, 1), "new": World(40, 1), "theirs": World(40, 2)}) as box:
        await synced(box, path, key="old")
        before = await kept(path)
        with pytest.raises(StoreMismatch, match="another project"):
            await synced(box, path, key="theirs")
        assert await kept(path) == before
        assert (await synced(box, path, key="new")).inserted == 0


async def test_other_filters_on_the_same_project_are_refused(path):
    async with Sandbox(World(40)) as box:
        await synced(box, path)
        with pytest.raises(StoreMismatch, match="holds everything; you asked for status='completed'"):
            await synced(box, path, status=1)
        await synced(box, path, status=1, project="completed")


async def test_the_filters_choose_sessions_and_messages(path):
    async with Sandbox(World(200, messages=4)) as box:
        start, end = (box.world.sessions[n]["startTime"] for n in (30, 120))
        await synced(box, path, start_time=start, end_time=end, status=1, role=0)
        assert await kept(path) == [
            (session, [m for m in box.world.messages(session["id"]) if m["role"] == 0])
            for session in box.world.sessions
            if start <= session["startTime"] <= end and session["status"] == 1
        ]


async def test_named_sessions_are_fetched_without_a_listing(path):
    async with Sandbox(World(50, messages=2)) as box:
        wanted = box.world.sessions[3:6]
        await synced(box, path, sessions=tuple(s["id"] for s in wanted))
        assert await kept(path) == [(s, box.world.messages(s["id"])) for s in wanted]
        assert box.counts.by_kind["sessions"] == 0


async def test_ids_that_the_api_gives_are_taken_as_they_are(path):
    async with Sandbox(World(5, messages=2), answers=Answers(cursor_on_last_page=False)) as box:
        odd = box.world.add_session(start_time=box.world.sessions[-1]["startTime"], id="no uuid, ü & 100%")
        box.world.add_message(odd["id"], content="all the same")
        await synced(box, path)
        await synced(box, path)
        assert await kept(path) == truth(box.world)


async def test_the_server_never_sees_more_at_once_than_the_run_may_ask(path):
    async with Sandbox(World(120), latency=0.002) as box:
        await synced(box, path, concurrency=3)
        assert box.counts.peak_in_flight <= 3


async def test_progress_is_kept_while_the_run_goes_on(path):
    progress = Progress()
    async with Sandbox(World(250, messages=1)) as box:
        run = asyncio.create_task(synced(box, path, progress=progress))
        await box.arrived(60)
        assert progress.report.listed >= 100
        assert 0 < progress.listed_share <= 1
        assert await run is progress.report
    assert (progress.report.done, progress.report.open, progress.report.messages) == (250, 0, 250)


@pytest.mark.slow
@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1000),
    faults=st.dictionaries(
        st.sampled_from(
            ["500", "503", "429", "429-bare", "reset", "drop", "cut", "garbage", "truncated", "html"]
        ),
        st.floats(0.0, 0.03),
        max_size=4,
    ),
    stops=st.lists(st.integers(1, 80), max_size=3),
)
async def test_any_faults_and_any_stops_end_in_the_servers_truth(seed, faults, stops):
    weather = (
        Faults.parse(",".join(f"{kind}={chance}" for kind, chance in faults.items())) if faults else Faults()
    )
    with TemporaryDirectory() as folder:
        path = Path(folder, "archive.db")
        async with Sandbox(sessions=50, seed=seed, faults=weather) as box:
            for stop in stops:
                run = asyncio.create_task(synced(box, path))
                await asyncio.wait(
                    [run, arrival := asyncio.create_task(box.arrived(box.counts.total + stop))],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                run.cancel()
                arrival.cancel()
                await asyncio.gather(run, arrival, return_exceptions=True)
            await synced(box, path)
            assert await kept(path) == truth(box.world)


async def test_a_session_that_is_seen_the_second_time_and_whose_messages_fail_is_recorded(path):
    async with Sandbox(World(20, messages=1)) as box:
        bad = box.world.sessions[5]["id"]
        await synced(box, path, sessions=(box.world.sessions[0]["id"],))
        box.fail_next("500", times=8, path=f"sessions/{bad}")
        box.fail_next("400", times=20, path=f"messages?sessionId={bad}")
        report = await synced(box, path, sessions=(bad,), project="another")
        assert report.failed == 1


async def test_a_session_that_is_refused_is_asked_for_once_and_costs_no_other_request(path):
    async with Sandbox(World(40, messages=1)) as box:
        bad = {box.world.sessions[number]["id"] for number in (3, 14, 25, 36)}
        for each in bad:
            box.fail_next("400", times=20, path=f"messages?sessionId={each}")
        report = await synced(box, path, concurrency=1)
        assert (report.failed, report.done) == (4, 36)
        # Each list ends with an empty page; one request tells whether it is the key that is refused.
        assert report.requests == 2 * 36 + 4 + 2 + 1


@pytest.mark.parametrize("option", ["retry_failed", "reconcile"])
async def test_another_projects_key_changes_nothing_whatever_is_asked_for(path, option):
    async with Sandbox(keys={"ours": World(40, 1, messages=1), "theirs": World(40, 2)}) as box:
        box.fail_next("400", times=20, path=f"messages?sessionId={box.keys['ours'].sessions[3]['id']}")
        await synced(box, path, key="ours")
        async with opened(path) as store:
            before = (await store.failures("default"), await store.projects())
        with pytest.raises(StoreMismatch, match="another project"):
            await synced(box, path, key="theirs", **{option: True})
        async with opened(path) as store:
            assert (await store.failures("default"), await store.projects()) == before


async def test_a_session_too_old_to_be_waited_for_is_watched_no_longer(path):
    async with Sandbox(World(20, messages=1)) as box:
        going_on = box.world.add_session(status=0, endTime=None)
        await synced(box, path)
        for age, times in ((None, 2), (timedelta(days=1), 2), (None, 2)):
            await synced(box, path, watch_max_age=age, overlap=timedelta(0))
            assert box.counts.messages_by_session[going_on["id"]] <= times + 1
        async with opened(path) as store:
            assert (await store.counts("default")).watched == 0


async def test_a_session_without_a_begin_that_is_gone_is_found_by_reconciling(path):
    async with Sandbox(World(20, messages=1)) as box:
        timeless = box.world.add_session()
        box.world.change_session(timeless["id"], startTime="")
        await synced(box, path)
        box.world.remove_session(timeless["id"])
        assert (await synced(box, path, reconcile=True)).vanished == 1


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"retry": 5}, TypeError),
        ({"overlap": 5}, ValueError),
        ({"settle": timedelta(seconds=-1)}, ValueError),
        ({"project": " "}, ValueError),
        ({"concurrency": 0}, ValueError),
        ({"reconcile": 5}, ValueError),
        ({"listing": "wide"}, ValueError),
        ({"short_pages": "trust"}, ValueError),
    ],
)
async def test_a_wrong_argument_is_refused_by_its_name_before_any_request(path, wrong, error):
    async with Sandbox(World(1)) as box:
        with pytest.raises(error, match=next(iter(wrong))):
            await synced(box, path, **wrong)
        assert box.counts.total == 0


async def test_only_a_client_can_sync(path):
    async with Archive.open(path) as store:
        with pytest.raises(TypeError, match="client=None"):
            await sync(None, store)
