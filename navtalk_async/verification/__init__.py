"""Whether what was kept and exported is whole: by itself, by checksums and by the API; and its repair."""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread

from navtalk_async.archive import Archive, is_url
from navtalk_async.archive.records import ProjectInfo
from navtalk_async.client import Client
from navtalk_async.dialects import dialects
from navtalk_async.errors import StoreBroken, StoreMismatch, StoreUnreachable
from navtalk_async.formats import ARCHIVE, MANIFEST, chosen_projects, export, read_folder, refuse_emptied
from navtalk_async.ingest import check_key, sync
from navtalk_async.verification._forgotten import verify_forgotten
from navtalk_async.verification._local import ArchiveCheck, verify_folder
from navtalk_async.verification._remote import ApiCheck, find_other_origin, scope_of
from navtalk_async.verification._report import Checked, Finding, Refusal, Remedy, Report, some
from navtalk_async.wire.gate import Concurrency

__all__ = ["REPAIR_ROUNDS", "Checked", "Finding", "Remedy", "Report", "some", "verify"]

REPAIR_ROUNDS = 3
"""How often to repair at most: what a damaged index hides is found once the index is rebuilt."""


async def verify(
    place: str | Path,
    *,
    client: Client | None = None,
    remote: float | None = None,
    repair: bool = False,
    quick: bool = False,
    project: str | None = None,
    concurrency: Concurrency = "auto",
    server: str | None = None,
    forgotten: bool = False,
    report: Report | None = None,
) -> Report:
    """Find what is lost, doubled, out of order or damaged. Nothing is changed unless *repair* is set.

    Arguments:
        place: the folder of an export, the path of an archive, or `postgresql://user@host/database`.
        client: asks the API, for *remote* and *repair*.
        remote: the share of the sessions to fetch again and compare with the API, above 0 and up to 1; at
            least one session of each project. The API's list is compared too. Sessions that the next sync
            reads again anyway may be behind: they are a note, and so are sessions that cannot be fetched
            while others can.
        repair: fetch again what is damaged, missing or stale, sync each project concerned, and write the
            files anew; then verify once more.
        quick: compare sizes and checksums only; parse nothing.
        project: only this project; by default, all.
        concurrency: the most requests in flight at once; `"auto"` leaves it to the client's own limit.
        server: the name of the server as in `sync`; by default, the client's `base_url`.
        forgotten: also search tables, files, and the bytes of the archive's own file for sessions that were
            forgotten (`Archive.forget`); in bytes, only ids that are UUIDs are found.
        report: an empty report to fill while the verification goes on.

    Raises:
        ValueError: *remote* or *repair* without a *client*, or a *remote* that is no share.
        StoreMismatch: the archive has no such project, is of another version, or was synced from another API
            or server, or with other options, than the client has.
        StoreLocked: another process is writing to the archive.
        StoreUnreachable: there is nothing at *place*, or the database cannot be reached.
        NavTalkError: the API cannot be asked; what was fetched is kept.
    """
    if remote is not None and not 0 < remote <= 1:
        raise ValueError(f"remote={remote!r} is no share; give a number above 0 and up to 1.")
    if client is None and (repair or remote is not None):
        raise ValueError("remote= and repair= ask the API: give client= too.")
    where = place if is_url(place) else Path(place)
    folder = await to_thread.run_sync(_folder_at, where) if isinstance(where, Path) else None
    task = _Verification(
        folder=folder,
        archive=where if folder is None else folder / ARCHIVE,
        report=Report() if report is None else report,
        client=client,
        remote=remote,
        quick=quick,
        project=project,
        concurrency=concurrency,
        server=server,
        forgotten=forgotten,
    )
    await task.check()
    if repair and client is not None and task.report.is_repairable:
        await task.repair(client)
    return task.report


def _folder_at(path: Path) -> Path | None:
    """*path*, if it is the folder of an export; None if it is an archive."""
    folder = path if path.is_dir() else None
    names = [path] if folder is None else [folder / MANIFEST, folder / ARCHIVE]
    if not any(each.exists() for each in names):
        raise StoreUnreachable(f"There is no export or archive at {path}.")
    return folder


