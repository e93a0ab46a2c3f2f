"""The messages of a page as HTML: written here and not in a template, which takes five times as long."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from html import escape

import msgspec

from navtalk_async.formats._tables import Fields
from navtalk_async.formats.html._shown import (
    LONG_TEXT,
    TextSpan,
    folded,
    parts_of,
    seconds_between,
    shown,
    shown_day,
    shown_span,
)

A_GAP = 600
"""Seconds between two messages that are worth a line."""

SIDES = {"user": "user", "assistant": "assistant", "agent": "assistant"}
"""On which side a role stands; others stand between them."""

ORDINARY = (None, "text", 0, "0")
"""The types of messages that are texts; NavTalk writes a number."""

NO_TEXT = '<p class="none">No text.</p>'


def chat_of(messages: Sequence[Fields], before: str | None) -> str:
    """*messages* as items of a list; the one *before* the first was written at that time."""
    return "".join(_items(messages, before))


def _items(messages: Sequence[Fields], before: str | None) -> Iterator[str]:
    for each in messages:
        moment, position, kind = each["created_at"], each["position"], each["type"]
        if moment is not None:
            # Nearly all are of the same ten minutes, between which is no gap.
            if before is None or before[:15] != moment[:15]:
                yield _since(before, moment)
            before = moment
        side, who = _speaker(each["role"])
        sort = "" if kind in ORDINARY else f' <span class="kind">{_escaped(kind)}</span>'
        at = "" if moment is None else f"<time>{_escaped(moment[11:19])}</time> · "
        yield (
            f'<li class="said {side}" id="m{position}"><div class="by"><span class="who">{who}</span>{sort}'
            f' <a class="at" href="#m{position}" aria-label="Message {position + 1}">{at}#{position + 1}</a>'
            "</div>"
            f'<div class="bubble">{_text(each["content"])}{_more(each)}</div></li>\n'
        )


@lru_cache(256)
def _speaker(role: object) -> tuple[str, str]:
    """The side of a role, and its name."""
    side = SIDES.get(role, "other") if isinstance(role, str) else "other"
    return side, "unknown" if role is None else _escaped(role)


def _since(before: str | None, moment: str) -> str:
    """The day of *moment* if it is another one than *before*, or how much later it is."""
    if before is None or before[:10] != moment[:10]:
        return f'<li class="day"><h2>{_escaped(shown_day(moment[:10]))}</h2></li>\n'
    seconds = seconds_between(before, moment)
    if seconds is None or seconds < A_GAP:
        return ""
    return f'<li class="gap">{shown_span(seconds)} later</li>\n'


def _text(content: str | None) -> str:
    if not content:
        return NO_TEXT
    if len(content) <= LONG_TEXT and "```" not in content:
        return TEXT % escape(shown(content))
    head, rest = folded(parts_of(shown(content)))
    summary = f"<summary>Show all {len(content):,} characters</summary>"
    return _parts(head) + (f'<details class="rest">{summary}{_parts(rest)}</details>' if rest else "")


def _parts(parts: Sequence[TextSpan]) -> str:
    return "".join([(CODE if is_special else TEXT) % escape(text) for is_special, text in parts])


def _more(message: Fields) -> str:
    if "extra" not in message:
        return ""
    fields = CODE % escape(as_json(message["extra"]))
    return f'<details class="more"><summary>More fields</summary>{fields}</details>'


def as_json(value: object) -> str:
    """*value* as JSON that is read by people."""
    return shown(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def _escaped(value: object) -> str:
    return escape(shown(value))


TEXT = '<p dir="auto">%s</p>'
CODE = '<pre class="code" dir="ltr"><code>%s</code></pre>'
