"""A higher lane goes first, and none starves."""

import asyncio

from gate_callers import Caller, now, play, quiet, run

from navtalk_async.wire._learned_concurrency import ENOUGH_FOR_A_LATE_LOOP
from navtalk_async.wire.gate import IN_USE_SECONDS, LANES, OWN_TURN, Gate


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


def in_use(gate, lane, count):
    """Let so many requests of *lane* in."""
    return sum([gate.try_acquire(now(), LANES[lane]) for _ in range(count)])


def test_in_a_late_loop_bulk_makes_way_for_who_is_waited_for_whose_limit_stays():
    async def main():
        gate = Gate("auto")
        gate.limit.now = 200
        assert in_use(gate, "interactive", 1) + in_use(gate, "bulk", 80) == 81
        for _ in range(20):
            gate._timed(1.0)
        assert in_use(gate, "bulk", 1) == 0
        for _ in range(60):
            gate.release(LANES["bulk"])
        assert in_use(gate, "bulk", 100) == ENOUGH_FOR_A_LATE_LOOP - 20
        assert (gate.limit.now, in_use(gate, "interactive", 100)) == (200, 100)
        # Bulk that waits is let in as soon as there is room for bulk, and no sooner.
        waiting = asyncio.create_task(gate.acquire(lane=LANES["bulk"]))
        await quiet()
        gate.release(LANES["interactive"])
        await quiet()
        assert not waiting.done()
        gate.release(LANES["bulk"])
        await waiting

    run(main())


def test_in_a_late_loop_bulk_has_every_place_again_once_nobody_is_waited_for():
    async def main():
        gate = Gate("auto")
        gate.limit.now = 200
        in_use(gate, "interactive", 1)
        gate._timed(1.0)
        await asyncio.sleep(IN_USE_SECONDS + 1)
        gate._timed(0.0)
        assert in_use(gate, "bulk", 300) == 199

    run(main())


def test_bulk_that_made_way_comes_back_step_by_step_while_the_loop_is_not_late():
    async def main():
        gate, rounds = Gate("auto"), 60
        gate.limit.now = 200
        in_use(gate, "interactive", 1)
        gate._timed(0.010)
        for _ in range(rounds):
            gate._timed(0.0)
        assert ENOUGH_FOR_A_LATE_LOOP < in_use(gate, "bulk", 200) <= ENOUGH_FOR_A_LATE_LOOP + rounds

    run(main())
