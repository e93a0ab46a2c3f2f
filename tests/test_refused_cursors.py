"""A cursor that a server no longer accepts ends no walk: each row comes once, and no key is blamed for it."""

from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.llamacloud import LlamaCloudSession
from navtalk_async.dialects.navtalk import NavTalkSession
from navtalk_async.errors import AccessDenied, ApiError, BadRequest, NotFound, RateLimited, ServerError
from navtalk_async.events import CursorRefused
from navtalk_async.listing import ParallelListing
from navtalk_async.listing.fetch import ShortPageAudit
from navtalk_async.models import Page
from navtalk_async.paging import Listing, fetch_all

BEGIN = datetime(2025, 11, 12, 18, 20, 38, tzinfo=UTC)
PAGE = 3
REFUSALS = [BadRequest, AccessDenied, NotFound, lambda text: ApiError(text, status=410)]


def text_at(second):
    return (BEGIN + timedelta(seconds=second)).strftime("%Y-%m-%d %H:%M:%S")


def navtalk_session(number, second):
    fields = {"start_time_text": text_at(second), "end_time_text": None, "video_url": None}
    return NavTalkSession(id=f"{number:08x}", status=None, **fields)


class Server:
    """Pages of sessions that began at some *seconds*; a cursor is good until *life* ticks have passed. A page
    takes a tick; so may the reader, by `work`.
    """

    def __init__(self, api, seconds, *, life, refusal=BadRequest):
        self.dialect = dialect_of(api)
        self.name = self.dialect.sessions.paging.position
        self.rows = [
            navtalk_session(*each) if api == "navtalk" else LlamaCloudSession(id=f"{each[0]:08x}")
            for each in enumerate(seconds)
        ]
        self.life, self.refusal = life, refusal
        self.now, self.asked, self.made = 0, 0, {}

    def work(self):
        self.now += 1

    async def ask(self, request):
        self.now += 1
        self.asked += 1
        start = request.params.get("startTime", "")
        at = next((n for n, row in enumerate(self.rows) if (row.start_time_text or "") >= start), 0)
        if (cursor := request.params.get(self.name)) is not None:
            if self.now > self.made.get(cursor, -9) + self.life:
                raise self.refusal("The server answered: invalid cursor.")
            at = int(cursor)
        rows, end = self.rows[at : at + PAGE], at + PAGE
        self.made[str(end)] = self.now
        return Page(rows, request.having(**{self.name: str(end)}) if end < len(self.rows) else None)

    def listing(self, **filters):
        request, dialect = self.dialect.list_sessions(**filters), self.dialect
        behind = dialect.starting_behind if dialect.starting_at(request, BEGIN) else None
        return Listing(self.ask, request, tokens=dialect.page_tokens, start_behind=behind)

    def split(self, *, in_order, walkers, announce=lambda _: None):
        return ParallelListing(
            self.ask,
            self.dialect,
            self.dialect.list_sessions(),
            expected_end=BEGIN + timedelta(seconds=60),
            walkers=walkers,
            in_order=in_order,
            announce=announce,
        )


SECONDS = st.lists(st.integers(0, 40), max_size=30).map(sorted)
SERVERS = st.builds(
    Server,
    st.sampled_from(["navtalk", "llamacloud"]),
    SECONDS,
    life=st.integers(1, 4),
    refusal=st.sampled_from(REFUSALS),
)


@settings(max_examples=examples(200))
@given(SERVERS, st.data())
async def test_a_walk_over_cursors_that_expire_brings_every_row_once_and_in_order(server, data):
    came = []
    async for row in server.listing():
        came.append(row.id)
        if data.draw(st.booleans()):
            server.work()
    assert came == [row.id for row in server.rows]


