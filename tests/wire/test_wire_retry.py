"""Whether and when to ask again is judged by plain functions of values."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import errors
from navtalk_async.errors import (
    ApiError,
    BadRequest,
    BodyTooLarge,
    BrokenBody,
    ConnectFailed,
    Disconnected,
    NotFound,
    NotJson,
    RateLimited,
    ServerError,
    StoreError,
    WrongShape,
)
from navtalk_async.models import Request
from navtalk_async.wire.retry import (
    LONGEST_PAUSE,
    Budget,
    Retry,
    asks_for_a_pause,
    backoff,
    is_overloaded,
    may_have_changed,
    shared_pause,
    should_retry,
)

GET = Request(path="/x")
POST = Request(path="/x", method="POST")
KINDS = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]
EVERY = [kind for kind in KINDS if not issubclass(kind, StoreError)]
PASSING = [
    "ServerError",
    "Disconnected",
    "BrokenBody",
    "AttemptTimeout",
    "ConnectFailed",
    "UnknownHost",
    "NotJson",
    "WrongShape",
]

kinds = st.sampled_from(EVERY)
chances = st.floats(0, 1, exclude_max=True)
retries = st.builds(
    Retry,
    attempts=st.integers(1, 20),
    attempts_at_first=st.integers(1, 20),
    base_seconds=st.floats(0, 1),
    cap_seconds=st.floats(1, 60),
)


def attempts_until_it_gives_up(retry, request, error, *, known_server):
    attempt = 1
    while should_retry(retry, request, error, attempt=attempt, known_server=known_server):
        attempt += 1
        if attempt > 1000:
            return float("inf")
    return attempt


@given(retries, kinds, st.sampled_from([GET, POST]), st.booleans())
def test_there_are_never_more_attempts_than_allowed_but_for_429(retry, kind, request_, known_server):
    made = attempts_until_it_gives_up(retry, request_, kind("m"), known_server=known_server)
    if kind is RateLimited and request_ is GET:
        assert made == float("inf")
    else:
        assert 1 <= made <= retry.attempts


@given(retries, kinds, st.integers(1, 100), st.booleans())
def test_a_post_is_sent_again_only_if_it_never_arrived(retry, kind, attempt, known_server):
    if should_retry(retry, POST, kind("m"), attempt=attempt, known_server=known_server):
        assert issubclass(kind, ConnectFailed)


@given(retries, st.integers(1, 10**6), st.booleans())
def test_a_429_never_uses_up_attempts(retry, attempt, known_server):
    assert should_retry(retry, GET, RateLimited("m"), attempt=attempt, known_server=known_server)


REFUSALS = {"ApiError", "BadRequest", "AccessDenied", "NotFound", "Conflict", "RateLimited", "Redirected"}


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_all_but_a_refusal_and_a_failed_connection_leave_open_whether_a_change_was_made(kind, method):
    open_question = may_have_changed(Request(path="/x", method=method), kind("m"))
    assert open_question == (kind.__name__ not in REFUSALS and not issubclass(kind, ConnectFailed))


@pytest.mark.parametrize("kind", EVERY)
def test_a_question_that_only_reads_leaves_nothing_open(kind):
    assert not may_have_changed(GET, kind("m"))


@pytest.mark.parametrize("kind", EVERY)
def test_only_what_may_pass_is_asked_again(kind):
    again = should_retry(Retry(attempts=2), GET, kind("m"), attempt=1, known_server=True)
    assert again == (kind.__name__ in {*PASSING, "DecodeFailed", "RateLimited"})


@pytest.mark.parametrize("kind", [BadRequest, NotFound, BodyTooLarge, errors.Redirected, errors.ClientClosed])
def test_what_will_not_change_is_not_asked_again(kind):
    assert not should_retry(Retry(), GET, kind("m"), attempt=1, known_server=True)


@pytest.mark.parametrize("kind", [ConnectFailed, NotJson, WrongShape])
def test_what_looks_like_a_wrong_address_is_given_up_sooner_by_a_server_never_met(kind):
    retry = Retry(attempts=8, attempts_at_first=3)
    assert attempts_until_it_gives_up(retry, GET, kind("m"), known_server=False) == 3
    assert attempts_until_it_gives_up(retry, GET, kind("m"), known_server=True) == 8


@pytest.mark.parametrize("kind", [ServerError, Disconnected, BrokenBody])
def test_what_does_not_look_like_a_wrong_address_is_not_given_up_sooner(kind):
    retry = Retry(attempts=8, attempts_at_first=3)
    assert attempts_until_it_gives_up(retry, GET, kind("m"), known_server=False) == 8


@given(retries, st.integers(1, 10**9), chances)
def test_a_backoff_is_between_nought_and_its_cap(retry, attempt, chance):
    assert 0 <= backoff(retry, attempt, chance) <= retry.cap_seconds


@given(retries, st.integers(1, 60), chances)
def test_a_backoff_may_double_with_every_attempt_and_no_faster(retry, attempt, chance):
    assert (
        backoff(retry, attempt, 1.0) <= backoff(retry, attempt + 1, 1.0) <= 2 * backoff(retry, attempt, 1.0)
    )
    assert backoff(retry, attempt, chance) == pytest.approx(chance * backoff(retry, attempt, 1.0))


def test_with_the_defaults_a_call_gives_up_after_some_twelve_seconds():
    waits = [backoff(Retry(), attempt, 0.5) for attempt in range(1, Retry().attempts)]
    assert 11 < sum(waits) < 15


@given(st.floats(0, 1e6), st.integers(1, 1000), chances)
def test_a_pause_is_as_long_as_the_server_asks_and_an_hour_at_the_most(asked, refusals, chance):
    for kind in (RateLimited, ServerError):
        pause = shared_pause(kind("m", retry_after=asked), refusals, chance)
        assert min(asked, LONGEST_PAUSE) <= pause <= min(asked, LONGEST_PAUSE) + 30


@given(st.integers(1, 1000), chances)
def test_a_pause_nobody_asked_for_is_bounded(refusals, chance):
    assert 0.0075 <= shared_pause(RateLimited("m"), refusals, chance) <= 30


@given(st.integers(1, 100), st.none() | st.just(0.0))
def test_pauses_do_not_get_shorter_with_more_refusals(refusals, asked):
    error = RateLimited("m", retry_after=asked)
    assert shared_pause(error, refusals, 0.5) <= shared_pause(error, refusals + 1, 0.5)


def test_who_was_told_the_same_second_does_not_come_back_together():
    error = RateLimited("m", retry_after=1)
    assert shared_pause(error, 1, 0.1) != shared_pause(error, 1, 0.9)


@given(kinds, st.none() | st.floats(0, 100))
def test_everybody_pauses_for_a_429_and_for_a_5xx_that_says_how_long(kind, retry_after):
    error = kind("m", retry_after=retry_after) if issubclass(kind, ApiError) else kind("m")
    assert asks_for_a_pause(error) == (
        kind is RateLimited or (kind is ServerError and retry_after is not None)
    )


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"attempts": -1}, {"attempts_at_first": 0}])
def test_a_call_needs_an_attempt(wrong):
    with pytest.raises(ValueError, match="at least one attempt"):
        Retry(**wrong)


@pytest.mark.parametrize("wrong", [{"base_seconds": -1}, {"base_seconds": 9}, {"cap_seconds": float("nan")}])
def test_waits_have_to_make_sense(wrong):
    with pytest.raises(ValueError, match="base_seconds is not from 0"):
        Retry(**wrong)


# The budget -----------------------------------------------------------------------------------------------


@given(st.floats(0, 0.3), st.integers())
@settings(max_examples=examples(20))
def test_faults_of_chance_never_use_up_the_budget(share, seed):
    budget, dice = Budget(), random.Random(seed)
    for _ in range(20_000):
        if dice.random() < share:
            assert budget.spend()
        else:
            budget.earn()


def test_an_outage_of_five_seconds_under_128_calls_is_paid_for():
    budget = Budget()
    waits = [sum(backoff(Retry(), attempt, 0.25) for attempt in range(1, made)) for made in range(1, 9)]
    attempts = sum(wait <= 5 for wait in waits)
    assert all(budget.spend() for _ in range(128 * attempts))


def test_in_a_long_outage_the_budget_ends_and_comes_back_with_good_answers():
    budget = Budget()
    assert sum(budget.spend() for _ in range(10_000)) == Budget.MOST
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    for _ in range(10_000):
        budget.earn()
    assert budget.left <= Budget.MOST + 1


@given(kinds, st.sampled_from([500, 502, 503]), st.none() | st.just(1.0))
def test_fewer_are_asked_at_once_for_a_429_and_for_a_503(kind, status, retry_after):
    error = kind("m", status=status, retry_after=retry_after) if issubclass(kind, ApiError) else kind("m")
    refused = kind is RateLimited or (kind is ServerError and (status == 503 or retry_after is not None))
    assert is_overloaded(error) == refused
