"""`navtalk search`: find messages of an archive by words in them."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from navtalk_async.cli._inspect import readable, without_users
from navtalk_async.cli._layout import cell, styled, tab_separated
from navtalk_async.cli._options import PRIVACY, Place, command, privacy_of
from navtalk_async.cli._output import Reporter, is_terminal, visible
from navtalk_async.cli._pager import paged
from navtalk_async.cli.app import Exit, run
from navtalk_async.formats import chosen_projects
from navtalk_async.view.search import Hit, search

SILENT_SECONDS = 2.0
INDEXING = "Bringing the index up to date; the first time takes a minute for some million messages."

CELLS = tuple(name for name in Hit.__struct_fields__ if name != "marks")


@command(
    *("place", "text", "only_project", "role", "user_id", "start_time", "end_time", "most_hits"),
    *(PRIVACY, "as_json"),
)
def search_command(
    *,
    place: Place,
    text: str,
    only_project: str | None,
    role: str | int | None,
    user_id: str | None,
    start_time: datetime | None,
    end_time: datetime | None,
    most_hits: int,
    redact: Sequence[Sequence[str]],
    pseudonymize: bytes | None,
    as_json: bool,
) -> int:
    """Find messages of an archive by words in them.

    Messages of the sessions that began last come first. Words are found in any script, whatever their case
    and accents. All words must be there; OR, NOT, parentheses, "phrases" and prefix* say it otherwise. The
    first search makes an index: archive.search.db, or tables in PostgreSQL; later ones bring it up to date.

    Examples:
      navtalk search out refund card
      navtalk search archive.db 'refund* AND ("gift card" OR bank) NOT test'
      navtalk search archive.db 退款 --start 2025-11-01 --json | jq -r .session_id
    """
    reporter, privacy = Reporter(errors_as_json=as_json), privacy_of(redact, pseudonymize)

    async def work() -> int:
        async with readable(place, immutable=False) as archive:
            projects = await chosen_projects(archive, only_project)
            hits = search(
                archive,
                text,
                project=only_project,
                role=role,
                user_id=user_id,
                start_time=start_time,
                end_time=end_time,
                limit=most_hits,
                privacy=privacy,
            )
            note = asyncio.get_running_loop().call_later(SILENT_SECONDS, reporter.note, INDEXING)
            try:
                async with aclosing(hits):
                    found = [each async for each in hits]
            finally:
                note.cancel()
        rows = [msgspec.structs.asdict(each) for each in found]
        async with paged() as pages:
            if as_json:
                await pages.put_json(*rows)
            elif is_terminal():
                await pages.put("\n".join(map(_shown, found)))
            elif rows:
                await pages.put(tab_separated(CELLS, rows, header=True))
        if not found:
            for sentence in ["No message was found.", *without_users(projects, user_id)]:
                reporter.note(sentence)
        elif len(found) == most_hits:
            reporter.note(f"These are the first {most_hits:,}; --limit shows more.")
        return Exit.OK

    return run(work(), reporter)


def _shown(hit: Hit) -> str:
    """A heading, and the text with what was found in bold."""
    facts: list[Any] = [(hit.start_time or "").replace("T", " ")[:19], hit.session_id, f"#{hit.position}"]
    facts += [hit.role, hit.title, None if hit.project == "default" else hit.project]
    text, at = "", 0
    for start, end in hit.marks:
        text += _line(hit.snippet[at:start]) + styled(_line(hit.snippet[start:end]), "bold")
        at = end
    return f"{'  '.join(cell(each) for each in facts if each)}\n    {text}{_line(hit.snippet[at:])}\n"


def _line(text: str) -> str:
    return visible(text.replace("\n", " ").replace("\t", " "))