@settings(max_examples=examples(200))
@given(SERVERS, st.booleans(), st.integers(1, 4), st.lists(st.booleans(), min_size=40, max_size=40))
# The list begins again where a page that came again has not been taken yet.
@example(Server("navtalk", [0] * 10, life=1), False, 2, [*[False] * 37, True, True, False])
async def test_a_list_split_over_cursors_that_expire_brings_every_row_once(server, in_order, walkers, works):
    if walkers > 1:
        server.life += 2 * walkers  # The others ask as well before the next page is asked for.
    came, works = [], [*works]
    async with aclosing(server.split(in_order=in_order, walkers=walkers).pages()) as pages:
        async for page in pages:
            came += [row.id for row in page]
            # How many pages there are depends on how the walkers take turns.
            for _ in page if works and works.pop() else ():
                server.work()
    every = [row.id for row in server.rows]
    assert (came if in_order else sorted(came)) == every


@pytest.mark.parametrize("audit", [None, ShortPageAudit(lambda: 0.0)])
async def test_the_rows_of_a_session_come_once_where_a_pause_outlives_a_cursor(audit):
    server = Server("llamacloud", range(10), life=2)
    request = server.dialect.list_sessions()
    page_of = server.ask

    async def slow(request):
        # Once, in the middle.
        server.now += 5 * (server.asked == 2)
        return await page_of(request)

    limit = server.dialect.page_limit
    rows = (
        await fetch_all(slow, request)
        if audit is None
        else (await audit.fetch_all(slow, request, page_limit=limit)).items
    )
    assert rows == server.rows


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("api", ["navtalk", "llamacloud"])
async def test_a_server_that_refuses_every_cursor_is_given_up_without_a_word_of_the_key(api, refusal):
    server = Server(api, [0] * 10, life=-1, refusal=refusal)
    with pytest.raises(ApiError) as caught:
        await server.listing().all()
    assert "cursor" in str(caught.value)
    assert "key" not in str(caught.value)
    assert server.asked <= 4


async def test_a_list_in_order_of_time_goes_on_where_every_cursor_is_refused():
    server = Server("navtalk", range(10), life=-1)
    assert await server.listing().all() == server.rows


async def test_a_list_that_is_walked_by_one_goes_on_where_every_cursor_is_refused():
    server = Server("navtalk", range(10), life=-1)
    async with aclosing(server.split(in_order=True, walkers=1).pages()) as pages:
        assert [row async for page in pages for row in page] == server.rows


async def test_a_list_goes_on_no_earlier_than_it_was_asked_to_begin():
    server = Server("navtalk", [0, *[1] * 4], life=1)
    rows = [row async for row in server.listing(start_time=text_at(1)) if server.work() is None]
    assert rows == server.rows[1:]


async def test_a_key_that_is_refused_meanwhile_is_what_the_walk_ends_with():
    server = Server("navtalk", range(10), life=9)
    page_of = server.ask

    async def ask(request):
        if server.asked:
            raise AccessDenied("The server answered 401: no such key.", status=401)
        return await page_of(request)

    server.ask = ask
    with pytest.raises(AccessDenied, match="key is current"):
        await server.listing().all()


@pytest.mark.parametrize("failure", [RateLimited, ServerError])
async def test_what_does_not_refuse_a_cursor_is_not_taken_for_that(failure):
    server = Server("navtalk", range(10), life=0, refusal=failure)
    with pytest.raises(failure):
        await server.listing().all()
    assert server.asked == 2


@pytest.mark.parametrize("start", [lambda each: each, lambda each: each.all()])
async def test_a_users_own_token_that_is_refused_is_an_error_in_words(start):
    server = Server("navtalk", range(10), life=1)
    token = (await server.listing()).token
    server.now += 9
    with pytest.raises(BadRequest, match="page token: list again") as caught:
        await start(server.listing().resume(token))
    assert not caught.value.may_be_key


async def test_a_refused_cursor_is_announced_with_the_time_from_which_the_list_goes_on():
    server, events = Server("navtalk", range(9), life=1), []
    async with aclosing(server.split(in_order=True, walkers=1, announce=events.append).pages()) as pages:
        async for _ in pages:
            server.work()
    assert {type(each) for each in events} == {CursorRefused}
    assert str(events[0]) == f"The page cursor expired; listing again from {text_at(2)}."
