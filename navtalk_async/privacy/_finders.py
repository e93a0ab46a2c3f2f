"""All finders, by the kind that they find."""

import re
from collections.abc import Callable, Iterable

from navtalk_async.privacy._addresses import emails, ips, normal_email, normal_url, urls
from navtalk_async.privacy._finding import Finding
from navtalk_async.privacy._folding import folded, shape
from navtalk_async.privacy._numbers import cards, ibans
from navtalk_async.privacy._phones import NAMES, phones

FINDERS: dict[str, tuple[bytes, Callable[[str], list[Finding]]]] = {
    "emails": (b"", emails),
    "phones": (b"0" * 6, phones),
    "cards": (b"0" * 12, cards),
    "ibans": (b"aa00", ibans),
    "ips": (b"", ips),
    "urls": (b"", urls),
}
"""What finds a kind, and what its texts have in their `shape`: most texts have no long number."""

WORD = re.compile(r"[A-Z]?[^\W\d_A-Z]+")

NORMAL = {"email": normal_email, "url": normal_url}


def find(kinds: Iterable[str], text: str) -> list[Finding]:
    plain = folded(text)
    seen = shape(plain)
    findings: list[Finding] = []
    for kind in kinds:
        needle, finder = FINDERS[kind]
        if needle in seen:
            findings += finder(plain)
    return findings


def normal(word: str, value: str) -> str:
    """The same value for all its spellings."""
    return NORMAL[word](value) if word in NORMAL else value


def names_phone(name: str) -> bool:
    """Whether the field *name* of an object holds the number of a telephone: `mobilePhone`, `tel_2`."""
    return any(word.lower() in NAMES for word in WORD.findall(name))
