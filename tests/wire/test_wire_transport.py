"""Over real sockets: whatever a server does, an answer that was understood comes back, or the right error."""

import asyncio
import json
import time

import aiohttp
import pytest
from navtalk_clients import MEBIBYTE, ONCE, client, rows

from navtalk_async import NavTalkClient, Retry, SessionPool
from navtalk_async.errors import (
    AccessDenied,
    ApiError,
    AttemptTimeout,
    BadRequest,
    BodyTooLarge,
    BrokenBody,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    NavTalkError,
    NotFound,
    NotJson,
    RateLimited,
    Redirected,
    RepeatedPage,
    ServerError,
    UnknownHost,
    WrongShape,
)
from navtalk_async.models import Request
from navtalk_async.sandbox import KINDS, Answers, Faults, Sandbox, World
from navtalk_async.wire._transport import our_error

FAULTS = {
    "400": BadRequest,
    "403": AccessDenied,
    "404": NotFound,
    "500": ServerError,
    "503": ServerError,
    "429": DeadlineExceeded,
    "429-bare": DeadlineExceeded,
    "echo-key": BadRequest,
    "reset": Disconnected,
    "drop": Disconnected,
    "lost-answer": Disconnected,
    "cut": BrokenBody,
    "cut-chunked": BrokenBody,
    "slow": AttemptTimeout,
    "hang": AttemptTimeout,
    "garbage": NotJson,
    "html": NotJson,
    "truncated": NotJson,
    "wrong-shape": WrongShape,
    "deep": WrongShape,
    "huge": BodyTooLarge,
    "bomb": BodyTooLarge,
    "redirect": Redirected,
    "repeat-cursor": RepeatedPage,
    "cycle": RepeatedPage,
    "empty-page": RepeatedPage,
}


# Each fault, alone ----------------------------------------------------------------------------------------


def test_every_fault_of_the_sandbox_is_tried():
    assert set(FAULTS) == set(KINDS)


@pytest.mark.parametrize("answers", [Answers(), Answers(errors="body"), Answers(errors="bare")], ids=str)
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_is_the_right_error(fault, answers):
    # Seconds for a 429 are more than a call has; drips are slower than an attempt may be.
    faults = Faults(retry_after=99, slow_seconds=99, huge_bytes=4 * MEBIBYTE)
    async with Sandbox(sessions=250, faults=faults, answers=answers) as box:
        box.fail_next(fault, 20)
        impatient = {"slow": 0.2, "hang": 0.2}.get(fault, 20.0)
        given_time = 0.2 if fault == "429-bare" else 60.0
        options = {"attempt_timeout": impatient, "timeout": given_time, "body_limit": 2 * MEBIBYTE}
        async with client(box, retry=ONCE, **options) as nt:
            with pytest.raises(NavTalkError) as caught:
                await rows(nt.sessions.list())
    assert type(caught.value) is FAULTS[fault]


async def test_nobody_there_is_a_failed_connection(unused_tcp_port):
    async with NavTalkClient("k", base_url=f"http://127.0.0.1:{unused_tcp_port}", retry=ONCE) as nt:
        with pytest.raises(ConnectFailed, match="nothing listens there"):
            await nt.sessions.list()


async def test_a_server_without_tls_is_a_failed_connection(navtalk_sandbox):
    async with NavTalkClient("k", base_url=navtalk_sandbox.url.replace("http", "https"), retry=ONCE) as nt:
        with pytest.raises(ConnectFailed, match="does not speak https"):
            await nt.sessions.list()


