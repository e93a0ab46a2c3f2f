"""`navtalk doctor`: check a set-up. Every check stands here, in the order in which they run."""

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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click
from anyio import to_thread

from navtalk_async.archive import redacted
from navtalk_async.archive.sqlite_file import HeldFile, translate_errors
from navtalk_async.cli._config import every_project
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._options import CONNECTION, Place, as_options, command
from navtalk_async.cli._output import put_json, put_lines
from navtalk_async.cli._progress import waits_reported
from navtalk_async.cli._settings import Address, Settings
from navtalk_async.cli.app import Exit, exit_code, run
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.dialect import Dialect, smallest_page
from navtalk_async.errors import NavTalkError, StoreError, counted
from navtalk_async.formats import ARCHIVE
from navtalk_async.models import Page, Request, Response, Session
from navtalk_async.rate_headers import hint
from navtalk_async.times import http_date
from navtalk_async.wire.retry import Retry
from navtalk_async.wire.route import trusting
from navtalk_async.wire.secret import checked_root, is_loopback

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
CHECK_CERTIFICATE = "Check the host name; --cacert FILE trusts the certificates of your own authority."


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

    def __str__(self) -> str:
        shown = self.verdict.upper() if self.verdict is Verdict.PROBLEM else self.verdict
        return f"{shown:<8} {self.name}: {self.said} {self.todo}".rstrip()


def good(name: str, said: str) -> Check:
    return Check(name, Verdict.OK, said)


def warning(name: str, said: str, todo: str = "") -> Check:
    return Check(name, Verdict.WARNING, said, todo)


def problem(name: str, error: Exception) -> Check:
    """The problem that *error* is, which says what to do."""
    if isinstance(error, NavTalkError):
        return Check(name, Verdict.PROBLEM, str(error.args[0]), error.next_step, exit_code(error))
    said = error.format_message() if isinstance(error, click.UsageError) else str(error)
    return Check(name, Verdict.PROBLEM, as_options(said), "", Exit.USAGE)


@command("checked_store", "only_project", "user_id", CONNECTION, needs_key=False)
def doctor_command(*, settings: Settings, checked_store: Place | None, only_project: str | None) -> int:
    """Check a set-up: Python, key, network, clock, limits, archive.

    Nothing is saved or changed, and the key is never shown. With --config, every project of the file is
    checked, or that of --project. The exit code is that of the first problem.

    Examples:
      navtalk doctor
      navtalk doctor --store archive.db --json
      navtalk doctor --config navtalk.toml
    """
    projects = every_project()
    if only_project is not None and projects[0].table is None:
        raise click.UsageError("--project goes with --config: it is the name of a project of the file.")

    async def work() -> int:
        checks: list[tuple[str | None, Check]] = []
        async for project, check in all_checks(projects, checked_store):
            if not settings.as_json and project not in {None, *(name for name, _ in checks)}:
                await put_lines([f"{project}:"])
            checks.append((project, check._replace(said=settings.reporter.redacted(check.said))))
            if not settings.as_json:
                await put_lines([str(checks[-1][1])])
        code = next((each.code for _, each in checks if each.verdict is Verdict.PROBLEM), Exit.OK)
        if settings.as_json:
            facts = [{"project": project, **each._asdict()} for project, each in checks]
            await put_json({"command": "doctor", "exit_code": int(code), "checks": facts})
        return code

    # The keys, which a command may have to ask for, are read before there is a loop to hold up.
    for each in projects:
        with suppress(click.UsageError):
            each.key.read()
    return run(work(), settings.reporter)


async def all_checks(
    projects: Sequence[Settings], place: Place | None
) -> AsyncGenerator[tuple[str | None, Check], None]:
    """Every check in turn, and the project that it is of, if it is of one; of each API, as far as the earlier
    ones went well.
    """
    yield (
        None,
        good(
            "python",
            f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}.",
        ),
    )
    yield None, packages_check()
    if place is not None:
        async for check in store_checks(place):
            yield None, check
    for settings in projects:
        async for check in _project_checks(settings):
            yield None if settings.table is None else settings.table.project, check


