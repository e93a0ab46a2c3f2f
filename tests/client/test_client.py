"""A client may be made anywhere, used from anywhere, left at any moment and closed by anyone."""

import asyncio
import copy
import gc
import json
import pickle
import re
import threading
import warnings
from datetime import UTC, datetime
from uuid import UUID

import aiohttp
import anyio
import pytest
from aioresponses import aioresponses

from navtalk_async import NavTalkClient, Retry, Role, SessionPool, SessionStatus
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of
from navtalk_async.errors import ClientClosed, DeadlineExceeded, NotFound, NotJson, ServerError
from navtalk_async.sandbox import Answers, Faults, Sandbox, World

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
ID = "709b712f-dede-11f0-92bc-000e1eed4a72"


@pytest.fixture
def served():
    """A sandbox in a loop and thread of its own, so that tests may make and end loops as they like."""
    started, stop = threading.Event(), []
    box = Sandbox(sessions=20)

    async def serve():
        async with box:
            stop.append((asyncio.get_running_loop(), ended := asyncio.Event()))
            started.set()
            await ended.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    started.wait(10)
    yield box
    loop, ended = stop[0]
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)


def client(box, **options):
    return NavTalkClient("key", base_url=box.navtalk_url, **{"retry": QUICK} | options)


def loudly(main):
    """Run *main* in a loop of its own, of which neither a warning nor a complaint may come."""
    noise = []

    async def watched():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
        return await main

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = asyncio.run(watched(), debug=True)
        gc.collect()
    assert [str(one.message) for one in warned if issubclass(one.category, ResourceWarning)] == []
    assert noise == []
    return result


async def rows(listing):
    return [row async for row in listing]


# The calls ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [
        Answers(),
        Answers(cursor_on_last_page=False, last_cursor="empty"),
        Answers(cursor_on_last_page=False, last_cursor="missing", max_page=7),
        Answers(cursor_needs_filters=False, start_inclusive=False),
    ],
)
async def test_every_session_and_message_comes_whatever_the_reference_leaves_open(answers):
    world = World(sessions=130, mean_messages=3, unknown_fields=True)
    async with Sandbox(world, answers=answers) as box, client(box) as nt:
        sessions = await rows(nt.sessions.list())
        assert [json.loads(session.raw) for session in sessions] == world.sessions
        for session in sessions[:10]:
            said = await rows(nt.messages.list(session.id, limit=2))
            assert [json.loads(message.raw) for message in said] == world.messages(session.id)


@pytest.mark.parametrize("needs_filters", [True, False])
async def test_filters_hold_over_all_pages(needs_filters):
    async with Sandbox(sessions=200, answers=Answers(cursor_needs_filters=needs_filters)) as box:
        async with client(box) as nt:
            since = sorted(row["startTime"] for row in box.world.sessions)[50]
            listing = nt.sessions.list(start_time=since, status=SessionStatus.COMPLETED, limit=10)
            expected = [r["id"] for r in box.world.sessions if r["startTime"] >= since and r["status"] == 1]
            assert [session.id for session in await rows(listing)] == expected


async def test_a_role_filter_gives_what_that_role_said(navtalk_sandbox, navtalk_client):
    session_id = max(
        navtalk_sandbox.world.sessions, key=lambda s: len(navtalk_sandbox.world.messages(s["id"]))
    )["id"]
    said = await rows(navtalk_client.messages.list(session_id, role=Role.USER))
    expected = [m["id"] for m in navtalk_sandbox.world.messages(session_id) if m["role"] == 0]
    assert [message.id for message in said] == expected != []


@pytest.mark.parametrize("api", ["navtalk", "kodey", "lexicon", "llamacloud"])
async def test_a_transcript_is_a_session_with_all_its_messages(api):
    async with Sandbox(World(sessions=12, mean_messages=20), answers=Answers(max_page=3)) as box:
        async with Client(dialect_of(api), "key", base_url=box.url_of(api)) as asked:
            for row in box.world.sessions:
                transcript = await asked.transcript(row["id"])
                assert transcript.session == await asked.get_session(row["id"])
                assert transcript.messages == await rows(asked.list_messages(row["id"]))
            with pytest.raises(NotFound):
                await asked.transcript(ID)


