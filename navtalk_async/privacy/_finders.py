"""All finders, by the kind that they find."""

from collections.abc import Callable, Iterable

from navtalk_async.privacy._addresses import emails, ips, normal_email, normal_url, urls
from navtalk_async.privacy._finding import Finding
from navtalk_async.privacy._folding import folded
from navtalk_async.privacy._numbers import cards, ibans
from navtalk_async.privacy._phones import phones

FINDERS: dict[str, Callable[[str], list[Finding]]] = {
    "emails": emails,
    "phones": phones,
    "cards": cards,
    "ibans": ibans,
    "ips": ips,
    "urls": urls,
}

NORMAL = {"email": normal_email, "url": normal_url}


def find(kinds: Iterable[str], text: str) -> list[Finding]:
    plain = folded(text)
    findings = []
    for kind in kinds:
        findings += FINDERS[kind](plain)
    return findings


def normal(word: str, value: str) -> str:
    """The same value for all its spellings."""
    return NORMAL[word](value) if word in NORMAL else value
