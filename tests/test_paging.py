"""A list is walked to its end, whole and in order, however it is cut into pages, and never for ever."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.errors import RepeatedPage, ServerError
from navtalk_async.models import Page, Request
from navtalk_async.paging import EMPTY_PAGES_IN_A_ROW, SAME_PAGES_IN_A_ROW, Listing, Recent, fetch_all, walk

FIRST = Request(path="/api/chat/sessions", params={"limit": "3"})


@dataclass(frozen=True)
class Row:
    id: int
    ids_are_unique: ClassVar[bool] = True


def at(number):
    return FIRST if number == 0 else FIRST.having(cursor=str(number))


class Server:
    """Pages of rows with the ids of *pages*; what follows a page is *follows* of its number, else the next
    number.
    """

    def __init__(self, pages, follows=None, kind=Row):
        self.pages = pages
        self.follows = {} if follows is None else follows
        self.kind = kind
        self.asked = 0

    async def ask(self, request):
        self.asked += 1
        number = int(request.params.get("cursor", 0))
        following = number + 1 if number + 1 < len(self.pages) else None
        following = self.follows.get(number, following)
        return Page(
            [self.kind(each) for each in self.pages[number]], None if following is None else at(following)
        )


async def ids_of(pages):
    async with aclosing(pages) as walking:
        return [row.id async for page in walking for row in page.items]


async def ids(listing):
    return [row.id async for row in listing]


async def test_the_same_rows_at_every_position_end_the_walk_with_an_error():
    server = Server([[1, 2, 3]] * 1_000)
    with pytest.raises(RepeatedPage, match="the same rows"):
        await fetch_all(server.ask, FIRST)
    assert server.asked == SAME_PAGES_IN_A_ROW + 1


# Up to nine empty pages between any two that have rows; no row comes twice.
def cuts():
    gaps = st.integers(0, EMPTY_PAGES_IN_A_ROW - 1)
    return st.lists(st.tuples(gaps, st.integers(1, 5)), max_size=8).map(cut)


def cut(parts):
    pages, number = [], 0
    for gap, count in parts:
        pages += [*([[]] * gap), list(range(number, number + count))]
        number += count
    return pages or [[]]


@given(cuts())
@settings(max_examples=examples(50))
def test_a_list_cut_any_way_is_walked_completely_and_in_order(pages):
    async def walked():
        return await ids_of(walk(Server(pages).ask, FIRST))

    assert asyncio.run(walked()) == [row for page in pages for row in page]


@given(cuts())
@settings(max_examples=examples(50))
def test_iterating_a_listing_yields_the_items_of_its_pages(pages):
    async def walked():
        return await ids(Listing(Server(pages).ask, FIRST))

    assert asyncio.run(walked()) == [row for page in pages for row in page]


@given(cuts(), st.data())
@settings(max_examples=examples(50))
def test_the_token_of_any_page_resumes_with_exactly_the_rest(pages, data):
    stop = data.draw(st.integers(0, len(pages) - 1))

    async def rests():
        listing = Listing(Server(pages).ask, FIRST)
        async with aclosing(listing.pages()) as walking:
            for _ in range(stop + 1):
                page = await anext(walking)
        assert (page.token is None) == (page.next is None)
        return (
            await ids_of(listing.pages(page.token)),
            await ids_of(listing.resume(page.token).pages()),
            await ids(listing.resume(page.token)),
        )

    rest = [row for page in pages[stop + 1 :] for row in page]
    assert asyncio.run(rests()) == (rest, rest, rest)


@given(st.integers(0, 40), st.integers(1, 40))
@settings(max_examples=examples(60))
def test_a_cycle_of_any_length_after_any_number_of_pages_is_found(head, length):
    server = Server([[n] for n in range(head + length)], follows={head + length - 1: head})

    async def walked():
        rows = []
        with pytest.raises(RepeatedPage, match="leads back"):
            async with aclosing(walk(server.ask, FIRST)) as pages:
                async for page in pages:
                    rows += [row.id for row in page.items]
        return rows

    rows = asyncio.run(walked())
    assert rows[:head] == list(range(head))
    assert set(rows) == set(range(head + length))
    assert server.asked <= 4 * (head + length) + 4


@given(cuts())
@settings(max_examples=examples(50))
def test_fetch_all_returns_every_row(pages):
    server = Server([list(page) for page in pages])
    rows = asyncio.run(fetch_all(server.ask, FIRST))
    assert [row.id for row in rows] == [row for page in pages for row in page]


@given(st.integers(0, 20), st.integers(1, 20))
@settings(max_examples=examples(40))
def test_fetch_all_finds_a_cycle(head, length):
    server = Server([[n] for n in range(head + length)], follows={head + length - 1: head})
    with pytest.raises(RepeatedPage, match="leads back"):
        asyncio.run(fetch_all(server.ask, FIRST))


async def test_a_page_that_returns_its_own_cursor_ends_the_walk_at_once():
    server = Server([[1], [2], [3]], follows={1: 1})
    with pytest.raises(RepeatedPage, match="leads back"):
        await ids_of(walk(server.ask, FIRST))
    assert server.asked == 2


async def test_a_list_of_empty_pages_with_new_cursors_ends():
    server = Server([[]] * 1000)
    with pytest.raises(RepeatedPage, match=f"{EMPTY_PAGES_IN_A_ROW} empty pages in a row"):
        await ids_of(walk(server.ask, FIRST))
    assert server.asked == EMPTY_PAGES_IN_A_ROW


async def test_an_empty_page_at_the_very_end_is_the_end_and_no_error():
    server = Server([[1], *[[]] * EMPTY_PAGES_IN_A_ROW])
    assert await ids_of(walk(server.ask, FIRST)) == [1]


async def test_the_rows_before_a_cycle_are_delivered():
    rows = []
    with pytest.raises(RepeatedPage):
        async for row in Listing(Server([[1], [2], [3]], follows={2: 1}).ask, FIRST):
            rows.append(row.id)
    assert rows == [1, 2, 3]


# A row that comes twice -----------------------------------------------------------------------------------


TWICE = [[1, 2, 2], [3, 1], [4]]


async def test_a_repeated_row_of_a_cursor_list_is_yielded_once():
    listing = Listing(Server(TWICE).ask, FIRST)
    assert await ids(listing) == [1, 2, 3, 4]
    assert await ids_of(listing.pages()) == [1, 2, 3, 4]
    assert [row.id for row in await fetch_all(Server(TWICE).ask, FIRST)] == [1, 2, 3, 4]


async def test_where_ids_may_be_shared_rows_of_one_id_are_different_rows():
    class Shared(Row):
        ids_are_unique = False

    listing = Listing(Server(TWICE, kind=Shared).ask, FIRST)
    assert await ids(listing) == [1, 2, 2, 3, 1, 4]
    assert [row.id for row in await fetch_all(Server(TWICE, kind=Shared).ask, FIRST)] == [1, 2, 2, 3, 1, 4]


@given(st.integers(1, 5), st.lists(st.integers(0, 20), max_size=60))
@settings(max_examples=examples(60))
def test_at_least_the_latest_rows_are_remembered_and_never_more_than_twice_as_many(most, numbers):
    recent, every = Recent(most), Recent(None)
    given_rows = []
    for number in numbers:
        latest = list(dict.fromkeys(reversed(given_rows)))[:most]
        new = recent.new([Row(number)])
        if number in latest:
            assert not new
        given_rows += [row.id for row in new]
    assert len(recent._ids) + len(recent._older) <= 2 * most
    once = [row.id for number in numbers for row in every.new([Row(number)])]
    assert once == list(dict.fromkeys(numbers))


# A listing ------------------------------------------------------------------------------------------------


async def test_a_listing_asks_nothing_before_it_is_used():
    server = Server([[1], [2]])
    listing = Listing(server.ask, FIRST)
    listing.pages()
    listing.resume((await listing).token)
    assert server.asked == 1


async def test_a_listing_can_be_walked_again():
    listing = Listing(Server([[1], [2]]).ask, FIRST)
    assert await ids(listing) == await ids(listing) == [1, 2]


async def test_two_may_walk_the_same_listing_at_once():
    listing = Listing(Server([[1], [2], [3]]).ask, FIRST)
    assert await asyncio.gather(ids_of(listing.pages()), ids_of(listing.pages())) == [[1, 2, 3]] * 2


async def test_awaiting_a_listing_returns_its_first_page_alone():
    server = Server([[1], [2]])
    page = await Listing(server.ask, FIRST)
    assert (page.items, page.next) == ([Row(1)], at(1))
    assert server.asked == 1


async def test_awaiting_a_listing_twice_asks_twice():
    server = Server([[1], [2]])
    listing = Listing(server.ask, FIRST)
    assert await listing == await listing
    assert server.asked == 2


async def test_a_page_that_failed_can_be_asked_for_again_with_the_page_before_it():
    server = Server([[1], [2], [3]])
    refuse = {2}

    async def moody(request):
        number = int(request.params.get("cursor", 0))
        if number in refuse:
            refuse.clear()
            raise ServerError("Out of order.")
        return await server.ask(request)

    listing, rows, token = Listing(moody, FIRST), [], None
    with pytest.raises(ServerError):
        async for page in listing.pages():
            rows += [row.id for row in page.items]
            token = page.token
    assert rows + await ids_of(listing.pages(token)) == [1, 2, 3]


async def test_resuming_after_the_last_page_yields_nothing():
    server = Server([[1]])
    listing = Listing(server.ask, FIRST)
    last = await listing
    assert last.token is None
    assert await ids(listing.resume(None)) == []
    assert await ids_of(listing.pages(None)) == []
    assert (await listing.resume(None)).items == []
    assert server.asked == 1


async def test_the_repr_of_a_listing_shows_its_request():
    assert repr(Listing(Server([]).ask, FIRST)) == "<Listing /api/chat/sessions {'limit': '3'}>"
