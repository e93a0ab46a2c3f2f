"""A key that a server repeats in its data is masked there, and goes back to it all the same."""

import html
import json
import logging
from itertools import pairwise
from urllib.parse import parse_qs, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async import LlamaCloudClient, NavTalkClient
from navtalk_async.client import inside
from navtalk_async.models import Request
from navtalk_async.wire.secret import Echo

KEY = "CANARY-12+34/56=%&\"\\'?#x"
letters = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)
keys = letters.filter(lambda key: any(each.isalpha() for each in key))
texts = st.text(max_size=20)
WRITTEN = {
    "as it is": str,
    "quoted": lambda key: quote(key, safe=""),
    "quoted in part": quote,
    "in small letters": lambda key: "".join(each if each.isalnum() else f"%{ord(each):02x}" for each in key),
    "for HTML": html.escape,
    "JSON in JSON": lambda key: json.dumps({"key": key}),
}
ways = st.sampled_from(list(WRITTEN))


def escaped(text):
    """JSON as cautious servers write it."""
    for each in "<>&'+":
        text = text.replace(each, f"\\u{ord(each):04X}")
    return text.replace("/", "\\/")


writers = st.sampled_from([json.dumps, lambda value: escaped(json.dumps(value))])


def without(text, key):
    """What is to be of *text*."""
    return json.loads(Echo(key).masked(json.dumps(text).encode()))


@given(keys, texts, texts, ways, writers)
def test_json_that_repeats_the_key_is_json_without_it(key, before, after, way, write):
    written = WRITTEN[way](key)
    body = write({"id": "x", "echo": f"{before}{written}{after}", written: [f"{written}{written}"]})
    masked = Echo(key).masked(body.encode())
    assert json.loads(masked)["id"] == "x"
    assert written not in json.loads(masked)["echo"].replace("[key]", " ")
    assert json.dumps(key)[1:-1].encode() not in masked


@given(keys, st.recursive(texts.filter(lambda text: "Q" not in text) | st.integers(), st.lists))
def test_what_does_not_repeat_the_key_stays_as_it_is(key, value):
    body = json.dumps(value).encode()
    assert Echo(f"Q{key}").masked(body) == body


@given(st.sampled_from(list("bfnrtu")), texts)
def test_an_escape_before_half_a_key_is_none_of_it(first, text):
    key = f"{first}0041bcdef"
    value = [text + json.loads(f'"\\{first}0041"') + "bcdef", key]
    masked = json.loads(Echo(key).masked(json.dumps(value).encode()))
    assert masked == [value[0].replace(key, "[key]"), "[key]"]


@given(st.integers(10_000_000, 10**30))
def test_a_number_is_no_key(key):
    body = json.dumps({"n": key, "f": [key * 100], "text": f"a {key}, {key}"}).encode()
    masked = {"n": key, "f": [key * 100], "text": "a [key], [key]"}
    assert json.loads(Echo(str(key)).masked(body)) == masked


@pytest.mark.parametrize("key", ["key", "a", "sandbox"])
def test_a_short_key_is_a_word_like_others(key):
    assert Echo(key).masked(f"the {key} is {key}".encode()) == f"the {key} is {key}".encode()
    assert Echo(key).in_chunks() is None


def in_chunks(key, whole, cuts):
    echo, come = Echo(key).in_chunks(), []
    cuts = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    for begin, end in pairwise(cuts):
        come.append(echo.feed(whole[begin:end]))
    return [*come, echo.rest()]


@given(keys, texts, ways, writers, st.lists(st.integers(0, 300), max_size=8))
def test_a_key_is_masked_wherever_the_chunks_end(key, before, way, write, cuts):
    whole = b"data: " + write([f"{before}{WRITTEN[way](key)}", "x"]).encode() + b"\n\n"
    come = in_chunks(key, whole, cuts)
    assert b"".join(come) == Echo(key).masked(whole)
    assert come[-1] == b""


@given(keys, st.binary(max_size=50))
def test_a_chunk_that_ends_with_no_part_of_the_key_is_not_held_back(key, chunk):
    chunk += b"\n\n"
    assert Echo(key).in_chunks().feed(chunk) == Echo(key).masked(chunk)


@given(keys, st.integers(8, 39))
def test_a_long_piece_of_the_key_at_the_end_is_masked_too(key, length):
    piece = key[: min(length, len(key) - 1)]
    come = b"".join(in_chunks(key, b"at the end " + piece.encode(), []))
    assert len(piece) < 8 or piece.encode() not in come


# Over the wire --------------------------------------------------------------------------------------------


def page(cursor, **fields):
    row = {"id": "00000000-dede-11f0-92bc-000e1eed4a72", "status": 1, "startTime": None, "endTime": None}
    rows = {"data": [row | {"videoUrl": None} | fields], "nextCursor": cursor}
    return json.dumps({"code": 200, "message": "SUCCESS", "data": rows}).encode()


@pytest.mark.parametrize("key", ["CANARY-1234567890", KEY])
async def test_a_walk_goes_on_behind_a_cursor_with_the_key(key, scripted, caplog):
    caplog.set_level(logging.DEBUG)
    cursor = f"after+{key}/=="
    async with scripted(page(cursor, videoUrl=f"https://v.example/?k={quote(key)}", note=key)) as server:
        async with NavTalkClient(key, base_url=server.url) as nt:
            first = await nt.sessions.list(limit=1)
            await inside(nt).page_of_sessions(first.next)
    (session,) = first.items
    for shown in (first, session.video_url, session.raw.decode(), session.extra, first.next, caplog.text):
        assert "CANARY" not in f"{shown}"
    assert json.loads(session.raw)["note"] == "[key]"
    assert session.video_url == "https://v.example/?k=[key]"
    assert first.next.params["cursor"] == "after+[key]/=="
    targets = [parse_qs(head.split()[1].partition("?")[2]) for head in server.heads]
    assert [target.get("cursor") for target in targets] == [None, [cursor]]
    assert [target["apikey"] for target in targets] == [[key], [key]]


async def test_a_page_token_with_a_key_that_goes_into_a_header_goes_back(scripted):
    body = {"items": [], "next_page_token": "p-CANARY-1234567890"}
    async with scripted(json.dumps(body).encode()) as server:
        async with LlamaCloudClient("CANARY-1234567890", base_url=server.url) as llama:
            first = await llama.sessions.list()
            await inside(llama).page_of_sessions(first.next)
    assert first.next.params["page_token"] == "p-[key]"
    assert parse_qs(server.heads[1].split()[1].partition("?")[2])["page_token"] == ["p-CANARY-1234567890"]


async def test_nobody_elses_mask_is_taken_for_the_key(scripted):
    async with scripted(b'{"chats": []}') as server:
        async with LlamaCloudClient("CANARY-1234567890", base_url=server.url) as llama:
            asked = Request(path="/x/%5Bkey%5D", params={"user": "[key]"}, method="POST", body=b"[key]")
            await llama.ask(asked, lambda _, response: response)
    assert server.heads[0].split()[1] == "/x/%5Bkey%5D?user=%5Bkey%5D"
    assert server.heads[0].count("CANARY") == 1
