"""What a server says of its limits is understood in every form it is written in, and nonsense is not."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from navtalk_async.wire.rate import Hint, hint

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
