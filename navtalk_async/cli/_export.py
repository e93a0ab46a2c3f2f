"""`navtalk export`: bring the archive in a folder up to date, and write the files beside it."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.cli._options import CONNECTION, RUN, SCOPE, command
from navtalk_async.cli._output import counted
from navtalk_async.cli._settings import Settings
from navtalk_async.cli._sync import ArchiveRun
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError, StoreBroken
from navtalk_async.formats import ARCHIVE, MANIFEST, ProjectFiles, check_folder, found_in, withdraw
from navtalk_async.formats import export as write_files
from navtalk_async.verification import REPAIR_ROUNDS


@command("dest", "formats", "overwrite", RUN, SCOPE, CONNECTION)
def export(*, settings: Settings, dest: Path, formats: Sequence[Sequence[str]], overwrite: bool) -> int:
    """Fetch everything, and write it to files in the folder DEST.

    The archive DEST/archive.db is brought up to date first, so the same command again fetches only what is
    new, and continues where it was stopped. What is damaged in it is fetched again. DEST/manifest.json lists
    what was written; the second --project in DEST has transcripts.PROJECT.jsonl.

    Examples:
      navtalk export out
      navtalk export out --sandbox
      navtalk export november --start 2025-11-01 --end 2025-12-01 --json
    """
    chosen = list(dict.fromkeys(name for names in formats for name in names))
    return ExportRun(settings, dest, chosen, overwrite=overwrite).run()


class ExportRun(ArchiveRun):
    """A sync of the archive in *folder*, and then files of these *formats*."""

    def __init__(self, settings: Settings, folder: Path, formats: Sequence[str], *, overwrite: bool) -> None:
        super().__init__(settings, "export", folder / ARCHIVE)
        self._folder = folder
        self._formats = formats
        self._overwrite = overwrite

    @property
    def folder(self) -> str:
        return str(self._folder)

    async def prepare(self) -> None:
        """Refuse a folder with files of others."""
        await to_thread.run_sync(self._check_folder)

    def _check_folder(self) -> None:
        check_folder(self._folder, self.settings.project, overwrite=self._overwrite)

    def disown(self, error: NavTalkError) -> None:
        """Remove the manifest of files that are beside a broken archive."""
        if not isinstance(error, StoreBroken):
            return
        with suppress(OSError):
            if found_in(self._folder).manifest is not None:
                withdraw(self._folder)
                self.settings.reporter.note(
                    f"Removed {self._folder / MANIFEST}: the archive that it lists cannot be read."
                )

    async def write(self, client: Client, archive: Archive) -> ProjectFiles:
        """Write the files; what is damaged in the archive is fetched again."""
        project = self.settings.project
        known: list[str] = []
        try:
            written = await self._write_once(archive)
        except StoreBroken:
            await archive.refetch(project, ())
            written = await self._write_once(archive)
        for _ in range(REPAIR_ROUNDS):
            damaged = [each.id for each in written.failed if each.damaged]
            if damaged in ([], known):
                break
            known = damaged
            self.settings.reporter.note(
                f"Damaged in the archive, fetching again: {counted(len(damaged), 'session')}."
            )
            await archive.refetch(project, damaged)
            await self.sync(client, archive, retry_failed=False, reconcile=False)
            written = await self._write_once(archive)
        return written

    async def _write_once(self, archive: Archive) -> ProjectFiles:
        project = self.settings.project
        manifest = await write_files(
            archive,
            self._folder,
            project=project,
            formats=self._formats,
            overwrite=self._overwrite,
        )
        return next(each for each in manifest.projects if each.project == project)
