"""One run of a sync, from what an earlier one left to the last session that is new.

A run fetches what an earlier one left pending, then lists on: from where an interrupted listing stopped,
or else from a day before the latest session known. Each page of the listing is journalled, sessions and
places together, before it is worked at; a session is pending from then until its messages are kept. So
whatever a run is killed by, the next one continues, and asks again for no more than the sessions and pages
that were under way.
"""

from collections.abc import Awaitable
from datetime import timedelta
from functools import partial
from typing import Literal

from navtalk_async.client import NavTalkClient
from navtalk_async.errors import NavTalkError, NotFound, StoreMismatch
from navtalk_async.models import Request, Session
from navtalk_async.observe import ListedPlainly
from navtalk_async.pool import Width
from navtalk_async.short_pages import Audit, ShortPages, checked_short_pages
from navtalk_async.store.commits import GroupCommit
from navtalk_async.store.store import Standing, Store
from navtalk_async.sync.fetch import OF_ONE_ANSWER, Fetching
from navtalk_async.sync.progress import Progress
from navtalk_async.sync.scope import Scope
from navtalk_async.sync.wanted import Listed, first_page
from navtalk_async.wire.limits import Concurrency

__all__ = ["OVERLAP", "sync"]

OVERLAP = timedelta(hours=24)
"""How far behind the latest known session the next listing begins: rows may be filled in late, and a
session changes after it was listed."""


async def sync(
    client: NavTalkClient,
    store: Store,
    *,
    project: str = "default",
    scope: Scope | None = None,
    concurrency: Concurrency = "auto",
    listing: Literal["auto", "serial"] = "auto",
    short_pages: ShortPages = "follow",
    overlap: timedelta = OVERLAP,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Progress:
    """Bring *project* in *store* up to date; run it again to continue, whatever ended it.

    Arguments:
        client: what to ask with.
        store: an open store.
        project: the name under which the key's project is kept.
        scope: which sessions and messages; the same in every run.
        concurrency: the most requests in flight at once; `"auto"` leaves it to the client's own limit.
        listing: `"auto"` walks the list of sessions from many places at once where it is waited for,
            `"serial"` page by page.
        short_pages: `"follow"` believes that a session's messages have ended when the API says so; `"audit"`
            when a page is short as well, and watches that: see `short_pages`.
        overlap: how far behind the latest known session the listing begins.
        retry_failed: try again what failed for good in earlier runs.
        progress: is kept up to date while the run goes on.

    Raises:
        ValueError: a *scope* that cannot be right; before anything is asked or kept.
        StoreMismatch: the project in the store is of another API, scope or key.
        StoreError: the store does not work.
        NavTalkError: the run cannot go on; what was fetched is kept.
    """
    scope, progress = scope or Scope(), progress or Progress()
    checked_short_pages(short_pages)
    check_scope(client, scope)
    bulk = client.using(lane="bulk")
    width = Width(bulk, concurrency)
    list_sessions = width.bound(bulk.sessions.page)

    @width.bound
    def get_session(request: Request) -> Awaitable[Session]:
        return bulk.ask(request, client.dialect.read_session)

    standing = await store.claim(
        project, api=client.dialect.api, scope=scope.text(), retry_failed=retry_failed
    )
    commits = GroupCommit(partial(store.keep, project))
    fetching = Fetching(
        client.dialect,
        store,
        commits,
        project=project,
        role=scope.role,
        audit=Audit(refuted=standing.refuted) if short_pages == "audit" else None,
        progress=progress,
        list_sessions=list_sessions,
        list_messages=width.bound(bulk.messages.page),
        get_session=get_session,
        at_once=width,
    )
    listed = Listed(
        client.dialect,
        store,
        project=project,
        scope=scope,
        progress=progress,
        list_sessions=list_sessions,
        get_session=get_session,
        walkers=1 if listing == "serial" else width.walkers,
        is_awaited=lambda: fetching.is_idle,
        on_doubt=lambda reason: client.announce(ListedPlainly(reason)),
    )
    progress.failed = standing.failed
    progress.resumed = bool(standing.places or standing.pending)
    await check_key(client, standing, project)
    async with commits:
        await fetching.all(listed.wanted(standing, overlap))
    progress.failed = (await store.counts(project)).failed
    return progress


def check_scope(client: NavTalkClient, scope: Scope) -> None:
    """Refuse filters that cannot be right, before a project is bound to them."""
    first_page(client.dialect, scope, scope.start)
    for each in scope.sessions:
        client.dialect.checked_id(each)


async def check_key(client: NavTalkClient, standing: Standing, project: str) -> None:
    """Make sure that the key belongs to the *project*: sessions that are surely in it can be seen."""
    trouble: NavTalkError | None = None
    for session_id in standing.known:
        try:
            await client.ask(client.dialect.get_session(session_id), client.dialect.read_session)
        except NotFound:
            continue
        except OF_ONE_ANSWER as error:
            trouble = error
            continue
        return
    if trouble is not None:
        raise trouble
    if standing.known:
        raise StoreMismatch(
            f"The key belongs to another project: it sees none of {len(standing.known)} sessions that "
            f"{project!r} holds. Use that project's key, or another --project."
        )
