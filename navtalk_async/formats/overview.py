"""The statistics of an archive: what `html`, `view` and `report` show first. Plain values, in flat memory."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from navtalk_async.archive import Archive
from navtalk_async.archive.rows import SessionRow
from navtalk_async.formats._tables import Fields

__all__ = ["Bar", "Overview", "SessionFacts", "Summary", "Wait", "facts_of", "facts_of_row", "read_overview"]

MOST_STATUSES = 50
LONGEST = 10

DURATIONS: dict[float, str] = {
    10: "under 10 s",
    30: "10-30 s",
    60: "30-60 s",
    180: "1-3 min",
    600: "3-10 min",
    1_800: "10-30 min",
    3_600: "30-60 min",
    10_800: "1-3 h",
    36_000: "3-10 h",
    86_400: "10-24 h",
    float("inf"): "a day or more",
}
"""The label of each bucket by the seconds that it ends before."""

COUNTS: dict[float, str] = {
    1: "none",
    3: "1-2",
    6: "3-5",
    11: "6-10",
    21: "11-20",
    51: "21-50",
    101: "51-100",
    201: "101-200",
    501: "201-500",
    1_001: "501-1,000",
    float("inf"): "over 1,000",
}


class SessionFacts(NamedTuple):
    """What of a session is counted.

    Attributes:
        start_time: its start, ISO 8601 in UTC with a `Z`; that of its first message where it has none.
        duration: seconds from its start to its end; from or to a message where it has none.
        user, assistant, other: numbers of messages by their roles.
        longest_wait: the most seconds from a message of the user to the answer that followed it.
    """

    project: str
    id: str
    title: str | None
    status: str | None
    start_time: str | None
    duration: float | None
    user: int
    assistant: int
    other: int
    longest_wait: float | None

    @property
    def messages(self) -> int:
        """The number of all its messages."""
        return self.user + self.assistant + self.other


class Bar(NamedTuple):
    """One bar of a chart: how many sessions have what its label says."""

    label: str
    sessions: int


class Summary(NamedTuple):
    """How a number is distributed over the sessions that have it; None where none has.

    Attributes:
        median, p90: that half, or nine tenths, of the sessions do not exceed; of durations in two digits.
    """

    bars: list[Bar]
    median: float | None
    p90: float | None
    max: float | None


class Wait(NamedTuple):
    """How many seconds the user of a session waited for an answer."""

    seconds: float
    project: str
    session_id: str
    title: str | None


def facts_of(transcript: Fields) -> SessionFacts:
    """The facts of a session's columns with its `messages`, as `transcript_fields` makes them."""
    said = [(each["role"], each["created_at"]) for each in transcript["messages"]]
    names = ("project", "id", "title", "status", "start_time", "end_time")
    project, own_id, title, status, start, end = (transcript[name] for name in names)
    return _facts(project, own_id, title, status, start, end, said)


def facts_of_row(row: SessionRow, said: Iterable[tuple[Any, Any]]) -> SessionFacts:
    """The facts of a session's row, with the role and `created_at` of each of its messages, in order."""
    return _facts(row.project, row.id, row.title, row.status, row.start_time, row.end_time, said)


def _facts(  # noqa: PLR0917 - columns in their order
    project: str, own_id: str, title: str | None, status: Any, start: Any, end: Any, said: Iterable[Any]
) -> SessionFacts:
    # Damage may have made anything of a column; what is no time counts as none.
    pairs = [(role, time if isinstance(time, str) else None) for role, time in said]
    roles = Counter(role if role in ("user", "assistant") else "" for role, _ in pairs)
    times = [time.rstrip("Z") for _, time in pairs if time is not None]
    if not isinstance(start, str):
        start = f"{min(times)}Z" if times else None
    if not isinstance(end, str):
        end = max(times, default=None)
    waits = [
        _seconds(asked, answered)
        for (asker, asked), (role, answered) in pairwise(pairs)
        if asker == "user" and role not in ("user", None)
    ]
    return SessionFacts(
        project,
        own_id,
        title,
        None if status is None else str(status),
        start,
        _seconds(start, end),
        roles["user"],
        roles["assistant"],
        roles[""],
        max((each for each in waits if each is not None), default=None),
    )


def _seconds(begin: str | None, end: str | None) -> float | None:
    if begin is None or end is None:
        return None
    try:
        # Without zones, since one of the two may have lost its own above.
        span = datetime.fromisoformat(end.rstrip("Z")) - datetime.fromisoformat(begin.rstrip("Z"))
    except (ValueError, TypeError):
        return None
    return round(span.total_seconds(), 3)


class _Distribution:
    """How often each number came, in the buckets of *labels*, and in two digits."""

    def __init__(self, labels: Mapping[float, str], digits: int | None = None) -> None:
        self._ends, self._labels, self._digits = list(labels), list(labels.values()), digits
        self._bars = [0] * len(labels)
        self._counts = Counter[float]()
        self._max: float | None = None

    def add(self, value: float) -> None:
        self._bars[bisect_right(self._ends, value)] += 1
        self._counts[float(f"{value:.{self._digits}g}") if self._digits else value] += 1
        self._max = value if self._max is None else max(self._max, value)

    def summary(self) -> Summary:
        bars = [Bar(*each) for each in zip(self._labels, self._bars, strict=True)]
        return Summary(bars, self._quantile(50), self._quantile(90), self._max)

    def _quantile(self, percent: int) -> float | None:
        """The least number that so many of all do not exceed."""
        passed, wanted = 0, self._counts.total() * percent
        for value in sorted(self._counts):
            passed += self._counts[value]
            if passed * 100 >= wanted:
                return value
        return None


