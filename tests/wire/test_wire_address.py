"""The key goes to one host alone, in its one place, and an address says exactly what was asked."""

import json
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.errors import BadRequest, ServerError
from navtalk_async.models import KeyPlace, Request
from navtalk_async.wire.secret import (
    PlacedKey,
    Secret,
    checked_key,
    checked_root,
    is_loopback,
    query_of,
    redact,
)

QUERY = KeyPlace("query", "apikey")
BEARER = KeyPlace("header", "Authorization", "Bearer ")
texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1).filter(
    lambda name: name != "apikey"
)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


BASE = "/base"


def sent(request, key, place):
    """The URL of *request* and the headers added to it, as they leave."""
    query, placed = query_of(request), PlacedKey(Secret(key), place)
    target = f"{BASE}{request.path}?{query}" if query else f"{BASE}{request.path}"
    head = f"GET {target} HTTP/1.1\r\nHost: host\r\nX: [key]\r\n\r\n[key]".encode()
    first, *lines = bytes(placed.added(head, has_query=bool(query))).decode().split("\r\n")
    assert lines[:2] == ["Host: host", "X: [key]"]
    assert lines[-1] == "[key]"
    method, target, version = first.split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    return urlsplit(f"https://host{target}"), dict(line.split(": ", 1) for line in lines[2:-2])


@given(st.dictionaries(names, texts), keys)
def test_every_parameter_and_the_key_arrive_as_they_were_given(params, key):
    params.pop("cursor", None)
    url, headers = sent(Request(path="/x", params=params), key, QUERY)
    assert url[:3] == ("https", "host", "/base/x")
    assert dict(parse_qsl(url.query, keep_blank_values=True)) == params | {"apikey": key}
    assert headers == {}


@given(keys)
def test_a_key_for_a_header_is_not_in_the_url(key):
    url, headers = sent(Request(path="/x", params={"a": "b"}), key, BEARER)
    assert url.geturl() == "https://host/base/x?a=b"
    assert headers == {"Authorization": f"Bearer {key}"}


@given(texts, texts, keys, st.sampled_from([QUERY, BEARER]))
def test_a_cursor_that_had_the_key_is_sent_back_with_it(before, after, key, place):
    request = Request(path="/x", params={"cursor": f"{before}[key]{after}", "user_id": "[key]"})
    query = dict(parse_qsl(sent(request, key, place)[0].query, keep_blank_values=True))
    assert query["cursor"] == f"{before}[key]{after}".replace("[key]", key)
    assert query["user_id"] == "[key]"


@given(st.dictionaries(names, texts))
def test_an_address_has_no_key(params):
    query = dict(parse_qsl(query_of(Request(path="/x", params=params)), keep_blank_values=True))
    assert query == params


@pytest.mark.parametrize(
    "root",
    [
        "https://transfer.navtalk.ai",
        "https://host:8443/behind/a/proxy",
        "http://localhost:8080",
        "http://LOCALHOST",
        "http://127.0.0.1:1",
        "http://127.8.8.8",
        "http://[::1]:8080",
    ],
)
def test_a_root_is_https_or_this_machine(root):
    assert checked_root(root) == checked_root(root + "/") == root


@pytest.mark.parametrize(
    "root",
    [
        "http://transfer.navtalk.ai",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "http://[::2]",
        "http://0.0.0.0",
        "http://127。0。0。1",
    ],
)
def test_a_root_elsewhere_without_https_is_refused(root):
    with pytest.raises(ValueError, match="in the clear: write https"):
        checked_root(root)


@pytest.mark.parametrize(
    "root", ["", "host", "ftp://host", "https://", "//host", "file:///etc/passwd", "/api/chat"]
)
def test_a_root_that_is_no_web_address_is_refused(root):
    with pytest.raises(ValueError, match="is not one: write https"):
        checked_root(root)


@pytest.mark.parametrize(
    "root",
    ["https://me:secret@host", "https://secret@host", "https://host?apikey=secret", "https://host#secret"],
)
def test_a_root_that_holds_more_than_a_host_and_a_path_is_refused(root):
    with pytest.raises(ValueError, match="more than a host and a path"):
        checked_root(root)


@pytest.mark.parametrize(
    "root", ["https://me:secret@host", "ftp://secret@host", "https://host?k=secret", "https://x@h:0?secret"]
)
def test_a_refused_root_is_shown_without_what_may_be_secret(root):
    with pytest.raises(ValueError, match="base URL") as caught:
        checked_root(root)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "root",
    [
        "https://host:99999",
        "https://host:abc",
        "https://host:0",
        "https://ho st",
        "https://host/a\nb",
        "https://h\x7f",
    ],
)
def test_a_root_that_could_never_be_reached_is_refused(root):
    with pytest.raises(ValueError, match="holds what no URL holds"):
        checked_root(root)


@given(st.text())
def test_any_root_is_taken_or_a_value_error(root):
    try:
        checked = checked_root(root)
    except ValueError:
        return
    parts = urlsplit(checked)
    assert parts.scheme == "https" or is_loopback(parts.hostname)


@pytest.mark.parametrize(("given_key", "key"), [("k", "k"), (" k\n", "k"), ("a-+/=%&", "a-+/=%&")])
def test_a_key_is_taken_without_the_space_around_it(given_key, key):
    assert checked_key(given_key).reveal() == key


@pytest.mark.parametrize("bad", ["", " ", "\n"])
def test_an_empty_key_is_refused(bad):
    with pytest.raises(ValueError, match="is empty"):
        checked_key(bad)


@pytest.mark.parametrize("bad", ["CANARY 2", "CANARY\n2", "CANÁRY", "CANARY\0", "CANARY\r\nX-Header: 1"])
def test_what_no_key_holds_is_refused_and_not_shown(bad):
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        checked_key(bad)
    assert "CAN" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", [b"CANARY", bytearray(b"CANARY"), ["CANARY"], {"key": "CANARY"}, Path("CANARY"), 7, None]
)
def test_a_key_that_is_no_text_is_refused_and_not_shown(bad):
    with pytest.raises(ValueError, match="and not a text") as caught:
        checked_key(bad)
    assert "CAN" not in str(caught.value)


@pytest.mark.parametrize("shown", ["K-+/=%&1", "K-%2B%2F%3D%25%261", "K-%2B/%3D%25%261"])
def test_a_server_that_repeats_the_key_is_not_quoted(shown):
    refusal = BadRequest(f"The server answered 400: bad {shown} in <a>.", status=400, code=400)
    clean = redact(refusal, Secret("K-+/=%&1"))
    assert clean.args == ("The server answered 400: bad [key] in <a>.",)
    assert clean.message == "The server answered 400: bad [key] in <a>."
    assert (clean.status, clean.code) == (400, 400)


def refused(answer):
    try:
        json.loads(answer)
    except ValueError:
        raise ServerError("It fell over.") from None


def test_an_error_that_may_be_shown_has_forgotten_where_it_came_from():
    with pytest.raises(ServerError) as caught:
        refused("CANARY")
    assert caught.value.__context__ is not None
    clean = redact(caught.value, Secret("CANARY"))
    assert (clean.__context__, clean.__cause__, clean.__traceback__) == (None, None, None)


@pytest.mark.parametrize("before", range(540, 640, 7))
def test_a_long_answer_is_cut_behind_the_key_and_never_within_it(before):
    key = "CANARY-+/=%&<" + "x" * 80
    for reported in (key, quote(key, safe="")):
        error = redact(BadRequest(f"{'y' * before}{reported} and more", status=400), Secret(key))
        assert "CANARY" not in f"{error}{vars(error)}"
        assert len(str(error.args[0])) < 700
