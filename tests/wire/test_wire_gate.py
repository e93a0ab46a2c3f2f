"""The gate never lets in too many, too fast, or out of turn, whoever comes, waits, leaves or is cancelled."""

import asyncio
import random
from dataclasses import dataclass
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.errors import ClientClosed, DeadlineExceeded
from navtalk_async.rate_headers import Hint
from navtalk_async.wire.gate import (
    BURST_SECONDS,
    IN_USE_SECONDS,
    LANES,
    OWN_TURN,
    Gate,
    checked_concurrency,
)
from navtalk_async.wire.rate import checked_rate

TINY = 1e-6


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer; where nothing can happen any more, it says so."""

    def __init__(self):
        super().__init__()
        self.now = 1000.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready:
            if not self._scheduled:
                raise RuntimeError("Everybody waits, and for nothing.")
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def run(main):
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(main)


def now():
    return asyncio.get_running_loop().time()


async def quiet():
    for _ in range(5):
        await asyncio.sleep(0)


@dataclass
class Caller:
    """One who comes after some time, stays a while, and may be cancelled or out of time before."""

    comes: float
    stays: float
    cancelled_after: float | None = None
    patience: float | None = None
    lane: str = "normal"
    came_as: int = -1
    let_in: float | None = None
    ended: str = ""

    async def call(self, gate, log):
        await asyncio.sleep(self.comes)
        deadline = None if self.patience is None else now() + self.patience
        self.came_as = log.came
        log.came += 1
        try:
            await gate.acquire(deadline, LANES[self.lane])
        except DeadlineExceeded:
            assert now() <= deadline + TINY
            self.ended = "late"
            return
        self.let_in = now()
        assert deadline is None or self.let_in < deadline
        log.entered.append(self)
        log.inside += 1
        log.peak = max(log.peak, log.inside)
        try:
            await asyncio.sleep(self.stays)
        finally:
            log.inside -= 1
            gate.release()
        self.ended = "done"


class Log:
    def __init__(self):
        self.came = self.inside = self.peak = 0
        self.entered = []


async def play(gate, callers, pauses=()):
    log = Log()
    loop = asyncio.get_running_loop()
    tasks = []
    for caller in callers:
        task = asyncio.create_task(caller.call(gate, log))
        tasks.append(task)
        if caller.cancelled_after is not None:
            loop.call_later(caller.cancelled_after, task.cancel)
    for at, seconds in pauses:
        loop.call_later(at, gate.pause, seconds)
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
    return log


moments = st.integers(0, 40).map(lambda n: n / 8)
callers = st.lists(
    st.builds(
        Caller,
        comes=moments,
        stays=moments,
        cancelled_after=st.none() | moments,
        patience=st.none() | moments.filter(bool),
        lane=st.sampled_from(list(LANES)),
    ),
    min_size=1,
    max_size=25,
)
rates = st.none() | st.sampled_from([0.5, 2.0, 7.0, 100.0])
pauses = st.lists(st.tuples(moments, moments), max_size=3)


@pytest.mark.slow
@given(callers, st.integers(1, 5), rates, pauses)
@settings(max_examples=examples(80))
def test_whoever_comes_and_goes_the_gate_keeps_its_rules(crowd, at_once, rate, stops):
    gate = Gate(at_once, rate)
    log = run(play(gate, crowd, stops))
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
    gate = Gate(at_once, rate)
    log = run(play(gate, [Caller(comes=0, stays=1) for _ in range(count)]))
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


# Refusals, pauses and hints -------------------------------------------------------------------------------


class Refusing:
    """Takes *cap* at once, or *rate* a second; refuses the others quickly, and wants a second's pause."""

    def __init__(self, *, cap=10_000, rate=10_000, latency=0.1, jitter=0.0, seed=0):
        self.cap, self.rate, self.latency, self.jitter = cap, rate, latency, jitter
        self.dice = random.Random(seed)
        self.inside = self.asked = self.refused = 0
        self.second, self.counted = 0, 0
        self.next_at = 0.0

    async def answer(self):
        """Whether it is a good one."""
        # One after the other comes out of our loop, and each is on its way for a millisecond or so.
        self.next_at = max(self.next_at, now()) + 0.0004
        await asyncio.sleep(self.next_at - now() + self.dice.uniform(0.0005, 0.0015))
        self.asked += 1
        if int(now()) != self.second:
            self.second, self.counted = int(now()), 0
        good = self.counted < self.rate and self.inside < self.cap
        if good:
            self.counted += 1
            self.inside += 1
            await asyncio.sleep(self.latency + self.dice.uniform(0, self.jitter))
            self.inside -= 1
        self.refused += not good
        await asyncio.sleep(self.dice.uniform(0.0005, 0.0015))
        return good


