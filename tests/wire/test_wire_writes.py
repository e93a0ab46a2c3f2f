"""Over real sockets, a question that changes something is sent once, over a connection of
its own, and whoever cannot know whether it was done is told so.
"""

import asyncio
import pickle
import traceback
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from streaming import BEARER, PLACES, QUICK, patient, wired

from navtalk_async import NavTalkClient, Retry
from navtalk_async.dialects.answers import refused
from navtalk_async.errors import (
    ApiError,
    AttemptTimeout,
    BadRequest,
    BodyTooLarge,
    BrokenBody,
    ClientClosed,
    ConnectFailed,
    DeadlineExceeded,
    Disconnected,
    NavTalkError,
    NotJson,
    RateLimited,
    Redirected,
    ServerError,
)
from navtalk_async.models import Request
from navtalk_async.wire.retry import Budget
from navtalk_async.wire.sender import Sender

WRITES = [
    Request(path="/things", method="POST", body=b'{"title":"\xc3\xa9"}'),
    Request(path="/things/1", method="DELETE"),
    Request(path="/things/1", method="PATCH", body=b"{}"),
    Request(path="/things/1", method="PUT", body=b"{}"),
]
POST, DELETE = WRITES[:2]
GET = Request(path="/things")

every_write = pytest.mark.parametrize("write", WRITES, ids=lambda request: request.method)


def answer(body=b"{}", status=200, *headers):
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


OK = answer()
NEVER = "never"


