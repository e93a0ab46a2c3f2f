"""Over real sockets: an answer is read while it comes, and however it ends, nothing of it stays behind."""

import asyncio
import pickle
import traceback
from contextlib import asynccontextmanager, suppress

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import Retry
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
    RateLimited,
    ServerError,
)
from navtalk_async.events import Answered, Failed
from navtalk_async.models import KeyPlace, Request
from navtalk_async.wire._streamed import CHUNK_BYTES
from navtalk_async.wire.retry import CallOptions
from navtalk_async.wire.sender import Sender

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
BEARER = KeyPlace("header", "Authorization", "Bearer ")
PLACES = [KeyPlace("query", "apikey"), KeyPlace("header", "x-api-key"), BEARER]
POST = Request(path="/stream", method="POST", body=b'{"prompt":"?"}')
GET = Request(path="/stream")
HEAD = b"HTTP/1.1 200 So\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
UNTIL_CLOSED = b"HTTP/1.1 200 So\r\n\r\n"
"""The head of an answer whose end is that of its connection."""


def chunked(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def refusal(status, body=b"no", *headers):
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Box:
    """A server whose connections are the test's: `await box.asked()` is the writer of the next one."""

    def __init__(self):
        self.heads = []
        self.bodies = []
        self.open = 0
        self.most_open = 0
        self.came = asyncio.Queue()
        self.serving = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        # Until every connection is ended: by the client, which therefore leaves none behind.
        await asyncio.gather(*self.serving)

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads.append(head)
            self.bodies.append(await reader.readexactly(len(POST.body) if head.startswith("POST") else 0))
            self.came.put_nowait(writer)
            await reader.read()
        self.open -= 1
        writer.close()

    async def asked(self):
        return await self.came.get()


def refuse(_, response):
    raise refused(response)


def patient(**options):
    return CallOptions(**{"timeout": 30.0, "retry": QUICK} | options)


@asynccontextmanager
async def wired(url, key="key", place=BEARER, **options):
    wire = Sender(root=url, key=key, key_place=place, **options)
    try:
        yield wire
    finally:
        await wire.aclose()


async def entered(wire, box, request=POST, **options):
    """A stream that has begun, its first chunk to come, and the server's writer."""
    stream = wire.stream(request, refuse, patient(**options))
    entering = asyncio.create_task(stream.__aenter__())
    writer = await box.asked()
    writer.write(HEAD)
    return await entering, writer


async def collected(stream):
    """What came, and the error it ended with."""
    came = []
    try:
        async for chunk in stream:
            came.append(chunk)
    except NavTalkError as error:
        return b"".join(came), error
    return b"".join(came), None


async def failure(wire, request=POST, **options):
    with pytest.raises(NavTalkError) as caught:
        async with wire.stream(request, refuse, patient(**options)):
            pass
    return caught.value


async def begun(wire, request=POST, **options):
    async with wire.stream(request, refuse, patient(**options)) as chunks:
        return await collected(chunks)


# What comes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [POST, GET], ids=lambda request: request.method)
async def test_chunks_are_given_as_they_come(request_):
    async with Box() as box, wired(box.url) as wire:
        chunks, writer = await entered(wire, box, request_)
        for sent in (b": hello\n\n", b"data: 1\n\n", b"x" * 1000):
            writer.write(chunked(sent))
            assert await anext(chunks) == sent
        writer.write(END)
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
        with pytest.raises(StopAsyncIteration):
            await anext(chunks)
        assert wire.stats().in_flight == 0
        await chunks.aclose()


async def test_what_came_before_a_death_is_given_also_to_a_slow_reader():
    async with Box() as box, wired(box.url) as wire:
        chunks, writer = await entered(wire, box)
        for sent in (b"data: 1\n\n", b"x" * 1000):
            writer.write(chunked(sent))
        await writer.drain()
        writer.close()
        content = chunks._answer.content
        while content.exception() is None:
            await checkpoint()
        came, error = await collected(chunks)
        assert came == b"data: 1\n\n" + b"x" * 1000
        assert isinstance(error, BrokenBody)
        assert wire.stats().in_flight == 0


async def test_what_is_sent_says_what_is_wanted():
    async with Box() as box, wired(box.url) as wire:
        async with asyncio.TaskGroup() as tasks:
            answer = tasks.create_task(begun(wire))
            writer = await box.asked()
            writer.write(HEAD + END)
        assert answer.result() == (b"", None)
    first, *lines = box.heads[0].strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert (first, box.bodies) == ("POST /stream HTTP/1.1", [POST.body])
    assert headers["accept"] == "text/event-stream, application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Bearer key"


async def test_no_chunk_is_large_however_much_comes_at_once():
    sent = bytes(range(256)) * 4096
    async with Box() as box, wired(box.url) as wire:
        chunks, writer = await entered(wire, box)
        writer.write(chunked(sent) + END)
        sizes = []
        came = b""
        async for chunk in chunks:
            sizes.append(len(chunk))
            came += chunk
        await chunks.aclose()
    assert came == sent
    assert 0 < min(sizes) <= max(sizes) <= CHUNK_BYTES


async def test_a_reader_that_is_slow_holds_the_server_back(until):
    async with Box() as box, wired(box.url) as wire:
        chunks, writer = await entered(wire, box)
        for _ in range(200):
            writer.write(chunked(b"x" * CHUNK_BYTES))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await writer.drain()
                await until(lambda: not writer.transport.get_write_buffer_size())
        assert len(await anext(chunks)) <= CHUNK_BYTES
        await chunks.aclose()


async def test_a_body_that_ends_with_its_length_or_its_connection_ends_well():
    async with Box() as box, wired(box.url) as wire:
        for head in (b"HTTP/1.1 201 So\r\nContent-Length: 2\r\n\r\nhi", b"HTTP/1.1 200 So\r\n\r\nhi"):
            answer = asyncio.create_task(begun(wire))
            writer = await box.asked()
            writer.write(head)
            if b"Length" not in head:
                writer.close()
            assert await answer == (b"hi", None)
        answer = asyncio.create_task(begun(wire))
        (await box.asked()).write(b"HTTP/1.1 204 So\r\n\r\n")
        assert await answer == (b"", None)


KEY = "CANARY-1234567890"


async def test_a_key_that_is_repeated_is_masked_though_it_comes_in_pieces():
    async with Box() as box, wired(box.url, key=KEY) as wire:
        chunks, writer = await entered(wire, box)
        for sent, given_on in (
            (b"data: 1\n\ndata: CANARY", b"data: 1\n\ndata: "),
            (b"-1234567890\n", b"[key]\n"),
        ):
            writer.write(chunked(sent))
            assert await anext(chunks) == given_on
        for sent in (b"CAN", b"ARY", b"-12345678"):
            writer.write(chunked(sent))
        writer.write(chunked(b"X"))
        assert await anext(chunks) == b"CANARY-12345678X"
        await chunks.aclose()


@pytest.mark.parametrize("ends_well", [True, False])
async def test_a_piece_of_the_key_at_the_end_is_masked_before_the_end_is_told(ends_well):
    async with Box() as box, wired(box.url, key=KEY) as wire:
        chunks, writer = await entered(wire, box)
        writer.write(chunked(b"CANARY-12345678") + (END if ends_well else b""))
        writer.close()
        came, error = await collected(chunks)
        assert (came, isinstance(error, BrokenBody)) == (b"[key]", not ends_well)


async def test_a_reader_that_is_cancelled_loses_nothing_that_is_held_back():
    async with Box() as box, wired(box.url, key=KEY) as wire:
        chunks, writer = await entered(wire, box)
        writer.write(chunked(b"CANARY"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(chunks)
        writer.write(chunked(b"!"))
        assert await anext(chunks) == b"CANARY!"
        await chunks.aclose()


async def test_no_chunk_is_large_with_what_was_held_back_either():
    async with Box() as box, wired(box.url, key=KEY) as wire:
        chunks, writer = await entered(wire, box)
        writer.write(chunked(b"CANARY"))
        sent = b"y" * (2 * CHUNK_BYTES)
        writer.write(chunked(sent) + END)
        parts = [chunk async for chunk in chunks]
        await chunks.aclose()
    assert b"".join(parts) == b"CANARY" + sent
    assert max(map(len, parts)) <= CHUNK_BYTES


# How it fails ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("request_", [POST, GET], ids=lambda request: request.method)
async def test_a_death_in_the_middle_gives_what_came_and_then_one_error(request_, way):
    events = []
    async with Box() as box, wired(box.url, observer=events.append) as wire:
        chunks, writer = await entered(wire, box, request_)
        writer.write(chunked(b"one") + chunked(b"two"))
        # What comes with a reset may be lost to the reset.
        came = b""
        while len(came) < 6:
            came += await anext(chunks)
        getattr(writer.transport, way)()
        rest, error = await collected(chunks)
        assert (came + rest, type(error), error.attempts) == (b"onetwo", BrokenBody, 1)
        assert error.may_have_happened == (request_ is POST)
        assert await collected(chunks) == (b"", None)
        stats = wire.stats()
        await chunks.aclose()
    assert (stats.in_flight, stats.answers, stats.retries, len(box.heads)) == (0, 1, 0, 1)
    assert [type(event) for event in events] == [Answered, Failed]
    assert pickle.loads(pickle.dumps(error)).may_have_happened == error.may_have_happened


async def test_a_death_before_it_begins_is_not_asked_again():
    async with Box() as box, wired(box.url) as wire:
        call = asyncio.create_task(failure(wire))
        (await box.asked()).close()
        error = await call
    assert (type(error), error.attempts, error.may_have_happened) == (Disconnected, 1, True)
    assert len(box.heads) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "is_open"),
    [
        (refusal(400, b"too long"), BadRequest, False),
        (refusal(418), ApiError, False),
        (refusal(429, b"", "Retry-After: 3"), RateLimited, False),
        (refusal(500), ServerError, True),
        (refusal(500, b"x" * 2000), BodyTooLarge, True),
        (refusal(500).replace(b"Length: 2", b"Length: 9"), BrokenBody, True),
    ],
    ids=["400", "418", "429", "500", "large", "cut"],
)
async def test_a_refused_one_is_the_error_it_would_be_for_any_call(answer, kind, is_open):
    async with Box() as box, wired(box.url, body_limit=1000) as wire:
        call = asyncio.create_task(failure(wire))
        writer = await box.asked()
        writer.write(answer)
        if kind is BrokenBody:
            writer.close()
        error = await call
        assert wire.stats().in_flight == 0
    assert (type(error), error.attempts, error.may_have_happened) == (kind, 1, is_open)
    assert len(box.heads) == 1


async def test_what_is_no_stream_and_not_refused_is_refused_all_the_same():
    async with Box() as box, wired(box.url) as wire:

        async def ask():
            async with wire.stream(POST, lambda *_: None, patient()):
                pass

        call = asyncio.create_task(ask())
        (await box.asked()).write(refusal(404))
        with pytest.raises(ApiError, match="answered 404"):
            await call


async def test_a_stream_that_reached_nobody_is_asked_again(unused_tcp_port):
    async with wired(f"http://127.0.0.1:{unused_tcp_port}") as wire:
        error = await failure(wire)
        assert wire.stats().retries == error.attempts - 1
    assert (type(error), error.attempts) == (ConnectFailed, QUICK.attempts_at_first)
    assert not error.may_have_happened


# Time -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patience", "kind"),
    [({"attempt_timeout": 1.0}, AttemptTimeout), ({"timeout": 1.0}, DeadlineExceeded)],
    ids=["attempt", "call"],
)
async def test_an_answer_that_does_not_begin_is_late(patience, kind):
    async with Box() as box, wired(box.url) as wire:
        error = await failure(wire, **patience)
        assert (wire.stats().in_flight, asyncio.current_task().cancelling()) == (0, 0)
    assert (type(error), error.may_have_happened, len(box.heads)) == (kind, True, 1)


