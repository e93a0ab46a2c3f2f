"""Mend an archive: fetch again what a verification found damaged, missing or stale."""

from collections.abc import Iterable
from pathlib import Path

from navtalk_async.archive import Archive
from navtalk_async.archive.records import ProjectInfo
from navtalk_async.client import Client
from navtalk_async.errors import StoreMismatch
from navtalk_async.formats import export, found_in
from navtalk_async.ingest import sync
from navtalk_async.verification.remote import refuse_others, scope_of
from navtalk_async.verification.report import Finding, Remedy, Report
from navtalk_async.wire.limits import Concurrency

__all__ = ["ROUNDS", "is_repairable", "repair", "write_again"]

ROUNDS = 3
"""How often to repair at most: what a damaged index hides is found once that is rebuilt."""


def is_repairable(report: Report) -> bool:
    """Whether a repair can do anything about what *report* found."""
    return bool(report.expected or report.unfinished) or any(
        each.cure is not Remedy.COPY for each in report.findings
    )


async def repair(
    client: Client,
    store: Archive,
    report: Report,
    *,
    project: str | None = None,
    concurrency: Concurrency = "auto",
    server: str | None = None,
) -> list[Finding]:
    """Fetch again what *report* found wrong in *store*, and try again what was not fetched before; what was
    found wrong and could not be fetched, as findings.

    Each project is synced, by the filters that the store remembers; see `sync` for *server*.

    Raises:
        StoreMismatch: no project of these is of the client's API, server and key.
        NavTalkError: the API cannot be asked; what was fetched is kept.
    """
    left: list[Finding] = []
    refusals: list[StoreMismatch] = []
    chosen = _chosen(await store.projects(), report, project)
    for about in chosen:
        bad = sorted(session_id for each, session_id in report.bad if each == about.project)
        try:
            refuse_others(client, about, server)
            unfinished = {session_id for each, session_id in report.unfinished if each == about.project}
            await store.refetch(about.project, sorted(unfinished.union(bad)))
            await sync(
                client,
                store,
                project=about.project,
                scope=scope_of(about),
                concurrency=concurrency,
                server=server,
            )
        except StoreMismatch as refusal:
            refusals.append(refusal)
            continue
        reasons = {each.id: each.reason for each in await store.failures(about.project)}
        left += [
            Finding(
                f"{about.project}, session {each}",
                f"it could not be fetched again: {reasons[each].removesuffix('.')}",
                Remedy.REPAIR,
                about.project,
                each,
            )
            for each in bad
            if each in reasons
        ]
    if refusals and len(refusals) == len(chosen):
        raise refusals[0]
    report.notes += [str(each) for each in refusals]
    return left


async def write_again(store: Archive, folder: Path, project: str | None) -> None:
    """Write the files of *store* in *folder* anew, and their manifest; of all its projects, or of one."""
    found = found_in(folder)
    listed = {each.project for each in (() if found.manifest is None else found.manifest.entries)}
    with_files = listed | set(found.owners.values())
    for about in await store.projects():
        is_chosen = project in (None, about.project) and (not with_files or about.project in with_files)
        if is_chosen:
            await export(store, folder, project=about.project)


def _chosen(projects: Iterable[ProjectInfo], report: Report, project: str | None) -> list[ProjectInfo]:
    """The projects in which something is wrong; all of them where no project can be named for it."""
    named = {each.project for each in report.findings if each.cure is not Remedy.EXPORT}
    wrong = named | {each for each, _ in report.expected | report.unfinished}
    return [
        each
        for each in projects
        if project in (None, each.project) and (each.project in wrong or None in wrong)
    ]