class Overview:
    """The statistics of all sessions that were added; each once.

    Attributes:
        sessions: how many there are.
        user, assistant, other: their messages by role.
        first, last: the earliest and latest start, ISO 8601; None without any.
        days: sessions that started on each day (ISO 8601, UTC).
        week: seven lists, Monday first, of the sessions that started in each of the 24 hours, in UTC.
        statuses: sessions of each status; "unknown" without one.
        undated: sessions that have no start, nor any message with a time.
    """

    def __init__(self) -> None:
        self.sessions: int = 0
        self.user: int = 0
        self.assistant: int = 0
        self.other: int = 0
        self.undated: int = 0
        self.first: str | None = None
        self.last: str | None = None
        self.days: Counter[str] = Counter()
        self.week: list[list[int]] = [[0] * 24 for _ in range(7)]
        self.statuses: Counter[str] = Counter()
        self._durations = _Distribution(DURATIONS, digits=2)
        self._counts = _Distribution(COUNTS)
        self._waits: list[Wait] = []

    def add(self, facts: SessionFacts) -> None:
        """Count one more session."""
        self.sessions += 1
        self.user += facts.user
        self.assistant += facts.assistant
        self.other += facts.other
        self._add_start(facts.start_time)
        status = "unknown" if facts.status is None else facts.status
        has_room = len(self.statuses) < MOST_STATUSES
        self.statuses[status if has_room or status in self.statuses else "others"] += 1
        self._counts.add(facts.messages)
        if facts.duration is not None and facts.duration >= 0:
            self._durations.add(facts.duration)
        if facts.longest_wait is not None and facts.longest_wait > 0:
            wait = Wait(facts.longest_wait, facts.project, facts.id, facts.title)
            if len(self._waits) < LONGEST or _by_length(wait) < _by_length(self._waits[-1]):
                self._waits = sorted([*self._waits, wait], key=_by_length)[:LONGEST]

    def _add_start(self, start: str | None) -> None:
        try:
            self.week[_weekday((start or "")[:10])][int((start or "")[11:13])] += 1
        except (ValueError, IndexError):
            start = None
        if start is None:
            self.undated += 1
            return
        self.days[start[:10]] += 1
        self.first = min(self.first or start, start)
        self.last = max(self.last or start, start)

    @property
    def messages(self) -> int:
        """How many messages all sessions have."""
        return self.user + self.assistant + self.other

    @property
    def durations(self) -> Summary:
        """How long sessions lasted, in seconds."""
        return self._durations.summary()

    @property
    def messages_a_session(self) -> Summary:
        """How many messages sessions have."""
        return self._counts.summary()

    @property
    def waits(self) -> list[Wait]:
        """The ten sessions in which a user waited longest for an answer, the longest first."""
        return list(self._waits)

    def timeline(self, most: int = 60) -> tuple[str, list[Bar]]:
        """Sessions by when they started, without gaps, in at *most* so many bars.

        Returns:
            What a bar is: `day`, `week` (from Monday), `month`, `year`, or `20 years`, say; and the bars,
            each labelled by its first day, month or year.
        """
        if not self.days:
            return "day", []
        first, last = date.fromisoformat(min(self.days)), date.fromisoformat(max(self.days))
        days, months = (last - first).days + 1, (last.year - first.year) * 12 + last.month - first.month + 1
        if days <= most:
            return "day", self._bars([str(first + timedelta(each)) for each in range(days)], str)
        if days + first.weekday() <= most * 7 and first.toordinal() > 7:
            monday = first - timedelta(first.weekday())
            names = [str(monday + timedelta(each)) for each in range(0, (last - monday).days + 1, 7)]
            return "week", self._bars(names, lambda day: str(day - timedelta(day.weekday())))
        if months <= most:
            span = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
            names = [f"{each // 12:04}-{each % 12 + 1:02}" for each in span]
            return "month", self._bars(names, lambda day: str(day)[:7])
        step = -(-(last.year - first.year + 1) // most)
        names = [f"{each:04}" for each in range(first.year, last.year + 1, step)]
        unit = "year" if step == 1 else f"{step} years"
        return unit, self._bars(names, lambda day: f"{day.year - (day.year - first.year) % step:04}")

    def _bars(self, names: Iterable[str], name_of: Callable[[date], str]) -> list[Bar]:
        counts = dict.fromkeys(names, 0)
        for day, count in self.days.items():
            counts[name_of(date.fromisoformat(day))] += count
        return [Bar(*each) for each in counts.items()]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "sessions": self.sessions,
            "messages": self.messages,
            "roles": {"user": self.user, "assistant": self.assistant, "other": self.other},
            "first": self.first,
            "last": self.last,
            "undated": self.undated,
            "days": dict(sorted(self.days.items())),
            "week": self.week,
            "statuses": dict(self.statuses.most_common()),
            "durations": _plain(self.durations),
            "messages_a_session": _plain(self.messages_a_session),
            "longest_waits": [each._asdict() for each in self.waits],
        }


def _by_length(wait: Wait) -> tuple[float, str, str]:
    return -wait.seconds, wait.project, wait.session_id


def _plain(summary: Summary) -> dict[str, Any]:
    return summary._asdict() | {"bars": {each.label: each.sessions for each in summary.bars}}


@lru_cache(4_096)
def _weekday(day: str) -> int:
    return date.fromisoformat(day).weekday()


async def read_overview(archive: Archive, projects: Iterable[str]) -> Overview:
    """The statistics of all sessions of *projects*, each of which is read as of one moment."""
    overview = Overview()
    for project in projects:
        async with aclosing(archive.message_times(project)) as batches:
            async for batch in batches:
                for row, said in batch:
                    overview.add(facts_of_row(row, said))
    return overview
