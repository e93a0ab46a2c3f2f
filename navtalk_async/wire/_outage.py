"""Whether the server is away, judged by the failures in one event loop; and how calls wait for it."""

import random
from collections import Counter
from collections.abc import Callable

from navtalk_async.errors import ConnectFailed, NavTalkError, ServerError
from navtalk_async.events import Event, Outage, in_short
from navtalk_async.models import Request
from navtalk_async.wire.gate import Gate
from navtalk_async.wire.retry import CallOptions, is_absence

__all__ = ["Absence"]

# The most seconds between two requests to a server that is away, and the most of the time to wait.
LONGEST_BETWEEN, SHARE_BETWEEN = 5.0, 0.05
# A call that failed so often since the last good answer of any call does not fail by a fault of its own.
STEADY = 3
# What may be the fault of one request is hardly that of so many.
MANY = 4


class Absence:
    """The failures since the last good answer."""

    def __init__(self, gate: Gate, announce: Callable[[Event], None]) -> None:
        self._gate = gate
        self._announce = announce
        self._answers = -1
        self._failures: Counter[tuple[str, str]] = Counter()
        self._since = 0.0
        self._is_on = False

    def count(self, request: Request, sent_at: float, answers: int) -> None:
        """Count a failure of *request*, after so many good *answers* of all calls."""
        if answers != self._answers:
            self._answers, self._since, self._is_on = answers, sent_at, False
            self._failures.clear()
        self._failures[request.path, repr(request.params)] += 1

    def waits(
        self, request: Request, error: NavTalkError, now: float, options: CallOptions, *, used_up: int = 0
    ) -> bool | None:
        """Whether *request*, which ended in *error*, is to wait for the server, for at most `Retry.outage`
        after it went away; None where nothing says that it did. *used_up*: its attempts, if it has no more.

        Where it waits, all calls pause, and then one request at a time finds out.
        """
        longest = options.retry.outage
        if not longest or not request.repeatable or not is_absence(error):
            return None
        if not self._is_on:
            if not self._is_shown(request, error, options, used_up):
                return None
            self._is_on = True
            self._announce(Outage(min(longest, options.timeout or longest), in_short(error)))
        if now - self._since >= longest:
            return False
        self._gate.count_refusal(now, now)
        chance = random.random()  # noqa: S311 - jitter is no secret
        between = min(LONGEST_BETWEEN, longest * SHARE_BETWEEN)
        self._gate.pause(between * (0.5 + 0.5 * chance), at_least=0.0, named=False)
        return True

    def _is_shown(self, request: Request, error: NavTalkError, options: CallOptions, used_up: int) -> bool:
        if not used_up or self._failures[request.path, repr(request.params)] < min(STEADY, used_up):
            return False
        is_500 = isinstance(error, ServerError) and 500 in (error.status, error.code)
        may_be_its_own = is_500 or not (options.shows_outage or isinstance(error, ConnectFailed))
        return not may_be_its_own or len(self._failures) >= MANY
