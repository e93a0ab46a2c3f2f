"""Verify an export, an archive or a database, and repair what is wrong."""

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
from navtalk_async.formats import ARCHIVE, MANIFEST, chosen_projects, export, read_folder
from navtalk_async.ingest import sync
from navtalk_async.ingest.key_check import check_key
from navtalk_async.verification._local import verify_archive, verify_folder
from navtalk_async.verification._remote import ApiCheck, refuse_others, scope_of
from navtalk_async.verification._report import Checked, Finding, Remedy, Report
from navtalk_async.wire.gate import Concurrency

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
        report: an empty report to fill while the verification goes on.

    Raises:
        ValueError: *remote* or *repair* without a *client*, or a *remote* that is no share.
        StoreMismatch: the archive has no such project, is of another version, or of another API or server
            than the client.
        StoreLocked: another process is writing to the archive.
        StoreUnreachable: there is nothing at *place*, or the database cannot be reached.
        NavTalkError: the API cannot be asked; what was fetched is kept.
    """
    if remote is not None and not 0 < remote <= 1:
        raise ValueError(f"remote={remote!r} is no share; give a number above 0 and up to 1.")
    if client is None and (repair or remote is not None):
        raise ValueError("remote= and repair= ask the API: give client= too.")
    where = place if is_url(place) else Path(place)
    folder = where if isinstance(where, Path) and where.is_dir() else None
    if isinstance(where, Path) and not _is_there(where):
        raise StoreUnreachable(f"There is no export or archive at {where}.")
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
    )
    await task.check_all()
    if repair and task.report.is_repairable:
        await task.repair()
    return task.report


def _is_there(path: Path) -> bool:
    return any((path / name).exists() for name in (MANIFEST, ARCHIVE)) if path.is_dir() else path.exists()


class RefusedProject(NamedTuple):
    """A project that a repair leaves as it is."""

    project: str
    why: str
    remedy: Remedy


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

    async def check_all(self, only: Collection[tuple[str, str]] | None = None) -> None:
        report, quick, project = self.report, self.quick, self.project
        report.findings, report.notes, report.checked = [], [], Checked()
        report.expected, report.unfinished = set(), set()
        if self.folder is None:
            await verify_archive(self.archive, report, quick=quick, project=project)
        else:
            await verify_folder(self.folder, report, quick=quick, project=project)
        if self.client is not None and self.remote is not None:
            await self._ask_again(self.client, self.remote, only)

    async def _ask_again(
        self, client: Client, share: float, only: Collection[tuple[str, str]] | None
    ) -> None:
        try:
            # The API takes its time, and other processes may write meanwhile.
            async with Archive.open(self.archive, read_only=True) as archive:
                api = ApiCheck(client, archive, self.report, self.concurrency, self.server)
                for about in await chosen_projects(archive, self.project):
                    await api.compare(about, share, only)
        except (StoreBroken, StoreUnreachable):
            if not self.report.findings:
                raise

    async def repair(self) -> None:
        report = self.report
        bad, unfinished = report.bad, report.unfinished
        for number in range(REPAIR_ROUNDS):
            before = report.findings
            try:
                left, refusals, notes = await self._repair_once()
            except StoreMismatch:
                # What is left is not for this key, API or server; the first round said so.
                if not number:
                    raise
                break
            await self.check_all(only=bad)
            bad, unfinished = bad | report.bad, unfinished | report.unfinished
            known = {(each.project, each.session) for each in report.findings}
            report.findings += [each for each in left if (each.project, each.session) not in known]
            report.notes += notes
            for refusal in refusals:
                report.refuse(*refusal)
            if report.findings in ([], before):
                break
        repaired = (bad | unfinished) - report.bad - report.unfinished
        report.repaired = sorted(session_id for _, session_id in repaired)

    async def _repair_once(self) -> tuple[list[Finding], list[RefusedProject], list[str]]:
        """What could not be fetched, which projects were left as they are, and notes."""
        if isinstance(self.archive, Path) and not self.archive.exists():
            return [], [], ["There is no archive to repair from."]
        try:
            async with Archive.open(self.archive) as archive:
                left, refusals = await self._repair_projects(archive)
                if self.folder is not None:
                    await self._write_again(archive, self.folder)
        except StoreBroken as failure:
            return [], [], [f"The archive cannot be repaired: {failure.args[0]}"]
        return left, refusals, []

    async def _repair_projects(self, archive: Archive) -> tuple[list[Finding], list[RefusedProject]]:
        left: list[Finding] = []
        refusals: list[RefusedProject] = []
        report = self.report
        wrong = {each.project for each in report.findings if each.remedy is not Remedy.EXPORT}
        wrong |= {each for each, _ in report.expected | report.unfinished}
        projects = await chosen_projects(archive, self.project)
        # A finding without a project is about the whole archive.
        chosen = [each for each in projects if each.project in wrong or None in wrong]
        for about in chosen:
            try:
                refusal = await self._refusal(archive, about)
                if refusal is None:
                    left += await self._repair_project(archive, about)
            except StoreMismatch as mismatch:
                refusal = RefusedProject(about.project, str(mismatch), Remedy.REPAIR)
            if refusal is not None:
                refusals.append(refusal)
        if refusals and len(refusals) == len(chosen):
            raise StoreMismatch(refusals[0].why)
        return left, refusals

    async def _refusal(self, archive: Archive, about: ProjectInfo) -> RefusedProject | None:
        """Why a project cannot be repaired with this client, learnt before anything is changed."""
        if self.client is None:
            return None
        remedy = Remedy.REPAIR
        try:
            refuse_others(self.client, about, self.server)
            remedy = Remedy.KEY
            await self._check_key(self.client, archive, about)
        except StoreMismatch as refusal:
            return RefusedProject(about.project, str(refusal), remedy)
        return None

    async def _check_key(self, client: Client, archive: Archive, about: ProjectInfo) -> None:
        check = partial(check_key, client, archive, about.project, scope_of(about), watermark=about.watermark)
        try:
            await check()
        except StoreBroken:
            await archive.refetch(about.project, ())
            await check()

    async def _repair_project(self, archive: Archive, about: ProjectInfo) -> list[Finding]:
        if self.client is None:
            return []
        bad = {session_id for each, session_id in self.report.bad if each == about.project}
        unfinished = {session_id for each, session_id in self.report.unfinished if each == about.project}
        await archive.refetch(about.project, sorted(bad | unfinished))
        await sync(
            self.client,
            archive,
            project=about.project,
            **scope_of(about).filters,
            concurrency=self.concurrency,
            server=self.server,
        )
        return [
            Finding.of_session(
                about.project,
                each.id,
                f"could not be fetched again: {each.reason.removesuffix('.')}",
                Remedy.REPAIR,
            )
            for each in await archive.failures(about.project)
            if each.id in bad
        ]

    async def _write_again(self, archive: Archive, folder: Path) -> None:
        """Write the files of *folder* and their manifest anew, of all projects that have files there."""
        found = await to_thread.run_sync(read_folder, folder)
        listed = {each.project for each in (() if found.manifest is None else found.manifest.projects)}
        with_files = listed | set(found.owners.values())
        for about in await chosen_projects(archive, self.project):
            if about.api in dialects() and (not with_files or about.project in with_files):
                await export(archive, folder, project=about.project)
        self.report.has_written = True
