"""How many bytes of long answers are in memory: their bodies, and what was decoded from them.

Over the limit only the oldest goes on, a single answer or all those of one result of a job. So one that is
larger than the limit still comes, and none waits for another that waits itself. A job that is ahead of its
reader waits for the reader.
"""

import asyncio
from collections.abc import Callable

from navtalk_async.concurrency import Holder

__all__ = ["BytesInFlight", "Reading"]

STANDSTILL_SECONDS = 5.0
"""After so long in which nothing was read, one reading goes on: the oldest, or a reader, may wait for it."""


class BytesInFlight:
    """The bytes of one client in one event loop.

    Arguments:
        on_change: called with whether there are now more than *limit*, or a reading waits for room.
        on_yield: called with 1 when a reading begins to wait for the reader of its job, and with -1 when that
            ends: the reader may have calls of its own.
    """

    def __init__(
        self, limit: float, on_change: Callable[[bool], None], on_yield: Callable[[int], None]
    ) -> None:
        self.limit: float = limit
        self.held: int = 0
        self.waiting: dict[Reading, asyncio.Future[None]] = {}
        """What wakes each reading that waits for room."""
        self._on_change = on_change
        self._on_yield = on_yield
        # In the order in which they began; each with its readings that have not finished.
        self._owners: dict[Holder | Reading, int] = {}
        self._active = 0
        self._was_full = False
        self._standstill: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<BytesInFlight {self.held:,} of {self.limit:,}>"

    @property
    def is_over(self) -> bool:
        """Whether there are more than the limit."""
        return self.held > self.limit

    def begin(self, job: Holder | None = None) -> "Reading":
        """A reading for *job*, to be released."""
        reading = Reading(self, job)
        self._owners[reading.owner] = self._owners.get(reading.owner, 0) + 1
        self._active += 1
        return reading

    def close(self) -> None:
        """Let every reading go on."""
        self.limit = float("inf")
        self.changed()

    def has_room(self, reading: "Reading", count: int) -> bool:
        """Whether *reading* may take *count* bytes more: it is the oldest, or they are within the limit."""
        if reading.is_freed or self.held + count <= self.limit:
            return True
        return next((each for each in self._owners if not each.is_ahead()), None) is reading.owner

    async def room(self, reading: "Reading", count: int) -> None:
        """Wait until *reading* may take *count* bytes more."""
        self._active -= 1
        try:
            while not self.has_room(reading, count):
                self.waiting[reading] = woken = asyncio.get_running_loop().create_future()
                self._tell()
                if is_ahead := reading.owner.is_ahead():
                    self._on_yield(1)
                try:
                    await woken
                finally:
                    del self.waiting[reading]
                    if is_ahead:
                        self._on_yield(-1)
        finally:
            self._active += 1
            self._tell()

    def add(self, count: int) -> None:
        """Count so many more bytes."""
        self.held += count
        self._tell()

    def rest(self) -> None:
        """Count a reading as read."""
        self._active -= 1
        self._tell()

    def finish(self, reading: "Reading") -> None:
        """Let the next oldest go on, if this was the last reading of its owner."""
        self._owners[reading.owner] -= 1
        if not self._owners[reading.owner]:
            del self._owners[reading.owner]

    def changed(self) -> None:
        """Let each that waits look, in order, whether there is room for it."""
        for woken in self.waiting.values():
            if not woken.done():
                woken.set_result(None)
        if self._standstill is not None:
            self._standstill.cancel()
            self._standstill = None
        self._tell()

    def _tell(self) -> None:
        if self.waiting and not self._active and self._standstill is None:
            self._standstill = asyncio.get_running_loop().call_later(STANDSTILL_SECONDS, self._free_one)
        is_full = bool(self.waiting) or self.is_over
        if is_full or self._was_full:
            self._was_full = is_full
            self._on_change(is_full)

    def _free_one(self) -> None:
        if not self._active:
            next(iter(self.waiting)).is_freed = True
        self.changed()


class Reading:
    """The bytes of one answer, until they are released. Of a job they are held for longer than it is read."""

    __slots__ = ("_every", "_held", "_is_active", "_is_open", "is_freed", "owner", "waited")

    def __init__(self, every: BytesInFlight, job: Holder | None) -> None:
        self._every = every
        self._held = 0
        self._is_active = self._is_open = True
        self.owner: Holder | Reading = job or self
        self.is_freed: bool = False
        self.waited: float = 0.0
        """The seconds for which it waited for room."""

    @property
    def is_over(self) -> bool:
        """Whether all readings together hold more than the limit."""
        return self._every.is_over

    def is_ahead(self) -> bool:
        """Whether it waits for its reader."""
        return False

    def has_room(self, count: int) -> bool:
        """Whether it may take *count* bytes more."""
        return self._every.has_room(self, count)

    async def room(self, count: int) -> None:
        """Wait until it may take *count* bytes more."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._every.room(self, count)
        finally:
            self.waited += clock() - began

    def add(self, count: int) -> None:
        """Take *count* bytes more."""
        self._held += count
        self._every.add(count)

    def rest(self) -> None:
        """Hold what was read."""
        self._is_active = False
        self._every.rest()

    def finish(self) -> None:
        """Let others go on; what it holds stays counted."""
        if self._is_active:
            self.rest()
        if self._is_open:
            self._is_open = False
            self._every.finish(self)
            self._every.changed()

    def release(self) -> None:
        """Count its bytes no longer."""
        self._every.held -= self._held
        self._held = 0
        self.finish()
        self._every.changed()
