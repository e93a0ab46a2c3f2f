"""An event loop in a thread of its own, for programs and tests that have no loop, or have several."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs an event loop until `close`."""

    def __init__(self) -> None:
        # Not the policy's loop: closing a server needs `remove_reader`, which not every loop has.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = Thread(target=self._loop.run_forever, name="navtalk-sandbox", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin *work* in the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Callable[[], object]) -> None:
        """Call *function* in the loop, and do not wait for it."""
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        """End loop and thread; what still runs in it is left."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