async def test_a_list_has_its_first_item_and_all_of_them_as_coroutines(navtalk_sandbox, navtalk_client):
    listing = navtalk_client.sessions.list(limit=7)
    first, every = asyncio.create_task(listing.first()), asyncio.create_task(listing.all())
    assert [each.id for each in await every] == [row["id"] for row in navtalk_sandbox.world.sessions]
    assert await first == (await every)[0]
    assert await navtalk_client.sessions.list(start_time="2999-01-01 00:00:00").first() is None
    assert await navtalk_client.sessions.list(start_time="2999-01-01 00:00:00").all() == []


async def test_one_session_can_be_asked_for_by_uuid_or_text(navtalk_sandbox, navtalk_client):
    row = navtalk_sandbox.world.sessions[3]
    assert await navtalk_client.sessions.get(row["id"]) == await navtalk_client.sessions.get(UUID(row["id"]))
    with pytest.raises(NotFound):
        await navtalk_client.sessions.get(ID)


async def test_bad_arguments_fail_before_anything_is_sent(navtalk_sandbox, navtalk_client):
    nt = navtalk_client
    with pytest.raises(ValueError, match="no time zone"):
        nt.sessions.list(start_time=datetime(2025, 1, 1))
    with pytest.raises(ValueError, match="limit"):
        nt.sessions.list(limit=101)
    with pytest.raises(ValueError, match="session id"):
        nt.messages.list("../sessions")
    with pytest.raises(ValueError, match="session id"):
        await nt.sessions.get("..")
    assert navtalk_sandbox.counts.total == 0


async def test_a_page_can_be_written_down_and_gone_on_from_by_another_client(navtalk_sandbox):
    async with client(navtalk_sandbox) as nt:
        page = await nt.sessions.list(limit=25, start_time=datetime(2025, 1, 1, tzinfo=UTC))
    saved = json.dumps({"token": page.token})
    async with client(navtalk_sandbox) as nt:
        listing = nt.sessions.list(start_time=datetime(2025, 1, 1, tzinfo=UTC))
        rest = await rows(listing.resume(json.loads(saved)["token"]))
    assert [s.id for s in [*page.items, *rest]] == [row["id"] for row in navtalk_sandbox.world.sessions]


# Making one -----------------------------------------------------------------------------------------------


def test_without_a_key_there_is_no_client(monkeypatch):
    monkeypatch.delenv("NAVTALK_API_KEY", raising=False)
    with pytest.raises(ValueError, match="set NAVTALK_API_KEY"):
        NavTalkClient()


async def test_key_and_base_url_come_from_the_environment(monkeypatch, navtalk_sandbox):
    navtalk_sandbox.keys = {"from-the-environment"}
    monkeypatch.setenv("NAVTALK_API_KEY", "from-the-environment\n")
    monkeypatch.setenv("NAVTALK_BASE_URL", navtalk_sandbox.navtalk_url + "/\n")
    async with NavTalkClient() as nt:
        assert len(await rows(nt.sessions.list())) == 60


@pytest.mark.parametrize("form", ["/api/chat", "/api/chat/", "", "/"])
async def test_both_forms_of_the_base_url_lead_to_the_api(navtalk_sandbox, form):
    async with NavTalkClient("k", base_url=navtalk_sandbox.url + form) as nt:
        assert len((await nt.sessions.list()).items) == 60


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ""},
        {"base_url": "http://example.com"},
        {"base_url": "ftp://x"},
        {"concurrency": 0},
        {"rate": 0},
        {"timeout": 0},
        {"attempt_timeout": -1},
    ],
)
def test_what_cannot_be_right_is_refused_when_the_client_is_made(wrong):
    with pytest.raises(ValueError, match=r"."):
        NavTalkClient(**{"key": "k", **wrong})


def test_a_client_can_be_made_outside_of_a_loop_and_shows_no_key():
    assert repr(NavTalkClient("secret")) == "<NavTalkClient on <Sender to https://transfer.navtalk.ai>>"


@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_is_not_carried_away(carry):
    with pytest.raises(TypeError, match="do not pickle it"):
        carry(NavTalkClient("secret"))


# A view ---------------------------------------------------------------------------------------------------


async def test_a_view_shares_connections_limits_and_end(navtalk_sandbox):
    async with client(navtalk_sandbox) as nt:
        await nt.sessions.list()
        view = nt.using(timeout=5, retry=Retry(attempts=1))
        await view.sessions.list()
        assert navtalk_sandbox.counts.connections == 1
        assert view.stats() == nt.stats()
        assert view.stats().requests == 2
    with pytest.raises(ClientClosed):
        await view.sessions.list()


