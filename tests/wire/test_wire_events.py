"""Over real sockets: events and counters show what a client does."""

import asyncio
import logging
import pickle

import pytest
from navtalk_clients import EMPTY, client

from navtalk_async import NavTalkClient, Retry
from navtalk_async.errors import ClientClosed, DeadlineExceeded, NotFound, RateLimited, ServerError
from navtalk_async.events import Answered, Counts, Failed, GaveUp, Sent, Started, Waiting
from navtalk_async.sandbox import Faults


async def test_events_and_stats_tell_the_story(navtalk_sandbox):
    navtalk_sandbox.fail_next("500")
    navtalk_sandbox.fail_next("429")
    events = []
    async with client(navtalk_sandbox, on_event=events.append) as nt:
        await nt.sessions.list()
    started, sent, failed, *_, too_fast, waiting, last, answered = events
    assert (type(started), type(sent), type(last)) == (Started, Sent, Sent)
    assert {event.call for event in events if event is not waiting} == {started.call}
    call = started.call
    assert (call.operation, call.api, call.method, call.lane) == ("sessions.list", "navtalk", "GET", "normal")
    assert (call.path, call.base_url) == ("/api/chat/sessions", navtalk_sandbox.url)
    assert (failed.status, too_fast.status, answered.status) == (500, 429, 200)
    assert (sent.attempt, last.attempt) == (1, 3)
    assert waiting.seconds == pytest.approx(last.queue_seconds, abs=0.1)
    assert 0 < answered.decode_seconds < answered.seconds
    assert (type(failed), failed.attempt, failed.error[:15]) == (Failed, 1, "ServerError: Th")
    assert (type(too_fast), too_fast.attempt, too_fast.error[:11]) == (Failed, 2, "RateLimited")
    assert type(waiting) is Waiting
    assert (type(answered), answered.attempts) == (Answered, 3)
    stats = nt.stats()
    assert (stats.requests, stats.retries, stats.answers, stats.in_flight) == (3, 2, 1, 0)
    assert stats.refused == 1
    assert stats.paused_seconds == pytest.approx(waiting.seconds, abs=0.1)


async def test_a_call_whose_time_passes_before_its_turn_is_an_event(navtalk_sandbox):
    navtalk_sandbox.faults = Faults(retry_after=60)
    navtalk_sandbox.fail_next("429")
    events = []
    async with client(navtalk_sandbox, on_event=events.append, timeout=5) as nt:
        for _ in range(2):
            with pytest.raises(DeadlineExceeded):
                await nt.sessions.list()
        assert (nt.stats().requests, nt.stats().waiting, nt.stats().expired) == (1, 0, 1)
    [refused] = [event for event in events if type(event) is Failed]
    assert refused.error.startswith("RateLimited")
    first, late = (event for event in events if type(event) is GaveUp)
    assert (first.call.id, first.attempts, late.attempts) == (refused.call.id, 1, 0)
    assert first.error.startswith(late.error[:16])
    assert late.error.startswith("DeadlineExceeded")


async def test_stats_tell_where_the_time_went(navtalk_sandbox):
    navtalk_sandbox.latency = 0.02
    navtalk_sandbox.faults = Faults(retry_after=0.3)
    navtalk_sandbox.fail_next("429")
    navtalk_sandbox.fail_next("500")
    ids = [row["id"] for row in navtalk_sandbox.world.sessions[:10]]
    async with client(navtalk_sandbox, concurrency=1, retry=Retry(base_seconds=0.1)) as nt:
        assert nt.stats().limit == 0
        await asyncio.gather(*(nt.sessions.get(session_id) for session_id in ids))
        stats = nt.stats()
    assert (stats.requests, stats.retries, stats.answers, stats.refused) == (12, 2, 10, 1)
    assert (stats.in_flight, stats.waiting, stats.limit, stats.rate) == (0, 0, 1, None)
    assert stats.network_seconds >= 12 * 0.02
    assert stats.paused_seconds >= 9 * 0.3
    assert stats.turn_seconds >= sum(range(10)) * 0.02
    assert 0 < stats.decode_seconds < stats.network_seconds
    assert 0 < stats.backoff_seconds <= 0.1


async def test_no_other_call_leaves_in_the_pause_that_a_refusal_begins(navtalk_sandbox):
    navtalk_sandbox.faults = Faults(retry_after=0.05)
    navtalk_sandbox.fail_next("429")
    navtalk_sandbox.fail_next("500")
    first, second = [row["id"] for row in navtalk_sandbox.world.sessions[:2]]
    events = []
    async with client(navtalk_sandbox, concurrency=1, on_event=events.append) as nt:
        await asyncio.gather(nt.sessions.get(first), nt.sessions.get(second))
    refused, waiting, failed, *answered = (event for event in events if type(event) not in {Started, Sent})
    assert (type(refused), refused.attempt, type(waiting)) == (Failed, 1, Waiting)
    assert (type(failed), failed.attempt, failed.call) == (Failed, 2, refused.call)
    assert [type(event) for event in answered] == [Answered, Answered]


@pytest.mark.parametrize(("fault", "retry_after"), [("429", 3600), ("503", None)])
async def test_a_call_that_gives_up_carries_its_last_error(navtalk_sandbox, fault, retry_after):
    navtalk_sandbox.faults = Faults(retry_after=3600)
    navtalk_sandbox.fail_next(fault)
    patient = Retry(base_seconds=1e9, cap_seconds=1e9)
    async with client(navtalk_sandbox, timeout=30, retry=patient) as nt:
        with pytest.raises(DeadlineExceeded) as caught:
            await nt.sessions.list()
        error = caught.value
        assert type(error.last_error) is {"429": RateLimited, "503": ServerError}[fault]
        assert error.__cause__ is error.last_error
        assert error.args[0].endswith(f"The last attempt: {error.last_error.args[0]}")
        assert (error.retry_after, error.attempts) == (retry_after, 1)
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.retry_after) == (DeadlineExceeded, str(error), retry_after)
        assert (type(copy.last_error), str(copy.last_error)) == (
            type(error.last_error),
            str(error.last_error),
        )


