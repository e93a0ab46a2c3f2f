"""The viewer in browsers: Chromium and Firefox."""

import sqlite3
from contextlib import asynccontextmanager, closing, suppress
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from browsers import chromium, chromium_page, firefox, firefox_page
from hostile import HACK, HOSTILE
from store_rows import begin, journal, message, session, wanted
from viewing import viewer

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FetchResult

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

TEXT = "document.querySelector('main').innerText"
HACKED = "window.hacked ?? null"


@pytest_asyncio.fixture(params=["chromium", "firefox"], scope="module", loop_scope="module")
async def page_of(request, tmp_path_factory):
    """`async with page_of(root) as page:` in each of the browsers; it may ask for what begins with *root*."""
    if request.param == "chromium":
        async with chromium() as browser:
            yield lambda root: chromium_page(browser, root)
    else:
        async with firefox(tmp_path_factory.mktemp("firefox")) as browser:
            yield lambda root: firefox_page(browser, root)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile(tmp_path_factory):
    """An archive of which every text wants to run."""
    place = tmp_path_factory.mktemp("hostile") / "a.db"
    async with Archive.open(place) as store:
        for project in ("default", HOSTILE[0]):
            await begin(store, project)
            for at in range(60):
                kept = session(at, title=HOSTILE[at % len(HOSTILE)])
                await journal(store, kept, project=project)
                said = [
                    message(number, each)
                    for number, each in enumerate(HOSTILE if at % 20 == 0 else HOSTILE[at::40])
                ]
                await store.save_messages(project, [FetchResult(wanted(kept), said)])
    with closing(sqlite3.connect(place)) as db, db:
        for (rowid,) in db.execute("SELECT rowid FROM sessions").fetchall():
            text = HOSTILE[rowid % len(HOSTILE)].replace("\0", "")
            video = text if rowid % 2 else f"https://{text}"
            db.execute(
                "UPDATE sessions SET user_id = ?, status = ?, video_url = ? WHERE rowid = ?",
                (text, text, video, rowid),
            )
        for table, column in (
            ("sessions", "id"),
            ("messages", "session_id"),
            ("sync_sessions", "session_id"),
        ):
            db.execute(f"UPDATE {table} SET {column} = ? || {column}", (HOSTILE[7] + "/../#?&",))
    return place


@asynccontextmanager
async def opened(page_of, place):
    async with viewer(place, enters=False, title=HOSTILE[2]) as seen, page_of(seen.root) as page:
        # The page of this address leads on by itself, maybe before it is looked at.
        with suppress(Exception):
            await page.open(seen.address)
        while not await looked(page, "document.title.startsWith('Overview')"):
            pass
        yield seen, page


async def test_no_text_of_a_chat_runs_loads_or_changes_anything(page_of, hostile):
    async with opened(page_of, hostile) as (seen, page):
        await page.open(f"{seen.root}/sessions")
        links = await page.run("[...document.links].map((each) => each.href)")
        sessions = [each for each in links if "/session?" in each][:3]
        lists = [
            f"{seen.root}/sessions?{urlencode({'q': each, 'status': each, 'sort': each})}"
            for each in HOSTILE[:2]
        ]
        searches = [
            f"{seen.root}/search?{urlencode({'q': each, 'role': each}, errors='replace')}"
            for each in HOSTILE[::16]
        ]
        others = [
            f"{seen.root}/search?q=alert&role=user",
            f"{seen.root}/search?q=alert",
            f"{seen.root}/sessions?sort=title",
        ]
        assert sessions
        for address in [*sessions, *lists, *searches, *others]:
            await page.open(address)
            await page.run(
                "[...document.querySelectorAll('details')].map((each) => (each.open = true)).length"
            )
            assert await page.run("document.querySelectorAll('iframe, object, embed, base, img').length") == 0
            assert await page.run("document.scripts.length") == 1
            assert await page.run(HACKED) is None
        await page.open(f"{seen.root}/search?q=alert")
        assert await page.run("document.querySelectorAll('#hits mark').length") > 40
        await page.open(sessions[0])
        assert HACK in await page.run(TEXT)
        assert page.noise.seen == []