async def test_a_server_that_falls_silent_is_late_and_what_came_is_given():
    async with Box() as box, wired(box.url) as wire:
        chunks, writer = await entered(wire, box, attempt_timeout=1.0)
        writer.write(chunked(b"data: 1\n\n"))
        came, error = await collected(chunks)
        assert (came, type(error)) == (b"data: 1\n\n", AttemptTimeout)
        assert "Nothing more of the answer of /stream within 1 s" in str(error)
        assert error.may_have_happened
        assert (wire.stats().in_flight, asyncio.current_task().cancelling()) == (0, 0)


async def test_neither_a_slow_reader_nor_a_long_answer_is_late():
    async with Box() as box, wired(box.url) as wire:
        chunks, writer = await entered(wire, box, attempt_timeout=0.2, timeout=0.2)
        # Longer than any wait may be: no timer of ours runs while nobody waits.
        await asyncio.sleep(0.3)
        for number in range(3):
            writer.write(chunked(b"%d" % number))
            assert await anext(chunks) == b"%d" % number
            await asyncio.sleep(0.1)
        writer.write(END)
        assert await collected(chunks) == (b"", None)
        await chunks.aclose()


# How it is left -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["break", "an error", "at once"])
async def test_leaving_early_gives_back_place_and_connection(quiet_loop, until, way):
    async with quiet_loop(), Box() as box, wired(box.url, concurrency=1) as wire:

        async def leave():
            async with wire.stream(POST, refuse, patient()) as chunks:
                if way == "at once":
                    return
                async for _ in chunks:
                    if way == "an error":
                        raise KeyError(way)
                    break

        for _ in range(3):
            call = asyncio.create_task(leave())
            writer = await box.asked()
            writer.write(HEAD + chunked(b"x"))
            await asyncio.wait([call])
            assert isinstance(call.exception(), KeyError) == (way == "an error")
            assert wire.stats().in_flight == 0
            await until(lambda: not box.open)
    assert box.most_open == 1