async def test_what_is_not_http_is_a_broken_body(scripted):
    async with scripted() as server, NavTalkClient("k", base_url=server.url, retry=ONCE) as nt:
        server.answer = b"220 smtp.example.com ESMTP\r\n"
        with pytest.raises(BrokenBody, match="is not HTTP"):
            await nt.sessions.list()


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (aiohttp.ConnectionTimeoutError(), ConnectFailed),
        (aiohttp.ServerTimeoutError(), AttemptTimeout),
        (TimeoutError(), AttemptTimeout),
        (aiohttp.ClientConnectorDNSError(None, OSError("x")), UnknownHost),
        (aiohttp.ClientConnectorError(None, OSError(113, "No route to host")), ConnectFailed),
        (aiohttp.ClientProxyConnectionError(None, OSError("x")), ConnectFailed),
        (aiohttp.ServerDisconnectedError(), Disconnected),
        (aiohttp.ClientOSError(104, "x"), Disconnected),
        (ConnectionResetError(), Disconnected),
        (aiohttp.ClientPayloadError("x"), BrokenBody),
        (aiohttp.ClientResponseError(None, (), message="x"), BrokenBody),
        (aiohttp.InvalidURL("x"), BrokenBody),
        (RuntimeError("Session is closed"), BrokenBody),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_each_error_of_aiohttp_has_its_class(failure, kind):
    error = our_error(failure, "/x", "https://host", 1.0)
    assert type(error) is kind
    assert (error.__cause__, error.__context__) == (None, None)


# Patience -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults", ["10%", "429=5%,429-bare=1%,503=5%", "drop=5%,cut-chunked=5%,truncated=5%,html=5%"]
)
async def test_an_ordinary_bad_week_is_survived_with_every_row_exactly_once(faults):
    world = World(sessions=120, mean_messages=5)
    async with (
        Sandbox(world, faults=Faults.parse(faults), answers=Answers(errors="both", max_page=40)) as box,
        client(box) as nt,
        SessionPool(nt).transcripts() as transcripts,
    ):
        got = {t.session.id: t async for t in transcripts}
    assert sum(box.counts.faults.values()) > 0
    assert [json.loads(got[row["id"]].session.raw) for row in world.sessions] == world.sessions
    assert len(got) == 120
    for session_id, transcript in got.items():
        assert [json.loads(message.raw) for message in transcript.messages] == world.messages(session_id)


@pytest.mark.parametrize("fault", ["hang", "slow", "429", "429-bare", "500", "503", "reset", "garbage"])
async def test_a_timeout_is_kept_whatever_the_server_does(fault):
    faults = Faults(retry_after=3600, slow_seconds=3600)
    async with Sandbox(sessions=5, faults=faults) as box, client(box, retry=Retry(base_seconds=0.1)) as nt:
        box.fail_next(fault, 1000)
        began = time.monotonic()
        with pytest.raises((DeadlineExceeded, FAULTS[fault])) as caught:
            await nt.using(timeout=0.5).sessions.list()
        assert time.monotonic() - began < 5
        assert caught.value.attempts >= 1


@pytest.mark.parametrize("lane", ["interactive", "normal", "bulk"])
@pytest.mark.parametrize("obstacle", ["a full gate", "a pause", "a rate", "a slow key", "nobody there"])
async def test_a_timeout_is_kept_whatever_is_in_the_way(navtalk_sandbox, until, obstacle, lane):
    async def slow_key():
        await asyncio.sleep(3600)

    options = {"concurrency": 1, "rate": 0.01 if obstacle == "a rate" else None}
    base_url = "http://127.0.0.1:1" if obstacle == "nobody there" else navtalk_sandbox.navtalk_url
    key = slow_key if obstacle == "a slow key" else "key"
    async with NavTalkClient(key, base_url=base_url, retry=Retry(attempts_at_first=99), **options) as nt:
        blocking = None
        if obstacle == "a rate":
            await nt.sessions.list()
        elif obstacle == "a full gate":
            navtalk_sandbox.hold()
            blocking = asyncio.create_task(rows(nt.sessions.list()))
            await navtalk_sandbox.arrived(1)
        elif obstacle == "a pause":
            navtalk_sandbox.faults = Faults(retry_after=3600)
            navtalk_sandbox.fail_next("429")
            blocking = asyncio.create_task(rows(nt.sessions.list()))
            await until(lambda: nt.stats().refused)
        began = time.monotonic()
        with pytest.raises((DeadlineExceeded, ConnectFailed)):
            await nt.using(timeout=0.5, lane=lane).sessions.list()
        assert time.monotonic() - began < 5
        if blocking is not None:
            blocking.cancel()
            await asyncio.wait([blocking])


