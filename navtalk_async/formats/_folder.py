"""The folder of an export: its manifest, the names of its files, and which files there an export wrote.

The `digest` of the manifest is the SHA-256 of its own bytes with an empty digest, and each manifest has only
one way to be written. So no byte of it can change unnoticed.
"""

import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from navtalk_async.archive.records import ArchiveDigest, FailedSession
from navtalk_async.errors import StoreUnreachable
from navtalk_async.formats._format import MANIFEST, WrittenFile

ARCHIVE = "archive.db"
"""The archive in the folder of `navtalk export`."""

FIRST = "transcripts.jsonl"
"""The file of the first project."""

LONGEST = 120
"""Bytes of a project's name in the name of its file; file systems allow 255 for the whole."""


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What was exported of a project, or of all of them."""

    complete: bool
    """Whether every session the API listed is in the files, with all its messages."""
    api: str
    project: str
    filters: dict[str, Any]
    sessions: int
    messages: int
    failed: Sequence[FailedSession]
    files: Sequence[WrittenFile]


class ProjectFiles(Exported, frozen=True, kw_only=True):
    """The files of one project."""

    changes: int
    """The number of transactions that had changed the project by then."""


class Manifest(Exported, frozen=True, kw_only=True):
    """The content of `manifest.json`.

    *api*, *project* and *filters* describe the first project; the other fields describe all of them.
    """

    projects: Sequence[ProjectFiles] = ()
    archive: ArchiveDigest | None = None
    """The archive beside the files; None if it is elsewhere, or other processes were reading it."""
    written_at: str
    tool: str
    digest: str = ""
    """The SHA-256 of the manifest without it."""

    @classmethod
    def of(cls, projects: Sequence[ProjectFiles], archive: ArchiveDigest | None) -> "Manifest":
        """The manifest of *projects*; the project of `transcripts.jsonl` goes first."""
        projects = sorted(projects, key=lambda each: all(file.name != FIRST for file in each.files))
        first = projects[0]
        bare = cls(
            complete=all(each.complete for each in projects),
            api=first.api,
            project=first.project,
            filters=first.filters,
            sessions=sum(each.sessions for each in projects),
            messages=sum(each.messages for each in projects),
            failed=[failure for each in projects for failure in each.failed],
            files=[file for each in projects for file in each.files],
            projects=projects,
            archive=archive,
            written_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            tool=this_tool(),
        )
        return signed(bare)


def this_tool() -> str:
    try:
        return f"navtalk-async {version('navtalk-async')}"
    except PackageNotFoundError:  # as in a program that was made of one file
        return "navtalk-async"


def canonical(manifest: Manifest) -> bytes:
    """The bytes of *manifest*, with its digest."""
    return _indented(signed(manifest))


def signed(manifest: Manifest) -> Manifest:
    """*manifest* with its digest."""
    bare = msgspec.structs.replace(manifest, digest="")
    return msgspec.structs.replace(bare, digest=sha256(_indented(bare)).hexdigest())


def _indented(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(data: bytes) -> Manifest:
    """Parse a manifest; a ValueError if *data* is none, or was changed. Its message is a predicate."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as failure:
        raise ValueError(f"is no manifest: {failure}") from None
    if not manifest.digest:
        raise ValueError("has no digest of itself: version 0.1 wrote none")
    if canonical(manifest) != data:
        raise ValueError("does not match its own digest")
    return manifest


# Names.


def candidates(project: str) -> list[str]:
    """The names that the file of *project* may have, the best first. None of them leaves the folder."""
    # A quoted name holds no tilde: no other project has a name that is cut and marked like this.
    quoted = quote(project, safe="", errors="surrogatepass").replace("~", "%7E")
    marked = f"{quoted[:LONGEST]}~{sha256(quoted.encode()).hexdigest()[:12]}"
    plain = [quoted] if len(quoted) <= LONGEST else []
    return [FIRST, *(f"transcripts.{each}.jsonl" for each in (*plain, marked))]


