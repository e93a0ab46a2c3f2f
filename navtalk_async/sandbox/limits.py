"""How many requests a second are let in."""


class Window:
    """Counts requests in windows of some *seconds*: so many are let in, the rest must wait for the next."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._began = float("-inf")
        self._used = 0

    def allows(self, now: float, rate: int) -> bool:
        """Whether one more request fits in at *now*, in seconds; it is counted when it does."""
        if now - self._began >= self._seconds:
            self._began, self._used = now, 0
        if self._used >= rate:
            return False
        self._used += 1
        return True

    def left(self, now: float, rate: int) -> tuple[int, float]:
        """How many more requests fit in, and the seconds until the next window begins."""
        over = self._began + self._seconds - now
        return (max(rate - self._used, 0), over) if over > 0 else (rate, self._seconds)
