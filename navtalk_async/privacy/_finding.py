"""What was found in a text, and what is left of finds that overlap."""

from typing import NamedTuple

RANKS = {word: rank for rank, word in enumerate(("url", "email", "iban", "card", "ip", "phone"))}
"""Which kind a text is of that several find, the first of these."""


class Finding(NamedTuple):
    start: int
    end: int
    word: str
    value: str


def merged(findings: list[Finding]) -> list[Finding]:
    """In order, those that overlap as one of the first kind among them: nothing that was found is left."""
    result: list[Finding] = []
    for find in sorted(findings):
        if not result or find.start >= result[-1].end:
            result.append(find)
            continue
        last = result[-1]
        first = min(last, find, key=lambda each: RANKS.get(each.word, -1))
        result[-1] = Finding(last.start, max(last.end, find.end), first.word, first.value)
    return result
