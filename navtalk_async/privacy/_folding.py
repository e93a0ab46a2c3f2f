"""Texts in which digits, spaces, dashes and signs of every script are those of ASCII."""

import re
from typing import NamedTuple
from unicodedata import category, decimal, normalize

SIGNS = frozenset("@.:/+-()_%&=?#[]~")

MAY_HOLD = re.compile("[@:%&0-9]|www", re.IGNORECASE)
"""Without one of these, there is nothing personal in a text."""


class Finding(NamedTuple):
    """What was found in a text; *value* is the same for all its spellings."""

    start: int
    end: int
    word: str
    value: str


class _Folding(dict[int, int]):
    def __missing__(self, code: int) -> int:
        self[code] = found = ord(_fold(chr(code)))
        return found


def _fold(char: str) -> str:
    kind = category(char)
    if kind == "Nd":
        return str(decimal(char))
    if kind in ("Zs", "Cf"):
        return " "
    if kind == "Pd" or char == "\N{MINUS SIGN}":
        return "-"
    plain = normalize("NFKC", char)
    is_plain = len(plain) == 1 and plain.isascii() and char not in "ªº"
    return plain if is_plain and (plain.isalpha() or plain in SIGNS) else char


FOLDING = _Folding({code: code for code in range(128)})


def folded(text: str) -> str:
    """*text*, of the same length, with signs of ASCII for their like; empty if nothing can be found in it."""
    if not text.isascii():
        text = text.translate(FOLDING)
    return text if MAY_HOLD.search(text) else ""
