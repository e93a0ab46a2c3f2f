"""Many at once, bounded."""

import asyncio
import gc

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.concurrency import WINDOW, FanOut, shielded

BATCHES = st.lists(st.lists(st.integers(0, 5), max_size=7), max_size=6)
ORDERS = st.sampled_from(["done", "listed"])
quick = settings(max_examples=examples(60))


async def stream(batches):
    for batch in batches:
        await checkpoint()
        yield batch


def numbered(batches):
    """The same batches, each item with its position in front, so that all items differ."""
    numbers = iter(range(10_000))
    return [[(next(numbers), item) for item in batch] for batch in batches]


class Spy:
    """Work that counts itself, and takes as many turns of the loop as its item says."""

    def __init__(self, failing=()):
        self.running = self.peak = self.begun = 0
        self.failing = failing

    async def work(self, item):
        self.begun += 1
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            for _ in range(item[1]):
                await checkpoint()
            if item[0] in self.failing:
                raise LookupError(item[0])
            return item
        finally:
            self.running -= 1


@quick
@given(BATCHES, st.integers(1, 6), ORDERS)
async def test_every_item_has_one_result_and_no_more_than_at_once_run(batches, at_once, order):
    batches, spy = numbered(batches), Spy()
    async with FanOut(spy.work, stream(batches), at_once=at_once, order=order) as results:
        got = [result async for result in results]
    assert sorted(got) == [item for batch in batches for item in batch]
    assert spy.peak <= at_once


@quick
@given(BATCHES, st.integers(1, 6))
async def test_in_listed_order_results_come_in_the_order_of_the_items(batches, at_once):
    batches = numbered(batches)
    async with FanOut(Spy().work, stream(batches), at_once=at_once, order="listed") as results:
        assert [result async for result in results] == [item for batch in batches for item in batch]


@quick
@given(st.integers(1, 6), ORDERS)
async def test_a_reader_that_takes_nothing_stops_the_work_after_a_few_items(at_once, order):
    spy = Spy()
    async with FanOut(spy.work, stream(numbered([[0] * 500])), at_once=at_once, order=order):
        await wait_all_tasks_blocked()
        assert spy.begun == at_once * WINDOW[order]


@settings(max_examples=examples(30))
@given(BATCHES, st.sets(st.integers(0, 20), max_size=3), st.integers(1, 5))
async def test_all_that_is_ready_comes_at_once_up_to_an_error_and_counts_until_the_next_are_asked_for(
    batches, failing, at_once
):
    batches, spy = numbered(batches), Spy(failing)
    delivered, got, errors = 0, [], 0
    async with FanOut(spy.work, stream(batches), at_once=at_once) as results:
        while True:
            try:
                if not (found := await results.ready()):
                    break
            except LookupError:
                errors += 1
                delivered = len(got) + errors
                continue
            delivered = len(got) + errors
            got += found
            # The reader is slow: what it has in hand counts as what waits for it does.
            await wait_all_tasks_blocked()
            assert spy.begun <= delivered + WINDOW["done"] * at_once
    items = [item for batch in batches for item in batch]
    assert sorted(got) == [item for item in items if item[0] not in failing]
    assert errors == sum(item[0] in failing for item in items)
    assert results.left() == []


async def test_what_is_done_and_was_not_read_is_left_when_a_fan_out_is_left():
    async with FanOut(Spy({2}).work, stream(numbered([[0] * 9])), at_once=3) as results:
        first = await results.ready()
        await wait_all_tasks_blocked()
    assert sorted(first + results.left()) == [(0, 0), (1, 0), (3, 0), (4, 0), (5, 0)]


async def test_in_listed_order_a_slow_first_item_does_not_stop_the_work_on_the_others():
    first = asyncio.Event()

    async def work(item):
        if item == 0:
            await first.wait()
        return item

    async with FanOut(work, stream([list(range(8))]), at_once=2, order="listed") as results:
        await wait_all_tasks_blocked()
        assert repr(results) == "<FanOut [1 in work, 7 done, 0 delivered]>"
        first.set()
        assert [item async for item in results] == list(range(8))


@quick
@given(BATCHES, st.sets(st.integers(0, 30)), st.integers(1, 6))
async def test_an_error_is_raised_in_the_place_of_its_result_and_loses_no_other(batches, failing, at_once):
    batches = numbered(batches)
    got = []
    async with FanOut(Spy(failing).work, stream(batches), at_once=at_once, order="listed") as results:
        while True:
            try:
                got.append((await anext(results))[0])
            except LookupError as error:
                got.append(error.args[0])
            except StopAsyncIteration:
                break
    assert got == [number for batch in batches for number, _ in batch]


