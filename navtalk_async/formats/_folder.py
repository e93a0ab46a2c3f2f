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
from navtalk_async.errors import StoreBroken, StoreUnreachable
from navtalk_async.formats._format import FormatOptions
from navtalk_async.formats._media_index import MEDIA
from navtalk_async.formats._whole_file import MANIFEST, WrittenFile, private

ARCHIVE = "archive.db"
"""The archive in the folder of `navtalk export`."""

BEGUN = f"{MANIFEST}.partial"
"""What stands in the place of a manifest until all files are written."""

UNFINISHED = f"{MANIFEST}.new"
"""Either of the two while it is written: at any moment one of them is whole."""

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


class FormatRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the files of a format were written.

    Attributes:
        changes: the number of transactions that had changed the project by then.
        options: those of the format.
        privacy: what was removed, as `Privacy.description` has it.
        redacted: how often something was removed, by its kind.
        replaced: how often the format replaced or left out what it cannot hold.
    """

    changes: int
    options: FormatOptions = FormatOptions()
    privacy: dict[str, Any] = {}
    redacted: dict[str, int] = {}
    replaced: dict[str, int] = {}


class ProjectFiles(Exported, frozen=True, kw_only=True):
    """The files of one project.

    Attributes:
        changes: the number of transactions that had changed the project by the latest export.
        label: what stands between the stem and the suffix of the names of its files.
        merged: whether other projects are in the same files.
        formats: how the files of each format were written, which an earlier export may have done.
    """

    changes: int
    label: str = ""
    merged: bool = False
    formats: dict[str, FormatRun] = {}


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
        """The manifest of *projects*; the project without a label goes first."""
        projects = sorted(projects, key=lambda each: bool(each.label))
        first = projects[0]
        bare = cls(
            complete=all(each.complete for each in projects),
            api=first.api,
            project=first.project,
            filters=first.filters,
            sessions=sum(each.sessions for each in projects),
            messages=sum(each.messages for each in projects),
            failed=[failure for each in projects for failure in each.failed],
            files=list({file.name: file for each in projects for file in each.files}.values()),
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
    """The labels that the files of *project* may have, the best first. None of them leaves the folder."""
    # A quoted name holds no tilde: no other project has a name that is cut and marked like this.
    quoted = quote(project, safe="", errors="surrogatepass").replace("~", "%7E")
    marked = f"{quoted[:LONGEST]}~{sha256(quoted.encode()).hexdigest()[:12]}"
    plain = [quoted] if len(quoted) <= LONGEST else []
    return ["", *(f".{each}" for each in (*plain, marked))]


def label_of(project: str, owners: Mapping[str, str]) -> str:
    """The label of *project*; *owners* maps labels to their projects.

    Some file systems do not tell upper case from lower.
    """
    choice = candidates(project)
    owned = {label.lower() for label in owners}
    own = [label for label in choice if owners.get(label) == project]
    free = [label for label in choice if label.lower() not in owned]
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
    """The project of each label."""
    files: set[str]
    """Names of files that an export wrote, or had begun to write when it was stopped."""

    @property
    def listed(self) -> Sequence[ProjectFiles]:
        """The projects that the manifest lists."""
        return () if self.manifest is None else self.manifest.projects


def read_folder(folder: Path) -> FolderContent:
    """What earlier exports left in *folder*."""
    manifest, begun = (_manifest_at(folder / name) for name in (MANIFEST, BEGUN))
    owners = {
        path.name[len("transcripts") : -len(".jsonl")]: owner
        for path in folder.glob("transcripts*.jsonl")
        if (owner := _owner(path))
    }
    files = {f"transcripts{label}.jsonl" for label in owners}
    for entry in [each for found in (begun, manifest) if found for each in found.projects]:
        # A manifest may be forged: labels of another form are ignored.
        if entry.label in candidates(entry.project):
            if entry.merged:
                owners.pop(entry.label, None)
            else:
                owners[entry.label] = entry.project
            files |= {each.name for each in entry.files}
    for name in [each for each in files if each.endswith("/")]:
        files |= {each.relative_to(folder).as_posix() for each in (folder / name).rglob("*")}
    return FolderContent(manifest, owners, files)


def _manifest_at(path: Path) -> Manifest | None:
    # Reading a pipe would block.
    if path.is_file():
        with suppress(FileNotFoundError, ValueError):
            return read_manifest(path.read_bytes())
    return None


def refuse_emptied(path: Path) -> None:
    """Refuse the archive *path* if nothing is left in the file that the manifest beside it lists: one that is
    begun anew would fetch what was forgotten.
    """
    # What cannot be read is reported when it is opened.
    with suppress(OSError):
        if path.is_file() and path.stat().st_size == 0:
            manifest = _manifest_at(path.parent / MANIFEST)
            if manifest is not None and manifest.archive is not None and manifest.archive.name == path.name:
                raise StoreBroken(f"{path} is empty, and no archive any more: {MANIFEST} lists one there.")


LEFT = re.compile(
    rf"{re.escape(UNFINISHED)}|(?:transcripts|sessions|messages|training|index)\b.*\.partial(?:\.\w+)?"
    r"|.*\.(?:md|html|css|js|svg)\.partial"
)


def left_behind(folder: Path) -> list[Path]:
    """The unfinished files that exports which were killed left in *folder*."""
    parts = [folder, *(each for each in folder.iterdir() if each.is_dir() and each.name != MEDIA)]
    found = {each for part in parts for each in (part.glob("**/*") if part != folder else part.iterdir())}
    return sorted(each for each in found if LEFT.fullmatch(each.name) and not each.is_dir())


def note_begun(folder: Path, begun: ProjectFiles) -> None:
    """Note what an export is about to write, so that the next one knows it as ours if this one is killed."""
    path = folder / UNFINISHED
    path.unlink(missing_ok=True)
    with open(path, "xb", opener=private) as file:
        file.write(canonical(Manifest.of([begun], None)))
    path.replace(folder / BEGUN)


def forget_begun(folder: Path) -> None:
    """Remove that note: a manifest is there."""
    (folder / BEGUN).unlink(missing_ok=True)


def refuse_foreign_files(folder: Path, names: Sequence[str], found: FolderContent) -> None:
    """Refuse to replace the manifest or what has one of *names* if no export wrote it."""
    for each in (MANIFEST, *names):
        if not _is_ours(folder, each, found):
            raise StoreUnreachable(
                f"No export wrote {folder / each}, so it is not replaced. "
                "Use another folder, or replace it with overwrite=True."
            )


def _is_ours(folder: Path, name: str, found: FolderContent) -> bool:
    path = folder / name
    if name.endswith("/") and path.is_dir() and not path.is_symlink():
        # A killed export may leave folders, and files that it had not finished.
        content = [each for each in path.rglob("*") if not each.is_dir() and each.suffix != ".partial"]
        return any(each.startswith(name) for each in found.files) or not content
    start = _start_of(path)
    if start is None:
        return False
    if name == MANIFEST:
        return not start or _is_manifest(start)
    return not start or name in found.files or (name.endswith(".jsonl") and _is_transcripts(start))


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
