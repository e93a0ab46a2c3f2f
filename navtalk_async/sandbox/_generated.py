"""The rows of a world as a seed makes them, and as the APIs write them.

A seed makes the same rows on every machine. Only ``Random.random`` is drawn from, whose sequence Python
promises to keep; and the messages of a session depend on nothing but the seed and the session's number, so
they need not be held.
"""

# ruff: noqa: RUF001 - letters that look like other letters are what the texts are for

from bisect import bisect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from math import sqrt
from random import Random
from typing import Any, Final, NamedTuple
from zlib import crc32

Row = dict[str, Any]

FIRST_DAY = datetime(2025, 11, 1)  # noqa: DTZ001 - the API's times are UTC and carry no zone
DAYS = 35
MOST_MESSAGES = 1_000

# An odd multiplier is a bijection on 32 bits: ids look shuffled, and never meet.
_SHUFFLE = 2_654_435_761
_LOW = 0xFFFF_FFFF
_LONG_TEXT = 1_000_000
_SESSION_FIELDS: Final = frozenset({"id", "status", "startTime", "endTime", "videoUrl"})
_MESSAGE_FIELDS: Final = frozenset({"id", "role", "messageType", "content", "createdAt"})

# Each of these has broken somebody's exporter: joined emoji, right-to-left marks, combining accents, line
# separators that JavaScript and str.splitlines() believe in, NUL (PostgreSQL refuses it), markup, formulas.
FRAGMENTS = (
    "Hello, how can I help you today?",
    "Thank You For Watching",
    "I would like to change the address of my order, please.",
    "你好，我想预约明天下午三点。",
    "ありがとうございます。もう一度お願いします。",
    "안녕하세요, 도와주셔서 감사합니다.",
    "مرحبا، كيف حالك اليوم؟ \u200fRTL\u200e",
    "שלום, מה שלומך? (12:30)",
    "नमस्ते, क्या आप मेरी मदद कर सकते हैं?",
    "สวัสดีครับ ขอบคุณมาก",
    "👩‍👩‍👧‍👦 the family, 🏳️‍🌈 the flag, 👍🏽 the thumb, 🇺🇳",
    "Zalgo: e\u0301\u0323 a\u0308\u0304 n\u0303 and cafe\u0301, not café",
    "\"quoted\", 'single', `ticks`, \\back\\slashes\\, C:\\new\\table",
    "two\nlines\r\nand\ta tab",
    "separators:\u2028line\u2029paragraph\u0085next",
    "a NUL \x00 in the middle, and \x1b[31mred\x1b[0m",
    "</script><script>alert('1')</script> & <b>bold</b> <!-- -->",
    "=SUM(1+1)*cmd|' /C calc'!A0, ;semicolon, comma,",
    "\ufeffa byte order mark, a \u00a0hard space, zero\u200bwidth",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𒀀 beyond the first plane",
    "{\"code\": 200, \"data\": null} %s %(name)s ${HOME} {{x}} '; DROP TABLE messages;--",
    "- a list\n- of **markdown**\n\n```python\nprint('hi')\n```\n| a | b |\n|---|---|",
    " leading and trailing ",
    "https://example.com/?q=a%20b&c=d#e?f",
)  # fmt: skip


class Birth(NamedTuple):
    """What is needed to make the messages of a generated session again at any time."""

    number: int
    start: int
    seconds: int
    messages: int


def stamp(seconds: int) -> str:
    """The API's ``yyyy-MM-dd HH:mm:ss``, *seconds* after the first day began."""
    return (FIRST_DAY + timedelta(seconds=seconds)).isoformat(" ")


def made_up_id(number: int, seed: int) -> str:
    """A UUIDv1 stamped on 2025-12-22, weeks after any session, so that id order is no time order."""
    return f"{number * _SHUFFLE & _LOW:08x}-dede-11f0-92bc-{_node(seed)}"


def _message_id(session: int, number: int, seed: int) -> str:
    """The id of a session's message: unique in the whole world, in no order."""
    low = (number * _SHUFFLE + session * 40_503) & _LOW
    high = 0xE000 + (session >> 14) & 0xFFFF
    return f"{low:08x}-{high:04x}-11f0-{0x8000 | session & 0x3FFF:04x}-{_node(seed)}"


def _node(seed: int) -> str:
    # Worlds of different seeds are different projects, and no id of one is an id of another.
    return f"{(0x000E_1EED_4A72 + seed) & 0xFFFF_FFFF_FFFF:012x}"


def _starts(rng: Random, count: int) -> list[int]:
    """Start times of *count* sessions in seconds since the first day: busy and idle days, bursts, ties."""
    # Products are exact to the last bit on every machine, which ** need not be.
    weights = [
        0.0 if rng.random() < 0.2 else 0.2 + 4 * (dice := rng.random()) * dice * dice for _ in range(DAYS)
    ]
    weights[0] += 0.3
    reach = list(accumulate(weights))
    bursts = [[8 * 3600 + int(rng.random() * 12 * 3600) for _ in range(3)] for _ in range(DAYS)]
    found: list[int] = []
    for _ in range(count):
        dice = rng.random()
        if found and dice < 0.06:
            found.append(found[-1])
            continue
        day = min(bisect(reach, rng.random() * reach[-1]), DAYS - 1)
        within = rng.random()
        if dice < 0.6:
            second = bursts[day][int(rng.random() * 3)] + int(within * 1800)
        else:
            second = int(within * 86_400)
        found.append(day * 86_400 + second)
    return sorted(found)