async def call(gate, server):
    """One call, as the wire makes it: until it is answered."""
    good = attempts = 0
    while not good:
        place, sent_at = await gate.acquire(first=attempts > 0), now()
        attempts += 1
        good = await server.answer()
        if good:
            gate.answered(now(), sent_at, place)
        else:
            contradicts_cap = gate.limit.refused(now(), sent_at, place)
            gate.count_refusal(now(), sent_at)
            gate.pause(1 + server.dice.uniform(0, 0.1), least=1.0)
            paused = gate.paused_for(now())
            gate.learned_rate.refused(now(), sent_at, paused, rank=place, cap=not contradicts_cap)
        gate.release()


async def play_steadily(gate, server, seconds, callers=300):
    """The good answers a second in the second half of so many *seconds*, and the share of refusals in it."""
    good, end = 0, now() + seconds

    async def caller():
        nonlocal good
        while now() < end:
            await call(gate, server)
            good += now() > end - seconds / 2

    tasks = [asyncio.create_task(caller()) for _ in range(callers)]
    await asyncio.sleep(seconds / 2)
    asked, refused = server.asked, server.refused
    await asyncio.wait(tasks)
    return good / (seconds / 2), (server.refused - refused) / (server.asked - asked)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("cap", "latency", "jitter"), [(4, 0.03, 0.0), (64, 0.1, 0.0), (64, 0.05, 0.1), (24, 0.05, 0.1)]
)
def test_a_cap_that_wants_pauses_is_found_and_not_taken_for_a_rate(cap, latency, jitter, seed):
    async def main():
        gate = Gate("auto")
        throughput, refused = await play_steadily(
            gate, Refusing(cap=cap, latency=latency, jitter=jitter, seed=seed), 10
        )
        assert gate.rate(now()) is None
        assert throughput >= 0.9 * cap / (latency + jitter / 2 + 0.003)
        assert refused < 0.03

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_that_wants_pauses_is_found_with_few_refusals(seed):
    async def main():
        server = Refusing(rate=40, latency=0.01, seed=seed)
        gate, began = Gate("auto"), now()
        await asyncio.gather(*(call(gate, server) for _ in range(300)))
        assert now() - began <= 1.3 * 7
        assert server.asked <= 1.2 * 300

    run(main())


def test_a_volley_of_refusals_counts_once():
    async def main():
        gate = Gate("auto")
        sent_at = now()
        await asyncio.sleep(1)
        assert [gate.count_refusal(now(), sent_at) for _ in range(50)] == [1] * 50
        await asyncio.sleep(1)
        assert gate.count_refusal(now(), now()) == 2
        await gate.acquire()
        gate.answered(now(), now(), 1)
        gate.release()
        await asyncio.sleep(1)
        assert gate.count_refusal(now(), now()) == 1

    run(main())


@pytest.mark.parametrize("sign_of_life", ["answered", "coped"])
def test_after_refusals_in_a_row_one_at_a_time_finds_out_whether_the_server_is_back(sign_of_life):
    async def main():
        gate = Gate(5)
        for _ in range(2):
            gate.count_refusal(now(), now())
            await asyncio.sleep(1)
        waiting = [asyncio.create_task(gate.acquire()) for _ in range(5)]
        await quiet()
        assert (gate.in_flight, gate.waiting) == (1, 4)
        gate.answered(now(), now(), 1) if sign_of_life == "answered" else gate.coped()
        gate.release()
        await asyncio.gather(*waiting)
        assert gate.in_flight == 4

    run(main())


