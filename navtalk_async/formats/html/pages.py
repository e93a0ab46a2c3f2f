"""The pages of an archive, as functions of values: for files that a browser opens, and for a server.

All that comes from chats is escaped by Jinja, or is JSON in files of its own; each page has a policy by
which no script runs but ours. Pages work from a disk, without network, and transcripts without scripts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from navtalk_async.formats._tables import Fields
from navtalk_async.formats.html._charts import overview_charts
from navtalk_async.formats.html._chat import as_json, chat_of
from navtalk_async.formats.html._shown import (
    TextSpan,
    seconds_between,
    shown,
    shown_session,
    shown_span,
    shown_time,
    title_of,
)
from navtalk_async.formats.overview import Overview

if TYPE_CHECKING:
    from jinja2 import Environment, Template
    from markupsafe import Markup

__all__ = [
    "A_LIST",
    "A_PAGE",
    "Hit",
    "ListView",
    "ListedSession",
    "Neighbour",
    "Site",
    "TextSpan",
    "assets",
    "data_script",
    "listed_session",
    "overview_page",
    "policy",
    "search_page",
    "sessions_page",
    "transcript_page",
]

A_PAGE = 500
"""Messages on a page of a transcript: the message at position 1234 is `#m1234` of page 2, from 0."""

A_LIST = 100
"""Sessions in a list."""


class Site(NamedTuple):
    """An archive, and the addresses in the links from one of its pages to the others.

    Attributes:
        title: what the archive is called.
        overview, sessions, search: addresses of the pages of these names.
        assets: what the names in `assets()` stand behind in an address.
        session: the address of a page of a session, by project, id and number of the page, from 0.
        is_served: whether a server answers the forms of the list and of the search.
        data: where the files of data are, and what they hold, for the list and the search without a server.
        projects: names and addresses of the archive's projects, if pages show only one of several.
    """

    title: str
    overview: str
    sessions: str
    search: str
    assets: str
    session: Callable[[str, str, int], str]
    is_served: bool = False
    data: Mapping[str, str] | None = None
    projects: Sequence[tuple[str, str]] = ()


class Neighbour(NamedTuple):
    """What a transcript's page leads on to."""

    text: str
    address: str


class ListedSession(NamedTuple):
    """A session in a list."""

    address: str
    title: str
    id: str
    started: str
    lasted: float | None
    status: str
    user: str
    messages: int
    project: str
    is_deleted: bool

    @property
    def duration(self) -> str:
        """How long it lasted, in words."""
        return "" if self.lasted is None else shown_span(self.lasted)


class ListView(NamedTuple):
    """Which part of a list is shown.

    Attributes:
        words, status: what was searched for.
        sort: the column by which it is sorted, with `-` before it for the largest first.
        page, pages: the number of the page, from 0, and how many there are.
        total: how many sessions were found.
        address: of the page of a number, and of the list in another order, by `page` and `sort`.
    """

    words: str = ""
    status: str = ""
    sort: str = "-started"
    page: int = 0
    pages: int = 1
    total: int = 0
    address: Callable[[int, str], str] = lambda _page, _sort: ""


class Hit(NamedTuple):
    """A message that a search found; *snippet* are parts of its text, what was searched for is special."""

    address: str
    title: str
    who: str
    time: str
    snippet: Sequence[TextSpan]


def policy(*, is_served: bool) -> str:
    """The Content-Security-Policy of the pages."""
    forms = "'self'" if is_served else "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"media-src 'self' https: http:; base-uri 'none'; form-action {forms}"
    )


def overview_page(site: Site, overview: Overview) -> bytes:
    """What stands first: numbers and charts of all sessions."""
    return _rendered("overview.html", site, here="Overview", **overview_charts(site, overview))


def sessions_page(
    site: Site,
    rows: Iterable[ListedSession],
    view: ListView,
    statuses: Sequence[str] = (),
    *,
    shows_project: bool = False,
) -> bytes:
    """A list of sessions, to be filtered by words and by one of *statuses*."""
    return _rendered(
        "sessions.html",
        site,
        here="Sessions",
        rows=list(rows),
        view=view,
        statuses=statuses,
        columns=COLUMNS,
        shows_project=shows_project,
    )


COLUMNS = {
    "started": "Started",
    "title": "Session",
    "status": "Status",
    "user": "User",
    "messages": "Messages",
    "lasted": "Lasted",
}
"""The columns of a list, by which it can be sorted, with their headings."""


