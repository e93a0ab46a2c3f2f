"""The bytes of long answers are bounded together, and every answer still comes."""

import asyncio
import gzip
import json
import threading

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from navtalk_clients import client
from profiles import examples

from navtalk_async import NavTalkClient, SessionPool
from navtalk_async.errors import DeadlineExceeded
from navtalk_async.models import Request
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.wire._bytes_in_flight import BytesInFlight
from navtalk_async.wire.gate import Gate

LONG = json.dumps({"code": 200, "message": "S", "data": {"data": [], "nextCursor": None}, "x": "y" * 200_000})


async def read(every, chunks, peak):
    """A reading of so many *chunks*, each as long as it says."""
    reading = every.begin()
    try:
        for chunk in chunks:
            if not reading.has_room(chunk):
                await reading.room(chunk)
            reading.add(chunk)
            peak[0] = max(peak[0], every.held)
            await checkpoint()
    finally:
        reading.release()


@settings(max_examples=examples(60))
@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), min_size=1, max_size=12),
    st.integers(1, 100),
    st.sets(st.integers(0, 11)),
)
async def test_over_the_limit_only_the_oldest_goes_on_and_all_come(answers, limit, cancelled):
    told, peak = [], [0]
    every = BytesInFlight(limit, told.append, lambda _: None)
    tasks = [asyncio.create_task(read(every, chunks, peak)) for chunks in answers]
    await checkpoint()
    for number in cancelled & set(range(len(tasks))):
        tasks[number].cancel()
    done, _ = await asyncio.wait(tasks, timeout=5)
    assert len(done) == len(tasks)
    assert not [task for task in done if not task.cancelled() and task.exception()]
    assert peak[0] <= limit + max(map(sum, answers))
    assert every.held == 0
    assert told[-1:] in ([], [False])


async def test_a_gate_with_too_many_bytes_lets_one_through_and_what_somebody_waits_for():
    gate = Gate(8, None, 10)
    reading = gate.bytes.begin()
    reading.add(11)
    now = asyncio.get_running_loop().time()
    assert [gate.try_acquire(now) for _ in range(3)] == [True, False, False]
    assert gate.try_acquire(now, 0)
    waiting = asyncio.create_task(gate.acquire())
    await checkpoint()
    reading.release()
    assert await waiting == 3
    gate.close()


def held_by(nt):
    [state] = nt._wire._states.values()
    return state.gate.bytes


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_answers_that_are_longer_than_the_limit_come_one_after_the_other(scripted, encoding):
    body = gzip.compress(LONG.encode()) if encoding else LONG.encode()
    lines = [f"Content-Encoding: {encoding}"] if encoding else []
    async with scripted(body, 200, *lines) as server:
        async with NavTalkClient("k", base_url=server.url, bytes_in_flight=1000, concurrency=8) as nt:
            pages = await asyncio.gather(*(nt.sessions.list() for _ in range(8)))
            assert [page.items for page in pages] == [[]] * 8
            assert held_by(nt).held == 0


@pytest.mark.parametrize("order", ["done", "listed"])
async def test_a_pool_whose_reader_is_slow_holds_no_more_than_the_limit_and_one_session(order):
    world = World(sessions=16, messages=100, long_messages=100)  # of one megabyte each
    async with Sandbox(world) as box, client(box, bytes_in_flight=2_000_000, concurrency=8) as nt:
        async with SessionPool(nt, concurrency=8).transcripts(order=order) as transcripts:
            async for transcript in transcripts:
                for _ in range(50):
                    await checkpoint()
                assert held_by(nt).held <= 5_000_000
                # A reader that asks for more from within does not wait for itself.
                assert (await nt.transcript(transcript.session.id)).messages == transcript.messages
        assert held_by(nt).held == 0


async def test_a_pool_that_is_left_early_gives_back_what_it_held():
    async with Sandbox(World(sessions=20, messages=100, long_messages=100)) as box:
        async with client(box, bytes_in_flight=1_000_000, concurrency=8) as nt:
            async with SessionPool(nt, concurrency=8).transcripts() as transcripts:
                await anext(transcripts)
            assert held_by(nt).held == 0


async def test_the_wait_for_room_ends_with_the_time_for_the_call(scripted):
    async with scripted(LONG.encode()) as server:
        async with NavTalkClient("k", base_url=server.url, bytes_in_flight=1000) as nt:
            await nt.sessions.list()
            oldest = held_by(nt).begin()
            # To wait for room takes nothing of the time for an attempt.
            patient = asyncio.create_task(nt.using(attempt_timeout=0.1).sessions.list().first())
            with pytest.raises(DeadlineExceeded):
                await nt.using(timeout=0.2).sessions.list()
            oldest.release()
            assert await patient is None


@pytest.mark.parametrize("size", [1000, 2_000_000])
async def test_long_answers_are_read_in_a_thread(scripted, size):
    async with scripted(b" " * size + b"{}") as server, NavTalkClient("k", base_url=server.url) as nt:
        thread = await nt.ask(Request(path="/x"), lambda _, __: threading.current_thread())
        assert (thread is threading.main_thread()) is (size < 1_000_000)


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "128MB"])
def test_a_limit_of_bytes_is_a_whole_number(count):
    with pytest.raises(ValueError, match="bytes_in_flight"):
        NavTalkClient("k", bytes_in_flight=count)
