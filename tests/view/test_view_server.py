"""What the viewer serves: every session, to one browser, and nothing else."""

import asyncio
import sqlite3
from contextlib import closing

import pytest
from looked_at import synced
from shell import navtalk
from store_rows import begin, journal, message, session, wanted
from viewing import viewer

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FetchResult
from navtalk_async.sandbox import Sandbox, World

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Server": "navtalk",
}


@pytest.fixture
async def place(tmp_path):
    return await synced(tmp_path / "archive.db")


async def test_nobody_sees_a_page_without_the_token_and_nobody_uses_it_twice(place):
    async with viewer(place, enters=False) as seen:
        for path in ("/", "/sessions", "/assets/page.js", "/nothing", "/?token=wrong", "/?token="):
            answer = await seen.ask(path)
            assert (answer.status, "Open the address" in answer.text) == (403, True)
        assert (await seen.ask(seen.entry, "HEAD")).status == 403
        assert (await seen.enter()).status == 200
        # Who is in may reload the page.
        assert (await seen.enter()).status == 200
        assert (await seen.ask("/sessions")).status == 200
        assert (await seen.ask("/sessions", is_stranger=True)).status == 403
        assert (await seen.ask(seen.entry, is_stranger=True)).status == 403


async def test_other_hosts_origins_sites_and_methods_are_refused(place):
    async with viewer(place) as seen:
        for headers, status in (
            ({"Host": "evil.example"}, 421),
            ({"Host": "evil.example:80"}, 421),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec_Fetch_Site": "cross-site"}, 403),
            ({"Sec_Fetch_Site": "same-site"}, 403),
            ({"Sec_Fetch_Site": "same-origin"}, 200),
        ):
            for path in ("/", "/sessions", "/assets/style.css"):
                assert (headers, (await seen.ask(path, **headers)).status) == (headers, status)
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
            answer = await seen.ask("/sessions", method)
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


NOWHERE = [
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/assets/../view/server.py",
    "/assets/..%2f..%2f_site.py",
    "/assets/%2e%2e/pages.py",
    "/assets//etc/passwd",
    "/assets/",
    "/assets/page.js/",
    "/assets/page.js%00.css",
    "/archive.db",
    "//evil.example/",
    "/sessions/",
    "/x/sessions",
    "/p/sessions",
    "/pZGVmYXVsdA/x/sessions",
    "/pzzzz/sessions",
    "/p!!!/",
    "/sessions?page=0",
    "/sessions?page=-1",
    "/sessions?page=99",
    "/sessions?page=%D9%A1",
    "/sessions?page=99999999999999999999",
    "/pZGVmYXVsdA/session?id=none",
    "/pZGVmYXVsdA/session",
    "/session?id=none",
]


async def test_there_is_no_other_page(place):
    async with viewer(place) as seen:
        for path in NOWHERE:
            answer = await seen.ask(path)
            assert (path, answer.status) == (path, 404)
            assert answer.headers["Content-Type"].startswith("text/plain")


