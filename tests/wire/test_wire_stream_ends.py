"""Over real sockets: however a stream ends, its reader gets what came, and then one error without the key."""

import asyncio
import gc
import pickle
import traceback
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from streaming import (
    END,
    GET,
    HEAD,
    PLACES,
    POST,
    QUICK,
    UNTIL_CLOSED,
    Box,
    begun,
    chunked,
    collected,
    entered,
    failure,
    patient,
    refusal,
    refuse,
    wired,
)

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
from navtalk_async.events import Answered, Failed, Sent, Started


@pytest.mark.parametrize("way", ["close", "abort"])
@pytest.mark.parametrize("request_", [POST, GET], ids=lambda request: request.method)
async def test_a_death_in_the_middle_gives_what_came_and_then_one_error(request_, way):
    events = []
    async with Box() as box, wired(box.url, observers=[events.append]) as wire:
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
    assert [type(event) for event in events] == [Started, Sent, Answered, Failed]
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
        del call
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()  # Whoever leaves a stream open is warned by aiohttp.


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


async def reported(wire, seen, seconds):
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
        async with (
            Box() as box,
            wired(box.url, key, place, observers=[lambda e: seen.append(repr(e))]) as wire,
        ):
            seconds = {"cancelled": 0, "silent": 0.05, "late": 0.05}.get(end, 2)
            call = asyncio.create_task(reported(wire, seen, seconds))
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
