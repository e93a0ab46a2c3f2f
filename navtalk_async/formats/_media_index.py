"""What is known of the media of an archive: an entry a link, in `media.jsonl` and the journal beside it."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit

import msgspec
from anyio import to_thread

from navtalk_async.archive.failpoints import reach
from navtalk_async.archive.sqlite_file import fingerprint, identity, lock, make_folder
from navtalk_async.errors import StoreLocked, StoreUnreachable
from navtalk_async.formats._whole_file import WholeFile

MEDIA = "media"
"""The folder of media, in that of an export."""

INDEX = "media.jsonl"

OF_A_SIGNATURE = re.compile(
    r"(?i)(?:x-(?:amz|goog|oss)-.*|expires|signature|key-pair-id|policy|googleaccessid|awsaccesskeyid|token"
    r"|s(?:ig|e|t|p|v|r|pr|ip|koid|ktid|kt|ke|ks|kv))=.*"
)
"""Parameters of a URL by which storage services sign it: they change, and the file stays the same."""

PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{7,63}")
NAME = re.compile(r"[A-Za-z0-9_~-]+/[0-9a-f]{16}\.[a-z0-9]{1,12}")


class Link(NamedTuple):
    """Where the video of a session is, or what a message shows."""

    project: str
    session: str
    message: str | None
    url: str

    @property
    def id(self) -> str:
        """The same for the same place of the same file, however its URL is signed."""
        url = _split(self.url)
        query = [each for each in url.query.split("&") if not OF_A_SIGNATURE.fullmatch(each)]
        place = url._replace(query="&".join(query), fragment="").geturl()
        return _hash(self.project, self.session, self.message or "", place)[:32]

    @property
    def url_hash(self) -> str:
        """A hash of the URL with its signature."""
        return _hash(self.url)[:16]

    @property
    def folder(self) -> str:
        """The name of the folder of the session's media."""
        if self.project == "default" and PLAIN.fullmatch(self.session):
            return self.session
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", self.session)[:40]
        return f"{readable}~{_hash(self.project, self.session)[:12]}"

    @property
    def part(self) -> str:
        """The path of the file in the folder of media, as long as it is not whole."""
        return f"{self.folder}/{self.id}.partial"


class MediaEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a link: a line of `media.jsonl`."""

    link: str
    """A hash of whose it is, and of its URL without a signature."""
    project: str
    session: str
    message: str | None = None
    """None for the video of the session."""
    url: str
    """Without its query, which may be a password to the file."""
    name: str = ""
    """The path of the file in the folder of media, with slashes; empty where there is none."""
    bytes: int = 0
    sha256: str = ""
    validator: str = ""
    """The ETag or date of the file, as far as it goes on from what is there."""
    failed: str = ""
    """Why there is no file."""
    dead: str = ""
    """A hash of the URL of which the server says that there is no file, while the API had no other one: it is
    not asked for again."""

    @classmethod
    def of(cls, link: Link) -> "MediaEntry":
        """Of a *link* of which nothing is known yet."""
        url = _split(link.url)
        shown = url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()
        return cls(link=link.id, project=link.project, session=link.session, message=link.message, url=shown)


class MediaIndex:
    """An `async with` of the entries in the folder *media*, by link; one run at a time has it.

    What `add` is given is in the journal at once, and in `media.jsonl` when it is left without an error.
    """

    def __init__(self, media: Path) -> None:
        self.entries: dict[str, MediaEntry] = {}
        self.media = media
        self._path = media / f"{INDEX}.journal"
        self._journal: BinaryIO

    async def __aenter__(self) -> Self:
        await to_thread.run_sync(self._open)
        return self

    async def __aexit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                async with WholeFile(self.media, INDEX) as file:
                    await file.write(lambda: encoded(self.entries))
                reach("media: after index")
                # Windows removes no file that is open; what is in it is noted once more then.
                with suppress(PermissionError):
                    self._path.unlink()
        finally:
            self._journal.close()

    def has_file(self, link: str, *, is_thorough: bool) -> bool:
        """Whether the file of the *link* is there, whole: by its size, or if *is_thorough* by its hash."""
        entry = self.entries.get(link)
        if entry is None or not entry.name:
            return False
        path = self.media / entry.name
        with suppress(OSError):
            is_whole = path.lstat().st_size == entry.bytes
            return is_whole and (not is_thorough or fingerprint(path)[1] == entry.sha256)
        return False

    def add(self, entry: MediaEntry) -> None:
        """Note *entry*, which replaces that of the same link."""
        self.entries[entry.link] = entry
        reach("media: before journal")
        self._journal.write(msgspec.json.encode(entry) + b"\n")
        self._journal.flush()
        reach("media: after journal")

    def _open(self) -> None:
        make_folder(self.media)
        self._journal = open(self._path, "ab+", opener=private_file)  # noqa: SIM115 - closed on exit
        try:
            self._lock()
            self.entries = read_index(self.media)
            self._journal.seek(0)
            # A run that was killed may have cut its last line.
            lines = self._journal.read().split(b"\n")
            if lines[-1]:
                self._journal.write(b"\n")
            for line in lines:
                with suppress(ValueError):
                    entry = _entry(line)
                    self.entries[entry.link] = entry
        except BaseException:
            self._journal.close()
            raise

    def _lock(self) -> None:
        lock(self._journal, self._path)
        # The run that had it may have removed the file in between.
        if identity(self._path) != identity(self._journal.fileno()):
            raise StoreLocked(f"Another run is writing to {self._path}.")


def read_index(media: Path) -> dict[str, MediaEntry]:
    """The entries of `media.jsonl` by link; none if there is no such file, a StoreUnreachable if it is not
    ours.
    """
    path = media / INDEX
    try:
        found = [_entry(line) for line in path.read_bytes().splitlines()]
    except FileNotFoundError:
        return {}
    except ValueError:
        raise StoreUnreachable(f"{path} is damaged, or another program's. Move it away.") from None
    return {each.link: each for each in found}


def media_files(folder: str | Path, project: str = "default") -> list[MediaEntry]:
    """The entries of the files that `fetch_media` has downloaded for *project*; their names are relative to
    the folder `media` in *folder*. A StoreUnreachable if the list of them is damaged.
    """
    entries = read_index(Path(folder) / MEDIA).values()
    return [each for each in entries if each.name and each.project == project]


def encoded(entries: Mapping[str, MediaEntry]) -> bytes:
    """*entries* as `media.jsonl` has them."""

    def order(entry: MediaEntry) -> tuple[str, str, str, str]:
        return entry.project, entry.session, entry.message or "", entry.link

    return msgspec.json.Encoder().encode_lines(sorted(entries.values(), key=order))


def private_file(path: str, flags: int) -> int:
    """For `open`: a new file is its owner's alone, and no link is followed to another's."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _entry(line: bytes) -> MediaEntry:
    entry = msgspec.json.decode(line, type=MediaEntry)
    if entry.name and not NAME.fullmatch(entry.name):
        raise ValueError(entry.name)
    return entry


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        # Nothing of it is known to be no password.
        return SplitResult("", "", "", url, "")


def _hash(*parts: str) -> str:
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
