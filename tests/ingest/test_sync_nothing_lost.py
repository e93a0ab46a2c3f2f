"""What a sync must not lose without a word: sessions that match a filter late, or appear behind one that is
dated in the future; and what it refuses: another server, a stranger's request.
"""

from datetime import UTC, datetime, timedelta

import pytest
from changes import NOON, Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_box import new_schema
from profiles import examples
from store_rows import asked, journal

from navtalk_async import KodeyClient, NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.archive.records import Round
from navtalk_async.dialects.navtalk import NavTalkSession
from navtalk_async.errors import AccessDenied, StoreMismatch
from navtalk_async.ingest import sync
from navtalk_async.ingest._reread_rules import latest
from navtalk_async.models import Request, ResumePoint
from navtalk_async.sandbox import Answers, Sandbox, World

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)


async def synced(box, address, *, base_url=None, **options):
    async with (
        NavTalkClient("k", base_url=base_url or box.navtalk_url, retry=QUICK) as nt,
        Archive.open(address) as store,
    ):
        return await sync(nt, store, concurrency=4, **options)


async def held(address, project="default"):
    """The sessions that are kept and not deleted, by their ids, with the contents of their messages."""
    async with Archive.open(address) as store:
        rows = [row async for some in store.transcript_batches(project) for row in some]
    return {
        row.session.id: [message.content for message in row.messages]
        for row in rows
        if row.session.deleted_at is None
    }


def matching(world, status):
    return {
        row["id"]: [said["content"] for said in world.messages(row["id"])]
        for row in world.sessions
        if row["status"] == status
    }


# A filter on what changes.


@pytest.mark.parametrize("status", [1, 2])
async def test_a_session_that_comes_to_match_the_status_long_after_it_began_is_kept(address, status):
    clock = Clock()
    async with Sandbox(World(0), clock=clock) as box:
        late = box.world.add_session(start_time=clock.before(days=9), status=0)["id"]
        for hours in range(200):
            box.world.add_session(start_time=clock.before(hours=hours), status=status)
        first = await synced(box, address, status=status)
        assert (first.inserted, await held(address)) == (200, matching(box.world, status))
        box.world.add_message(late, "the last word", created_at=clock.before(minutes=1))
        box.world.change_session(late, status=status, endTime=clock.before(minutes=1))
        box.counts.reset()
        report = await synced(box, address, status=status)
        assert (report.inserted, await held(address)) == (1, matching(box.world, status))
        assert box.counts.by_kind["session"] <= 3
        box.counts.reset()
        clock.on(minutes=5)
        assert (await synced(box, address, status=status)).inserted == 0


async def test_a_session_that_will_never_match_is_waited_for_no_longer(address):
    clock = Clock()
    async with Sandbox(World(0), clock=clock) as box:
        world = box.world
        open_one = world.add_session(start_time=clock.before(days=9), status=0)["id"]
        world.add_session(start_time=clock.before(hours=1), status=1)
        await synced(box, address, status=1)
        world.change_session(open_one, status=2, endTime=clock.before(minutes=1))
        await synced(box, address, status=1)
        async with Archive.open(address) as store:
            assert await store.watched("default", fresh="9999") == []
        assert (await held(address)).keys() == matching(world, 1).keys()


@pytest.mark.parametrize("fault", ["404", "500", "400"])
async def test_a_session_that_waits_and_cannot_be_seen_for_a_moment_goes_on_waiting(address, fault):
    clock, scope = Clock(), {"status": 1}
    async with Sandbox(World(0), clock=clock) as box:
        late = box.world.add_session(start_time=clock.before(days=9), status=0)["id"]
        box.world.add_session(start_time=clock.before(hours=1), status=1)
        await synced(box, address, **scope)
        box.fail_next(fault, 20 if fault == "500" else 4, late)
        report = await synced(box, address, **scope)
        assert (report.vanished, report.failed) == (0, int(fault != "404"))
        box.forget_planned()
        for _ in range(2):
            report = await synced(box, address, **scope)
            assert (report.inserted, report.failed, report.open) == (0, 0, 0)
        box.world.change_session(late, status=1, endTime=clock.before(minutes=1))
        assert (await synced(box, address, **scope)).inserted == 1
        assert await held(address) == matching(box.world, 1)


@pytest.mark.parametrize("status", [None, 3, "3", "processing", "ACTIVE"])
async def test_a_status_of_no_word_that_is_known_is_kept_or_waited_for(address, status):
    clock, scope = Clock(), {"status": 1}
    async with Sandbox(World(0), clock=clock) as box:
        ended = clock.before(days=8)
        odd = box.world.add_session(start_time=clock.before(days=9), status=status, endTime=ended)["id"]
        box.world.add_session(start_time=clock.before(hours=1), status=1)
        await synced(box, address, **scope)
        box.world.change_session(odd, status=1)
        await synced(box, address, **scope)
        assert (await held(address)).keys() == {row["id"] for row in box.world.sessions}


