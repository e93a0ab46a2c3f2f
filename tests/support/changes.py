"""What can happen to a world while it is read: changes, faults, and time that passes."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from navtalk_async.errors import Disconnected, NotJson, ServerError
from navtalk_async.sandbox import Faults

NOON = datetime(2026, 2, 3, 12, tzinfo=UTC)


@dataclass
class Clock:
    """The server's clock, which stands still until it is moved."""

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
    """A change of the world after so many more requests."""

    after: int
    kind: str
    dice: int


CHANGES = ("begin", "say", "end", "remove", "correct", "unsay")
AFTER_A_CHANGE = {
    "lost-answer": Disconnected,
    "drop": Disconnected,
    "reset": Disconnected,
    "truncated": NotJson,
    "500": ServerError,
    "503": ServerError,
}
"""Faults after which a change may have been made, and the error that each is."""

FAULT_KINDS = [
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

MALFORMED = ("garbage", "truncated", "html")


def apply_change(world, clock, change, *, open_only=()):
    """Make *change* in a session that its dice choose: in an open one if its kind is in *open_only*."""
    now = clock.before(seconds=change.dice % 100)
    if change.kind == "begin":
        world.add_session(start_time=now, status=0)
        return
    some = [each["id"] for each in world.sessions if change.kind not in open_only or each["status"] == 0]
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
    """A strategy of lists of changes of those *kinds*."""
    return st.lists(
        st.builds(Change, st.integers(0, 12), st.sampled_from(kinds), st.integers(0, 1000)), max_size=12
    )


changes = changes_of(CHANGES)
fault_mixes = st.dictionaries(st.sampled_from(FAULT_KINDS), st.floats(0.0, 0.05), max_size=4).map(
    lambda chances: Faults.parse(",".join(f"{kind}={chance}" for kind, chance in chances.items()) or "500=0")
)


async def arrived_or_over(box, more, run):
    """Wait until so many *more* requests have arrived, or *run* is over."""
    arrival = asyncio.create_task(box.arrived(box.counts.total + more))
    await asyncio.wait([arrival, run], return_when=asyncio.FIRST_COMPLETED)
    arrival.cancel()
    await asyncio.gather(arrival, return_exceptions=True)
