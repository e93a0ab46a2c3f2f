"""A list walked from many places has every row, once and in order, whatever the server does."""

import asyncio
import random
from bisect import bisect_left, insort
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import NavTalkClient, SessionPool
from navtalk_async.client import inside
from navtalk_async.dialects.navtalk import NavTalk, NavTalkSession
from navtalk_async.errors import BadRequest, NotFound, ServerError
from navtalk_async.events import ListedSerially
from navtalk_async.listing import ParallelListing
from navtalk_async.listing._scheduler import SPECULATION_BUDGET, SplitScheduler
from navtalk_async.listing._segment import SortKey
from navtalk_async.models import Page, Request, ResumePoint
from navtalk_async.sandbox import Answers, Sandbox, World

FULL = 10


@dataclass(frozen=True, order=True)
class Row:
    """A row as the scheduler sees it: a position and an id."""

    position: int
    id: str


@dataclass
class Server:
    """A server without sockets: a list of rows in the order of (position, id)."""

    rows: list
    inclusive: bool = True
    always_a_cursor: bool = True
    ignores: bool = False
    shifted: int = 0
    """How far from the position that was asked for it begins."""
    page: int = FULL
    asked: list = field(default_factory=list)

    def answer(self, request):
        self.asked.append(request)
        begin = 0
        if "start" in request.params and not self.ignores:
            start = int(request.params["start"]) + self.shifted
            begin = bisect_left(self.rows, Row(start if self.inclusive else start + 1, ""))
        if "cursor" in request.params:
            position, _, name = request.params["cursor"].partition("|")
            begin = max(begin, bisect_left(self.rows, Row(int(position), name + "\0")))
        rows = self.rows[begin : begin + self.page]
        more = bool(rows) and (self.always_a_cursor or begin + self.page < len(self.rows))
        following = request.having(cursor=f"{rows[-1].position}|{rows[-1].id}") if more else None
        return Page(rows, following)


class PositionKey:
    """The sort key of such a server."""

    def __init__(self, expected_end):
        self.expected_end = expected_end

    def request_from(self, position):
        return Request(path="/rows", params={"start": str(position - 1)})

    def positions(self, rows):
        return [row.position for row in rows]


def walked(
    server, *, walkers, in_order, expected_end, seed, arriving=(), places=(), stop_after=None, scheduler=None
):
    """The rows read from *server* when pages come in any order, and rows arrive in between."""
    chance = random.Random(seed)
    arriving = list(arriving)
    scheduler = scheduler or SplitScheduler(
        Request(path="/rows"),
        sort_key=PositionKey(expected_end),
        walkers=walkers,
        in_order=in_order,
        page_size=FULL,
        places=places,
    )
    taken, under_way = [], []
    while stop_after is None or len(server.asked) < stop_after:
        while (rows := scheduler.next_rows()) is not None:
            taken += rows
            scheduler.is_parallel = walkers > 1
        while len(under_way) < walkers and (task := scheduler.next_task()) is not None:
            # The server answers when it is asked, or when the answer arrives.
            under_way.append((task, server.answer(task.request) if chance.random() < 0.5 else None))
        if not under_way:
            break
        if arriving and chance.random() < 0.3:
            insort(server.rows, arriving.pop())
        task, page = under_way.pop(chance.randrange(len(under_way)))
        scheduler.add(task, page or server.answer(task.request))
    return taken, scheduler


def rows_at(positions):
    return sorted(Row(position, f"{number:05}") for number, position in enumerate(positions))


