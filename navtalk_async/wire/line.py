"""What one event loop has of a wire: its gate, its connections, and what the latest answer said."""

import msgspec

from navtalk_async.wire.hints import Hint
from navtalk_async.wire.limits import Gate
from navtalk_async.wire.retry import Budget
from navtalk_async.wire.single_use import SingleUseTransport
from navtalk_async.wire.transport import Transport

__all__ = ["Line"]


class Line(msgspec.Struct, eq=False):
    """What one event loop has of a wire."""

    transport: Transport
    """For what only reads."""
    single_use: SingleUseTransport
    """For all else."""
    gate: Gate
    budget: Budget = msgspec.field(default_factory=Budget)
    closed: bool = False
    received_at: float = 0.0
    """When the latest answer had come, and what it said of limits: for whom it came to, who reads both before
    anybody else runs.
    """
    hint: Hint | None = None
    date: str | None = None
    """What the latest answer that had a date, and came at `dated_at`, says of the time. Its other headers are
    not kept, which may quote the key.
    """
    dated_at: float = 0.0

    async def close(self) -> None:
        """Turn everybody away, and end every connection."""
        if not self.closed:
            self.closed = True
            self.gate.close()
            await self.single_use.close()
            await self.transport.close()
