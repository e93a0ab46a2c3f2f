"""The gate never lets in too many, too fast, or out of turn, whoever comes, waits, leaves or is cancelled."""

import asyncio
from itertools import combinations

import pytest
from gate_callers import TINY, Caller, callers, moments, now, pauses, play, quiet, rates, run
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.errors import ClientClosed, DeadlineExceeded
from navtalk_async.wire.gate import BURST_SECONDS, Gate, checked_concurrency
from navtalk_async.wire.rate import checked_rate


async def played(at_once, rate, crowd, stops=()):
    gate = Gate(at_once, rate)
    return gate, await play(gate, crowd, stops)


@pytest.mark.slow
@given(callers, st.integers(1, 5), rates, pauses)
@settings(max_examples=examples(80))
def test_whoever_comes_and_goes_the_gate_keeps_its_rules(crowd, at_once, rate, stops):
    gate, log = run(played(at_once, rate, crowd, stops))
    assert log.peak <= at_once
    assert gate.in_flight == log.inside == 0
    # Who is let in runs one turn of the loop later; at the very same moment, a newcomer may be seen first.
    for one, other in combinations(sorted(log.entered, key=lambda caller: caller.came_as), 2):
        if one.lane == other.lane:
            assert one.let_in <= other.let_in
    for caller in crowd:
        assert caller.ended or caller.cancelled_after is not None
    if rate is not None:
        for (i, one), (j, other) in combinations(enumerate(log.entered), 2):
            assert j - i <= rate * (other.let_in - one.let_in + BURST_SECONDS) + 1 + TINY
    for at, seconds in stops:
        for caller in log.entered:
            assert not 1000 + at < caller.let_in < 1000 + at + seconds - TINY


@given(st.integers(1, 5), rates, st.integers(1, 30))
@settings(max_examples=examples(50))
def test_nobody_waits_longer_than_the_rules_demand(at_once, rate, count):
    _, log = run(played(at_once, rate, [Caller(comes=0, stays=1) for _ in range(count)]))
    by_room = (count - 1) // at_once
    by_rate = 0 if rate is None else (count - 1) / rate
    assert log.entered[-1].let_in - 1000 <= max(by_room, by_rate) + by_room * BURST_SECONDS + (
        at_once if rate else 0
    )


def test_a_gate_with_room_lets_in_at_once():
    async def main():
        gate = Gate(2)
        await gate.acquire()
        await gate.acquire()
        assert now() == 1000
        assert repr(gate) == "<Gate [2 in flight, 0 waiting] <Limit 2 of 2>>"

    run(main())


def test_who_was_let_in_before_goes_before_those_who_wait():
    async def main():
        gate, order = Gate(1), []

        async def call(name, *, first=False):
            await gate.acquire(first=first)
            order.append(name)
            gate.release()

        await gate.acquire()
        tasks = [asyncio.create_task(call("a")), asyncio.create_task(call("b"))]
        await quiet()
        tasks.append(asyncio.create_task(call("again", first=True)))
        await quiet()
        gate.release()
        await asyncio.gather(*tasks)
        return order

    assert run(main()) == ["again", "a", "b"]


def test_a_pause_ends_by_itself_when_the_one_who_met_the_429_is_cancelled():
    async def main():
        gate = Gate(4)

        async def met_a_429():
            await gate.acquire()
            gate.release()
            gate.pause(5)
            await gate.acquire(first=True)

        async def other():
            await gate.acquire()
            return now()

        unlucky = asyncio.create_task(met_a_429())
        await quiet()
        others = [asyncio.create_task(other()) for _ in range(4)]
        await quiet()
        unlucky.cancel()
        return await asyncio.gather(*others)

    assert run(main()) == [1005.0] * 4


@given(st.lists(st.tuples(moments, moments), min_size=1, max_size=6))
@settings(max_examples=examples(50))
def test_the_longest_of_several_pauses_holds(stops):
    async def main():
        gate = Gate(1)
        for _, seconds in stops:
            gate.pause(seconds)
        await gate.acquire()
        return now() - 1000

    assert run(main()) == pytest.approx(max(seconds for _, seconds in stops))


def test_a_shorter_pause_is_no_news():
    async def main():
        gate = Gate(1)
        return gate.pause(2), gate.pause(1), gate.pause(3)

    assert run(main()) == (True, False, True)


def test_a_call_that_cannot_outlast_the_pause_is_told_at_once():
    async def main():
        gate = Gate(1)
        gate.pause(3600)
        with pytest.raises(DeadlineExceeded, match=r"no request for another 3600 s; this call has 0\.5 s"):
            await gate.acquire(now() + 0.5)
        return now()

    assert run(main()) == 1000


