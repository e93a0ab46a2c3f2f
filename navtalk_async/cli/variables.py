"""Which variables of the environment say where an API is and hold its key.

Each API has two of its own, as its client in Python has (`KODEY_API_KEY`, `KODEY_BASE_URL`). The command's,
`NAVTALK_API_KEY` and `NAVTALK_BASE_URL`, stand in for those of any API: but as a pair, or for an address that
was given with the command, or on this machine. The key of one vendor must not be sent to another.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import NavTalk
from navtalk_async.wire.address import is_loopback

__all__ = ["Address", "given_address", "key_variable"]

OPTION = "--base-url"


class Address(NamedTuple):
    """Where an API is, and who said so."""

    url: str | None
    """None where nobody said so, and the vendor's own address holds."""
    by: str

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine."""
        try:
            return is_loopback(urlsplit(self.url or "").hostname or "")
        except ValueError:
            return False


def given_address(
    dialect: Dialect, base_url: str | None, env: Mapping[str, str], *, has_key: bool = False
) -> Address:
    """Where the API is: by `--base-url`, its own variable, or the command's, which is no address for a key of
    another API; *has_key* is whether the key comes from elsewhere than the environment.
    """
    if base_url:
        return Address(base_url, OPTION)
    if own := env.get(dialect.base_url_variable):
        return Address(own, dialect.base_url_variable)
    shared = Address(env.get(NavTalk.base_url_variable) or None, NavTalk.base_url_variable)
    if shared.url and (shared.is_here or not (has_key or dialect.key_variable in env)):
        return shared
    return Address(None, "the API's own")


def key_variable(dialect: Dialect, address: Address, env: Mapping[str, str]) -> str:
    """The variable that holds the key for *address*: the API's, or the command's where that may stand in."""
    is_meant = address.by in (OPTION, NavTalk.base_url_variable) or address.is_here
    stands_in = is_meant and dialect.key_variable not in env and NavTalk.key_variable in env
    return NavTalk.key_variable if stands_in else dialect.key_variable
