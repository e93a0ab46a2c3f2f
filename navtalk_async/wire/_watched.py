"""A call whose events are made."""

import itertools
from collections.abc import Callable

from navtalk_async.errors import ApiError, NavTalkError
from navtalk_async.events import Answered, CallInfo, Event, Failed, GaveUp, Sent, Started, in_short

__all__ = ["CALL_IDS", "WatchedCall"]

CALL_IDS = itertools.count(1)


class WatchedCall:
    """Announces what happens to one *call*; all times are the event loop's."""

    __slots__ = ("_announce", "_call", "_free_at", "_queued", "_sent_at", "_started_at", "status")

    def __init__(self, announce: Callable[[Event], None], call: CallInfo, now: float) -> None:
        self._announce = announce
        self._call = call
        self._started_at = self._free_at = self._sent_at = now
        self._queued = 0.0
        self.status = 0  # of the latest answer

    def started(self) -> None:
        self._announce(Started(self._call))

    def sent(self, attempt: int, now: float) -> None:
        self._queued, self._sent_at, self.status = now - self._free_at, now, 0
        self._announce(Sent(self._call, attempt, self._queued))

    def answered(self, attempt: int, seconds: float, decode_seconds: float) -> None:
        self._announce(Answered(self._call, attempt, seconds, self.status, self._queued, decode_seconds))

    def failed(self, attempt: int, error: NavTalkError, now: float) -> None:
        status = error.status if isinstance(error, ApiError) else self.status
        seconds, self._free_at = now - self._sent_at, now
        self._announce(Failed(self._call, attempt, in_short(error), status, seconds, self._queued))

    def gave_up(self, attempts: int, error: BaseException, now: float) -> None:
        text = in_short(error) if isinstance(error, NavTalkError) else type(error).__name__
        self._announce(GaveUp(self._call, attempts, text, now - self._started_at))
