"""The files that an archive's links lead to: recordings of sessions, and what messages show."""

import errno
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
from anyio import to_thread
from msgspec.structs import replace

from navtalk_async.archive import Archive
from navtalk_async.archive.rows import StoredTranscript
from navtalk_async.client import Client
from navtalk_async.concurrency import FanOut
from navtalk_async.dialects import dialects
from navtalk_async.dialects.dialect import Dialect
from navtalk_async.errors import (
    DecodeFailed,
    NavTalkError,
    NotFound,
    StoreError,
    StoreMismatch,
    StoreUnreachable,
)
from navtalk_async.formats._download import Download, LinkExpired, OverBudget
from navtalk_async.formats._media_index import MEDIA, Link, MediaEntry, MediaIndex, media_files
from navtalk_async.models import Message
from navtalk_async.wire.download import DownloadLost, DownloadRefused, Downloads
from navtalk_async.wire.route import trusting

__all__ = ["MEDIA", "MediaEntry", "MediaReport", "fetch_media", "media_files"]

FILE_BYTES = 10**9
TOTAL_BYTES = 10**11
FILES = 100_000


class MediaReport(msgspec.Struct, kw_only=True):
    """What a run did."""

    fetched: int = 0
    """Files downloaded in this run."""
    bytes: int = 0
    """Bytes that came in this run, of these and of others."""
    kept: int = 0
    """Files that were there already."""
    left: int = 0
    """Links that this run did not get to, by its bounds: the next one goes on with them."""
    failed: list[MediaEntry] = []
    """Links of the archive without a file, and why."""


async def fetch_media(
    archive: Archive,
    folder: str | Path,
    *,
    client: Client[Any, Any] | None = None,
    project: str = "default",
    allow_private: bool = False,
    max_file_bytes: int = FILE_BYTES,
    max_total_bytes: int = TOTAL_BYTES,
    max_files: int = FILES,
    retry_failed: bool = False,
    concurrency: int = 4,
    cacert: str | PathLike[str] | None = None,
    report: MediaReport | None = None,
) -> MediaReport:
    """Download what the `video_url` of sessions and the `media_url` of messages of *project* name, into the
    folder `media` in *folder*.

    A file is `media/SESSION/HASH.mp4`, by the first 16 digits of its SHA-256; it appears there when it is
    whole, and what was cut off is continued, in this run or a later one. `media/media.jsonl` has a line a
    link: the file, or why there is none. What is there is not asked for again, nor is a link that is dead.

    No request has the key or a cookie; redirects are refused, and so is a host with any address that is not
    public. Proxies are not used: they would look up the host themselves.

    Arguments:
        client: where a link has expired, its session is asked for a new one, once; None does without.
        allow_private: also ask hosts on this machine and in its networks.
        max_file_bytes: the most bytes of a file, 1 GB; a larger one is a failure.
        max_total_bytes: the most bytes of a run, 100 GB.
        max_files: the most links of a run, 100,000.
        retry_failed: ask for dead links again, and for files that no longer have their hash: all are read.
        concurrency: downloads at once.
        cacert: as for `Client`.
        report: what is returned, counted as it goes.

    Raises:
        ValueError: a bound that allows nothing, or *cacert* holds no certificate; before anything is sent.
        StoreMismatch: the archive has no such project, or its API is not installed.
        StoreLocked: another run downloads to this folder.
        StoreUnreachable: nothing can be written to the folder, or its list of media is not ours.
        StoreError: the disk is full.
    """
    _check_bounds(file_bytes=max_file_bytes, total_bytes=max_total_bytes, files=max_files)
    trusted = None if cacert is None else trusting(cacert)
    api = {each.project: each.api for each in await archive.projects()}.get(project)
    if api not in dialects():
        raise StoreMismatch(f"The archive has no project {project!r} of an API that is installed.")
    if client is not None and client.dialect.api != api:
        raise StoreMismatch(f"The project {project!r} is of another API than the client: use api={api!r}.")
    media, report = Path(folder) / MEDIA, report or MediaReport()

    def spend(count: int) -> None:
        if report.bytes + count > max_total_bytes:
            raise OverBudget
        report.bytes += count

    try:
        async with (
            MediaIndex(media) as index,
            Downloads(allow_private=allow_private, trusted=trusted) as downloads,
        ):
            dialect, wanted = dialects()[api](), list[Link]()
            async with aclosing(archive.transcript_batches(project)) as batches:
                async for batch in batches:
                    find = partial(_wanted, batch, dialect, index, report, is_thorough=retry_failed)
                    wanted += await to_thread.run_sync(find)
            report.left = len(wanted[max_files:])
            task = _Fetching(index, downloads, max_file_bytes, spend, client)
            async with FanOut(task.fetch, _batches(wanted[:max_files]), at_once=concurrency) as entries:
                async for entry in entries:
                    _count(entry, report)
    except OSError as failure:
        what = f"{failure.strerror or failure}: {failure.filename or media}."
        if failure.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(what) from failure
        raise StoreUnreachable(f"{what} Use another folder or change its permissions.") from failure
    return report