clustered = st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 60), st.integers(0, 40)), max_size=8).map(
    lambda bursts: [at + (n * width) // 60 for at, width, count in bursts for n in range(count)]
)
sparse = st.one_of(
    st.just([]),
    st.integers(0, 300).map(lambda count: [7] * count),
    st.integers(0, 300).map(lambda count: [5 * n for n in range(count)]),
    clustered,
)
# A request from one second earlier returns all rows of that second as well.
dense = st.integers(1, 4).map(lambda seconds: [second for second in range(seconds) for _ in range(400)])
positions = sparse | dense


@settings(max_examples=examples(600))
@given(
    positions=positions,
    arriving=st.lists(st.integers(-50, 3500), max_size=15),
    inclusive=st.booleans(),
    always_a_cursor=st.booleans(),
    ignores=st.sampled_from([False, False, False, True]),
    shifted=st.sampled_from([0, 0, 0, 0, -40, 40, 1000]),
    page=st.sampled_from([FULL, FULL, 3]),
    walkers=st.integers(1, 40),
    in_order=st.booleans(),
    beyond=st.sampled_from([-500, 0, 10, 100_000]),
    seed=st.integers(0, 10_000),
)
def test_every_row_is_delivered_once_and_in_order(  # noqa: PLR0917
    positions,
    arriving,
    inclusive,
    always_a_cursor,
    ignores,
    shifted,
    page,
    walkers,
    in_order,
    beyond,
    seed,
):
    present = rows_at(positions)
    server = Server(
        list(present),
        inclusive=inclusive,
        always_a_cursor=always_a_cursor,
        ignores=ignores,
        shifted=shifted,
        page=page,
    )
    late = [Row(position, f"late {number}") for number, position in enumerate(arriving)]
    rows, scheduler = walked(
        server,
        walkers=walkers,
        in_order=in_order,
        expected_end=max(positions, default=0) + beyond,
        seed=seed,
        arriving=late,
    )
    ids = [row.id for row in rows]
    assert len(ids) == len(set(ids))
    old = [row for row in rows if not row.id.startswith("late")]
    assert (old if in_order else sorted(old)) == present
    if in_order:
        assert [row.position for row in rows] == sorted(row.position for row in rows)
    assert scheduler.is_over
    assert scheduler.places() == []


@settings(max_examples=examples(300))
@given(
    positions=positions,
    inclusive=st.booleans(),
    walkers=st.integers(2, 40),
    stops=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    seed=st.integers(0, 10_000),
)
def test_a_walk_that_was_stopped_continues_at_its_places(positions, inclusive, walkers, stops, seed):
    server = Server(rows_at(positions), inclusive=inclusive)
    all_rows, places, restored = [], [], 0
    for stop in [*stops, 10_000]:
        server.asked.clear()
        came, scheduler = walked(
            server,
            walkers=walkers,
            in_order=False,
            expected_end=max(positions, default=0),
            seed=seed,
            places=places,
            stop_after=stop,
        )
        all_rows += came
        # Serialized and read again, as an archive does.
        places = msgspec.json.decode(msgspec.json.encode(scheduler.places()), type=list[ResumePoint])
        restored += len(places)
        if not places:
            break
    assert not places
    assert {row.id for row in all_rows} == {row.id for row in server.rows}
    # After a restart, a page at an unverified border is read again, and whether the rows beyond it were
    # delivered is not known.
    assert len(all_rows) <= len(server.rows) + 2 * FULL * restored


@settings(max_examples=examples(200))
@given(positions=sparse, walkers=st.integers(1, 40), seed=st.integers(0, 10_000))
def test_few_requests_are_wasted(positions, walkers, seed):
    server = Server(rows_at(positions))
    _, scheduler = walked(
        server, walkers=walkers, in_order=False, expected_end=max(positions, default=0) + 1000, seed=seed
    )
    assert scheduler.fallback_reason is None
    pages = len(positions) / FULL
    # One more for each walker that sees its end, and one that was under way when the budget was checked.
    assert (
        len(server.asked) <= 2 + pages + (SPECULATION_BUDGET + 0.5 * pages) * max(1, walkers / 32) + walkers
    )


def test_many_walkers_take_far_fewer_rounds_than_pages():
    server = Server(rows_at(range(5000)))
    scheduler = SplitScheduler(
        Request(path="/rows"), sort_key=PositionKey(5000), walkers=32, in_order=True, page_size=FULL
    )
    rounds, taken = 0, []
    while not scheduler.is_over:
        rounds += 1
        tasks = [task for _ in range(32) if (task := scheduler.next_task()) is not None]
        for task in tasks:
            scheduler.add(task, server.answer(task.request))
        while (rows := scheduler.next_rows()) is not None:
            taken += rows
        scheduler.is_parallel = True
    assert taken == server.rows
    assert rounds <= 500 / 20
    assert len(server.asked) <= 500 * 1.25


def test_a_list_of_a_server_that_ignores_where_it_should_begin_is_walked_serially():
    server = Server(rows_at(range(1000)), ignores=True)
    rows, scheduler = walked(server, walkers=8, in_order=True, expected_end=1000, seed=1)
    assert rows == server.rows
    assert scheduler.fallback_reason == "the server does not begin where it is asked to"


def test_a_server_that_begins_too_late_is_detected_at_a_border():
    server = Server(rows_at(range(1000)), shifted=30)
    rows, scheduler = walked(server, walkers=8, in_order=True, expected_end=1000, seed=1)
    assert rows == server.rows
    assert scheduler.fallback_reason == "the server does not give all that follows where it is asked to begin"


def test_a_list_in_another_order_is_walked_serially():
    class Backwards(PositionKey):
        def positions(self, rows):
            return [-row.position for row in rows]

    server = Server(rows_at(range(500)))
    scheduler = SplitScheduler(
        Request(path="/rows"), sort_key=Backwards(1000), walkers=8, in_order=True, page_size=FULL
    )
    rows, scheduler = walked(server, walkers=8, in_order=True, expected_end=0, seed=1, scheduler=scheduler)
    assert rows == server.rows
    assert scheduler.fallback_reason is None  # it was not split yet


def test_a_row_that_arrives_late_at_a_border_causes_no_fallback():
    for seed in range(30):
        server = Server(rows_at(range(0, 2000, 2)))
        late = [Row(position, f"late {position}") for position in range(1, 2000, 20)]
        rows, scheduler = walked(
            server, walkers=16, in_order=True, expected_end=2000, seed=seed, arriving=late
        )
        assert scheduler.fallback_reason is None
        assert rows == sorted(rows)
        assert {row for row in rows if not row.id.startswith("late")} == set(rows_at(range(0, 2000, 2)))


def test_in_listed_order_the_number_of_waiting_pages_is_bounded_by_the_walkers():
    server = Server(rows_at(range(30_000)))
    scheduler = SplitScheduler(
        Request(path="/rows"), sort_key=PositionKey(30_000), walkers=4, in_order=True, page_size=FULL
    )
    scheduler.is_parallel = True
    waiting = 0
    while (task := scheduler.next_task()) is not None:
        scheduler.add(task, server.answer(task.request))
        waiting += 1
    # No reader takes a row, so the walk stops by itself.
    assert waiting <= 3 * 4 * 16


def test_an_expired_cursor_is_replaced_by_the_time_saved_with_it():
    server = Server(rows_at(range(100)))
    stale = ResumePoint(Request(path="/rows", params={"cursor": "expired"}), reached=41)
    scheduler = SplitScheduler(
        Request(path="/rows"),
        sort_key=PositionKey(100),
        walkers=4,
        in_order=False,
        page_size=FULL,
        places=[stale],
    )
    task = scheduler.next_task()
    assert scheduler.can_retry(task, NotFound())
    assert scheduler.next_task().request == Request(path="/rows", params={"start": "40"})
    assert not scheduler.can_retry(task, NotFound())
    assert server.asked == []


# Over real sockets.


def worlds():
    steady = World(0)
    for number in range(900):
        steady.add_session(start_time=f"2025-11-01 {number // 60:02}:{number % 60:02}:00")
    one_second = World(0)
    for _ in range(700):
        one_second.add_session(start_time="2025-11-01 08:00:00")
    return {"clustered": World(1500), "steady": steady, "one second": one_second, "empty": World(0)}


WORLDS = worlds()


def ids(rows):
    return [row["id"] for row in rows]


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(
    world=st.sampled_from(sorted(WORLDS)),
    answers=st.builds(
        Answers,
        cursor_on_last_page=st.booleans(),
        last_cursor=st.sampled_from(["null", "empty", "missing"]),
        start_inclusive=st.booleans(),
        end_inclusive=st.booleans(),
        end_bounds=st.sampled_from(["start", "end"]),
        filters_ignored=st.sampled_from([False, False, True]),
        cursor_needs_filters=st.booleans(),
        max_page=st.sampled_from([None, None, 40]),
    ),
    filters=st.fixed_dictionaries(
        {},
        optional={
            "start_time": st.sampled_from(["2025-11-01 08:00:00", "2025-11-03 00:00:00"]),
            "end_time": st.sampled_from(["2025-11-09 12:00:00", datetime(2025, 11, 5, tzinfo=UTC)]),
            "status": st.just(1),
        },
    ),
    walkers=st.integers(1, 40),
    order=st.sampled_from(["listed", "done"]),
)
async def test_a_parallel_listing_returns_what_a_serial_walk_returns(world, answers, filters, walkers, order):
    async with (
        Sandbox(WORLDS[world], answers=answers) as box,
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
    ):
        serial = [session.id async for session in nt.sessions.list(**filters)]
        async with SessionPool(nt, concurrency=walkers).sessions(**filters, order=order) as sessions:
            parallel = [session.id async for session in sessions]
    assert parallel == serial if order == "listed" else sorted(parallel) == sorted(serial)


async def test_a_server_without_time_filters_is_listed_whole_and_the_reason_is_announced():
    events = []
    async with (
        Sandbox(World(2000), answers=Answers(filters_ignored=True)) as box,
        NavTalkClient("k", base_url=box.navtalk_url, on_event=events.append) as nt,
        SessionPool(nt, concurrency=8).sessions() as sessions,
    ):
        assert [session.id async for session in sessions] == ids(box.world.sessions)
    assert [each for each in events if isinstance(each, ListedSerially)] == [
        ListedSerially("the server does not begin where it is asked to")
    ]


async def test_a_reader_that_is_busy_with_messages_leaves_the_listing_serial():
    async with Sandbox(World(600, messages=2)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with SessionPool(nt, concurrency=8).transcripts() as transcripts:
            assert len([each async for each in transcripts]) == 600
        assert box.counts.by_kind["sessions"] == 7


async def test_a_serial_listing_fetches_one_page_after_the_other():
    async with Sandbox(World(600)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with SessionPool(nt, concurrency=8, listing="serial").sessions() as sessions:
            assert [session.id async for session in sessions] == ids(box.world.sessions)
        assert box.counts.by_kind["sessions"] == 7


def listing_of(ask, request=None, **options):
    request = request or NavTalk().list_sessions()
    usual = {"expected_end": datetime(2025, 12, 1, tzinfo=UTC), "walkers": 8, "in_order": True}
    return ParallelListing(ask, NavTalk(), request, **usual | options)


def walkers_at_work():
    return [each for each in asyncio.all_tasks() if each.get_coro().__qualname__ == "ParallelListing._walk"]


async def test_an_error_of_one_walker_is_raised_and_stops_the_others():
    async with Sandbox(World(3000)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        asked = 0

        async def ask(request):
            nonlocal asked
            asked += 1
            if asked == 9:
                raise ServerError("The server answered 500.")
            return await inside(nt).page_of_sessions(request)

        listing = listing_of(ask)
        with pytest.raises(ServerError):
            async with aclosing(listing.pages()) as pages:
                async for _ in pages:
                    pass
    assert not walkers_at_work()


async def test_leaving_early_leaves_no_walker_behind():
    async with Sandbox(World(3000)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        async with SessionPool(nt, concurrency=8).sessions() as sessions:
            async for session in sessions:
                if session.id == box.world.sessions[400]["id"]:
                    break
    assert not walkers_at_work()


async def test_a_refused_cursor_of_an_earlier_run_is_no_error_of_the_listing():
    async with Sandbox(World(300)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        reached = int(datetime.fromisoformat(box.world.sessions[250]["startTime"] + "+00:00").timestamp())
        stale = ResumePoint(NavTalk().list_sessions(cursor="expired"), reached=reached)
        rest = [
            s.id
            async for page in _pages(listing_of(inside(nt).page_of_sessions, places=[stale]))
            for s in page
        ]
        assert set(ids(box.world.sessions[251:])) <= set(rest)
        fresh = NavTalk().list_sessions(cursor="expired")
        with pytest.raises(BadRequest):
            serial = listing_of(inside(nt).page_of_sessions, fresh, walkers=1)
            [page async for page in _pages(serial)]


async def _pages(listing):
    async with aclosing(listing.pages()) as pages:
        async for page in pages:
            yield page


def session(started):
    return NavTalkSession(id="x", status=1, start_time_text=started, end_time_text=None, video_url=None)


@pytest.mark.parametrize(
    ("started", "position"),
    [
        ("1970-01-01 00:00:09", 9),
        ("1970-01-01T00:00:09.9Z", 9),
        ("1970-01-01 01:00:09+01:00", 9),
        ("1969-12-31 23:59:59", -1),
    ],
)
def test_a_start_time_of_any_form_has_its_position(started, position):
    sort_key = SortKey.of(NavTalk(), NavTalk().list_sessions(), None)
    assert sort_key.positions([session("1970-01-01 00:00:00"), session(started)]) == [0, position]


def test_a_row_without_a_time_has_no_position():
    sort_key = SortKey.of(NavTalk(), NavTalk().list_sessions(), None)
    assert sort_key.positions([session("1970-01-01 00:00:00"), session(None)]) is None
    assert sort_key.positions([session("soon")]) is None


def test_a_position_is_requested_from_one_second_earlier_with_all_other_filters():
    request = NavTalk().list_sessions(start_time="2025-01-01 00:00:00", status=1, cursor="abc")
    sort_key = SortKey.of(NavTalk(), request, None)
    asked = sort_key.request_from(2_000_000_000)
    assert asked.params == {"startTime": "2033-05-18 03:33:19", "status": "1", "limit": "100"}
