"""What is damaged, missing or stale in an archive is fetched again, by an export and by `verify --repair`."""

import asyncio
import json
import re
import shutil

import pytest
from apis import APIS
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from store_rows import asked, everything

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession
from navtalk_async.archive.rows import damage
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of, dialects
from navtalk_async.errors import StoreError, StoreMismatch
from navtalk_async.formats import export
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Sandbox, World
from navtalk_async.verification import Remedy, Report, verify
from navtalk_async.verification._remote import is_listed_next
from navtalk_async.wire.retry import Retry

NO_KEY = {"NAVTALK_API_KEY": None}

ONE = "(SELECT session_id FROM sync_sessions WHERE messages > 2 ORDER BY session_id LIMIT 1)"

MESSAGE = "project, id, session_id, position, role, type, content, created_at, raw"

HARM = {
    "a text": f"UPDATE messages SET content = 'wrong' WHERE session_id = {ONE} AND position = 1",
    "a raw object": f"UPDATE messages SET raw = '{{}}' WHERE session_id = {ONE} AND position = 1",
    "a message gone": f"DELETE FROM messages WHERE session_id = {ONE} AND position = 1",
    "a message's id": f"UPDATE messages SET id = 'nobody' WHERE session_id = {ONE} AND position = 1",
    "a message too many": f"""INSERT INTO messages ({MESSAGE})
        SELECT project, 'more', session_id, 99, role, type, content, created_at, raw
        FROM messages WHERE session_id = {ONE} AND position = 1""",
    "messages of nobody": f"""INSERT INTO messages ({MESSAGE})
        SELECT project, id, 'nobody', position, role, type, content, created_at, raw
        FROM messages WHERE session_id = {ONE}""",
    "a link": f"UPDATE sessions SET video_url = 'https://example.com/x' WHERE id = {ONE}",
    "an API": f"UPDATE sessions SET api = 'none' WHERE id = {ONE}",
    "a row gone": f"DELETE FROM sessions WHERE id = {ONE}",
    "a row's id": f"UPDATE sessions SET id = 'nobody' WHERE id = {ONE}",
    "a note gone": f"DELETE FROM sync_sessions WHERE session_id = {ONE}",
    "a digest": f"UPDATE sync_sessions SET digest = 'x' WHERE session_id = {ONE}",
    "a deletion": f"UPDATE sessions SET deleted_at = '2020-01-01T00:00:00Z' WHERE id = {ONE}",
}


def client_of(api, box, **options):
    retry = Retry(attempts=2, base_seconds=0.01)
    return Client(dialect_of(api), "k", base_url=box.url_of(api), retry=retry, **options)


def scope_of(api):
    return {"user_id": "user-0"} if api == "lexicon" else {}


def exported(rows):
    """What is handed on of *rows*."""
    return [(kept.session[:9], kept.session.deleted_at, kept.messages) for kept in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("new_place", "api"),
    [*(("sqlite", each.name) for each in APIS), ("postgres", "navtalk")],
    indirect=["new_place"],
)
async def test_damaged_and_missing_rows_are_found_not_exported_and_repaired(new_place, tmp_path, api):
    place = await new_place()
    async with Sandbox(World(12, messages=4)) as box, client_of(api, box) as client:
        async with Archive.open(place) as store:
            await sync(client, store, **scope_of(api))
            good = await everything(store)
            assert [damage(each, client.dialect) for each in good] == [[]] * len(good)
        for what, statement in HARM.items():
            await asked(place, statement)
            assert (await verify(place)).findings, what
            async with Archive.open(place) as store:
                manifest = await export(store, tmp_path / "out")
                assert not manifest.complete, what
                assert any(each.damaged for each in manifest.failed), what
            report = await verify(place, client=client, repair=True)
            assert [str(each) for each in report.findings] == [], what
            async with Archive.open(place) as store:
                assert exported(await everything(store)) == exported(good), what
                manifest = await export(store, tmp_path / "out")
                assert manifest.complete, what


async def test_a_kodey_chat_that_was_asked_for_by_its_id_is_repaired(new_place):
    place = await new_place()
    async with Sandbox(World(5, messages=4)) as box, client_of("kodey", box) as client:
        async with Archive.open(place) as store:
            await sync(client, store, sessions=(box.world.sessions[0]["id"],))
        await asked(place, "UPDATE sessions SET title = 'wrong'")
        assert len((await verify(place)).findings) == 1
        assert (await verify(place, client=client, repair=True)).findings == []


async def test_a_damaged_session_that_the_api_no_longer_has_is_named_and_not_exported(new_place, tmp_path):
    place = await new_place()
    async with Sandbox(World(12, messages=4)) as box, client_of("navtalk", box) as client:
        async with Archive.open(place) as store:
            await sync(client, store)
        for what in ("a text", "a link", "a row gone"):
            [(bad,)] = await asked(place, f"SELECT {ONE}")
            await asked(place, HARM[what])
            box.world.remove_session(bad)
            assert (await verify(place, client=client, repair=True)).findings, what
            async with Archive.open(place) as store:
                manifest = await export(store, tmp_path / "out")
            assert bad in [each.id for each in manifest.failed], what
            assert not manifest.complete
            assert bad not in (tmp_path / "out" / "transcripts.jsonl").read_text()


