"""What holds of a store kept up to date, whatever the server, the network and the world do meanwhile."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from archive_contents import assert_finished, contents_at, contents_of
from changes import NOON, Clock, apply_change, arrived_or_over, changes, fault_mixes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import examples
from snapshots import stored_at
from store_rows import journal

from navtalk_async import NavTalkClient, Retry
from navtalk_async.archive import Archive
from navtalk_async.archive.records import Clock as Clocked
from navtalk_async.archive.records import FailedSession, FetchResult, Round
from navtalk_async.dialects.navtalk import NavTalkMessage, NavTalkSession
from navtalk_async.errors import NavTalkError, StoreMismatch
from navtalk_async.ingest import sync
from navtalk_async.models import Request, SessionStatus
from navtalk_async.sandbox import Answers, Faults, Sandbox, World

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
ONCE = Retry(attempts=1)


@pytest.fixture
def clock():
    return Clock()


async def synced(box, address, *, client=None, **options):
    async with (
        NavTalkClient("k", base_url=box.navtalk_url, **{"retry": QUICK, **(client or {})}) as nt,
        Archive.open(address) as store,
    ):
        return await sync(nt, store, **{"concurrency": 8, **options})


async def counts_of(address):
    async with Archive.open(address) as store:
        return await store.counts("default")


# One session that goes wrong.


async def test_a_session_asked_for_by_name_whose_messages_cannot_be_fetched_is_a_failure(address):
    async with Sandbox(World(5, messages=2)) as box:
        lost, good = (box.world.sessions[n]["id"] for n in (1, 3))
        box.fail_next("500", times=100, path=f"messages?sessionId={lost}")
        report = await synced(box, address, sessions=(lost, good), client={"retry": ONCE})
        counts = await counts_of(address)
        assert (report.done, report.failed, report.open, counts.pending) == (1, 1, 0, 0)


async def test_a_watched_session_that_has_changed_and_cannot_be_read_is_a_failure(address, clock):
    async with Sandbox(World(5, messages=2), clock=clock) as box:
        old = box.world.add_session(start_time=clock.before(days=9), status=0)
        box.world.add_session(start_time=clock.before(days=1))
        await synced(box, address)
        box.world.change_session(old["id"], status=1, endTime=clock.before(hours=1))
        box.fail_next("500", times=100, path=f"messages?sessionId={old['id']}")
        report = await synced(box, address, client={"retry": ONCE})
        assert (report.failed, (await counts_of(address)).pending) == (1, 0)


async def test_a_session_whose_messages_are_not_found_and_that_is_answered_500_costs_no_other(address):
    async with Sandbox(World(20, messages=2)) as box:
        lost = box.world.sessions[4]["id"]
        box.fail_next("404", times=100, path=f"messages?sessionId={lost}")
        box.fail_next("500", times=100, path=f"/sessions/{lost}")
        report = await synced(box, address, client={"retry": ONCE})
        assert (report.done, report.failed) == (19, 1)


async def test_a_named_session_that_failed_before_it_was_seen_has_no_messages_without_a_session(address):
    async with Sandbox(World(5, messages=2)) as box:
        lost = box.world.sessions[1]["id"]
        box.fail_next("500", times=2, path=f"/sessions/{lost}")
        scope = {"sessions": (lost,)}
        assert (await synced(box, address, **scope, client={"retry": ONCE})).failed == 1
        box.fail_next("500", times=3, path=f"/sessions/{lost}")
        report = await synced(box, address, **scope, client={"retry": ONCE}, retry_failed=True)
        assert report.failed == 1
        assert await contents_at(address) == []


async def test_a_session_that_vanishes_while_it_is_pending_and_watched_is_no_failure(address, clock):
    async with Sandbox(World(5, messages=2), clock=clock) as box:
        for each in (1, 9):
            gone = box.world.add_session(start_time=clock.before(days=each), status=0)
            box.fail_next("400", path=f"sessionId={gone['id']}")
        assert (await synced(box, address)).failed == 2
        for each in box.world.sessions[-2:]:
            box.world.remove_session(each["id"])
        report = await synced(box, address, retry_failed=True)
        assert (report.failed, report.vanished, report.open) == (0, 2, 0)


# What a refused run leaves as it was.


async def test_a_run_with_other_filters_makes_no_failed_session_pending(address):
    async with Sandbox(World(9, messages=2)) as box:
        box.fail_next("400", times=2, path=f"sessionId={box.world.sessions[1]['id']}")
        await synced(box, address)
        with pytest.raises(StoreMismatch):
            await synced(box, address, status=1, retry_failed=True)
        counts = await counts_of(address)
        assert (counts.pending, counts.failed) == (0, 1)


async def test_a_run_with_another_projects_key_leaves_no_trace(address):
    async with Sandbox(keys={"k": World(9, 1), "theirs": World(9, 2)}) as box:
        await synced(box, address)
        async with Archive.open(address) as store:
            before = await store.projects()
        box.keys = {"k": World(9, 2)}
        with pytest.raises(StoreMismatch):
            await synced(box, address)
        async with Archive.open(address) as store:
            assert await store.projects() == before


# Time.


async def test_the_last_reading_of_a_long_session_is_a_whole_one_however_long_it_waited(address, clock):
    async with Sandbox(World(0), clock=clock) as box:
        first = box.world.add_session(start_time=clock.before(hours=3), status=0)
        long = box.world.add_session(start_time=clock.before(hours=2), status=0)
        for minute in range(240):
            box.world.add_message(long["id"], created_at=clock.before(minutes=120 - minute // 2))
        await synced(box, address)
        clock.on(minutes=10)
        box.world.change_session(long["id"], status=1, endTime=clock.before(minutes=1))
        await synced(box, address)
        box.counts.reset()
        box.world.remove_message(long["id"], box.world.messages(long["id"])[0]["id"])
        # JournalResult a second before it has settled, and read a second after.
        clock.on(seconds=119)
        box.clock = lambda: clock.now + timedelta(seconds=2 * box.counts.messages_by_session[first["id"]])
        await synced(box, address, concurrency=1)
        box.clock = clock
        clock.on(minutes=5)
        await synced(box, address)
        await assert_finished(address, box.world)
        assert (await counts_of(address)).watched == 1


@pytest.mark.parametrize("sends_date", [True, False])
async def test_a_clock_that_goes_back_keeps_no_watched_session_from_being_read(address, clock, sends_date):
    async with Sandbox(World(3, messages=2), clock=clock) as box:
        # By now, on this machine, all of this is long past: then our own clock is ahead of the server's.
        clock.now = datetime.now(UTC) + timedelta(hours=5)
        near = box.world.add_session(start_time=clock.before(hours=8), status=0)
        far = box.world.add_session(start_time=clock.before(days=8), status=0)
        await synced(box, address)
        for each in (near, far):
            box.world.add_message(each["id"], "later")
        if sends_date:
            clock.on(hours=-5)
        else:
            box.clock = lambda: None
        await synced(box, address)
        await assert_finished(address, box.world)


async def test_a_run_stopped_after_its_listing_lists_no_more_than_the_overlap_a_day_later(
    address, clock, until
):
    async with Sandbox(World(0), answers=Answers(max_page=10, cursor_on_last_page=False), clock=clock) as box:
        for hour in range(200):
            box.world.add_session(start_time=clock.before(hours=200 - hour))
        slow = box.world.sessions[-1]["id"]
        box.fail_next("hang", path=f"sessionId={slow}")
        run = asyncio.create_task(synced(box, address))
        await until(lambda: box.counts.messages_by_session[slow] and box.counts.in_flight == 1)
        run.cancel()
        await asyncio.wait([run])
        listed = box.counts.by_kind["sessions"]
        clock.on(hours=10)
        box.world.add_session(start_time=clock.before(hours=1))
        await synced(box, address)
        await assert_finished(address, box.world)
        assert box.counts.by_kind["sessions"] - listed <= 5


# Straight into the store.


def session(number, **fields):
    about = {"status": SessionStatus.COMPLETED, "video_url": None}
    about |= {"start_time_text": "2026-02-03 10:00:00", "end_time_text": "2026-02-03 10:05:00"}
    return NavTalkSession(id=f"{number:08x}-dede-11f0-92bc-000e1eed4a72", **about | fields)


def message(number):
    created = f"2026-02-03 10:{number:02}:00"
    name = f"{number:08x}-e000-11f0-92bc-000e1eed4a72"
    return NavTalkMessage(id=name, role=0, type=0, content="hello", created_at_text=created)


async def journalled(store, sessions):
    clock = Clocked.at(NOON, timedelta(seconds=120), NOON)
    found = await journal(store, *sessions, clock=clock, round=Round(began=clock.now), places=None)
    return found.to_fetch


@pytest.fixture
async def store(address):
    async with Archive.open(address) as store:
        await store.begin("default", api="navtalk", scope="{}")
        yield store


@given(readings=st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=4), at_once=st.booleans())
@settings(max_examples=examples(40))
async def test_readings_of_one_session_leave_what_the_last_one_said_also_when_they_are_kept_at_once(
    new_place, readings, at_once
):
    async with Archive.open(await new_place()) as store:
        await store.begin("default", api="navtalk", scope="{}")
        [wanted] = await journalled(store, [session(1)])
        fetched = [FetchResult(wanted, [message(each) for each in sorted(said)]) for said in readings]
        for some in [fetched] if at_once else [[each] for each in fetched]:
            await store.save_messages("default", some)
        [(_, messages, _)] = await contents_of(store)
        assert [each["id"] for each in messages] == [message(n).id for n in sorted(readings[-1])]


async def test_the_rest_of_a_session_that_has_failed_since_does_not_make_it_kept(store):
    [wanted] = await journalled(store, [session(1)])
    behind = Request(path="/api/chat/messages", params={"cursor": "abc"})
    await store.save_messages("default", [FetchResult(wanted, [message(1)], unfollowed=behind)])
    await journalled(store, [session(1, video_url="https://example.org/1")])
    await store.record_failures("default", [FailedSession(wanted.id, "ServerError: 500", 8)])
    for each in await store.unfollowed_cursors("default"):
        await store.save_messages("default", [FetchResult(each.wanted, [message(2)], each.first)])
    assert (await store.counts("default")).failed == 1


# Everything at once.


@dataclass
class Spell:
    """One run: the weather, what happens to the world meanwhile, and when the run is stopped, if it is."""

    weather: Faults
    changes: list = field(default_factory=list)
    stop: int | None = None
    hangs: int = 0


spells = st.lists(
    st.builds(Spell, fault_mixes, changes, st.none() | st.integers(0, 60), st.integers(0, 1)),
    min_size=1,
    max_size=4,
)


async def lived_through(box, address, clock, spell):
    """A run in such a *spell*, however it ends."""
    box.faults = spell.weather
    if spell.hangs:
        box.fail_next("hang")
    patience = {"timeout": 5.0, "attempt_timeout": 0.1}
    run = asyncio.create_task(synced(box, address, client=patience))
    run.add_done_callback(lambda _: None)
    for change in spell.changes:
        await arrived_or_over(box, change.after, run)
        apply_change(box.world, clock, change, open_only={"say", "end", "correct", "unsay"})
    if spell.stop is not None:
        await arrived_or_over(box, spell.stop, run)
        run.cancel()
    with suppress(NavTalkError, asyncio.CancelledError):
        await run
    box.faults = Faults()
    box.forget_planned()


@pytest.mark.slow
@settings(
    max_examples=examples(12),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 1000),
    answers=st.builds(
        Answers,
        cursor_on_last_page=st.booleans(),
        max_page=st.sampled_from([None, 4]),
        start_inclusive=st.booleans(),
        errors=st.sampled_from(["status", "body"]),
    ),
    spells=spells,
)
async def test_any_faults_stops_and_changes_end_in_the_servers_truth(new_place, seed, answers, spells):
    clock, address = Clock(), await new_place()
    world = World(12, seed, mean_messages=4)
    for hours in range(9):
        new = world.add_session(start_time=clock.before(hours=3 * hours), status=hours % 2)
        world.add_message(new["id"], "hello")
    async with Sandbox(world, seed=seed, answers=answers, clock=clock) as box:
        for spell in spells:
            await lived_through(box, address, clock, spell)
            clock.on(minutes=20)
        # What failed in bad weather is tried again; and what changed while it was compared, compared.
        for _ in range(2):
            await synced(box, address, retry_failed=True, reconcile=True)
            clock.on(minutes=20)
        await assert_finished(address, world)
        gone = {each.session["id"] for each in await contents_at(address) if each.is_gone}
        assert not gone & {each["id"] for each in world.sessions}


# A round that finds nothing new.

IDLE_OPTIONS = {
    "as usual": {},
    "one status": {"status": 1},
    "one role": {"role": 0},
    "what never ends given up": {"watch_max_age": timedelta(days=2)},
    "what failed tried again": {"retry_failed": True},
    "short pages audited": {"short_pages": "audit"},
    "page by page": {"listing": "serial"},
    "sessions by their ids": {"sessions": ()},
}


@pytest.mark.parametrize("options", IDLE_OPTIONS.values(), ids=IDLE_OPTIONS)
async def test_a_round_without_news_touches_nothing_whatever_there_is(address, clock, options):
    world = World(0)
    for hours in (1, 2, 30, 100):
        for status in (0, 1):
            begun = world.add_session(start_time=clock.before(hours=hours), status=status)
            for minutes in range(hours % 7):
                world.add_message(begun["id"], "hello", created_at=clock.before(minutes=60 - minutes))
    ids = [each["id"] for each in world.sessions]
    options = options | ({"sessions": ids} if "sessions" in options else {})
    async with Sandbox(world, clock=clock) as box:
        await synced(box, address, **options)
        for gone in (*ids[:2], *ids[-2:]):
            world.remove_session(gone)
        for _ in range(2):
            clock.on(minutes=5)
            await synced(box, address, **options)
        before = await stored_at(address)
        for _ in range(3):
            clock.on(minutes=5)
            report = await synced(box, address, **options)
            assert (report.inserted, report.changed, report.vanished) == (0, 0, 0)
        assert await stored_at(address) == before
