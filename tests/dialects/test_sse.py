"""Server-sent events come out as the WHATWG specification says, however the stream is cut."""

import random
import re
from itertools import pairwise, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async.dialects import sse
from navtalk_async.dialects.sse import ServerSentEvent, SseDecoder
from navtalk_async.errors import BodyTooLarge

BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


def events_of(*chunks, limit=sse.LIMIT):
    """What comes out of *chunks*, fed in turn."""
    decoder = SseDecoder(limit=limit)
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def all_ways(stream):
    """What comes out of *stream*, which must not depend on how it is cut or on how its lines end."""
    text = stream.encode()
    whole = events_of(text)
    for end in (b"\n", b"\r", b"\r\n"):
        ended = text.replace(b"\n", end)
        assert events_of(ended) == whole
        for size in (1, 2, 3, 7):
            assert events_of(*(ended[at : at + size] for at in range(0, len(ended), size))) == whole
    return whole


def message(data, last_event_id="", type="message"):  # noqa: A002 - it is called so
    return ServerSentEvent(type, data.encode(), last_event_id)


# The examples of sections 9.2.1 and 9.2.6.


def test_messages_of_one_line_and_of_several():
    stream = "data: This is the first message.\n\n"
    stream += "data: This is the second message, it\ndata: has two lines.\n\n"
    stream += "data: This is the third message.\n\n"
    assert all_ways(stream) == [
        message("This is the first message."),
        message("This is the second message, it\nhas two lines."),
        message("This is the third message."),
    ]


def test_events_have_the_names_they_are_given():
    stream = "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n"
    assert all_ways(stream) == [
        message("73857293", type="add"),
        message("2153", type="remove"),
        message("113411", type="add"),
    ]


def test_the_stocks_of_yahoo_are_one_event_of_three_lines():
    assert all_ways("data: YHOO\ndata: +2\ndata: 10\n\n") == [message("YHOO\n+2\n10")]


def test_a_comment_and_an_event_without_data_and_an_id_that_is_taken_back():
    stream = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert all_ways(stream) == [message("first event", "1"), message("second event"), message(" third event")]


def test_empty_data_is_data_and_what_no_blank_line_ends_is_nothing():
    assert all_ways("data\n\ndata\ndata\n\ndata:") == [message(""), message("\n")]


def test_one_space_after_the_colon_does_not_count():
    assert all_ways("data:test\n\ndata: test\n\n") == [message("test"), message("test")]


# What its grammar and its steps say.


@pytest.mark.parametrize("ends", list(product(["\n", "\r", "\r\n"], repeat=3)))
def test_lines_of_one_stream_may_end_differently(ends):
    one, two, three = ends
    stream = f"event: a{one}data: b{two}{three}data: c{two}: d{one}{three}data: e{three}{one}".encode()
    assert events_of(stream) == by_the_book(stream)
    assert events_of(*(bytes([byte]) for byte in stream)) == by_the_book(stream)


def test_an_event_is_given_at_its_last_carriage_return_and_not_with_what_follows():
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [message("a")]
    assert decoder.feed(b"") == []
    assert decoder.feed(b"\ndata: b\r\r") == [message("b")]
    assert decoder.feed(b"\ndata: c\n\n") == [message("c")]


def test_a_byte_order_mark_is_left_out_at_the_very_beginning_only():
    assert all_ways(f"{BOM}data: a\n\n{BOM}data: b\n\ndata: {BOM}c\n\n") == [message("a"), message(f"{BOM}c")]
    assert all_ways(f"{BOM}{BOM}data: a\n\ndata: b\n\n") == [message("b")]
    assert all_ways(f"\n{BOM}data: a\n\ndata: b\n\n") == [message("b")]


def test_unknown_fields_are_ignored_and_names_are_taken_to_the_letter():
    stream = "Data: a\n\n data: b\n\ndata : c\n\ndatas: d\nfoo\n:data: e\ndata: f: g\n\n"
    assert all_ways(stream) == [message("f: g")]


def test_the_last_name_counts_and_an_empty_one_is_none():
    stream = (
        "event: a\nevent: b\ndata: 1\n\nevent: a\nevent:\ndata: 2\n\nevent: \ndata: 3\n\nevent\ndata: 4\n\n"
    )
    assert all_ways(stream) == [message("1", type="b"), message("2"), message("3"), message("4")]