async def test_requests_that_are_none_are_refused_in_silence(place, caplog):
    async with viewer(place) as seen:
        host = seen.root.removeprefix("http://")
        for text in (
            "GET /sessions HTTP/1.0\r\n\r\n",
            f"GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n",
            f"GET http://evil.example/sessions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            f"CONNECT evil.example:80 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            f"OPTIONS * HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            f"GET /?token={'x' * 70_000} HTTP/1.1\r\nHost: {host}\r\n\r\n",
            "\r\n\r\nBOGUS\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(*host.split(":"))
            writer.write(text.encode())
            answer = (await reader.read()).decode()
            writer.close()
            assert answer.split(" ")[1][0] == "4"
            assert "<" not in answer
    assert [each for each in caplog.records if each.name.startswith(("aiohttp", "navtalk"))] == []


async def test_every_answer_says_what_a_browser_may_do_with_it(place):
    async with viewer(place) as seen:
        for path, method in (
            ("/", "GET"),
            ("/sessions", "HEAD"),
            ("/no", "GET"),
            ("/", "POST"),
            ("/assets/page.js", "GET"),
        ):
            headers = (await seen.ask(path, method)).headers
            assert {name: headers.get(name) for name in ALWAYS} == ALWAYS
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy


async def crawled(seen):
    """Every page that links lead to, by its address."""
    pages, waiting = {}, ["/"]
    while waiting:
        path = waiting.pop().partition("#")[0]
        if path not in pages:
            pages[path] = answer = await seen.ask(path)
            assert (path, answer.status) == (path, 200)
            waiting += answer.links
    return pages


async def test_links_lead_to_every_session_and_to_nothing_that_is_not_there(new_place):
    place = await new_place()
    async with Sandbox(World(130, messages=2)) as box:
        await synced(place, box)
        ids = [each["id"] for each in box.world.sessions]
    async with viewer(place) as seen:
        pages = await crawled(seen)
        listed = [page for path, page in pages.items() if path.startswith("/sessions?sort=-started")]
    assert sum("/session?id=" in each for each in pages) == len(ids)
    for each in ids:
        assert any(each in page.text for page in listed)
    assert any("page=2" in path for path in pages)


async def test_a_list_is_filtered_and_sorted_and_keeps_what_was_asked_for(place):
    async with viewer(place) as seen:
        every = await seen.ask("/sessions")
        failed = await seen.ask("/sessions?status=failed&sort=messages&q=2025-11")
        nothing = await seen.ask("/sessions?q=no+such+words+%25")
        odd = await seen.ask("/sessions?status=%3Cb%3E&sort=constructor&q=%3Cscript%3E%22")
    assert "60 sessions" in every.text
    async with Archive.open(place, read_only=True) as archive:
        rows = [each async for each in archive.transcripts()]
    found = [each.session for each in rows if each.session.status == "failed"]
    wanted_ids = {each.id for each in found if each.start_time.startswith("2025-11")}
    assert wanted_ids
    assert {each.session.id for each in rows if f"id={each.session.id}" in failed.text} == wanted_ids
    assert all("status=failed" in link and "q=2025-11" in link for link in failed.links if "sort=" in link)
    assert "0 sessions" in nothing.text
    assert (odd.status, '<script>"' in odd.text, "&lt;script&gt;" in odd.text) == (200, False, True)


async def test_a_long_transcript_has_pages_and_each_message_an_address(tmp_path):
    async with Archive.open(tmp_path / "a.db") as store:
        await begin(store)
        await journal(store, session(1))
        said = [message(at, f"text {at}") for at in range(1_101)]
        await store.save_messages("default", [FetchResult(wanted(session(1)), said)])
    async with viewer(tmp_path / "a.db") as seen:
        first = next(each for each in (await seen.ask("/sessions")).links if "/session?" in each)
        pages = [await seen.ask(f"{first}{more}") for more in ("", "&page=2", "&page=3", "&page=4")]
    assert [page.status for page in pages] == [200, 200, 200, 404]
    assert 'id="m0"' in pages[0].text
    assert 'id="m500"' in pages[1].text
    assert 'id="m1100"' in pages[2].text
    assert "text 1100" in pages[2].text


async def test_projects_are_shown_together_and_apart_and_one_alone_where_it_is_asked_for(new_place):
    place = await new_place()
    await synced(place)
    async with Sandbox(World(5, messages=1, seed=3)) as box:
        await synced(place, box, project="../b & <c>")
    async with viewer(place) as seen:
        together = await seen.ask("/sessions")
        projects = [
            each for each in (await seen.ask("/")).links if each.startswith("/p") and each.endswith("/")
        ]
        apart = [await seen.ask(f"{each}sessions") for each in projects]
        overviews = [await seen.ask(each) for each in projects]
    assert "65 sessions" in together.text
    assert sorted("5 sessions" in each.text and "65 sessions" not in each.text for each in apart) == [
        False,
        True,
    ]
    assert {each.status for each in overviews} == {200}
    async with viewer(place, project="default") as seen:
        alone = await seen.ask("/sessions")
        assert "60 sessions" in alone.text
        assert [each for each in projects if (await seen.ask(each)).status == 200] == [
            each for each in projects if "ZGVmYXVsdA" in each
        ]


async def test_what_a_sync_in_another_process_adds_meanwhile_is_shown(tmp_path):
    async with Sandbox(World(5, messages=2)) as box:
        place = await synced(tmp_path / "a.db", box)
        async with viewer(place) as seen:
            assert "5 sessions" in (await seen.ask("/sessions")).text
            assert ">5<" in (await seen.ask("/")).text
            new = box.world.add_session(start_time="2025-12-24 10:00:00")
            done, answers = await asyncio.gather(
                navtalk("sync", place, box=box),
                asyncio.gather(*(seen.ask("/") for _ in range(5)), seen.ask("/sessions")),
            )
            assert done.code == 0
            assert {each.status for each in answers} == {200}
            assert new["id"] in (await seen.ask("/sessions")).text
            assert ">6<" in (await seen.ask("/")).text


async def test_an_archive_without_sessions_has_pages_too(tmp_path):
    async with Archive.open(tmp_path / "a.db"):
        pass
    async with viewer(tmp_path / "a.db") as seen:
        assert set(await crawled(seen)) >= {"/", "/sessions", "/search"}


async def test_what_is_damaged_is_a_sentence(place):
    with closing(sqlite3.connect(place)) as db, db:
        db.execute("UPDATE sessions SET raw = '{', api = 'gone'")
    async with viewer(place) as seen:
        answer = await seen.ask("/sessions")
        assert (answer.status, "is not installed" in answer.text) == (500, True)
        assert (await seen.ask("/")).status == 200
    with closing(sqlite3.connect(place)) as db, db:
        db.execute("UPDATE sessions SET api = 'navtalk'")
    async with viewer(place) as seen:
        answer = await seen.ask("/sessions")
        assert (answer.status, "damaged" in answer.text) == (500, True)
    with closing(sqlite3.connect(place)) as db, db:
        db.execute("UPDATE sessions SET raw = '{}'")
        db.execute("UPDATE messages SET content = x'ff41'")
    async with viewer(place) as seen:
        links = [each for each in (await seen.ask("/sessions")).links if "/session?" in each]
        answers = [await seen.ask(each) for each in links[:9]]
        assert (await seen.ask("/search?q=hello")).status == 200
    assert {(each.status, "damaged" in each.text) for each in answers} >= {(500, True)}


async def test_a_search_finds_messages_marks_them_and_leads_to_them(new_place):
    place = await new_place()
    async with Archive.open(place) as store:
        await begin(store)
        await journal(store, session(1, title="<b>Bills</b>"))
        said = [message(at, f"refund <i>{at}</i> 部署" if at % 9 == 0 else "else") for at in range(1_000)]
        await store.save_messages("default", [FetchResult(wanted(session(1)), said)])
    async with viewer(place) as seen:
        first = await seen.ask("/search?q=refund+%E9%83%A8%E7%BD%B2")
        second = await seen.ask(next(each for each in first.links if each.startswith("/search?")))
        hit = next(each for each in second.links if "/session?" in each)
        found = await seen.ask(hit.partition("#")[0])
        nothing = await seen.ask("/search?q=nothing&role=user")
        assert (await seen.ask("/search?q=refund&page=201")).status == 404
        wrong = [await seen.ask(f"/search?q={each}") for each in ("(", "%22a", "NOT+b", "%3Cscript%3E", "+")]
    assert first.text.count("<mark>") == 2 * 50
    assert "&lt;i&gt;" in first.text
    assert "<i>" not in first.text + second.text
    assert f'id="{hit.partition("#")[2]}"' in found.text
    assert "No message was found." in nothing.text
    assert {each.status for each in wrong} == {200}
    assert all('role="status" aria-live="polite" id="note"></p>' not in each.text for each in wrong[:3])
