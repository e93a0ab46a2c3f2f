"""Keep an archive up to date for months: one round after the other, whatever happens meanwhile."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Self, Unpack
from uuid import UUID

import msgspec

from navtalk_async.archive import Archive, is_url, redacted
from navtalk_async.archive.records import RunReport
from navtalk_async.client import Client
from navtalk_async.concurrency import OUTSIDE
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
    UnknownHost,
    UntrustedCertificate,
)
from navtalk_async.ingest._health import Health, is_healthy
from navtalk_async.ingest._job import Job, Progress, Together
from navtalk_async.ingest._pokes import Poke, PokedSessions, PokeQueue
from navtalk_async.ingest._run import begin_job, run_once
from navtalk_async.ingest.scope import CheckedOptions, SyncOptions

logger = logging.getLogger("navtalk_async")

LONGEST_PAUSE_SECONDS = 300.0
"""The longest pause after failures, where rounds are not further apart anyway."""

STAND_BY_SECONDS = 1.0
"""How often a watch looks whether the run that holds the archive has ended."""

RETRY_FAILED_SECONDS = 3600.0
"""How often sessions that failed for good are fetched again, since no user is there to ask for it."""

RECONCILE_SECONDS = 86_400.0
"""How often everything is compared again, where that is asked for."""

NEVER_PASSES = (StoreBroken, StoreMismatch, ClientClosed)

PASSES_ONCE_WELL = (
    AccessDenied,
    BadRequest,
    NotFound,
    Redirected,
    StoreUnreachable,
    UnknownHost,
    UntrustedCertificate,
)
"""Before the first good round, these are mistakes to be put right; after it, they are likely to pass: a key
is being rotated, a database restarted."""


class RoundResult(NamedTuple):
    """How a round ended: with a report, or with an error that may pass; what was fetched is kept."""

    number: int
    report: RunReport | None
    error: NavTalkError | None
    failures_in_a_row: int
    seconds: float
    """How long the round took."""
    pause: float
    """Seconds until the next one begins."""


class Rounds:
    """The rounds of a `watch`: an `async with` around an `async for`."""

    def __init__(
        self,
        client: Client,
        place: str | Path,
        options: SyncOptions,
        *,
        every: float,
        retry_failed_every: float | None = RETRY_FAILED_SECONDS,
        reconcile_every: float | None = None,
        rest: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.archive: Archive | None = None
        """The archive, while it is open."""
        self.progress: Progress = Progress()
        """How far the round under way has come, or the last one came."""
        self.standing_by: StoreLocked | None = None
        """Why the watch stands by, while another run holds the archive."""
        self._client = client
        self._place = place
        self._options = CheckedOptions.parse(client, options)
        self._every, self._retry_failed_every = every, retry_failed_every
        self._reconcile_every = reconcile_every
        if self._options.reconcile and reconcile_every is None:
            self._reconcile_every = RECONCILE_SECONDS
        self._rest = rest
        self._clock = clock
        self._opened = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._is_entered = False
        self._number, self._failures, self._due_at = 0, 0, clock()
        self._was_well = False
        self._began_well = self._moved_at = self._due_at
        self._last_success: datetime | None = None
        self._last_seen: object = None
        self._error: NavTalkError | None = None
        self._has_ended = False
        self._retried_at = None if self._options.retry_failed else self._due_at
        self._reconciled_at = None if self._options.reconcile else self._due_at
        self._together = Together.of(client, self._options)
        poked = PokedSessions(self._poke_job)
        self._pokes = PokeQueue(poked.ask, poked.keep, self._together.limiter)
        self._job: Job | None = None
        self._beginning = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._is_entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_entered = False
        try:
            await self._pokes.close()
        finally:
            await self._close()

    def __aiter__(self) -> AsyncIterator[RoundResult]:
        return self

    async def __anext__(self) -> RoundResult:
        """The result of the next round, which begins when it is due."""
        if not self._is_entered:
            raise RuntimeError(OUTSIDE)
        if self.standing_by is not None:
            await self._take_over()
        elif self._number:
            await self._rest(max(0.0, self._due_at - self._clock()))
        self._number += 1
        began = self._clock()
        report = failure = None
        try:
            report = await self._round(began)
            self._failures, self._was_well = 0, True
            self._began_well, self._last_success = began, datetime.now(UTC)
            pause = max(0.0, self._every - (self._clock() - began))
        except NavTalkError as error:
            if isinstance(error, StoreError):
                await self._close()
            if not may_pass(error, was_well=self._was_well):
                self._error, self._has_ended = error, True
                raise
            failure = error
            if isinstance(error, StoreLocked):
                self.standing_by, pause = error, STAND_BY_SECONDS
            else:
                self._failures += 1
                pause = pause_after(self._failures, self._every)
        now, self._error = self._clock(), failure
        self._due_at = now + pause
        return RoundResult(self._number, report, failure, self._failures, now - began, pause)

    async def run(self, report: Callable[[RoundResult], object] = lambda _: None) -> None:
        """Round after round until it is cancelled, for a task beside others; *report* is called with each
        result.

        Raises:
            NavTalkError: an error that will not pass by itself.
        """
        try:
            async for result in self:
                report(result)
        except NavTalkError as error:
            # Whoever made a task of this may not look at it for days.
            place = redacted(self._place)
            logger.error("The rounds have ended; %s is not kept up to date: %s", place, error)  # noqa: TRY400
            raise

    def poke(self, session_id: str | UUID, *others: str | UUID) -> Poke:
        """Say that a session may have changed: it is asked for at once, beside the rounds, and kept like any
        other. Call it from the event loop of the watch.

        Awaited, it returns after the commit; not awaited, the session is asked for all the same. However
        often a session is poked, it is asked for at most once a second, and always once more after the last
        poke. A session that the API no longer has is marked as deleted; one that the project's filters leave
        out is not kept. What cannot be asked for now is asked for once more after the next good round.

        Raises:
            ValueError: no id of a session; nothing is asked for.
            RuntimeError: outside of the `async with`.
            NotFound: when awaited: the API has no such session, and the archive neither.
            NavTalkError: when awaited: it could not be asked for or kept.
        """
        ids = [self._client.dialect.checked_id(each) for each in (session_id, *others)]
        if not self._is_entered:
            raise RuntimeError("Poke inside the block: `async with watch(…) as results:`.")
        return Poke([self._pokes.add(each) for each in ids])

    def health(self) -> Health:
        """How the watch is now, for a probe."""
        now, report, error = self._clock(), self.progress.report, self._error
        seen = (self._number, report.listed, report.done)
        if seen != self._last_seen and any(seen[1:]):
            # It got further since the last probe.
            self._last_seen, self._moved_at = seen, now
        alive, standing_by = self._is_entered and not self._has_ended, self.standing_by is not None
        behind_by = now - self._began_well
        paused_for = max(self._client.stats().paused_for, self._due_at - now if self._failures else 0.0)
        return Health(
            healthy=is_healthy(
                alive=alive,
                standing_by=standing_by,
                stalled_for=min(behind_by, now - self._moved_at),
                every=self._every,
                longest_pause=LONGEST_PAUSE_SECONDS,
            ),
            alive=alive,
            last_success=self._last_success,
            behind_by=round(behind_by, 3),
            paused_until=datetime.now(UTC) + timedelta(seconds=paused_for) if paused_for > 0 else None,
            standing_by=standing_by,
            error=None if error is None else f"{type(error).__name__}: {error.args[0]}",
        )

    async def _round(self, began: float) -> RunReport:
        archive = await self._open()
        self.progress = Progress()
        retries = _is_due(self._retried_at, self._retry_failed_every, began)
        reconciles = _is_due(self._reconciled_at, self._reconcile_every, began)
        options = msgspec.structs.replace(self._options, retry_failed=retries, reconcile=reconciles)
        report = await run_once(self._client, archive, options, self.progress, self._together)
        await self._pokes.ask_left()
        if retries:
            self._retried_at = began
        if reconciles:
            self._reconciled_at = began
        return report

    async def _take_over(self) -> None:
        """Stand by until the run that holds the archive has ended."""
        while self.standing_by is not None:
            await self._rest(STAND_BY_SECONDS)
            try:
                await self._open()
            except StoreLocked:
                continue
            except StoreError:
                pass  # The round meets it, too.
            self.standing_by = None

    async def _open(self) -> Archive:
        async with self._opening:
            if self.archive is None:
                self.archive = await self._opened.enter_async_context(Archive.open(self._place))
            return self.archive

    async def _close(self) -> None:
        # A round in another task may just be opening it.
        async with self._opening:
            self.archive = self._job = None
            await self._opened.aclose()

    async def _poke_job(self) -> Job:
        """The job of pokes; the first opens the archive where no round has."""
        if self.standing_by is not None:
            raise self.standing_by
        archive = await self._open()
        async with self._beginning:
            if self._job is None or self._job.archive is not archive:
                options = msgspec.structs.replace(self._options, retry_failed=False, reconcile=False)
                self._job = await begin_job(
                    *(self._client, archive, options, Progress()),
                    together=self._together,
                    lane="normal",
                    is_checked=self._was_well,
                )
            return self._job


def watch(
    client: Client,
    place: str | Path,
    *,
    every: float = 60.0,
    retry_failed_every: float | None = RETRY_FAILED_SECONDS,
    reconcile_every: float | None = None,
    **options: Unpack[SyncOptions],
) -> Rounds:
    """Keep the archive at *place* up to date, round after round, until the block is left.

        async with watch(nt, "chats/archive.db", every=60.0) as results:
            async for result in results:
                print(result.report or result.error)

    A round begins when its result is asked for, at the earliest *every* seconds after the begin of the one
    before. Errors that may pass are results: an API that is away is asked again after ever longer pauses.
    Where another run holds the archive, the watch says so in one result, a StoreLocked, stands by, and takes
    over within seconds of the end of that run. Leaving the block stops the round, keeps the sessions
    that it has fetched, and closes the archive.

    Arguments:
        place: a path, or `postgresql://user@host/database`.
        every: seconds from the begin of a round to that of the next.
        retry_failed_every: how many seconds apart sessions that failed for good are tried again; None, never
            but in the first round, with `retry_failed`.
        reconcile_every: how many seconds apart everything is listed and compared; None, the default, never,
            or once a day with `reconcile`, which does it in the first round, too.
        options: as for `sync`.

    Raises:
        TypeError, ValueError: an argument that cannot be right; before anything is asked or opened.
        NavTalkError: an error that will not pass by itself, raised by the `async for`.
    """
    spans = {"every": every, "retry_failed_every": retry_failed_every, "reconcile_every": reconcile_every}
    for name, span in spans.items():
        if (span is not None or name == "every") and not (isinstance(span, (int, float)) and span > 0):
            raise ValueError(f"{name}={span!r} is not a number of seconds above 0.")
    is_url(place)
    return Rounds(
        *(client, place, options),
        every=every,
        retry_failed_every=retry_failed_every,
        reconcile_every=reconcile_every,
    )


def may_pass(error: NavTalkError, *, was_well: bool) -> bool:
    """Whether *error* may pass by itself, once a round *was_well* or before."""
    return not isinstance(error, NEVER_PASSES) and (was_well or not isinstance(error, PASSES_ONCE_WELL))


def pause_after(failures: int, every: float) -> float:
    """The seconds to wait after so many *failures* in a row: ever longer, within bounds."""
    # Not beyond the bound in the exponent either: after years of failures it would overflow.
    return min(max(every, 1.0) * 2.0 ** min(failures - 1, 30), max(every, LONGEST_PAUSE_SECONDS))


def _is_due(last: float | None, every: float | None, now: float) -> bool:
    return last is None or (every is not None and now - last >= every)