async def test_a_call_that_never_left_has_no_last_error_and_knows_the_pause(navtalk_sandbox):
    navtalk_sandbox.faults = Faults(retry_after=3600)
    navtalk_sandbox.fail_next("429")
    async with client(navtalk_sandbox, timeout=30) as nt:
        for attempts in (1, 0):
            with pytest.raises(DeadlineExceeded) as caught:
                await nt.sessions.list()
            assert caught.value.attempts == attempts
    assert caught.value.last_error is None
    assert 3500 < caught.value.retry_after < 3700


async def test_hints_of_the_server_are_heeded(scripted):
    headers = "X-RateLimit-Limit: 60", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 3600"
    async with scripted(EMPTY, 200, *headers) as server, NavTalkClient("k", base_url=server.url) as nt:
        await nt.sessions.list()
        with pytest.raises(DeadlineExceeded, match="no request for another 3600 s"):
            await nt.using(timeout=60).sessions.list()
    assert len(server.heads) == 1


async def test_in_an_outage_calls_are_given_up_at_once_when_the_budget_is_spent(navtalk_sandbox):
    async with client(navtalk_sandbox) as nt:
        await nt.sessions.list()
        navtalk_sandbox.faults = Faults(http_500=1)
        [state] = nt._wire._states.values()
        state.budget.left = 10.0
        for _ in range(20):
            with pytest.raises(ServerError):
                await nt.sessions.list()
    assert navtalk_sandbox.counts.total == 1 + 20 + 10


ENDS = {Answered, GaveUp}


async def test_each_call_starts_and_ends_once_whatever_happens_to_it(navtalk_sandbox):
    events = []
    nt = client(navtalk_sandbox, on_event=[events.append, lambda _: None])
    ids = [row["id"] for row in navtalk_sandbox.world.sessions[:4]]
    for fault in ("404", "500", "cut"):
        navtalk_sandbox.fail_next(fault)
    await asyncio.gather(*map(nt.sessions.get, ids), return_exceptions=True)
    navtalk_sandbox.hold()
    cancelled, closed = (asyncio.create_task(nt.sessions.get(each)) for each in ids[:2])
    await navtalk_sandbox.arrived(navtalk_sandbox.counts.total + 1)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await nt.aclose()
    await asyncio.wait([closed])
    assert type(closed.exception()) is ClientClosed
    by_call = {}
    for event in events:
        by_call.setdefault(event.call.id, []).append(event)
    assert len(by_call) == 6
    for told in by_call.values():
        assert (type(told[0]), [type(each) in ENDS for each in told].index(True)) == (Started, len(told) - 1)
        sent = [each.attempt for each in told if type(each) is Sent]
        assert sent == list(range(1, len(sent) + 1))
        assert len(sent) == told[-1].attempts
    gave_up = [each for each in events if type(each) is GaveUp]
    assert sorted(each.error.partition(":")[0] for each in gave_up) == [
        *("CancelledError", "ClientClosed", "NotFound"),
    ]


async def test_stats_are_split_by_operation_and_by_lane(navtalk_sandbox):
    navtalk_sandbox.fail_next("500")
    async with client(navtalk_sandbox) as nt:
        [first, *_] = await nt.sessions.list().all()
        await nt.using(lane="interactive").messages.list(first.id).all()
        with pytest.raises(NotFound):
            await nt.using(lane="bulk").sessions.get("00000000-0000-1000-8000-000000000000")
        stats = nt.stats()
    assert {name: each.errors for name, each in stats.operations.items()} == {
        "sessions.list": 0,
        "messages.list": 0,
        "sessions.get": 1,
    }
    assert stats.lanes.keys() == {"normal", "interactive", "bulk"}
    assert stats.operations["sessions.list"].retries == 1
    for parts in (stats.operations, stats.lanes):
        total = Counts()
        for each in parts.values():
            total.add(each)
        for name in Counts.__struct_fields__:
            assert getattr(total, name) == pytest.approx(getattr(stats, name))


async def test_what_a_person_wants_to_know_is_a_warning_with_its_facts(navtalk_sandbox, caplog):
    caplog.set_level(logging.WARNING)
    navtalk_sandbox.fail_next("429")
    navtalk_sandbox.fail_next("500", 2)
    async with client(navtalk_sandbox, retry=Retry(attempts=2, base_seconds=0.0)) as nt:
        with pytest.raises(ServerError):
            await nt.sessions.list()
        with pytest.raises(NotFound):
            await nt.sessions.get("00000000-0000-1000-8000-000000000000")
    # What failed at its first attempt is the caller's affair.
    waiting, gave_up = caplog.records
    assert (waiting.levelname, waiting.navtalk_event, waiting.navtalk_seconds > 0) == (
        "WARNING",
        "Waiting",
        True,
    )
    assert (gave_up.levelname, gave_up.navtalk_event, gave_up.navtalk_attempts) == ("WARNING", "GaveUp", 3)
    assert (gave_up.navtalk_call_operation, gave_up.navtalk_call_api) == ("sessions.list", "navtalk")
    assert gave_up.getMessage().startswith("/api/chat/sessions failed after 3 attempts: ServerError: ")