class Box:
    """A server that keeps what it was asked, and answers with what the test gives it, then well.

    `None` ends the connection without an answer; `NEVER` gives none until the client has gone.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.seen = []
        self.connections = 0
        self.came = asyncio.Event()
        self.serving = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await asyncio.gather(*self.serving)

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            connection = self.connections
            while await self.answered(reader, writer, connection):
                pass
        writer.close()

    async def answered(self, reader, writer, connection):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.seen.append((first.split()[0], first.split()[1], headers, body, connection))
        self.came.set()
        given = self.answers.pop(0) if self.answers else OK
        if given is NEVER:
            await reader.read(1)
        if given in (None, NEVER):
            return False
        writer.write(given)
        await writer.drain()
        # A length that is never reached ends with the connection.
        return b"Content-Length: 99" not in given

    @property
    def methods(self):
        return [each[0] for each in self.seen]


@pytest.fixture
def wire_to():
    """`async with wire_to(url, **options) as wire:`."""

    return wired


def read(_, response):
    """What a dialect does: a refusal is an error, and so is what is no JSON."""
    if response.status // 100 != 2:
        raise refused(response)
    if not response.body.startswith(b"{"):
        raise NotJson("No JSON.")
    return response.body


async def failure(wire, request, **options):
    with pytest.raises(NavTalkError) as caught:
        await wire.ask(request, read, patient(**options))
    return caught.value


# What is sent ---------------------------------------------------------------------------------------------


@every_write
async def test_a_change_arrives_as_it_was_asked_for(wire_to, write):
    async with Box(answer(b'{"id":1}')) as box, wire_to(box.url) as wire:
        assert await wire.ask(write, read, patient()) == b'{"id":1}'
    [(method, path, headers, body, _)] = box.seen
    assert (method, path, body) == (write.method, write.path, write.body or b"")
    assert headers.get("content-type") == (None if write.body is None else "application/json")
    assert (headers["authorization"], headers["accept"]) == ("Bearer key", "application/json")
    assert headers["user-agent"].startswith("navtalk-async")


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
@pytest.mark.parametrize("request_", [GET, POST, DELETE], ids=lambda request: request.method)
async def test_the_key_is_in_its_place_and_in_no_other(wire_to, place, request_):
    async with Box() as box, wire_to(box.url, "K-+/=%&", place) as wire:
        await wire.ask(request_, read, patient())
    [(_, path, headers, _, _)] = box.seen
    if place.where == "query":
        assert path == f"{request_.path}?apikey=K-%2B%2F%3D%25%26"
        assert not {"authorization", "x-api-key"} & set(headers)
    else:
        assert path == request_.path
        assert headers[place.name.lower()] == f"{place.prefix}K-+/=%&"


@every_write
async def test_every_change_has_a_connection_of_its_own_and_reading_keeps_its_own(wire_to, write):
    async with Box() as box, wire_to(box.url) as wire:
        for request in (GET, write, GET, write, GET):
            await wire.ask(request, read, patient())
    connections = [each[-1] for each in box.seen]
    assert connections == [1, 2, 1, 3, 1]


# Once -----------------------------------------------------------------------------------------------------


@every_write
async def test_a_change_whose_connection_is_dropped_is_seen_once(wire_to, write):
    async with Box(None, None, None) as box, wire_to(box.url) as wire:
        error = await failure(wire, write)
    assert box.methods == [write.method]
    assert (type(error), error.attempts, error.may_have_happened) == (Disconnected, 1, True)


@every_write
async def test_a_change_after_others_whose_connection_is_dropped_is_seen_once(wire_to, write):
    async with Box(OK, OK, None, None) as box, wire_to(box.url) as wire:
        await wire.ask(write, read, patient())
        await wire.ask(GET, read, patient())
        error = await failure(wire, write)
    assert box.methods == [write.method, "GET", write.method]
    assert error.may_have_happened


ENDS = {
    "500": (answer(b"x", 500), ServerError, True),
    "503 for a while": (answer(b"x", 503, "Retry-After: 60"), ServerError, True),
    "not JSON": (answer(b"<html>"), NotJson, True),
    "cut": (answer(b"{}").replace(b"Length: 2", b"Length: 99"), BrokenBody, True),
    "not HTTP": (b"220 smtp.example.com ESMTP\r\n\r\n", BrokenBody, True),
    "too large": (answer(b"{" + b" " * 2000), BodyTooLarge, True),
    "dropped": (None, Disconnected, True),
    "400": (answer(b"x", 400), BadRequest, False),
    "418": (answer(b"x", 418), ApiError, False),
    "429": (answer(b"x", 429, "Retry-After: 7"), RateLimited, False),
    "307": (answer(b"", 307, "Location: https://example.com/"), Redirected, False),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("write", [POST, DELETE], ids=lambda request: request.method)
async def test_a_change_that_fails_is_one_error_and_one_question(wire_to, end, write):
    given, kind, is_open = ENDS[end]
    async with Box(*[given] * 5) as box, wire_to(box.url, body_limit=1000) as wire:
        error = await failure(wire, write)
        stats = wire.stats()
        [state] = wire._states.values()
        assert state.budget.left == Budget.MOST
    assert box.methods == [write.method]
    assert (type(error), error.attempts, error.may_have_happened) == (kind, 1, is_open)
    assert ("The change may have been made: check before you repeat it." in str(error)) == is_open
    assert pickle.loads(pickle.dumps(error)).may_have_happened == is_open
    assert (stats.requests, stats.retries, stats.answers, stats.in_flight) == (1, 0, 0, 0)


@pytest.mark.parametrize("end", ENDS)
async def test_what_only_reads_never_may_have_happened(wire_to, end):
    given, kind, _ = ENDS[end]
    async with Box(*[given] * 5) as box, wire_to(box.url, body_limit=1000) as wire:
        error = await failure(wire, GET, retry=Retry(attempts=1, attempts_at_first=1), timeout=3)
    assert isinstance(error, kind if kind is not RateLimited else DeadlineExceeded)
    assert not error.may_have_happened


async def test_a_429_to_a_change_is_the_callers_and_its_pause_everybodys(wire_to):
    async with Box(answer(b"x", 429, "Retry-After: 7")) as box, wire_to(box.url) as wire:
        error = await failure(wire, POST)
        assert error.retry_after == 7
        for request in (GET, POST):
            waiting = await failure(wire, request, timeout=1)
            assert (type(waiting), waiting.attempts) == (DeadlineExceeded, 0)
            assert not waiting.may_have_happened
        stats = wire.stats()
    assert (stats.refused, stats.retries, len(box.seen)) == (1, 0, 1)


@every_write
async def test_a_change_that_reached_nobody_is_tried_again_and_then_it_did_not_happen(
    wire_to, unused_tcp_port, write
):
    async with wire_to(f"http://127.0.0.1:{unused_tcp_port}") as wire:
        error = await failure(wire, write)
        stats = wire.stats()
    assert (type(error), error.attempts) == (ConnectFailed, QUICK.attempts_at_first)
    assert not error.may_have_happened
    assert (stats.requests, stats.retries) == (error.attempts, error.attempts - 1)


async def test_a_change_that_reached_nobody_at_first_is_made_once(wire_to, unused_tcp_port, until):
    async with wire_to(f"http://127.0.0.1:{unused_tcp_port}") as wire:
        slowly = Retry(attempts=1000, attempts_at_first=1000, base_seconds=0.01, cap_seconds=0.01)
        call = asyncio.create_task(wire.ask(POST, read, patient(retry=slowly)))
        await until(lambda: wire.stats().retries)
        box = Box()
        server = await asyncio.start_server(box.serve, "127.0.0.1", unused_tcp_port)
        assert await call == b"{}"
        server.close()
    await asyncio.gather(*box.serving)
    assert box.methods == ["POST"]


# Time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "kind"),
    [({"attempt_timeout": 1.0}, AttemptTimeout), ({"timeout": 1.0}, DeadlineExceeded)],
    ids=["attempt", "call"],
)
async def test_a_change_whose_answer_is_late_may_have_happened(wire_to, patience, kind):
    async with Box(NEVER) as box, wire_to(box.url) as wire:
        error = await failure(wire, POST, **patience)
        assert asyncio.current_task().cancelling() == 0
    assert (type(error), error.attempts, error.may_have_happened) == (kind, 1, True)
    assert box.methods == ["POST"]


async def test_a_change_that_never_had_its_turn_did_not_happen(wire_to):
    async with Box(NEVER) as box, wire_to(box.url, concurrency=1) as wire:
        blocking = asyncio.create_task(wire.ask(GET, read, patient()))
        await box.came.wait()
        error = await failure(wire, POST, timeout=0.05)
        blocking.cancel()
        await asyncio.wait([blocking])
    assert (type(error), error.attempts, error.may_have_happened) == (DeadlineExceeded, 0, False)
    assert box.methods == ["GET"]


async def test_a_change_whose_key_never_came_did_not_happen(wire_to):
    async def slow_key():
        await asyncio.Event().wait()

    async with Box() as box, wire_to(box.url, slow_key) as wire:
        error = await failure(wire, POST, attempt_timeout=0.05)
    assert (type(error), error.may_have_happened, box.seen) == (AttemptTimeout, False, [])


async def test_a_change_that_is_late_before_it_could_leave_did_not_happen(wire_to):
    # The handshake of TLS is taken for the begin of a request, and waited upon for its end.
    async with Box() as box, wire_to(box.url.replace("http", "https")) as wire:
        error = await failure(wire, POST, attempt_timeout=0.1, retry=Retry(attempts=1))
    assert (type(error), error.may_have_happened, box.seen) == (ConnectFailed, False, [])
    assert "within 0.1 s" in str(error)


# How it ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [POST, DELETE], ids=lambda request: request.method)
async def test_a_change_under_way_as_the_client_is_closed_may_have_happened(wire_to, write):
    async with Box(NEVER) as box, wire_to(box.url) as wire:
        call = asyncio.create_task(failure(wire, write))
        await box.came.wait()
        await wire.aclose()
        error = await call
        assert (type(error), error.attempts, error.may_have_happened) == (ClientClosed, 1, True)
        afterwards = await failure(wire, write)
        assert (type(afterwards), afterwards.may_have_happened) == (ClientClosed, False)
    assert box.methods == [write.method]


async def test_a_change_that_is_cancelled_is_cancelled_and_its_connection_ended(wire_to, quiet_loop):
    async with quiet_loop(), Box(NEVER) as box, wire_to(box.url) as wire:
        call = asyncio.create_task(wire.ask(POST, read, patient()))
        await box.came.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait(box.serving)
        assert wire.stats().in_flight == 0


async def test_who_waits_for_a_key_as_the_client_is_closed_opens_no_connection(wire_to):
    asked, given = asyncio.Event(), asyncio.Event()

    async def key():
        asked.set()
        await given.wait()
        return "key"

    async with Box() as box, wire_to(box.url, key) as wire:
        call = asyncio.create_task(failure(wire, POST))
        await asked.wait()
        await wire.aclose()
        given.set()
        error = await call
    assert (type(error), error.may_have_happened, box.connections) == (ClientClosed, False, 0)


def test_changes_go_through_one_asyncio_run_after_the_other():
    async def one():
        async with Box() as box:
            wire._base = wire._base._replace(netloc=f"127.0.0.1:{box.port}")
            await wire.ask(POST, read, patient())
            return box.methods, box

    wire = Sender(root="http://127.0.0.1:1", key="key", key_place=BEARER)
    for _ in range(2):
        methods, _box = asyncio.run(one())
        assert methods == ["POST"]


async def test_the_time_that_a_change_takes_teaches_nothing_of_reading(wire_to):
    async with Box() as box, wire_to(box.url, concurrency=4) as wire:
        await wire.ask(GET, read, patient())
        [state] = wire._states.values()
        before = state.gate.limit.latency
        await wire.ask(POST, read, patient())
        assert state.gate.limit.latency == before
        assert wire.stats().answers == 2


# The key --------------------------------------------------------------------------------------------------


def leaks(error):
    """Everything that somebody may get to see of *error*."""
    seen = [str(error), repr(error), repr(vars(error)), pickle.dumps(error).decode("latin-1")]
    seen += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    for other in (error.__cause__, error.__context__):
        if other is not None:
            seen += leaks(other)
    return seen


async def reported(call):
    """What *call* ends with; the frames of its error begin here, where nobody knows the key."""
    try:
        await call
    except (NavTalkError, asyncio.CancelledError) as error:
        return error


keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12).map("CANARY-{}".format)


@given(keys, st.sampled_from(PLACES), st.sampled_from([GET, POST, DELETE]), st.sampled_from([*ENDS, "echo"]))
@settings(max_examples=examples(60))
def test_no_key_of_any_place_comes_to_light(key, place, request_, end):
    async def fail():
        echo = f'Bearer {key} {{"{key}"}} http://x/?apikey={key}'.encode()
        given = answer(echo, 401, "Retry-After: 1") if end == "echo" else ENDS[end][0]
        async with Box(*[given] * 3) as box:
            wire = Sender(root=box.url, key=key, key_place=place, body_limit=1000)
            once = Retry(attempts=1, attempts_at_first=1)
            error = await reported(wire.ask(request_, read, patient(retry=once, timeout=5)))
            seen = [*leaks(error), repr(wire), repr(wire.stats())]
            await wire.aclose()
        return seen

    assert [text for text in asyncio.run(fail()) if "CANARY" in text] == []


async def test_a_client_of_the_key_in_the_query_writes_too(navtalk_sandbox):
    async with NavTalkClient("key", base_url=navtalk_sandbox.navtalk_url) as nt:
        navtalk_sandbox.fail_next("drop")
        with pytest.raises(Disconnected) as caught:
            await nt.ask(Request(path="/api/chat/sessions", method="DELETE"), read)
    assert (caught.value.may_have_happened, navtalk_sandbox.counts.total) == (True, 1)
