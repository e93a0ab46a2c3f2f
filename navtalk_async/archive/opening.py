"""A store by what a user calls it: a path, or the address of a database."""

from pathlib import Path

from navtalk_async.archive.postgres import PostgresStore
from navtalk_async.archive.postgres_address import SCHEMES, without_password
from navtalk_async.archive.postgres_reader import PostgresReader
from navtalk_async.archive.sqlite import SqliteStore
from navtalk_async.archive.sqlite_reader import SqliteReader

__all__ = ["is_address", "opened", "readable", "told"]


def opened(where: str | Path) -> SqliteStore | PostgresStore:
    """The store at *where*, to write to, as an `async with`: a path, or `postgresql://user@host/database`.

    Raises:
        ValueError: *where* cannot be a store.
    """
    return PostgresStore(str(where)) if is_address(where) else SqliteStore(where)


def readable(where: str | Path, *, at_a_glance: bool = False) -> SqliteReader | PostgresReader:
    """The archive at *where*, to read, as an `async with`; see `opened`, and `SqliteReader` for the rest.

    Raises:
        ValueError: *where* cannot be a store.
    """
    return PostgresReader(str(where)) if is_address(where) else SqliteReader(where, at_a_glance=at_a_glance)


def told(where: str | Path) -> str:
    """*where* as it may be shown: a password is left out.

    Raises:
        ValueError: *where* cannot be a store.
    """
    return without_password(str(where)) if is_address(where) else str(where)


def is_address(where: str | Path) -> bool:
    """Whether *where* is the address of a database, and no path.

    Raises:
        ValueError: it is neither.
    """
    scheme, mark, _ = str(where).partition(":/")
    if scheme in SCHEMES and mark and (isinstance(where, Path) or "://" not in where):
        # A password must not become the name of a folder.
        raise ValueError(f"The address of a database is a text that begins with {scheme}://.")
    if isinstance(where, Path) or "://" not in where:
        return False
    if scheme not in SCHEMES:
        raise ValueError(f"{scheme}:// is no store we know; give a path, or postgresql://user@host/database.")
    return True
