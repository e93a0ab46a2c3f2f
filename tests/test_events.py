"""Observers get every event and cannot break a call."""

import logging

import pytest

from navtalk_async.events import Answered, Failed, Stats, Waiting, announce

EVENT = Answered("/api/chat/sessions", 1, 0.25)


def test_an_observer_gets_every_event():
    seen = []
    announce(seen.append, EVENT)
    announce(seen.append, Waiting(1.5, "RateLimited"))
    assert seen == [EVENT, Waiting(1.5, "RateLimited")]


def test_an_observer_that_raises_is_logged_and_breaks_nothing(caplog):
    def broken(_event):
        raise ZeroDivisionError

    announce(broken, EVENT)
    [record] = caplog.records
    assert (record.levelname, record.exc_info[0]) == ("ERROR", ZeroDivisionError)


@pytest.mark.parametrize("event", [EVENT, Failed("/x", 2, "Disconnected: gone"), Waiting(0.5, "RateLimited")])
def test_every_event_is_in_the_debug_log_observed_or_not(event, caplog):
    caplog.set_level(logging.DEBUG, "navtalk_async")
    announce(None, event)
    assert caplog.messages == [repr(event)]


def test_the_log_is_silent_above_debug(caplog):
    caplog.set_level(logging.INFO)
    announce(None, EVENT)
    assert caplog.messages == []


def test_stats_begin_at_zero():
    assert Stats() == Stats(*[0] * 7, None, *[0.0] * 5)
    assert Stats().why_slow == "No time was spent yet."


@pytest.mark.parametrize(
    ("spent", "sentence"),
    [
        (
            {"turn_seconds": 3.0},
            "75% of the time was spent waiting for a turn: 7 requests at once are allowed.",
        ),
        ({"turn_seconds": 9.0, "rate": 40.0}, "7 requests at once are allowed, and 40 a second."),
        ({"paused_seconds": 9.0}, "90% of the time was spent in pauses that the server asked for."),
        ({"backoff_seconds": 1.5}, "60% of the time was spent waiting to retry failed attempts."),
        ({"decode_seconds": 4.0}, "80% of the time was spent decoding answers on this machine."),
        ({"loop_lag": 0.05}, "The event loop is 50 ms late: this program has much to do."),
        ({}, "100% of the time was spent on the network and the server."),
    ],
)
def test_stats_name_what_most_of_the_time_was_spent_on(spent, sentence):
    assert sentence in Stats(**{"limit": 7, "network_seconds": 1.0} | spent).why_slow
