"""A list that tells its total is walked from many places at once, and is the list all the same."""

import random
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from navtalk_async.listing.by_total import WALKS, OffsetListing, Seen
from navtalk_async.models import Page, Request

LIMIT = 10
quick = settings(max_examples=100, deadline=None)


@dataclass(frozen=True)
class Row:
    id: str


@dataclass
class Server:
    """A list asked for by offset, which says of its length what it is told to say."""

    rows: list
    cap: int = LIMIT
    total: object = len
    """What it says of its rows' number, given its rows."""
    has_more: str = "rows"
    """What it goes by to promise another page: its rows, its total, or nothing ever."""
    moves: dict = field(default_factory=dict)
    """After so many answers, what becomes of its rows."""
    failing: int | None = None
    """The number of the answer that is an error instead."""
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    asked: int = 0
    running: int = 0
    peak: int = 0

    async def answer(self, request):
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            for _ in range(self.chance.randrange(4)):
                await checkpoint()
            page = self.page(int(request.params["offset"]), request)
            for _ in range(self.chance.randrange(4)):
                await checkpoint()
            return page
        finally:
            self.running -= 1

    def page(self, offset, request):
        self.asked += 1
        if self.asked == self.failing:
            raise LookupError(f"{self.asked}")
        rows = self.rows[offset : offset + self.cap]
        total, at = self.total(self.rows), offset + len(rows)
        more = {"rows": at < len(self.rows), "total": total is not None and at < total, "never": False}
        following = request.having(offset=str(at)) if rows and more[self.has_more] else None
        if (move := self.moves.get(self.asked)) is not None:
            self.rows = move(self.rows)
        return Page(rows, following, total)


def rows_to(number):
    return [Row(f"r{each}") for each in range(number)]


def listing_of(server, *, walkers=4, listed=True, on_doubt=None):
    request = Request(path="/rows", params={"offset": "0"})
    return OffsetListing(
        server.answer,
        request,
        asked_from=lambda offset: request.having(offset=str(offset)),
        walkers=walkers,
        listed=listed,
        on_doubt=on_doubt,
    )


async def walked(server, *, walkers=4, listed=True):
    """All rows that are given, and every doubt that is told meanwhile."""
    doubts = []
    listing = listing_of(server, walkers=walkers, listed=listed, on_doubt=doubts.append)
    return [row async for rows in listing.pages() for row in rows], doubts