async def _project_checks(settings: Settings) -> AsyncGenerator[Check, None]:
    is_fit = True
    async for check in _checks_before_asking(settings):
        is_fit = is_fit and check.verdict is not Verdict.PROBLEM
        yield check
    if not is_fit:
        return
    try:
        async with settings.client(waits_reported(settings.reporter, "none")) as client:
            async for check in api_checks(client, settings.options.get("user_id")):
                yield check
    except click.UsageError as refusal:
        yield problem("client", refusal)


async def _checks_before_asking(settings: Settings) -> AsyncGenerator[Check, None]:
    yield key_check(settings)
    if settings.sandbox:
        yield good("server", "the sandbox, in this process.")
        return
    root, check = root_check(settings.address, dialect_of(settings.api))
    yield check
    if root is None:
        return
    if proxied_by := proxy_to(root, settings.proxy):
        yield good("connection", f"not checked by itself: it goes through the proxy of {proxied_by}.")
        return
    try:
        trusted = ssl.create_default_context() if settings.cacert is None else trusting(settings.cacert)
    except ValueError as refusal:
        yield problem("certificates", refusal)
        return
    async for each in network_checks(root, trusted):
        yield each


def packages_check() -> Check:
    found: dict[str, str] = {}
    for name in (*PACKAGES, *EXTRAS):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    installed = ", ".join(f"{name} {number}" for name, number in found.items())
    missing = ", ".join(f"{name} (extra {extra})" for name, extra in EXTRAS.items() if name not in found)
    return good("packages", f"{installed}." + (f" Not installed: {missing}." if missing else ""))


def key_check(settings: Settings) -> Check:
    """Whether there is a key, and where it comes from; it is not shown."""
    try:
        settings.key.read()
    except click.UsageError as refusal:
        return problem("key", refusal)
    found = "" if settings.sandbox else "found, in "
    return good("key", f"{found}{settings.key_place}.")


def root_check(address: Address, dialect: Dialect) -> tuple[str | None, Check]:
    url = address.url or dialect.default_base_url
    if url is None:
        todo = f"Give --base-url, or set {dialect.base_url_variable}."
        said = f"{dialect.name} has no address of its own."
        return None, Check("server", Verdict.PROBLEM, said, todo, Exit.USAGE)
    try:
        root = checked_root(dialect.root(url))
    except ValueError as refusal:
        return None, problem("server", refusal)
    return root, good("server", f"{root} ({address.by}).")


def proxy_to(root: str, proxy: str | None) -> str | None:
    """The option or the variable of the proxy through which *root* is asked; None without one."""
    parts = urlsplit(root)
    host = parts.hostname or ""
    if proxy is not None:
        return "--proxy"
    if parts.scheme != "https" or is_loopback(host) or not getproxies().get("https") or proxy_bypass(host):
        return None
    return "HTTPS_PROXY"


async def network_checks(root: str, trusted: ssl.SSLContext) -> AsyncGenerator[Check, None]:
    parts = urlsplit(root)
    host = str(parts.hostname)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    context = trusted if parts.scheme == "https" else None
    name, began = "name", perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = counted(len({address[0] for *_, address in found}), "address", "addresses")
        yield good(name, f"{host} has {addresses}, resolved in {_ms(began)}.")
        name, began = "connection" if context is None else "connection and TLS", perf_counter()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError) as failure:
        said, todo, code = (
            f"nothing answers at {host}:{port}: {_why(failure)}.",
            CHECK_NETWORK,
            Exit.TRY_LATER,
        )
        if name == "name":
            said = f"{host} is not known: {_why(failure)}."
        elif isinstance(failure, ssl.SSLError):
            code, todo = Exit.USAGE, CHECK_CERTIFICATE
            said = f"The certificate of {host} is not trusted ({_why(failure)})."
        yield Check(name, Verdict.PROBLEM, said, todo, code)
        return
    writer.close()
    with suppress(OSError):
        # How it ends does not matter; only whether it began.
        await writer.wait_closed()
    yield good(name, f"made in {_ms(began)}.")


