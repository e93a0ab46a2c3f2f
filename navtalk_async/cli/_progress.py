"""How far a run has come, shown on stderr while it runs: as a bar, as lines, or as JSON objects."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec.structs import asdict

from navtalk_async.cli._output import Reporter, visible
from navtalk_async.errors import counted
from navtalk_async.events import (
    Answered,
    Event,
    Failed,
    GaveUp,
    ListMoved,
    Observer,
    RowsSkipped,
    Stats,
    Waiting,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from navtalk_async.ingest import Progress

ProgressMode = Literal["auto", "bar", "plain", "json", "none"]

LINE_SECONDS = 10.0
OBJECT_SECONDS = 1.0

NOTICEABLE_SECONDS = 1.0
"""A shorter wait needs no explanation."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A run, seen at one moment."""

    seconds: float = 0.0
    share: float | None = None
    """The part that is done, 0 to 1, as far as it can be known."""
    share_of: str = "time range"
    """What it is a share of: the `time range` while sessions are listed, then the `sessions`."""
    seconds_left: float | None = None
    """About how long the rest takes, at the speed so far."""
    done: int = 0
    open: int = 0
    failed: int = 0
    messages: int = 0
    requests: int = 0
    retries: int = 0
    requests_per_second: float = 0.0
    in_flight: int = 0
    waiting_seconds: float = 0.0
    """Seconds until the next request may be sent."""
    reason: str | None = None
    """Why nothing is sent, or why the latest attempt failed, until one succeeds again."""
    why_slow: str | None = None
    """What most of the time was spent on."""

    def __str__(self) -> str:
        why = self.why_text
        return f"{self.share_text}: {self.counts_text}" + (f"; {why}" if why else "")

    @property
    def share_text(self) -> str:
        if self.share is None:
            return "listing"
        left = "" if self.seconds_left is None else f", about {span(self.seconds_left)} left"
        # All is done where nothing is left, and not before.
        percent = 100 if self.share >= 1 else min(99, round(self.share * 100))
        return f"{percent} % of the {self.share_of}{left}"

    @property
    def counts_text(self) -> str:
        failed = f" / {self.failed:,} failed" if self.failed else ""
        retries = f", {counted(self.retries, 'retry', 'retries')}" if self.retries else ""
        return (
            f"sessions {self.done:,} done / {self.open:,} open{failed}, {counted(self.messages, 'message')}, "
            f"{counted(round(self.requests_per_second), 'request')}/s, {self.in_flight} in flight{retries}"
        )

    @property
    def why_text(self) -> str:
        """Why it goes no faster; empty when nothing is wrong."""
        if self.waiting_seconds >= 0.5:
            return f"waiting {self.waiting_seconds:.0f} s: {self.reason}"
        return f"the latest request failed: {self.reason}" if self.reason else self.why_slow or ""


def span(seconds: float) -> str:
    """*seconds* in words, as exact as an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


LEAST_SHARE, LEAST_SECONDS = 0.02, 3.0
"""After less, how long the rest takes is not estimated."""


def seconds_left(began: tuple[float, float], now: tuple[float, float]) -> float | None:
    """About how long the rest takes; *began* and *now* are seconds, and the share that was done by then."""
    seconds, share = now[0] - began[0], now[1] - began[1]
    if seconds < LEAST_SECONDS or share < LEAST_SHARE:
        return None
    return round((1 - now[1]) * seconds / share, 1)


class RequestRate:
    """The requests a second of the latest few seconds, since an average over hours says little."""

    def __init__(self, began: float = 0.0, span_seconds: float = 5.0) -> None:
        self._span = span_seconds
        self._seen = deque([(began, 0)])

    def __call__(self, now: float, count: int) -> float:
        """The rate up to *now*, after *count* requests."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._span:
            self._seen.popleft()
        since, before = self._seen[0]
        # The first requests leave all at once, and are no rate yet.
        return (count - before) / max(now - since, 1.0)


class RunMonitor:
    """Follows a run: its progress, and as the client's `on_event` what delays answers."""

    def __init__(self, progress: "Progress", clock: Callable[[], float] = monotonic) -> None:
        self.progress = progress
        self.stats: Callable[[], Stats] = Stats
        self._clock = clock
        self._began = clock()
        self._rate = RequestRate(self._began)
        self._pause_ends_at = 0.0
        self._reason: str | None = None
        self._first: tuple[float, float] | None = None
        """When a share was known first, and which."""
        self._end: datetime | None = None

    def __call__(self, event: Event) -> None:
        now = self._clock()
        match event:
            case Waiting():
                self._pause_ends_at = max(self._pause_ends_at, now + event.seconds)
                self._reason = event.reason
            case Failed():
                self._reason = event.error
            case GaveUp() if not event.is_cancelled:
                self._reason = event.error
            # An answer to a request from before a pause does not end the pause.
            case Answered() if now >= self._pause_ends_at:
                self._reason = None

    def snapshot(self) -> Snapshot:
        now, stats, report = self._clock(), self.stats(), self.progress.report
        share, share_of = self.progress.listed_share, "time range"
        if share is None and self.progress.total:
            share, share_of = min(1.0, report.listed / self.progress.total), "sessions"
        if report.done + report.open:
            listed, found = share, report.done / (report.done + report.open)
            # What is listed and not fetched yet is not done.
            share = None if listed is None else listed * found
            if self.progress.all_listed:
                # Now the number of sessions is known, and says more than the time range.
                share, share_of = found, "sessions"
        left = None
        if share is not None:
            if self._first is None or self.progress.expected_end != self._end:
                # A share of another range is no progress.
                self._first, self._end = (now, share), self.progress.expected_end
            left = seconds_left(self._first, (now, share))
        return Snapshot(
            seconds=round(now - self._began, 1),
            share=None if share is None else round(share, 4),
            share_of=share_of,
            seconds_left=left,
            done=report.done,
            open=report.open,
            failed=report.failed,
            messages=report.messages,
            requests=stats.requests,
            retries=stats.retries,
            requests_per_second=round(self._rate(now, stats.requests), 1),
            in_flight=stats.in_flight,
            waiting_seconds=round(max(0.0, self._pause_ends_at - now), 1),
            reason=self._reason,
            why_slow=stats.why_slow if stats.answers else None,
        )