def make_sessions(
    count: int, seed: int, messages: int | Callable[[int], int] | None, mean: float, *, unknown: bool
) -> Iterator[tuple[Row, Birth]]:
    """Each session's row and birth by time; *messages* is how many each has, or by number, or long-tailed."""
    rng = Random(seed)  # noqa: S311 - made-up data, not secrets
    for number, start in enumerate(_starts(rng, count)):
        dice, pace = rng.random(), rng.random()
        # A Lomax distribution with shape 2, whose mean is its scale.
        tail = min(MOST_MESSAGES, int(mean * (1 / sqrt(1 - rng.random()) - 1) + 0.5))
        many = tail if messages is None else messages(number) if callable(messages) else messages
        birth = Birth(number, start, 4 + int(many * (0.4 + 4 * pace)), many)
        yield _session_row(birth, dice, made_up_id(number, seed), unknown=unknown), birth


def _session_row(birth: Birth, dice: float, name: str, *, unknown: bool) -> Row:
    status = 1 if dice < 0.9 else 2 if dice < 0.97 else 0
    row: Row = {
        "id": name,
        "status": status,
        "startTime": stamp(birth.start),
        "endTime": stamp(birth.start + birth.seconds) if status else None,
        "videoUrl": f"https://cdn.navtalk.example/video/{name}.mp4?w=1&h=2" if dice < 0.25 else None,
    }
    if unknown:
        if birth.number % 11 == 5:
            row["status"] = 7
        row["language"] = ("en", "zh-CN", None)[birth.number % 3]
        row["device"] = {"os": "Plan 9", "screen": [1920, 1080], "tags": {"a": [{"b": None}], "ü": 1.5}}
    return row


def message_time(birth: Birth, number: int) -> str:
    return stamp(birth.start + number * birth.seconds // birth.messages)


def make_messages(birth: Birth, seed: int, *, unknown: bool, long: bool) -> Iterator[Row]:
    """The messages of one session by time; *long* makes the last one a megabyte."""
    rng = Random(f"{seed}/{birth.number}")  # noqa: S311 - made-up data, not secrets
    for number in range(birth.messages):
        row: Row = {
            "id": _message_id(birth.number, number, seed),
            "role": number % 2,
            "messageType": 0,
            "content": _message_text(rng),
            "createdAt": message_time(birth, number),
        }
        if unknown:
            row["sentiment"] = {"score": rng.random(), "labels": ["calm", "كتب"], "by": None}
            if number % 7 == 3:
                row["role"] = row["messageType"] = 7
        if long and number == birth.messages - 1:
            fragment = _fragment(rng) + " "
            row["content"] = fragment * (_LONG_TEXT // len(fragment.encode()) + 1)
        yield row


def _message_text(rng: Random) -> str:
    """The text of a message: rarely empty, mostly one or two fragments, sometimes a long answer."""
    dice = rng.random()
    if dice < 0.02:
        return ""
    count = 1 if dice < 0.6 else 2 if dice < 0.95 else 12
    return " ".join(_fragment(rng) for _ in range(count))


def _fragment(rng: Random) -> str:
    return FRAGMENTS[int(rng.random() * len(FRAGMENTS))]


def zoned(time: str | None) -> str | None:
    """A time of a row, ``2024-01-15 10:30:00``, as ``2024-01-15T10:30:00Z``."""
    return None if time is None else time.replace(" ", "T", 1) + "Z"


def row_time(moment: datetime) -> str:
    """The moment as a time of a row, ``2024-01-15 10:30:00``; a naive one is UTC."""
    return f"{moment.astimezone(UTC) if moment.tzinfo else moment:%Y-%m-%d %H:%M:%S}"


def role_word(number: int) -> str:
    """``user`` or ``assistant``; for a number that NavTalk does not know either, a word nobody knows."""
    return ("user", "assistant")[number] if number in {0, 1} else f"role-{number}"


def unknown_fields(row: Row) -> Row:
    """The fields of a row that NavTalk's reference does not know, and no other API's either."""
    known = _MESSAGE_FIELDS if "createdAt" in row else _SESSION_FIELDS
    return {name: value for name, value in row.items() if name not in known}


def share(text: str, parts: int) -> int:
    """A number below *parts* that is always the same for the same *text*: how a world is divided."""
    return crc32(text.encode()) % parts


def made_up_user(session_id: str) -> str:
    """The user of a made-up session: ``user-0`` has six of ten, ``user-1`` two, two others one each."""
    return f"user-{'0000001123'[share(session_id, 10)]}"
