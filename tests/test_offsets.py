"""A list that is paged by offset gives each row once, however it moves and whatever it says of itself."""

import random
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.dialects.kodey import KodeyMessage
from navtalk_async.errors import RepeatedPage
from navtalk_async.models import Page, Request
from navtalk_async.paging import fetch_all, walk
from navtalk_async.paging.offsets import goes_on

FIRST = Request(path="/rows", params={"offset": "0"})
LIMIT = 10
MOVED = "its rows moved while it was listed, so parts of it were listed again"


@dataclass(frozen=True)
class Row:
    id: str
    is_deleted: bool = False
    """Whether it is counted, and not given."""
    ids_are_unique: ClassVar[bool] = True


TOTALS = {
    "right": lambda rows, _: len(rows),
    "given": lambda rows, _: sum(not row.is_deleted for row in rows),
    "of the page": lambda _, page: len(page),
    "too large": lambda rows, _: len(rows) + 7,
    "one too small": lambda rows, _: max(0, len(rows) - 1),
    "huge": lambda *_: 10**15,
    "nought": lambda *_: 0,
    "missing": lambda *_: None,
}
PROMISES = {
    "right": lambda rows, reached: reached < len(rows),
    "always": lambda *_: True,
    "never": lambda *_: False,
    "missing": lambda *_: None,
}


@dataclass
class Server:
    """A list asked for by offset, that moves and says of itself what it is told to."""

    rows: list
    limit: int = LIMIT
    """How many rows are asked for."""
    cap: int = LIMIT
    """How many rows it gives at the most."""
    total: str = "right"
    has_more: str = "right"
    counts_deleted: bool = True
    """Whether offsets count rows that are deleted."""
    moves: dict = field(default_factory=dict)
    """After so many answers, what becomes of its rows."""
    hiccups: frozenset = frozenset()
    """The numbers of the answers that have no rows, and promise them."""
    heeds_offset: bool = True
    asked: int = 0

    def __post_init__(self):
        self.throughout = {row.id for row in self.rows if not row.is_deleted}
        """The rows that were there at the begin and are still there."""

    async def ask(self, request):
        self.asked += 1
        assert self.asked < 3_000, "an endless walk"
        at = int(request.params["offset"]) if self.heeds_offset else 0
        counted = self.rows if self.counts_deleted else [row for row in self.rows if not row.is_deleted]
        cut = [] if self.asked in self.hiccups else counted[at : at + min(self.cap, self.limit)]
        page = [row for row in cut if not row.is_deleted]
        total = TOTALS[self.total](self.rows, page)
        has_more = bool(not cut and self.asked in self.hiccups) or PROMISES[self.has_more](
            counted, at + len(cut)
        )
        if (move := self.moves.get(self.asked)) is not None:
            self.rows = move(self.rows)
            self.throughout &= {row.id for row in self.rows}
        going_on = goes_on(len(page), at + len(page), full=self.limit, has_more=has_more, total=total)
        following = request.having(offset=str(at + len(page))) if page and going_on else None
        return Page(page, following, total, offset_param="offset", full=self.limit, has_more=has_more)


class Shared(Row):
    """One whose id need not be its own, as far as its API says."""

    ids_are_unique = False


def rows_to(number, deleted=(), kind=Row):
    return [kind(f"r{each}", each in deleted) for each in range(number)]


async def listed(server, first=FIRST):
    """The ids of all rows, and what was told of the list meanwhile."""
    reported = []
    rows = await fetch_all(server.ask, first, lambda _, reason: reported.append(reason))
    return [row.id for row in rows], reported


def inserted(at, many, number):
    def move(rows):
        place = at % (len(rows) + 1)
        return [*rows[:place], *(Row(f"new{number}-{each}") for each in range(many)), *rows[place:]]

    return move


def deleted(at, many, _):
    def move(rows):
        place = at % (len(rows) or 1)
        return [*rows[:place], *rows[place + many :]]

    return move


