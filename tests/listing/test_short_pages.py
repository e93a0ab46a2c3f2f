"""Skipping the cursors of short pages saves requests, and never loses a row."""

import random
import sqlite3
from contextlib import closing
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import NavTalkClient, SessionPool
from navtalk_async.archive import Archive
from navtalk_async.ingest import sync
from navtalk_async.listing.fetch import ShortPageAudit
from navtalk_async.models import Page, Request
from navtalk_async.sandbox import Answers, Sandbox, World

FULL = 10


class Lists:
    """Many short lists with a cursor on every page that has rows."""

    def __init__(self, lists, cut=None):
        self.lists = lists
        self.cut = cut or (lambda: FULL)
        self.asked = 0

    async def ask(self, request):
        self.asked += 1
        begin = int(request.params.get("cursor", "0"))
        rest = self.lists[int(request.params["list"])][begin:]
        rows = rest[: self.cut()]
        return Page(rows, request.having(cursor=str(begin + len(rows))) if rows else None)


async def all_of(lists, audit):
    """Every row, as a caller of the audit reads them: skipped cursors are followed once it is disproved."""
    got, unfollowed = {}, {}
    for number in range(len(lists.lists)):
        rows = await audit.fetch_all(
            lists.ask, Request(path="/", params={"list": str(number)}), page_limit=lambda _: FULL
        )
        got[number] = rows.items
        if rows.unfollowed is not None:
            unfollowed[number] = rows.unfollowed
    if audit.disproved:
        for number, following in unfollowed.items():
            rows = await audit.fetch_all(lists.ask, following, page_limit=lambda _: FULL)
            assert rows.unfollowed is None
            got[number] += rows.items
    return list(got.values())


@settings(max_examples=examples(100))
@given(
    st.lists(st.integers(0, 25).map(lambda count: list(range(count))), max_size=300),
    st.randoms(use_true_random=False),
)
async def test_every_row_is_read_where_short_pages_are_the_last_ones(lists, chance):
    audit = ShortPageAudit(chance.random)
    assert await all_of(Lists(lists), audit) == lists
    assert not audit.disproved


@settings(max_examples=examples(100))
@given(
    lists=st.lists(st.integers(0, 60).map(lambda count: list(range(count))), max_size=300),
    most=st.integers(1, FULL - 1),
    chance=st.randoms(use_true_random=False),
)
async def test_every_row_is_read_where_every_page_is_cut_at_some_length(lists, most, chance):
    assert await all_of(Lists(lists, lambda: most), ShortPageAudit(chance.random)) == lists


async def test_every_row_is_read_where_one_page_in_ten_is_cut():
    for seed in range(20):
        chance = random.Random(seed)
        lists = [list(range(chance.randrange(2, 9))) for _ in range(1000)]
        cut = Lists(lists, lambda chance=chance: 1 if chance.random() < 0.1 else FULL)
        assert await all_of(cut, ShortPageAudit(chance.random)) == lists


async def test_an_audit_costs_little():
    chance = random.Random(7)
    lists = [list(range(chance.randrange(1, 9))) for _ in range(2000)]
    served = Lists(lists)
    audit = ShortPageAudit(chance.random)
    assert await all_of(served, audit) == lists
    assert served.asked == 2000 + audit.followed
    assert audit.followed + audit.skipped == 2000
    assert audit.followed <= 0.05 * 2000


async def test_a_full_page_and_an_empty_one_are_always_followed():
    served = Lists([list(range(FULL))] * 100 + [[]] * 100)
    audit = ShortPageAudit(lambda: 1.0)
    await all_of(served, audit)
    assert (audit.followed, audit.skipped) == (0, 0)


async def test_a_page_that_was_fetched_again_with_a_smaller_limit_is_not_short():
    class Heavy(Lists):
        """Pages of more than three rows are too large, and fetched again with three."""

        async def ask(self, request):
            page = await super().ask(request)
            following = page.next and page.next.having(limit="3")
            return Page(page.items[:3], following and following.having(cursor=str(self.begin(request) + 3)))

        def begin(self, request):
            return int(request.params.get("cursor", "0"))

    audit = ShortPageAudit(lambda: 1.0)
    audit.followed = 1000
    rows = await audit.fetch_all(
        Heavy([list(range(9))]).ask,
        Request(path="/", params={"list": "0"}),
        page_limit=lambda request: int(request.params.get("limit", FULL)),
    )
    assert (rows.items[:9], rows.unfollowed) == (list(range(9)), None)


# Over real sockets.


def truth(world):
    return {s["id"]: [m["id"] for m in world.messages(s["id"])] for s in world.sessions}


async def read_by_pool(nt, **options):
    """Every session's messages as the pool yields them, and the number of rests."""
    got, rests = {}, 0
    pool = SessionPool(nt, concurrency=8, short_pages="audit", **options)
    async with pool.transcripts() as transcripts:
        async for transcript in transcripts:
            assert transcript.is_rest == (transcript.session.id in got)
            got.setdefault(transcript.session.id, []).extend(each.id for each in transcript.messages)
            rests += transcript.is_rest
    return got, rests


