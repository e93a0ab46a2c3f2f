"""Many projects at once, in one event loop and one archive."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, TypeVar, Unpack

from navtalk_async.archive import Archive
from navtalk_async.archive.records import RunReport
from navtalk_async.client import Client, inside
from navtalk_async.concurrency import Rotation, SharedLimiter, shielded
from navtalk_async.errors import NavTalkError, StoreError, StoreMismatch
from navtalk_async.events import Event, Sent
from navtalk_async.ingest._job import Progress, Together
from navtalk_async.ingest._keyed_lock import KeyedLock
from navtalk_async.ingest._run import COUNTED, run_once
from navtalk_async.ingest.scope import CheckedOptions, SyncOptions
from navtalk_async.pool import limiter_of
from navtalk_async.wire.gate import AUTO_AT_MOST, Concurrency, checked_concurrency
from navtalk_async.wire.rate import checked_rate
from navtalk_async.wire.sender import Sender
from navtalk_async.wire.shared_limit import SharedLimit

T = TypeVar("T")


class Project:
    """One of the projects of a `sync_all`.

    Arguments:
        name: the name under which the archive keeps it.
        client: the client to ask with; projects of one server and key share theirs.
        progress: is kept up to date while the run goes on.
        options: as for `sync`, but for `project`.
    """

    def __init__(
        self, name: str, client: Client, *, progress: Progress | None = None, **options: Unpack[SyncOptions]
    ) -> None:
        self.name: str = name
        self.client: Client = client
        self.progress: Progress | None = progress
        self.options: SyncOptions = {**options, "project": name}

    def __repr__(self) -> str:
        return f"<Project {self.name!r} of {self.client!r}>"


class ProjectResult(NamedTuple):
    """How the run of a project ended: what it did; and the error, if one ended it."""

    project: str
    report: RunReport
    error: NavTalkError | None


async def sync_all(
    projects: Iterable[Project],
    archive: Archive,
    *,
    concurrency: int | None = AUTO_AT_MOST,
    rate: float | None = None,
    on_end: Callable[[ProjectResult], object] = lambda _: None,
) -> list[ProjectResult]:
    """Bring many *projects* in *archive* up to date, all at once; the results, in the order of the projects.

        projects = [Project("everything", nt), Project("completed", nt, status="completed")]
        for result in await sync_all(projects, archive):
            print(result.project, result.error or result.report.inserted)

    It is fair: projects take turns, request by request, so that one with much to do does not hold up others.
    A project whose key is refused, or whose server is away, ends with its error in its result, and the others
    go on. Each client keeps its own limits.

    Arguments:
        concurrency: the most requests in flight at once, of all clients together; 256. None for any number.
        rate: the most requests a second, of all clients together; None, the default, for any number.
        on_end: called with each result as a project ends.

    Raises:
        TypeError, ValueError: an argument that cannot be right, or two projects of one name; before anything
            is asked or kept.
        StoreError: the archive does not work; what was fetched before is kept.
    """
    given = list(projects)
    checked = [CheckedOptions.parse(each.client, each.options) for each in given]
    if twice := {each.name for each in given if sum(each.name == other.name for other in given) > 1}:
        raise ValueError(f"project={min(twice)!r} is the name of two projects.")
    if not isinstance(archive, Archive):
        raise TypeError(f"archive={archive!r} is not an Archive: open one with Archive.open(place).")
    if concurrency is not None:
        checked_concurrency(concurrency)
    limit = SharedLimit(concurrency, checked_rate(rate))
    of_clients = _by_client(given, checked)
    rotations = {wire: _rotation(some) for wire, some in of_clients.items() if len(some) > 1}

    async def run(project: Project, options: CheckedOptions) -> ProjectResult:
        progress = project.progress or Progress()
        report, error = progress.report, None
        rotation = rotations.get(inside(project.client).wire)
        if rotation is None:
            limiter = limiter_of(project.client, options.concurrency)
        else:
            limiter = SharedLimiter(rotation)
            COUNTED.set(report)
        together = Together(limiter, KeyedLock(), set())
        try:
            await run_once(project.client, archive, options, progress, together)
        except NavTalkError as failure:
            if isinstance(failure, StoreError) and not isinstance(failure, StoreMismatch):
                raise
            error = failure
        finally:
            if isinstance(limiter, SharedLimiter):
                limiter.close()
        result = ProjectResult(project.name, report, error)
        on_end(result)
        return result

    async with AsyncExitStack() as stack:
        for wire in of_clients:
            observers = (_count,) if wire in rotations else ()
            await stack.enter_async_context(wire.sharing(limit, observers))
        return await _all([run(*each) for each in zip(given, checked, strict=True)])


def _by_client(
    projects: Sequence[Project], checked: Sequence[CheckedOptions]
) -> dict[Sender, list[tuple[Project, CheckedOptions]]]:
    """The projects of each client, whatever its views."""
    found: dict[Sender, list[tuple[Project, CheckedOptions]]] = {}
    for project, options in zip(projects, checked, strict=True):
        found.setdefault(inside(project.client).wire, []).append((project, options))
    return found


def _rotation(some: Sequence[tuple[Project, CheckedOptions]]) -> Rotation:
    """The turns of projects that share a client, within the lowest of their limits."""
    asked = [options.concurrency for _, options in some if options.concurrency != "auto"]
    least: Concurrency = min(asked) if asked else "auto"
    return Rotation(limiter_of(some[0][0].client, least))


def _count(event: Event) -> None:
    report = COUNTED.get()
    if isinstance(event, Sent) and report is not None:
        report.requests += 1
        report.retries += event.attempt > 1


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all; where one fails, the others are stopped, and its error is raised, in no group."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await shielded(_settled(tasks))


async def _settled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
