"""Observers get every event and cannot break a call."""

import logging

import msgspec
import pytest

from navtalk_async.events import Answered, CallInfo, Failed, GaveUp, Stats, Waiting, announce

CALL = CallInfo(1, "sessions.list", "navtalk", "GET", "/api/chat/sessions", "normal", "http://127.0.0.1")
EVENT = Answered(CALL, 1, 0.25)


def test_an_observer_gets_every_event():
    seen = []
    announce([seen.append, seen.append], EVENT)
    announce([seen.append], Waiting(1.5, "RateLimited"))
    assert seen == [EVENT, EVENT, Waiting(1.5, "RateLimited")]


def test_an_observer_that_raises_is_logged_and_breaks_nothing(caplog):
    def broken(_event):
        raise ZeroDivisionError

    announce([broken], EVENT)
    [record] = caplog.records
    assert (record.levelname, record.exc_info[0]) == ("ERROR", ZeroDivisionError)


@pytest.mark.parametrize("event", [EVENT, Failed(CALL, 2, "Disconnected: gone"), Waiting(0.5, "RateLimited")])
def test_every_event_is_in_the_debug_log_observed_or_not(event, caplog):
    caplog.set_level(logging.DEBUG, "navtalk_async")
    announce((), event)
    assert caplog.messages == [str(event)]


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (EVENT, "DEBUG"),
        (Failed(CALL, 1, "ServerError: no"), "INFO"),
        (Waiting(1.0, "RateLimited"), "WARNING"),
        (GaveUp(CALL, 2, "ServerError: no", 1.0), "WARNING"),
        (GaveUp(CALL, 1, "NotFound: no", 1.0), "DEBUG"),
        (GaveUp(CALL, 2, "CancelledError", 1.0), "DEBUG"),
    ],
)
def test_only_what_a_person_wants_to_know_is_a_warning(event, level, caplog):
    caplog.set_level(logging.DEBUG)
    announce((), event)
    assert [record.levelname for record in caplog.records] == [level]


def test_stats_begin_at_zero():
    assert not any(msgspec.structs.astuple(Stats()))
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