def test_a_name_holds_for_one_event_even_if_that_has_no_data():
    assert all_ways("event: a\n\ndata: 1\n\n") == [message("1")]


def test_an_id_holds_until_the_next_and_one_with_a_nul_is_none():
    stream = "id: 1\n\ndata: a\n\nid: 2\0\ndata: b\n\nid: 3\ndata: c\n\nid:\ndata: d\n\n"
    assert all_ways(stream) == [message("a", "1"), message("b", "1"), message("c", "3"), message("d")]


def test_the_id_to_go_on_from_is_that_of_the_last_finished_event():
    decoder = SseDecoder()
    decoder.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert decoder.last_event_id == "1"
    decoder.feed(b"\n")
    assert decoder.last_event_id == "2"


def test_what_is_no_utf8_is_replaced():
    assert events_of(b"event: \xff\ndata: a\xe2\x82\n\ndata: \xf0\x9f\n\n") == [
        message("a�", type="�"),
        message("�"),
    ]


# However it is cut.

WORDS = [
    "Der",
    "Ölpreis",
    "fiel",
    "um",
    "3",
    "€,",
    "sagt",
    "東京",
    "👩🏽‍🌾",
    "the",
    "index",
    "quotes",
    "\\n",
    "more",
]

RECORDED = (
    BOM
    + ": connected\n\nretry: 3000\n\n"
    + "".join(
        f'event: delta\ndata: {{"type":"text_delta","content":"{word} "}}\n\n'
        for word in WORDS
    )
    + ':\n\nevent: message\nid: 17\ndata: {"type":"tool_call",\ndata:  "arguments":{}}\n\n'
    + "event: ping\n\ndata\n\nid\0: 4\nid: 5\0\nid\ndata:a\ndata\ndata:  b\n\n"
    + ":" + "k" * 5000 + "\n\n"
    + "event: " + "long" * 40 + "\ndata: " + "x" * 4200 + "\ndata: y\n\n"
    + 'event: message\ndata: {"type":"stop","is_error":false}\n\nevent: message\ndata: unfinished\n'
)  # fmt: skip


def recorded():
    """A stream of some kilobytes in which the lines end in all ways, and some bytes are no UTF-8."""
    chance = random.Random(7)
    ends = [chance.choice(["\n", "\r\n", "\r"]) for _ in range(RECORDED.count("\n"))]
    # A CR and an LF beside it would end one line instead of two.
    ends = ["\n" if ends[at - 1] == "\r" and end == "\n" else end for at, end in enumerate(ends)]
    ends = [end if before != "\r" else "\r" for before, end in zip(["", *ends], ends, strict=False)]
    parts = RECORDED.split("\n")
    text = "".join(line + end for line, end in zip(parts, [*ends, ""], strict=True))
    return text.encode() + b"\ndata: cut \xe6\x9d\n\ndata: bad \xff\xc3(\xed\xa0\x80\n\ndata: \xf0\x9f\x98"


STREAM = recorded()
EVENTS = events_of(STREAM)


def cut(stream, places):
    borders = [0, *sorted(places), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(borders)]


def places_of(number):
    """Up to nine places in the stream, as one number: ten thousand of those are soon drawn."""
    places = []
    while number:
        number, place = divmod(number, len(STREAM))
        places.append(place)
    return places


@pytest.mark.slow
@settings(max_examples=examples(10_000))
@given(st.integers(0, len(STREAM) ** 9 - 1).map(places_of))
def test_a_recorded_stream_gives_the_same_events_however_it_is_cut(places):
    assert events_of(*cut(STREAM, places)) == EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 5, 16, 100, 1_000])
def test_a_recorded_stream_gives_the_same_events_in_chunks_of_any_size(size):
    assert events_of(*cut(STREAM, range(size, len(STREAM), size))) == EVENTS


def test_a_recorded_stream_gives_the_events_that_the_specification_reads():
    assert len(EVENTS) >= 20
    assert by_the_book(STREAM) == EVENTS


# Against the specification, read step by step.


def by_the_book(stream):
    """The events of a whole *stream*: slow, and each step as section 9.2.6 has it."""
    text = stream.decode("utf-8", "replace").removeprefix(BOM)
    # Every line has its end; what follows the last one is no line.
    *lines, _ = re.split("\r\n|\n|\r", text)
    data, kind, last_id, events = "", "", "", []
    for line in lines:
        if line == "":
            if data != "":
                events.append(ServerSentEvent(kind or "message", data.removesuffix("\n").encode(), last_id))
            data = kind = ""
            continue
        field, colon, value = line.partition(":")
        value = value[1:] if colon and value.startswith(" ") else value
        match field:
            case "event":
                kind = value
            case "data":
                data += value + "\n"
            case "id" if "\0" not in value:
                last_id = value
    return events