class _Verification(NamedTuple):
    folder: Path | None
    """The folder of an export; None if there is only an archive."""
    archive: str | Path
    report: Report
    client: Client | None
    remote: float | None
    quick: bool
    project: str | None
    concurrency: Concurrency
    server: str | None
    forgotten: bool

    async def check(self, only: Collection[tuple[str, str]] | None = None) -> None:
        """Check everything; of the API, *only* these sessions, if given, rather than a share."""
        report, quick, project = self.report, self.quick, self.project
        report.findings, report.notes, report.checked = [], [], Checked()
        report.expected, report.unfinished = set(), set()
        if self.folder is None:
            await ArchiveCheck(self.archive, report, quick, project).run()
        else:
            await verify_folder(self.folder, report, quick=quick, project=project)
        if self.forgotten:
            await self._search_forgotten()
        if self.client is not None and self.remote is not None:
            await self._ask_again(self.client, self.remote, only)

    async def _search_forgotten(self) -> None:
        folder = self.archive.parent if isinstance(self.archive, Path) else None
        try:
            await verify_forgotten(self.archive, folder, self.report, self.project)
        except (StoreBroken, StoreUnreachable):
            if not self.report.findings:
                raise

    async def _ask_again(
        self, client: Client, share: float, only: Collection[tuple[str, str]] | None
    ) -> None:
        try:
            # The API takes its time, and other processes may write meanwhile.
            async with Archive.open(self.archive, read_only=True) as archive:
                for about in await chosen_projects(archive, self.project):
                    if why := find_other_origin(client, about, self.server):
                        raise StoreMismatch(why)
                    check = ApiCheck(client, archive, self.report, about, self.concurrency)
                    await check.run(share, only)
        except (StoreBroken, StoreUnreachable):
            if not self.report.findings:
                raise

    async def repair(self, client: Client) -> None:
        report = self.report
        if isinstance(self.archive, Path) and not self.archive.exists():
            report.notes.append("There is no archive to repair from.")
            return
        bad, unfinished = report.bad, report.unfinished
        for number in range(REPAIR_ROUNDS):
            before = report.findings
            refusals: list[Refusal] = []
            left: list[Finding] = []
            notes: list[str] = []
            try:
                left = await self._repair_once(client, refusals)
            except StoreBroken as failure:
                notes = [f"The archive cannot be repaired: {failure.args[0]}"]
            except StoreMismatch:
                # What is left is not for this client; the first round said so.
                if not number:
                    raise
                break
            await self.check(only=bad)
            bad, unfinished = bad | report.bad, unfinished | report.unfinished
            report.add(left, notes, refusals)
            if report.findings in ([], before):
                break
        repaired = (bad | unfinished) - report.bad - report.unfinished
        report.repaired = sorted(session_id for _, session_id in repaired)

    async def _repair_once(self, client: Client, refusals: list[Refusal]) -> list[Finding]:
        """Repair each project with findings; what could not be fetched. Projects that this client must not
        touch are added to *refusals*.
        """
        report = self.report
        if isinstance(self.archive, Path):
            await to_thread.run_sync(refuse_emptied, self.archive)
        left: list[Finding] = []
        of_files = (Remedy.EXPORT, Remedy.MEDIA)
        wrong = {each.project for each in report.findings if each.remedy not in of_files}
        wrong |= {each for each, _ in report.expected | report.unfinished}
        async with Archive.open(self.archive) as archive:
            projects = await chosen_projects(archive, self.project)
            # A finding without a project is about the whole archive.
            chosen = [each for each in projects if each.project in wrong or None in wrong]
            for about in chosen:
                why, remedy = find_other_origin(client, about, self.server), Remedy.REPAIR
                try:
                    left += [] if why else await self._repair_project(client, archive, about)
                except StoreMismatch as mismatch:
                    why, remedy = str(mismatch), Remedy.KEY
                if why:
                    refusals.append((about.project, why, remedy))
            if refusals and len(refusals) == len(chosen):
                raise StoreMismatch(refusals[0][1])
            if self.folder is not None:
                await self._write_again(archive, self.folder)
        return left

    async def _repair_project(self, client: Client, archive: Archive, about: ProjectInfo) -> list[Finding]:
        project, scope = about.project, scope_of(about)
        check = partial(check_key, client, archive, project, scope, watermark=about.watermark)
        try:
            await check()
        except StoreBroken:
            await archive.refetch(project, ())
            await check()
        # Not before the key is known to be this project's: with another's, everything stays as it was.
        bad = {session_id for each, session_id in self.report.bad if each == project}
        unfinished = {session_id for each, session_id in self.report.unfinished if each == project}
        await archive.refetch(project, sorted(bad | unfinished))
        concurrency, server = self.concurrency, self.server
        await sync(client, archive, project=project, concurrency=concurrency, server=server, **scope.filters)
        return [
            Finding.of_session(project, each.id, f"could not be fetched again: {each.reason}", Remedy.REPAIR)
            for each in await archive.failures(project)
            if each.id in bad
        ]

    async def _write_again(self, archive: Archive, folder: Path) -> None:
        """Write the files of *folder* and their manifest anew, of all projects that have files there."""
        found = await to_thread.run_sync(read_folder, folder)
        with_files = {each.project for each in found.listed} | set(found.owners.values())
        for about in await chosen_projects(archive, self.project):
            if about.api in dialects() and (not with_files or about.project in with_files):
                await export(archive, folder, project=about.project)
        self.report.has_written = True