async def test_who_cancels_a_call_that_is_late_as_well_gets_a_cancelled_call(navtalk_sandbox):
    navtalk_sandbox.hold()
    async with client(navtalk_sandbox, attempt_timeout=0.05, retry=ONCE) as nt:
        call = asyncio.create_task(rows(nt.sessions.list()))
        await navtalk_sandbox.arrived(1)
        # Both happen in one turn of the loop, the watchdog first.
        [state] = nt._wire._states.values()
        state.transport._watchdog._look_at(0.0, asyncio.get_running_loop())
        state.transport._watchdog._due[call] = 0.0
        asyncio.get_running_loop().call_soon(call.cancel)
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_a_call_that_was_late_is_not_cancelled_afterwards(navtalk_sandbox):
    navtalk_sandbox.fail_next("hang")
    async with client(navtalk_sandbox, attempt_timeout=0.05) as nt:
        assert len((await nt.sessions.list()).items) == 60
        assert asyncio.current_task().cancelling() == 0


@pytest.mark.parametrize("seconds", [1e-9, 1e-5])
async def test_a_timeout_too_short_to_ask_at_all_is_still_a_timeout(navtalk_sandbox, navtalk_client, seconds):
    navtalk_sandbox.hold()
    with pytest.raises((DeadlineExceeded, AttemptTimeout)):
        await navtalk_client.using(timeout=seconds, retry=ONCE).sessions.list()


async def test_waiting_for_a_turn_is_a_part_of_the_timeout(navtalk_sandbox):
    navtalk_sandbox.hold()
    async with client(navtalk_sandbox, concurrency=1) as nt:
        blocking = asyncio.create_task(rows(nt.sessions.list()))
        await navtalk_sandbox.arrived(1)
        with pytest.raises(DeadlineExceeded) as caught:
            await nt.using(timeout=0.1).sessions.list()
        assert caught.value.attempts == 0
        navtalk_sandbox.release()
        assert len(await blocking) == 60


async def test_an_exceeded_deadline_says_what_went_wrong_last_and_how_often_it_was_asked(navtalk_sandbox):
    navtalk_sandbox.faults = Faults(http_429=1, retry_after=60)
    async with client(navtalk_sandbox, timeout=1) as nt:
        with pytest.raises(DeadlineExceeded) as caught:
            await nt.sessions.list()
    assert (caught.value.attempts, type(caught.value.__cause__)) == (1, RateLimited)


async def test_attempts_are_counted_also_where_the_gate_ends_the_call(navtalk_sandbox):
    navtalk_sandbox.fail_next("500")
    async with client(navtalk_sandbox, concurrency=1, retry=Retry(base_seconds=0, cap_seconds=0)) as nt:
        waiting = asyncio.create_task(rows(nt.using(timeout=0.3).sessions.list()))
        await navtalk_sandbox.arrived(1)
        navtalk_sandbox.hold()
        blocking = [
            asyncio.create_task(rows(nt.messages.list(s["id"]))) for s in navtalk_sandbox.world.sessions[:3]
        ]
        with pytest.raises((DeadlineExceeded, AttemptTimeout)) as caught:
            await waiting
        assert caught.value.attempts >= 1
        navtalk_sandbox.release()
        await asyncio.gather(*blocking)


async def test_attempts_end_with_the_last_error(navtalk_sandbox):
    navtalk_sandbox.faults = Faults(http_500=1)
    async with client(navtalk_sandbox, retry=Retry(attempts=5, base_seconds=0)) as nt:
        with pytest.raises(ServerError, match=r"after 5 attempts") as caught:
            await nt.sessions.list()
    assert (caught.value.attempts, navtalk_sandbox.counts.total, nt.stats().requests) == (5, 5, 5)