def search_page(
    site: Site,
    words: str = "",
    hits: Sequence[Hit] = (),
    *,
    role: str = "",
    note: str = "",
    later: str = "",
    earlier: str = "",
) -> bytes:
    """What a search for *words* found.

    Arguments:
        role: of messages, `user` or `assistant`; those of all by default.
        note: how much was found, or why nothing can be.
        later, earlier: addresses of more.
    """
    return _rendered(
        "search.html",
        site,
        here="Search",
        words=shown(words),
        role=role,
        hits=hits,
        note=note,
        later=later,
        earlier=earlier,
    )


def transcript_page(
    site: Site,
    session: Fields,
    messages: Sequence[Fields],
    *,
    total: int,
    page: int = 0,
    earlier: ListedSession | None = None,
    later: ListedSession | None = None,
    before: str | None = None,
    recording: str = "",
) -> bytes:
    """A page of a transcript.

    Arguments:
        session: its columns, as `transcript_fields` makes them; `messages` need not be among them.
        messages: those of the page, `A_PAGE` at most.
        total: how many messages the session has.
        page: the number of the page, from 0.
        earlier, later: the sessions before and behind it.
        before: when the message before the first one of the page was written.
        recording: the address of a copy of the session's video.
    """
    project, own_id = session["project"], session["id"]
    pages = [site.session(project, own_id, number) for number in range(max(1, -(-total // A_PAGE)))]
    back = _step(pages, page - 1, "Previous page", earlier, "Previous session")
    on = _step(pages, page + 1, "Next page", later, "Next session")
    return _rendered(
        "transcript.html",
        site,
        here="",
        about=shown_session(session, total),
        recording=recording,
        chat=chat_of(messages, before),
        extra=as_json(session["extra"]) if page == 0 and "extra" in session else "",
        first=page * A_PAGE,
        page=page,
        pages=pages,
        numbers=[(number, None if number is None else pages[number]) for number in _around(page, len(pages))],
        earlier=back,
        later=on,
    )


def _step(
    pages: Sequence[str], to: int, text: str, session: ListedSession | None, otherwise: str
) -> Neighbour | None:
    if 0 <= to < len(pages):
        return Neighbour(text, pages[to])
    return None if session is None else Neighbour(otherwise, session.address)


def _around(page: int, count: int) -> list[int | None]:
    """The numbers of pages that are worth a link; None for those left out between them."""
    near = sorted({0, count - 1, *range(max(0, page - 2), min(count, page + 3))})
    numbers: list[int | None] = []
    for each in near:
        if numbers and each - (numbers[-1] or 0) > 1:
            numbers.append(None)
        numbers.append(each)
    return numbers


def listed_session(site: Site, session: Fields, messages: int) -> ListedSession:
    """A *session* of so many *messages* as it stands in a list."""
    return ListedSession(
        address=site.session(session["project"], session["id"], 0),
        title=title_of(session),
        id=shown(session["id"]),
        started=shown_time(session["start_time"]),
        lasted=seconds_between(session["start_time"], session["end_time"]),
        status=shown(session["status"]),
        user=shown(session["user_id"]),
        messages=messages,
        project=shown(session["project"]),
        is_deleted=session["deleted_at"] is not None,
    )


def assets() -> dict[str, bytes]:
    """The files that pages need beside them, by their names."""
    return {each.name: each.read_bytes() for each in files(str(__package__)).joinpath("assets").iterdir()}


def data_script(name: str, value: Any) -> bytes:
    """A script that hands *value* to our scripts: a browser loads no other files from a disk."""
    text = msgspec.json.encode([name, value]).decode()
    for each in "<>&\u2028\u2029":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return f"navtalkData({text[1:-1]});\n".encode()


def _rendered(name: str, site: Site, here: str, **values: Any) -> bytes:
    top = _top(site._replace(data=None, projects=tuple(site.projects)), here)
    return (
        _template(name)
        .render(site=site, here=here, top=top, policy=policy(is_served=site.is_served), **values)
        .encode()
    )


@lru_cache(64)
def _top(site: Site, here: str) -> "Markup":
    """What is the same on many pages."""
    from markupsafe import Markup  # noqa: PLC0415 - an extra

    return Markup(_template("top.html").render(site=site, here=here))  # noqa: S704 - a template escapes


@cache
def _template(name: str) -> "Template":
    return _environment().get_template(name)


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - an extra

    return Environment(
        loader=PackageLoader(str(__package__), "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
