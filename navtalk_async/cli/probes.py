"""What can be told of a set-up by trying: the network, the API, an archive."""

import asyncio
import os
import shutil
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from anyio import to_thread

from navtalk_async.archive import redacted
from navtalk_async.archive._sqlite_file import HeldFile, translate_errors
from navtalk_async.cli.checks import Check, Verdict, clock_check
from navtalk_async.cli.exits import Exit, exit_code
from navtalk_async.cli.reading import Place, readable
from navtalk_async.client import Client
from navtalk_async.errors import NavTalkError, StoreError
from navtalk_async.models import Page, Request, Response, Session, http_date
from navtalk_async.wire.hints import hint
from navtalk_async.wire.retry import Retry

__all__ = ["file_system", "probe_api", "probe_network", "probe_store"]

PATIENCE_SECONDS = 10.0
ROUND_TRIPS = 3
LEAST_FREE = 1 << 30

REMOTE = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "lustre", "fuse.sshfs", "davfs")
"""How the names of file systems begin that several machines share, where SQLite's locks are not reliable."""

AWAY = "Check the name, the network, and whether a firewall or proxy stands between."


async def probe_network(root: str) -> AsyncGenerator[Check, None]:
    """Whether the name of *root* is known, somebody answers there, and proves to be who that is."""
    parts = urlsplit(root)
    host = str(parts.hostname)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    began = perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as failure:
        said = f"{host} is not known: {_why(failure)}."
        yield Check("name", Verdict.PROBLEM, said, AWAY, Exit.TRY_LATER)
        return
    places = len({address[0] for *_, address in found})
    yield Check("name", Verdict.OK, f"{host} has {places} address(es), told in {_ms(began)}.")
    began = perf_counter()
    context = ssl.create_default_context() if parts.scheme == "https" else None
    what = "connection" if context is None else "connection and TLS"
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as failure:
        said = f"{host} does not prove to be that: {_why(failure)}."
        todo = "Check the name and this machine's certificates; something between may read the traffic."
        yield Check(what, Verdict.PROBLEM, said, todo, Exit.TRY_LATER)
        return
    except (OSError, TimeoutError) as failure:
        said = f"nobody answers at {host}:{port}: {_why(failure)}."
        yield Check(what, Verdict.PROBLEM, said, AWAY, Exit.TRY_LATER)
        return
    writer.close()
    with suppress(OSError):
        # It may end as it likes; that it began is all we wanted to know.
        await writer.wait_closed()
    yield Check(what, Verdict.OK, f"made in {_ms(began)}.")


async def probe_api(client: Client, request: Request) -> Sequence[Check]:
    """Whether the API answers *request*, for a list of sessions, with the key; how fast, by what clock, and
    within which limits.
    """
    asking = client.using(timeout=PATIENCE_SECONDS, retry=Retry(attempts=2), lane="interactive")
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
    some = "a session" if page.items else "no session, for there is none"
    skew = (datetime.now(UTC) - client.now()).total_seconds()
    return [
        Check("listing", Verdict.OK, f"the key is accepted; {some} listed."),
        Check("round trip", Verdict.OK, f"{min(seconds) * 1000:.0f} ms, the fastest of {len(seconds)}."),
        clock_check(skew if http_date(heads[-1].get("Date", "")) else None),
        limits_check(heads[-1]),
    ]


def limits_check(headers: Mapping[str, str]) -> Check:
    """What the server says of its limits."""
    told = hint(headers)
    if told is None:
        return Check("limits", Verdict.OK, "the server tells of none; what it refuses is learned from.")
    said = f"{told.remaining:,} requests are left for the next {told.seconds:.0f} s; that is obeyed."
    return Check("limits", Verdict.OK, said)


async def probe_store(place: Place) -> Sequence[Check]:
    """Whether there is an archive at *place*, or may be one; nothing is made."""
    if isinstance(place, str):
        return [await _archive_check(place)]
    return await _probe_file(place)


async def _probe_file(path: Path) -> Sequence[Check]:
    path = path / "archive.db" if await to_thread.run_sync(path.is_dir) else path
    checks = await to_thread.run_sync(_place_checks, path)
    if not await to_thread.run_sync(path.exists):
        return checks
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
    return Check("archive", Verdict.OK, f"{redacted(place)} is of this version; projects: {projects}.")


def _place_checks(path: Path) -> list[Check]:
    folder = next(each for each in path.absolute().parents if each.exists())
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK) or not os.access(folder, os.W_OK):
        said = f"{target} may not be written to."
        return [Check("place", Verdict.PROBLEM, said, "Choose another, or ask for the right.", Exit.USAGE)]
    kind = file_system(folder, _mounts())
    if kind is not None and kind.startswith(REMOTE):
        said = f"{folder} is on a file system of other machines ({kind}), where SQLite is not safe."
        return [Check("place", Verdict.WARNING, said, "Keep the archive on a local disk.")]
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        said = f"{folder} has {free / 1e6:,.0f} MB left."
        return [Check("place", Verdict.WARNING, said, "A message takes about a kilobyte: make room.")]
    where = f" ({kind})" if kind else ""
    return [Check("place", Verdict.OK, f"{folder}{where} may be written to, {free / 1e9:,.0f} GB are left.")]


def _lock_check(path: Path) -> Check:
    try:
        translate_errors(partial(HeldFile, path), path).close()
    except StoreError as failure:
        said = str(failure.args[0])
        return Check("lock", Verdict.PROBLEM, said, failure.next_step, exit_code(failure))
    return Check("lock", Verdict.OK, "nobody is writing to it.")


def _mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text(errors="replace")
    except OSError:
        return ""


def file_system(folder: Path, mounts: str) -> str | None:
    """The kind of file system that *folder* is on, by Linux's list of *mounts*; None where it is not told."""
    best, kind = "", None
    for line in mounts.splitlines():
        _, _, rest = line.partition(" ")
        place, _, rest = rest.partition(" ")
        place = place.replace("\\040", " ")
        is_above = folder == Path(place) or Path(place) in folder.parents
        if is_above and len(place) >= len(best):
            best, kind = place, rest.partition(" ")[0]
    return kind


def _why(failure: BaseException) -> str:
    if isinstance(failure, TimeoutError):
        return f"no answer within {PATIENCE_SECONDS:.0f} s"
    return str(getattr(failure, "verify_message", "") or getattr(failure, "strerror", "") or failure)


def _ms(began: float) -> str:
    return f"{(perf_counter() - began) * 1000:.0f} ms"
