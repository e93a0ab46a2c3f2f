"""Over real sockets: an answer is read while it comes, and however it ends, nothing of it stays behind."""

import asyncio

import pytest
from anyio.lowlevel import checkpoint
from streaming import END, GET, HEAD, POST, Box, begun, chunked, collected, entered, wired

from navtalk_async.errors import BrokenBody
from navtalk_async.wire._streamed import CHUNK_BYTES


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
