"""The pages in browsers, opened from a disk: Chromium and Firefox."""

import json
import re
import unicodedata
import wave
from random import Random
from urllib.parse import quote

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from browsers import chromium, chromium_page, firefox, firefox_page
from hostile import HACK, HOSTILE
from html_sites import a_message, a_transcript, write_site
from profiles import examples

from navtalk_async.formats._media_index import MediaEntry, encoded
from navtalk_async.formats.html.pages import A_PAGE
from navtalk_async.formats.words import matches, parse_query, words

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(params=["chromium", "firefox"], scope="module", loop_scope="module")
async def new_page(request, tmp_path_factory):
    """`async with new_page() as page:` in each of the browsers."""
    if request.param == "chromium":
        async with chromium() as browser:
            yield lambda: chromium_page(browser)
    else:
        async with firefox(tmp_path_factory.mktemp("firefox")) as browser:
            yield lambda: firefox_page(browser)


def address_of(folder, name, **asked):
    return f"file://{folder}/html/{name}" + ("#" + "&".join(f"{k}={quote(v)}" for k, v in asked.items()))


READY = """new Promise((resolve) => {{
  const look = () => {{
    const {{ ready }} = document.documentElement.dataset;
    ready?.startsWith({name!r}) ? resolve(true) : setTimeout(look, 5);
  }};
  look();
}})"""


async def ready(page, name):
    """Until a script has shown what it shows."""
    await page.run(READY.format(name=name))


