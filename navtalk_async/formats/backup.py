"""A copy of an archive in one file, as of one moment, while others read and write it."""

from contextlib import suppress
from pathlib import Path

from anyio import to_thread

from navtalk_async.archive import Archive
from navtalk_async.archive.sqlite_file import HeldFile, has_log
from navtalk_async.concurrency import shielded
from navtalk_async.errors import StoreBroken, StoreMismatch, StoreUnreachable
from navtalk_async.formats._whole_file import MadeFile, WrittenFile

__all__ = ["IS_ON_A_SERVER", "backup"]

IS_ON_A_SERVER = "An archive in PostgreSQL is copied by PostgreSQL's own program, pg_dump."


async def backup(archive: Archive, dest: str | Path) -> WrittenFile:
    """Copy *archive* into the file *dest*: an archive like it, as of one moment.

    Others may read and write the archive meanwhile. The copy is checked before it is put in its place, where
    it replaces an earlier copy of the same archive, and nothing else. A copy that ends early leaves *dest* as
    it was.

    Raises:
        ValueError: *dest* is a URL or the archive itself; or the archive is in PostgreSQL: see `pg_dump`.
        StoreLocked: another run writes to *dest*.
        StoreMismatch: *dest* is another archive, or a copy with commits of its own.
        StoreUnreachable, StoreBroken: *dest* cannot be written, or is something else; or the archive or its
            copy is damaged.
    """
    if archive.path is None:
        raise ValueError(IS_ON_A_SERVER)
    if isinstance(dest, str) and "://" in dest:
        raise ValueError(f"{dest} is no path of a file.")
    dest = Path(dest)
    held = await _held(archive, dest)
    try:
        async with MadeFile(dest.parent, dest.name) as made:
            await archive.copy_to(made.beside)
            async with Archive.open(made.beside, read_only=True, immutable=True) as copy:
                if flaws := await copy.damage():
                    raise StoreBroken(f"{archive} is damaged, and not copied: {flaws[0]}")
    finally:
        if held is not None:
            await shielded(to_thread.run_sync(held.close))
    return made.written()


async def _held(archive: Archive, dest: Path) -> HeldFile | None:
    """The right to replace *dest*; None where there is nothing."""

    def look() -> bool:
        with suppress(FileNotFoundError):
            if dest.samefile(archive.path or ""):
                raise ValueError(f"{dest} is the archive itself.")
            return True
        return False

    if not await to_thread.run_sync(look):
        return None
    async with Archive.open(dest, read_only=True, immutable=True) as earlier:
        ours, theirs = await archive.ancestry(), await earlier.ancestry()
        if theirs[0] != ours[0]:
            raise StoreMismatch(f"{dest} is another archive than {archive}, and is not replaced.")
        if theirs[-1] not in ours:
            raise StoreMismatch(f"{dest} was written to since it was copied; use another path.")
    held = await to_thread.run_sync(HeldFile, dest)
    if await to_thread.run_sync(has_log, dest):
        await to_thread.run_sync(held.close)
        raise StoreUnreachable(f"{dest} has commits in the log beside it, and is in use.")
    return held