def name_of(project: str, owners: Mapping[str, str]) -> str:
    """The name of the file of *project*; *owners* maps the names of files to their projects.

    Some file systems do not tell upper case from lower.
    """
    choice = candidates(project)
    owned = {name.lower() for name in owners}
    own = [name for name in choice if owners.get(name) == project]
    free = [name for name in choice if name.lower() not in owned]
    return (own or free or choice[-1:])[0]


# Which files an export wrote: only they are replaced.

HEAD = 1 << 17
"""Bytes at the beginning of a file that show whether an export wrote it."""

COLUMNS = [b'"project":', b'"id":', b'"api":', b'"status":', b'"start_time":', b'"end_time":', b'"title":']

KEYS = [b'{\n  "complete": ', b'\n  "api": "', b'\n  "project": "', b'\n  "filters": {', b'\n  "sessions": ']
"""How a manifest begins."""

A_TEXT = rb'("(?:[^"\\]|\\.)*")'

OF_A_PROJECT = re.compile(rb'\{"project":' + A_TEXT)

CUT_SHORT = re.compile(OF_A_PROJECT.pattern + rb',"id":' + A_TEXT + rb',"api":' + A_TEXT + rb',"status":')


class FolderContent(NamedTuple):
    """What earlier exports left in a folder."""

    manifest: Manifest | None
    """None if it is missing or damaged."""
    owners: dict[str, str]
    """The project of each exported file, by the file's name."""

    @property
    def listed(self) -> Sequence[ProjectFiles]:
        """The projects that the manifest lists."""
        return () if self.manifest is None else self.manifest.projects


def read_folder(folder: Path) -> FolderContent:
    """What earlier exports left in *folder*."""
    manifest = None
    # Reading a pipe would block.
    if (folder / MANIFEST).is_file():
        with suppress(FileNotFoundError, ValueError):
            manifest = read_manifest((folder / MANIFEST).read_bytes())
    owners = {path.name: owner for path in folder.glob("transcripts*.jsonl") if (owner := _owner(path))}
    found = FolderContent(manifest, owners)
    for entry in found.listed:
        # A manifest may be forged: names of another form are ignored.
        names = set(candidates(entry.project))
        owners |= {each.name: entry.project for each in entry.files if each.name in names}
    return found


def refuse_foreign_files(folder: Path, name: str, found: FolderContent) -> None:
    """Refuse to replace the manifest or the file *name* if no export wrote it."""
    for each, is_ours in ((MANIFEST, _is_manifest), (name, _is_transcripts)):
        start = _start_of(folder / each)
        is_listed = found.manifest is not None and each in found.owners
        if start is None or (start and not is_listed and not is_ours(start)):
            raise StoreUnreachable(
                f"No export wrote {folder / each}, so it is not replaced. "
                "Use another folder, or replace it with overwrite=True."
            )


def _owner(path: Path) -> str | None:
    start = _start_of(path) or b""
    named = OF_A_PROJECT.match(start)
    with suppress(msgspec.DecodeError, UnicodeDecodeError):
        if named is not None and _is_transcripts(start):
            return msgspec.json.decode(named[1], type=str)
    return None


def _start_of(path: Path) -> bytes | None:
    """The first bytes of a file; none if there is no file, None if it is anything else than a file."""
    try:
        # A link leads to another's file; reading a pipe would block.
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return b""
    with path.open("rb") as file:
        return file.read(HEAD)


def _is_transcripts(start: bytes) -> bool:
    return _has_all_but_one(start, COLUMNS) or CUT_SHORT.match(start) is not None


def _is_manifest(start: bytes) -> bool:
    return _has_all_but_one(start, KEYS)


def _has_all_but_one(start: bytes, marks: Sequence[bytes]) -> bool:
    # One byte may be damaged.
    return sum(each in start for each in marks) >= len(marks) - 1
