"""Keep a store up to date for months: one round after the other, whatever happens meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import NamedTuple, NoReturn

from navtalk_async.archive import Archive
from navtalk_async.archive.records import RunReport
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    ClientClosed,
    NavTalkError,
    NotFound,
    Redirected,
    StoreBroken,
    StoreError,
    StoreLocked,
    StoreMismatch,
    StoreUnreachable,
)

__all__ = ["RoundDone", "RoundFailed", "Worker", "may_pass", "pause_after"]

LONGEST_PAUSE_SECONDS = 300.0
"""An API that was away for hours is found again so soon, where rounds are not further apart anyway."""

RETRY_FAILED_SECONDS = 3600.0
"""How often sessions that failed for good are tried again all the same: for nobody is there to ask for it."""

NEVER_PASSES = (StoreBroken, StoreMismatch, ClientClosed)

PASSES_ONCE_WELL = (
    AccessDenied,
    BadRequest,
    NotFound,
    Redirected,
    StoreLocked,
    StoreUnreachable,
)
"""Before the first good round, these are mistakes to be put right; after it, they are likely to pass: a key
is being rotated, a database restarted."""


class RoundDone(NamedTuple):
    """A round came to its end."""

    number: int
    report: RunReport
    seconds: float
    """How long it took."""
    pause: float
    """Seconds until the next one begins."""


class RoundFailed(NamedTuple):
    """A round was ended by an error that may pass; what it had fetched is kept."""

    number: int
    error: NavTalkError
    in_a_row: int
    pause: float
    """Seconds until the next one begins."""


class Worker:
    """Brings a store up to date again and again, until it is cancelled.

    Arguments:
        once: one round; it is told whether sessions that failed are to be tried again.
        opened: opens the store; again, where it failed.
        every: seconds from the begin of a round to that of the next.
        heard: is told how each round ended; it should be quick.
        rest, clock: how to let seconds pass, and which they are.
    """

    def __init__(
        self,
        once: Callable[[Archive, bool], Awaitable[RunReport]],
        opened: Callable[[], AbstractAsyncContextManager[Archive]],
        *,
        every: float,
        heard: Callable[[RoundDone | RoundFailed], None],
        rest: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._once = once
        self._opened = opened
        self._every = every
        self._heard = heard
        self._rest = rest
        self._clock = clock
        self._number, self._failures = 1, 0
        self._was_well = False
        self._retried_at = clock()

    async def run(self) -> NoReturn:
        """Go on for ever.

        Raises:
            NavTalkError: what will not pass by itself.
        """
        while True:
            try:
                async with self._opened() as store:
                    await self._rounds(store)
            except StoreError as error:
                await self._failed(error)

    async def _rounds(self, store: Archive) -> NoReturn:
        while True:
            began = self._clock()
            try:
                report = await self._once(store, self._retries_failed(began))
            except StoreError:
                raise
            except NavTalkError as error:
                await self._failed(error)
                continue
            self._failures, self._was_well = 0, True
            took = self._clock() - began
            pause = max(0.0, self._every - took)
            self._heard(RoundDone(self._number, report, took, pause))
            self._number += 1
            await self._rest(pause)

    def _retries_failed(self, now: float) -> bool:
        due = now - self._retried_at >= RETRY_FAILED_SECONDS
        if due:
            self._retried_at = now
        return due

    async def _failed(self, error: NavTalkError) -> None:
        if not may_pass(error, was_well=self._was_well):
            raise error
        self._failures += 1
        pause = pause_after(self._failures, self._every)
        self._heard(RoundFailed(self._number, error, self._failures, pause))
        self._number += 1
        await self._rest(pause)


def may_pass(error: NavTalkError, *, was_well: bool) -> bool:
    """Whether a worker may wait for *error* to pass, once all *was_well* or before."""
    return not isinstance(error, NEVER_PASSES) and (was_well or not isinstance(error, PASSES_ONCE_WELL))


def pause_after(failures: int, every: float) -> float:
    """The seconds to wait after so many *failures* in a row: ever longer, within bounds."""
    # Not beyond the bound in the exponent either: after years of failures it would overflow.
    return min(max(every, 1.0) * 2.0 ** min(failures - 1, 30), max(every, LONGEST_PAUSE_SECONDS))
