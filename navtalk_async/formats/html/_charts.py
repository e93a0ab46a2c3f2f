"""The geometry of the charts of an overview: places in percent of a chart's width, and in pixels of its
height, so that a chart is as wide as a window and its letters stay as large.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from navtalk_async.formats.html._shown import DAYS, shown, shown_day, shown_span, shown_time
from navtalk_async.formats.overview import Bar, Overview, Summary

if TYPE_CHECKING:
    from navtalk_async.formats.html.pages import Site

HEIGHT = 160
"""Pixels of the highest bar."""

MOST_LABELS = 5
LEVELS = 5
"""Shades of the heat map, but that of none."""

LEFT = 8.0
"""Percent of the width of a chart that the labels on its left have."""

CELL = 22
"""Pixels."""


class Row(NamedTuple):
    """A bar from left to right."""

    label: str
    number: str
    share: str
    width: float
    kind: str = ""


class Column(NamedTuple):
    """A bar from bottom to top, with its place."""

    label: str
    number: str
    x: float
    width: float
    y: float
    height: float


class Label(NamedTuple):
    """A text at a place of an axis."""

    text: str
    place: float
    anchor: str = "middle"


class Cell(NamedTuple):
    """An hour of the week."""

    label: str
    x: float
    y: int
    width: float
    level: int


def overview_charts(site: "Site", overview: Overview) -> dict[str, Any]:
    """What the template of the overview shows."""
    unit, bars = overview.timeline()
    durations, counts = overview.durations, overview.messages_a_session
    busiest = max(bars, key=lambda each: each.sessions, default=Bar("", 0))
    scale = _scale(busiest.sessions)
    return {
        "overview": overview,
        "tiles": _tiles(overview, durations, counts),
        "unit": unit,
        "columns": _columns(bars, scale[-1]),
        "column_labels": _labels(bars),
        "lines": [Label(f"{each:,}", _y(each, scale[-1])) for each in scale],
        "height": HEIGHT,
        "left": LEFT,
        "busiest": busiest,
        "cells": _cells(overview.week),
        "hours": [Label(f"{hour:02}", LEFT + (hour + 0.5) * _hour(), "middle") for hour in range(0, 24, 3)],
        "days": [Label(day[:3], at * CELL + CELL * 0.7) for at, day in enumerate(DAYS)],
        "week_height": 7 * CELL,
        "busiest_hour": _busiest_hour(overview.week),
        "statuses": _rows([Bar(shown(name), count) for name, count in overview.statuses.most_common()]),
        "durations": _rows(durations.bars),
        "counts": _rows(counts.bars),
        "roles": _roles(overview),
        "waits": [
            (
                shown_span(each.seconds),
                shown(each.title).strip() or shown(each.session_id),
                site.session(each.project, each.session_id, 0),
            )
            for each in overview.waits
        ],
    }


def _tiles(overview: Overview, durations: Summary, counts: Summary) -> list[tuple[str, str, str]]:
    tiles = [("Sessions", f"{overview.sessions:,}", ""), ("Messages", f"{overview.messages:,}", "")]
    if counts.median is not None and counts.p90 is not None:
        tiles.append(
            ("Messages a session", f"{counts.median:,.0f}", f"median; 90 % have {counts.p90:,.0f} or fewer")
        )
    if durations.median is not None and durations.p90 is not None:
        longer = f"median; 90 % last {shown_span(durations.p90)} or less"
        tiles.append(("Duration", shown_span(durations.median), longer))
    if overview.first is not None and overview.last is not None:
        tiles.append(("From", shown_time(overview.first)[:10], f"to {shown_time(overview.last)[:10]}"))
    return tiles


def _scale(most: int) -> list[int]:
    """Numbers from 0 to a round one that is not below *most*."""
    step = 1
    while step * 2 < most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    end = step if most <= step else step * 2
    return [0, end // 2, end] if end % 2 == 0 else [0, end]


def _y(count: int, most: int) -> float:
    return round(HEIGHT * (1 - count / most), 1)


def _columns(bars: Sequence[Bar], most: int) -> list[Column]:
    width = (100 - LEFT) / max(1, len(bars))
    return [
        Column(
            _shown_label(each.label),
            f"{each.sessions:,}",
            round(LEFT + at * width + width * 0.1, 2),
            round(width * 0.8, 2),
            _y(each.sessions, most),
            round(HEIGHT * each.sessions / most, 1),
        )
        for at, each in enumerate(bars)
    ]


def _shown_label(label: str) -> str:
    return shown_day(label) if len(label) == len("2025-11-12") else label


def _labels(bars: Sequence[Bar]) -> list[Label]:
    """Labels of some bars, the first and the last one among them."""
    count = len(bars)
    some = min(MOST_LABELS, count)
    chosen = sorted({round(each * (count - 1) / max(1, some - 1)) for each in range(some)})
    anchors = {0: "start", count - 1: "end"} if count > some else {}
    ends = {0: LEFT, count - 1: 100.0}
    return [
        Label(
            bars[at].label,
            ends[at] if at in anchors else round(LEFT + (at + 0.5) * (100 - LEFT) / count, 2),
            anchors.get(at, "middle"),
        )
        for at in chosen
    ]


def _hour() -> float:
    return (100 - LEFT) / 24


def _cells(week: Sequence[Sequence[int]]) -> list[Cell]:
    most = max(map(max, week))
    return [
        Cell(
            f"{DAYS[day]}, {_shown_hour(hour)}: {count:,}",
            round(LEFT + hour * _hour(), 3),
            day * CELL,
            round(_hour(), 3),
            -(-count * LEVELS // most) if most else 0,
        )
        for day, hours in enumerate(week)
        for hour, count in enumerate(hours)
    ]


def _busiest_hour(week: Sequence[Sequence[int]]) -> str:
    most = max(map(max, week))
    day = next(day for day, hours in enumerate(week) if most in hours)
    return f"{DAYS[day]}, {_shown_hour(week[day].index(most))}" if most else ""


def _shown_hour(hour: int) -> str:
    return f"{hour:02}:00-{hour + 1:02}:00"


def _rows(bars: Sequence[Bar]) -> list[Row]:
    """A row for each bar, but those of none at the ends."""
    filled = [at for at, each in enumerate(bars) if each.sessions]
    bars = bars[filled[0] : filled[-1] + 1] if filled else []
    most = max((each.sessions for each in bars), default=1)
    total = sum(each.sessions for each in bars)
    return [_row(each.label, each.sessions, total, most) for each in bars]


def _roles(overview: Overview) -> list[Row]:
    counts = {"user": overview.user, "assistant": overview.assistant, "other": overview.other}
    total = overview.messages
    return [_row(name.capitalize(), count, total, total, name) for name, count in counts.items() if count]


def _row(label: str, number: int, total: int, most: int, kind: str = "") -> Row:
    share = 100 * number / total if total else 0
    shown_share = f"{share:.0f} %" if share >= 1 or not number else "< 1 %"
    return Row(label, f"{number:,}", shown_share, round(100 * number / most, 2), kind)