def _check_bounds(**bounds: int) -> None:
    for name, bound in bounds.items():
        if bound < 1:
            raise ValueError(f"max_{name}={bound} allows nothing; the least is 1.")


def _wanted(
    batch: Sequence[StoredTranscript],
    dialect: Dialect,
    index: MediaIndex,
    report: MediaReport,
    *,
    is_thorough: bool,
) -> list[Link]:
    """The links of *batch* to be asked for; the *report* counts the others."""
    wanted: list[Link] = []
    for link in _links(batch, dialect):
        entry = index.entries.get(link.id)
        if index.has_file(link.id, is_thorough=is_thorough):
            report.kept += 1
        elif entry is not None and entry.dead == link.url_hash and not is_thorough:
            report.failed.append(entry)
        else:
            wanted.append(link)
    return wanted


def _count(entry: MediaEntry | None, report: MediaReport) -> None:
    if entry is None:
        report.left += 1
    elif entry.name:
        report.fetched += 1
    else:
        report.failed.append(entry)


async def _batches(links: Sequence[Link]) -> AsyncGenerator[Sequence[Link], None]:
    yield links


def _links(batch: Sequence[StoredTranscript], dialect: Dialect) -> list[Link]:
    links: list[Link] = []
    may_show = dialect.record_kinds[1].media_url is not Message.media_url
    for session, messages, *_ in batch:
        links.append(Link(session.project, session.id, None, session.video_url or ""))
        for row in messages if may_show else ():
            # Few rows hold a link, and to parse one takes longer.
            if "ttp" in row.raw or "TTP" in row.raw:
                with suppress(DecodeFailed):
                    shown = dialect.message_of(row.raw.encode(), session.id, row.position)
                    links.append(Link(session.project, session.id, row.id, shown.media_url or ""))
    return [each for each in links if each.url.strip()]


class _Fetching(msgspec.Struct, frozen=True):
    index: MediaIndex
    downloads: Downloads
    file_bytes: int
    spend: Callable[[int], None]
    client: Client[Any, Any] | None

    async def fetch(self, link: Link) -> MediaEntry | None:
        """What became of *link*; None if this run may not download any more."""
        dead = ""
        try:
            try:
                return await self._download(link, link.url)
            except LinkExpired as expired:
                new = await self._new_url(link, str(expired))
                return await self._download(link, new)
        except OverBudget:
            return None
        except DownloadLost as why:
            reason = str(why)
        except NavTalkError as error:
            reason = f"its link has expired, and asking for another one failed: {error}"
        except DownloadRefused as why:
            reason = str(why)
            self._discard(link)
        except LinkExpired as why:
            reason = str(why)
            if self.client is not None:
                dead = link.url_hash
                self._discard(link)
        before = self.index.entries.get(link.id) or MediaEntry.of(link)
        entry = replace(before, failed=reason, dead=dead, name="", bytes=0, sha256="")
        await to_thread.run_sync(self.index.add, entry)
        return entry

    async def _download(self, link: Link, url: str) -> MediaEntry:
        return await Download(link, self.index, self.file_bytes, self.spend).fetch(
            self.downloads, url.strip()
        )

    def _discard(self, link: Link) -> None:
        """Remove the parts of a file that cannot be downloaded."""
        (self.index.media / link.part).unlink(missing_ok=True)

    async def _new_url(self, link: Link, why: str) -> str:
        """The link that the API has now; a `LinkExpired` if that is the same one, or there is none."""
        new: str | None = None
        if self.client is not None:
            client = self.client.using(lane="bulk")
            # A ValueError: the archive holds an id that the API cannot have.
            with suppress(NotFound, ValueError):
                if link.message is None:
                    new = (await client.get_session(link.session)).video_url
                else:
                    async with aclosing(aiter(client.list_messages(link.session))) as messages:
                        async for each in messages:
                            if each.id == link.message:
                                new = each.media_url
                                break
            why = f"{why}, and the API has no other link"
        if new is None or new == link.url:
            raise LinkExpired(why)
        return new
