"""JSON as servers write it becomes strict JSON, and nothing else changes."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from navtalk_async.lenient_json import decode_json, strict_json

REPLACED = {
    b"NaN": "NaN",
    b"-Infinity": "-Infinity",
    b"1e999": "1e999",
    b"-1e999": "-1e999",
    b"7" * 5000: "7" * 5000,
    b'"a\nb"': "a\nb",
    b'"a\tb\x1b\x00"': "a\tb\x1b\x00",
    rb'"\x41\x0a"': "A\n",
    rb'"it\'s"': "it's",
    rb'"C:\data"': "C:\\data",
    b'"caf\xc3"': "caf\ufffd",
    b'"caf\xe9 au lait"': "caf\ufffd au lait",
    b'"\xed\xa0\xbd\xed\xb8\x80"': "\U0001f600",
    b'"\xed\xa0\xbd!"': "\ufffd!",
    rb'"\ud83d"': "\ufffd",
    rb'"\ude00\ud83d\ud83d\ude00"': "\ufffd\ufffd\U0001f600",
    b'"\xc0\xaf"': "\ufffd\ufffd",
    b'{"a": [1, NaN, {"b": "caf\xe9"}]}': {"a": [1, "NaN", {"b": "caf\ufffd"}]},
    b"[-Infinity,01,+1,.5,None]": ["-Infinity", "01", "+1", ".5", "None"],
}


@pytest.mark.parametrize("body", REPLACED, ids=lambda body: repr(body[:24]))
def test_what_strict_json_does_not_have_is_replaced(body):
    row = b'{"field": ' + body + b"}"
    assert decode_json(row) == {"field": REPLACED[body]}
    assert json.loads(strict_json(row)) == {"field": REPLACED[body]}
    assert strict_json(strict_json(row)) == strict_json(row)


def test_a_byte_order_mark_is_left_out():
    assert strict_json(b"\xef\xbb\xbf[1]") == b"[1]"


@pytest.mark.parametrize("body", [b"<html>", b"OK", b"NaN", b"", b"\xff", b'{"cut": "off'])
def test_what_is_no_object_and_no_array_stays_no_json(body):
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_json(body)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_strict_json_stays_byte_by_byte(value, is_ascii, indent):
    body = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode("utf-8", "replace")
    assert strict_json(b"[" + body + b"]") == b"[" + body + b"]"


@given(st.binary(max_size=60))
def test_any_text_between_quotes_becomes_a_text(content):
    body = b'["' + content.replace(b'"', b"").rstrip(b"\\") + b'"]'
    [text] = json.loads(strict_json(body))
    assert isinstance(text, str)
    text.encode()


@given(st.binary(max_size=60))
def test_bytes_that_are_no_json_are_refused_as_before_or_read(body):
    try:
        value = decode_json(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    json.loads(msgspec.json.encode(value))
