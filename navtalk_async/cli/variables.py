"""Which variables of the environment say where an API is and hold its key.

Each API has two of its own, as its client in Python has (`KODEY_API_KEY`, `KODEY_BASE_URL`). The command's,
`NAVTALK_API_KEY` and `NAVTALK_BASE_URL`, stand for any API, but never for one half of the pair alone: the key
of one vendor must not be sent to another.
"""

from collections.abc import Mapping
from typing import NamedTuple

from navtalk_async.dialects.dialect import Dialect
from navtalk_async.dialects.navtalk import NavTalk

__all__ = ["Address", "given_address", "key_variable"]


class Address(NamedTuple):
    """Where an API is, and who said so."""

    url: str | None
    """None where nobody said so, and the vendor's own address holds."""
    by: str


def given_address(dialect: Dialect, base_url: str | None, env: Mapping[str, str]) -> Address:
    """Where the API is: by `--base-url`, its own variable, or the command's where the API has no key of its
    own.
    """
    if base_url:
        return Address(base_url, "--base-url")
    names = [dialect.base_url_variable]
    if dialect.key_variable not in env:
        names.append(NavTalk.base_url_variable)
    for name in names:
        if env.get(name):
            return Address(env[name], name)
    return Address(None, "the API's own")


def key_variable(dialect: Dialect, address: Address, env: Mapping[str, str]) -> str:
    """The variable that holds the key: the API's own; or the command's, for an address that somebody gave."""
    stands_in = address.url is not None and dialect.key_variable not in env and NavTalk.key_variable in env
    return NavTalk.key_variable if stands_in else dialect.key_variable
