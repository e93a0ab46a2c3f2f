"""The limit finds what a server can use, whatever kind of server it is; all in a time of its own."""

import heapq
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.wire._learned_concurrency import (
    AFTER_A_PAUSE,
    ASKED_START,
    ENOUGH_FOR_A_LATE_LOOP,
    LATE_SECONDS,
    START,
    LearningLimit,
    Limit,
)

MOST = 256


class Server:
    """What a request is answered with, and when: told by how many are in there with it."""

    def __init__(self, latency=0.05, jitter=0.3, faults=0.0, seed=0):
        self.latency, self.jitter, self.faults = latency, jitter, faults
        self.dice = random.Random(seed)
        self.inside = 0
        self.now = 0.0

    def answer(self):
        """Whether it is a good one, and the seconds it takes."""
        self.inside += 1
        seconds = self.latency * (1 + self.dice.uniform(-self.jitter, self.jitter))
        return self.good() and self.dice.random() >= self.faults, seconds * self.slowness()

    def good(self):
        return True

    def slowness(self):
        return 1.0


class Capped(Server):
    """Refuses what is more than *cap* at once."""

    def __init__(self, cap, **options):
        super().__init__(**options)
        self.cap = cap

    def good(self):
        return self.inside <= self.cap

    def slowness(self):
        return 1.0 if self.good() else 0.05


class Queueing(Server):
    """Has so many workers; the rest waits."""

    def __init__(self, workers, **options):
        super().__init__(**options)
        self.workers = workers

    def slowness(self):
        return max(1.0, self.inside / self.workers)


class Thrashing(Queueing):
    """Gets less done the more it is asked."""

    def slowness(self):
        return 1.0 + (self.inside / self.workers) ** 2


class Bending(Queueing):
    """As quick as can be with so many at once; each one more takes a tenth off."""

    def slowness(self):
        return 1.0 + 0.1 * max(0, self.inside - self.workers)


class Steady:
    """A limit that is what it is: the best fixed setting, to compare with."""

    def __init__(self, now):
        self.now = now

    def answered(self, *_, **__):
        pass

    refused = answered


def play(limit, server, calls, demand=MOST * 2):
    """The seconds that *calls* take, and the share of refusals in the second half of them."""
    begin = now = server.now
    number, waiting, done, late, in_flight = 0, calls, 0, 0, 0
    coming = []
    while done < calls:
        while waiting and in_flight < min(limit.now, demand):
            waiting, in_flight, number = waiting - 1, in_flight + 1, number + 1
            good, seconds = server.answer()
            heapq.heappush(coming, (now + seconds, number, good, now, in_flight))
        now, _, good, sent_at, place = heapq.heappop(coming)
        if sent_at is None:
            waiting += 1
            continue
        server.inside -= 1
        if good:
            done += 1
            limit.answered(now, sent_at, place, full=in_flight >= limit.now)
        else:
            late += done > calls / 2
            limit.refused(now, sent_at, place)
            number += 1
            heapq.heappush(coming, (now + server.dice.random() / 4, number, False, None, 0))
        in_flight -= sent_at is not None
    server.now, server.inside = now, 0
    return now - begin, late / (calls / 2)


SERVERS = {
    "capped at 4": (lambda: Capped(4), 4),
    "capped at 64": (lambda: Capped(64), 64),
    "8 workers": (lambda: Queueing(8), 8),
    "64 workers": (lambda: Queueing(64), 64),
    "thrashing over 8": (lambda: Thrashing(8), 8),
    "thrashing over 32": (lambda: Thrashing(32), 32),
    "thrashing over 64": (lambda: Thrashing(64), 64),
    "very wide": (lambda: Queueing(10_000), MOST),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SERVERS)
def test_the_limit_comes_near_the_best_fixed_one_and_is_hardly_ever_refused(name, seed):
    make, best = SERVERS[name]
    server = make()
    server.dice = random.Random(seed)
    fixed, _ = play(Steady(best), make(), 20_000)
    learned, refused = play(LearningLimit(MOST), server, 20_000)
    assert fixed / learned >= 0.9
    assert refused < 0.03


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("best", [16, 40, 64])
def test_where_only_one_limit_is_the_best_it_settles_near_that(best, seed):
    limit, server = LearningLimit(MOST), Bending(best, seed=seed)
    play(limit, server, 6_000)
    fixed, _ = play(Steady(best), Bending(best), 20_000)
    learned, _ = play(limit, server, 20_000)
    assert fixed / learned >= 0.9


@pytest.mark.parametrize("name", ["8 workers", "64 workers", "very wide"])
def test_faults_of_chance_are_not_taken_for_overload(name):
    make, best = SERVERS[name]
    calm, shaken = make(), make()
    calm.faults = shaken.faults = 0.1
    fixed, _ = play(Steady(best), calm, 20_000)
    learned, _ = play(LearningLimit(MOST), shaken, 20_000)
    assert fixed / learned >= 0.7


def test_a_cap_that_sinks_is_followed():
    limit, server = LearningLimit(MOST), Capped(64)
    play(limit, server, 5_000)
    server.cap = 12
    play(limit, server, 3_000)
    _, refused = play(limit, server, 5_000)
    assert limit.now <= 16
    assert refused < 0.03


def test_a_cap_that_rises_is_found():
    limit, server = LearningLimit(MOST), Capped(8)
    play(limit, server, 3_000)
    server.cap = 64
    play(limit, server, 20_000)
    assert limit.now >= 48


