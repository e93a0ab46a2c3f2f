"""How many requests a second a server allows, learned from its refusals.

A server that counts requests a second or a minute refuses those above its limit, and wants a pause. What it
let through from the end of one pause to the end of the next, over that time, is about the rate it allows,
whether it counts in fixed windows, in sliding ones, or with a bucket of tokens: each of them is as full at
the one end as at the other. From then on requests are spaced a little wider than that, and refusals end.

A cap on requests at once refuses too, and must not be taken for a rate. The ranks of its refusals show it
(see `_learned_concurrency`): a cap never refuses at a rank that it has just answered from. And where pauses
take little of the time, a rate has nothing to win, so none is set.
"""

from navtalk_async.wire._learned_concurrency import HITS, SERVED

__all__ = ["RateEstimator", "checked_rate"]

JUST_UNDER = 0.98  # the part of the estimated rate that is used
WORTH_SHARE = 0.1
# Where pauses take less, or a smaller part of the time, a rate has nothing to win. Short pauses also come
# from a cap; those of a server that counts by time are longer.
WORTH_SECONDS = 0.25
# A count that the server let through, from which a rate is known. A smaller one may be a bucket of few
# tokens that is filled fast: then the rate doubles in half of a pause, until it is refused.
FIRM = 16
HOLD = 20.0  # after an estimate, the rate is kept for so many times the pause; the next time, twice as long
LONGEST_HOLD_SECONDS = 600.0

LITTLE, MUCH = 0.85, 0.6  # the least part that is kept of a rate that was refused
FORGOTTEN = 32.0  # a rate that has grown to so many times the estimate holds nothing back any more


def checked_rate(rate: float | None) -> float | None:
    """*rate*, if it is None or above 0; else a ValueError."""
    if rate is not None and not rate > 0:
        raise ValueError(f"rate={rate} lets no request through; it is requests a second.")
    return rate


class RateEstimator:
    """The rate of one server, learned from its refusals."""

    def __init__(self) -> None:
        self.base: float | None = None  # the rate as it was estimated last; None for no limit
        # Whether the time between two pauses is running: `began` is due when it is not.
        self.is_running: bool = False
        self._grows_at = 0.0
        self._doubling = 1.0
        self._hold = HOLD
        self._firm = False
        self._is_cap = True  # whether a cap may still explain the refusals since the last pause
        # Since the end of the last pause that anything was let through after.
        self._began: float | None = None
        self.accepted: int = 0  # good answers since then; the gate counts them
        self._refused_at: float | None = None  # when the first request that was refused had left
        self._rank = 0  # the lowest rank of a refusal
        self._accepted_before = 0
        self._pause_ends = 0.0
        # `_began`, `accepted` and `_refused_at` of the time before the last pause, and the rate until then.
        self._last: tuple[float, int, float, float | None] | None = None
        # Whether a cap was believed in, the last time, against a rank that was good before.
        self._excused = False

    def rate(self, now: float) -> float | None:
        """The requests a second that are allowed *now*; None for any number."""
        if self.base is None:
            return None
        if now <= self._grows_at:
            return self.base
        times: float = 2.0 ** min((now - self._grows_at) / self._doubling, 10.0)
        if times > FORGOTTEN:
            self.base = None
            return None
        return self.base * times

    def began(self, now: float) -> None:
        """The first request since a pause, or of all, is let through."""
        if self._began is not None and self._refused_at is not None:
            self._last = (self._began, self.accepted, self._refused_at, self.base)
            if self.accepted:
                self._estimate(now)
        self._began, self.accepted, self._refused_at = now, 0, None
        self.is_running = True

    def refused(self, now: float, sent_at: float, seconds: float, *, rank: int, cap: bool) -> None:
        """Count a refusal with a pause of *seconds*; *cap* is whether a cap on requests at once may explain
        it.
        """
        if self._began is not None and sent_at < self._began:
            # It left before the last pause, for which there was reason enough.
            return
        self.is_running = False
        if self._refused_at is None:
            self._refused_at = sent_at
            self._is_cap = True
            if not self.accepted and self._last is not None:
                # The pause was too short: this is still the one before.
                self._began, self.accepted, self._refused_at, self.base = self._last
            self._rank, self._accepted_before = rank, self.accepted
        self._is_cap = self._is_cap and cap
        self._rank = min(self._rank, rank)
        self._pause_ends = max(self._pause_ends, now + seconds)

    def _may_be_cap(self) -> bool:
        """Whether a cap may explain the refusals.

        A rank is counted here, and the server may have finished some of the requests ahead of it: then a rank
        above the cap was good by luck. So where it was as full after the refusal as a cap is, a rank
        that was good before is let pass, once in a row.
        """
        after = self.accepted - self._accepted_before
        was_full = after >= max(HITS, SERVED * (self._rank - 1))
        self._excused = not self._is_cap and was_full and not self._excused
        return self._is_cap or self._excused

    def _estimate(self, now: float) -> None:
        """Set the rate by what was accepted up to the pause that ends about *now*."""
        assert self._began is not None  # noqa: S101
        assert self._refused_at is not None  # noqa: S101
        running = max(self._refused_at - self._began, 0.0)
        pause = max(self._pause_ends - self._refused_at, 0.0)
        before = self.rate(self._refused_at)
        worth = max(WORTH_SECONDS, WORTH_SHARE * (running + pause))
        if before is None and (self._may_be_cap() or pause < worth):
            return
        # In windows, all that was accepted came in one of them, which is as long as the pause; out of a
        # bucket, it was also what was filled in while it ran. We cannot know, and take the middle.
        whole = pause + (running if running > pause else running / 2)
        estimate = self.accepted / whole
        if before is None:
            self._firm = self.accepted >= FIRM
            estimate = max(estimate, FIRM / whole) if not self._firm else estimate
        else:
            # Spaced by this rate it was refused: it was a little too much, and after a short time, more so.
            self._firm = True
            estimate = max(estimate, (LITTLE if running >= pause / 2 else MUCH) * before)
            self._hold *= 2
        self.base = JUST_UNDER * estimate
        hold = self._hold * pause if self._firm else 0.0
        self._grows_at = now + min(hold, LONGEST_HOLD_SECONDS)
        self._doubling = max(0.01, pause * (2.0 if self._firm else 0.5))