TEXT = "document.querySelector('main').innerText"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Pages whose every text wants to run."""
    folder = tmp_path_factory.mktemp("hostile")
    transcripts = [
        a_transcript(
            text,
            [
                a_message(at, each, role=each, type=each, extra={each: each})
                for at, each in enumerate(HOSTILE)
            ],
            title=HOSTILE[at - 1],
            status=text,
            user_id=text,
            video_url=text if at % 2 else f"https://{text}",
            extra={text: [text]},
            project=text,
        )
        for at, text in enumerate(HOSTILE)
    ]
    return folder, [name for name in write_site(folder, transcripts) if name.startswith("html/s/")]


async def test_no_text_of_a_chat_runs_loads_or_changes_anything(new_page, hostile):
    folder, names = hostile
    async with new_page() as page:
        for name in ["html/index.html", "html/sessions.html", "html/search.html", *names[::16]]:
            await page.open(f"file://{folder}/{name}")
            if "sessions" in name:
                await ready(page, "list")
            await page.run(
                "[...document.querySelectorAll('details')].map((each) => (each.open = true)).length"
            )
            assert await page.run("document.scripts.length") <= 2
            assert await page.run("document.querySelectorAll('iframe, object, embed, base, img').length") == 0
            links = await page.run("[...document.links].map((each) => each.protocol)")
            assert set(links) <= {"file:", "https:"}
        shown = await page.run(TEXT)
        assert HACK in shown
        assert await page.run("window.hacked ?? null") is None
        assert page.noise.seen == []


async def test_no_words_of_a_search_run_and_what_they_find_is_text(new_page, hostile):
    folder, _ = hostile
    found = 0
    async with new_page() as page:
        await page.open(address_of(folder, "search.html"))
        for text in HOSTILE[::4]:
            found += len((await asked(page, text))[1])
        assert found > 20
        assert await page.run("window.hacked ?? null") is None
        for name in ("sessions.html", "search.html"):
            await page.open(
                address_of(folder, name, q=HOSTILE[0], status=HOSTILE[0], sort="__proto__", page="1e9")
            )
            await ready(page, name[:4].replace("sess", "list").replace("sear", "search"))
        assert page.noise.seen == []


async def test_the_browsers_see_it_where_something_runs(new_page, tmp_path):
    (tmp_path / "bad.html").write_text(
        f"<!doctype html><script>{HACK}</script><img src='https://elsewhere.example/x'>"
    )
    (tmp_path / "refused.html").write_text(
        "<!doctype html><meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
        f"<script>{HACK}</script><img src='https://elsewhere.example/x'>"
    )
    async with new_page() as page:
        await page.open(f"file://{tmp_path}/bad.html")
        seen = " ".join(page.noise.seen)
        assert "dialog 1" in seen
        assert "request https://elsewhere.example/x" in seen
        page.noise.seen.clear()
        await page.open(f"file://{tmp_path}/refused.html")
        seen = " ".join(page.noise.seen)
        assert "script-src" in seen
        assert "img-src" in seen
        assert "dialog" not in seen


# The search.

SCRIPTS = [
    "cafe",
    "Café",
    "CAFE\u0301",
    "straße",
    "STRASSE",
    "ﬁn",
    "ΣΑΣ",
    "σας",
    "Москва",
    "ёлка",
    "שָׁלוֹם",
    "سَلام",
]
UNSPACED = [
    "部署",
    "东京都",
    "ทดสอบ",
    "한국어",
    "👍🏽",
    "❤️",
    "👨‍👩‍👧",
    "𠀀",
    "ꙮ",
    "İstanbul",
    "\u0131",
    "go",
    "x",
    "7",
    "½",
    "²",
]
WORDS = [
    *SCRIPTS,
    *UNSPACED,
    "refund",
    "refunds",
    "card",
    "e-mail",
    "a\u00adb",
    "a\u200bb",
    "x" * 70,
    "AND",
    "\0",
]
AROUND = [" ", ", ", "\n", "-", "", "\u2028", "(", ")", "*", '"']
QUERIES = [
    *(
        *WORDS,
        "refund card",
        "refund OR card",
        "refund NOT card",
        "card AND (refund OR go)",
        "re*",
        "r* NOT refund",
    ),
    *(
        '"refund card"',
        '"card go"*',
        "NOT card",
        "refund AND",
        "(card",
        "card)",
        '"card',
        "",
        "*",
        "c*d",
        "e-mail go",
    ),
    *(
        "部*",
        "京都",
        "NOT NOT card",
        "card NOT (go OR 京)",
        "((card))",
        "“refund card”",
        "() card",
        "AND card",
    ),
    *("card " * 300, "(" * 30 + "card" + ")" * 30),
]


def texts_of(dice, count):
    return [
        "".join(dice.choice(WORDS) + dice.choice(AROUND) for _ in range(dice.randrange(12)))
        for _ in range(count)
    ]


def scanned(texts, text):
    """Which of *texts* a search for *text* should find, and what the page says then."""
    try:
        query = parse_query(text)
    except ValueError as refusal:
        return [], str(refusal)
    found = [at for at, said in enumerate(texts) if matches(query, words(said))]
    count = f"{len(found)} {'message' if len(found) == 1 else 'messages'}"
    return found, f"{count} in 1 session, the newest" if found else "No message was found."


ASKED = """new Promise((resolve) => {{
  const form = document.getElementById("search");
  delete document.documentElement.dataset.ready;
  form.q.value = {words};
  form.requestSubmit();
  const look = () => {{
    if (document.documentElement.dataset.ready === undefined) return setTimeout(look, 1);
    const hits = [...document.querySelectorAll("#hits a")].map((each) => each.hash);
    resolve([form.q.value, hits, document.getElementById("note").textContent]);
  }};
  look();
}})"""


async def asked(page, words):
    """What the page asks for, the first messages that it finds, and what it says."""
    text, hits, note = await page.run(ASKED.format(words=json.dumps(words)))
    return text, [int(each[2:]) for each in hits], note


async def test_a_search_finds_what_a_plain_scan_finds(new_page, tmp_path):
    dice = Random(16)
    texts = texts_of(dice, 150)
    write_site(tmp_path, [a_transcript("one", texts)])
    queries = [*QUERIES, *(" ".join(dice.choices(QUERIES, k=2)) for _ in range(examples(10)))]
    async with new_page() as page:
        await page.open(address_of(tmp_path, "search.html"))
        for each in queries:
            text, hits, note = await asked(page, each)
            if not text.strip():
                assert (hits, note) == ([], "")
                continue
            found, says = scanned(texts, text)
            assert hits == found[::-1][:20], text
            assert note[:20] == says[:20], text
        assert page.noise.seen == []


async def test_browsers_fold_every_letter_as_we_do(new_page, tmp_path):
    letters = [
        chr(code) for code in range(0x30000) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    # Those of the largest scripts are all alike.
    alike = re.compile("[\u3400-\u4db5\u4e00-\u9fcc\uac00-\ud7a3\U00020000-\U0002ffff]")
    letters = [each for at, each in enumerate(letters) if at % 50 == 0 or not alike.match(each)]
    texts = [" ".join(f"a{each}b" for each in letters[at : at + 99]) for at in range(0, len(letters), 99)]
    write_site(tmp_path, [a_transcript("one", texts)])
    async with new_page() as page:
        await page.open(address_of(tmp_path, "search.html"))
        for at in Random(1).sample(range(len(texts)), min(len(texts), examples(5))):
            quoted = re.sub('["“”„\r\n]', " ", texts[at])
            _, hits, note = await asked(page, f'"{quoted}"')
            assert hits == [at], (hex(ord(texts[at][1])), note)


async def test_words_that_were_found_are_marked_and_lead_to_their_message(browser, tmp_path):
    long = "filler " * 400 + "the CAFÉ of Bob, <b>cafe</b> again " + "filler " * 400
    texts = ["nothing"] * (A_PAGE + 7) + [long]
    write_site(tmp_path, [a_transcript("other", ["x"]), a_transcript("one", texts, title="A <i>title</i>")])
    async with chromium_page(browser) as page:
        await page.open(address_of(tmp_path, "search.html", q="cafe bob"))
        await ready(page, "search")
        marked = await page.run("[...document.querySelectorAll('mark')].map((each) => each.textContent)")
        assert marked == ["CAFÉ", "Bob", "cafe"]
        [hit] = await page.page.locator("#hits li").all()
        assert "A <i>title</i>" in await hit.inner_text()
        assert len(await hit.inner_text()) < 600
        await hit.locator("a").click()
        position = A_PAGE + 7
        assert page.page.url.endswith(f".2.html#m{position}")
        await page.page.wait_for_function(f"document.querySelector(':target')?.id === 'm{position}'")
        await page.page.go_back()
        await ready(page, "search cafe bob")
        assert await page.run("document.querySelectorAll('mark').length") == 3
        assert page.noise.seen == []


async def test_a_search_can_be_for_what_one_side_said(browser, tmp_path):
    write_site(tmp_path, [a_transcript("one", ["hello", "hello", "hello"])])
    async with chromium_page(browser) as page:
        await page.open(address_of(tmp_path, "search.html", q="hello", role="user"))
        await ready(page, "search")
        assert await page.run("[...document.querySelectorAll('#hits a')].map((each) => each.hash)") == [
            "#m2",
            "#m0",
        ]


# The list.


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Pages of 250 sessions."""
    folder = tmp_path_factory.mktemp("many")
    write_site(
        folder,
        [
            a_transcript(
                f"id-{at:03}",
                ["hello"] * (at % 7),
                title=["Ärger mit dem Paket", "Refund", None][at % 3],
                status=["completed", "failed"][at % 2],
                user_id=f"user-{at % 10}",
                start_time=f"2025-11-{1 + at // 10:02}T{at % 10:02}:00:00Z" if at else None,
                end_time=f"2025-11-{1 + at // 10:02}T{at % 10:02}:{at % 60:02}:00Z",
            )
            for at in range(250)
        ],
    )
    return folder