@pytest.mark.parametrize("api", [each.name for each in APIS])
async def test_a_session_that_is_missing_in_every_table_is_found_and_fetched(new_place, api):
    place = await new_place()
    async with Sandbox(World(30, messages=4)) as box, client_of(api, box) as client:
        async with Archive.open(place) as store:
            await sync(client, store, **scope_of(api))
            good = await everything(store)
        for table, column in (
            ("messages", "session_id"),
            ("sessions", "id"),
            ("sync_sessions", "session_id"),
        ):
            await asked(place, f"DELETE FROM {table} WHERE {column} = '{good[0].session.id}'")
        assert (await verify(place)).findings == []
        report = await verify(place, client=client, remote=1)
        assert report.bad == {("default", good[0].session.id)}
        # An API that cannot be asked by time is listed from its beginning by any sync.
        assert bool(report.findings) == (api == "navtalk")
        assert report.is_repairable
        report = await verify(place, client=client, remote=1, repair=True)
        assert (report.findings, report.repaired) == ([], [good[0].session.id])
        async with Archive.open(place) as store:
            assert exported(await everything(store)) == exported(good)
        assert (await verify(place, client=client, remote=1)).bad == set()


async def test_another_server_is_refused_before_it_is_asked(new_place):
    place = await new_place()
    async with Sandbox(World(3)) as box, Sandbox(World(3)) as other:
        async with client_of("navtalk", box) as client, Archive.open(place) as store:
            await sync(client, store)
        async with client_of("navtalk", other) as client:
            with pytest.raises(StoreMismatch, match="server_moved=True"):
                await verify(place, client=client, remote=1)
        assert other.counts.total == 0
        async with client_of("navtalk", box) as client:
            assert (await verify(place, client=client, remote=1)).findings == []


@pytest.mark.parametrize("other", ["another project id", "another server", "another API"])
async def test_a_repair_by_another_client_is_refused_before_anything_is_written(tmp_path, other):
    place = tmp_path / "archive.db"
    api = "navtalk" if other == "another API" else "llamacloud"
    async with Sandbox(World(3, messages=4)) as box, Sandbox(World(3, messages=4)) as elsewhere:
        async with client_of("llamacloud", box) as client, Archive.open(place) as store:
            await sync(client, store)
        await asked(place, f"UPDATE sessions SET title = 'wrong' WHERE id = {ONE}")
        before = place.read_bytes()
        server = elsewhere if other == "another server" else box
        options = {"project_id": "other"} if other == "another project id" else {}
        dialect = dialects()[api](**options)
        async with Client(dialect, "k", base_url=server.url_of(api)) as client:
            for wish in ({"repair": True}, {"remote": 1}):
                with pytest.raises(StoreMismatch, match=r"--project-id other|server_moved=True|api="):
                    await verify(place, client=client, **wish)
        assert elsewhere.counts.total == 0
    assert place.read_bytes() == before


async def test_failed_and_pending_sessions_are_notes(new_place):
    place = await new_place()
    async with Sandbox(World(5)) as box, client_of("navtalk", box) as client, Archive.open(place) as store:
        await sync(client, store)
        [some, *_] = await everything(store)
        await store.record_failures(
            "default", [FailedSession(f"id-{each}", "ServerError: 500.", 8) for each in range(5)]
        )
        await store.refetch("default", [some.session.id])
    report = await verify(place)
    assert report.findings == []
    failed, pending = report.notes
    assert "5 sessions failed" in failed
    assert "id-0 (ServerError: 500); id-1 (ServerError: 500); id-2 (ServerError: 500); and 2 more" in failed
    assert "retry_failed=True" in failed
    assert "1 session pending" in pending


async def test_a_repair_fetches_failed_and_pending_sessions_though_nothing_else_is_wrong(new_place):
    place = await new_place()
    async with Sandbox(World(5)) as box, client_of("navtalk", box) as client:
        async with Archive.open(place) as store:
            await sync(client, store)
            good = await everything(store)
            failed, pending, *_ = [each.session.id for each in good]
            await store.record_failures("default", [FailedSession(failed, "ServerError: 500.", 8)])
            await store.refetch("default", [pending])
        report = await verify(place)
        assert report.unfinished == {("default", failed), ("default", pending)}
        assert report.is_repairable
        report = await verify(place, client=client, repair=True)
        assert (report.findings, report.notes, report.unfinished) == ([], [], set())
        async with Archive.open(place) as store:
            assert exported(await everything(store)) == exported(good)


