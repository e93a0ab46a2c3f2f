"""A lock for each of many keys."""

from navtalk_async.concurrency import ParkingLot


class KeyedLock:
    """A lock for each key, which takes memory only while it is held."""

    def __init__(self) -> None:
        self._waiting: dict[str, ParkingLot] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    async def acquire(self, key: str) -> None:
        """Wait until nobody has the lock of *key*, and take it."""
        while (busy := self._waiting.get(key)) is not None:
            await busy.park()
        self._waiting[key] = ParkingLot()

    def release(self, key: str) -> None:
        """Give the lock of *key* to the next; nothing where nobody has it."""
        if (waiting := self._waiting.pop(key, None)) is not None:
            waiting.unpark()
