"""`navtalk sync STORE --watch`: a worker that says how it is, and renews its key."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from time import monotonic
from typing import NoReturn

import click
from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.cli.connection import Shell
from navtalk_async.cli.job import Job
from navtalk_async.cli.metrics import Metrics
from navtalk_async.cli.progress import line
from navtalk_async.cli.reading import Place
from navtalk_async.cli.reporting import Watch, again_and_again
from navtalk_async.cli.scope import check_scope
from navtalk_async.cli.talk import Talk, counted
from navtalk_async.client import Client
from navtalk_async.ingest import Progress, RoundDone, RoundFailed, RunReport, Worker

__all__ = ["Shift", "round_line"]

LONG_ROUND_SECONDS = 30.0
"""A round that takes longer is told of while it goes on."""

RECONCILE_SECONDS = 86_400.0
"""How often everything is compared again, where that is asked for."""


class Shift:
    """The work of `--watch`: rounds for ever, told of on stderr, and to Prometheus."""

    def __init__(self, job: Job, where: Place, every: float) -> None:
        self._job = job
        self._shell = job.shell
        self._where = where
        self._every = every
        self._reconciled_at = -RECONCILE_SECONDS
        self._retries_failed = job.how["retry_failed"]
        self._watch = Watch()
        self._health = Health(self._watch, job.shell)
        self._metrics: Metrics | None = None
        self._key_doubted = False
        self._client: Client

    async def work(self, *, metrics_host: str, metrics_port: int | None) -> NoReturn:
        """Go on until it is cancelled, or something will not pass by itself."""
        async with self._shell.connection.client(self._watch, key_renewed=True) as self._client:
            self._watch.stats = self._client.stats
            check_scope(self._client, self._job.scope)
            worker = Worker(
                self._once, lambda: self._job.opened(self._where), every=self._every, heard=self._heard
            )
            async with self._metrics_served(metrics_host, metrics_port), self._health.telling():
                await worker.run()

    @asynccontextmanager
    async def _metrics_served(self, host: str, port: int | None) -> AsyncGenerator[None, None]:
        if port is None:
            yield
            return
        # A web server, which few commands need.
        from navtalk_async.cli.metrics_endpoint import Endpoint, served  # noqa: PLC0415

        self._metrics = Metrics(self._client.stats)
        async with served(Endpoint(self._metrics.text, self._metrics.content_type), host, port) as url:
            if self._shell.progress != "none":
                self._shell.talk.say(f"Metrics: {url}")
            yield

    async def _once(self, store: Archive, retries_failed: bool) -> RunReport:  # noqa: FBT001
        if self._key_doubted:
            await self._renew_key()
        progress = self._watch.progress = Progress()
        now = monotonic()
        reconciles = self._job.how["reconcile"] and now - self._reconciled_at >= RECONCILE_SECONDS
        retries = retries_failed or self._retries_failed
        report = await self._job.once(
            self._client, store, progress, retry_failed=retries, reconcile=reconciles
        )
        if reconciles:
            self._reconciled_at = now
        self._retries_failed = False
        if self._metrics is not None:
            self._metrics.holds(await store.counts(self._job.project))
        return report

    async def _renew_key(self) -> None:
        key, talk = self._shell.connection.key, self._shell.talk
        try:
            await to_thread.run_sync(key.renew)
        except click.UsageError as refusal:
            talk.say(f"The key stays what it was: {refusal.message}")
        talk.hide(key())

    def _heard(self, event: RoundDone | RoundFailed) -> None:
        self._key_doubted = isinstance(event, RoundFailed)
        if self._metrics is not None:
            self._metrics.heard(event)
        self._health.heard(event)


class Health:
    """Tells on stderr how each round ended, and what a long one is doing."""

    def __init__(self, watch: Watch, shell: Shell) -> None:
        self._watch = watch
        self._talk: Talk = shell.talk
        self._silent = shell.progress == "none"
        self._as_objects = shell.progress == "json"

    def heard(self, event: RoundDone | RoundFailed) -> None:
        """Say how a round ended."""
        if self._as_objects:
            self._talk.tell("round", **round_facts(event))
        elif isinstance(event, RoundFailed) or not self._silent:
            self._talk.say(round_line(event))

    def telling(self) -> AbstractAsyncContextManager[None]:
        """An `async with` in which a long round is told of from time to time."""
        return again_and_again(LONG_ROUND_SECONDS, self._tell_long, at_end=False)

    def _tell_long(self) -> None:
        if not self._silent and not self._as_objects:
            self._talk.say(line(self._watch.look()))


def round_line(event: RoundDone | RoundFailed) -> str:
    """How a round ended, in one sentence."""
    if isinstance(event, RoundFailed):
        why = f"{type(event.error).__name__}: {event.error.args[0]}"
        often = f", the {ordinal(event.in_a_row)} time in a row" if event.in_a_row > 1 else ""
        return f"round {event.number:,} failed{often}: {why} Trying again in {event.pause:.0f} s."
    of = event.report
    found = f"{of.inserted:,} new, {of.changed:,} changed, {of.vanished:,} gone"
    said = counted(of.messages_inserted, "new message")
    failed = f", {counted(of.failed, 'session')} failed" if of.failed else ""
    return (
        f"round {event.number:,}: {found}, {said}{failed}, in {event.seconds:.1f} s; "
        f"the next in {event.pause:.0f} s."
    )


def round_facts(event: RoundDone | RoundFailed) -> dict[str, object]:
    """How a round ended, for programs."""
    facts: dict[str, object] = {"round": event.number, "next_in_seconds": round(event.pause, 1)}
    if isinstance(event, RoundFailed):
        why = f"{type(event.error).__name__}: {event.error.args[0]}"
        return facts | {"outcome": "failed", "error": why, "in_a_row": event.in_a_row}
    told = {name: getattr(event.report, name) for name in TOLD}
    return facts | {"outcome": "done", "seconds": round(event.seconds, 3)} | told


TOLD = tuple(
    name
    for name in RunReport.__struct_fields__
    if name.startswith("messages_") or name in {"inserted", "changed", "same", "vanished", "failed"}
)


def ordinal(number: int) -> str:
    """*number* as one counts: 2nd, 3rd, 11th."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