async def test_a_reader_filters_searches_and_follows_links(page_of, hostile):
    async with opened(page_of, hostile) as (seen, page):
        await page.open(f"{seen.root}/sessions")
        assert "120 sessions" in await page.run(TEXT)
        await arrived(page, "document.querySelector('[rel=next]').click()")
        assert "page=2" in await page.run("location.search")
        assert await page.run("document.querySelectorAll('#list tbody tr').length") == 20
        await arrived(page, "document.forms[0].q.value = 'autofocus'; document.forms[0].requestSubmit()")
        assert await page.run("document.forms[0].q.value") == "autofocus"
        rows = await page.run("document.querySelectorAll('#list tbody tr').length")
        assert 0 < rows < 100
        await page.open(f"{seen.root}/search")
        await arrived(
            page, "document.forms[0].q.value = '\"meta http equiv\"'; document.forms[0].requestSubmit()"
        )
        assert await page.run("document.querySelectorAll('#hits mark').length") > 0
        place = await page.run("document.querySelector('#hits a').hash")
        await arrived(page, "document.querySelector('#hits a').click()")
        assert await page.run("location.hash") == place
        assert "refresh" in await page.run(f"document.querySelector('{place}').innerText")
        assert page.noise.seen == []


async def arrived(page, act):
    """Do what leads to another page, until that is there."""
    await page.run(f"void (window.left = true, (() => {{ {act} }})())")
    while not await looked(page, "window.left === undefined"):
        pass


async def looked(page, script):
    try:
        return await page.run(f"{script} && document.readyState === 'complete'")
    except Exception:  # noqa: BLE001 - between two pages, there is none to ask
        return False


ATTACK = """async () => {
  const root = "ROOT";
  const done = [];
  const get = (path, how) => fetch(root + path, { credentials: "include", ...how });
  for (const path of ["/", "/sessions", "/assets/page.js"]) {
    done.push(get(path, { mode: "no-cors" }).catch(() => null));
    done.push(get(path, {}).then((it) => it.text(), () => null).then((text) => {
      if (text) window.stolen = text;
    }));
  }
  done.push(get("/", { method: "POST", mode: "no-cors", body: "x" }).catch(() => null));
  for (const name of ["iframe", "img", "script"]) {
    const made = document.createElement(name);
    done.push(new Promise((resolve) => { made.onload = made.onerror = resolve; }));
    made.src = root + (name === "script" ? "/assets/page.js" : "/sessions");
    document.body.append(made);
  }
  await Promise.all(done);
  return `${window.stolen} ${typeof navtalkData} ${document.querySelector("iframe").contentDocument}`;
}"""


async def test_a_page_of_another_port_gets_nothing_although_it_has_the_cookie(page_of, hostile):
    async def a_page(_):
        return web.Response(text="<!doctype html><title>x</title><body>x", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", a_page)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with opened(page_of, hostile) as (seen, page):
            assert "Overview" in await page.run(TEXT)
            await page.open(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            got = await page.run(f"({ATTACK.replace('ROOT', seen.root)})()")
            assert got == "undefined undefined null"
            await page.open(f"{seen.root}/sessions")
            assert "120 sessions" in await page.run(TEXT)
    finally:
        await runner.cleanup()


async def test_pages_have_no_serious_flaw_for_people_with_assistive_programs(hostile):
    async with (
        chromium() as browser,
        opened(lambda root: chromium_page(browser, root), hostile) as (seen, page),
    ):
        for path in ("/sessions?page=2", "/search?q=alert"):
            await page.open(f"{seen.root}{path}")
            found = (await Axe().run(page.page)).response["violations"]
            assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