@pytest.fixture
async def two_projects(tmp_path):
    """A server with two keys, an archive with a project of each, and a client with the first key."""
    place = tmp_path / "archive.db"
    worlds = {"k": World(6, messages=4), "second": World(9, messages=4, seed=1)}
    async with Sandbox(worlds["k"], keys=worlds) as box, client_of("navtalk", box) as client:
        async with (
            Archive.open(place) as store,
            Client(client.dialect, "second", base_url=box.navtalk_url) as other,
        ):
            await sync(client, store)
            await sync(other, store, project="two")
        yield box, place, client


async def transcripts_of(place, project="default"):
    async with Archive.open(place, read_only=True) as store:
        return await everything(store, project)


async def pending_of(place, project="default"):
    async with Archive.open(place, read_only=True) as store:
        return await store.pending(project)


def assert_blames_the_key(report):
    assert {(each.project, each.remedy) for each in report.findings} == {("two", Remedy.KEY)}
    assert any("the key is of another project" in each for each in report.notes)


async def test_a_repair_with_the_key_of_another_project_leaves_a_project_as_it_is(two_projects):
    box, place, client = two_projects
    [stale, *_] = [each.session.id for each in await transcripts_of(place) if not each.due_for_reread]
    before = await transcripts_of(place, "two")
    box.world.add_message(stale, "too late")
    report = await verify(place, client=client, remote=1, repair=True)
    assert report.repaired == [stale]
    assert_blames_the_key(report)
    report = Report()
    with pytest.raises(StoreMismatch, match="another project"):
        await verify(place, client=client, remote=1, repair=True, report=report)
    assert_blames_the_key(report)
    assert_blames_the_key(await verify(place, client=client, remote=1))
    assert await transcripts_of(place, "two") == before
    assert await pending_of(place, "two") == []


async def test_a_project_whose_pending_sessions_this_key_cannot_get_is_not_whole(two_projects):
    _, place, client = two_projects
    every = [each.session.id for each in await transcripts_of(place, "two")]
    async with Archive.open(place) as store:
        await store.refetch("two", every)
        [some, *_] = await everything(store)
        await store.refetch("default", [some.session.id])
    report = await verify(place, client=client, repair=True)
    [finding] = report.findings
    assert (finding.project, finding.session, finding.remedy) == ("two", None, Remedy.KEY)
    assert sorted(await pending_of(place, "two")) == sorted(every)
    assert await pending_of(place) == []
    assert (await verify(place, client=client, remote=1)).findings == [finding]
    assert (await verify(place)).findings == []


async def test_a_project_that_lost_a_session_at_the_api_is_not_taken_for_another_keys(two_projects):
    box, place, client = two_projects
    [gone, *_] = [each.session.id for each in await transcripts_of(place) if not each.due_for_reread]
    box.world.remove_session(gone)
    async with Archive.open(place) as store:
        await store.refetch("default", [gone])
    assert (await verify(place, client=client, remote=1, project="default")).findings == []


@given(st.none() | st.datetimes(), st.none() | st.datetimes())
def test_a_session_is_listed_next_unless_it_began_before_the_next_listing(begin, since):
    session = dialect_of("navtalk").session_of(
        json.dumps(
            {
                "id": "00000000-dede-11f0-92bc-000e1eed4a72",
                "status": 1,
                "startTime": begin and f"{begin:%Y-%m-%d %H:%M:%S}".rjust(19, "0"),
            }
        ).encode()
    )
    moment = since and f"{since:%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0")
    expected = begin is None or since is None or begin.replace(microsecond=0) >= since.replace(microsecond=0)
    assert is_listed_next(session, moment) == expected


# A byte, anywhere.


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """An export, and what is in it."""
    folder = tmp_path_factory.mktemp("out")

    async def run():
        async with (
            Sandbox(World(20, seed=5, unknown_fields=True)) as box,
            client_of("navtalk", box) as client,
        ):
            async with Archive.open(folder / "archive.db") as store:
                await sync(client, store, server="sandbox")
                await export(store, folder)

    asyncio.run(run())
    return folder


def rows_of(folder):
    lines = (folder / "transcripts.jsonl").read_bytes().split(b"\n")[:-1]
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.mark.slow
@settings(max_examples=examples(150))
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_with_any_bit_of_the_archive_flipped_an_export_is_right_or_says_that_it_is_not(
    out, tmp_path_factory, place, bit
):
    folder = shutil.copytree(out, tmp_path_factory.mktemp("some") / "out")
    data = bytearray((out / "archive.db").read_bytes())
    # One in four hits a word that stands in each row and each index.
    words = [found.start() + 3 for found in re.finditer(b"default", data)]
    at = words[int(len(words) * place * 4)] if place < 0.25 else int(len(data) * place)
    data[at] ^= 1 << bit
    (folder / "archive.db").write_bytes(data)

    async def run():
        async with Archive.open(folder / "archive.db") as store:
            return await export(store, folder)

    try:
        manifest = asyncio.run(run())
    except StoreError:
        shutil.rmtree(folder)
        return
    truth, rows = rows_of(out), rows_of(folder)
    assert {name: row for name, row in rows.items() if truth.get(name) != row} == {}
    assert not manifest.complete or rows.keys() == truth.keys()
    shutil.rmtree(folder)
