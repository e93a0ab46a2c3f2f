"""The files of an archive of pages; how browsers show them is looked at in test_html_browsers.py."""

import json
import re
import shutil
from hashlib import sha256
from html.parser import HTMLParser
from itertools import count

import pytest
from html_sites import a_message, a_transcript, write_site
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive, failpoints
from navtalk_async.formats import export, read_manifest
from navtalk_async.formats.html._chat import chat_of
from navtalk_async.formats.html._index import SearchIndex
from navtalk_async.formats.html._shown import LONG_TEXT, folded, parts_of, shown, shown_span
from navtalk_async.formats.html._site import SESSIONS_A_FILE
from navtalk_async.formats.html.pages import A_LIST, A_PAGE
from navtalk_async.formats.words import words
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import verify

TEXTS = st.text(max_size=80) | st.text(alphabet="<>&\"'`= /ab\n\0", max_size=80)


class Bubbles(HTMLParser):
    """The texts of messages, and all tags, as a parser reads them that is not ours."""

    def __init__(self):
        super().__init__()
        self.texts, self.tags = [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if dict(attributes).get("class") == "bubble":
            self.texts.append("")
        self.is_said = tag in ("p", "code")

    def handle_data(self, data):
        if self.texts and self.is_said:
            self.texts[-1] += data

    def handle_endtag(self, _tag):
        self.is_said = False


@settings(max_examples=examples(50))
@given(st.lists(TEXTS.filter(bool), max_size=5), TEXTS)
def test_a_parser_reads_texts_and_roles_as_they_were(texts, word):
    messages = [a_message(at, text, role=word, type=word) for at, text in enumerate(texts)]
    parser = Bubbles()
    parser.feed(chat_of(messages, None))
    parser.close()
    assert parser.texts == [shown(each) for each in texts]
    assert parser.tags <= {"li", "h2", "div", "span", "a", "time", "p"}


@settings(max_examples=examples(50))
@given(st.lists(st.sampled_from(["a b\n", "```\n", "```py\n", "x" * 2_000, " ", "\n", "``"]), max_size=12))
def test_a_text_is_cut_into_parts_and_none_of_it_is_lost(pieces):
    text = "".join(pieces)
    parts = parts_of(text)
    assert re.sub("[`py\n]", "", "".join(each.text for each in parts)) == re.sub("[`py\n]", "", text)
    head, rest = folded(parts)
    assert "".join(each.text for each in [*head, *rest]) == "".join(each.text for each in parts)
    assert sum(len(each.text) for each in head) <= LONG_TEXT


def test_spans_are_in_their_two_largest_units():
    spans = {0: "0 s", 59.6: "1 min", 61: "1 min 1 s", 3_600: "1 h", 90_061: "1 d 1 h", 86_460: "1 d"}
    assert {each: shown_span(each) for each in spans} == spans


@settings(max_examples=examples(30))
@given(
    st.lists(TEXTS | st.text(alphabet="ab \U0001f600\uffee", max_size=40), max_size=20), st.integers(1, 60)
)
def test_the_index_has_each_place_of_each_word_once(tmp_path_factory, texts, a_run):
    expected, place = {}, 0
    with SearchIndex(tmp_path_factory.getbasetemp(), a_run) as index:
        for text in texts:
            found = list(words(text))
            assert index.add(text) == len(found)
            for at, word in enumerate(found, place):
                expected.setdefault(word, []).append(at)
            place += len(found) + 1
        flat = [each for shard in index.shards() for each in shard]
    assert flat[::2] == sorted(expected)
    for word, steps in zip(flat[::2], flat[1::2], strict=True):
        total, places = 0, []
        for step in steps.split(","):
            total += int(step)
            places.append(total)
        assert places == expected[word]


def data_in(folder, name):
    text = (folder / f"html/data/{name}.js").read_text(encoding="utf-8")
    assert not set(text) & set("<>&\u2028\u2029")
    bare = text.removeprefix("navtalkData(").removesuffix(");\n")
    named, value = json.loads(f"[{bare}]")
    assert named == name
    return value


def test_the_data_of_the_search_and_of_the_list_are_of_the_same_sessions(tmp_path):
    count = 3 * SESSIONS_A_FILE // 2
    transcripts = [a_transcript(f"id-{at:04}", ["<b>", "two words"] * (at % 3)) for at in range(count)]
    files = write_site(tmp_path, transcripts)
    index = data_in(tmp_path, "index")
    assert (index["lists"], index["messages"]) == ([0, SESSIONS_A_FILE], 2 * count)
    rows = data_in(tmp_path, "list-0") + data_in(tmp_path, "list-1")
    counts = data_in(tmp_path, "counts-0") + data_in(tmp_path, "counts-1")
    assert [(row[2], row[7]) for row in rows] == [(each["id"], len(each["messages"])) for each in transcripts]
    assert [len(each) for each in counts] == [len(each["messages"]) for each in transcripts]
    assert counts[2] == [1 * 4 + 1, 2 * 4 + 2] * 2
    texts = [each for at in range(len(index["texts"])) for each in data_in(tmp_path, f"texts-{at}")]
    assert texts == ["<b>", "two words"] * count
    assert all((tmp_path / "html" / row[0]).is_file() for row in rows)
    listed = (tmp_path / "html/sessions.html").read_text(encoding="utf-8")
    assert listed.count("<tr>") == 1 + A_LIST
    assert {f"html/{row[0]}" for row in rows} <= files.keys()


def test_several_projects_in_one_site_are_told_apart(tmp_path):
    many = [a_transcript(f"id-{at}", project="alpha" if at < 5 else "beta") for at in range(A_LIST + 10)]
    files = write_site(tmp_path, many)
    heading = '<th scope="col">Project</th>'
    assert heading in (tmp_path / "html/sessions.html").read_text(encoding="utf-8")
    pages = [(tmp_path / name).read_text(encoding="utf-8") for name in files if "/s/" in name]
    brands = ("<bdi>alpha</bdi></span>", "<bdi>beta</bdi></span>")
    assert [sum(brand in each for each in pages) for brand in brands] == [5, A_LIST + 5]
    write_site(tmp_path, many[:1])
    assert heading not in (tmp_path / "html/sessions.html").read_text(encoding="utf-8")


def test_a_session_of_many_messages_has_small_pages(tmp_path):
    files = write_site(tmp_path, [a_transcript("long", [f"message {at}" for at in range(A_PAGE * 20 + 1)])])
    pages = {name: each for name, each in files.items() if name.startswith("html/s/")}
    assert sum(each.rows for each in pages.values()) == A_PAGE * 20 + 1
    assert len(pages) == 21
    assert max(each.bytes for each in pages.values()) < 600 * A_PAGE


@pytest.fixture
async def scene(tmp_path):
    """An archive that grows."""
    world = World(12)
    async with Sandbox(world) as box, NavTalkClient("key", base_url=box.navtalk_url) as client:
        async with Archive.open(tmp_path / "archive.db") as archive:

            async def grow():
                world.add_session()
                await sync(client, archive)

            await grow()
            yield archive, grow, tmp_path / "out"


def pages_in(folder):
    return {each.name: each.stat().st_mtime_ns for each in (folder / "html/s").iterdir()}


async def test_only_what_changed_is_written_again_and_the_manifest_lists_every_file(scene):
    archive, grow, out = scene
    await export(archive, out, formats="html")
    before = pages_in(out)
    await grow()
    manifest = await export(archive, out, formats="html")
    after = pages_in(out)
    # The new session, and those beside it, which lead to it.
    assert len(after.items() - before.items()) <= 3
    assert len(after) == len(before) + 1
    there = {each.relative_to(out).as_posix() for each in out.rglob("*") if each.is_file()}
    assert there == {"manifest.json", *(each.name for each in manifest.files)}
    assert sum(each.rows for each in manifest.files) == manifest.messages
    assert (await verify(out)).findings == []


class Stopped(Exception):
    pass


def files_in(folder):
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*.*")}


async def test_an_export_that_ends_anywhere_leaves_each_page_as_it_was_or_as_it_will_be(scene):
    archive, grow, out = scene
    before, after = out.with_name("before"), out.with_name("after")
    await export(archive, before, formats="html")
    await grow()
    await export(archive, after, formats="html")
    old, new = files_in(before / "html"), files_in(after / "html")
    for number in count(1):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(before, out)
        arrived = count(1)

        def stop(_name, arrived=arrived, number=number):
            if next(arrived) == number:
                raise Stopped

        failpoints.arm(stop)
        try:
            await export(archive, out, formats="html")
            break
        except Stopped:
            pass
        finally:
            failpoints.arm(None)
        for name, data in files_in(out / "html").items():
            assert data in (old.get(name), new.get(name)) or name.endswith(".partial"), name
        if (out / "manifest.json").exists():
            for each in read_manifest((out / "manifest.json").read_bytes()).files:
                assert sha256((out / each.name).read_bytes()).hexdigest() == each.sha256
        await export(archive, out, formats="html")
        assert files_in(out / "html") == new
        assert sorted(each.name for each in out.iterdir()) == ["html", "manifest.json"]
    assert number > 20


@pytest.mark.parametrize("was_killed", [False, True])
async def test_a_session_that_is_forgotten_is_gone_from_pages_data_and_index(scene, was_killed):
    archive, _, out = scene
    await export(archive, out, formats="html")
    async for transcript in archive.transcripts():
        if transcript.messages:
            gone = transcript.session.id
    [page] = [each for each in pages_in(out) if each.startswith(gone)]
    if was_killed:
        # As a kill at any moment leaves it: the name of the folder is noted, and no manifest is there.
        (out / "manifest.json").rename(out / "manifest.json.partial")
    await archive.forget(sessions=[gone])
    manifest = await export(archive, out, formats="html")
    assert page not in pages_in(out)
    assert not [
        each for each in out.rglob("*") if each.is_file() and gone in each.read_text(encoding="utf-8")
    ]
    assert {each.relative_to(out).as_posix() for each in out.rglob("*") if each.is_file()} == {
        "manifest.json",
        *(each.name for each in manifest.files),
    }
