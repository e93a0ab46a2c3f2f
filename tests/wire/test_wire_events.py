"""Over real sockets: events and counters show what a client does."""

import asyncio
import pickle

import pytest
from navtalk_clients import EMPTY, client

from navtalk_async import NavTalkClient, Retry
from navtalk_async.errors import DeadlineExceeded, RateLimited, ServerError
from navtalk_async.events import Answered, Failed, Waiting
from navtalk_async.sandbox import Faults


async def test_events_and_stats_tell_the_story(navtalk_sandbox):
    navtalk_sandbox.fail_next("500")
    navtalk_sandbox.fail_next("429")
    events = []
    async with client(navtalk_sandbox, on_event=events.append) as nt:
        await nt.sessions.list()
    failed, too_fast, waiting, answered = events
    assert (type(failed), failed.attempt, failed.error[:15]) == (Failed, 1, "ServerError: Th")
    assert (type(too_fast), too_fast.attempt, too_fast.error[:11]) == (Failed, 2, "RateLimited")
    assert type(waiting) is Waiting
    assert (type(answered), answered.path, answered.attempts) == (Answered, "/api/chat/sessions", 3)
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
    refused, late = (event for event in events if type(event) is Failed)
    assert refused.error.startswith("RateLimited")
    assert (late.path, late.attempt, late.error[:16]) == ("/api/chat/sessions", 1, "DeadlineExceeded")


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
    refused, waiting, failed, *answered = events
    assert (type(refused), refused.attempt, type(waiting)) == (Failed, 1, Waiting)
    assert (type(failed), failed.attempt, failed.path) == (Failed, 2, refused.path)
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