@pytest.mark.parametrize("word", [1, "1", "completed", "COMPLETED"])
async def test_a_status_may_be_written_as_a_text(address, word):
    clock = Clock()
    async with Sandbox(World(0), clock=clock) as box:
        kept = box.world.add_session(start_time=clock.before(hours=2), status=word)["id"]
        box.world.add_session(start_time=clock.before(hours=1), status=2)
        await synced(box, address, status=1)
        assert (await held(address)).keys() == {kept}


async def test_a_session_that_was_kept_and_deleted_comes_back_whatever_its_status(address):
    clock, scope = Clock(), {"status": 1}
    async with Sandbox(World(0), clock=clock) as box:
        world = box.world
        row = dict(world.add_session(start_time=clock.before(hours=3), status=1))
        world.add_session(start_time=clock.before(hours=1), status=1)
        await synced(box, address, **scope)
        world.remove_session(row["id"])
        assert (await synced(box, address, **scope)).vanished == 1
        world.add_session(id=row["id"], start_time=row["startTime"], status=2)
        await synced(box, address, **scope)
        assert row["id"] in await held(address)


async def test_a_session_that_waits_too_long_is_waited_for_no_longer_where_that_is_asked_for(address):
    clock = Clock()
    async with Sandbox(World(0), clock=clock) as box:
        box.world.add_session(start_time=clock.before(days=9), status=0)
        box.world.add_session(start_time=clock.before(hours=1), status=1)
        await synced(box, address, status=1)
        box.counts.reset()
        await synced(box, address, status=1, watch_max_age=timedelta(days=5))
        # One session that is known, to see whose key it is.
        assert box.counts.by_kind["session"] == 1


async def test_an_end_that_lies_ahead_hides_no_session_that_goes_on(address):
    # Before anything was answered, the time is this machine's.
    clock = Clock(datetime.now(UTC).replace(microsecond=0))
    scope = {"end_time": clock.before(days=-1)}
    async with Sandbox(World(0), clock=clock, answers=Answers(end_bounds="end")) as box:
        going_on = box.world.add_session(start_time=clock.before(days=3), status=0)["id"]
        box.world.add_session(start_time=clock.before(hours=1), status=1, endTime=clock.before(minutes=9))
        too_late = box.world.add_session(start_time=clock.before(days=-2), status=0)["id"]
        await synced(box, address, **scope)
        box.world.change_session(going_on, status=1, endTime=clock.before(minutes=1))
        await synced(box, address, **scope)
        assert await held(address) == {row["id"]: [] for row in box.world.sessions if row["id"] != too_late}


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "complete", "fail", "reopen", "say", "remove", "run", "hours", "days"]),
        st.integers(0, 99),
    ),
    max_size=25,
)


@settings(max_examples=examples(25))
@given(steps=steps, status=st.sampled_from([1, 2]))
async def test_after_a_run_everything_that_matches_is_kept_whatever_happened_before(
    tmp_path_factory, steps, status
):
    address, clock = tmp_path_factory.mktemp("archive") / "a.db", Clock()
    async with Sandbox(World(0), clock=clock) as box:
        world, scope = box.world, {"status": status}
        # Something that stays: an archive of which nothing is left cannot tell whose key it is.
        world.add_session(start_time=clock.before(days=30), status=status, endTime=clock.before(days=29))
        for what, dice in [*steps, ("run", 0)]:
            open_ones = [row["id"] for row in world.sessions if row["status"] == 0]
            chosen = open_ones[dice % len(open_ones)] if open_ones else None
            now = clock.before(seconds=dice)
            if what == "begin":
                world.add_session(start_time=now, status=0)
            elif what == "run":
                await synced(box, address, **scope)
            elif what in ("hours", "days"):
                clock.on(**{what: dice % 40})
            elif chosen is not None and what == "remove":
                world.remove_session(chosen)
            elif chosen is not None and what == "say":
                world.add_message(chosen, f"said {dice}", created_at=now)
            elif chosen is not None and what in ("complete", "fail"):
                world.change_session(chosen, status=1 if what == "complete" else 2, endTime=now)
        assert await held(address) == matching(world, status)


# Dates that cannot be.


@given(begins=st.lists(st.datetimes(datetime(2000, 1, 1), datetime(9999, 12, 31, 23, 59, 59)), max_size=9))
def test_what_a_listing_has_reached_is_the_latest_begin_that_is_not_in_the_future(begins):
    past = [each.replace(microsecond=0) for each in begins if each <= NOON.replace(tzinfo=None)]
    sessions = [session_that_began(each) for each in begins]
    reached = latest(None, sessions, NOON)
    assert reached == (f"{max(past).isoformat()}Z" if past else None)


def session_that_began(moment):
    text = moment.isoformat(" ", "seconds")
    return NavTalkSession(id="s", status=0, start_time_text=text, end_time_text=None, video_url=None)


