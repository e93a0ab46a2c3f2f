"""A list that tells its total is walked from many places at once, and is the list all the same."""

import random
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from navtalk_async.errors import RepeatedPage
from navtalk_async.listing.by_total import WALKS, OffsetListing
from navtalk_async.listing.tally import Seen
from navtalk_async.models import Page, Request

LIMIT = 10
quick = settings(max_examples=100, deadline=None)


@dataclass(frozen=True)
class Row:
    id: str


class Still(random.Random):
    """The chance that everything happens at once."""

    def randrange(self, *_):
        return 0


@dataclass
class Server:
    """A list asked for by offset, which says of its length what it is told to say."""

    rows: list
    cap: int = LIMIT
    uneven: bool = False
    """Whether a page may have fewer rows than the cap, and at least one."""
    total: object = len
    """What it says of its rows' number, given its rows."""
    has_more: str = "rows"
    """What it goes by to promise another page: its rows, its total, or nothing: always, or never."""
    moves: dict = field(default_factory=dict)
    """After so many answers, what becomes of its rows."""
    hiccups: set = frozenset()
    """The numbers of the answers that have no rows, and promise them for another time."""
    heeds_offset: bool = True
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
        if self.asked in self.hiccups:
            return Page([], request.having(again=str(self.asked)), self.total(self.rows))
        begin = offset if self.heeds_offset else 0
        most = self.chance.randint(1, self.cap) if self.uneven else self.cap
        rows = self.rows[begin : begin + most]
        total, at = self.total(self.rows), offset + len(rows)
        more = {"rows": at < len(self.rows), "total": total is not None and at < total, "never": False}
        following = request.having(offset=str(at)) if more.get(self.has_more, True) else None
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
    """The pages of *rows* if each begins with the last row of the one before it."""
    shared = 1 if server.cap > 1 else 0
    return 1 + max(0, -(-(len(rows) - server.cap) // (server.cap - shared)))


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


@quick
@given(**ANY)
async def test_pages_of_any_number_of_rows_are_walked_on_from_where_they_ended(
    *, count, cap, walkers, listed, chance
):
    rows = rows_to(count)
    server = Server(rows, cap, uneven=True, chance=chance)
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert Counter(given_rows) == Counter(rows)
    assert given_rows == rows or not listed
    assert doubts == []
    # The row that a chunk shares with the one before it may come alone.
    assert server.asked <= max(1, 2 * count)


WRONG = {
    "missing": lambda _: None,
    "nought": lambda _: 0,
    "too small": lambda rows: len(rows) // 2,
    "one too small": lambda rows: len(rows) - 1,
    "one too large": lambda rows: len(rows) + 1,
    "too large": lambda rows: 3 * len(rows) + 1,
    "huge": lambda _: 10**30,
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
    # It is walked once more where rows seem to be missing, and each walk asks for them: from the last row on,
    # and then behind it.
    walks = 1 + len(doubts)
    assert walks == 1 + (wrong in {"one too large", "too large", "huge"})
    assert server.asked <= walks * (fewest(server, rows) + 2) + 3 * walkers


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
    # Each of two walks asks for the page, from its last row on, and behind that.
    assert few.asked == 6


@pytest.mark.parametrize("count", [0, 5, 10, 25, 60])
@pytest.mark.parametrize("total", ["missing", "nought", "one too small", "too large", "huge"])
async def test_a_server_that_always_promises_more_where_nothing_comes_is_left(count, total):
    server = Server(rows_to(count), total=WRONG[total], has_more="always")
    given_rows = []
    with pytest.raises(RepeatedPage):
        async for rows in listing_of(server).pages():
            given_rows += rows
    assert given_rows == rows_to(count)
    assert server.asked <= fewest(server, rows_to(count)) + 20


@quick
@given(hiccups=st.sets(st.integers(1, 20), max_size=4), **ANY)
async def test_rows_that_are_promised_and_kept_back_for_a_moment_are_asked_for_again(
    *, hiccups, count, cap, walkers, listed, chance
):
    server = Server(rows_to(count), cap, hiccups=hiccups, chance=chance)
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert Counter(given_rows) == Counter(rows_to(count))
    assert doubts == []


@pytest.mark.parametrize("total", [len, WRONG["missing"], WRONG["too large"], WRONG["huge"]])
@pytest.mark.parametrize("listed", [True, False])
async def test_a_server_that_does_not_heed_the_offset_is_left(total, listed):
    server = Server(rows_to(500), total=total, heeds_offset=False)
    given_rows = []
    with pytest.raises(RepeatedPage, match="the same rows again and again"):
        async for rows in listing_of(server, listed=listed).pages():
            given_rows += rows
    assert given_rows == rows_to(10)
    assert server.asked <= 60


def inserted(at, number):
    return lambda rows: [*rows[: at % (len(rows) + 1)], Row(f"new{number}"), *rows[at % (len(rows) + 1) :]]


def deleted(at, _):
    return lambda rows: [row for number, row in enumerate(rows) if number != at % (len(rows) or 1)]


MOVES = st.dictionaries(
    st.integers(1, 25), st.tuples(st.sampled_from([inserted, deleted]), st.integers(0, 150)), max_size=8
).map(lambda moves: {after: move(at, after) for after, (move, at) in moves.items()})


def exchanged(at, to, many, number):
    """Some rows go in the same moment as as many others come elsewhere: their number tells nothing of it."""

    def move(rows):
        begin = at % (len(rows) + 1)
        rest = [*rows[:begin], *rows[begin + many :]]
        new = [Row(f"new{number}-{each}") for each in range(len(rows) - len(rest))]
        place = min(to, len(rest))
        return [*rest[:place], *new, *rest[place:]]

    return move


EXCHANGES = st.dictionaries(
    st.integers(1, 25),
    st.tuples(st.just(0) | st.integers(0, 150), st.just(150) | st.integers(0, 150), st.integers(1, 20)),
    max_size=8,
).map(lambda moves: {after: exchanged(*move, after) for after, move in moves.items()})


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


@settings(max_examples=400, deadline=None)
@given(
    moves=EXCHANGES | MOVES,
    total=st.sampled_from([len, WRONG["missing"], WRONG["one too small"]]),
    **{**ANY, "cap": st.integers(2, LIMIT)},
)
async def test_a_list_that_moves_while_its_total_tells_nothing_of_it_loses_no_row_that_was_there_throughout(
    *, count, cap, walkers, listed, chance, moves, total
):
    server = Server(rows_to(count), cap, moves=moves, total=total, chance=chance)
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert max(Counter(given_rows).values(), default=1) == 1
    assert server.peak <= walkers
    assert len(doubts) <= len(moves)
    if len(doubts) < WALKS:
        assert set(given_rows) >= set(rows_to(count)) & set(server.rows)


@pytest.mark.parametrize("after", [1, 5, 20])
@pytest.mark.parametrize("walkers", [1, 8])
@pytest.mark.parametrize("listed", [True, False])
async def test_deletions_at_the_front_and_as_many_rows_more_at_the_end_hide_none(after, walkers, listed):
    rows = rows_to(1_987)
    server = Server(rows, cap=50, moves={after: exchanged(0, len(rows), 13, after)}, chance=Still())
    given_rows, doubts = await walked(server, walkers=walkers, listed=listed)
    assert set(given_rows) == {*rows, *server.rows}
    assert len(given_rows) == len(rows) + 13
    assert doubts == ["its rows moved while it was walked"]


@pytest.mark.parametrize("total", [WRONG["missing"], lambda _: 40])
@pytest.mark.parametrize("walkers", [1, 4])
async def test_a_row_that_is_gone_where_the_next_page_should_begin_tells_that_the_list_moved(total, walkers):
    server = Server(rows_to(40), total=total, moves={2: lambda rows: rows[15:25]})
    given_rows, doubts = await walked(server, walkers=walkers)
    assert set(given_rows) >= set(rows_to(40)[15:25])
    assert doubts


async def test_the_rows_of_a_list_that_only_grows_at_its_end_are_where_they_were():
    more = [Row("new0"), Row("new1")]
    server = Server(rows_to(40), total=WRONG["missing"], moves={2: lambda rows: [*rows, *more]})
    given_rows, doubts = await walked(server)
    assert given_rows == [*rows_to(40), *more]
    assert doubts == []


async def test_rows_that_a_deletion_hides_are_found_by_another_walk():
    server = Server(rows_to(40), moves={1: lambda rows: rows[2:]})
    given_rows, doubts = await walked(server, walkers=1)
    assert given_rows == [*rows_to(10), *rows_to(40)[11:], Row("r10")]
    assert doubts == ["its total changed while it was walked"]


async def test_a_row_that_came_twice_has_hidden_another():
    server = Server(rows_to(40), moves={1: lambda rows: [Row("new"), *rows[:-1]]})
    given_rows, doubts = await walked(server)
    assert given_rows == [*rows_to(39), Row("new")]
    assert doubts == ["it gave 39 rows of 40"]


async def test_nothing_is_asked_for_behind_the_place_where_nothing_came():
    server = Server(rows_to(20), total=lambda _: 35, chance=Still())
    given_rows, _ = await walked(server, walkers=2)
    assert given_rows == rows_to(20)
    # Each of two walks asks for three pages, from their last row on, and behind it; the first does not ask
    # for what is promised beyond.
    assert server.asked == 10


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
        server = Server(rows_to(200), total=total, failing=failing, uneven=True)
        given_rows = []
        with pytest.raises(LookupError, match=f"{failing}"):
            async with aclosing(listing_of(server, listed=listed).pages()) as pages:
                async for rows in pages:
                    given_rows += rows
        assert max(Counter(given_rows).values(), default=1) == 1
        assert given_rows == rows_to(len(given_rows)) or not listed
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
