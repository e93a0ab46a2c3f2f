"""The rate that a server allows is found out from its refusals, and nothing else is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.wire.rate import HOLD, RateEstimator


def cycle(pace, begin, *, accepted, running, pause, cap=False, rank=1, served=0):
    """One stretch from *begin* to the end of its pause, when the next one begins; of what is accepted, so
    much is *served* after the refusal.
    """
    if not pace.is_running:
        pace.began(begin)
    pace.accepted += accepted - served
    pace.refused(begin + running, begin + running, pause, rank=rank, cap=cap)
    pace.accepted += served
    end = begin + running + pause
    pace.began(end)
    return end


@given(st.integers(16, 1000), st.floats(0.0, 0.2), st.floats(0.5, 60))
def test_what_was_let_through_from_pause_to_pause_gives_the_rate(accepted, part, pause):
    pace = RateEstimator()
    end = cycle(pace, 100.0, accepted=accepted, running=part * pause, pause=pause)
    assert 0.85 * accepted / pause <= pace.rate(end) <= accepted / pause


def test_a_cap_gives_no_rate():
    pace = RateEstimator()
    assert pace.rate(cycle(pace, 0, accepted=100, running=0.1, pause=1, cap=True)) is None


def test_a_server_that_was_full_when_it_refused_has_a_cap_until_it_refuses_so_again():
    pace = RateEstimator()
    end = cycle(pace, 0, accepted=100, running=0.1, pause=1, rank=20, served=19)
    assert pace.rate(end) is None
    assert pace.rate(cycle(pace, end, accepted=100, running=0.1, pause=1, rank=20, served=19))


def test_a_server_that_had_nothing_else_to_do_when_it_refused_counts_by_time():
    pace = RateEstimator()
    assert pace.rate(cycle(pace, 0, accepted=100, running=0.1, pause=1, rank=20, served=9))


@pytest.mark.parametrize(("running", "pause"), [(0.3, 0.1), (60, 1)])
def test_pauses_that_take_little_of_the_time_give_no_rate(running, pause):
    pace = RateEstimator()
    assert pace.rate(cycle(pace, 0, accepted=1000, running=running, pause=pause)) is None


def test_a_pause_that_was_too_short_belongs_to_the_one_before():
    pace = RateEstimator()
    now = cycle(pace, 0, accepted=40, running=0.02, pause=0.1)
    for pause in (0.2, 0.3, 0.4):
        now = cycle(pace, now, accepted=0, running=0.0, pause=pause)
    assert 35 < pace.rate(cycle(pace, now, accepted=0, running=0.0, pause=0.01)) < 41


def test_a_rate_is_held_and_then_grows_until_it_holds_nothing_back():
    pace = RateEstimator()
    end = cycle(pace, 0, accepted=40, running=0.0, pause=1)
    rate = pace.rate(end)
    assert pace.rate(end + HOLD) == rate
    assert rate < pace.rate(end + HOLD + 1) < 2 * rate
    assert pace.rate(end + HOLD + 60) is None
    assert pace.base is None


def test_a_rate_that_was_refused_sinks_a_little_and_is_held_longer():
    pace = RateEstimator()
    end = cycle(pace, 0, accepted=40, running=0.0, pause=1)
    rate = pace.rate(end)
    end = cycle(pace, end, accepted=400, running=11, pause=1)
    assert 0.8 * rate <= pace.rate(end) < rate
    assert pace.rate(end + 2 * HOLD) == pace.rate(end)


def test_a_bucket_of_few_tokens_is_not_taken_for_a_low_rate():
    pace = RateEstimator()
    end = cycle(pace, 0, accepted=2, running=0.0, pause=1)
    assert 15 <= pace.rate(end) <= 16
    assert pace.rate(end + 1) > 3 * pace.rate(end)


def test_nothing_refused_gives_no_rate():
    pace = RateEstimator()
    pace.began(0)
    pace.accepted += 1
    assert pace.rate(10) is None
    assert pace.is_running
