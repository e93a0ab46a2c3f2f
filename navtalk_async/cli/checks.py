"""What can be told of a set-up without asking anybody."""

import os
import platform
import sys
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import click

from navtalk_async.cli.connection import Given
from navtalk_async.cli.exits import Exit
from navtalk_async.cli.key import Key
from navtalk_async.cli.variables import Address, key_variable
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.wire.address import checked_root

__all__ = [
    "Check",
    "KeyFound",
    "RootFound",
    "Verdict",
    "check_key",
    "check_packages",
    "check_python",
    "check_root",
    "clock_check",
]

LEAST_PYTHON = (3, 11)

PACKAGES = ("navtalk-async", "aiohttp", "msgspec", "anyio", "click", "rich")

EXTRAS = {"uvloop": "cli", "asyncpg": "postgres", "prometheus-client": "metrics"}
"""The package that each extra is there for."""

SKEW_SECONDS = 60.0
"""A clock that is off by more makes the log hard to read beside the server's; what is kept goes by the
server's clock."""


class Verdict(StrEnum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Check(NamedTuple):
    """Something that was looked at."""

    name: str
    verdict: Verdict
    said: str
    todo: str = ""
    """What to do about it."""
    code: Exit = Exit.OK
    """What a problem makes the command exit with."""


class KeyFound(NamedTuple):
    """A key, if there is one that can be one."""

    key: Key | None
    check: Check


class RootFound(NamedTuple):
    """Where the API is, if that can be."""

    root: str | None
    check: Check


def check_python() -> Check:
    """The interpreter."""
    told = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}."
    if sys.version_info < LEAST_PYTHON:
        return Check("python", Verdict.PROBLEM, told, "Use Python 3.11 or later.", Exit.USAGE)
    return Check("python", Verdict.OK, told)


def check_packages() -> Check:
    """Our version, those of what we stand on, and the extras."""
    there = [f"{name} {_version(name)}" for name in PACKAGES]
    extras = [f"{name} {found}" if (found := _version(name)) else "" for name in EXTRAS]
    missing = [f"{name} (extra {extra})" for name, extra in EXTRAS.items() if not _version(name)]
    told = ", ".join(each for each in (*there, *extras) if each)
    left_out = f" Not installed: {', '.join(missing)}." if missing else ""
    return Check("packages", Verdict.OK, f"{told}.{left_out}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def check_key(given: Given) -> KeyFound:
    """Whether there is a key, and where it comes from; it is not shown."""
    if given.sandbox:
        return KeyFound(given.key(), Check("key", Verdict.OK, "the sandbox needs none."))
    try:
        key = given.key()
    except (click.UsageError, ValueError) as refusal:
        said = refusal.format_message() if isinstance(refusal, click.UsageError) else str(refusal)
        return KeyFound(None, Check("key", Verdict.PROBLEM, said, "", Exit.USAGE))
    if given.api_key_file is not None:
        where = f"the file {given.api_key_file}"
    elif given.api_key_command is not None:
        where = "what --api-key-command printed"
    else:
        where = f"the environment's {key_variable(given.dialect, given.address(), os.environ)}"
    return KeyFound(key, Check("key", Verdict.OK, f"found, in {where}."))


def check_root(address: Address, env: Mapping[str, str], dialect: Dialect) -> RootFound:
    """Where the API is said to be, and whether a key may be sent there."""
    url, where = address.url or dialect.default_base_url, address.by
    if url is None:
        said = f"nobody but you knows where {dialect.name} is."
        todo = f"Give --base-url, or set {dialect.base_url_variable}."
        return RootFound(None, Check("server", Verdict.PROBLEM, said, todo, Exit.USAGE))
    try:
        root = checked_root(dialect.root(url))
    except ValueError as refusal:
        return RootFound(None, Check("server", Verdict.PROBLEM, str(refusal), "", Exit.USAGE))
    proxies = [name for name in ("HTTPS_PROXY", "https_proxy") if env.get(name)]
    if proxies and root.startswith("https:"):
        todo = "Should the server be reached by that proxy alone, the library's trust_env=True uses it."
        said = f"{root} ({where}); {proxies[0]} is set, and the command does not use it."
        return RootFound(root, Check("server", Verdict.WARNING, said, todo))
    return RootFound(root, Check("server", Verdict.OK, f"{root} ({where})."))


def clock_check(skew: float | None) -> Check:
    """This machine's clock, which is so many seconds ahead of the server's; None where that told no time."""
    if skew is None:
        return Check("clock", Verdict.WARNING, "the server tells no time, so ours is believed.")
    if abs(skew) <= SKEW_SECONDS:
        return Check("clock", Verdict.OK, f"within {max(1.0, abs(skew)):.0f} s of the server's.")
    how = "ahead of" if skew > 0 else "behind"
    said = f"{abs(skew):.0f} s {how} the server's, which is believed."
    return Check("clock", Verdict.WARNING, said, "Let this machine's clock be set by NTP.")
