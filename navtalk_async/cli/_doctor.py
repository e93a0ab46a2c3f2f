"""`navtalk doctor`: check a set-up.

It is longer than other files, because every check stands here, in the order in which they run.
"""

import asyncio
import os
import platform
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlsplit

import click
from anyio import to_thread

from navtalk_async.archive import redacted
from navtalk_async.archive.sqlite_file import HeldFile, translate_errors
from navtalk_async.cli._options import CONNECTION, Place, command
from navtalk_async.cli._output import put_json, put_lines
from navtalk_async.cli._progress import waits_reported
from navtalk_async.cli._settings import Address, Settings
from navtalk_async.cli._status import readable
from navtalk_async.cli.app import Exit, exit_code, run
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.dialect import Dialect, smallest_page
from navtalk_async.errors import NavTalkError, StoreError, counted
from navtalk_async.formats import ARCHIVE
from navtalk_async.models import Page, Request, Response, Session
from navtalk_async.rate_headers import hint
from navtalk_async.times import http_date
from navtalk_async.wire.address import checked_root
from navtalk_async.wire.retry import Retry

PACKAGES = ("navtalk-async", "aiohttp", "msgspec", "anyio", "click", "rich")

EXTRAS = {"uvloop": "cli", "asyncpg": "postgres", "prometheus-client": "metrics"}
"""The package that each extra installs."""

SKEW_SECONDS = 60.0
"""A clock that is off by more makes the log hard to read beside the server's; the archive has the server's
times."""

TIMEOUT_SECONDS = 10.0
ROUND_TRIPS = 3
LEAST_FREE = 1 << 30

REMOTE = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "fuse.sshfs", "davfs")
"""How the names of file systems begin that several machines share, where SQLite's locks are not reliable."""

CHECK_NETWORK = "Check the name, the network, and whether a firewall or proxy blocks it."


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Check(NamedTuple):
    name: str
    verdict: Verdict
    said: str
    todo: str = ""
    """What to do about it."""
    code: Exit = Exit.OK
    """What a problem makes the command exit with."""


@command("checked_store", "user", CONNECTION, needs_key=False)
def doctor(*, settings: Settings, checked_store: Place | None) -> int:
    """Check a set-up: Python, key, network, clock, limits, archive.

    Nothing is saved or changed, and the key is never shown. The exit code is that of the first problem.

    Examples:
      navtalk doctor
      navtalk doctor --store archive.db --json
    """

    async def work() -> int:
        checks: list[Check] = []
        async for check in _checks(settings, checked_store):
            checks.append(check)
            if not settings.as_json:
                await put_lines([settings.reporter.redacted(check_sentence(check))])
        code = next((each.code for each in checks if each.verdict is Verdict.PROBLEM), Exit.OK)
        if settings.as_json:
            await put_json(
                {"command": "doctor", "exit_code": int(code), "checks": [each._asdict() for each in checks]}
            )
        return code

    # The key, which a command may have to ask for, is read before there is a loop to hold up.
    with suppress(click.UsageError):
        settings.key.read()
    return run(work(), settings.reporter)


def check_sentence(check: Check) -> str:
    shown = check.verdict.upper() if check.verdict is Verdict.PROBLEM else check.verdict
    return f"{shown:<8} {check.name}: {check.said} {check.todo}".rstrip()


async def _checks(settings: Settings, place: Place | None) -> AsyncGenerator[Check, None]:
    """Every check in turn; of the API, as far as the earlier ones went well."""
    python = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}."
    yield Check("python", Verdict.OK, python)
    yield check_packages()
    key = check_key(settings)
    yield key
    is_fit = key.verdict is not Verdict.PROBLEM
    if settings.sandbox:
        yield Check("server", Verdict.OK, "the sandbox, in this process.")
    else:
        root, check = check_root(settings.address, os.environ, dialect_of(settings.api))
        yield check
        is_fit = is_fit and root is not None
        if root is not None:
            async for check in probe_network(root):
                is_fit = is_fit and check.verdict is not Verdict.PROBLEM
                yield check
    if is_fit:
        for check in await _probe_with_client(settings):
            yield check
    if place is not None:
        for check in await probe_store(place):
            yield check


# What can be checked without asking anybody.


