"""What is fetched and not committed yet: it holds no place, is bounded, and is kept however the run ends."""

import asyncio
import sqlite3
from contextlib import contextmanager
from threading import Event

import pytest
from anyio import wait_all_tasks_blocked

from navtalk_async import NavTalkClient
from navtalk_async.archive import Archive, failpoints
from navtalk_async.errors import AccessDenied, StoreError
from navtalk_async.ingest import Progress, sync
from navtalk_async.sandbox import Answers, Sandbox, World

AT_ONCE = 4
BARE = Answers(cursor_on_last_page=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive.db"


@contextmanager
def reaching(name, do):
    """Call *do* wherever an archive comes to the failpoint *name*, in its thread."""
    failpoints.arm(lambda reached: do() if reached == name else None)
    try:
        yield
    finally:
        failpoints.arm(None)


@contextmanager
def blocked_commits():
    """Every commit of messages waits for the event."""
    going = Event()
    with reaching("save messages: before commit", lambda: going.wait(60)):
        try:
            yield going
        finally:
            going.set()


async def synced(box, path, **options):
    async with (
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
        Archive.open(path) as store,
    ):
        return await sync(nt, store, concurrency=AT_ONCE, **options)


async def stopped_asking(box, sessions):
    """Wait until the messages of so many *sessions* were asked for, and every answer was read."""
    while len(box.counts.messages_by_session) < sessions or box.counts.in_flight:  # noqa: ASYNC110
        await asyncio.sleep(0)
    await wait_all_tasks_blocked()


async def kept(path):
    async with Archive.open(path) as store:
        return [row.session.id async for row in store.transcripts() if row.messages]


async def test_a_commit_that_blocks_holds_no_place_and_bounds_what_is_fetched(path):
    progress = Progress()
    async with Sandbox(World(60, messages=2), answers=BARE) as box:
        with blocked_commits() as going:
            run = asyncio.create_task(synced(box, path, progress=progress))
            await stopped_asking(box, 2 * AT_ONCE)
            assert len(box.counts.messages_by_session) == 2 * AT_ONCE
            # None of them is done before it is kept.
            assert (progress.report.done, progress.report.open, progress.report.messages) == (0, 60, 0)
            going.set()
            await run
    assert (progress.report.done, progress.report.open, progress.report.messages) == (60, 0, 120)
    assert len(await kept(path)) == 60


async def test_all_that_was_fetched_when_a_run_is_cancelled_is_kept(path):
    async with Sandbox(World(60, messages=2), answers=BARE) as box:
        with blocked_commits() as going:
            run = asyncio.create_task(synced(box, path))
            await stopped_asking(box, 2 * AT_ONCE)
            run.cancel()
            await wait_all_tasks_blocked()
            assert not run.done()
            going.set()
            with pytest.raises(asyncio.CancelledError):
                await run
        assert set(await kept(path)) == box.counts.messages_by_session.keys()


@pytest.mark.parametrize("fault", ["403", "disk"])
async def test_all_that_was_fetched_when_a_run_fails_is_kept_but_for_a_commit_that_failed(path, fault):
    commits = []

    def fail_once():
        commits.append("disk")
        if commits == [fault]:
            raise sqlite3.OperationalError("database or disk is full")

    async with Sandbox(World(60, messages=2), answers=BARE) as box:
        if fault == "403":
            box.fail_next(fault, times=10_000, path=f"messages?sessionId={box.world.sessions[30]['id']}")
        with (
            reaching("save messages: before commit", fail_once),
            pytest.raises(StoreError if fault == "disk" else AccessDenied),
        ):
            await synced(box, path)
        lost = box.counts.messages_by_session.keys() - set(await kept(path))
        # Those under way, and those of the commit that failed.
        assert len(lost) <= (2 if fault == "disk" else 1) * AT_ONCE


async def test_a_run_that_is_cancelled_is_cancelled_though_its_last_commit_fails(path):
    async with Sandbox(World(60, messages=2), answers=BARE) as box:
        with blocked_commits() as going:
            run = asyncio.create_task(synced(box, path))
            await stopped_asking(box, 2 * AT_ONCE)

            def full():
                raise sqlite3.OperationalError("database or disk is full")

            with reaching("save messages: before write", full):
                run.cancel()
                going.set()
                with pytest.raises(asyncio.CancelledError):
                    await run


@pytest.mark.parametrize("answers", [BARE, Answers(max_page=12, cursor_on_last_page=False)])
@pytest.mark.parametrize("at_once", [1, AT_ONCE, "auto"])
async def test_a_session_is_done_once_also_where_the_rest_of_it_is_followed(path, answers, at_once):
    async with (
        Sandbox(World(30, messages=lambda number: number), answers=answers) as box,
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
        Archive.open(path) as store,
    ):
        report = await sync(nt, store, concurrency=at_once, short_pages="audit")
        assert report.short_pages_disproved is (answers is not BARE)
        assert (report.done, report.open, report.messages) == (30, 0, sum(range(30)))
        assert (await store.counts()).messages == sum(range(30))