PIECES = st.sampled_from(
    [b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"data", b"event", b"id", b"data: ", b"event: ", b"id: ",
     b"retry: 1", b"\0", b"a", b"{}", b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xc3", b"\xbc",
     b"\xf0\x9f\x98\x80", b"\xed\xa0", b"\xff", b"data: x\n\n", b"event: y\ndata: z\n\n",
     b"data" + 4_096 * b":"]
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=examples(2_000))
@given(st.lists(PIECES, max_size=40).map(b"".join), st.data())
@example(b"\xef\xbb\xbfdata: a\r\n\r\n", None)
def test_a_soup_of_bytes_is_read_as_the_specification_reads_it_and_at_once(soup, data):
    places = data.draw(st.lists(st.integers(0, len(soup)), max_size=12)) if data else range(len(soup))
    decoder, fed, events = SseDecoder(), b"", []
    for chunk in cut(soup, places):
        fed += chunk
        events += decoder.feed(chunk)
        assert events == by_the_book(fed)


@settings(max_examples=examples(500))
@given(st.lists(PIECES, max_size=60).map(b"".join))
def test_lines_read_one_by_one_give_what_is_found_in_bulk(soup):
    soup = soup.decode("utf-8", "replace").encode() + b"\n"
    # What could go beyond the limit is read line by line.
    assert events_of(soup, limit=len(soup) - 1) == by_the_book(soup)


# What is too large.


@pytest.mark.parametrize("size", [1, 10, 1_000, 100_000])
@pytest.mark.parametrize("line", [b"data: x\n", b"data: xxxx", b"xxxx", b": xxx"])
def test_an_event_without_an_end_is_refused_before_it_eats_memory(size, line):
    decoder = SseDecoder(limit=10_000)
    stream = b"data: first\n\n" + line * 20_000
    events = []
    with pytest.raises(BodyTooLarge, match="10,000"):
        for at in range(0, len(stream), size):
            events += decoder.feed(stream[at : at + size])
        decoder.feed(b"")
    assert events == [message("first")]
    with pytest.raises(BodyTooLarge):
        decoder.feed(b"\n\ndata: more\n\n")


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("event", [b"data: 1234567890\n\n", b"data: 12345\ndata: 678\n\n", b": 345678901\n"])
def test_no_more_than_the_limit_is_taken_in_whatever_size_it_comes_in(size, event):
    for limit, is_taken in ((len(event), True), (9, False)):
        decoder = SseDecoder(limit=limit)
        events, error = outcome(decoder, cut(event, range(size, len(event), size)))
        assert (error is None) == is_taken
        assert not events or is_taken


def test_no_more_of_a_long_event_than_a_little_is_read_again():
    decoder = SseDecoder()
    for _ in range(1_000):
        decoder.feed(b"data: " + 100 * b"x")
        assert len(decoder._waiting) <= sse.SHORT
        decoder.feed(99 * b"x" + b"\n")
        assert len(decoder._waiting) <= sse.SHORT
    [event] = decoder.feed(b"\n")
    assert len(event.data) == 200_000 - 1


def test_comments_without_end_are_no_event_and_go_on_for_ever():
    decoder = SseDecoder(limit=100)
    for _ in range(10_000):
        assert decoder.feed(b": still here\n") == []
    assert decoder.feed(b"data: at last\n\n") == [message("at last")]


LARGE = [b"data: " + b"x" * 20, b"\n", b"data: ab\n\n", b"data: c\n"]


@settings(max_examples=examples(300))
@given(st.lists(st.sampled_from(LARGE), max_size=40), st.data())
def test_what_is_too_large_does_not_depend_on_how_the_stream_is_cut(pieces, data):
    stream = b"".join(pieces)
    places = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    assert outcome(SseDecoder(limit=30), cut(stream, places)) == outcome(SseDecoder(limit=30), [stream])


def outcome(decoder, chunks):
    events = []
    try:
        for chunk in [*chunks, b""]:
            events += decoder.feed(chunk)
    except BodyTooLarge as error:
        return events, str(error)
    return events, None
