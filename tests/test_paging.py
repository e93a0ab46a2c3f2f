"""A list is walked to its end, whole and in order, however it is cut into pages, and never for ever."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navtalk_async.errors import NotFound, RepeatedPage
from navtalk_async.models import Page, Request
from navtalk_async.paging import EMPTY_PAGES_IN_A_ROW, SAME_PAGES_IN_A_ROW, Listing, walk, whole

FIRST = Request(path="/api/chat/sessions", params={"limit": "3"})


def at(number):
    return FIRST if number == 0 else FIRST.having(cursor=str(number))


class Server:
    """Pages of *rows*; what follows a page is *follows* of its number, else the next number."""

    def __init__(self, pages, follows=None):
        self.pages = pages
        self.follows = {} if follows is None else follows
        self.asked = 0

    async def ask(self, request):
        self.asked += 1
        number = int(request.params.get("cursor", 0))
        following = number + 1 if number + 1 < len(self.pages) else None
        following = self.follows.get(number, following)
        return Page(self.pages[number], None if following is None else at(following))


async def rows_of(pages):
    async with aclosing(pages) as walking:
        return [row async for page in walking for row in page.items]


async def test_a_server_that_gives_the_same_rows_from_every_place_is_left():
    server = Server([[1, 2, 3]] * 1_000)
    with pytest.raises(RepeatedPage, match="the same rows"):
        await whole(server.ask, FIRST)
    assert server.asked == SAME_PAGES_IN_A_ROW + 1


# Up to nine empty pages between any two that have rows.
def cuts():
    gaps = st.integers(0, EMPTY_PAGES_IN_A_ROW - 1)
    return st.lists(st.tuples(gaps, st.lists(st.integers(), min_size=1, max_size=5)), max_size=8).map(
        lambda parts: [page for gap, rows in parts for page in [*([[]] * gap), rows]] or [[]]
    )


@given(cuts())
@settings(deadline=None, max_examples=50)
def test_a_list_cut_any_way_is_walked_completely_and_in_order(pages):
    async def walked():
        return await rows_of(walk(Server(pages).ask, FIRST))

    assert asyncio.run(walked()) == [row for page in pages for row in page]


@given(cuts())
@settings(deadline=None, max_examples=50)
def test_iterating_gives_the_items_of_the_pages(pages):
    async def walked():
        return [row async for row in Listing(Server(pages).ask, FIRST)]

    assert asyncio.run(walked()) == [row for page in pages for row in page]


@given(cuts(), st.data())
@settings(deadline=None, max_examples=50)
def test_the_next_of_any_page_gives_exactly_the_rest(pages, data):
    stop = data.draw(st.integers(0, len(pages) - 1))

    async def rests():
        listing = Listing(Server(pages).ask, FIRST)
        async with aclosing(listing.pages()) as walking:
            for _ in range(stop + 1):
                page = await anext(walking)
        return (
            await rows_of(listing.pages(page.next)),
            await rows_of(listing.resume(page.next).pages()),
            [row async for row in listing.resume(page.next)],
        )

    rest = [row for page in pages[stop + 1 :] for row in page]
    assert asyncio.run(rests()) == (rest, rest, rest)


@given(st.integers(0, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_a_circle_of_any_length_behind_any_head_is_found(head, length):
    server = Server([[n] for n in range(head + length)], follows={head + length - 1: head})

    async def walked():
        rows = []
        with pytest.raises(RepeatedPage, match="leads back"):
            async with aclosing(walk(server.ask, FIRST)) as pages:
                async for page in pages:
                    rows += page.items
        return rows

    rows = asyncio.run(walked())
    assert rows[:head] == list(range(head))
    assert set(rows) == set(range(head + length))
    assert server.asked <= 4 * (head + length) + 4


@given(cuts())
@settings(deadline=None, max_examples=50)
def test_a_list_taken_whole_is_all_its_rows_and_leaves_its_pages_alone(pages):
    server = Server([list(page) for page in pages])
    assert asyncio.run(whole(server.ask, FIRST)) == [row for page in pages for row in page]
    assert server.pages == pages


@given(st.integers(0, 20), st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_a_circle_is_found_also_by_who_takes_a_list_whole(head, length):
    server = Server([[n] for n in range(head + length)], follows={head + length - 1: head})
    with pytest.raises(RepeatedPage, match="leads back"):
        asyncio.run(whole(server.ask, FIRST))


async def test_a_list_that_gives_the_cursor_it_was_asked_with_ends_at_once():
    server = Server([[1], [2], [3]], follows={1: 1})
    with pytest.raises(RepeatedPage, match="leads back"):
        await rows_of(walk(server.ask, FIRST))
    assert server.asked == 2


async def test_a_list_of_empty_pages_with_new_cursors_ends():
    server = Server([[]] * 1000)
    with pytest.raises(RepeatedPage, match=f"{EMPTY_PAGES_IN_A_ROW} empty pages in a row"):
        await rows_of(walk(server.ask, FIRST))
    assert server.asked == EMPTY_PAGES_IN_A_ROW


async def test_an_empty_page_at_the_very_end_is_the_end_and_no_error():
    server = Server([[1], *[[]] * EMPTY_PAGES_IN_A_ROW])
    assert await rows_of(walk(server.ask, FIRST)) == [1]


async def test_the_rows_before_a_circle_are_delivered():
    rows = []
    with pytest.raises(RepeatedPage):
        async for row in Listing(Server([[1], [2], [3]], follows={2: 0}).ask, FIRST):
            rows.append(row)
    assert rows[:3] == [1, 2, 3]


async def test_a_listing_asks_nothing_before_it_is_used():
    server = Server([[1]])
    Listing(server.ask, FIRST).pages()
    Listing(server.ask, FIRST).resume(FIRST)
    assert server.asked == 0


async def test_a_listing_can_be_walked_again():
    listing = Listing(Server([[1], [2]]).ask, FIRST)
    assert [row async for row in listing] == [row async for row in listing] == [1, 2]


async def test_two_may_walk_the_same_listing_at_once():
    listing = Listing(Server([[1], [2], [3]]).ask, FIRST)
    assert await asyncio.gather(rows_of(listing.pages()), rows_of(listing.pages())) == [[1, 2, 3]] * 2


async def test_awaiting_a_listing_gives_its_first_page_alone():
    server = Server([[1], [2]])
    listing = Listing(server.ask, FIRST)
    assert await listing == Page([1], at(1))
    assert server.asked == 1


async def test_awaiting_a_listing_twice_asks_twice():
    listing = Listing(Server([[1], [2]]).ask, FIRST)
    assert await listing == await listing


async def test_a_page_that_failed_can_be_asked_for_again_with_the_page_before_it():
    server = Server([[1], [2], [3]])
    refuse = {2}

    async def moody(request):
        number = int(request.params.get("cursor", 0))
        if number in refuse:
            refuse.clear()
            raise NotFound("Gone.")
        return await server.ask(request)

    listing, rows, reached = Listing(moody, FIRST), [], FIRST
    with pytest.raises(NotFound):
        async for page in listing.pages():
            rows += page.items
            reached = page.next
    assert rows + await rows_of(listing.pages(reached)) == [1, 2, 3]


async def test_a_listing_shows_what_it_asks_for():
    assert repr(Listing(Server([]).ask, FIRST)) == "<Listing /api/chat/sessions {'limit': '3'}>"
