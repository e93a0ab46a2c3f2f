"""The pages of an archive, made of what is read of it when they are asked for."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from contextlib import aclosing
from functools import partial
from itertools import pairwise
from urllib.parse import quote, urlencode

from navtalk_async.archive import Archive
from navtalk_async.archive.listing import COLUMNS, Order, SessionFilter
from navtalk_async.archive.records import ProjectInfo
from navtalk_async.archive.rows import SessionRow
from navtalk_async.formats import chosen_projects, kinds_of, message_fields, session_fields
from navtalk_async.formats.html.pages import (
    A_LIST,
    A_PAGE,
    Hit,
    ListedSession,
    ListView,
    Site,
    TextSpan,
    listed_session,
    overview_page,
    search_page,
    sessions_page,
    transcript_page,
)
from navtalk_async.formats.overview import Overview, read_overview
from navtalk_async.models import SessionStatus
from navtalk_async.view import search as searching

UrlQuery = Mapping[str, str]
"""What stands behind the `?` of an address."""

HITS_A_PAGE = 50
MOST_HITS = 10_000
MOST_PAGES = 1_000_000

STATUSES = [str(each.word) for each in SessionStatus]


class NoSuchPage(Exception):
    """There is nothing of this address; its text is a sentence for the user."""


class Reader:
    """The pages of *archive*, or of one *project* of it, which is called *title*."""

    def __init__(self, archive: Archive, title: str, project: str | None) -> None:
        self._archive, self._title, self._only = archive, title, project
        self._one_search = asyncio.Lock()
        self._overviews: dict[str, tuple[str, asyncio.Task[Overview]]] = {}

    async def close(self) -> None:
        """Stop what is still being read."""
        tasks = [task for _, task in self._overviews.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def overview(self, key: str, _: UrlQuery) -> bytes:
        """The page with the statistics of the project of this *key*, or of all."""
        return overview_page(await self._site(key), await asyncio.shield(await self.prepare(key)))

    async def prepare(self, key: str = "") -> asyncio.Task[Overview]:
        """Begin to read all times for the statistics, unless nothing has changed since that was done, or it
        is being done: of an archive that always changes, the end of a reading would never be seen.
        """
        names = [each.project for each in await self._projects(key)]
        token = await self._archive.latest_token()
        held = self._overviews.get(key)
        if held is None or (held[1].done() and (held[0] != token or _has_failed(held[1]))):
            reading = asyncio.create_task(read_overview(self._archive, names))
            held = self._overviews[key] = token, reading
        return held[1]

    async def sessions(self, key: str, asked: UrlQuery) -> bytes:
        """A page of the list of sessions."""
        projects, site = await self._projects(key), await self._site(key)
        words, status, sort = (asked.get(name, "") for name in ("q", "status", "sort"))
        column: Order | None = next((each for each in COLUMNS if each == sort.removeprefix("-")), None)
        sort = sort if column else "-started"
        page = _page_of(asked)
        # Of one project alone, an index knows the order.
        only = projects[0].project if len(projects) == 1 else None
        wanted = SessionFilter(project=only, status=_status_of(status), words=words.split()[:10])
        found = await self._archive.session_page(
            wanted, column or "started", newest=sort.startswith("-"), first=page * A_LIST, count=A_LIST
        )
        pages = max(1, -(-found.total // A_LIST))
        if page >= pages:
            raise NoSuchPage(f"The list has {pages} pages.")
        rows = [_listed(site, row, count or 0) for row, count in found.rows]

        def address(number: int, by: str) -> str:
            return _address(site.sessions, number, q=words, status=status, sort=by)

        view = ListView(
            words,
            status,
            sort,
            page,
            pages,
            found.total,
            address,
        )
        return sessions_page(site, rows, view, list(dict.fromkeys([*STATUSES, *filter(None, [status])])))

    async def session(self, key: str, asked: UrlQuery) -> bytes:
        """A page of a transcript."""
        projects, site, own_id = await self._projects(key), await self._site(key), asked.get("id", "")
        page, about = _page_of(asked), projects[0] if key else None
        if about is None:
            raise NoSuchPage("The address does not name the project of the session.")
        found = await self._archive.transcript_page(own_id, about.project, first=page * A_PAGE, count=A_PAGE)
        if found is None or page >= max(1, -(-found.total // A_PAGE)):
            raise NoSuchPage("There is no such page of a session: it may have been erased since.")
        session_kind, message_kind = kinds_of(about.api)
        earlier, later = (each and _listed(site, each, 0) for each in (found.earlier, found.later))
        return transcript_page(
            site,
            session_fields(found.session, session_kind),
            [message_fields(each, message_kind) for each in found.messages],
            total=found.total,
            page=page,
            earlier=earlier,
            later=later,
            before=found.before,
        )

    async def search(self, key: str, asked: UrlQuery) -> bytes:
        """What a search finds."""
        projects, site = await self._projects(key), await self._site(key)
        words, role, page = asked.get("q", ""), asked.get("role", ""), _page_of(asked)
        if not words.strip():
            return search_page(site)
        first, last = page * HITS_A_PAGE, (page + 1) * HITS_A_PAGE
        if last > MOST_HITS:
            raise NoSuchPage(f"Only the first {MOST_HITS:,} messages are shown; search for more words.")
        try:
            found = searching.search(
                self._archive,
                words,
                project=projects[0].project if len(projects) == 1 else None,
                role=role or None,
                limit=last + 1,
            )
            # The first search makes the index, and the others wait for it.
            async with self._one_search, aclosing(found) as each_hit:
                hits = [each async for each in each_hit][first:]
        except ValueError as refusal:
            return search_page(site, words, role=role, note=str(refusal))
        some = [_hit(site, each) for each in hits[:HITS_A_PAGE]]
        address = partial(_address, site.search, q=words, role=role)
        note = f"Messages {first + 1:,} to {first + len(some):,}, the newest sessions first."
        return search_page(
            site,
            words,
            some,
            role=role,
            note=note if some else "No message was found.",
            later=address(page + 1) if len(hits) > HITS_A_PAGE else "",
            earlier=address(page - 1) if page else "",
        )

    async def _projects(self, key: str) -> list[ProjectInfo]:
        name = _only_of(key)
        chosen = await chosen_projects(self._archive, self._only)
        projects = [each for each in chosen if name in (None, each.project)]
        if name is not None and not projects:
            raise NoSuchPage("There is no such project.")
        return projects

    async def _site(self, key: str) -> Site:
        projects = await chosen_projects(self._archive, self._only)
        several = [(self._title, "/"), *((each.project, root_of(each.project)) for each in projects)]
        root, name = f"/{key}/" if key else "/", _only_of(key)
        return Site(
            title=self._title if name is None or len(projects) == 1 else name,
            overview=root,
            sessions=f"{root}sessions",
            search=f"{root}search",
            assets="/assets/",
            session=address_of_session,
            is_served=True,
            projects=tuple(several) if len(projects) > 1 else (),
        )


def key_of(project: str) -> str:
    """*project* as a part of an address: browsers resolve a name such as `..`."""
    return "p" + urlsafe_b64encode(project.encode(errors="surrogatepass")).decode().rstrip("=")


def root_of(project: str) -> str:
    """The address of the first page of *project*."""
    return f"/{key_of(project)}/"


def address_of_session(project: str, session_id: str, number: int) -> str:
    """The address of a page of a session; pages count from 0."""
    page = f"&page={number + 1}" if number else ""
    return f"{root_of(project)}session?id={quote(session_id, safe='', errors='surrogatepass')}{page}"


def _only_of(key: str) -> str | None:
    if not key:
        return None
    try:
        return urlsafe_b64decode(key[1:] + "=" * (-len(key[1:]) % 4)).decode(errors="surrogatepass")
    except ValueError:
        raise NoSuchPage("There is no page of this address.") from None


def _address(root: str, page: int, **asked: str) -> str:
    """The address of a page, from 0, of what is *asked* for."""
    named = {name: each for name, each in asked.items() if each} | {"page": str(page + 1)}
    return f"{root}?{urlencode(named, errors='replace')}"


def _page_of(asked: UrlQuery) -> int:
    """The number of the page that is asked for, from 0; in addresses, they count from 1."""
    text = asked.get("page", "1")
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 0 < int(text) <= MOST_PAGES):
        raise NoSuchPage("There is no page of this number.")
    return int(text) - 1


def _status_of(text: str) -> str | int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text or None


def _has_failed(task: asyncio.Task[Overview]) -> bool:
    return task.cancelled() or task.exception() is not None


def _listed(site: Site, row: SessionRow, messages: int) -> ListedSession:
    return listed_session(site, session_fields(row, kinds_of(row.api)[0]), messages)


def _hit(site: Site, found: searching.Hit) -> Hit:
    page, text = found.position // A_PAGE, found.snippet
    ends = [0, *(end for mark in found.marks for end in mark), len(text)]
    parts = [TextSpan(bool(at % 2), text[begin:end]) for at, (begin, end) in enumerate(pairwise(ends))]
    return Hit(
        address=f"{site.session(found.project, found.session_id, page)}#m{found.position}",
        title=found.title or found.session_id,
        who=str(found.role or "unknown"),
        time=(found.created_at or "")[:19].replace("T", " "),
        snippet=[each for each in parts if each.text],
    )
