"""How an archive is handed on: the files of each format, and a manifest with their checksums."""

from navtalk_async.formats._export import FORMATS, check_folder, chosen_projects, export, withdraw
from navtalk_async.formats._folder import (
    ARCHIVE,
    MANIFEST,
    Failure,
    Manifest,
    ProjectFiles,
    found_in,
    read_manifest,
)
from navtalk_async.formats._format import (
    Format,
    WrittenFile,
    message_fields,
    session_fields,
    transcript_fields,
)

__all__ = [
    "ARCHIVE",
    "FORMATS",
    "MANIFEST",
    "Failure",
    "Format",
    "Manifest",
    "ProjectFiles",
    "WrittenFile",
    "check_folder",
    "chosen_projects",
    "export",
    "found_in",
    "message_fields",
    "read_manifest",
    "session_fields",
    "transcript_fields",
    "withdraw",
]
