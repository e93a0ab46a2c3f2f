"""Where a PostgreSQL server is, and its failures in our words, none of which tells a password.

None of the driver's errors gets out: they may quote the address, and what was said in a chat.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from navtalk_async.archive.archive import SCHEMES
from navtalk_async.errors import StoreBroken, StoreError, StoreUnreachable

__all__ = ["Address", "driver", "silent", "translate_errors", "without_password"]


class Address:
    """Where a store is: a `postgresql://` URL as libpq has it. It is never shown with its password.

    Raises:
        ValueError: it is none.
        StoreUnreachable: asyncpg is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._told = without_password(url)
        driver()

    def __str__(self) -> str:
        return self._told

    def __repr__(self) -> str:
        return f"<Address {self._told}>"


def without_password(url: str) -> str:
    """*url* as it may be shown.

    Raises:
        ValueError: it is no URL of PostgreSQL.
    """
    scheme, mark, rest = url.partition("://")
    if not mark or scheme not in SCHEMES:
        raise ValueError("A store in PostgreSQL has an address such as postgresql://user@host/database.")
    # A password may hold any character, if not by right: it ends at the last @.
    user, at, place = rest.rpartition("@")
    shown = f"{scheme}://{user.partition(':')[0]}{at}{place}"
    return re.sub(r"([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)


def driver() -> Any:
    """The module asyncpg.

    Raises:
        StoreUnreachable: it is not installed.
    """
    try:
        import asyncpg  # noqa: PLC0415 - the extra may be missing
    except ImportError as missing:
        raise StoreUnreachable(
            "An archive in PostgreSQL needs: pip install 'navtalk-async[postgres]'"
        ) from missing
    return asyncpg


@contextmanager
def translate_errors(address: Address) -> Iterator[None]:
    """The driver's errors, and the network's, as `StoreError`s that say what to do."""
    asyncpg = driver()
    try:
        yield
    except asyncpg.PostgresError as failure:
        # What follows the first line may quote rows.
        raise kind_of(failure.sqlstate or "")(f"{address} cannot be used: {failure.args[0]}.") from None
    except asyncpg.DataError:
        raise StoreError(f"{address} cannot hold something that came.") from None
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as failure:
        raise StoreError(f"The connection to {address} is of no use: {failure.args[0]}.") from None
    except TimeoutError:
        raise silent(address) from None
    except OSError as failure:
        raise StoreError(f"{address} cannot be reached: {failure.strerror or failure}.") from None


def silent(address: Address) -> StoreError:
    """The error of a server that lets us wait."""
    return StoreError(f"{address} does not answer.")


def kind_of(state: str) -> type[StoreError]:
    """What an error of PostgreSQL's is to us (source: its documentation, "PostgreSQL Error Codes")."""
    # No permission to write, or none in a server that only repeats another one.
    if state in {"42501", "25006"}:
        return StoreUnreachable
    # Authorization; no such database, or schema.
    if state[:2] in {"28", "3D", "3F"}:
        return StoreUnreachable
    # Tables that are not as we made them; damage.
    if state[:2] == "42" or state in {"XX001", "XX002"}:
        return StoreBroken
    return StoreError
