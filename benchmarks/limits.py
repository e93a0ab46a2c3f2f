"""How the server of the benchmarks counts requests a second; time comes in as a number."""


class Window:
    """A fixed number of requests in each second, which begins with its first request."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._ends_at = float("-inf")
        self._left = 0

    def admits(self, now: float) -> bool:
        """Whether one more may pass at *now*."""
        if now >= self._ends_at:
            # Windows follow each other without a gap while there are requests.
            late = now - self._ends_at
            self._ends_at = now + 1.0 - late if late < 1.0 else now + 1.0
            self._left = self._rate
        self._left -= 1
        return self._left >= 0


class Bucket:
    """A token for each request: *rate* are added a second, up to one second's worth."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._at = float("-inf")

    def admits(self, now: float) -> bool:
        """Whether one more may pass at *now*."""
        self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


def ideal_seconds(calls: int, rate: int, rate_by: str) -> float:
    """How long *calls* take at the least, if each is made as soon as it is allowed."""
    if rate_by == "window":
        return float(-(-calls // rate) - 1)
    return max(0.0, (calls - rate) / rate)
