"""What an index of the archive's texts needs, which is kept beside the archive and made of it."""

from typing import Any

from navtalk_async.archive import Archive
from navtalk_async.archive._database import Driver, Put, Query, Steps, Weight, Write, rows_of

__all__ = ["Driver", "Put", "Query", "Steps", "Weight", "Write", "connection_beside", "rows_of"]


def connection_beside(archive: Archive) -> Driver[Any]:
    """A connection, not open yet, for tables of an index in the database of *archive*."""
    return archive._driver.beside("consume")  # noqa: SLF001 - for this alone