def exchanged(at, many, number):
    """As many rows go as come elsewhere: their number tells nothing of it."""
    return lambda rows: inserted(3 * at, min(many, len(rows)), number)(deleted(at, many, number)(rows))


def moves(most):
    return st.dictionaries(
        st.integers(1, 40),
        st.tuples(
            st.sampled_from([inserted, deleted, exchanged]),
            st.just(0) | st.integers(0, 150),
            st.integers(1, 25),
        ),
        max_size=most,
    ).map(lambda found: {after: move(at, many, after) for after, (move, at, many) in found.items()})


def assert_all_throughout(server, ids, order):
    assert max(Counter(ids).values(), default=1) == 1
    assert server.throughout <= set(ids)
    there = server.throughout
    assert [each for each in ids if each in there] == [each for each in order if each in there]


# A list that moves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Row, Shared])
@settings(max_examples=examples(300))
@given(
    count=st.integers(0, 120),
    limit=st.integers(2, LIMIT),
    total=st.sampled_from(sorted(TOTALS)),
    has_more=st.sampled_from(sorted(PROMISES)),
    moved=moves(12),
)
async def test_each_row_that_stays_in_the_list_is_yielded_once_and_in_order(
    *, kind, count, limit, total, has_more, moved
):
    server = Server(rows_to(count, kind=kind), limit, LIMIT, total, has_more, moves=moved)
    ids, _ = await listed(server)
    assert_all_throughout(server, ids, [row.id for row in rows_to(count)])


@settings(max_examples=examples(300))
@given(
    count=st.integers(0, 120),
    cap=st.integers(2, LIMIT - 1),
    promise=st.sampled_from(
        [("right", "right"), ("missing", "right"), ("right", "missing"), ("right", "never")]
    ),
    moved=moves(12),
)
async def test_rows_that_stay_are_yielded_once_also_from_pages_shorter_than_the_limit(
    count, cap, promise, moved
):
    total, has_more = promise
    server = Server(rows_to(count), LIMIT, cap, total, has_more, moves=moved)
    ids, _ = await listed(server)
    assert_all_throughout(server, ids, [row.id for row in rows_to(count)])


@settings(max_examples=examples(100))
@given(seed=st.integers(0, 2**16), limit=st.integers(2, LIMIT), share=st.sampled_from([0.3, 0.6, 0.9]))
async def test_the_walk_of_a_list_that_keeps_moving_ends(seed, limit, share):
    chance = random.Random(seed)

    class Restless(dict):
        def get(self, number):
            if chance.random() > share:
                return None
            move = chance.choice([inserted, deleted, deleted, exchanged])
            return move(chance.randrange(200), chance.randint(1, 5), number)

    server = Server(rows_to(100), limit, moves=Restless())
    try:
        ids, _ = await listed(server)
    except RepeatedPage:
        return
    assert_all_throughout(server, ids, [row.id for row in rows_to(100)])


@pytest.mark.parametrize("after", range(1, 12))
@pytest.mark.parametrize("many", [1, 5, 9, 10, 50, 200])
@pytest.mark.parametrize("total", ["right", "missing"])
async def test_rows_deleted_from_the_front_hide_no_other_row_and_are_reported(after, many, total):
    server = Server(rows_to(100), total=total, moves={after: deleted(0, many, 0)})
    ids, reported = await listed(server)
    assert_all_throughout(server, ids, [row.id for row in rows_to(100)])
    assert reported == [MOVED]
    assert server.asked <= 20


async def test_rows_added_at_the_front_do_not_restart_the_walk():
    server = Server(rows_to(100), moves={3: inserted(0, 4, 0)})
    ids, _ = await listed(server)
    assert ids == [row.id for row in rows_to(100)]
    assert server.asked <= 14


def moved_to_the_end(at, many, _):
    """What becomes of a list in the order of the latest change when some of its rows are changed."""

    def move(rows):
        begin = at % (len(rows) or 1)
        return [*rows[:begin], *rows[begin + many :], *rows[begin : begin + many]]

    return move