async def test_a_view_has_its_own_patience_and_leaves_the_clients_alone(navtalk_sandbox):
    navtalk_sandbox.faults = Faults(http_500=1)
    async with client(navtalk_sandbox, retry=Retry(attempts=3, base_seconds=0)) as nt:
        with pytest.raises(ServerError) as caught:
            await nt.using(retry=Retry(attempts=1)).sessions.list()
        assert caught.value.attempts == 1
        with pytest.raises(ServerError) as caught:
            await nt.using(timeout=None).sessions.list()
        assert caught.value.attempts == 3


async def test_an_interactive_call_goes_before_a_bulk_job(navtalk_sandbox, until):
    navtalk_sandbox.hold()
    ids, order = [row["id"] for row in navtalk_sandbox.world.sessions[:6]], []
    async with client(navtalk_sandbox, concurrency=1) as nt:

        async def call(lane, session_id):
            await nt.using(lane=lane).sessions.get(session_id)
            order.append(lane)

        tasks = [asyncio.create_task(call("bulk", session_id)) for session_id in ids[:5]]
        await until(lambda: nt.stats().waiting == 4)
        tasks.append(asyncio.create_task(call("interactive", ids[5])))
        await until(lambda: nt.stats().waiting == 5)
        navtalk_sandbox.release()
        await asyncio.gather(*tasks)
    assert order == ["bulk", "interactive", "bulk", "bulk", "bulk", "bulk"]


def test_a_lane_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="'interactive', 'normal', 'bulk'"):
        NavTalkClient("k").using(lane="fast")


def test_a_view_without_time_is_refused():
    with pytest.raises(ValueError, match="leaves no time to ask"):
        NavTalkClient("k").using(timeout=0)


WRONG_TYPES = [
    {"timeout": "2"},
    {"timeout": True},
    {"attempt_timeout": None},
    {"retry": 5},
    {"retry": 0},
]


@pytest.mark.parametrize("wrong", [*WRONG_TYPES, {"on_event": 5}])
def test_an_option_of_another_type_is_a_type_error_of_a_client_at_once(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(TypeError, match=f"^{name}={value!r} (is not a|cannot be called)"):
        NavTalkClient("k", **wrong)


@pytest.mark.parametrize("wrong", WRONG_TYPES)
def test_an_option_of_another_type_is_a_type_error_of_a_view_at_once(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(TypeError, match=f"^{name}={value!r} is not a"):
        NavTalkClient("k").using(**wrong)


# Loops ----------------------------------------------------------------------------------------------------


def test_one_client_serves_one_loop_after_the_other(served):
    nt = client(served)
    assert loudly(rows(nt.sessions.list())) == loudly(rows(nt.sessions.list()))
    loudly(nt.aclose())


def test_a_loop_that_ends_takes_its_connections_along(served):
    nt = client(served)
    loudly(rows(nt.sessions.list()))
    assert nt._wire._states == {}
    loudly(rows(nt.sessions.list()))


def test_a_client_that_was_closed_in_one_loop_is_closed_in_the_next(served):
    nt = client(served)

    async def inside():
        async with nt:
            return await rows(nt.sessions.list())

    assert len(loudly(inside())) == 20
    with pytest.raises(ClientClosed):
        loudly(rows(nt.sessions.list()))


def test_several_loops_use_a_client_at_the_same_time(served):
    nt, results = client(served), []

    async def walk():
        results.append([s.id for _ in range(5) async for s in nt.sessions.list(limit=7)])

    threads = [threading.Thread(target=asyncio.run, args=[walk()]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [[row["id"] for row in served.world.sessions] * 5] * 4


def test_a_client_that_is_never_closed_leaves_with_its_loop(served):
    async def careless():
        nt = client(served)
        await rows(nt.sessions.list())
        await nt.sessions.list()

    loudly(careless())


async def test_a_client_that_is_forgotten_while_its_loop_runs_is_complained_of_and_closed(
    navtalk_sandbox, until
):
    async def careless():
        await NavTalkClient("CANARY", base_url=navtalk_sandbox.navtalk_url).sessions.list()

    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(repr(context)))
    await careless()
    with pytest.warns(ResourceWarning, match="Unclosed") as warned:
        gc.collect()
    reported += [str(one.message) for one in warned]
    await until(lambda: len(asyncio.all_tasks()) == 1)
    assert "CANARY" not in "".join(reported)


def test_a_client_that_is_left_in_the_middle_of_a_list_leaves_no_noise(served):
    async def careless():
        nt = client(served)
        async for _ in nt.sessions.list(limit=3):
            break

    loudly(careless())


def test_an_end_of_the_loop_in_the_middle_of_calls_leaves_no_noise(served, until):
    served.hold()

    async def careless():
        nt = client(served)
        calls = [asyncio.create_task(nt.sessions.get(ID)) for _ in range(5)]
        await until(lambda: nt.stats().in_flight)
        return calls

    calls = loudly(careless())
    assert all(call.cancelled() for call in calls)
    served.release()


# Closing --------------------------------------------------------------------------------------------------


async def calls_everywhere(nt, box, until):
    """Calls in flight, before the gate, and in the rest between two attempts."""
    failing = [asyncio.create_task(nt.using(retry=Retry(base_seconds=99, cap_seconds=99)).sessions.get(ID))]
    await box.arrived(1)
    await until(lambda: nt.stats().requests and not nt.stats().in_flight)
    box.hold()
    asked = [asyncio.create_task(rows(nt.sessions.list())) for _ in range(4)]
    await until(lambda: nt.stats().in_flight == 2)
    await box.arrived(3)
    return failing + asked


async def test_closing_ends_every_call_wherever_it_is(navtalk_sandbox, quiet_loop, until):
    navtalk_sandbox.fail_next("500")
    async with quiet_loop():
        nt = client(navtalk_sandbox, concurrency=2)
        calls = await calls_everywhere(nt, navtalk_sandbox, until)
        await asyncio.create_task(nt.aclose())
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [ClientClosed] * 5
        assert [end.attempts for end in ends] == [1, 1, 1, 0, 0]
        navtalk_sandbox.release()
        del ends, calls


def test_closing_from_another_thread_ends_every_call_too(served, until):
    served.fail_next("500")

    async def main():
        nt = client(served, concurrency=2)
        failing = asyncio.create_task(nt.using(retry=Retry(base_seconds=99, cap_seconds=99)).sessions.get(ID))
        await until(lambda: nt.stats().requests and not nt.stats().in_flight)
        served._open.clear()
        calls = [failing, *(asyncio.create_task(rows(nt.sessions.list())) for _ in range(4))]
        await until(lambda: nt.stats().in_flight == 2)
        await asyncio.to_thread(asyncio.run, nt.aclose())
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ends] == [ClientClosed] * 5
        with pytest.raises(ClientClosed):
            await nt.sessions.list()

    loudly(main())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21])
