"""How far a run has come, while it goes on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from navtalk_async.archive.records import JournalResult, RunReport
from navtalk_async.listing.sort_key import seconds_of
from navtalk_async.models import ResumePoint, Session

__all__ = ["Progress"]


@dataclass(kw_only=True)
class Progress:
    """How far a run has come; `sync` keeps it up to date."""

    report: RunReport = field(default_factory=RunReport)
    """What the run has done so far."""
    range_start: datetime | None = None
    """The first moment of the time range that is listed."""
    range_end: datetime | None = None
    """Its last moment: the end that was asked for, or when the run began."""
    unlisted_seconds: float | None = None
    """The seconds of the time range that are not listed yet."""
    all_listed: bool = False
    """Whether everything is listed; the report's `done` and `open` together are then all there is."""

    def share(self) -> float | None:
        """The part of the time range that is listed, 0 to 1; None where it is not known."""
        if self.range_start is None or self.range_end is None or self.unlisted_seconds is None:
            return None
        span = (self.range_end - self.range_start).total_seconds()
        return min(1.0, max(0.0, 1 - self.unlisted_seconds / span)) if span > 0 else None

    def count_listed(
        self, sessions: Sequence[Session], places: Sequence[ResumePoint] | None, found: JournalResult
    ) -> None:
        """Count *sessions*; with *places* given, they were listed, and the listing goes on there."""
        self.report.listed += len(sessions)
        self.report.inserted += found.inserted
        self.report.changed += found.changed
        self.report.same += found.same
        if places is not None:
            if self.range_start is None:
                times = (session.start_time for session in sessions)
                self.range_start = next((time for time in times if time is not None), None)
            self._listed_up_to(places)

    def _listed_up_to(self, places: Sequence[ResumePoint]) -> None:
        self.unlisted_seconds = None
        self.all_listed = not places
        if self.range_start is None or self.range_end is None:
            return
        start, end = seconds_of(self.range_start), seconds_of(self.range_end)
        unlisted = 0
        for place in places:
            if place.reached is None and place.begin is None:
                return
            known = (each for each in (place.reached, place.begin) if each is not None)
            since = max([start, *known])
            unlisted += max(0, min(end, end if place.end is None else place.end) - since)
        self.unlisted_seconds = unlisted
