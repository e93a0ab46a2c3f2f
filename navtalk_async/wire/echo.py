"""The key where a server repeats it in its data: masked before anything reads it."""

import re
from collections.abc import Callable

from navtalk_async.events import LEAST_UNMISTAKABLE, escapes
from navtalk_async.wire.secret import Opaque

__all__ = ["MASK", "Echo", "EchoInChunks"]

MASK = b"[key]"
"""What the data has instead. A cursor that has it is sent back with the key, so that the walk goes on."""

LONGEST_FORM = 16
"""Bytes that a single character is written in at the most."""

JSON_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class Echo(Opaque):
    """A key as a server may repeat it: as it is, or escaped for JSON, a URL or HTML. One that is shorter than
    `LEAST_UNMISTAKABLE` is left where it is.
    """

    __slots__ = ("_clue", "_key", "_whole")

    def __init__(self, key: str) -> None:
        self._key = key
        self._whole: re.Pattern[bytes] | None = None
        # Letters and digits are the same in every form. To look for them is cheap, and nearly always all.
        runs = re.findall(r"[A-Za-z0-9]+", key)
        self._clue = max(runs, key=len, default="").encode() if len(key) >= LEAST_UNMISTAKABLE else None

    def masked(self, body: bytes) -> bytes:
        """*body* with the `MASK` for the key; what was JSON is JSON still."""
        if self._clue is None or self._clue not in body:
            return body
        if re.fullmatch(r"[0-9.eE+-]*", self._key):
            # Outside of strings it would be a number.
            return JSON_STRING.sub(lambda string: self._masked(string[0]), body)
        return self._masked(body)

    def in_chunks(self) -> "EchoInChunks | None":
        """The same for a body that comes in chunks; None where nothing is masked."""
        return None if self._clue is None else EchoInChunks(self._masked, self._key)

    def _masked(self, body: bytes) -> bytes:
        if self._whole is None:
            self._whole = re.compile(_anywhere(self._key))
        return self._whole.sub(rb"\1" + MASK, body)


class EchoInChunks(Opaque):
    """Masks a key in chunks, which may end within it: what may be its beginning is held back until more has
    come.
    """

    __slots__ = ("_beginning", "_held", "_longest", "_masked")

    def __init__(self, masked: Callable[[bytes], bytes], key: str) -> None:
        self._masked = masked
        self._beginning = re.compile(_beginning(key))
        self._longest = LONGEST_FORM * len(key)
        self._held = b""

    @property
    def held(self) -> int:
        """How many bytes are held back."""
        return len(self._held)

    def feed(self, chunk: bytes) -> bytes:
        """What is sure of all that has come by now; it may be nothing."""
        come = self._held + chunk
        stem = come.rstrip(b"\\")
        # What comes next may belong to the last backslashes.
        escaping = come[len(stem) :]
        stem = self._masked(stem)
        found = self._beginning.search(stem, max(0, len(stem) - self._longest))
        sure = found.start() if found else len(stem)
        self._held = stem[sure:] + escaping
        return stem[:sure]

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return held if len(held) < LEAST_UNMISTAKABLE else MASK


def _anywhere(key: str) -> bytes:
    """A pattern for *key* in any form, behind a group of which nothing is masked."""
    # In JSON, the first character may be that of an escape, as in `\\n`: then the text is another one.
    before = r"(?<!\\)((?:\\\\)*)" if key[0] in "bfnrtu" else "()"
    return (before + "".join(f"(?:{'|'.join(_forms(each))})" for each in key)).encode()


def _beginning(key: str) -> bytes:
    """A pattern for a text that ends with *key*, or a part of it from its first character on, in any form."""
    cut = (rf"(?:{'|'.join([*_forms(each), *_cut_forms(each)])})" for each in key)
    return (r"\\*" + "".join(cut)).encode()


def _forms(character: str) -> list[str]:
    """Patterns for *character* in every form."""
    if character.isalnum():
        return [character]
    escaped = [rf"(?i:{re.escape(form)})" for form in _escapes(character)]
    # JSON within JSON doubles the backslashes; one more than an even number of them escapes what follows.
    plain = r"(?:\\\\)+|\\" if character == "\\" else rf"\\*{re.escape(character)}"
    return [plain, *escaped]


def _cut_forms(character: str) -> list[str]:
    """Patterns for the beginnings of *character* in every form, the empty one included, at the end."""
    if character.isalnum():
        return [r"\Z"]
    cut = {form[:length] for form in _escapes(character) for length in range(1, len(form))}
    return [r"\\*\Z", *(rf"(?i:{re.escape(each)})\Z" for each in sorted(cut))]


def _escapes(character: str) -> list[str]:
    forms = [*escapes(character), f"\\u{ord(character):04x}"]
    # Some escape HTML's ampersand in JSON.
    return forms + [rf"\u0026{form[1:]}" for form in forms if form.startswith("&")]
