"""What a run of `export` or `sync` is to do, as the command line says it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, Literal, TypedDict

import click

from navtalk_async.archive import Archive
from navtalk_async.cli.connection import Shell, talks_to_api
from navtalk_async.cli.options import LISTING, as_name, as_span, with_options
from navtalk_async.cli.reading import Place
from navtalk_async.cli.scope import takes_scope
from navtalk_async.client import Client
from navtalk_async.ingest import Progress, RunReport, Scope, sync
from navtalk_async.listing.short_pages import ShortPages

__all__ = ["Job", "takes_job"]

RUN_OPTIONS = with_options(
    LISTING,
    click.option(
        "--short-pages",
        type=click.Choice(["follow", "audit"]),
        default="follow",
        help="Follow the cursor of every short page of messages; or only of some, to see that nothing comes.",
    ),
    click.option(
        "--project",
        type=as_name,
        metavar="NAME",
        default="default",
        help="The name the key's project has in the archive.",
    ),
    click.option("--retry-failed", is_flag=True, help="Try again what failed for good in earlier runs."),
    click.option(
        "--reconcile", is_flag=True, help="List everything again, and compare it; with --watch, once a day."
    ),
    click.option(
        "--server-moved", is_flag=True, help="The archive's server is at another address now; remember that."
    ),
    click.option(
        "--overlap",
        type=as_span,
        metavar="SPAN",
        default="24h",
        help="How far behind the latest known session to list again [24h].",
    ),
    click.option(
        "--settle",
        type=as_span,
        metavar="SPAN",
        default="120s",
        help="How long messages may be under way after a session ended [120s].",
    ),
    click.option(
        "--watch-max-age",
        type=as_span,
        metavar="SPAN",
        help="Sessions that began longer ago are no longer waited for to end.",
    ),
)


class How(TypedDict):
    """How a run goes about it, by the names of `sync`'s arguments."""

    listing: Literal["auto", "serial"]
    short_pages: ShortPages
    retry_failed: bool
    reconcile: bool
    server_moved: bool
    overlap: timedelta
    settle: timedelta
    watch_max_age: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be brought up to date, and how."""

    shell: Shell
    scope: Scope
    project: str
    how: How

    def opened(self, where: Place) -> AbstractAsyncContextManager[Archive]:
        """The store that is at *where*, or is made there."""
        return Archive.open(where)

    async def once(
        self, client: Client, store: Archive, progress: Progress, *, retry_failed: bool, reconcile: bool
    ) -> RunReport:
        """One round with *client*, told of in *progress*."""
        how: How = {**self.how, "retry_failed": retry_failed, "reconcile": reconcile}
        return await sync(
            client,
            store,
            project=self.project,
            scope=self.scope,
            concurrency=self.shell.connection.concurrency,
            progress=progress,
            server=self.shell.connection.server,
            **how,
        )


def takes_job(command: Callable[..., int]) -> Callable[..., int]:
    """*command* with all options of a run; it gets the `Job` made of them."""

    @wraps(command)
    def told(*, shell: Shell, scope: Scope, project: str, **others: Any) -> int:
        how = How(**{name: others.pop(name) for name in How.__annotations__})  # type: ignore[typeddict-item]
        job = Job(shell=shell, scope=scope, project=project, how=how)
        return command(job=job, **others)

    return RUN_OPTIONS(takes_scope(talks_to_api(told)))