@settings(max_examples=examples(200))
@given(
    count=st.integers(0, 60),
    limit=st.sampled_from([5, 10]),
    after=st.integers(1, 8),
    at=st.integers(0, 60),
    many=st.integers(1, 8),
)
async def test_a_list_ordered_by_latest_change_loses_no_row(count, limit, after, at, many):
    last = min(count, limit + (after - 1) * (limit - 1)) - 1
    assume(count and not at % count <= last < at % count + many)
    server = Server(rows_to(count), limit, moves={after: moved_to_the_end(at, many, 0)})
    ids, _ = await listed(server)
    assert Counter(ids) == Counter(row.id for row in rows_to(count))
    honest = Server(rows_to(count), limit)
    await listed(honest)
    assert server.asked <= 2 * honest.asked + 4


async def test_rows_added_at_the_end_are_yielded_last():
    server = Server(rows_to(40), moves={2: inserted(40, 2, 0)})
    ids, reported = await listed(server)
    assert ids == [*(row.id for row in rows_to(40)), "new0-0", "new0-1"]
    assert reported == []


async def test_a_list_that_does_not_move_takes_one_request_a_page_and_reports_nothing():
    for count in range(60):
        server = Server(rows_to(count))
        ids, reported = await listed(server)
        assert (ids, reported) == ([row.id for row in rows_to(count)], [])
        # Pages share a row; behind a full last page there may be another.
        assert server.asked <= 2 + max(0, count - 2) // (LIMIT - 1)


async def test_a_walk_from_an_offset_never_goes_back_before_it():
    server = Server(rows_to(100), moves={1: deleted(0, 5, 0), 3: deleted(0, 5, 1)})
    ids, _ = await listed(server, FIRST.having(offset="40"))
    assert ids == [f"r{each}" for each in range(40, 100)]


async def test_pages_of_one_row_are_walked_one_by_one():
    server = Server(rows_to(30), cap=1)
    assert (await listed(server))[0] == [row.id for row in rows_to(30)]
    assert server.asked == 30
    served = Server(rows_to(30), cap=1, moves={5: inserted(0, 3, 0)})
    assert (await listed(served))[0] == [row.id for row in rows_to(30)]


async def test_the_pages_of_a_walk_have_new_rows_alone_and_a_next_request():
    server = Server(rows_to(35), moves={2: deleted(0, 3, 0)})
    rows = []
    async with aclosing(walk(server.ask, FIRST)) as pages:
        async for page in pages:
            rows += page.items
            rest = [] if page.next is None else await fetch_all(server.ask, page.next)
            assert {row.id for row in rows_to(35)[3:]} <= {row.id for row in [*rows, *rest]}
    assert rows == rows_to(35)


def said(number, link=0):
    """A message that shares its id with others; its link is signed anew each time."""
    return KodeyMessage(
        id=f"m{number % 7}", role="user", content=f"{number} {link}", created_at_text=f"{number // 3}"
    )


@pytest.mark.parametrize("gone", [0, 2])
async def test_messages_that_share_an_id_are_all_yielded_and_a_newly_signed_one_only_once(gone):
    asked = 0

    async def ask(request):
        nonlocal asked
        asked += 1
        first = gone if asked > 2 else 0
        begin = first + int(request.params["offset"])
        page = [said(number, asked) for number in range(begin, min(60, begin + LIMIT))]
        return Page(page, None, 60 - first, offset_param="offset", full=LIMIT)

    contents = [int(each.content.split()[0]) for each in await fetch_all(ask, FIRST)]
    assert contents == list(range(60))


# What a list says of itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 60, 95])
@pytest.mark.parametrize("total", sorted(TOTALS))
@pytest.mark.parametrize("has_more", ["right", "never", "missing"])
async def test_a_wrong_total_costs_two_requests_and_a_note_and_no_row(count, total, has_more):
    honest = Server(rows_to(count))
    await listed(honest)
    server = Server(rows_to(count), total=total, has_more=has_more)
    ids, reported = await listed(server)
    assert ids == [row.id for row in rows_to(count)]
    looks = 3 if total == "huge" and has_more != "never" else 0
    assert server.asked <= honest.asked + 2 + (2 if count == 0 else 0) + looks
    assert len(reported) <= 1
    if total in {"too large", "huge"}:
        assert reported[0].endswith(f"and gave {count:,}")


