"""Many small writes, few commits: whatever is finished while one commit runs goes into the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Generic, Self, TypeVar

import anyio
from anyio.abc import TaskGroup

from navtalk_async.concurrency import shielded

__all__ = ["GroupCommit"]

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """An `async with` in which `add` keeps one item and returns when it is safe.

    *commit* is given all items that wait, and is never called twice at once. A commit costs a trip to the
    disk, whether it holds one item or fifty; those who add while one is made share the next.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Awaitable[None]]) -> None:
        self._commit = commit
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._news = asyncio.Event()
        self._group: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what still waits, also when the body was cancelled: it is paid for."""
        if self._group is None:
            return
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)
        await shielded(self._commit_all())

    async def add(self, item: T) -> None:
        """Keep *item*; raises what its commit raises."""
        safe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, safe))
        self._news.set()
        await safe

    async def _run(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            # A commit that has begun is finished, so that nobody is left in doubt of it.
            await shielded(self._commit_all())

    async def _commit_all(self) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            return
        try:
            await self._commit([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - each who waits for it raises it
            _settle(batch, error)
        else:
            _settle(batch, None)


def _settle(batch: "list[tuple[T, asyncio.Future[None]]]", error: Exception | None) -> None:
    for _, safe in batch:
        if safe.done():
            continue
        if error is None:
            safe.set_result(None)
        else:
            safe.set_exception(error)
