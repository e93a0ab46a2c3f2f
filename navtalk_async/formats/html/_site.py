"""The files of an archive of pages, written as its transcripts come, in flat memory."""

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from navtalk_async.formats._format import Target
from navtalk_async.formats._markdown import page_name
from navtalk_async.formats._media_index import MEDIA, media_files
from navtalk_async.formats._tables import Fields
from navtalk_async.formats.html._chat import SIDES
from navtalk_async.formats.html._index import SearchIndex
from navtalk_async.formats.html.pages import (
    A_LIST,
    A_PAGE,
    ListedSession,
    ListView,
    Site,
    assets,
    data_script,
    listed_session,
    overview_page,
    search_page,
    sessions_page,
    transcript_page,
)
from navtalk_async.formats.overview import Overview, facts_of
from navtalk_async.formats.words import IGNORED, LONGEST_WORD, UNSPACED

SESSIONS_A_FILE = 2_000
TEXTS_A_FILE = 1 << 15
"""Characters."""

NO_NAME = "Chat archive"

SIDE_NUMBERS = {"user": 1, "assistant": 2}


class _Waiting(NamedTuple):
    """A transcript that is written when the next one is known."""

    transcript: Fields
    listed: ListedSession
    earlier: ListedSession | None


class SiteWriter:
    """A `with` that writes the pages of transcripts into *folder*, whose name ends with a slash; all of it is
    to be done in a thread.
    """

    def __init__(self, target: Target, folder: str) -> None:
        self._target, self._folder, self._stack = target, folder, ExitStack()
        self._overview, self._projects = Overview(), dict[str, None]()
        self._waiting: _Waiting | None = None
        self._latest: deque[ListedSession] = deque(maxlen=A_LIST)
        self._index = SearchIndex(target.folder)
        self._recordings = dict[str, dict[str, str]]()
        self._messages = 0
        # What the next files of data will hold, and how the ones before begin.
        self._rows, self._counts, self._texts = list[Any](), list[list[int]](), list[str]()
        self._size = 0
        self._lists, self._blocks = list[int](), list[int]()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._index)
        for name, data in assets().items():
            self._put(f"assets/{name}", data)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, transcripts: Sequence[Fields]) -> None:
        """Add the next transcripts."""
        for each in transcripts:
            self._projects[each["project"]] = None
            self._overview.add(facts_of(each))
            listed = listed_session(self._site("../"), each, len(each["messages"]))
            before = self._waiting
            self._put_waiting(later=listed)
            self._waiting = _Waiting(each, listed, before and before.listed)
            self._add_data(each, listed)

    def finish(self) -> None:
        """Write what holds all of them."""
        self._put_waiting(later=None)
        self._put_rows()
        self._put_texts()
        words = [self._put_words(number, some) for number, some in enumerate(self._index.shards())]
        index = {
            "words": words,
            "texts": self._blocks,
            "lists": self._lists,
            "messages": self._messages,
            "page": A_PAGE,
            "unspaced": UNSPACED.pattern,
            "ignored": IGNORED.pattern,
            "longest": LONGEST_WORD,
        }
        self._put_data("index", index)
        site = self._site("", *self._projects)._replace(
            data={"data": "data/", "lists": str(len(self._lists))}
        )
        view = ListView(total=self._overview.sessions)
        statuses = sorted(self._overview.statuses.keys() - {"unknown"})
        latest, is_mixed = reversed(self._latest), len(self._projects) > 1
        self._put("index.html", overview_page(site, self._overview))
        self._put("sessions.html", sessions_page(site, latest, view, statuses, shows_project=is_mixed))
        self._put("search.html", search_page(site))

    def _site(self, root: str, *projects: str) -> Site:
        """The links of the pages of *projects*, in the folder that is *root* away from the whole."""
        return Site(
            title=projects[0] if len(projects) == 1 and projects != ("default",) else NO_NAME,
            overview=f"{root}index.html",
            sessions=f"{root}sessions.html",
            search=f"{root}search.html",
            assets=f"{root}assets/",
            session=_name_of_page if root else _address_of_page,
        )

    def _put_waiting(self, later: ListedSession | None) -> None:
        if self._waiting is None:
            return
        transcript, _, earlier = self._waiting
        site, messages = self._site("../", transcript["project"]), transcript["messages"]
        for number in range(max(1, -(-len(messages) // A_PAGE))):
            first = number * A_PAGE
            some = messages[first : first + A_PAGE]
            page = transcript_page(
                site,
                transcript,
                some,
                total=len(messages),
                page=number,
                earlier=earlier,
                later=later,
                before=messages[first - 1]["created_at"] if first else None,
                recording="" if number else self._recording(transcript["project"], transcript["id"]),
            )
            self._put(_address_of_page(transcript["project"], transcript["id"], number), page, rows=len(some))

    def _recording(self, project: str, session_id: str) -> str:
        """The address of a video that was downloaded, if it was."""
        if project not in self._recordings:
            entries = media_files(self._target.folder, project)
            self._recordings[project] = {each.session: each.name for each in entries if each.message is None}
        name = self._recordings[project].get(session_id)
        return f"../../{MEDIA}/{quote(name)}" if name else ""

    def _add_data(self, transcript: Fields, listed: ListedSession) -> None:
        listed = listed._replace(address=_address_of_page(transcript["project"], transcript["id"], 0))
        self._latest.append(listed)
        counts: list[int] = []
        for each in transcript["messages"]:
            text = each["content"] or ""
            counts.append(self._index.add(text) * 4 + SIDE_NUMBERS.get(SIDES.get(each["role"], ""), 0))
            self._texts.append(text)
            self._messages += 1
            self._size += len(text)
            if self._size >= TEXTS_A_FILE:
                self._put_texts()
        self._counts.append(counts)
        self._rows.append((*listed, listed.duration))
        if len(self._rows) >= SESSIONS_A_FILE:
            self._put_rows()

    def _put_rows(self) -> None:
        if self._rows:
            number = len(self._lists)
            self._put_data(f"list-{number}", self._rows)
            self._put_data(f"counts-{number}", self._counts)
            self._lists.append(self._overview.sessions - len(self._rows))
            self._rows, self._counts = [], []

    def _put_texts(self) -> None:
        if self._texts:
            self._put_data(f"texts-{len(self._blocks)}", self._texts)
            self._blocks.append(self._messages - len(self._texts))
            self._texts, self._size = [], 0

    def _put_words(self, number: int, some: Sequence[str]) -> str:
        self._put_data(f"words-{number}", some)
        return some[0]

    def _put_data(self, name: str, value: Any) -> None:
        self._put(f"data/{name}.js", data_script(name, value))

    def _put(self, name: str, data: bytes, rows: int = 0) -> None:
        self._target.written.append(self._target.put_file(f"{self._folder}{name}", data, rows))


@lru_cache(1_024)
def _name_of_page(project: str, session_id: str, number: int) -> str:
    return f"{page_name(project, session_id, number).removesuffix('.md')}.html"


def _address_of_page(project: str, session_id: str, number: int) -> str:
    return f"s/{_name_of_page(project, session_id, number)}"