@asynccontextmanager
async def reporting(
    monitor: RunMonitor, reporter: Reporter, mode: ProgressMode, *, doing: str
) -> AsyncGenerator[None, None]:
    """An `async with` for *doing* something, in which the run that *monitor* follows is shown by *mode*."""
    if mode == "bar":
        with bar(monitor.snapshot):
            yield
    else:
        async with counting(reporter, mode, doing=doing, look=monitor.snapshot, at_end=True):
            yield


@asynccontextmanager
async def counting(
    reporter: Reporter,
    mode: ProgressMode,
    *,
    doing: str,
    look: Callable[[], Snapshot | Mapping[str, Any]],
    at_end: bool = False,
) -> AsyncGenerator[None, None]:
    """An `async with` for *doing* something, in which the figures that *look* returns are shown now and then:
    as an object for `json`, else as a line; for people once more *at_end*.
    """

    def report() -> None:
        seen = look()
        figures = asdict(seen) if isinstance(seen, Snapshot) else seen
        if mode == "json":
            reporter.event("progress", **figures)
        elif isinstance(seen, Snapshot):
            reporter.note(str(seen))
        else:
            reporter.note(", ".join(f"{number:,} {name}" for name, number in figures.items()))

    if mode == "none":
        yield
        return
    if mode == "json":
        report()
    else:
        reporter.note(f"{doing}.")
    is_json = mode == "json"
    async with repeated(OBJECT_SECONDS if is_json else LINE_SECONDS, report, at_end=is_json or at_end):
        yield


@asynccontextmanager
async def later(seconds: float, call: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    """An `async with` in which *call* is made after so many *seconds*, unless it is left before."""

    async def wait_and_call() -> None:
        await asyncio.sleep(seconds)
        await call()

    task = asyncio.create_task(wait_and_call())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def repeated(
    seconds: float, call: Callable[[], None], *, at_end: bool = True
) -> AsyncGenerator[None, None]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            call()

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if at_end:
            call()


def waits_reported(reporter: Reporter, mode: ProgressMode) -> Observer:
    """An observer that says why a short command takes long."""
    moved: list[ListMoved] = []

    def notice(event: Event) -> None:
        if isinstance(event, ListMoved) and not moved:
            moved.append(event)
            reporter.note(f"About the list {event.path}: {event.reason}.")
        if isinstance(event, RowsSkipped):
            reporter.note(str(event))
        if isinstance(event, Waiting) and event.seconds >= NOTICEABLE_SECONDS and mode != "none":
            reporter.note(f"waiting {event.seconds:.0f} s: {event.reason}")

    return notice


@contextmanager
def bar(look: Callable[[], Snapshot]) -> Generator[None]:
    """Draw what *look* returns, until the `with` is left; then nothing of it remains.

    A thread of its own draws it, so a terminal that is held up (Ctrl-S) does not hold up the work.
    """
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs rich
    from rich.live import Live  # noqa: PLC0415

    console = Console(stderr=True)
    with Live(get_renderable=lambda: drawn(look()), console=console, transient=True, refresh_per_second=8):
        # A bar that is killed cannot bring the cursor back, so it is not taken away.
        console.show_cursor(True)
        yield


def drawn(seen: Snapshot) -> "RenderableType":
    from rich.console import Group  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    top = Table.grid(padding=(0, 1), expand=True)
    top.add_column(ratio=1)
    top.add_column(no_wrap=True)
    top.add_column(no_wrap=True, style="dim")
    shown = ProgressBar(total=1.0, completed=seen.share or 0.0, pulse=seen.share is None)
    top.add_row(shown, seen.share_text, str(timedelta(seconds=int(seen.seconds))))
    rows: list[RenderableType] = [top, Text(seen.counts_text, no_wrap=True, overflow="ellipsis")]
    if seen.why_text:
        rows.append(Text(visible(seen.why_text), style="yellow", no_wrap=True, overflow="ellipsis"))
    return Group(*rows)
