"""Markdown: a file a conversation, long ones cut into pages, and an index of all.

Texts are shown as they were written: whatever is syntax of Markdown or HTML in them is escaped.
"""

import os
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from urllib.parse import quote

from anyio import to_thread

from navtalk_async.formats._format import Format, Target, Write
from navtalk_async.formats._tables import Batch, Fields

A_PAGE = 1_000
"""Messages."""

LONGEST_NAME = 100

SYNTAX = re.compile(r"[\\`*_\[\]<>&|~$]|^[#+\-=:]|(?<=^\d)[.)]|(?<=\d)[.)](?=\s)", re.MULTILINE)
"""What may be syntax, wherever it stands or at the begin of a line."""

UNSEEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
AT_AN_END = re.compile(r"^\s+|\s+$")
FOLDER = "markdown"


def _names(_: object) -> Sequence[tuple[str, str]]:
    return [(FOLDER, "/")]


@asynccontextmanager
async def _open(target: Target) -> AsyncGenerator[Write, None]:
    folder = target.name(*_names(None)[0])

    async def write(batch: Batch) -> None:
        def pages() -> bytes:
            return "".join([_put_pages(target, folder, each) for each in batch.transcripts]).encode()

        await index.write(pages, rows=len(batch.transcripts))

    async with target.file(f"{folder}index.md") as index:
        await index.write(HEAD.encode)
        yield write
        # Once for all pages; to wait for the disk for each of them takes minutes.
        if hasattr(os, "sync"):
            await to_thread.run_sync(os.sync)
    target.written.append(index.written())


HEAD = """# Conversations

| Started | Conversation | Status | Messages |
|---|---|---|---|
"""


def _index_line(session: Fields, name: str) -> str:
    title, count = _one_line(session["title"] or session["id"]), len(session["messages"])
    started, status = _one_line(session["start_time"]), _one_line(session["status"])
    return f"| {started} | [{title}]({name}) | {status} | {count} |\n"


def _put_pages(target: Target, folder: str, session: Fields) -> str:
    """Write the pages of *session*, and return its line of the index."""
    messages = session["messages"]
    names = [
        page_name(session["project"], session["id"], number)
        for number in range(max(1, -(-len(messages) // A_PAGE)))
    ]
    for number, name in enumerate(names):
        some = messages[number * A_PAGE : (number + 1) * A_PAGE]
        page = _page(session, some, number, names)
        target.written.append(target.put_file(f"{folder}{name}", page, rows=len(some)))
    unseen = sum(len(UNSEEN.findall(each["content"])) for each in messages if each["content"])
    target.replaced["control characters by U+FFFD"] += unseen
    return _index_line(session, names[0])


def page_name(project: str, session_id: str, number: int = 0) -> str:
    """The name of a page of a session: one that any system and any link takes."""
    plain = quote(session_id, safe="", errors="surrogatepass").replace("%", "_").replace("~", "_")
    digest = sha256(f"{project}\0{session_id}".encode(errors="surrogatepass")).hexdigest()[:8]
    page = f".{number + 1}" if number else ""
    return f"{plain[:LONGEST_NAME]}-{digest}{page}.md"


def _page(session: Fields, messages: Sequence[Fields], number: int, names: Sequence[str]) -> bytes:
    return "\n".join(_lines(session, messages, number, names)).encode()


def _lines(session: Fields, messages: Sequence[Fields], number: int, names: Sequence[str]) -> Iterator[str]:
    yield f"# {_one_line(session['title'] or session['id'])}\n"
    if number == 0:
        for name in ABOUT:
            if session[name] is not None:
                yield f"- {name.replace('_', ' ').capitalize()}: {_one_line(session[name])}"
        yield ""
    for each in messages:
        who = _one_line(each["role"]) or "unknown"
        yield f"## {each['position'] + 1}\\. {who}, {_one_line(each['created_at'])}\n"
        yield f"{escaped(each['content'] or '')}\n"
    around = [("Previous page", number - 1), ("Next page", number + 1)]
    links = [f"[{text}]({names[to]})" for text, to in around if 0 <= to < len(names)]
    yield "***\n"
    yield " ".join([*links, "[All conversations](index.md)"]) + "\n"


ABOUT = ("id", "status", "start_time", "end_time", "user_id", "video_url", "deleted_at")


def _one_line(value: object) -> str:
    """*value* where Markdown allows no line to end."""
    return "" if value is None else "&#10;".join(map(_escaped_line, _lines_of(str(value))))


def escaped(text: str) -> str:
    """*text* as Markdown that is rendered as *text*: its lines stay lines, and its spaces spaces.

    Control characters become U+FFFD.
    """
    said = text.rstrip("\n")
    # A backslash that ends a paragraph is no line break.
    return "\\\n".join(map(_escaped_line, _lines_of(said))) + "&#10;" * (len(text) - len(said))


def _lines_of(text: str) -> list[str]:
    return UNSEEN.sub("\ufffd", text).split("\n")


def _escaped_line(line: str) -> str:
    return AT_AN_END.sub(_as_references, SYNTAX.sub(r"\\\g<0>", line)).replace("\r", "&#13;")


def _as_references(spaces: re.Match[str]) -> str:
    """Renderers drop spaces at the ends of a line, but not those written by their numbers."""
    return "".join(f"&#{ord(each)};" for each in spaces[0])


MARKDOWN = Format("markdown", _names, _open)