async def test_a_429_does_not_use_up_the_only_attempt(navtalk_sandbox):
    navtalk_sandbox.fail_next("429", 3)
    async with client(navtalk_sandbox, retry=ONCE) as nt:
        assert len((await nt.sessions.list()).items) == 60
    assert navtalk_sandbox.counts.total == 4


async def test_a_post_that_may_have_arrived_is_not_sent_again(navtalk_sandbox):
    navtalk_sandbox.fail_next("drop")
    async with client(navtalk_sandbox) as nt:
        with pytest.raises(Disconnected):
            await nt.ask(Request(path="/api/chat/sessions", method="POST", body=b"{}"), lambda *_: None)
    assert navtalk_sandbox.counts.total == 1


@pytest.mark.parametrize(("fault", "asked"), [("garbage", 3), ("500", 8)])
async def test_what_looks_like_a_wrong_address_is_given_up_sooner(navtalk_sandbox, fault, asked):
    navtalk_sandbox.faults = Faults.parse(f"{fault}=1")
    retry = Retry(attempts=8, attempts_at_first=3, base_seconds=0)
    async with client(navtalk_sandbox, retry=retry) as nt:
        with pytest.raises(NavTalkError):
            await nt.sessions.list()
    assert navtalk_sandbox.counts.total == asked


async def test_no_more_requests_are_in_flight_than_allowed(navtalk_sandbox):
    navtalk_sandbox.latency = 0.002
    async with client(navtalk_sandbox, concurrency=3) as nt:
        ids = [row["id"] for row in navtalk_sandbox.world.sessions]
        await asyncio.gather(*(nt.sessions.get(session_id) for session_id in ids))
    assert navtalk_sandbox.counts.peak_in_flight == 3


async def test_one_429_holds_back_everybody(until):
    async with Sandbox(sessions=30, faults=Faults(retry_after=0.3)) as box, client(box) as nt:
        await nt.sessions.list()
        box.fail_next("429")
        first = asyncio.create_task(nt.sessions.get(box.world.sessions[0]["id"]))
        await until(lambda: nt.stats().refused)
        came = box.counts.total
        began = time.monotonic()
        await asyncio.gather(first, *(nt.sessions.get(row["id"]) for row in box.world.sessions))
        assert time.monotonic() - began > 0.2
        assert box.counts.total == came + 31


# Answers no sandbox gives ---------------------------------------------------------------------------------


async def test_a_wait_until_a_date_is_measured_by_the_servers_own_clock(scripted):
    dates = ["Date: Fri, 21 Nov 2025 12:00:00 GMT", "Retry-After: Fri, 21 Nov 2025 13:00:00 GMT"]
    async with scripted(b"slow down", 429, *dates) as server:
        async with NavTalkClient("k", base_url=server.url, retry=ONCE, timeout=5) as nt:
            with pytest.raises(DeadlineExceeded) as caught:
                await nt.sessions.list()
    assert caught.value.__cause__.retry_after == 3600


async def test_a_wait_that_is_nonsense_is_no_wait_asked_for(scripted):
    nonsense = "Retry-After: Fri, 21 Nov 99999999999999999999 10:00:00 GMT"
    async with scripted(b"", 503, nonsense) as server:
        async with NavTalkClient("k", base_url=server.url, retry=ONCE) as nt:
            with pytest.raises(ServerError) as caught:
                await nt.sessions.list()
    assert caught.value.retry_after is None


@pytest.mark.parametrize(("status", "kind"), [(401, AccessDenied), (502, ServerError), (413, ApiError)])
async def test_a_gateways_page_is_its_status(scripted, status, kind):
    async with scripted(b"<html>nginx</html>", status) as server:
        async with NavTalkClient("k", base_url=server.url, retry=ONCE) as nt:
            with pytest.raises(kind) as caught:
                await nt.sessions.list()
    assert caught.value.status == status