@pytest.mark.parametrize("odd", ["2099-01-01 00:00:00", "9999-12-31 23:59:59", "2026-02-03 12:00:09"])
async def test_a_session_of_the_future_hides_none_that_appears_late(address, odd):
    clock = Clock()
    async with Sandbox(World(0), clock=clock) as box:
        world = box.world
        for days in range(3, 9):
            world.add_session(start_time=clock.before(days=days))
        world.add_session(start_time=odd)
        await synced(box, address)
        for _ in range(2):
            late = world.add_session(start_time=clock.before(days=3))["id"]
            await synced(box, address)
            assert late in await held(address)


# Listed, and not there.


async def test_a_session_that_the_list_goes_on_giving_and_that_is_not_there_has_failed(address):
    clock = Clock()
    async with Sandbox(World(0), clock=clock) as box:
        for hours in range(3):
            box.world.add_session(start_time=clock.before(hours=hours))
        odd = box.world.sessions[1]["id"]
        box.fail_next("404", 1000, odd)
        reports = [await synced(box, address) for _ in range(4)]
        assert [report.inserted for report in reports] == [3, 0, 0, 0]
        assert [report.failed for report in reports[1:]] == [1, 1, 1]


# Another server.


async def test_an_archive_refuses_another_server_of_the_same_api_before_it_asks_it_anything(address):
    async with Sandbox(World(5)) as first, Sandbox(World(9)) as second:
        await synced(first, address)
        before = await held(address)
        for options in ({}, {"reconcile": True}, {"retry_failed": True}):
            with pytest.raises(StoreMismatch, match=f"synced from {first.url}.*server_moved=True"):
                await synced(second, address, **options)
        assert second.counts.total == 0
        assert await held(address) == before


async def test_a_server_that_moved_is_confirmed_once(address):
    async with Sandbox(World(5)) as first:
        await synced(first, address)
        world = first.world
    async with Sandbox(world) as moved:
        assert (await synced(moved, address, server_moved=True)).inserted == 0
        assert (await synced(moved, address)).inserted == 0
        with pytest.raises(StoreMismatch):
            await synced(moved, address, base_url="http://127.0.0.1:1")


async def test_one_server_has_many_ways_to_be_written(address):
    async with Sandbox(World(5)) as box:
        await synced(box, address)
        for url in (f"{box.url}/", f"{box.url}/api/chat", box.url.replace("http", "HTTP")):
            assert (await synced(box, address, base_url=url)).inserted == 0


async def test_an_archive_that_remembers_no_server_remembers_the_first_that_has_its_sessions(address):
    async with Sandbox(World(5)) as right, Sandbox(World(5, seed=1)) as wrong:
        await synced(right, address)
        await asked(address, "UPDATE sync_projects SET server = NULL")
        with pytest.raises(StoreMismatch, match="another project"):
            await synced(wrong, address)
        await synced(right, address)
        with pytest.raises(StoreMismatch, match="server_moved=True"):
            await synced(wrong, address)


async def test_a_server_is_remembered_when_it_has_what_the_project_holds(address):
    async with Sandbox(World(5)) as right, Sandbox(World(5, seed=1)) as wrong:
        await synced(right, address)
        with pytest.raises(StoreMismatch, match="another project"):
            await synced(wrong, address, server_moved=True)
        wrong.fail_next("403", 9)
        with pytest.raises(AccessDenied):
            await synced(wrong, address, server_moved=True)
        assert (await synced(right, address)).inserted == 0


@pytest.mark.parametrize("server", [5, "", " ", b"x"])
async def test_the_name_of_a_server_is_a_text(tmp_path, server):
    async with Sandbox(World(1)) as box:
        with pytest.raises(ValueError, match="is not a name"):
            await synced(box, tmp_path / "a.db", server=server)
        assert box.counts.total == 0


async def test_a_project_of_which_nothing_came_is_bound_to_no_server(address):
    async with Sandbox(World(5)) as box:
        async with Archive.open(address) as store:
            await store.begin("default", api="navtalk", scope="{}")
            await store.remember_server("default", "https://mistyped.example")
        assert (await synced(box, address)).inserted == 5


async def test_another_api_may_be_elsewhere(postgres):
    address = await new_schema(postgres)
    async with Sandbox(World(5)) as box:
        await synced(box, address)
        async with KodeyClient("k", base_url=box.kodey_url) as kodey, Archive.open(address) as store:
            assert (await sync(kodey, store, project="kodey")).inserted == 5


# A stranger's archive.


async def test_an_archive_cannot_have_anything_asked_but_its_own_lists(address):
    evil = [
        Request(path="/api/chat/sessions", method="DELETE"),
        Request(path="/api/chat/sessions", body=b"{}", method="POST"),
        Request(path="/api/chat/messages"),
        Request(path="/elsewhere"),
    ]
    async with Sandbox(World(40, messages=3)) as box:
        async with Archive.open(address) as store:
            await store.begin("default", api="navtalk", scope="{}")
            round_ = Round(began="2020-01-01T00:00:00Z")
            await journal(store, round=round_, places=[ResumePoint(each) for each in evil])
        await synced(box, address)
        assert await held(address) == {
            row["id"]: [said["content"] for said in box.world.messages(row["id"])]
            for row in box.world.sessions
        }
        assert (box.counts.writes, box.counts.by_kind["other"]) == ({}, 0)
