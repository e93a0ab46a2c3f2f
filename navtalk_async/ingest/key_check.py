"""Whether a key belongs to a project of an archive."""

from navtalk_async.archive import Archive
from navtalk_async.client import Client, inside
from navtalk_async.errors import BadRequest, DeadlineExceeded, NavTalkError, NotFound, StoreMismatch
from navtalk_async.ingest.reread_rules import OVERLAP
from navtalk_async.ingest.scope import Scope
from navtalk_async.listing.fetch import fault_scope
from navtalk_async.times import parse_time

__all__ = ["check_key"]


async def check_key(
    client: Client, archive: Archive, project: str, scope: Scope, *, watermark: str | None
) -> None:
    """Make sure that the key belongs to the *project*: it can see sessions that are certainly in it.

    Should all of them be gone, the end of the listing is looked at before the key is blamed.

    Raises:
        StoreMismatch: the key is of another project.
        NavTalkError: the API cannot be asked.
    """
    known_sessions = await archive.known_sessions(project)
    trouble: NavTalkError | None = None
    for session_id in known_sessions:
        try:
            await client.ask(client.dialect.get_session(session_id), client.dialect.read_session)
        except NotFound:
            continue
        except NavTalkError as error:
            # These would cost as much for the next session.
            if fault_scope(error) == "run" or isinstance(error, BadRequest | DeadlineExceeded):
                raise
            trouble = error
            continue
        return
    if trouble is not None:
        raise trouble
    if known_sessions and not await _lists_known(client, archive, project, scope, watermark):
        raise StoreMismatch(
            f"The server has none of {len(known_sessions)} sessions that {project!r} holds: the key is "
            "of another project, or it is another server. Use the right key and address; or another "
            "--project, also if everything was deleted there."
        )


async def _lists_known(
    client: Client, archive: Archive, project: str, scope: Scope, watermark: str | None
) -> bool:
    """Whether the sessions around the watermark, or first in the list, are this *project*'s."""
    start, dialect = parse_time(watermark), client.dialect
    try:
        whole = Scope(user_id=scope.user_id).first_page(dialect)
    except ValueError:
        return False  # An API that wants to know whose sessions they are, asked for some by their ids alone.
    request = whole if start is None else dialect.starting_at(whole, start - OVERLAP) or whole
    page = await inside(client).page_of_sessions(request)
    return await archive.contains(project, [session.id for session in page.items])