@settings(max_examples=examples(300))
@given(
    count=st.integers(0, 150),
    limit=st.integers(4, LIMIT),
    dead=st.sets(st.integers(0, 149), max_size=10)
    | st.integers(0, 150).map(lambda at: set(range(at, at + 12))),
    counts_deleted=st.booleans(),
    total=st.sampled_from(["right", "missing", "too large"]),
)
async def test_rows_that_are_counted_but_not_returned_hide_no_other_row(
    count, limit, dead, counts_deleted, total
):
    server = Server(rows_to(count, dead), limit, total=total, counts_deleted=counts_deleted)
    ids, reported = await listed(server)
    assert ids == [row.id for row in server.rows if not row.is_deleted]
    assert len(reported) <= 1


@pytest.mark.parametrize("gap", [1, 10, 11, 25])
async def test_pages_without_any_returned_row_are_skipped(gap):
    for begin in range(30):
        server = Server(rows_to(70, range(begin, begin + gap)))
        ids, reported = await listed(server)
        assert ids == [row.id for row in server.rows if not row.is_deleted]
        assert reported == [f"it has a total of 70 and gave {70 - gap}"]


async def test_a_page_of_rows_that_only_offsets_count_is_skipped():
    server = Server(rows_to(24, range(4, 15)), total="given", counts_deleted=True)
    assert await listed(server) == ([row.id for row in server.rows if not row.is_deleted], [])


@settings(max_examples=examples(100))
@given(
    count=st.integers(0, 60), cap=st.integers(2, LIMIT), hiccups=st.frozensets(st.integers(1, 12), max_size=2)
)
async def test_promised_rows_that_are_missing_for_a_moment_are_requested_again(count, cap, hiccups):
    server = Server(rows_to(count), cap=cap, hiccups=hiccups)
    ids, _ = await listed(server)
    assert ids == [row.id for row in rows_to(count)]


@pytest.mark.parametrize("total", sorted(TOTALS))
@pytest.mark.parametrize("has_more", sorted(PROMISES))
async def test_a_server_that_ignores_the_offset_and_promises_more_is_an_error(total, has_more):
    server = Server(rows_to(500), total=total, has_more=has_more, heeds_offset=False)
    claims_no_more = (total, has_more) in {("of the page", "never"), ("of the page", "missing")} or (
        (total, has_more) in {("nought", "never"), ("missing", "never")}
    )
    if claims_no_more:
        assert (await listed(server))[0] == [row.id for row in rows_to(LIMIT)]
    else:
        with pytest.raises(RepeatedPage, match="the same rows again and again"):
            await listed(server)
    assert server.asked <= 15


async def test_a_whole_list_in_each_answer_is_no_error():
    server = Server(rows_to(LIMIT), heeds_offset=False)
    assert await listed(server) == ([row.id for row in rows_to(LIMIT)], [])


async def test_a_list_that_always_promises_more_ends_with_a_report():
    server = Server(rows_to(25), total="missing", has_more="always")
    assert await listed(server) == ([row.id for row in rows_to(25)], ["it promised more rows than it gave"])
    assert server.asked <= 10


async def test_after_a_smaller_page_the_walk_continues_with_pages_of_that_size():
    server = Server(rows_to(50))
    sizes = []

    async def ask(request):
        limit = min(5, int(request.params.get("limit", 10)))
        sizes.append(int(request.params.get("limit", 10)))
        server.limit = limit
        return await server.ask(request.having(limit=str(limit)))

    assert [row.id for row in await fetch_all(ask, FIRST)] == [row.id for row in rows_to(50)]
    assert set(sizes[1:]) == {5}
