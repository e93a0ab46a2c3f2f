"""Over real sockets: `LexiconClient` has every call of the reference, and feeds what any client feeds."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime

import pytest
from documented import lexicon_world
from shell import KEY, navtalk

from navtalk_async import LexiconClient, Retry, SessionPool
from navtalk_async.archive import Archive
from navtalk_async.archive.rows import content_hash, is_same_state
from navtalk_async.client import Client
from navtalk_async.dialects.lexicon import Lexicon, LexiconChat, LexiconMessage
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    Conflict,
    NotFound,
)
from navtalk_async.events import Answered, ListMoved
from navtalk_async.ingest import sync
from navtalk_async.models import Request
from navtalk_async.sandbox import Answers, Faults, Sandbox, World
from navtalk_async.sandbox._lexicon import user_of
from navtalk_async.verification import verify

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
MOVED = "its rows moved while it was listed, so parts of it were listed again"
SAMPLE = "chat-a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d"


def client(box, key="key-1", **options):
    return LexiconClient(key, base_url=box.lexicon_url, **{"retry": QUICK} | options)


async def rows(listing):
    return [row async for row in listing]


async def ids(listing):
    return [row.id async for row in listing]


def zoned(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def of_user(box, user):
    """The ids of a user's chats, in order, as the sandbox's world has them."""
    return [row["id"] for row in box.world.sessions if user_of(box.world, row["id"]) == user]


def longest(box):
    return max(box.world.sessions, key=lambda row: len(box.world.messages(row["id"])))["id"]


def moves(events):
    return [event for event in events if isinstance(event, ListMoved)]


# Every endpoint -------------------------------------------------------------------------------------------


async def test_the_reference_page_comes_out_of_the_calls():
    async with Sandbox(lexicon_world()) as box, client(box) as asked:
        page = await asked.messages.list(SAMPLE)
        chat = await asked.chats.get(SAMPLE)
    assert [(type(said), said.role) for said in page.items] == [
        (LexiconMessage, role) for role in ("user", "assistant", "user", "assistant")
    ]
    assert page.items[1].metadata == {"model": "gpt-4", "tokens_used": 87}
    assert page.items[0].created_at == zoned("2024-01-15T10:30:00")
    assert (page.total, page.next, chat.message_count) == (4, None, 4)


async def test_chats_create():
    async with Sandbox(World(3)) as box, client(box) as asked:
        chat = await asked.chats.create(user_id="ann", title="Lost password", metadata={"é": [1]})
        assert (type(chat), chat.user_id, chat.title) == (LexiconChat, "ann", "Lost password")
        assert (chat.metadata, chat.last_message_at, bool(chat.tenant_id)) == ({"é": [1]}, None, True)
        assert await ids(asked.chats.list_for_user("ann")) == [chat.id]
        ((method, path, body),) = box.counts.written
    assert (method, path) == ("POST", "/api/v1/chats/")
    assert json.loads(body) == {"user_id": "ann", "title": "Lost password", "metadata": {"é": [1]}}
    assert box.counts.by_status == {201: 1, 200: 1}


async def test_chats_list_for_user():
    async with Sandbox(World(300)) as box, client(box) as asked:
        users = [f"user-{number}" for number in range(4)]
        lists = [await ids(asked.chats.list_for_user(user)) for user in users]
        assert lists == [of_user(box, user) for user in users]
        assert sum(map(len, lists)) == 300
        chats = await rows(asked.chats.list_for_user("user-0", limit=100))
    assert len(chats) > 100
    assert all(chat.user_id == "user-0" and chat.updated_at >= chat.created_at for chat in chats)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_lists_are_walked_from_anywhere_in_either_order(order):
    async with Sandbox(World(60)) as box, client(box) as asked:
        chats, said = of_user(box, "user-0"), [row["id"] for row in box.world.messages(longest(box))]
        if order == "desc":
            chats, said = chats[::-1], said[::-1]
        listing = asked.chats.list_for_user("user-0", order=order, offset=3, limit=7)
        assert await ids(listing) == chats[3:]
        first = await listing
        assert (first.total, [chat.id for chat in first.items]) == (len(chats), chats[3:10])
        assert await ids(listing.resume(first.token)) == chats[10:]
        listing = asked.messages.list(longest(box), order=order, offset=2, limit=5)
        assert await ids(listing) == said[2:]


async def test_chats_get():
    async with Sandbox(World(20)) as box, client(box) as asked:
        for row in box.world.sessions:
            chat = await asked.chats.get(row["id"])
            said = box.world.messages(row["id"])
            assert (chat.id, chat.created_at) == (row["id"], zoned(row["startTime"]))
            assert (chat.message_count, chat.status) == (
                len(said),
                ("active", "completed", "failed")[row["status"]],
            )
            assert chat.last_message_at == (zoned(said[-1]["createdAt"]) if said else None)
        with pytest.raises(NotFound, match="Chat not found"):
            await asked.chats.get("nobody")


async def test_chats_delete():
    async with Sandbox(World(5)) as box, client(box) as asked:
        gone = box.world.sessions[2]["id"]
        reported = await asked.chats.delete(gone)
        assert (reported.success, bool(reported.message)) == (True, True)
        assert reported.deleted_at.tzinfo is UTC
        assert gone not in [row["id"] for row in box.world.sessions]
        with pytest.raises(NotFound) as caught:
            await asked.chats.delete(gone)
    assert not caught.value.may_have_happened
    assert box.counts.writes["DELETE", f"/api/v1/chats/{gone}"] == 2


async def test_a_chat_that_somebody_is_connected_to_is_not_deleted():
    async with Sandbox(World(5)) as box, client(box) as asked:
        chat = box.world.sessions[0]["id"]
        box.world.joined.add(chat)
        with pytest.raises(Conflict, match="websocket") as caught:
            await asked.chats.delete(chat)
        assert (caught.value.may_have_happened, box.counts.writes.total()) == (False, 1)
        box.world.joined.clear()
        assert (await asked.chats.delete(chat)).success


async def test_messages_list():
    async with Sandbox(World(20)) as box, client(box) as asked:
        for row in box.world.sessions:
            said = await rows(asked.messages.list(row["id"], limit=10))
            truth = box.world.messages(row["id"])
            assert [(message.id, message.content) for message in said] == [
                (each["id"], each["content"]) for each in truth
            ]
            assert [message.role for message in said] == [
                ("user", "assistant")[each["role"]] for each in truth
            ]
            assert [message.created_at for message in said] == [zoned(each["createdAt"]) for each in truth]


# What is left open ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_more", ["right", "false", "true", "missing"])
@pytest.mark.parametrize("total", ["right", "few", "many", "missing"])
@pytest.mark.parametrize("max_page", [None, 3])
async def test_every_row_comes_once_whatever_pages_say_of_themselves(has_more, total, max_page):
    if (has_more, total) in {("false", "few"), ("false", "missing"), ("missing", "few")}:
        # Nothing promises the rows there are: nobody could know of them. One of the two tells the truth here.
        total = "right"
    answers = Answers(lexicon_has_more=has_more, lexicon_total=total, max_page=max_page)
    async with Sandbox(World(40), answers=answers) as box, client(box) as asked:
        assert await ids(asked.chats.list_for_user("user-0", limit=5)) == of_user(box, "user-0")
        said = [row["id"] for row in box.world.messages(longest(box))]
        assert await ids(asked.messages.list(longest(box), limit=5)) == said


@pytest.mark.parametrize("errors", ["detail", "error", "bare"])
async def test_a_wrong_key_is_told(errors):
    answers = Answers(errors="bare") if errors == "bare" else Answers(lexicon_errors=errors)
    async with Sandbox(World(5), answers=answers) as box, client(box, "expired") as asked:
        with pytest.raises(
            AccessDenied, match="no reason given" if errors == "bare" else "API key"
        ) as caught:
            await asked.chats.list_for_user("user-0")
    assert (caught.value.status, caught.value.attempts) == (401, 1)


@pytest.mark.parametrize("status", ["400", "422"])
async def test_what_the_api_does_not_take_is_a_bad_request(status):
    async with Sandbox(World(5), answers=Answers(lexicon_invalid=status)) as box, client(box) as asked:
        wrong = Request(method="POST", path="/api/v1/chats/", body=b'{"user_id": 7}')
        with pytest.raises(BadRequest, match="Invalid user_id") as caught:
            await asked.ask(wrong, asked.dialect.read_session)
    assert (caught.value.status, caught.value.may_have_happened) == (int(status), False)


async def test_chats_that_are_made_meanwhile_come_at_the_end():
    async with Sandbox(World(60)) as box, client(box) as asked:
        before, got = of_user(box, "user-0"), []
        async for page in asked.chats.list_for_user("user-0", limit=10).pages():
            got += [chat.id for chat in page.items]
            if len(got) == 10:
                made = await asked.chats.create(user_id="user-0")
    assert got == [*before, made.id]


# Lists that move ------------------------------------------------------------------------------------------


class Deleting:
    """An observer that deletes the first rows of every list whose first page was answered."""

    def __init__(self, of):
        self.of = of
        self.box = None
        self.events = []
        self.hit = set()

    def __call__(self, event):
        self.events.append(event)
        if not isinstance(event, Answered) or event.call.path in self.hit:
            return
        self.hit.add(event.call.path)
        world = self.box.world
        if self.of == "chats" and "/user/" in event.call.path:
            for chat in of_user(self.box, "user-0")[:2]:
                world.remove_session(chat)
        if self.of == "messages" and event.call.path.endswith("/messages"):
            chat = event.call.path.split("/")[4]
            for message in world.messages(chat)[:2]:
                world.remove_message(chat, message["id"])


def truth(box):
    """The messages of each chat that the user has."""
    return {chat: [each["id"] for each in box.world.messages(chat)] for chat in of_user(box, "user-0")}


async def said_in(asked, chat):
    try:
        return await ids(asked.messages.list(chat, limit=7))
    except NotFound:
        return None


async def by_iteration(asked, _):
    chats = await ids(asked.chats.list_for_user("user-0", limit=7))
    return [(chat, await said_in(asked, chat)) for chat in chats]


async def by_pages(asked, _):
    pages = [page async for page in asked.chats.list_for_user("user-0", limit=7).pages()]
    found = []
    for chat in [chat.id for page in pages for chat in page.items]:
        try:
            pages = [page async for page in asked.messages.list(chat, limit=7).pages()]
        except NotFound:
            pages = []
        found.append((chat, [message.id for page in pages for message in page.items]))
    return found


async def by_pool(asked, _, **options):
    pool = SessionPool(asked, concurrency=4, **options)
    async with pool.transcripts(user_id="user-0", on_error="yield") as transcripts:
        return [(each.session.id, [row.id for row in each.messages]) async for each in transcripts]


async def by_audited_pool(asked, _):
    return await by_pool(asked, _, short_pages="audit")


async def by_sync(asked, place):
    async with Archive.open(place) as store:
        await sync(asked, store, user_id="user-0")
    with closing(sqlite3.connect(place)) as db:
        chats = [chat for (chat,) in db.execute("SELECT id FROM sessions")]
        said = "SELECT id FROM messages WHERE session_id = ? ORDER BY position"
        return [(chat, [each for (each,) in db.execute(said, (chat,))]) for chat in chats]


@pytest.mark.parametrize("of", ["chats", "messages"])
@pytest.mark.parametrize("way", [by_iteration, by_pages, by_pool, by_audited_pool, by_sync])
async def test_rows_that_are_deleted_while_a_list_is_paged_hide_no_other(way, of, tmp_path):
    deleting = Deleting(of)
    world = World(120, messages=lambda number: 40 if number % 4 == 0 else 3)
    async with (
        Sandbox(world, answers=Answers(max_page=7)) as box,
        client(box, on_event=deleting) as asked,
    ):
        deleting.box = box
        found = await way(asked, tmp_path / "a.db")
        left = truth(box)
    said = dict(found)
    assert len(said) == len(found)
    assert left.keys() <= said.keys()
    for chat, there in left.items():
        assert [each for each in said[chat] if each in there] == there
        assert len(set(said[chat])) == len(said[chat])
    reported = moves(deleting.events)
    assert reported
    assert max(Counter(reported).values()) == 1
    assert {each.reason for each in reported} == {MOVED}


async def test_verify_finds_nothing_wrong_with_a_list_that_moves(tmp_path):
    deleting = Deleting("messages")
    async with Sandbox(World(40, messages=40), answers=Answers(max_page=7)) as box:
        async with client(box) as asked, Archive.open(tmp_path / "a.db") as store:
            await sync(asked, store, user_id="user-0")
            deleting.box = box
            async with client(box, on_event=deleting) as again:
                report = await verify(store.path, client=again, remote=1)
    assert report.checked.asked > 5
    assert report.findings == []
    assert len(moves(deleting.events)) == report.checked.asked


@pytest.mark.parametrize("command", ["sync", "export", "plan", "sessions"])
async def test_a_command_says_once_that_a_total_is_wrong_and_succeeds(command, tmp_path):
    async with Sandbox(World(40), answers=Answers(lexicon_total="many")) as box:
        count = len(of_user(box, "user-0"))
        env = {"LEXICON_API_KEY": KEY, "LEXICON_BASE_URL": box.lexicon_url}
        place = [tmp_path / "chats"] if command in ("sync", "export") else []
        done = await navtalk(command, *place, "--api", "lexicon", "--user", "user-0", env=env)
        assert done.code == 0
        assert done.err.count("About the list") == 1
        if command == "sessions":
            assert f"has a total of {count + 11} and gave {count}" in done.err
            assert len(done.out.splitlines()) == count + 1


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_chats_that_come_and_go_while_they_are_listed_come_once(order):
    async with Sandbox(World(200)) as box, client(box) as asked:
        got, before = [], of_user(box, "user-0")
        async for page in asked.chats.list_for_user("user-0", limit=5, order=order).pages():
            got += [chat.id for chat in page.items]
            if len(got) < 30:
                box.world.remove_session(got[0])
                got, before = got[1:], [each for each in before if each != got[0]]
                await asked.chats.create(user_id="user-0")
        assert len(set(got)) == len(got)
        assert set(before) <= set(got)


@pytest.mark.parametrize("way", [by_iteration, by_pages, by_pool, by_sync])
async def test_a_chat_that_is_spoken_in_and_moves_to_the_end_hides_no_other(way, tmp_path):
    spoken_in = []

    def speak(event):
        if isinstance(event, Answered) and "/user/" in event.call.path and not spoken_in:
            spoken_in.extend(of_user(box, "user-0")[:3:2])
            for chat in spoken_in:
                box.world.add_message(chat, created_at="2030-01-01 00:00:00")

    answers = Answers(lexicon_sorts_by="updated_at", max_page=7)
    async with (
        Sandbox(World(120, messages=1), answers=answers) as box,
        client(box, on_event=speak) as asked,
    ):
        found = await way(asked, tmp_path / "a.db")
    assert Counter(chat for chat, _ in found) == Counter(of_user(box, "user-0"))


@pytest.mark.parametrize("total", ["many", "few"])
async def test_a_wrong_total_is_told_once_a_list_and_costs_little_in_each_round(total, tmp_path):
    reported, requests = [], []
    answers = Answers(lexicon_total=total)
    async with (
        Sandbox(World(60), answers=answers) as box,
        client(box, on_event=reported.append) as asked,
        Archive.open(tmp_path / "a.db") as store,
    ):
        for _ in range(3):
            before = box.counts.by_kind["sessions"]
            report = await sync(asked, store, user_id="user-0")
            requests.append(box.counts.by_kind["sessions"] - before)
        assert report.vanished == 0
        paths = Counter(each.path for each in moves(reported))
    assert requests == ([3, 3, 3] if total == "many" else [1, 1, 1])
    assert paths["/api/v1/chats/user/user-0"] == (3 if total == "many" else 0)
    assert max((count for path, count in paths.items() if path.endswith("/messages")), default=1) == 1


# What fails -----------------------------------------------------------------------------------------------


async def test_an_empty_page_that_promises_more_is_asked_for_again():
    async with Sandbox(World(60)) as box, client(box) as asked:
        box.fail_next("empty-page", 2)
        assert await ids(asked.chats.list_for_user("user-0", limit=10)) == of_user(box, "user-0")


async def test_empty_pages_that_always_promise_more_end_soon_and_are_told():
    reported = []
    async with (
        Sandbox(World(60), faults=Faults(empty_page=1.0)) as box,
        client(box, on_event=reported.append) as asked,
    ):
        count = len(of_user(box, "user-0"))
        assert await ids(asked.chats.list_for_user("user-0", limit=100)) == []
        assert box.counts.total == 3
    reason = f"it has a total of {count} and gave 0"
    assert moves(reported) == [ListMoved("/api/v1/chats/user/user-0", reason)]


async def test_what_cannot_be_right_is_refused_before_anything_is_sent():
    async with Sandbox(World(1)) as box, client(box) as asked:
        for bad in ("", ".", "..", "a\nb", None, 7):
            for call in (asked.chats.get, asked.chats.delete):
                with pytest.raises(ValueError, match="id of any chat"):
                    await call(bad)
            with pytest.raises(ValueError, match="id of any chat"):
                asked.messages.list(bad)
            with pytest.raises(ValueError, match="user"):
                asked.chats.list_for_user(bad)
            with pytest.raises(ValueError, match="id of any user"):
                await asked.chats.create(user_id=bad)
        for bad in ({"limit": 0}, {"limit": 101}, {"offset": -1}, {"order": "newest"}):
            (name,) = bad
            with pytest.raises(ValueError, match=name):
                asked.chats.list_for_user("ann", **bad)
            with pytest.raises(ValueError, match=name):
                asked.messages.list("c", **bad)
        with pytest.raises(ValueError, match="title"):
            await asked.chats.create(user_id="ann", title=7)
        with pytest.raises(ValueError, match="metadata"):
            await asked.chats.create(user_id="ann", metadata=[])
        with pytest.raises(ValueError, match="one user: pass user_id="):
            asked.list_sessions()
        assert box.counts.total == 0


# As any other client --------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_page", [None, 7])
async def test_the_pool_brings_every_chat_of_a_user_with_its_messages(max_page):
    faults, answers = Faults.parse("10%"), Answers(max_page=max_page)
    async with Sandbox(World(120), faults=faults, answers=answers) as box, client(box) as asked:
        async with SessionPool(asked, concurrency=8).transcripts(user_id="user-0") as transcripts:
            got = {each.session.id: [said.id for said in each.messages] async for each in transcripts}
        truth = {each: [said["id"] for said in box.world.messages(each)] for each in of_user(box, "user-0")}
        assert got == truth


async def test_the_pool_lists_a_users_chats_in_order():
    async with Sandbox(World(400)) as box, client(box) as asked:
        async with SessionPool(asked).sessions(user_id="user-0", limit=20) as sessions:
            assert [session.id async for session in sessions] == of_user(box, "user-0")


async def test_the_pool_needs_a_user():
    async with Sandbox(World(1)) as box, client(box) as asked:
        with pytest.raises(ValueError, match="user_id"):
            SessionPool(asked).transcripts()
        assert box.counts.total == 0


async def test_the_generic_client_gets_the_same_values():
    async with Sandbox(World(20)) as box, client(box) as asked:
        async with Client(Lexicon(), "key-1", base_url=f"{box.lexicon_url}/api/v1/") as generic:
            chats = await rows(asked.chats.list_for_user("user-0"))
            assert await rows(generic.list_sessions(user_id="user-0")) == chats
            assert await generic.get_session(chats[0].id) == await asked.chats.get(chats[0].id)
            assert await rows(generic.list_messages(chats[0].id)) == await rows(
                asked.messages.list(chats[0].id)
            )


async def test_a_view_has_the_same_calls():
    async with Sandbox(World(3)) as box, client(box) as asked:
        view = asked.using(timeout=5, lane="interactive")
        assert type(view) is LexiconClient
        assert view.chats._client is view
        assert await rows(view.chats.list_for_user("user-0")) == await rows(
            asked.chats.list_for_user("user-0")
        )


async def test_users_with_any_name_have_their_own_chats():
    async with Sandbox(World(3)) as box, client(box) as asked:
        for user in ("ann@x.org", "a/b", "a b", "ä?#%2F", "a..b"):
            made = await asked.chats.create(user_id=user)
            assert await ids(asked.chats.list_for_user(user)) == [made.id]


async def test_a_chat_is_the_same_in_the_list_and_by_its_id():
    async with Sandbox(World(20, unknown_fields=True)) as box, client(box) as asked:
        for chat in await rows(asked.chats.list_for_user("user-0")):
            alone = await asked.chats.get(chat.id)
            assert is_same_state(content_hash(chat), content_hash(alone), is_listed=False)


async def test_unknown_fields_are_kept():
    async with Sandbox(World(20, unknown_fields=True)) as box, client(box) as asked:
        chats = await rows(asked.chats.list_for_user("user-0"))
        assert any(chat.extra for chat in chats)
        said = [message for chat in chats for message in await rows(asked.messages.list(chat.id))]
        assert any(message.extra for message in said)


def test_key_and_address_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("LEXICON_API_KEY", raising=False)
    monkeypatch.delenv("LEXICON_BASE_URL", raising=False)
    with pytest.raises(ValueError, match="LEXICON_API_KEY"):
        LexiconClient()
    monkeypatch.setenv("LEXICON_API_KEY", "secret-1")
    with pytest.raises(ValueError, match="LEXICON_BASE_URL"):
        LexiconClient()
    monkeypatch.setenv("LEXICON_BASE_URL", "http://localhost:8000/api/v1")
    assert repr(LexiconClient()) == "<LexiconClient on <Sender to http://localhost:8000>>"
    assert "elsewhere" in repr(LexiconClient("k", base_url="https://elsewhere.example"))