async def test_an_error_of_the_listing_comes_after_the_results_of_all_listed_items():
    async def listing():
        yield [1, 2, 3]
        raise ConnectionError

    async def work(item):
        return item

    got = []
    async with FanOut(work, listing(), at_once=2) as results:
        with pytest.raises(ConnectionError):
            async for item in results:
                got.append(item)
    assert sorted(got) == [1, 2, 3]


class Endless:
    """Work that never ends by itself, over a listing that never ends."""

    def __init__(self):
        self.closed = False
        self.stopped = 0

    async def listing(self):
        try:
            while True:
                yield [1, 2, 3]
        finally:
            self.closed = True

    async def work(self, item):
        try:
            if item == 1:
                return item
            await anyio.sleep_forever()
        finally:
            self.stopped += item != 1


async def left_by_break(endless):
    async with FanOut(endless.work, endless.listing(), at_once=4) as results:
        async for _ in results:
            break


async def left_by_an_error(endless):
    with pytest.raises(KeyError, match="mine"):
        async with FanOut(endless.work, endless.listing(), at_once=4) as results:
            await anext(results)
            raise KeyError("mine")


async def left_by_a_timeout(endless):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), FanOut(endless.work, endless.listing(), at_once=4) as results:
            async for _ in results:
                pass


async def left_by_an_outer_scope(endless):
    with anyio.move_on_after(0.01) as scope:
        async with FanOut(endless.work, endless.listing(), at_once=4) as results:
            async for _ in results:
                pass
    assert scope.cancelled_caught


async def left_by_cancellation(endless):
    reached = asyncio.Event()

    async def read():
        async with FanOut(endless.work, endless.listing(), at_once=4) as results:
            await anext(results)
            reached.set()
            async for _ in results:
                pass

    task = asyncio.create_task(read())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "leave",
    [left_by_break, left_by_an_error, left_by_a_timeout, left_by_an_outer_scope, left_by_cancellation],
)
async def test_leaving_a_fan_out_in_any_way_stops_the_rest_and_leaves_no_task(leave):
    noise = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: noise.append(context))
    before = asyncio.all_tasks()
    endless = Endless()
    await leave(endless)
    assert asyncio.all_tasks() == before
    assert endless.closed
    assert endless.stopped > 0
    gc.collect()
    await checkpoint()
    assert noise == []
    assert asyncio.current_task().cancelling() == 0


async def test_a_failing_item_does_not_cancel_what_the_reader_awaits_meanwhile():
    async def work(item):
        raise LookupError(item)

    async with FanOut(work, stream([[1]]), at_once=1) as results:
        await wait_all_tasks_blocked()
        await checkpoint()
        with pytest.raises(LookupError):
            await anext(results)


async def test_a_fan_out_runs_only_once():
    results = FanOut(Spy().work, stream([]), at_once=1)
    async with results:
        pass
    with pytest.raises(RuntimeError, match="once"):
        await results.__aenter__()


@pytest.mark.parametrize("at_once", [0, -1])
def test_an_at_once_below_one_is_refused(at_once):
    with pytest.raises(ValueError, match="at_once"):
        FanOut(Spy().work, stream([]), at_once=at_once)


def test_an_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order"):
        FanOut(Spy().work, stream([]), at_once=1, order="sorted")


async def begun(gate, done):
    await gate.wait()
    done.append(True)
    return 7


async def test_the_result_of_shielded_work_is_returned_or_raised():
    gate = asyncio.Event()
    gate.set()
    assert await shielded(begun(gate, [])) == 7

    async def fail():
        raise ValueError("so")

    with pytest.raises(ValueError, match="so"):
        await shielded(fail())


@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_caller_of_shielded_work_is_cancelled_after_it_is_done(times):
    gate, done = asyncio.Event(), []
    waiting = asyncio.create_task(shielded(begun(gate, done)))
    for _ in range(times):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == [True]


async def test_a_cancelled_scope_waits_for_shielded_work():
    gate, done = asyncio.Event(), []
    with anyio.CancelScope() as scope:
        scope.cancel()
        asyncio.get_running_loop().call_soon(gate.set)
        await shielded(begun(gate, done))
    assert done == [True]


async def test_an_error_of_shielded_work_whose_caller_is_gone_is_silent():
    gate = asyncio.Event()

    async def fail():
        await gate.wait()
        raise ValueError("so")

    waiting = asyncio.create_task(shielded(fail()))
    await asyncio.sleep(0)
    waiting.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
