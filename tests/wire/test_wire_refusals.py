"""The gate finds what a server refuses, pauses as it asks, and obeys what its headers announce."""

import asyncio
import random

import pytest
from gate_callers import Caller, now, play, quiet, run

from navtalk_async.rate_headers import Hint
from navtalk_async.wire.gate import Gate


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
            gate.pause(1 + server.dice.uniform(0, 0.1), at_least=1.0)
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