async def test_a_pool_that_audits_sends_hardly_more_than_one_request_a_session():
    async with Sandbox(World(600, messages=3)) as box, NavTalkClient("k", base_url=box.navtalk_url) as nt:
        got, rests = await read_by_pool(nt)
        assert (got, rests) == (truth(box.world), 0)
        assert box.counts.by_kind["messages"] <= 600 * 1.08


async def test_a_pool_whose_audit_is_disproved_yields_the_rests():
    world = World(300, messages=lambda number: 1 if number < 250 else 9)
    async with (
        Sandbox(world, answers=Answers(max_page=4)) as box,
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
    ):
        got, rests = await read_by_pool(nt, listing="serial")
    assert got == truth(world)
    assert rests > 100


@pytest.mark.parametrize("order", ["done", "listed"])
async def test_an_audit_waits_for_the_last_session_before_it_ends(order):
    # Only the last session's page has more behind it, and it is the longest: so it is followed.
    world = World(200, messages=lambda number: 9 if number == 199 else 1)
    async with (
        Sandbox(world, answers=Answers(max_page=4)) as box,
        NavTalkClient("k", base_url=box.navtalk_url) as nt,
        SessionPool(nt, concurrency=8, short_pages="audit").transcripts(order=order) as transcripts,
    ):
        got = [(each.session.id, len(each.messages)) async for each in transcripts if not each.is_rest]
    assert got.count((world.sessions[199]["id"], 9)) == 1


async def kept(path):
    async with Archive.open(path) as store:
        return {
            each.session.id: [row.id for row in each.messages]
            async for some in store.transcript_batches("default")
            for each in some
        }


async def audited(box, path, short_pages="audit"):
    async with NavTalkClient("k", base_url=box.navtalk_url) as nt, Archive.open(path) as store:
        report = await sync(nt, store, short_pages=short_pages, concurrency=8)
        return report, (await store.counts("default")).unfollowed


async def test_an_archive_keeps_the_skipped_cursors(tmp_path):
    async with Sandbox(World(300, messages=3)) as box:
        report, unfollowed = await audited(box, tmp_path / "archive.db")
        assert report.short_pages_skipped == unfollowed > 200
        assert report.short_pages_followed == 300 - unfollowed
        assert await kept(tmp_path / "archive.db") == truth(box.world)


async def test_a_run_that_follows_reads_the_rows_behind_skipped_cursors(tmp_path):
    world = World(300, messages=1)
    async with Sandbox(world) as box:
        await audited(box, tmp_path / "archive.db")
        # The audit did not see this one; a run that follows every cursor finds it.
        async with Archive.open(tmp_path / "archive.db") as store:
            [first, *_] = await store.unfollowed_cursors("default")
        world.add_message(first.wanted.id, content="late")
        _, unfollowed = await audited(box, tmp_path / "archive.db", "follow")
        assert unfollowed == 0
        assert await kept(tmp_path / "archive.db") == truth(world)


async def test_an_archive_is_whole_after_an_audit_that_was_disproved(tmp_path):
    world = World(300, messages=lambda number: 1 if number < 250 else 9)
    async with Sandbox(world, answers=Answers(max_page=4)) as box:
        report, unfollowed = await audited(box, tmp_path / "archive.db")
        assert (report.short_pages_disproved, unfollowed) == (True, 0)
        assert await kept(tmp_path / "archive.db") == truth(world)
        assert report.messages == sum(map(len, truth(world).values()))


async def test_an_archive_remembers_that_an_audit_was_disproved(tmp_path):
    world = World(300, messages=lambda number: 1 if number < 250 else 9)
    async with Sandbox(world, answers=Answers(max_page=4)) as box:
        assert (await audited(box, tmp_path / "archive.db"))[0].short_pages_skipped
        for session in world.sessions[:100]:
            world.change_session(session["id"], videoUrl="https://example.com/v.mp4")
        async with NavTalkClient("k", base_url=box.navtalk_url) as nt:
            async with Archive.open(tmp_path / "archive.db") as store:
                report = await sync(nt, store, short_pages="audit", overlap=timedelta(days=900))
        assert (report.changed, report.short_pages_skipped) == (100, 0)


async def test_a_skipped_cursor_that_is_refused_or_whose_session_is_gone_ends_no_run(tmp_path):
    world = World(60, messages=2)
    async with Sandbox(world) as box:
        await audited(box, tmp_path / "archive.db")
        async with Archive.open(tmp_path / "archive.db") as store:
            gone, stale, *_ = await store.unfollowed_cursors("default")
        world.remove_session(gone.wanted.id)
        with closing(sqlite3.connect(tmp_path / "archive.db")) as db, db:
            expired = stale.next.having(cursor="expired")
            db.execute(
                "UPDATE sync_sessions SET next = ? WHERE session_id = ?",
                (msgspec.json.encode(expired).decode(), stale.wanted.id),
            )
        report, unfollowed = await audited(box, tmp_path / "archive.db", "follow")
        assert (unfollowed, report.vanished, report.failed, report.open) == (0, 1, 0, 0)
        assert truth(world).items() <= (await kept(tmp_path / "archive.db")).items()


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="neither 'follow' nor 'audit'"):
        SessionPool(NavTalkClient("k", base_url="http://127.0.0.1:1"), short_pages="trust")