def fewest(server, rows):
    return max(1, -(-len(rows) // server.cap))


ANY = {
    "count": st.integers(0, 120),
    "cap": st.integers(1, LIMIT),
    "walkers": st.integers(1, 6),
    "listed": st.booleans(),
    "chance": st.integers(0, 2**16).map(random.Random),
}


@quick
@given(has_more=st.sampled_from(["rows", "total", "never"]), **ANY)
async def test_a_quiet_list_is_given_once_in_as_many_requests_as_it_has_pages(
    *, count, cap, walkers, listed, chance, has_more
):
    rows = rows_to(count)
    server = Server(rows, cap, has_more=has_more, chance=chance)
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert Counter(given_rows) == Counter(rows)
    assert given_rows == rows or not listed
    assert doubts == []
    assert server.peak <= walkers
    assert server.asked == fewest(server, rows)


WRONG = {
    "missing": lambda _: None,
    "nought": lambda _: 0,
    "too small": lambda rows: len(rows) // 2,
    "one too small": lambda rows: len(rows) - 1,
    "one too large": lambda rows: len(rows) + 1,
    "too large": lambda rows: 3 * len(rows) + 1,
    "huge": lambda _: 10**18,
    "less than nothing": lambda _: -1,
}


@quick
@given(wrong=st.sampled_from(sorted(WRONG)), **ANY)
async def test_a_total_that_is_wrong_costs_requests_and_no_row(*, count, cap, walkers, listed, chance, wrong):
    rows = rows_to(count)
    server = Server(rows, cap, total=WRONG[wrong], chance=chance)
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert Counter(given_rows) == Counter(rows)
    assert given_rows == rows or not listed
    assert server.peak <= walkers
    # It is walked once more where rows seem to be missing, and each walk asks behind the end for them.
    walks = 1 + len(doubts)
    assert walks == 1 + (wrong in {"one too large", "too large", "huge"})
    assert server.asked <= walks * (fewest(server, rows) + 1) + 3 * walkers


@quick
@given(**ANY)
async def test_totals_that_contradict_each_other_cost_no_row(*, count, cap, walkers, listed, chance):
    rows = rows_to(count)
    server = Server(rows, cap, total=lambda rows: chance.randrange(2 * len(rows) + 1), chance=chance)
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert Counter(given_rows) == Counter(rows)
    assert len(doubts) <= WALKS


async def test_a_list_that_promises_no_more_and_tells_a_larger_total_is_asked_whether_there_is_more():
    server = Server(rows_to(15), cap=4, has_more="never")
    assert (await walked(server))[0] == rows_to(15)
    few = Server(rows_to(4), total=lambda _: 15, has_more="never")
    given_rows, doubts = await walked(few)
    assert given_rows == rows_to(4)
    assert doubts == ["it gave 4 rows of 15"]
    assert few.asked == 4


def inserted(at, number):
    return lambda rows: [*rows[: at % (len(rows) + 1)], Row(f"new{number}"), *rows[at % (len(rows) + 1) :]]


def deleted(at, _):
    return lambda rows: [row for number, row in enumerate(rows) if number != at % (len(rows) or 1)]


MOVES = st.dictionaries(
    st.integers(1, 25), st.tuples(st.sampled_from([inserted, deleted]), st.integers(0, 150)), max_size=8
).map(lambda moves: {after: move(at, after) for after, (move, at) in moves.items()})


@settings(max_examples=200, deadline=None)
@given(moves=MOVES, **ANY)
async def test_a_list_that_moves_loses_none_of_the_rows_that_were_there_throughout(
    *, count, cap, walkers, listed, chance, moves
):
    server = Server(rows_to(count), cap, moves=moves, chance=chance)
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert max(Counter(given_rows).values(), default=1) == 1
    assert server.peak <= walkers
    # Each walk that is doubted was disturbed by a move.
    assert len(doubts) <= len(moves)
    if len(doubts) < WALKS:
        assert set(given_rows) >= set(rows_to(count)) & set(server.rows)


async def test_rows_that_a_deletion_hides_are_found_by_another_walk():
    server = Server(rows_to(40), moves={1: deleted(0, 1)})
    given_rows, doubts = await walked(server, walkers=1)
    assert given_rows == [*rows_to(10), *rows_to(40)[11:], Row("r10")]
    assert doubts == ["its total changed while it was walked"]


async def test_a_list_that_never_keeps_still_is_walked_three_times():
    server = Server(rows_to(40), moves={after: inserted(0, after) for after in range(1, 1_000)})
    given_rows, doubts = await walked(server)
    assert set(given_rows) >= set(rows_to(40))
    assert len(doubts) == WALKS
    assert server.asked < 1_000


async def test_a_long_list_is_asked_for_by_all_walkers_and_one_without_a_total_by_one():
    server = Server(rows_to(400))
    await walked(server, walkers=5)
    assert server.peak == 5
    plain = Server(rows_to(400), total=WRONG["missing"])
    await walked(plain, walkers=5)
    assert plain.peak == 1


async def test_a_list_that_cannot_be_asked_for_from_an_offset_is_walked_in_the_plain_way():
    server = Server(rows_to(400))
    request = Request(path="/rows", params={"offset": "0"})
    listing = OffsetListing(server.answer, request, asked_from=lambda _: None, walkers=5, listed=True)
    assert [row async for rows in listing.pages() for row in rows] == rows_to(400)
    assert server.peak == 1


async def test_who_takes_nothing_has_nothing_asked_ahead_of_a_bound():
    server = Server(rows_to(10_000))
    async with aclosing(listing_of(server, walkers=3).pages()) as pages:
        assert await anext(pages) == rows_to(10)
        assert server.asked == 1
        await anext(pages)
        for _ in range(1_000):
            await checkpoint()
        assert server.asked <= 2 + 4 * 3


@pytest.mark.parametrize("taken", [0, 1, 2, 5])
@pytest.mark.parametrize("listed", [True, False])
async def test_leaving_early_leaves_no_task_behind(taken, listed, quiet_loop):
    async with quiet_loop():
        server = Server(rows_to(1_000))
        async with aclosing(listing_of(server, listed=listed).pages()) as pages:
            for _ in range(taken):
                await anext(pages)
        asked = server.asked
        for _ in range(50):
            await checkpoint()
        assert server.asked == asked
        assert server.running == 0


@pytest.mark.parametrize("failing", [1, 2, 7, 20])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("total", [len, WRONG["too small"], WRONG["missing"]])
async def test_an_error_is_raised_once_and_as_itself(failing, listed, total, quiet_loop):
    async with quiet_loop():
        server = Server(rows_to(200), total=total, failing=failing)
        given_rows = []
        with pytest.raises(LookupError, match=f"{failing}"):
            async with aclosing(listing_of(server, listed=listed).pages()) as pages:
                async for rows in pages:
                    given_rows += rows
        assert max(Counter(given_rows).values(), default=1) == 1
        assert server.running == 0


async def test_a_listing_is_walked_anew_each_time_and_has_no_place_to_go_on_from():
    listing = listing_of(Server(rows_to(35)))
    for _ in range(2):
        assert [row async for rows in listing.pages() for row in rows] == rows_to(35)
    assert listing.places() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5_000).map(str), max_size=300), st.integers(0, 4_000))
def test_an_id_is_new_once(names, more):
    seen, before = Seen(), set()
    for name in [*names, *map(str, range(more)), *names]:
        assert seen.add(name) == (name not in before)
        before.add(name)
