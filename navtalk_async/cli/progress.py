"""How far a run has come, as values, and how that is put into words."""

from collections import deque

import msgspec

from navtalk_async.cli.talk import counted
from navtalk_async.events import Answered, Event, Failed, Stats, Waiting
from navtalk_async.ingest import Progress

__all__ = ["Glance", "Pace", "Trouble", "counts_text", "glance", "line", "share_text"]


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """A run, seen at one moment."""

    seconds: float = 0.0
    """Since it began."""
    share: float | None = None
    """The part that is done, 0 to 1, as far as anybody can know."""
    share_of: str = "time range"
    """What it is a share of: the `time range` while sessions are listed, then the `sessions`."""
    done: int = 0
    open: int = 0
    failed: int = 0
    messages: int = 0
    requests: int = 0
    retries: int = 0
    requests_per_second: float = 0.0
    in_flight: int = 0
    waiting_seconds: float = 0.0
    """For how long nothing will be sent yet."""
    reason: str | None = None
    """Why nothing is sent, or why the latest attempt failed, until one succeeds again."""


class Pace:
    """How fast a count grows: over the latest few seconds, since an average over hours tells little."""

    def __init__(self, span_seconds: float = 5.0) -> None:
        self._span = span_seconds
        self._seen: deque[tuple[float, int]] = deque()

    def __call__(self, now: float, count: int) -> float:
        """The growth a second up to *now*, when it has come to *count*."""
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] <= now - self._span:
            self._seen.popleft()
        since, before = self._seen[0]
        # The first requests leave all at once, and are no pace yet.
        return (count - before) / max(now - since, 1.0)


class Trouble:
    """What keeps the requests from being answered, as the client's events tell it."""

    def __init__(self) -> None:
        self._ends_at = 0.0
        self._reason: str | None = None

    def heard(self, event: Event, now: float) -> None:
        """Take notice of *event*, which happened *now*."""
        match event:
            case Waiting():
                self._ends_at = max(self._ends_at, now + event.seconds)
                self._reason = event.reason
            case Failed():
                self._reason = event.error
            case Answered():
                # An answer to what was asked before a pause does not end the pause.
                if now >= self._ends_at:
                    self._reason = None

    def seen(self, now: float) -> tuple[float, str | None]:
        """For how many seconds nothing will be sent, and why that is, or why attempts fail."""
        return max(0.0, self._ends_at - now), self._reason


def glance(
    progress: Progress,
    stats: Stats,
    *,
    seconds: float,
    pace: float,
    trouble: tuple[float, str | None],
) -> Glance:
    """What can be said of a run that has come so far in so many *seconds*."""
    report = progress.report
    share, share_of = progress.share(), "time range"
    if progress.all_listed and report.done + report.open:
        # Now the number of sessions is known, and says more than the time range.
        share, share_of = report.done / (report.done + report.open), "sessions"
    waiting, reason = trouble
    return Glance(
        seconds=round(seconds, 1),
        share=None if share is None else round(share, 4),
        share_of=share_of,
        done=report.done,
        open=report.open,
        failed=report.failed,
        messages=report.messages,
        requests=stats.requests,
        retries=stats.retries,
        requests_per_second=round(pace, 1),
        in_flight=stats.in_flight,
        waiting_seconds=round(waiting, 1),
        reason=reason,
    )


def line(seen: Glance) -> str:
    """All of *seen* in one line."""
    why = why_text(seen)
    return f"{share_text(seen)}: {counts_text(seen)}" + (f"; {why}" if why else "")


def share_text(seen: Glance) -> str:
    """How much is done."""
    if seen.share is None:
        return "listing"
    return f"{int(seen.share * 100)} % of the {seen.share_of}"


def counts_text(seen: Glance) -> str:
    """How many of everything."""
    parts = [f"{seen.done:,} done", f"{seen.open:,} open"]
    if seen.failed:
        parts.append(f"{seen.failed:,} failed")
    sessions = " / ".join(parts)
    retries = f", {counted(seen.retries, 'retry', 'retries')}" if seen.retries else ""
    return (
        f"sessions {sessions}, {counted(seen.messages, 'message')}, "
        f"{seen.requests_per_second:.0f} requests/s, {seen.in_flight} in flight{retries}"
    )


def why_text(seen: Glance) -> str:
    """Why it goes on no faster; empty when nothing is wrong."""
    if seen.waiting_seconds >= 0.5:
        return f"waiting {seen.waiting_seconds:.0f} s: {seen.reason}"
    return f"trying again: {seen.reason}" if seen.reason else ""