def test_a_call_whose_time_is_over_is_not_let_in_even_where_there_is_room():
    async def main():
        gate = Gate(1)
        for deadline in (now(), now() - 1):
            with pytest.raises(DeadlineExceeded):
                await gate.acquire(deadline)
        assert gate.in_flight == 0

    run(main())


def test_a_turn_that_comes_when_a_busy_loop_has_slept_past_the_deadline_is_given_back():
    async def main():
        gate, loop = Gate(1), asyncio.get_running_loop()
        await gate.acquire()
        late = asyncio.create_task(gate.acquire(now() + 1))
        next_one = asyncio.create_task(gate.acquire())
        await quiet()
        gate.release()
        loop.now += 5  # what blocked the loop for five seconds
        with pytest.raises(DeadlineExceeded):
            await late
        await next_one
        assert gate.in_flight == 1

    run(main())


def test_closing_wakes_everyone_with_client_closed():
    async def main():
        gate = Gate(1)
        await gate.acquire()
        waiting = [
            *(asyncio.create_task(gate.acquire()) for _ in range(5)),
            asyncio.create_task(gate.acquire(now() + 9)),
            *(asyncio.create_task(gate.rest(100)) for _ in range(3)),
        ]
        await quiet()
        gate.close()
        gate.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [ClientClosed] * 9
        assert now() == 1000

    run(main())


def test_a_closed_gate_lets_nobody_in_and_nobody_rest():
    async def main():
        gate = Gate(1)
        gate.close()
        for wait in (gate.acquire(), gate.acquire(now() + 1), gate.rest(1)):
            with pytest.raises(ClientClosed):
                await wait

    run(main())


def test_closing_a_paused_gate_wakes_those_behind_the_pause():
    async def main():
        gate = Gate(3)
        gate.pause(100)
        waiting = [asyncio.create_task(gate.acquire()) for _ in range(3)]
        await quiet()
        gate.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(end) for end in ends] == [ClientClosed] * 3

    run(main())


def test_who_has_left_or_run_out_of_time_waits_no_more():
    async def main():
        gate = Gate(1)
        await gate.acquire()
        crowd = [asyncio.create_task(gate.acquire(deadline)) for deadline in (None, None, now() + 1, None)]
        await quiet()
        assert gate.waiting == 4
        crowd[1].cancel()
        await asyncio.wait(crowd[1:3])
        assert gate.waiting == 2
        gate.release()
        await crowd[0]
        assert (gate.in_flight, gate.waiting) == (1, 1)
        crowd[3].cancel()
        await asyncio.wait(crowd[3:])
        gate.release()
        assert gate.try_acquire(now())
        assert (gate.in_flight, gate.waiting) == (1, 0)

    run(main())


def test_who_is_let_in_and_cancelled_in_the_same_moment_gives_the_place_away():
    async def main():
        gate = Gate(1)
        await gate.acquire()
        unlucky = asyncio.create_task(gate.acquire())
        next_one = asyncio.create_task(gate.acquire())
        await quiet()
        gate.release()
        unlucky.cancel()
        await next_one
        assert unlucky.cancelled()
        assert gate.in_flight == 1

    run(main())


def test_a_rest_can_be_cancelled():
    async def main():
        gate = Gate(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await gate.rest(100)
        assert now() == 1001
        await gate.rest(2)
        assert now() == 1003

    run(main())


def test_a_late_timer_does_not_cost_throughput():
    async def main():
        gate, loop = Gate(50, 100.0), asyncio.get_running_loop()
        for _ in range(1000):
            await gate.acquire()
            gate.release()
            loop.now += 0.004  # everything takes a little
        return 1000 / (now() - 1000)

    assert 95 < run(main()) <= 101


@pytest.mark.parametrize("wrong", [0, -1, "many", None, 1.5, True])
def test_a_concurrency_that_is_neither_auto_nor_a_number_is_refused(wrong):
    with pytest.raises(ValueError, match="concurrency="):
        checked_concurrency(wrong)


@pytest.mark.parametrize("wrong", [0, -1.0, float("nan")])
def test_a_rate_that_lets_nothing_through_is_refused(wrong):
    with pytest.raises(ValueError, match="rate="):
        checked_rate(wrong)


@pytest.mark.parametrize("right", [1, 64, "auto"])
def test_a_concurrency_of_one_or_more_or_auto_is_taken(right):
    assert checked_concurrency(right) == right
