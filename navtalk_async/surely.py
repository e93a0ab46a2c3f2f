"""Work that is done to its end, whoever is cancelled meanwhile."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from anyio import CancelScope

__all__ = ["surely"]

T = TypeVar("T")


async def surely(work: Coroutine[Any, Any, T]) -> T:
    """What *work* gives. Whoever is cancelled while it is done is so after it: a scope alone would hold off
    anyio's cancelling, and not that of asyncio.
    """
    task = asyncio.create_task(work)
    stopped: asyncio.CancelledError | None = None
    with CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as stop:
                stopped = stop
    if stopped is None:
        return task.result()
    if not task.cancelled():
        # Nobody is left who would hear of its error.
        task.exception()
    raise stopped