async def test_a_stream_is_entered_once_and_before_it_is_read():
    async with Box() as box, wired(box.url) as wire:
        unasked = wire.stream(POST, refuse, patient())
        with pytest.raises(RuntimeError, match="async with"):
            await anext(unasked)
        chunks, writer = await entered(wire, box)
        with pytest.raises(RuntimeError, match="entered once"):
            await chunks.__aenter__()
        writer.write(END)
        assert await collected(chunks) == (b"", None)


async def test_who_listens_to_a_stream_keeps_nobody_waiting():
    async with Box() as box, wired(box.url, concurrency=1) as wire:
        chunks, writer = await entered(wire, box)
        assert wire.stats().in_flight == 0
        second = asyncio.create_task(begun(wire))
        (await box.asked()).write(HEAD + END)
        assert await second == (b"", None)
        writer.write(END)
        assert await collected(chunks) == (b"", None)
        await chunks.aclose()
        await chunks.aclose()
        assert wire.stats().in_flight == 0


@pytest.mark.parametrize("where", ["asking", "waiting for a chunk"])
async def test_a_cancelled_stream_is_cancelled(quiet_loop, where):
    async with quiet_loop(), Box() as box, wired(box.url) as wire:
        call = asyncio.create_task(begun(wire))
        writer = await box.asked()
        if where != "asking":
            writer.write(HEAD + chunked(b"x"))
            async with asyncio.timeout(5):
                while not wire.stats().answers:  # noqa: ASYNC110 - nothing tells us of it
                    await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert wire.stats().in_flight == 0
        await asyncio.wait(box.serving)


