r"""JSON as servers really write it, made strict JSON in valid UTF-8.

What a strict reader refuses is replaced, and everything else stays as it came:

- bytes that are not UTF-8, and lone halves of surrogate pairs (as bytes or as `\ud83d`), by U+FFFD;
- surrogate pairs that were each encoded as UTF-8 (CESU-8) by their character;
- control characters inside a text by their escapes, `\x41` and `\'` by their characters; the backslash of
  any other unknown escape stands for itself;
- values that are not JSON, and numbers beyond a double (`NaN`, `-Infinity`, `1e999`, 5,000 digits), by their
  text; a byte order mark by nothing.
"""

import codecs
import re
from typing import Any, TypeGuard

import msgspec

__all__ = [
    "DECODE_ERRORS",
    "decode_json",
    "is_list",
    "is_object",
    "null_broken_rows",
    "strict_json",
    "valid_utf8",
]

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for JSON that is broken, too deep, or of another shape."""

AT_ONCE = 1000
# Possessive, so that a long text costs no memory and no second look; and by so many pieces at once: in a
# thread, a long search would keep the others waiting.
BETWEEN = re.compile(
    r"""(?:[\s{}\[\],:]++
         | (?:true|false|null|-?(?:0|[1-9][0-9]{0,300}+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]{1,2}+)?+)
           (?=[\s{}\[\],:]|\Z)
        ){0,1000}+""",
    re.VERBOSE,
)
WITHIN = re.compile(
    r"""(?:[^"\\\x00-\x1f]{1,65536}+
         | \\(?:["\\/bfnrt]
              | u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3} | [dD][0-7][0-9a-fA-F]{2}
                  | [dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))
        ){0,1000}+""",
    re.VERBOSE,
)
BARE = re.compile(r"[-+.\w]+")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?[0-9]++)?+")
PAIR = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")
HALF_BYTES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
NO_UTF8 = re.compile(rb"(?:[\x80-\xc1\xf5-\xff]|[\xc2-\xf4](?![\x80-\xbf]))++")
HALF = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
TOKEN = re.compile(rb""""(?:[^"\\]|\\.)*+"|[{}\[\]]""", re.DOTALL)
OBJECT = ord("{")
HEX = re.compile(r"\\x([0-9a-fA-F]{2})")


def decode_json(body: bytes | str | msgspec.Raw, kind: Any = Any) -> Any:
    """*body* decoded into *kind*, made strict first where it is not.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is not JSON, or of another shape.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except DECODE_ERRORS as failure:
        given = body.encode() if isinstance(body, str) else bytes(body)
        strict = strict_json(given)
        if strict == given:
            raise
        try:
            return msgspec.json.decode(strict, type=kind)
        except msgspec.ValidationError:
            raise
        except DECODE_ERRORS:
            raise failure from None


def valid_utf8(body: bytes) -> bytes:
    """*body*, made strict if it is not UTF-8: a decoder does not look into the texts that it skips."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return strict_json(body)
    return body


def strict_json(body: bytes) -> bytes:
    """*body* with what strict JSON does not have replaced; the same bytes where there is nothing to replace.
    A body that is no object and no array stays as it came.
    """
    text = body.decode("utf-8", ERRORS).removeprefix("\ufeff")
    if text.lstrip()[:1] not in {"{", "["}:
        return body
    pieces = bytearray()
    end = 0
    while end < len(text):
        start, end = end, _end_of(BETWEEN, text, end)
        pieces += text[start:end].encode()
        if end - start >= AT_ONCE:
            continue
        if text[end : end + 1] == '"':
            end = _add_string(text, end, pieces)
        elif bare := BARE.match(text, end):
            pieces += _literal(bare[0]).encode()
            end = bare.end()
        else:
            pieces += text[end : end + 1].encode()
            end += 1
    return bytes(pieces)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a *value* of JSON is an array."""
    return isinstance(value, list)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a *value* of JSON is an object."""
    return isinstance(value, dict)


def null_broken_rows(body: bytes) -> bytes:
    """*body* with null for each object directly within a list that is no JSON, where the brackets around it
    still match; the same bytes where there is none.
    """
    strict = strict_json(body)
    opened, pieces = bytearray(), list[bytes]()
    begin = depth = done = 0
    for found in TOKEN.finditer(strict):
        kind = strict[found.start()]
        if kind in b"{[":
            if not begin and kind == OBJECT and opened.endswith(b"["):
                begin, depth = found.start(), len(opened)
            opened.append(kind)
        elif kind in b"}]":
            if not opened or opened.pop() != kind - 2:
                return body
            if begin and len(opened) == depth:
                if not _is_json(strict[begin : found.end()]):
                    pieces += strict[done:begin], b"null"
                    done = found.end()
                begin = 0
    return body if opened or not pieces else b"".join((*pieces, strict[done:]))


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except DECODE_ERRORS:
        return False
    return True


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _add_string(text: str, start: int, pieces: bytearray) -> int:
    """Add the string that begins at *start*; where it ends."""
    end = start + 1
    while True:
        end = _end_of(WITHIN, text, end)
        pieces += text[start:end].encode()
        if end - start >= AT_ONCE:
            start = end
            continue
        if text[end : end + 1] in {'"', ""}:
            pieces += text[end : end + 1].encode()
            return end + 1
        replacement, start = _replaced(text, end)
        pieces += replacement
        end = start


def _replaced(text: str, at: int) -> tuple[bytes, int]:
    """What stands for the character or escape at *at*, which no string may hold, and where it ends."""
    if text[at] != "\\":
        return rb"\u%04x" % ord(text[at]), at + 1
    if HALF.match(text, at):
        return rb"\ufffd", at + 6
    if found := HEX.match(text, at):
        return rb"\u00" + found[1].encode(), at + 4
    return (b"'", at + 2) if text[at + 1 : at + 2] == "'" else (rb"\\", at + 1)


def _literal(bare: str) -> str:
    """*bare* where JSON has such a value and readers can hold it, else its text."""
    if bare in {"true", "false", "null"} or (NUMBER.fullmatch(bare) and abs(float(bare)) != float("inf")):
        return bare
    return msgspec.json.encode(bare).decode()


def _unreadable(error: UnicodeError) -> tuple[str, int]:
    """What stands for the bytes at *error*, and where they end."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    body, start = error.object, error.start
    if PAIR.match(body, start):
        units = body[start : start + 6].decode("utf-8", "surrogatepass")
        return units.encode("utf-16", "surrogatepass").decode("utf-16"), start + 6
    if HALF_BYTES.match(body, start):
        return "\ufffd", start + 3
    run = NO_UTF8.match(body, start)
    return ("\ufffd" * (run.end() - start), run.end()) if run else ("\ufffd", error.end)


ERRORS = "navtalk_async.lenient_json"
codecs.register_error(ERRORS, _unreadable)