def test_after_a_named_pause_the_limit_is_what_the_server_was_full_with():
    limit = LearningLimit(MOST)
    limit.expect(80)
    limit.answered(0.1, 0.0, 75, full=True)  # by luck: the server had room again, and we did not know yet
    limit.refused(0.2, 0.15, 78)
    limit.paused(0.2, 1.0, named=True)
    for _ in range(64):
        limit.answered(0.25, 0.15, 70, full=True)
    assert limit.now == AFTER_A_PAUSE
    for _ in range(100):
        limit.answered(1.4, 1.3, limit.now, full=True)
    assert limit.now == 64


def test_a_server_that_refuses_all_there_is_at_once_does_not_lower_the_limit_for_that():
    limit = LearningLimit(MOST)
    limit.refused(0.2, 0.15, START)
    limit.paused(0.2, 1.0, named=True)
    for _ in range(3):
        limit.answered(0.25, 0.15, 3, full=False)
    for _ in range(START):
        limit.answered(1.4, 1.3, limit.now, full=True)
    assert limit.now == START - 1


@pytest.mark.parametrize("demand", [1, 3, 10])
def test_a_client_with_few_calls_learns_nothing_from_that(demand):
    limit = LearningLimit(MOST)
    play(limit, Server(), 3_000, demand=demand)
    assert limit.now == START


def test_a_refusal_at_a_place_that_was_good_contradicts_a_cap():
    for limit in (LearningLimit(MOST), Limit(64)):
        assert not limit.refused(0.5, 0.0, 5)
        limit.answered(1.0, 0.5, 4, full=True)
        assert limit.refused(2.0, 1.5, 4)


def test_the_first_volley_of_refusals_says_where_the_cap_is():
    limit = LearningLimit(MOST)
    for place in (9, 7, 12, 16):
        limit.refused(0.5, 0.0, place)
    assert limit.now == 6


@pytest.mark.parametrize("limit", [LearningLimit(MOST), Limit(64)])
def test_after_a_pause_that_the_server_named_it_begins_low_and_comes_back(limit):
    limit.paused(1.0, 5.0, named=True)
    assert limit.now == AFTER_A_PAUSE
    for _ in range(2 * START):
        limit.answered(6.1, 6.0, limit.now, full=True)
    assert limit.now >= START


outcomes = st.lists(
    st.tuples(st.sampled_from(["good", "refused", "paused"]), st.floats(0.001, 1), st.integers(0, 40)),
    max_size=300,
)


@given(st.sampled_from([1, 2, 5, 40, MOST]), st.booleans(), outcomes)
def test_whatever_happens_the_limit_stays_between_one_and_its_most(most, learns, story):
    limit, now = (LearningLimit if learns else Limit)(most), 0.0
    for what, seconds, below in story:
        now, place = now + seconds, max(1, limit.now - below)
        if what == "good":
            limit.answered(now, now - seconds, place, full=not below)
        elif what == "refused":
            limit.refused(now, now - seconds, place)
        else:
            limit.paused(now, seconds, named=bool(below % 2))
        assert 1 <= limit.now <= most


def test_a_job_that_says_how_many_it_wants_begins_with_them_where_nothing_is_known():
    limit = LearningLimit(256)
    limit.expect(100)
    assert limit.now == 100
    limit.expect(20)
    assert limit.now == 100
    limit.expect(1000)
    assert limit.now == ASKED_START
    limit.refused(1.0, 0.9, 5)
    learned = limit.now
    assert learned < 5
    limit.expect(100)
    assert limit.now == learned


@given(st.integers(1, 400))
def test_a_fixed_limit_is_reached_from_a_slow_start(most):
    limit = Limit(most)
    assert limit.now == min(most, ASKED_START)
    for _ in range(2 * most):
        limit.answered(0.1, 0.0, limit.now, full=True)
    assert limit.now == most


@pytest.mark.parametrize("limit", [LearningLimit(256), Limit(64)], ids=repr)
def test_answers_that_are_not_typical_count_but_their_time_does_not(limit):
    for number in range(200):
        untypical = number % 2 == 0
        took = 60.0 if untypical else 0.1
        limit.answered(number, number - took, 1, full=False, is_typical=not untypical)
    assert limit.latency == pytest.approx(0.1, rel=0.01)
    assert limit.proven == 1


def beside(seconds_each):
    """A limit in an event loop that takes so many seconds for each request that is ready at once."""
    limit = LearningLimit(MOST, lambda: limit.lagged(limit.now * seconds_each))
    return limit


@pytest.mark.parametrize("seed", range(3))
def test_where_the_event_loop_runs_late_the_limit_goes_down_to_32(seed):
    limit = beside(0.001)
    limit.expect(ASKED_START)
    play(limit, Queueing(10_000, seed=seed), 10_000)
    assert limit.now == ENOUGH_FOR_A_LATE_LOOP


def test_the_limit_is_what_the_loop_can_bear_and_grows_again_when_it_can_bear_more():
    limit, server = beside(LATE_SECONDS / 80), Queueing(10_000)
    play(limit, server, 40_000)
    assert 32 <= limit.now <= 160
    limit._on_round = lambda: limit.lagged(0.0)
    play(limit, server, 40_000)
    assert limit.now == MOST


def test_a_limit_of_few_is_not_lowered_for_a_late_loop():
    limit, steady = beside(1.0), LearningLimit(MOST)
    for each in (limit, steady):
        play(each, Capped(4), 5_000)
    assert limit.now == steady.now
