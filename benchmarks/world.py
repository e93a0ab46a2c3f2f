"""The data and the behaviour of the benchmark server: values, the same in every process."""

import random
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

SESSIONS_A_PAGE = 100
MESSAGES_A_PAGE = 200
BEGIN = datetime(2025, 1, 1, tzinfo=UTC)
DAYS = 334
LAST_DAY = "2025-12-01 00:00:00"
"""Some sessions have a day of their own: with this `startTime`, a small job to warm up with."""
LAST_SESSIONS = 200
SAYINGS = (
    "Is the museum open on Monday?",
    "It is closed on Mondays, and open from ten to six on every other day. Shall I book a tour for you?",
)


class World(msgspec.Struct, frozen=True, kw_only=True):
    """A project with chats, on a server of these manners."""

    sessions: int
    messages: int = 10
    """In each session."""
    cursor: Literal["needed", "always"] = "needed"
    """`always`: on every page that is not empty, as the samples of the API's reference have it."""
    short_every: int = 0
    """Every n-th session has its messages in pages of seven, with a cursor; 0 for none."""
    latency_seconds: float = 0.0
    bends_at: int | None = None
    """The number of requests in flight that doubles the latency, which grows with its square."""
    at_once: int | None = None
    """More requests in flight than that are refused, with a bare 429."""
    rate: int | None = None
    """More requests a second than that are refused, with a 429 and `Retry-After: 1`."""
    rate_by: Literal["window", "bucket"] = "window"
    """Whether the rate is counted by the second, or by a bucket of tokens that holds one second's."""
    fault: Literal["", "hang", "drip", "429", "503", "reset"] = ""
    """What happens to every request."""

    @property
    def fewest_requests(self) -> int:
        """The smallest number of requests that fetches everything."""
        pages = -(-self.messages // MESSAGES_A_PAGE)
        return -(-self.sessions // SESSIONS_A_PAGE) + self.sessions * pages


def starts(sessions: int) -> list[int]:
    """When each of *sessions* begins, in seconds since `BEGIN`: busy days and idle ones, and on each most
    around noon. Every call gives the same.
    """
    chance = random.Random(20250101)
    busy = [chance.expovariate(1.0) ** 3 if day % 7 < 5 else 0.0 for day in range(DAYS)]
    last = last_sessions(sessions)
    days = chance.choices(range(DAYS), busy, k=sessions - last)
    clustered = sorted(86_400 * day + seconds_of_day(chance) for day in days)
    return clustered + [86_400 * DAYS + 30 * row for row in range(last)]


def last_sessions(sessions: int) -> int:
    """How many of them are on the last day."""
    return min(LAST_SESSIONS, sessions // 5)


def seconds_of_day(chance: random.Random) -> int:
    return min(86_399, max(0, int(chance.gauss(50_000, 9_000))))


def session_id(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def session_row(number: int, start: int) -> bytes:
    begin = BEGIN + timedelta(seconds=start)
    return msgspec.json.encode(
        {
            "id": session_id(number),
            "status": 1,
            "startTime": text_of(begin),
            "endTime": text_of(begin + timedelta(seconds=20)),
            "videoUrl": None,
        }
    )


def message_row(number: int) -> bytes:
    """A message of any session: the session's own eight digits go where SSSSSSSS stands."""
    return msgspec.json.encode(
        {
            "id": f"SSSSSSSS-0000-4000-9000-{number:012x}",
            "role": number % 2,
            "messageType": 0,
            "content": SAYINGS[number % 2],
            "createdAt": text_of(BEGIN + timedelta(seconds=number)),
        }
    )


def page(rows: list[bytes], cursor: int | None) -> bytes:
    """The envelope around *rows*."""
    after = b"null" if cursor is None else b'"%d"' % cursor
    return b'{"code":200,"message":"SUCCESS","data":{"data":[%b],"nextCursor":%b}}' % (b",".join(rows), after)


def text_of(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(" ")


def seconds_of(text: str) -> int:
    """What `text_of` wrote, in seconds since `BEGIN`."""
    return int((datetime.fromisoformat(text).replace(tzinfo=UTC) - BEGIN).total_seconds())