ROWS = """
[...document.querySelectorAll('#list tbody tr')].map((row) => [...row.cells].map((each) => each.innerText))
"""
COUNT = "document.querySelector('output').textContent"


async def test_the_list_is_filtered_sorted_and_paged(new_page, many):
    async with new_page() as page:
        await page.open(address_of(many, "sessions.html"))
        await ready(page, "list")
        rows = await page.run(ROWS)
        assert (len(rows), rows[0][0], rows[0][1]) == (
            100,
            "2025-11-25 09:00:00",
            "Ärger mit dem Paket\nid-249",
        )
        assert await page.run(COUNT) == "250 sessions"
        await page.run("(document.forms[0].q.value = 'arger USER-4', document.forms[0].requestSubmit(), 0)")
        await page.run("document.forms[0].dispatchEvent(new Event('input'))")
        rows = await page.run(ROWS)
        assert await page.run(COUNT) == f"{len(rows)} sessions"
        assert {(row[1].split("\n")[0], row[3]) for row in rows} == {("Ärger mit dem Paket", "user-4")}
        await page.run("(document.forms[0].q.value = '', document.forms[0].status.value = 'failed', 0)")
        await page.run("document.forms[0].dispatchEvent(new Event('input'))")
        assert await page.run(COUNT) == "125 sessions"
        for column, is_down in (("lasted", True), ("lasted", False), ("started", True), ("title", True)):
            await page.run(f"document.querySelector('[data-sort={column}] button').click()")
            order = await page.run("document.querySelector('[aria-sort]').ariaSort")
            assert order == ("descending" if is_down else "ascending")
        await page.run("document.querySelector('[rel=next]').click()")
        assert len(await page.run(ROWS)) == 25
        await page.run("new Promise((resolve) => setTimeout(resolve, 300))")
        before = await page.run(ROWS), await page.run("location.href")
        await page.open("about:blank")
        await page.open(before[1])
        await ready(page, "list")
        assert await page.run(ROWS) == before[0]
        assert page.noise.seen == []


