"""Observers get every event, cannot break a call, and see no secret."""

import logging
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.events import Answered, Failed, Stats, Waiting, announce, scrub

EVENT = Answered("/api/chat/sessions", 1, 0.25)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8)


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
        ({}, "100% of the time was spent on the network and the server."),
    ],
)
def test_stats_name_what_most_of_the_time_was_spent_on(spent, sentence):
    assert sentence in Stats(**{"limit": 7, "network_seconds": 1.0} | spent).why_slow


@given(keys, st.text(), st.text(), st.sampled_from([str, quote, quote_plus, lambda key: quote(key, safe="")]))
def test_a_secret_is_found_in_every_url_escape(key, before, after, quoted):
    assert quoted(key) not in scrub(f"{before}{quoted(key)}{after}", [key]).replace("[key]", "")


@given(st.text(st.characters(max_codepoint=64)), keys.filter(lambda key: any(c.isalpha() for c in key)))
def test_a_text_without_a_secret_is_unchanged(text, key):
    assert scrub(text, [key.replace("1", "x") + "y"]) == text


@pytest.mark.parametrize("text", ["apikey=k-1&limit=2", "Invalid key k-1.", "'k-1'", "k-1"])
def test_a_short_secret_is_replaced_as_a_word_of_its_own(text):
    assert "k-1" not in scrub(text, ["k-1"])


def test_a_short_secret_is_not_replaced_inside_of_words():
    assert scrub("a task of k", ["k"]) == "a task of [key]"


def test_every_occurrence_of_every_secret_is_replaced():
    assert scrub("a=K+1&b=K%2B1&c=K+1 and L", ["K+1", "L"]) == "a=[key]&b=[key]&c=[key] and [key]"


@pytest.mark.parametrize("secrets", [[], [""]])
def test_no_secret_changes_nothing(secrets):
    assert scrub("as it is", secrets) == "as it is"


@pytest.mark.parametrize(
    "echo", ["CANARY-a%2bb%2fc", "CANARY-a%2Bb/c", "CANARY-a&#43;b&#x2f;c", "CANARY-a+b/c"]
)
def test_a_secret_is_found_in_every_escape_of_a_server(echo):
    assert scrub(f"key {echo} is wrong", ["CANARY-a+b/c"]) == "key [key] is wrong"
