"""What every archive promises: all of it comes back as it was, for one writer and many readers."""

import asyncio
from itertools import count

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples
from store_rows import (
    NOW,
    begin,
    clock,
    everything,
    fetched,
    ids,
    journal,
    message,
    session,
    wanted,
)

from navtalk_async.archive import Archive, redacted
from navtalk_async.archive.records import (
    FailedSession,
    FetchResult,
    MessageCounts,
)
from navtalk_async.archive.rows import format_time, message_row, session_row
from navtalk_async.errors import StoreError, StoreLocked, StoreMismatch

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
words = st.sampled_from(["", "0", "7", "-1", "007", '"', '"7"', "a\0", "voice", str(2**63)]) | texts
projects = map("project {}".format, count())


async def test_what_was_kept_comes_back_in_order(store):
    sessions = [session(number) for number in range(60)]
    await journal(store, *sessions)
    read = [fetched(each, *range(100 * n, 100 * n + 3)) for n, each in enumerate(sessions)]
    assert await store.save_messages("default", read) == MessageCounts(inserted=180)
    kept = await everything(store)
    assert [each.session.id for each in kept] == [each.id for each in sessions]
    assert [[row.position for row in each.messages] for each in kept] == [[0, 1, 2]] * 60


@pytest.mark.slow
@settings(max_examples=examples(40))
@given(st.lists(st.tuples(texts, words, words), max_size=5), texts, words | st.integers(-(2**70), 2**70))
async def test_everything_comes_back_as_it_was(store, said, title, status):
    project = next(projects)
    await begin(store, project)
    held = session(1, title=title)
    held = msgspec.structs.replace(
        held, status=status if isinstance(status, str) else type(held.status)(status)
    )
    said = [message(n, text, role=role, type=kind) for n, (text, role, kind) in enumerate(said)]
    for reading in (MessageCounts(inserted=len(said)), MessageCounts(same=len(said))):
        await journal(store, held, project=project)
        assert (
            await store.save_messages(project, [FetchResult(wanted(held), said, at=format_time(NOW))])
            == reading
        )
    [kept] = await everything(store, project)
    assert kept.session == session_row(project, "navtalk", held, clock().now)
    assert kept.messages == [message_row(project, held.id, n, each) for n, each in enumerate(said)]


@settings(max_examples=examples(20))
@given(st.lists(words, min_size=1, max_size=5, unique=True))
async def test_an_id_may_be_any_text(store, names):
    project = next(projects)
    await begin(store, project)
    sessions = [msgspec.structs.replace(session(1), id=name) for name in names]
    await journal(store, *sessions, project=project, seen=names)
    assert {each.id for each in (await begin(store, project)).pending} == set(names)
    said = [[msgspec.structs.replace(message(1), id=name + end) for end in "ab"] for name in names]
    read = [FetchResult(wanted(each), some) for each, some in zip(sessions, said, strict=True)]
    await store.save_messages(project, read)
    kept = {each.session.id: [row.id for row in each.messages] for each in await everything(store, project)}
    owners = {row: name for name in names for row in (name + "a", name + "b")}
    assert {row: name for name, rows in kept.items() for row in rows} == owners
    assert await store.missing(project, since=None) == []
    for name in names:
        assert await store.mark_deleted(project, name)
    assert (await store.counts(project)).deleted == len(names)


@pytest.mark.parametrize("status", [0, 1, 2, 7])
async def test_a_number_that_has_no_name_stays_a_number(store, status):
    await journal(store, session(1, status=status), session(2, status=5))
    [kept, _] = await everything(store)
    assert kept.session.status == {0: "active", 1: "completed", 2: "failed"}.get(status, status)


async def test_numbers_that_no_database_holds_are_kept_as_text(store):
    await journal(store, session(1, status=2**70))
    [kept] = await everything(store)
    assert kept.session.status == str(2**70)


async def test_transcripts_come_by_their_begin_and_then_by_the_bytes_of_their_ids(store):
    begins = [None, "2025-11-12 18:20:00", "2025-11-12 18:20:01"]
    expected = [
        msgspec.structs.replace(session(1), id=f"{name}{number}", start_time_text=begin)
        for number, begin in enumerate(begins)
        for name in "Bab\u00e4"
    ]
    expected = sorted(expected, key=lambda each: (each.start_time_text or "", each.id.encode()))
    await journal(store, *reversed(expected))
    assert [each.session.id for each in await everything(store)] == [each.id for each in expected]