async def test_without_scripts_the_list_shows_the_latest_and_transcripts_lead_on(browser, many):
    async with chromium_page(browser, java_script_enabled=False) as page:
        await page.page.goto(address_of(many, "sessions.html"))
        assert await page.page.locator("#list tbody tr").count() == 100
        assert "Without JavaScript" in await page.page.locator("noscript").inner_text()
        await page.page.locator("#list tbody a").first.click()
        for _ in range(3):
            await page.page.locator("main a[rel=prev]").first.click()
        assert await page.page.locator("h1").inner_text() == "Ärger mit dem Paket"
        assert "id-246" in await page.page.locator(".facts").inner_text()


# Transcripts, keys, printing, and people who do not see.


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """A transcript of everything that a transcript may hold, between two others."""
    folder = tmp_path_factory.mktemp("varied")
    texts = [
        "Hello!\n\n  indented  twice",
        "```python\nprint('<b>')\n```\nthat is code",
        "שלום, מה שלומך? (12:30)",
        "long " * 1000 + "END",
        a_message(4, "much later", created_at="2025-11-12T20:00:00Z"),
        a_message(
            5, "the next day", "tool", created_at="2025-11-13T20:00:00Z", type="event", extra={"a": [1]}
        ),
        a_message(6, None, "system", created_at=None),
    ]
    one = a_transcript(
        "one", texts, video_url="https://elsewhere.example/v.mp4", deleted_at="2025-11-14T00:00:00Z"
    )
    pages = write_site(
        folder, [a_transcript("before"), one, a_transcript("behind", ["x"] * (A_PAGE * 9 + 1))]
    )
    return folder, sorted(each for each in pages if each.startswith("html/s/"))


def page_of(varied, stem):
    folder, names = varied
    name = min((each for each in names if each.startswith(f"html/s/{stem}-")), key=len)
    return f"file://{folder}/{name}"


async def test_a_transcript_is_shown_as_it_was(new_page, varied):
    async with new_page() as page:
        await page.open(page_of(varied, "one"))
        shown = await page.run(TEXT)
        assert "Hello!\n\n  indented  twice" in shown
        assert "1 h 39 min later" in shown
        assert "Thursday, 13 November 2025" in shown
        assert "The API no longer has this session" in shown
        assert await page.run("document.querySelector('#m1 code').textContent") == "print('<b>')"
        assert await page.run("getComputedStyle(document.querySelector('#m2 p')).direction") == "rtl"
        assert await page.run("document.querySelector('#m3 details p').checkVisibility()") is False
        assert await page.run("document.querySelector('#m3 .bubble').textContent.endsWith('END')")
        assert await page.run("document.querySelector('#m6 .bubble').innerText") == "No text."
        assert page.noise.seen == []


PLAYED = """new Promise((resolve) => {
  const video = document.querySelector("video");
  video.onloadedmetadata = () => resolve(video.duration);
  video.onerror = () => resolve(0);
  video.preload = "auto";
  video.load();
})"""


