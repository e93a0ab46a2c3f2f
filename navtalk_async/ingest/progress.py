"""How far a run has come."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec

from navtalk_async.archive.records import MessageCounts
from navtalk_async.archive.rows import format_time
from navtalk_async.archive.store import Run
from navtalk_async.listing.by_time import seconds_of
from navtalk_async.models import Place

__all__ = ["Progress"]


class Progress(msgspec.Struct, kw_only=True):
    """How far a run has come; kept up to date while it runs, and its report afterwards."""

    listed: int = 0
    """Sessions that the listing gave."""
    inserted: int = 0
    changed: int = 0
    same: int = 0
    done: int = 0
    """Sessions whose messages were fetched and kept in this run."""
    messages: int = 0
    """Messages fetched in this run."""
    failed: int = 0
    """Sessions in the store whose messages cannot be had."""
    vanished: int = 0
    messages_inserted: int = 0
    messages_changed: int = 0
    messages_same: int = 0
    messages_vanished: int = 0
    followed: int = 0
    """Short pages with a cursor that were followed."""
    trusted: int = 0
    """Short pages with a cursor that were taken for the last ones."""
    refuted: bool = False
    """Whether there was a row behind a short page; then all of them were followed after all."""
    open: int = 0
    """Sessions that are known to be wanted and not kept yet."""
    began_at: datetime | None = None
    """The first moment of the time range."""
    ends_at: datetime | None = None
    """The last moment of the time range: the scope's end, or when the run began."""
    unlisted: float | None = None
    """The seconds of the time range that are not listed yet."""
    all_listed: bool = False
    """Whether the listing has come to its end; `done` and `open` together are then all there is."""
    resumed: bool = False
    """Whether the run went on with what an earlier one had left."""

    def kept(self, counts: MessageCounts) -> None:
        """Note that messages were kept, so many of each sort."""
        for sort, count in counts._asdict().items():
            name = f"messages_{sort}"
            setattr(self, name, getattr(self, name) + count)

    def run(self, began_at: datetime, *, error: str | None = None) -> Run:
        """What a store records of the run that *began_at* and ends now."""
        told = {name: getattr(self, name) for name in Run.__struct_fields__ if hasattr(self, name)}
        ended_at = format_time(datetime.now(UTC))
        return Run(**told | {"began_at": format_time(began_at), "ended_at": ended_at, "error": error})

    def share(self) -> float | None:
        """The part of the time range that is listed, 0 to 1; the API tells no total, so there is no other."""
        if self.began_at is None or self.ends_at is None or self.unlisted is None:
            return None
        span = (self.ends_at - self.began_at).total_seconds()
        return min(1.0, max(0.0, 1 - self.unlisted / span)) if span > 0 else None

    def listed_up_to(self, places: Iterable[Place]) -> None:
        """Note that the listing goes on at *places*, and there alone."""
        self.unlisted = None
        places = list(places)
        self.all_listed = not places
        if self.began_at is None or self.ends_at is None:
            return
        began, ends = seconds_of(self.began_at), seconds_of(self.ends_at)
        unlisted = 0
        for place in places:
            if place.reached is None and place.begin is None:
                return
            known = (each for each in (place.reached, place.begin) if each is not None)
            since = max([began, *known])
            unlisted += max(0, min(ends, ends if place.end is None else place.end) - since)
        self.unlisted = unlisted
