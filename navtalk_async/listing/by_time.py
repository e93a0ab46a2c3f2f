"""A list of sessions in the order of their begin, cut by seconds."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Self

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.models import Request, Session, parse_time

__all__ = ["ByTime", "moment_at", "seconds_of"]

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - most APIs write their times without a zone, in UTC
SECOND = timedelta(seconds=1)
FIRST = (datetime.min - EPOCH) // SECOND  # noqa: DTZ901 - see above


class ByTime:
    """The axis of a list of sessions that begins with *request* and is in the order of their begin.

    Arguments:
        dialect: of an API that can be asked for what begins at some moment or later.
        request: the question for the whole list.
        horizon: when the last session is thought to begin.
    """

    def __init__(self, dialect: Dialect, request: Request, horizon: datetime) -> None:
        self._dialect = dialect
        self._request = request
        self.horizon = seconds_of(horizon)

    @classmethod
    def of(cls, dialect: Dialect, request: Request, horizon: datetime | date | str | None) -> Self | None:
        """The axis, up to now if there is no *horizon*; None where a list cannot be begun at any moment.

        A *horizon* may be anything that a filter may be.
        """
        if isinstance(horizon, date) and not isinstance(horizon, datetime):
            horizon = horizon.isoformat()
        if isinstance(horizon, str):
            horizon = parse_time(horizon)
        horizon = horizon or datetime.now(UTC)
        return cls(dialect, request, horizon) if dialect.beginning(request, horizon) else None

    def asked_from(self, position: int) -> Request:
        """See `Axis.asked_from`. Whether the API's bound belongs to what it bounds is not documented: asked
        from one second earlier, both come to the same.
        """
        moment = moment_at(max(position - 1, FIRST))
        return self._dialect.beginning(self._request, moment) or self._request

    def positions(self, rows: Sequence[Session]) -> list[int] | None:
        """See `Axis.positions`."""
        try:
            return [(datetime.fromisoformat(row.start_time_text or "") - EPOCH) // SECOND for row in rows]
        except (TypeError, ValueError):
            moments = [row.start_time for row in rows]
        return None if None in moments else [seconds_of(moment) for moment in moments if moment]


def moment_at(seconds: int) -> datetime:
    """The moment so many seconds after 1970 began, aware and UTC."""
    return EPOCH.replace(tzinfo=UTC) + seconds * SECOND


def seconds_of(moment: datetime) -> int:
    """The whole seconds from 1970 to *moment*, which is aware."""
    return (moment - EPOCH.replace(tzinfo=UTC)) // SECOND