async def test_transcripts_are_as_they_were_at_one_moment(store):
    sessions = [session(number) for number in range(60)]
    await journal(store, *sessions)
    walk = store.transcript_batches("default")
    got = await anext(walk)
    await store.save_messages("default", [fetched(each, n) for n, each in enumerate(sessions)])
    await store.mark_deleted("default", session(59).id)
    async for some in walk:
        got += some
    assert len(got) == 60
    assert [(each.messages, each.session.deleted_at) for each in got] == [([], None)] * 60


async def test_transcripts_may_be_left_early(store):
    await journal(store, *(session(number) for number in range(60)))
    walk = store.transcript_batches("default")
    await anext(walk)
    await walk.aclose()
    assert (await store.counts("default")).sessions == 60


async def test_an_archive_is_read_while_it_is_written_to(store, place):
    async with Archive.open(place, read_only=True) as reader:
        await journal(store, session(1))
        assert (await reader.counts("default")).pending == 1
        await store.save_messages("default", [fetched(session(1), 1)])
        assert (await reader.counts("default")).pending == 0
        assert await ids(reader) == [1]


async def test_an_archive_that_is_not_there_cannot_be_read(place):
    with pytest.raises(StoreError, match="no archive at"):
        async with Archive.open(place, read_only=True):
            pass


async def test_a_call_that_is_cancelled_from_outside_leaves_the_store_as_well_as_ever(place):
    sessions = [session(n) for n in range(100)]
    for turns in range(20):
        async with Archive.open(place) as store:
            await begin(store)
            call = asyncio.create_task(journal(store, *sessions, seen=[each.id for each in sessions]))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
            assert (await store.counts("default")).sessions in {0, 100}
            keeping = asyncio.create_task(
                store.save_messages("default", [fetched(session(1), *range(turns))])
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    async with Archive.open(place) as store:
        await begin(store)
        await journal(store, *sessions, seen=[each.id for each in sessions])
    async with Archive.open(place, read_only=True) as reader:
        assert (await reader.counts("default")).sessions == 100
        assert await reader.flaws("default") == []


async def test_many_tasks_may_ask_at_once(store):
    await asyncio.gather(*(journal(store, session(n)) for n in range(30)))
    await asyncio.gather(*(store.save_messages("default", [fetched(session(n), n)]) for n in range(30)))
    counts = await store.counts("default")
    assert (counts.sessions, counts.messages, counts.pending) == (30, 30, 0)


async def test_projects_do_not_see_each_other(store):
    await begin(store, "other", scope='{"status":1}')
    await journal(store, session(1))
    await journal(store, session(1), session(2), project="other")
    assert [(await store.counts(each)).sessions for each in ("default", "other")] == [1, 2]
    assert [each.project for each in await store.projects()] == ["default", "other"]


@pytest.mark.parametrize("other", [{"api": "kodey"}, {"scope": '{"status":1}'}])
async def test_another_api_or_other_filters_on_a_project_are_refused_and_change_nothing(store, other):
    await journal(store, session(1))
    await store.record_failures("default", [FailedSession(session(1).id, "ServerError: 500", 8)])
    with pytest.raises(StoreMismatch, match=r"is of the API|holds .*; you asked for"):
        await begin(store, **other, retry_failed=True)
    assert len(await store.failures("default")) == 1


async def test_the_filters_of_another_package_are_written_as_options(store):
    await journal(store, session(1))
    other = '{"role":1,"options":{"project_id":"p"},"others":{"team":"blue"}}'
    with pytest.raises(StoreMismatch, match="you asked for role='assistant' project_id='p' team='blue'"):
        await begin(store, scope=other)


async def test_a_second_writer_is_refused(place):
    async with Archive.open(place):
        with pytest.raises(StoreLocked, match="Another run"):
            async with Archive.open(place):
                pass
    async with Archive.open(place):
        pass


async def test_a_store_that_is_not_open_says_so(place):
    with pytest.raises(StoreError, match="async with"):
        await Archive.open(place).counts("default")


async def test_a_store_says_where_it_is(place):
    assert redacted(place) in repr(Archive.open(place))


@pytest.mark.parametrize("place", [None, 5, b"archive.db"])
def test_what_is_no_path_is_refused_at_once(place):
    with pytest.raises(TypeError, match="no path of an archive"):
        Archive.open(place)
