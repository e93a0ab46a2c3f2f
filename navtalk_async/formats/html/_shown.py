"""How sessions and messages are shown: their values as words, and texts in parts."""

import re
from collections.abc import Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import NamedTuple

from navtalk_async.formats._tables import Fields

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

LONG_TEXT = 3_000
SHOWN_OF_LONG = 1_500
"""Characters of a long text that are shown unfolded."""

UNSEEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Control characters, which HTML cannot hold."""

CODE = re.compile(r"^```[^\n`]*\n(.*?)(?:\n```[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)

IS_LINK = re.compile(r"https?://([\w.-]+|\[[\da-f:.]+\])(:\d+)?([/?#]\S*)?", re.IGNORECASE)

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class TextSpan(NamedTuple):
    """A part of a text: of a message, or of what a search found in one."""

    is_special: bool
    """Whether it is code, or was searched for."""
    text: str


class Video(NamedTuple):
    """Where a recording is."""

    address: str
    is_link: bool
    """Whether a browser may open it."""


class ShownSession(NamedTuple):
    """What a page says about its session."""

    title: str
    facts: Sequence[tuple[str, str]]
    deleted: str
    video: Video | None


def shown_session(session: Fields, messages: int) -> ShownSession:
    """*session*, which has so many *messages*, as its pages show it."""
    lasted = seconds_between(session["start_time"], session["end_time"])
    facts = {
        "Started": shown_time(session["start_time"]),
        "Lasted": "" if lasted is None else shown_span(lasted),
        "Status": shown(session["status"]),
        "Messages": f"{messages:,}",
        "User": shown(session["user_id"]),
        "Project": "" if session["project"] == "default" else shown(session["project"]),
        "Id": shown(session["id"]),
    }
    url = shown(session["video_url"])
    return ShownSession(
        title=title_of(session),
        facts=[(name, text) for name, text in facts.items() if text],
        deleted=shown_time(session["deleted_at"]),
        video=Video(url, IS_LINK.fullmatch(url) is not None) if url else None,
    )


def title_of(session: Fields) -> str:
    """What a session is called: its title, or its id."""
    return shown(session["title"]).strip() or shown(session["id"])


def shown(value: object) -> str:
    """*value* as a text of HTML."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    return UNSEEN.sub("\ufffd", text) if not text.isprintable() else text


@lru_cache(4_096)
def shown_day(day: str) -> str:
    """A day (ISO 8601) in words; as it is if it is no day."""
    try:
        moment = date.fromisoformat(day)
    except ValueError:
        return day
    return f"{DAYS[moment.weekday()]}, {moment.day} {MONTHS[moment.month - 1]} {moment.year}"


def shown_time(moment: str | None) -> str:
    """A time (ISO 8601, UTC) to the second."""
    return "" if moment is None else shown(moment)[:19].replace("T", " ")


def shown_span(seconds: float) -> str:
    """A span in its two largest units."""
    left, said = round(seconds), list[str]()
    for size, unit in UNITS:
        count, left = divmod(left, size)
        if count or said:
            said.append(f"{count} {unit}" if count else "")
        if len(said) == 2:
            break
    return " ".join(filter(None, said)) or "0 s"


def seconds_between(begin: str | None, end: str | None) -> float | None:
    """The seconds between two times in ISO 8601; None where one is missing, or no time."""
    if begin is None or end is None:
        return None
    try:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
    except (ValueError, TypeError):
        return None


def parts_of(text: str) -> list[TextSpan]:
    """*text* cut into code between fences, and what is around it."""
    if "```" not in text:
        return [TextSpan(False, text)] if text else []
    parts, end = list[TextSpan](), 0
    for found in CODE.finditer(text):
        parts += [TextSpan(False, text[end : found.start()].strip("\n")), TextSpan(True, found[1])]
        end = found.end()
    parts.append(TextSpan(False, text[end:].strip("\n") if parts else text))
    return [each for each in parts if each.text] or [TextSpan(False, text)]


def folded(parts: list[TextSpan]) -> tuple[Sequence[TextSpan], Sequence[TextSpan]]:
    """*parts* as they are shown at once, and the rest of a long text."""
    if sum(len(each.text) for each in parts) <= LONG_TEXT:
        return parts, ()
    head, left = list[TextSpan](), SHOWN_OF_LONG
    for index, each in enumerate(parts):
        if len(each.text) > left:
            # Between two words, where there are words.
            cut = max(each.text.rfind(" ", 0, left), each.text.rfind("\n", 0, left)) + 1 or left
            rest = [each._replace(text=each.text[cut:]), *parts[index + 1 :]]
            return [*head, each._replace(text=each.text[:cut])], rest
        head.append(each)
        left -= len(each.text)
    return head, ()