def _why(failure: OSError) -> str:
    if isinstance(failure, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    return str(getattr(failure, "verify_message", "") or failure.strerror or failure)


def _ms(began: float) -> str:
    return f"{(perf_counter() - began) * 1000:.0f} ms"


async def api_checks(client: Client, user_id: str | None) -> AsyncGenerator[Check, None]:
    asking = client.using(timeout=TIMEOUT_SECONDS, retry=Retry(attempts=2), lane="interactive")
    heads: list[Mapping[str, str]] = []

    def read(request: Request, response: Response) -> Page[Session]:
        heads.append(response.headers)
        return client.dialect.read_sessions(request, response)

    seconds: list[float] = []
    try:
        request = smallest_page(client.dialect, client.dialect.list_sessions(user_id=user_id))
        for _ in range(ROUND_TRIPS):
            began = perf_counter()
            page = await asking.ask(request, read)
            seconds.append(perf_counter() - began)
    except (NavTalkError, TypeError, ValueError) as error:
        yield problem("listing", error)
        return
    some = "listed a session" if page.items else "there is no session yet"
    yield good("listing", f"the key is accepted; {some}.")
    yield good("round trip", f"{min(seconds) * 1000:.0f} ms, the fastest of {len(seconds)}.")
    skew = (datetime.now(UTC) - client.now()).total_seconds()
    yield clock_check(skew if http_date(heads[-1].get("Date", "")) else None)
    yield limits_check(heads[-1])


def clock_check(skew: float | None) -> Check:
    """This machine's clock, *skew* seconds ahead of the server's; None where the server sent no time."""
    if skew is None:
        return warning("clock", "the server sends no time, so this machine's clock is used.")
    if abs(skew) <= SKEW_SECONDS:
        return good("clock", f"within {max(1.0, abs(skew)):.0f} s of the server's.")
    said = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's, which is used."
    return warning("clock", said, "Let NTP set this machine's clock.")


def limits_check(headers: Mapping[str, str]) -> Check:
    found = hint(headers)
    if found is None:
        return good("limits", "No rate limit announced; adapting to refusals.")
    left = counted(found.remaining, "request")
    return good("limits", f"{left} left for the next {found.seconds:.0f} s; that is obeyed.")


async def store_checks(place: Place) -> AsyncGenerator[Check, None]:
    if isinstance(place, str):
        yield await archive_check(place)
        return
    path = place / ARCHIVE if await to_thread.run_sync(place.is_dir) else place
    yield await to_thread.run_sync(place_check, path)
    if await to_thread.run_sync(path.exists):
        archive = await archive_check(path)
        yield archive
        if archive.verdict is Verdict.OK:
            yield await to_thread.run_sync(lock_check, path)


async def archive_check(place: Place) -> Check:
    try:
        async with readable(place) as reader:
            projects = ", ".join(each.project for each in await reader.projects()) or "none yet"
    except StoreError as failure:
        if isinstance(place, str) and str(failure).startswith("There is no archive"):
            return good("archive", f"{redacted(place)} answers; there is no archive yet.")
        return problem("archive", failure)
    return good("archive", f"{redacted(place)} has this version's schema; projects: {projects}.")


def place_check(path: Path) -> Check:
    folder = next(each for each in path.absolute().parents if each.exists())
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not os.access(folder, os.W_OK):
        said, todo = f"Permission denied: {target}.", "Use another folder or change its permissions."
        return Check("place", Verdict.PROBLEM, said, todo, Exit.USAGE)
    try:
        kind = file_system(folder, Path("/proc/self/mounts").read_text(errors="replace")) or ""
    except OSError:
        kind = ""
    if kind.startswith(REMOTE):
        said = f"{folder} is on a file system of other machines ({kind}), where SQLite is not safe."
        return warning("place", said, "Keep the archive on a local disk.")
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        todo = "A message takes about a kilobyte: free some space."
        return warning("place", f"{folder} has {free / 1e6:,.0f} MB left.", todo)
    where = f" ({kind})" if kind else ""
    return good("place", f"{folder}{where} is writable, {free / 1e9:,.0f} GB left.")


def file_system(folder: Path, mounts: str) -> str | None:
    """The kind of file system that *folder* is on, by Linux's list of *mounts*, if it is known."""
    found = [line.split(" ")[1:3] for line in mounts.splitlines()]
    above = [(place.replace("\\040", " "), kind) for place, kind in found]
    over = [(len(place), kind) for place, kind in above if folder.is_relative_to(place)]
    # Of two mounts at one place, the later one covers the other.
    return max(reversed(over), key=lambda each: each[0])[1] if over else None


def lock_check(path: Path) -> Check:
    try:
        with translate_errors(path):
            HeldFile(path).close()
    except StoreError as failure:
        return problem("lock", failure)
    return good("lock", "no run is writing to it.")
