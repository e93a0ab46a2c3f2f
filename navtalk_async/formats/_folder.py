"""The folder of an export: its manifest, the names of its files, and which files there an export wrote.

The `digest` of the manifest is the SHA-256 of its own bytes with an empty digest, and each manifest has only
one way to be written. So no byte of it can change unnoticed.
"""

import re
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from navtalk_async.archive.records import ArchiveDigest
from navtalk_async.errors import StoreUnreachable
from navtalk_async.formats._format import WrittenFile

ARCHIVE = "archive.db"
"""The archive in the folder of `navtalk export`."""

MANIFEST = "manifest.json"

FIRST = "transcripts.jsonl"
"""The file of the first project."""

LONGEST = 120
"""Bytes of a project's name in the name of its file; file systems allow 255 for the whole."""


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session whose messages could not be fetched, or that is damaged in the archive."""

    id: str
    reason: str
    attempts: int
    damaged: bool = False
    """Whether it is damaged in the archive, and therefore not in the files."""


class ProjectFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one project."""

    project: str
    api: str
    filters: dict[str, Any]
    complete: bool
    """Whether every session the API listed is in its files, with all its messages."""
    sessions: int
    messages: int
    failed: Sequence[Failure]
    files: Sequence[WrittenFile]
    changes: int
    """The number of transactions that had changed the project by then."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`.

    *api*, *project* and *filters* describe the first project; the other fields describe all of them.
    """

    complete: bool
    """Whether every session the API listed is in the files, with all its messages."""
    api: str
    project: str
    filters: dict[str, Any]
    sessions: int
    messages: int
    failed: Sequence[Failure]
    files: Sequence[WrittenFile]
    projects: Sequence[ProjectFiles] = ()
    archive: ArchiveDigest | None = None
    """The archive beside the files; None if it is elsewhere, or other processes were reading it."""
    written_at: str
    tool: str
    digest: str = ""
    """The SHA-256 of the manifest without it."""

    @classmethod
    def of(
        cls, projects: Sequence[ProjectFiles], *, archive: ArchiveDigest | None, written_at: str, tool: str
    ) -> "Manifest":
        """The manifest of *projects*; the project of `transcripts.jsonl` goes first."""
        projects = sorted(projects, key=lambda each: all(file.name != FIRST for file in each.files))
        return cls(
            complete=all(each.complete for each in projects),
            api=projects[0].api,
            project=projects[0].project,
            filters=projects[0].filters,
            sessions=sum(each.sessions for each in projects),
            messages=sum(each.messages for each in projects),
            failed=[failure for each in projects for failure in each.failed],
            files=[file for each in projects for file in each.files],
            projects=projects,
            archive=archive,
            written_at=written_at,
            tool=tool,
        )


def canonical(manifest: Manifest) -> bytes:
    """The bytes of *manifest*, with its digest."""
    bare = msgspec.structs.replace(manifest, digest="")
    return _indented(msgspec.structs.replace(bare, digest=sha256(_indented(bare)).hexdigest()))


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


class Found(NamedTuple):
    """What earlier exports left in a folder."""

    manifest: Manifest | None
    """None if it is missing or damaged."""
    owners: dict[str, str]
    """The project of each exported file, by the file's name."""


def found_in(folder: Path) -> Found:
    """Find what earlier exports left in *folder*."""
    manifest = None
    # Reading a pipe would block.
    if (folder / MANIFEST).is_file():
        with suppress(FileNotFoundError, ValueError):
            manifest = read_manifest((folder / MANIFEST).read_bytes())
    owners = {path.name: owner for path in folder.glob("transcripts*.jsonl") if (owner := _owner(path))}
    for entry in () if manifest is None else manifest.projects:
        # A manifest may be forged: names of another form are ignored.
        names = set(candidates(entry.project))
        owners |= {each.name: entry.project for each in entry.files if each.name in names}
    return Found(manifest, owners)


def refuse_others(folder: Path, name: str, found: Found) -> None:
    """Refuse to replace the manifest or the file *name* if no export wrote it."""
    for each, is_ours in ((MANIFEST, _is_manifest), (name, _is_transcripts)):
        head = _head(folder / each)
        is_listed = found.manifest is not None and each in found.owners
        if head is None or (head and not is_listed and not is_ours(head)):
            raise StoreUnreachable(
                f"No export wrote {folder / each}, so it is not replaced. "
                "Use another folder, or replace it with --overwrite (overwrite=True)."
            )


def _owner(path: Path) -> str | None:
    head = _head(path) or b""
    named = OF_A_PROJECT.match(head)
    if named is None or not _is_transcripts(head):
        return None
    try:
        return msgspec.json.decode(named[1], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _head(path: Path) -> bytes | None:
    """The first bytes of a file; none if there is no file, None if it is anything else than a file."""
    try:
        # A link leads to another's file; reading a pipe would block.
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
    except (FileNotFoundError, NotADirectoryError):
        return b""
    with path.open("rb") as file:
        return file.read(HEAD)


def _is_transcripts(head: bytes) -> bool:
    return _has_all_but_one(head, COLUMNS) or CUT_SHORT.match(head) is not None


def _is_manifest(head: bytes) -> bool:
    return _has_all_but_one(head, KEYS)


def _has_all_but_one(head: bytes, marks: Sequence[bytes]) -> bool:
    # One byte may be damaged.
    return sum(each in head for each in marks) >= len(marks) - 1
