"""What a server says of its limits is understood in every form it is written in, and nonsense is not."""

import email.utils
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from profiles import examples

from navtalk_async.rate_headers import Hint, hint, wait_of

DATE = "Wed, 12 Nov 2025 18:20:38 GMT"
UNIX = 1762971638


@pytest.mark.parametrize(
    "headers",
    [
        {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "30"},
        {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "30.0"},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": str(UNIX + 30), "Date": DATE},
        {"RateLimit-Limit": "60", "RateLimit-Remaining": "7", "RateLimit-Reset": "30"},
        {"RateLimit": '"default";r=7;t=30'},
        {"RateLimit": '"default"; t=30; r=7, "other";r=9'},
        {"RateLimit": '"day";r=90;t=3600, "minute";r=7;t=30'},
        {"RateLimit": "limit=60, remaining=7, reset=30"},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": str((UNIX + 30) * 1000), "Date": DATE},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "2025-11-12T18:21:08Z", "Date": DATE},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "0m30s"},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset-After": "30"},
        {"X-Rate-Limit-Remaining": "7", "X-Rate-Limit-Reset": "30000ms"},
    ],
)
def test_each_form_says_how_many_remain_and_for_how_long(headers):
    found = hint(CIMultiDict(headers))
    assert found is not None
    assert found.seconds == 30
    assert found.remaining in (7, 9)


def test_a_moment_is_measured_by_our_clock_where_the_server_tells_none():
    found = hint(CIMultiDict({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(time.time() + 30)}))
    assert found is not None
    assert found.seconds == pytest.approx(30, abs=5)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-RateLimit-Remaining": "7"},
        {"X-RateLimit-Reset": "30"},
        {"X-RateLimit-Remaining": "many", "X-RateLimit-Reset": "30"},
        {"X-RateLimit-Remaining": "-1", "X-RateLimit-Reset": "30"},
        {"X-RateLimit-Remaining": "nan", "X-RateLimit-Reset": "30"},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "inf"},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "soon"},
        {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": str(UNIX - 30), "Date": DATE},
        {"RateLimit": "nonsense"},
        {"RateLimit": '"default";r=7'},
    ],
)
def test_what_makes_no_sense_is_ignored(headers):
    assert hint(CIMultiDict(headers)) is None


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_no_header_breaks_it(remaining, reset, whole):
    for headers in ({"X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset}, {"RateLimit": whole}):
        found = hint(CIMultiDict(headers))
        assert found is None or (found.remaining >= 0 and found.seconds > 0 and isinstance(found, Hint))


# Refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "30"},
        {"Retry-After": str(UNIX + 30), "Date": DATE},
        {"retry-after-ms": "30000"},
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "30"},
        {"X-RateLimit-Reset": "30"},
        {"RateLimit-Remaining": "0", "RateLimit-Reset": "30"},
        {"RateLimit": '"default";r=0;t=30, "day";r=7;t=3600'},
        {"RateLimit": '"default";r=0;t=5, "day";r=0;t=30'},
        {"RateLimit": "limit=10, remaining=0, reset=30"},
    ],
)
def test_a_full_server_names_the_wait_in_any_spelling(headers):
    assert wait_of(CIMultiDict(headers), is_full=True) == 30


def test_what_is_left_of_another_limit_is_no_wait():
    headers = {"X-RateLimit-Remaining": "7", "X-RateLimit-Reset": "30"}
    assert wait_of(CIMultiDict(headers), is_full=True) is None
    assert wait_of(CIMultiDict(headers | {"X-RateLimit-Remaining": "0"}), is_full=False) is None


def test_a_date_is_measured_by_our_clock_where_the_server_tells_none():
    then = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert wait_of({"Retry-After": then}, is_full=False) == pytest.approx(30, abs=5)


NOON = "Fri, 21 Nov 2025 12:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("2", 2.0),
        (" 1.5 ", 1.5),
        ("-3", 0.0),
        ("Fri, 21 Nov 2025 12:00:30 GMT", 30.0),
        ("Fri, 21 Nov 2025 13:00:30 +0100", 30.0),
        ("Friday, 21-Nov-25 12:00:30 GMT", 30.0),
        ("Fri Nov 21 12:00:30 2025", 30.0),
        ("Fri, 21 Nov 2025 11:00:00 GMT", 0.0),
        ("Fri, 21 Nov 99999999999999999999 10:00:00 GMT", None),
        ("Fri, 21 Nov 2025 10:00:00 +9999999999999999", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_nonsense(value, seconds):
    assert wait_of({"Retry-After": value, "Date": NOON}, is_full=False) == seconds


@pytest.mark.parametrize("headers", [{}, {"Retry-After": ""}, {"Date": NOON}])
def test_a_wait_that_cannot_be_told_is_none(headers):
    assert wait_of(headers, is_full=False) is None


dates = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Fri", "Noday", ""]),
    st.integers(-1, 40),
    st.sampled_from(["Nov", "Not", "11"]),
    st.integers(-1, 10**25),
    *[st.integers(-1, 70)] * 3,
    st.sampled_from(["GMT", "+9999", "-99999999999999", "X", "", "+2400"]),
)


@given(st.text() | dates | st.floats().map(str), st.text() | dates | st.just(NOON))
@settings(max_examples=examples(300))
def test_no_retry_after_is_negative_endless_or_an_error(value, today):
    seconds = wait_of({"Retry-After": value, "Date": today}, is_full=True)
    assert seconds is None or 0 <= seconds < float("inf")
