"""The counts of a client, by operation and lane."""

from navtalk_async.events import Counts, Stats
from navtalk_async.wire.retry import Lane

__all__ = ["Tallies"]


class Tallies(dict[tuple[str, Lane], Counts]):
    """Counts by operation and lane, from zero."""

    def __missing__(self, key: tuple[str, Lane]) -> Counts:
        self[key] = counts = Counts()
        return counts

    @property
    def answers(self) -> int:
        return sum(each.answers for each in list(self.values()))

    def add_to(self, stats: Stats) -> None:
        # Another event loop may add one meanwhile.
        for (operation, lane), counts in list(self.items()):
            stats.add(counts)
            stats.operations.setdefault(operation or "other", Counts()).add(counts)
            stats.lanes.setdefault(lane, Counts()).add(counts)
