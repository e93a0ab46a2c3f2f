"""How many requests a second are let in."""


class Window:
    """Counts requests in windows of one second: so many are let in, the rest must wait for the next."""

    def __init__(self) -> None:
        self._began = float("-inf")
        self._used = 0

    def allows(self, now: float, rate: int) -> bool:
        """Whether one more request fits in at *now*, in seconds; it is counted when it does."""
        if now - self._began >= 1:
            self._began, self._used = now, 0
        if self._used >= rate:
            return False
        self._used += 1
        return True
