"""Beyond one process: limits that many keep together, in a file or in PostgreSQL."""

from pathlib import Path
from types import TracebackType
from typing import Self

from navtalk_async.archive import is_url
from navtalk_async.wire.shared_turns import Reservation

__all__ = ["SharedLimits"]


class SharedLimits:
    """Limits that many processes keep together; make it with `SharedLimits.open`.

        async with SharedLimits.open("limits.db") as limits, NavTalkClient(rate=100, limits=limits) as nt:
            ...

    All clients of the same server and key share one limit: a rate, and the pauses that the server asked any
    of them for. After a refusal, all go a fifth slower, and reach the rate again within a minute. Turns are
    reserved for a tenth of a second at the most, so a process that dies holds nobody up. How many requests
    are in flight is not shared.

    A file is for the processes of one machine, and a database for those of many. Both know the server and the
    key by a hash alone. It may be used from one event loop at a time.
    """

    @classmethod
    def open(cls, place: str | Path) -> "SharedLimits":
        """The limits at *place*, as an `async with`; they are made where there are none.

        Arguments:
            place: the path of a file of its own, or `postgresql://user@host/database`, such as that of an
                archive, which then has one more table.

        Raises:
            ValueError: *place* is the URL of something else.
            StoreError: when entered: it cannot be used, or is a file of something else.
        """
        # Each of them needs what the other does not.
        if is_url(place):
            from navtalk_async.scale._postgres_limits import PostgresLimits  # noqa: PLC0415

            return PostgresLimits(str(place))
        from navtalk_async.scale._sqlite_limits import SqliteLimits  # noqa: PLC0415

        return SqliteLimits(Path(place))

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file or the connection; closing twice is fine."""
        raise NotImplementedError

    async def join(self, name: str, rate: float | None) -> float:
        """Set the requests a second of the limit *name*, for all who share it; with None, they stay. Return
        them; a ValueError if none were ever set. Clients call it, and the others, by themselves.
        """
        raise NotImplementedError

    async def reserve(self, name: str, most: int) -> Reservation:
        """Reserve up to *most* turns of the limit *name*."""
        raise NotImplementedError

    async def pause(self, name: str, seconds: float, *, refused: bool) -> None:
        """Have all who share the limit *name* wait for *seconds*, and after a refusal go slower."""
        raise NotImplementedError

    async def _open(self) -> None:
        raise NotImplementedError


def no_rate(place: object) -> ValueError:
    """The error of a client without a rate for a limit that has none."""
    return ValueError(f"rate= is missing: {place} has none for this server and key yet.")
