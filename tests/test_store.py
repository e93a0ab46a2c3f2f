"""What every store promises."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from navtalk_async.dialects.navtalk import NavTalkMessage, NavTalkSession
from navtalk_async.errors import StoreBroken, StoreError, StoreLocked, StoreMismatch
from navtalk_async.models import Place, Request, SessionStatus
from navtalk_async.store.sqlite import SqliteStore
from navtalk_async.store.store import Fetched, Unread, Wanted, content_hash, iso, journalled

LATER = Place(Request(path="/api/chat/sessions", params={"cursor": "abc", "limit": "100"}), 0, 9, 7)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(params=[SqliteStore])
async def store(request, tmp_path):
    async with request.param(tmp_path / "archive.db") as store:
        await store.claim("default", api="navtalk", scope="{}")
        yield store


def session(number, *, status=1, started=None, ended="2025-11-12 18:30:00", **fields):
    return NavTalkSession(
        id=f"{number:08x}-dede-11f0-92bc-000e1eed4a72",
        status=SessionStatus(status),
        started=started or f"2025-11-12 18:20:{number % 60:02}",
        ended=ended,
        video_url=None,
        **fields,
    )


def message(number, content="hello"):
    return NavTalkMessage(
        id=f"{number:08x}-e000-11f0-92bc-000e1eed4a72",
        role=number % 2,
        type=0,
        content=content,
        created="2025-11-12 18:20:43",
    )


async def journal(store, project, sessions, place):
    return await store.journal(project, sessions, [place] if place else [], now="2026-01-01 00:00:00")


def wanted(kept):
    return Wanted(kept.id, content_hash(kept.raw))


async def everything(store, project="default"):
    return [each async for some in store.transcripts(project) for each in some]


async def test_what_was_kept_comes_back_in_order(store):
    sessions = [session(number) for number in range(60)]
    await journal(store, "default", sessions, None)
    await store.keep(
        "default",
        [Fetched(wanted(each), [message(100 * n + m) for m in range(3)]) for n, each in enumerate(sessions)],
    )
    kept = await everything(store)
    assert [each.session.id for each in kept] == [each.id for each in sessions]
    assert [[row.position for row in each.messages] for each in kept] == [[0, 1, 2]] * 60


@settings(max_examples=40, deadline=None)
@given(st.lists(texts, max_size=5))
async def test_every_text_comes_back_as_it_was(contents):
    with TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder, "archive.db")) as store:
            await store.claim("default", api="navtalk", scope="{}")
            await journal(store, "default", [session(1)], None)
            said = [message(number, text) for number, text in enumerate(contents)]
            await store.keep("default", [Fetched(wanted(session(1)), said)])
            [kept] = await everything(store)
    assert [row.content for row in kept.messages] == contents


async def test_a_session_is_pending_from_its_journal_until_its_messages_are_kept(store):
    found = await journal(store, "default", [session(1), session(2)], LATER)
    assert found.to_fetch == [wanted(session(1)), wanted(session(2))]
    await store.keep("default", [Fetched(wanted(session(1)), [])])
    standing = await store.claim("default", api="navtalk", scope="{}")
    assert standing.pending == [wanted(session(2))]


async def test_the_place_of_an_unfinished_listing_is_kept_with_its_page(store):
    await journal(store, "default", [session(1), session(7)], LATER)
    standing = await store.claim("default", api="navtalk", scope="{}")
    assert (standing.places, standing.watermark) == ([LATER], None)


async def test_a_finished_listing_leaves_the_watermark_at_the_latest_begin(store):
    await journal(store, "default", [session(7)], LATER)
    await journal(store, "default", [], None)
    standing = await store.claim("default", api="navtalk", scope="{}")
    assert (standing.places, standing.watermark) == ([], "2025-11-12 18:20:07")


async def test_the_watermark_never_goes_back(store):
    await journal(store, "default", [session(7)], None)
    await journal(store, "default", [session(3)], None)
    standing = await store.claim("default", api="navtalk", scope="{}")
    assert standing.watermark == "2025-11-12 18:20:07"


async def test_a_session_dated_in_the_future_does_not_move_the_watermark_beyond_the_run(store):
    await journal(store, "default", [session(7, started="2099-01-01 00:00:00")], None)
    assert (await store.claim("default", api="navtalk", scope="{}")).watermark == "2026-01-01 00:00:00"


async def test_a_session_that_changed_while_it_was_fetched_is_fetched_again(store):
    before, after = session(1, status=0, ended=None), session(1)
    await journal(store, "default", [before], LATER)
    assert (await journal(store, "default", [after], LATER)).to_fetch == [wanted(after)]
    await store.keep("default", [Fetched(wanted(before), [message(1)])])
    assert (await store.claim("default", api="navtalk", scope="{}")).pending == [wanted(after)]


async def test_a_project_of_which_nothing_came_is_not_bound_to_its_filters(store):
    await store.claim("tried", api="navtalk", scope='{"status":1}')
    await store.claim("tried", api="navtalk", scope="{}")


async def test_a_project_counts_as_listed_when_its_listing_has_ended_and_no_other_began(store):
    listed = []
    for following in (LATER, None, LATER):
        await journal(store, "default", [session(1)], following)
        listed.append((await store.counts("default")).listed)
    assert listed == [False, True, False]
    assert not (await store.counts("never heard of")).listed


async def test_a_call_that_is_cancelled_from_outside_leaves_the_store_as_well_as_ever(tmp_path):
    for _ in range(20):
        async with SqliteStore(tmp_path / "archive.db") as store:
            await store.claim("default", api="navtalk", scope="{}")
            call = asyncio.create_task(journal(store, "default", [session(n) for n in range(100)], LATER))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
    async with SqliteStore(tmp_path / "archive.db") as store:
        assert (await store.counts("default")).sessions in (0, 100)


async def test_two_names_of_one_file_have_one_lock(tmp_path):
    (tmp_path / "alias.db").symlink_to(tmp_path / "archive.db")
    async with SqliteStore(tmp_path / "archive.db"):
        with pytest.raises(StoreLocked):
            async with SqliteStore(tmp_path / "alias.db"):
                pass


async def test_numbers_that_no_database_holds_are_kept_as_text(store):
    odd = session(1, status=2**70)
    await journal(store, "default", [odd], None)
    [kept] = await everything(store)
    assert kept.session.status == str(2**70)


def test_an_object_has_one_hash_however_it_is_written():
    assert content_hash(b'{"a": 1, "b": [2]}') == content_hash(b'{"b":[2],"a":1}')


async def test_a_failed_session_is_pending_no_more_until_somebody_asks_for_it(store):
    await journal(store, "default", [session(1)], None)
    await store.fail("default", [(session(1).id, "ServerError: 500", 8)])
    assert (await store.claim("default", api="navtalk", scope="{}")).failed == 1
    assert await store.failures("default") == [(session(1).id, "ServerError: 500", 8)]
    standing = await store.claim("default", api="navtalk", scope="{}", retry_failed=True)
    assert (standing.pending, standing.failed) == ([wanted(session(1))], 0)


async def test_a_vanished_session_stays_with_the_time_it_went_and_comes_back_if_it_does(store):
    await journal(store, "default", [session(1)], None)
    await store.vanish("default", session(1).id)
    [gone] = await everything(store)
    assert gone.session.deleted_at is not None
    found = await journal(store, "default", [session(1)], None)
    [back] = await everything(store)
    assert (back.session.deleted_at, found.to_fetch) == (None, [wanted(session(1))])


async def test_projects_do_not_see_each_other(store):
    await store.claim("other", api="navtalk", scope='{"status":1}')
    await journal(store, "default", [session(1)], None)
    await journal(store, "other", [session(1), session(2)], None)
    assert [(await store.counts(each)).sessions for each in ("default", "other")] == [1, 2]


@pytest.mark.parametrize(
    "other", [{"api": "kodey", "scope": "{}"}, {"api": "navtalk", "scope": '{"status":1}'}]
)
async def test_another_api_or_other_filters_on_a_project_are_refused(store, other):
    await journal(store, "default", [session(1)], None)
    with pytest.raises(StoreMismatch, match="begun with"):
        await store.claim("default", **other)


async def test_a_second_writer_is_told_that_somebody_writes(tmp_path):
    async with SqliteStore(tmp_path / "archive.db"):
        with pytest.raises(StoreLocked, match="Another run"):
            async with SqliteStore(tmp_path / "archive.db"):
                pass
    async with SqliteStore(tmp_path / "archive.db"):
        pass


async def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "archive.db"
    path.write_bytes(b"Dear diary, " * 500)
    with pytest.raises(StoreBroken, match="damaged, or is no archive"):
        async with SqliteStore(path):
            pass
    assert path.read_bytes() == b"Dear diary, " * 500


async def test_somebody_elses_database_is_refused(tmp_path):
    path = tmp_path / "archive.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (id)")
    db.close()
    with pytest.raises(StoreBroken, match="something else"):
        async with SqliteStore(path):
            pass


async def test_a_store_from_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "archive.db"
    async with SqliteStore(path):
        pass
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreMismatch, match="newer version"):
        async with SqliteStore(path):
            pass


async def test_a_place_that_cannot_be_written_to_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be used"):
        async with SqliteStore(tmp_path / "file" / "archive.db"):
            pass


async def test_a_store_that_is_not_open_says_so(tmp_path):
    with pytest.raises(StoreError, match="async with"):
        await SqliteStore(tmp_path / "archive.db").counts("default")


sessions = st.lists(
    st.builds(
        session,
        st.integers(0, 8),
        status=st.integers(0, 7),
        ended=st.sampled_from([None, "2025-11-12 18:30:00"]),
    ),
    max_size=8,
)


@given(sessions, sessions, st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)))
def test_a_page_is_judged_completely_and_nothing_is_fetched_twice_but_what_changed(
    before, page, pending, failed
):
    ids = {number: session(number).id for number in range(9)}
    pending, failed = {ids[n] for n in pending}, {ids[n] for n in failed - pending}
    hashes = {each.id: content_hash(each.raw) for each in before}
    found = journalled(page, hashes=hashes, pending=pending, failed=failed)
    sorts = [*found.inserted, *found.changed, *found.same]
    assert {each.id for each in sorts} == {each.id for each in page}
    assert len(sorts) == len({each.id for each in page})
    to_fetch = {each.id for each in found.to_fetch}
    assert not to_fetch & pending - {each.id for each in found.changed}
    assert {each.id for each in (*found.inserted, *found.changed)} <= to_fetch | pending


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
)
def test_a_time_is_kept_as_the_moment_it_means(moment):
    kept = iso(f"{moment:%Y-%m-%d %H:%M:%S}")
    assert kept.endswith("Z")
    assert datetime.fromisoformat(kept) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, None),
        ("yesterday", None),
        ("0001-01-01T00:00:00+08:00", None),
        ("20251112T182038.123", "2025-11-12T18:20:38.123000Z"),
        ("2025-13-45 99:00:00", None),
        ("2026-04-22T12:34:41.342245", "2026-04-22T12:34:41.342245Z"),
        ("2026-04-22T12:34:41+02:00", "2026-04-22T10:34:41Z"),
        ("2024-01-15T10:30:00Z", "2024-01-15T10:30:00Z"),
    ],
)
def test_times_of_other_forms_become_the_same_form(text, kept):
    assert iso(text) == kept


async def test_what_was_left_unread_is_kept_until_it_is_read(store):
    await journal(store, "default", [session(1), session(2)], None)
    further = Request(path="/api/chat/messages", params={"cursor": "abc", "limit": "200"})
    await store.keep(
        "default",
        [Fetched(wanted(session(n)), [message(10 * n), message(10 * n + 1)], unread=further) for n in (1, 2)],
    )
    left = [Unread(wanted(session(n)), further, 2) for n in (1, 2)]
    assert await store.unread("default") == left
    assert (await store.counts("default")).unread == 2
    await store.keep("default", [Fetched(wanted(session(1)), [message(12)], 2)])
    assert await store.unread("default") == left[1:]
    first, _ = await everything(store)
    assert [(row.position, row.id) for row in first.messages] == [(n, message(10 + n).id) for n in range(3)]


async def test_what_was_missing_of_a_session_does_not_end_its_being_pending(store):
    await journal(store, "default", [session(1)], None)
    await store.keep("default", [Fetched(wanted(session(1)), [message(5)], 3)])
    assert (await store.claim("default", api="navtalk", scope="{}")).pending == [wanted(session(1))]


async def test_a_session_that_vanished_has_nothing_unread(store):
    await journal(store, "default", [session(1)], None)
    await store.keep("default", [Fetched(wanted(session(1)), [message(5)], unread=LATER.next)])
    await store.vanish("default", session(1).id)
    assert await store.unread("default") == []


async def test_an_archive_of_the_first_version_is_gone_on_with(tmp_path):
    path = tmp_path / "archive.db"
    async with SqliteStore(path) as store:
        await store.claim("default", api="navtalk", scope="{}")
        await journal(store, "default", [session(1)], LATER)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE sync_unread")
        db.execute("ALTER TABLE sync_projects DROP COLUMN refuted")
        db.execute("UPDATE sync_projects SET next = ?", (msgspec.json.encode(LATER.next).decode(),))
        db.execute("PRAGMA user_version = 1")
    async with SqliteStore(path) as store:
        standing = await store.claim("default", api="navtalk", scope="{}")
        assert standing.places == [Place(LATER.next)]
        assert await store.unread("default") == []
