"""Each usual way to write a time is read as that moment, on every Python alike."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.times import parse_time, parse_utc

NOON = datetime(2024, 1, 15, 12, tzinfo=UTC)
UNUSUAL = {
    "2024-01-15t12:00:00z": NOON,
    "2024-01-15 12:00:00 UTC": NOON,
    "2024-01-15T12:00:00 GMT": NOON,
    "2024-01-15 12:00:00 +0000": NOON,
    "2024-01-15 07:00:00 -05:00": NOON,
    "Mon, 15 Jan 2024 12:00:00 GMT": NOON,
    "Mon, 15 Jan 2024 14:00:00 +0200": NOON,
    "2024-01-15T11:59:60Z": NOON,
    "20240115T115960Z": NOON,
    "2024-01-14T24:00:00Z": NOON - timedelta(hours=12),
    "2023-12-31 24:00:00.000": datetime(2024, 1, 1, tzinfo=UTC),
    "2024-01-15T12:00:00,5z": NOON + timedelta(seconds=0.5),
    "2024-01-15T12:00:00.123456789z": NOON + timedelta(microseconds=123456),
}


@pytest.mark.parametrize("text", UNUSUAL)
def test_an_unusual_spelling_is_the_moment_it_means(text):
    assert parse_utc(text) == UNUSUAL[text]


@pytest.mark.parametrize("text", ["", "soon", "2024-01-15T24:30:00", "9999-12-31T24:00:00Z"])
def test_what_means_no_moment_is_no_time(text):
    assert parse_time(text) is None


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),
    st.sampled_from(["Z", "z", " UTC", " GMT", "+00:00", " +0000", ""]),
    st.sampled_from("Tt "),
)
def test_the_way_the_zone_is_written_does_not_matter(moment, zone, separator):
    assert parse_utc(moment.isoformat(separator) + zone) == moment.replace(tzinfo=UTC)
