"""A store in one SQLite file: the embedded default.

One connection writes, in a thread of its own; readers have theirs. WAL lets both work at once, and
`synchronous=FULL` makes a commit outlast the power. WAL needs a local disk.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from navtalk_async.archive.database import Steps
from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.seal import ArchiveDigest, fingerprint, mark
from navtalk_async.archive.sqlite_file import HeldFile, Transaction, connect, prepare
from navtalk_async.archive.sqlite_mending import rebuild
from navtalk_async.archive.sqlite_reader import SqliteReader, completed
from navtalk_async.archive.store import Store

__all__ = ["SqliteStore"]

T = TypeVar("T")


class SqliteStore(SqliteReader, Store):
    """A store in the file *path*, made if it is not there; an `async with` that holds it alone.

    Raises:
        StoreLocked: another process writes to it.
        StoreBroken: the file is damaged, or is no archive.
        StoreMismatch: it was written by a newer version.
        StoreError: it cannot be opened there.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self._file: HeldFile | None = None

    async def distrust(self, project: str, sessions: Sequence[str]) -> None:
        """See `Store.distrust`."""
        # A damaged index hides rows: to write them again would double them.
        await self._run(self._rebuild)
        await super().distrust(project, sessions)

    async def sealed(self) -> ArchiveDigest | None:
        """The file as it is now, with all that was ever committed in it; until something is written, it stays
        so. None where others read in it just now for longer than we wait.
        """
        return await self._run(self._sealed)

    async def _change(self, name: str, project: str, steps: Steps[T]) -> T:
        return await self._run(self._write_all, name, project, steps)

    # What follows runs in the store's thread, one at a time.

    def _write_all(self, name: str, project: str, steps: Steps[T]) -> T:
        with Transaction(self._connection, name, project) as change:
            return completed(steps, change.do)

    def _rebuild(self) -> None:
        rebuild(self._connection)

    def _sealed(self) -> ArchiveDigest | None:
        reach("seal: before checkpoint")
        [(is_busy, _, _)] = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        reach("seal: after checkpoint")
        found = mark(self._connection)
        self._connection.close()
        self._db = None
        try:
            size, sha256 = fingerprint(self.path)
        finally:
            self._db = connect(self.path)
        if is_busy:
            return None
        return ArchiveDigest(
            name=self.path.name, bytes=size, sha256=sha256, changes=found.changes, state=found.state
        )

    def _open(self) -> None:
        self._file = HeldFile(self.path)
        self._db = connect(self.path)
        prepare(self._db)

    def _close(self) -> None:
        super()._close()
        if self._file is not None:
            self._file.close()
        self._file = None

    def _refuse_another_file(self) -> None:
        """Refuse to go on in a file that nobody will find again."""
        if self._file is not None:
            self._file.refuse_another(self.path)
