"""`navtalk forget`: erase sessions from an archive, and what was exported of them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from navtalk_async.archive import Archive, Forgotten, is_url
from navtalk_async.cli._inspect import readable, without_users
from navtalk_async.cli._options import Place, command
from navtalk_async.cli._output import Reporter, amount, first_of, put_json
from navtalk_async.cli.app import Exit, run
from navtalk_async.errors import counted
from navtalk_async.formats import chosen_projects, forgotten_files

FILES_SHOWN = 10

OF_A_SERVER = (
    "The server's own log (WAL), its replicas and its backups keep what they have until they are recycled."
)


@command(
    *(
        "place",
        "sessions",
        "user_id",
        "before",
        "dry_run",
        "files",
        "files_folder",
        "only_project",
        "as_json",
    ),
    has_variables=False,
)
def forget_command(
    *,
    place: Place,
    sessions: Sequence[str],
    user_id: str | None,
    before: datetime | None,
    dry_run: bool,
    files: bool,
    files_folder: Path | None,
    only_project: str | None,
    as_json: bool,
) -> int:
    """Erase sessions from an archive for good, and never fetch them again.

    Give one of --session, --user and --before. What is erased is gone from all tables, the history of
    messages, the change feed, the log and free pages; a hash of each id stays. Exported files and media that
    may still hold it are named, or with --files removed; the same export writes the files anew. Exit code 3:
    something is left, and is named. The same command again completes one that was stopped.

    Examples:
      navtalk forget out --user 4711 --dry-run
      navtalk forget out --session 35c18b55-dede-11f0-92bc-000e1eed4a72 --files
      navtalk forget postgresql://me@db/chats --before 2024-01-01
    """
    if [bool(sessions), user_id is not None, before is not None].count(True) != 1:
        raise click.UsageError("Give one of --session, --user and --before.")
    reporter = Reporter(errors_as_json=as_json)

    async def work() -> int:
        async with readable(place, immutable=False) as reader:
            projects = await chosen_projects(reader, only_project)
            folder = files_folder or (None if reader.path is None else reader.path.parent)
            if files and folder is None:
                raise click.UsageError("A database has no folder: give --dest with --files.")
            if dry_run:
                found = await reader.forget(
                    only_project, sessions=sessions, user=user_id, before=before, dry_run=True
                )
            where = place if reader.path is None else reader.path
        left: list[Path] = []
        if not dry_run:
            async with Archive.open(where) as archive:
                found = await archive.forget(only_project, sessions=sessions, user=user_id, before=before)
                if folder is not None:
                    left = await forgotten_files(archive, folder, remove=files)
        is_partial = bool(found.left or (left and not files))
        code = Exit.PARTIAL if is_partial else Exit.OK
        if as_json:
            said = {"sessions": found.sessions, "messages": found.messages, "left": found.left}
            paths = {"files": list(map(str, left)), "removed": files}
            await put_json({"command": "forget", "exit_code": int(code), "dry_run": dry_run, **said, **paths})
        said_of_users = without_users(projects, user_id)
        for sentence in [*said_of_users, *_sentences(found, left, dry_run=dry_run, removed=files)]:
            reporter.note(sentence)
        if not dry_run and is_url(place):
            reporter.note(OF_A_SERVER)
        return code

    return run(work(), reporter)


def _sentences(found: Forgotten, left: Sequence[Path], *, dry_run: bool, removed: bool) -> list[str]:
    held = amount(len(found.sessions), found.messages)
    lines = [f"{'Would erase' if dry_run else 'Erased'} {held}.", *found.left]
    if left:
        files = counted(len(left), "file")
        lines.append(f"Removed {files}:" if removed else f"{files} may hold them; --files removes them:")
        lines += first_of([f"  {each}" for each in left], FILES_SHOWN)
    return lines
