"""What may happen to a world while it is read: changes, bad weather, and time that goes by."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from navtalk_async.sandbox import Faults

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)


@dataclass
class Clock:
    """The server's clock: it stands still until it is moved."""

    now: datetime = NOON

    def __call__(self):
        return self.now

    def before(self, **span):
        """A moment before now, as the API writes it."""
        return f"{self.now - timedelta(**span):%Y-%m-%d %H:%M:%S}"

    def on(self, **span):
        self.now += timedelta(**span)


@dataclass
class Change:
    """Something that happens in the world after so many requests more."""

    after: int
    kind: str
    dice: int


CHANGES = ("begin", "say", "end", "remove", "correct", "unsay")
WEATHER = [
    "500",
    "503",
    "429",
    "429-bare",
    "reset",
    "drop",
    "cut",
    "cut-chunked",
    "garbage",
    "truncated",
    "html",
]


def happen(world, clock, change, *, of_open=()):
    """Let *change* happen to one of the sessions, as the dice will have it; to one that goes on, if it is of
    those kinds *of_open*.
    """
    now = clock.before(seconds=change.dice % 100)
    if change.kind == "begin":
        world.add_session(start_time=now, status=0)
        return
    some = [each["id"] for each in world.sessions if change.kind not in of_open or each["status"] == 0]
    if not some:
        return
    chosen = some[change.dice % len(some)]
    said = world.messages(chosen)
    if change.kind == "say":
        world.add_message(chosen, f"said {change.dice}", created_at=now)
    elif change.kind == "end":
        world.change_session(chosen, status=1, endTime=now)
    elif change.kind == "remove":
        world.remove_session(chosen)
    elif said:
        one = said[change.dice % len(said)]["id"]
        if change.kind == "correct":
            world.change_message(chosen, one, content=f"corrected {change.dice}")
        else:
            world.remove_message(chosen, one)


def changes_of(kinds):
    """Some changes of those *kinds*."""
    return st.lists(
        st.builds(Change, st.integers(0, 12), st.sampled_from(kinds), st.integers(0, 1000)), max_size=12
    )


changes = changes_of(CHANGES)
weathers = st.dictionaries(st.sampled_from(WEATHER), st.floats(0.0, 0.05), max_size=4).map(
    lambda chances: Faults.parse(",".join(f"{kind}={chance}" for kind, chance in chances.items()) or "500=0")
)


async def arrived_or_over(box, more, run):
    """Until so many requests *more* have arrived, or *run* is over."""
    arrival = asyncio.create_task(box.arrived(box.counts.total + more))
    await asyncio.wait([arrival, run], return_when=asyncio.FIRST_COMPLETED)
    arrival.cancel()
    await asyncio.gather(arrival, return_exceptions=True)