async def test_a_recording_that_was_downloaded_is_played_from_the_disk(new_page, tmp_path):
    url = "https://elsewhere.example/v.mp4"
    entry = MediaEntry(link="x", project="default", session="one", url=url, name="one/0123456789abcdef.wav")
    (tmp_path / "media/one").mkdir(parents=True)
    (tmp_path / "media/media.jsonl").write_bytes(encoded({"x": entry}))
    with wave.open(str(tmp_path / "media/one/0123456789abcdef.wav"), "wb") as file:
        file.setparams((1, 1, 8_000, 800, "NONE", ""))
        file.writeframes(bytes(800))
    pages = write_site(tmp_path, [a_transcript("one", ["x"], video_url=url)])
    async with new_page() as page:
        await page.open(f"file://{tmp_path}/{next(each for each in pages if each.startswith('html/s/'))}")
        await page.run("(document.querySelector('details').open = true)")
        assert await page.run(PLAYED) == pytest.approx(0.1)
        assert page.noise.seen == []


async def test_keys_lead_through_the_archive(browser, varied):
    async with chromium_page(browser) as page:
        keys, url = page.page.keyboard, page.page.url
        await page.open(page_of(varied, "one"))
        await keys.press("Tab")
        assert await page.run("document.activeElement.textContent") == "Skip to the content"
        await keys.press("Enter")
        assert await page.run("document.activeElement.id") == "main"
        for key, expected in (("j", "#m0"), ("j", "#m1"), ("j", "#m2"), ("k", "#m1")):
            await keys.press(key)
            assert await page.run("document.activeElement.hash") == expected
        for key, name in (
            ("ArrowRight", "behind"),
            ("ArrowRight", "behind"),
            ("ArrowLeft", "behind"),
            ("ArrowLeft", "one"),
        ):
            url = page.page.url
            await keys.press(key)
            await page.page.wait_for_url(lambda now, url=url: now != url)
            assert f"/s/{name}-" in page.page.url
        await keys.press("/")
        await page.page.wait_for_url("**/search.html*")
        await page.page.wait_for_function("document.activeElement.name === 'q'")
        await keys.type("later/j")
        await keys.press("Enter")
        await ready(page, "search later/j")
        assert page.noise.seen == []


async def test_a_long_session_has_pages_whose_anchors_hold(browser, varied):
    async with chromium_page(browser) as page:
        await page.open(page_of(varied, "behind").replace(".html", f".9.html#m{A_PAGE * 8 + 3}"))
        assert await page.run("document.querySelector(':target .at').hash") == f"#m{A_PAGE * 8 + 3}"
        shown = await page.page.locator(".pages").first.inner_text()
        assert shown == "Page 1 … 7 8 9 10 of 10"
        assert await page.run("document.querySelectorAll('.said').length") == A_PAGE


async def test_what_is_folded_is_printed(browser, varied):
    async with chromium_page(browser) as page:
        await page.open(page_of(varied, "one"))
        await page.page.emulate_media(media="print")
        assert await page.run("getComputedStyle(document.querySelector('.top nav')).display") == "none"
        await page.run("dispatchEvent(new Event('beforeprint'))")
        assert await page.run("document.querySelector('#m3 details p').checkVisibility()")


async def test_pages_are_dark_where_a_reader_likes_it_dark(browser, varied):
    colours = {}
    for scheme in ("light", "dark"):
        async with chromium_page(browser, color_scheme=scheme) as page:
            await page.open(page_of(varied, "one"))
            colours[scheme] = await page.run("getComputedStyle(document.body).backgroundColor")
    light, dark = (sum(map(int, re.findall(r"\d+", colours[each]))) for each in ("light", "dark"))
    assert light > 3 * 200 > 3 * 50 > dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_have_no_flaw_for_people_who_do_not_see_well(browser, varied, scheme):
    folder, _ = varied
    pages = [page_of(varied, "one"), *(address_of(folder, f"{each}.html") for each in ("index", "sessions"))]
    pages.append(address_of(folder, "search.html", q="much OR day"))
    async with chromium_page(browser, color_scheme=scheme) as page:
        for address in pages:
            await page.open(address)
            await page.run(
                "[...document.querySelectorAll('details')].map((each) => (each.open = true)).length"
            )
            if "search" in address:
                await ready(page, "search much")
            found = await Axe().run(page.page)
            assert [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]] == []
