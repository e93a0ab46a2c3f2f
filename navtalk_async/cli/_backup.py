"""`navtalk backup`: a copy of an archive."""

from pathlib import Path

import click

from navtalk_async.archive import is_url, redacted
from navtalk_async.cli._inspect import readable
from navtalk_async.cli._options import Place, command
from navtalk_async.cli._output import Reporter, put_json
from navtalk_async.cli._settings import usage_errors
from navtalk_async.cli.app import Exit, run
from navtalk_async.formats.backup import IS_ON_A_SERVER, backup


@command("place", "copy", "as_json")
def backup_command(*, place: Place, copy: Path, as_json: bool) -> int:
    """Copy an archive into a file, as of one moment, while others write to it.

    FILE is an archive like STORE then. The copy is checked before it is put in its place, where it replaces
    an earlier copy of the same archive, and nothing else. An archive in PostgreSQL is left to pg_dump.

    Examples:
      navtalk backup archive.db /backups/archive.db
      navtalk backup out archive-2026-11-27.db --json
    """
    if is_url(place):
        raise click.UsageError(IS_ON_A_SERVER)
    reporter = Reporter(errors_as_json=as_json)

    async def work() -> int:
        async with readable(place, immutable=False) as archive:
            with usage_errors():
                made = await backup(archive, copy)
        if as_json:
            file = {"file": str(copy), "bytes": made.bytes, "sha256": made.sha256}
            await put_json({"command": "backup", "exit_code": 0, "store": redacted(place), **file})
        else:
            reporter.note(f"{redacted(place)} is copied to {copy}: {made.bytes:,} bytes.")
        return Exit.OK

    return run(work(), reporter)