def check_packages() -> Check:
    found = {name: _version(name) for name in (*PACKAGES, *EXTRAS)}
    installed = ", ".join(f"{name} {found[name]}" for name in found if found[name])
    missing = ", ".join(f"{name} (extra {extra})" for name, extra in EXTRAS.items() if not found[name])
    return Check("packages", Verdict.OK, f"{installed}." + (f" Not installed: {missing}." if missing else ""))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def check_key(settings: Settings) -> Check:
    """Whether there is a key, and where it comes from; it is not shown."""
    if settings.sandbox:
        return Check("key", Verdict.OK, "the sandbox needs none.")
    try:
        settings.key.read()
    except click.UsageError as refusal:
        return Check("key", Verdict.PROBLEM, refusal.format_message(), "", Exit.USAGE)
    if settings.api_key_file is not None:
        where = f"the file {settings.api_key_file}"
    elif settings.api_key_command is not None:
        where = "the output of --api-key-command"
    else:
        where = f"the environment's {settings.key_variable}"
    return Check("key", Verdict.OK, f"found, in {where}.")


def check_root(address: Address, env: Mapping[str, str], dialect: Dialect) -> tuple[str | None, Check]:
    """Where the API is, if the key may be sent there."""
    url = address.url or dialect.default_base_url
    if url is None:
        said = f"{dialect.name} has no address of its own."
        todo = f"Give --base-url, or set {dialect.base_url_variable}."
        return None, Check("server", Verdict.PROBLEM, said, todo, Exit.USAGE)
    try:
        root = checked_root(dialect.root(url))
    except ValueError as refusal:
        return None, Check("server", Verdict.PROBLEM, str(refusal), "", Exit.USAGE)
    proxies = [name for name in ("HTTPS_PROXY", "https_proxy") if env.get(name)]
    if proxies and root.startswith("https:"):
        todo = "If the server is reachable by that proxy alone, the library's trust_env=True uses it."
        said = f"{root} ({address.by}); {proxies[0]} is set, and the command does not use it."
        return root, Check("server", Verdict.WARNING, said, todo)
    return root, Check("server", Verdict.OK, f"{root} ({address.by}).")


# What takes trying.


async def probe_network(root: str) -> AsyncGenerator[Check, None]:
    """Whether the host of *root* is known, accepts connections, and proves its identity."""
    parts = urlsplit(root)
    host = str(parts.hostname)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    began = perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as failure:
        said = f"{host} is not known: {_why(failure)}."
        yield Check("name", Verdict.PROBLEM, said, CHECK_NETWORK, Exit.TRY_LATER)
        return
    addresses = counted(len({address[0] for *_, address in found}), "address", "addresses")
    yield Check("name", Verdict.OK, f"{host} has {addresses}, resolved in {_ms(began)}.")
    began = perf_counter()
    context = ssl.create_default_context() if parts.scheme == "https" else None
    what = "connection" if context is None else "connection and TLS"
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as failure:
        said = f"The certificate of {host} is not trusted ({_why(failure)})."
        todo = (
            "Check the host name and this machine's certificates; SSL_CERT_FILE names a file with your own "
            "authority's."
        )
        yield Check(what, Verdict.PROBLEM, said, todo, Exit.TRY_LATER)
        return
    except (OSError, TimeoutError) as failure:
        said = f"nothing answers at {host}:{port}: {_why(failure)}."
        yield Check(what, Verdict.PROBLEM, said, CHECK_NETWORK, Exit.TRY_LATER)
        return
    writer.close()
    with suppress(OSError):
        # How it ends does not matter; only whether it began.
        await writer.wait_closed()
    yield Check(what, Verdict.OK, f"made in {_ms(began)}.")


async def _probe_with_client(settings: Settings) -> Sequence[Check]:
    async with settings.client(waits_reported(settings.reporter, "none")) as client:
        try:
            request = smallest_page(client.dialect, client.dialect.list_sessions(user_id=settings.user))
        except (TypeError, ValueError) as refusal:
            return [Check("listing", Verdict.PROBLEM, str(refusal), "", Exit.USAGE)]
        checks = await probe_api(client, request)
    return [each._replace(said=settings.reporter.redacted(each.said)) for each in checks]


async def probe_api(client: Client, request: Request) -> Sequence[Check]:
    """Whether the API answers *request*, for a list of sessions, with the key; how fast, by what clock, and
    within which limits.
    """
    asking = client.using(timeout=TIMEOUT_SECONDS, retry=Retry(attempts=2), lane="interactive")
    heads: list[Mapping[str, str]] = []

    def read(request: Request, response: Response) -> Page[Session]:
        heads.append(response.headers)
        return client.dialect.read_sessions(request, response)

    seconds = []
    try:
        for _ in range(ROUND_TRIPS):
            began = perf_counter()
            page = await asking.ask(request, read)
            seconds.append(perf_counter() - began)
    except NavTalkError as error:
        return [Check("listing", Verdict.PROBLEM, str(error.args[0]), error.next_step, exit_code(error))]
    some = "listed a session" if page.items else "there is no session yet"
    skew = (datetime.now(UTC) - client.now()).total_seconds()
    return [
        Check("listing", Verdict.OK, f"the key is accepted; {some}."),
        Check("round trip", Verdict.OK, f"{min(seconds) * 1000:.0f} ms, the fastest of {len(seconds)}."),
        clock_check(skew if http_date(heads[-1].get("Date", "")) else None),
        limits_check(heads[-1]),
    ]