def test_no_more_are_in_flight_than_the_server_says_remain_until_the_reset():
    async def main():
        gate = Gate(10)
        await gate.acquire()
        gate.answered(now(), now(), 1, Hint(remaining=3, seconds=5))
        gate.release()
        log = await play(gate, [Caller(comes=0, stays=1) for _ in range(9)])
        assert log.peak == 3
        await asyncio.sleep(5)
        gate.answered(now(), now(), 1)
        log = await play(gate, [Caller(comes=0, stays=1) for _ in range(9)])
        assert log.peak == 9

    run(main())


def test_when_nothing_remains_nothing_is_asked_until_the_reset():
    async def main():
        gate = Gate(10)
        await gate.acquire()
        gate.answered(now(), now(), 1, Hint(remaining=0, seconds=5))
        gate.release()
        await gate.acquire()
        return now()

    assert run(main()) == 1005


def test_a_hint_that_overtook_another_is_not_forgotten():
    async def main():
        gate = Gate(10)
        await gate.acquire()
        for remaining in (5, 2, 4):
            gate.answered(now(), now(), 1, Hint(remaining=remaining, seconds=5))
        gate.release()
        log = await play(gate, [Caller(comes=0, stays=1) for _ in range(9)])
        assert log.peak == 2

    run(main())


def test_what_a_wait_had_of_pauses_can_be_told():
    async def main():
        gate, seen = Gate(1), []
        for at, seconds in ((0, 2), (1, 3), (6, 1)):
            asyncio.get_running_loop().call_later(at, gate.pause, seconds)
        for _ in range(9):
            seen.append(gate.paused_seconds(now()))
            await asyncio.sleep(1)
        return seen

    assert run(main()) == [0, 1, 2, 3, 4, 4, 4, 5, 5]


# Lanes ----------------------------------------------------------------------------------------------------


def lane_order(arrivals, at_once=1):
    """The lanes in the order in which they are let in, where all come while the gate is full."""

    async def main():
        gate, order = Gate(at_once), []
        await asyncio.gather(*(gate.acquire(lane=0) for _ in range(at_once)))

        async def call(lane, *, first):
            await gate.acquire(lane=LANES[lane], first=first)
            order.append(lane)
            await asyncio.sleep(1)
            gate.release()

        tasks = []
        for lane, first in arrivals:
            tasks.append(asyncio.create_task(call(lane, first=first)))
            await quiet()
        for _ in range(at_once):
            gate.release()
        await asyncio.gather(*tasks)
        return order

    return run(main())


def test_a_higher_lane_goes_first():
    came = [
        ("bulk", False),
        ("normal", False),
        ("interactive", False),
        ("bulk", False),
        ("interactive", False),
    ]
    assert lane_order(came) == ["interactive", "interactive", "normal", "bulk", "bulk"]


def test_who_comes_again_goes_first_in_its_own_lane_only():
    assert lane_order([("normal", False), ("bulk", True)]) == ["normal", "bulk"]


def test_a_lane_does_not_starve_under_a_flood_of_higher_ones():
    order = lane_order([("bulk", False)] * 3 + [("normal", False)] * 100)
    assert order.index("bulk") <= 2 * OWN_TURN


def test_bulk_alone_has_every_place():
    async def main():
        gate = Gate(8)
        log = await play(gate, [Caller(comes=0, stays=1, lane="bulk") for _ in range(20)])
        assert log.peak == 8

    run(main())


def test_beside_a_higher_lane_bulk_leaves_a_place_free_for_it():
    async def main():
        gate = Gate(8)
        await gate.acquire(lane=LANES["interactive"])
        gate.release()
        bulk = [asyncio.create_task(gate.acquire(lane=LANES["bulk"])) for _ in range(20)]
        await quiet()
        assert (gate.in_flight, gate.waiting) == (7, 13)
        assert gate.try_acquire(now(), LANES["interactive"])
        gate.release()
        await asyncio.sleep(IN_USE_SECONDS + 1)
        assert gate.in_flight == 8
        gate.close()
        await asyncio.wait(bulk)
        for task in bulk:
            task.exception()

    run(main())


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
