"""How a watch is: what a probe asks for."""

from datetime import datetime

import msgspec


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a `watch` is. Moments are by this machine's clock."""

    healthy: bool
    """Whether it is alive, and stands by or gets on: it finished a round, or got further in one, within
    three times `every` and five minutes."""
    alive: bool
    """Whether rounds go on: no error has ended them, and the block was not left."""
    last_success: datetime | None
    """When the latest good round ended."""
    behind_by: float
    """Seconds since the latest good round began; before the first, since the watch was made."""
    paused_until: datetime | None
    """When requests or rounds go on, where the server or a failure makes them wait."""
    standing_by: bool
    """Whether another run holds the archive, and this one waits to take over."""
    error: str | None
    """The class and message of the error of the latest round, if it had one."""


def is_healthy(
    *, alive: bool, standing_by: bool, stalled_for: float, every: float, longest_pause: float
) -> bool:
    """Whether a watch is well that got no further for *stalled_for* seconds."""
    return alive and (standing_by or stalled_for <= 3 * every + longest_pause)