def clock_check(skew: float | None) -> Check:
    """This machine's clock, *skew* seconds ahead of the server's; None where the server sent no time."""
    if skew is None:
        return Check("clock", Verdict.WARNING, "the server sends no time, so this machine's clock is used.")
    if abs(skew) <= SKEW_SECONDS:
        return Check("clock", Verdict.OK, f"within {max(1.0, abs(skew)):.0f} s of the server's.")
    how = "ahead of" if skew > 0 else "behind"
    said = f"{abs(skew):.0f} s {how} the server's, which is used."
    return Check("clock", Verdict.WARNING, said, "Let NTP set this machine's clock.")


def limits_check(headers: Mapping[str, str]) -> Check:
    found = hint(headers)
    if found is None:
        return Check("limits", Verdict.OK, "No rate limit announced; adapting to refusals.")
    left = counted(found.remaining, "request")
    return Check("limits", Verdict.OK, f"{left} left for the next {found.seconds:.0f} s; that is obeyed.")


async def probe_store(place: Place) -> Sequence[Check]:
    """Whether there is an archive at *place*, or may be one; nothing is made."""
    if isinstance(place, str):
        return [await _archive_check(place)]
    path = place / ARCHIVE if await to_thread.run_sync(place.is_dir) else place
    checks = [await to_thread.run_sync(_place_check, path)]
    if await to_thread.run_sync(path.exists):
        checks.append(await _archive_check(path))
        if checks[-1].verdict is Verdict.OK:
            checks.append(await to_thread.run_sync(_lock_check, path))
    return checks


async def _archive_check(place: Place) -> Check:
    try:
        async with readable(place) as reader:
            projects = ", ".join(each.project for each in await reader.projects()) or "none yet"
    except StoreError as failure:
        said = str(failure.args[0])
        if isinstance(place, str) and said.startswith("There is no archive"):
            return Check("archive", Verdict.OK, f"{redacted(place)} answers; there is no archive yet.")
        return Check("archive", Verdict.PROBLEM, said, failure.next_step, exit_code(failure))
    return Check("archive", Verdict.OK, f"{redacted(place)} has this version's schema; projects: {projects}.")


def _place_check(path: Path) -> Check:
    folder = next(each for each in path.absolute().parents if each.exists())
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not os.access(folder, os.W_OK):
        said, todo = f"Permission denied: {target}.", "Use another folder or change its permissions."
        return Check("place", Verdict.PROBLEM, said, todo, Exit.USAGE)
    kind = file_system(folder, _mounts())
    if kind is not None and kind.startswith(REMOTE):
        said = f"{folder} is on a file system of other machines ({kind}), where SQLite is not safe."
        return Check("place", Verdict.WARNING, said, "Keep the archive on a local disk.")
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        said = f"{folder} has {free / 1e6:,.0f} MB left."
        return Check("place", Verdict.WARNING, said, "A message takes about a kilobyte: free some space.")
    where = f" ({kind})" if kind else ""
    return Check("place", Verdict.OK, f"{folder}{where} is writable, {free / 1e9:,.0f} GB left.")


def _lock_check(path: Path) -> Check:
    try:
        translate_errors(partial(HeldFile, path), path).close()
    except StoreError as failure:
        said = str(failure.args[0])
        return Check("lock", Verdict.PROBLEM, said, failure.next_step, exit_code(failure))
    return Check("lock", Verdict.OK, "no run is writing to it.")


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(errors="replace")
    except OSError:
        return ""


def file_system(folder: Path, mounts: str) -> str | None:
    """The kind of file system that *folder* is on, by Linux's list of *mounts*, if it is known."""
    found = [line.split(" ")[1:3] for line in mounts.splitlines()]
    above = [(place.replace("\\040", " "), kind) for place, kind in found]
    over = [(len(place), kind) for place, kind in above if folder.is_relative_to(place)]
    # Of two mounts at one place, the later one covers the other.
    return max(reversed(over), key=lambda each: each[0])[1] if over else None


def _why(failure: BaseException) -> str:
    if isinstance(failure, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    return str(getattr(failure, "verify_message", "") or getattr(failure, "strerror", "") or failure)


def _ms(began: float) -> str:
    return f"{(perf_counter() - began) * 1000:.0f} ms"
