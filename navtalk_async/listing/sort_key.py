"""The order of a list of sessions: by start time, in whole seconds since 1970."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Self

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.models import Request, Session, parse_time

__all__ = ["SortKey", "moment_at", "seconds_of"]

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - most APIs write their times without a zone, in UTC
SECOND = timedelta(seconds=1)
FIRST = (datetime.min - EPOCH) // SECOND  # noqa: DTZ901 - see above


class SortKey:
    """Finds the position of each row of the list of *request*, and the request that begins at a position.

    Arguments:
        expected_end: when the last session is expected to start; rows may come later all the same.
    """

    def __init__(self, dialect: Dialect, request: Request, expected_end: datetime) -> None:
        self._dialect = dialect
        self._request = request
        self.expected_end: int = seconds_of(expected_end)

    @classmethod
    def of(
        cls, dialect: Dialect, request: Request, expected_end: datetime | date | str | None
    ) -> Self | None:
        """The key of the list, expected to end now by default; None where the API cannot list from a given
        start time on.
        """
        end = parse_time(str(expected_end)) or datetime.now(UTC)
        return cls(dialect, request, end) if dialect.starting_at(request, end) else None

    def request_from(self, position: int) -> Request:
        """The request for the first page of the rows from *position* on. Rows of the second before may come
        too: no API documents whether its bound is inclusive, and a second earlier both cases are the same.
        """
        moment = moment_at(max(position - 1, FIRST))
        return self._dialect.starting_at(self._request, moment) or self._request

    def positions(self, rows: Sequence[Session]) -> list[int] | None:
        """The position of each of *rows*; None if one of them has no start time."""
        try:
            return [(datetime.fromisoformat(row.start_time_text or "") - EPOCH) // SECOND for row in rows]
        except (TypeError, ValueError):
            moments = [row.start_time for row in rows]
        return None if None in moments else [seconds_of(moment) for moment in moments if moment]


def moment_at(seconds: int) -> datetime:
    """The aware UTC datetime *seconds* after 1970 began."""
    return EPOCH.replace(tzinfo=UTC) + seconds * SECOND


def seconds_of(moment: datetime) -> int:
    """The whole seconds from 1970 to *moment*, an aware datetime."""
    return (moment - EPOCH.replace(tzinfo=UTC)) // SECOND