async def test_a_call_that_is_closed_at_any_moment_ends_or_says_so(navtalk_sandbox, quiet_loop, host, turns):
    async with quiet_loop():
        nt = NavTalkClient("k", base_url=navtalk_sandbox.url.replace("127.0.0.1", host), retry=QUICK)
        call = asyncio.create_task(nt.sessions.get(navtalk_sandbox.world.sessions[0]["id"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        await nt.aclose()
        [end] = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(end, ClientClosed) or end.id == navtalk_sandbox.world.sessions[0]["id"]
        del end, call


async def test_closing_twice_and_by_two_at_once_is_fine(navtalk_sandbox, quiet_loop):
    async with quiet_loop():
        async with client(navtalk_sandbox) as nt:
            await nt.sessions.list()
            await asyncio.gather(nt.aclose(), nt.aclose())
            await nt.aclose()


async def test_closing_a_client_that_never_asked_is_fine(navtalk_sandbox):
    async with client(navtalk_sandbox):
        pass


async def test_a_closed_client_asks_nothing(navtalk_sandbox):
    async with client(navtalk_sandbox) as nt:
        pass
    with pytest.raises(ClientClosed):
        await nt.sessions.list()
    assert navtalk_sandbox.counts.total == 0


async def test_a_pool_on_a_client_that_is_closed_ends_with_that_error(navtalk_sandbox, quiet_loop):
    async with quiet_loop():
        nt = client(navtalk_sandbox)
        with pytest.raises(ClientClosed):
            async with SessionPool(nt).transcripts(on_error="yield") as transcripts:
                async for _ in transcripts:
                    await nt.aclose()


# Leaving --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["asyncio", "anyio", "cancel"])
async def test_a_call_that_is_given_up_gives_its_slot_back(navtalk_sandbox, quiet_loop, way):
    async with quiet_loop(), client(navtalk_sandbox, concurrency=1) as nt:
        await nt.sessions.list()
        navtalk_sandbox.hold()
        if way == "asyncio":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await nt.sessions.list()
        elif way == "anyio":
            with anyio.move_on_after(0.05) as scope:
                await nt.sessions.list()
            assert scope.cancelled_caught
        else:
            call = asyncio.create_task(rows(nt.sessions.list()))
            await navtalk_sandbox.arrived(2)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert nt.stats().in_flight == 0
        navtalk_sandbox.release()
        assert len(await rows(nt.sessions.list())) == 60
        call = None


async def test_a_call_that_is_given_up_while_it_waits_leaves_the_others_their_turn(navtalk_sandbox):
    async with client(navtalk_sandbox, concurrency=1) as nt:
        navtalk_sandbox.hold()
        first = asyncio.create_task(rows(nt.sessions.list()))
        await navtalk_sandbox.arrived(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await nt.sessions.list()
        with pytest.raises(DeadlineExceeded):
            await nt.using(timeout=0.05).sessions.list()
        navtalk_sandbox.release()
        assert len(await first) == len(await rows(nt.sessions.list())) == 60


async def test_who_met_a_429_and_left_blocks_nobody(navtalk_sandbox):
    navtalk_sandbox.faults = Faults(retry_after=0.2)
    navtalk_sandbox.fail_next("429")
    async with client(navtalk_sandbox) as nt:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await nt.sessions.list()
        assert len(await rows(nt.using(timeout=5).sessions.list())) == 60


async def test_a_cancelled_call_is_no_swallowed_cancellation(navtalk_sandbox):
    navtalk_sandbox.hold()
    async with client(navtalk_sandbox) as nt:
        task = asyncio.create_task(rows(nt.sessions.list()))
        await navtalk_sandbox.arrived(1)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("enough",)


async def test_breaking_out_of_a_list_costs_no_further_request(navtalk_sandbox, quiet_loop):
    async with quiet_loop(), client(navtalk_sandbox) as nt:
        async for _ in nt.sessions.list(limit=5):
            break
        assert navtalk_sandbox.counts.total == 1


async def test_a_callers_own_error_in_a_list_comes_out_as_it_is(navtalk_client):
    with pytest.raises(KeyError, match="mine"):
        async for _ in navtalk_client.sessions.list():
            raise KeyError("mine")


class Whole(aiohttp.ClientResponse):
    """aiohttp 3.14 wants to know how much was sent; aioresponses 0.7.9 does not say."""

    def __init__(self, *args, **kwargs):
        class Sent:
            output_size = 0

        super().__init__(*args, **{"stream_writer": Sent()} | kwargs)


async def test_a_program_of_ours_can_be_tested_with_aioresponses():
    page = {"code": 200, "data": {"data": [], "nextCursor": None}}
    with aioresponses() as mocked:
        pattern = re.compile(r"^https://told\.example/api/chat/sessions\?.*$")
        mocked.get(pattern, payload=page, response_class=Whole)
        async with NavTalkClient("k", base_url="https://told.example") as nt:
            assert (await nt.sessions.list()).items == []


def test_a_misspelled_filter_is_refused_with_those_that_the_api_has():
    nt = NavTalkClient("k")
    with pytest.raises(TypeError, match="statuss: only by start_time and end_time and status"):
        nt.sessions.list(statuss=1)
    with pytest.raises(TypeError, match="status: only by start_time and end_time and role"):
        nt.messages.list("709b712f-dede-11f0-92bc-000e1eed4a72", status=1)
    assert (
        nt.sessions.list(start_time="2025-11-12T18:20:38Z").request.params["startTime"]
        == "2025-11-12 18:20:38"
    )


@pytest.mark.parametrize(
    ("option", "match"), [("engine", "no engine but aiohttp"), ("nonsense", "has no option")]
)
def test_an_option_that_is_gone_or_never_was_is_refused_by_name(option, match):
    with pytest.raises((ValueError, TypeError), match=match):
        NavTalkClient("key", **{option: "fast"})


async def test_none_stands_for_the_usual_retries(navtalk_sandbox, navtalk_client):
    navtalk_sandbox.fail_next("500")
    assert (await navtalk_client.using(retry=None).sessions.list(limit=1)).items


async def test_an_answer_that_is_wrong_in_the_same_way_is_asked_for_three_times(scripted):
    async with scripted(b"<html>Please log in.</html>") as box:
        async with NavTalkClient("key", base_url=box.url, retry=Retry(attempts=8, base_seconds=0.001)) as nt:
            with pytest.raises(NotJson) as caught:
                await nt.sessions.list()
        assert (len(box.heads), caught.value.attempts) == (3, 3)