async def test_who_waited_for_a_chunk_in_vain_may_wait_again():
    async with Box() as box, wired(box.url) as wire:
        chunks, writer = await entered(wire, box)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(chunks)
        writer.write(chunked(b"late"))
        assert await anext(chunks) == b"late"
        await chunks.aclose()


@pytest.mark.parametrize("where", ["asking", "waiting for a chunk", "elsewhere"])
async def test_closing_the_client_ends_a_stream_with_client_closed(where):
    async with Box() as box, wired(box.url) as wire:
        if where == "asking":
            call = asyncio.create_task(failure(wire))
            await box.asked()
            await wire.aclose()
            error = await call
        else:
            chunks, writer = await entered(wire, box)
            writer.write(chunked(b"x"))
            assert await anext(chunks) == b"x"
            call = asyncio.create_task(collected(chunks)) if where != "elsewhere" else None
            await asyncio.sleep(0)
            await wire.aclose()
            _, error = await (call or collected(chunks))
            await chunks.aclose()
    assert (type(error), error.attempts, error.may_have_happened) == (ClientClosed, 1, True)


@pytest.mark.parametrize("head", [HEAD, UNTIL_CLOSED], ids=["chunked", "until closed"])
@pytest.mark.parametrize("turns", range(25))
async def test_a_client_closed_in_any_moment_of_the_begin_leaves_nobody_waiting(turns, head):
    async with Box() as box, wired(box.url) as wire:
        call = asyncio.create_task(begun(wire))
        (await box.asked()).write(head)
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await wire.aclose()
            try:
                came, error = await call
            except ClientClosed as closed:
                came, error = b"", closed
    assert (came, type(error), error.may_have_happened) == (b"", ClientClosed, True)


