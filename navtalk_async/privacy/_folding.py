"""Texts in which digits, spaces, dashes and signs of every script are those of ASCII."""

import re
from unicodedata import category, decimal, normalize

SIGNS = frozenset("@.:/+-()_%&=?#[]~")

FOLDABLE = re.compile(
    r"[^\x00-\x7f\u00a1-\u00ac\u00ae-\u0588\u0591-\u05bd\u05c0-\u05ff\u0620-\u065f\u066e-\u06dc\u0900-\u0965"
    r"\u200d\u2018-\u201f\u2022\u2026\u3001-\u301b\u3031-\u309f\u30a1-\ua61f\uac00-\ud7ff\ufe0f\U0001f000-\U0001fbef]"
)
"""What may be a sign, a digit or a letter of ASCII in another form; the commonest letters are none."""


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


ESCAPE = re.compile(r"\\[bfnrt]")

SHAPES = bytes.maketrans(
    b"123456789" + (letters := bytes(code for code in range(128) if chr(code).isalpha())),
    b"0" * 9 + b"a" * len(letters),
)

NUMBERS = bytes.maketrans(b"a", b"b")


def folded(text: str) -> str:
    """*text*, of the same length, with signs of ASCII in the place of their like, and spaces in that of the
    escapes that JSON in a text has.
    """
    if not text.isascii() and FOLDABLE.search(text):
        text = text.translate(FOLDING)
    return ESCAPE.sub("  ", text) if "\\" in text else text


def shape(text: str) -> bytes:
    """*text* with a zero for each digit and an `a` for each letter; then again, with a `b` for each letter
    and without what may stand between digits. To look here is the fastest way to rule a number out.
    """
    seen = text.encode("ascii", "replace").translate(SHAPES)
    return seen + seen.translate(NUMBERS, b" \t()/.%-") if b"0" in seen else seen
