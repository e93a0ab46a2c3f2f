"""The rule of a shared limit: which turns are free, and what a pause changes. PostgreSQL has it as SQL.

It is GCRA (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm) without a burst, whose turns may be
reserved a little ahead. No moment that is kept binds for longer than the rule could have made it: a clock
that was set back does no harm.
"""

import math
from time import monotonic
from typing import NamedTuple

from navtalk_async.wire.retry import LONGEST_PAUSE
from navtalk_async.wire.shared_turns import Reservation

__all__ = ["AGAIN", "AHEAD", "KEPT", "RECOVERY", "SLOWEST", "LimitState", "after_pause", "reserved"]

AHEAD = 0.1
"""Turns are reserved up to so many seconds ahead, by all processes together."""
AGAIN = AHEAD / 2
"""Who got fewer than it wanted asks again when so much of it is free again."""
KEPT = 0.8  # the part of the rate that is left after a refusal
SLOWEST = 0.05
RECOVERY = 60.0  # seconds from a stop to the whole rate


class LimitState(NamedTuple):
    """A limit, as it is kept; moments in seconds of the keeper's clock."""

    rate: float
    next_at: float = 0.0
    paused_until: float = 0.0
    share: float = 1.0
    """The part of the rate that held at `share_at`."""
    share_at: float = 0.0

    def speed(self, now: float) -> float:
        """The requests a second that are let through."""
        grown = max(0.0, now - self.share_at) / RECOVERY
        return self.rate * min(1.0, self.share + grown)


def reserved(state: LimitState, now: float, most: int) -> tuple[LimitState, Reservation]:
    """What is left of *state* after up to *most* turns, and these."""
    at = monotonic()
    between = 1.0 / state.speed(now)
    paused_for = min(state.paused_until - now, LONGEST_PAUSE)
    if paused_for > 0:
        return state, Reservation(at, (), paused_for, paused_for, between)
    first = max(now, min(state.next_at, now + AHEAD + between))
    free = math.ceil((now + AHEAD - first) / between)
    count = max(0, min(most, free))
    next_at = first + count * between
    again = 0.0 if count == most else next_at - AGAIN - now
    turns = [first - now + number * between for number in range(count)]
    return state._replace(next_at=next_at), Reservation(at, turns, again, 0.0, between)


def after_pause(state: LimitState, now: float, seconds: float, *, refused: bool) -> LimitState:
    """*state* with a pause of *seconds*. Refusals of one pause count once."""
    share, share_at = state.share, state.share_at
    if refused and not now < state.paused_until <= now + LONGEST_PAUSE:
        share, share_at = max(SLOWEST, KEPT * state.speed(now) / state.rate), now + seconds
    until = now + min(seconds, LONGEST_PAUSE)
    if state.paused_until <= now + LONGEST_PAUSE:
        until = max(until, state.paused_until)
    return state._replace(paused_until=until, share=share, share_at=share_at)