async def test_a_loop_that_ends_ends_its_streams():
    async with Box() as box, wired(box.url) as wire:

        def elsewhere():
            async def leave_open():
                stream = wire.stream(GET, refuse, patient())
                return await stream.__aenter__()

            return asyncio.run(leave_open())

        call = asyncio.create_task(asyncio.to_thread(elsewhere))
        (await box.asked()).write(HEAD)
        await call
        await asyncio.wait(box.serving)


# The key --------------------------------------------------------------------------------------------------


def leaks(error):
    """Everything that somebody may get to see of *error*."""
    seen = [str(error), repr(error), repr(vars(error))]
    if isinstance(error, NavTalkError):
        seen.append(pickle.dumps(error).decode("latin-1"))
    seen += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    for other in (error.__cause__, error.__context__):
        if other is not None:
            seen += leaks(other)
    return seen


async def told(wire, seen, seconds):
    """What a stream ends with; the frames of its error begin here, where nobody knows the key."""
    try:
        async with asyncio.timeout(3 if seconds else 0.1):
            async with wire.stream(POST, refuse, patient(attempt_timeout=seconds or 60)) as chunks:
                seen.append(repr(chunks))
                async for _ in chunks:
                    pass
                raise KeyError("own")  # noqa: TRY301 - seen through all of it
    except (NavTalkError, KeyError, TimeoutError) as error:
        return error


ENDS = ["well", "cut", "reset", "silent", "cancelled", "echo", "dropped", "late", "closed", "not HTTP"]
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12).map("CANARY-{}".format)


@given(keys, st.sampled_from(PLACES), st.sampled_from(ENDS))
@settings(max_examples=examples(60))
def test_no_key_comes_to_light_however_a_stream_ends(key, place, end):
    async def fail():
        seen = []
        async with Box() as box, wired(box.url, key, place, observer=lambda e: seen.append(repr(e))) as wire:
            seconds = {"cancelled": 0, "silent": 0.05, "late": 0.05}.get(end, 2)
            call = asyncio.create_task(told(wire, seen, seconds))
            writer = await box.asked()
            echo = f'Bearer {key} http://x/?apikey={key} "{key}"'.encode()
            if end == "echo":
                writer.write(refusal(403, echo))
            elif end == "not HTTP":
                writer.write(b"NOT HTTP\r\n\r\n")
            elif end not in {"dropped", "late"}:
                writer.write(HEAD + chunked(b"data: 1\n\n") + (END if end == "well" else b""))
            if end == "closed":
                await asyncio.sleep(0.01)
                await wire.aclose()
            if end in {"cut", "dropped"}:
                writer.close()
            if end == "reset":
                writer.transport.abort()
            error = await call
            seen.append(repr(wire))
        return error, seen + leaks(error)

    error, seen = asyncio.run(fail())
    assert isinstance(error, {"well": KeyError, "cancelled": TimeoutError}.get(end, NavTalkError))
    assert [text for text in seen if "CANARY" in text] == []
