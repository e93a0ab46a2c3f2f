"""Over real sockets: `KodeyClient` has every call of the reference, and feeds what any client feeds."""

import asyncio
import copy
import json
from datetime import UTC, datetime

import msgspec
import pytest
from documented import kodey_world

from navtalk_async import KodeyClient, Retry, SessionPool
from navtalk_async.archive.rows import session_row
from navtalk_async.client import Client
from navtalk_async.dialects.kodey import Kodey, KodeyChat, KodeyMessage
from navtalk_async.errors import (
    AccessDenied,
    DeadlineExceeded,
    NotFound,
    RateLimited,
)
from navtalk_async.sandbox import Answers, Faults, Sandbox, World
from navtalk_async.verification._remote import has_changed

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)


def client(box, key="sk_live_1", **options):
    return KodeyClient(key, base_url=box.kodey_url, **{"retry": QUICK} | options)


async def rows(listing):
    return [row async for row in listing]


def zoned(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Every endpoint -------------------------------------------------------------------------------------------


async def test_the_reference_page_comes_out_of_the_calls():
    async with Sandbox(kodey_world()) as box, client(box) as asked:
        (listed,) = await rows(asked.chats.list())
        chat = await asked.chats.get("string")
        (said,) = await rows(asked.messages.list("string"))
    assert (type(listed), type(chat), type(said)) == (KodeyChat, KodeyChat, KodeyMessage)
    assert (listed.id, listed.agent_id, listed.user_id) == ("string", "string", "string")
    assert (chat.team_id, chat.messages) == ("string", [])
    assert listed.created_at == chat.created_at == said.created_at == zoned("2024-01-15T10:30:00")
    assert (said.content, said.role) == ("string", "assistant")


async def test_chats_create():
    async with Sandbox(World(3)) as box, client(box) as asked:
        chat = await asked.chats.create(agent_id="agent-7", user_id="ann", metadata={"é": [1]})
        assert (type(chat), chat.agent_id, bool(chat.team_id)) == (KodeyChat, "agent-7", True)
        assert [each.id for each in await rows(asked.chats.list(user_id="ann"))] == [chat.id]
        assert box.world.notes[chat.id]["metadata"] == {"é": [1]}
        ((method, path, body),) = box.counts.written
    assert (method, path) == ("POST", "/chat")
    assert json.loads(body) == {"agentId": "agent-7", "userId": "ann", "metadata": {"é": [1]}}


async def test_chats_list_gives_every_chat_in_one_answer():
    async with Sandbox(World(300)) as box, client(box) as asked:
        page = await asked.chats.list()
        assert (page.next, box.counts.total) == (None, 1)
        assert [chat.id for chat in page.items] == [row["id"] for row in box.world.sessions]
        assert [chat.created_at for chat in page.items] == [
            zoned(row["startTime"]) for row in box.world.sessions
        ]


async def test_chats_list_by_user_and_by_type_of_agent():
    async with Sandbox(World(60)) as box, client(box) as asked:
        everything = await rows(asked.chats.list())
        for_one = await rows(asked.chats.list(user_id="user-0"))
        typed = [await rows(asked.chats.list(agent_type=kind)) for kind in ("support", "sales", "onboarding")]
    assert for_one == [chat for chat in everything if chat.user_id == "user-0"] != []
    assert sorted(chat.id for part in typed for chat in part) == sorted(chat.id for chat in everything)


async def test_chats_get():
    async with Sandbox(World(5)) as box, client(box) as asked:
        for row in box.world.sessions:
            chat = await asked.chats.get(row["id"])
            assert (chat.id, chat.created_at) == (row["id"], zoned(row["startTime"]))
        with pytest.raises(NotFound, match="Chat not found"):
            await asked.chats.get("nobody")


async def test_chats_delete():
    async with Sandbox(World(5)) as box, client(box) as asked:
        gone = box.world.sessions[2]["id"]
        assert await asked.chats.delete(gone) is None
        assert gone not in [chat.id for chat in await rows(asked.chats.list())]
        with pytest.raises(NotFound) as caught:
            await asked.chats.delete(gone)
    assert not caught.value.may_have_happened
    assert box.counts.writes["DELETE", f"/chat/{gone}"] == 2


async def test_messages_create():
    async with Sandbox(World(5)) as box, client(box) as asked:
        chat = box.world.sessions[0]["id"]
        before = box.world.messages(chat)
        reply = await asked.messages.create(chat, "Hello 😀")
        said = await rows(asked.messages.list(chat))
    assert (type(reply), reply.chat_id, reply.role) == (KodeyMessage, chat, "assistant")
    assert [message.content for message in said[-2:]] == ["Hello 😀", reply.content]
    assert (len(said), said[-1].id) == (len(before) + 2, reply.id)
    assert json.loads(box.counts.written[0][2]) == {"content": "Hello 😀", "role": "user"}


async def test_messages_list():
    async with Sandbox(World(20)) as box, client(box) as asked:
        for row in box.world.sessions:
            said = await rows(asked.messages.list(row["id"]))
            truth = box.world.messages(row["id"])
            assert [(message.id, message.content) for message in said] == [
                (each["id"], each["content"]) for each in truth
            ]
            assert [message.role for message in said] == [
                ("user", "assistant")[each["role"]] for each in truth
            ]
            assert [message.created_at for message in said] == [zoned(each["createdAt"]) for each in truth]


# What is left open ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["empty", "all", "missing"])
async def test_a_chat_holds_the_messages_that_its_answer_does(held):
    async with Sandbox(World(20), answers=Answers(kodey_messages=held)) as box, client(box) as asked:
        row = max(box.world.sessions, key=lambda row: len(box.world.messages(row["id"])))
        chat = await asked.chats.get(row["id"])
        said = await rows(asked.messages.list(row["id"]))
    assert len(said) > 1
    assert chat.messages == (said if held == "all" else [])


@pytest.mark.parametrize(("reported", "user"), [("string", "anonymous"), ("null", None), ("missing", None)])
async def test_a_chat_without_a_user_is_listed(reported, user):
    async with Sandbox(World(5), answers=Answers(kodey_user=reported)) as box, client(box) as asked:
        made = await asked.chats.create(agent_id="a")
        found = {chat.id: chat for chat in await rows(asked.chats.list())}
    assert found[made.id].user_id == user


@pytest.mark.parametrize("order", ["asc", "desc", "none"])
async def test_rows_come_in_whatever_order_the_api_gives_them(order):
    async with Sandbox(World(20), answers=Answers(kodey_order=order)) as box, client(box) as asked:
        assert {chat.id for chat in await rows(asked.chats.list())} == {
            row["id"] for row in box.world.sessions
        }
        row = max(box.world.sessions, key=lambda row: len(box.world.messages(row["id"])))
        said = await rows(asked.messages.list(row["id"]))
        assert {message.id for message in said} == {each["id"] for each in box.world.messages(row["id"])}


@pytest.mark.parametrize("reported", ["message", "both"])
@pytest.mark.parametrize("errors", ["status", "bare"])
async def test_a_wrong_key_is_told(reported, errors):
    answers = Answers(kodey_401=reported, errors=errors)
    async with Sandbox(World(5), answers=answers) as box, client(box, "expired") as asked:
        with pytest.raises(
            AccessDenied, match="no reason given" if errors == "bare" else "API key"
        ) as caught:
            await asked.chats.list()
    assert (caught.value.status, caught.value.attempts) == (401, 1)
    assert "expired" not in str(caught.value).replace("has expired", "")


async def test_a_key_that_may_not_do_this_is_told_what_it_may():
    async with Sandbox(World(5)) as box, client(box, "pk_live_limited_1") as asked:
        with pytest.raises(AccessDenied) as caught:
            await asked.chats.delete(box.world.sessions[0]["id"])
        assert len(box.world.sessions) == 5
    assert "GET /chat" in caught.value.allowed_endpoints
    assert "secret key" in caught.value.upgrade_instructions
    assert not caught.value.may_have_happened


# Limits ---------------------------------------------------------------------------------------------------


async def test_the_wait_in_the_body_of_a_429_is_obeyed():
    # Told by the body alone: a wait that is longer than the call may take ends it at once.
    async with Sandbox(World(5), faults=Faults(retry_after=60)) as box, client(box, timeout=5) as asked:
        box.fail_next("429")
        with pytest.raises(DeadlineExceeded, match="answered 429") as caught:
            await asked.chats.list()
    refusal = caught.value.__cause__
    assert isinstance(refusal, RateLimited)
    assert (refusal.retry_after, box.counts.total) == (60, 1)


async def test_a_429_is_waited_out():
    async with Sandbox(World(5), faults=Faults(retry_after=0.2)) as box, client(box) as asked:
        box.fail_next("429")
        began = asyncio.get_running_loop().time()
        assert len(await rows(asked.chats.list())) == 5
        assert asyncio.get_running_loop().time() - began >= 0.2
        assert box.counts.total == 2


async def test_a_key_asks_no_oftener_than_its_limit_lets_it():
    async with Sandbox(World(5), answers=Answers(kodey_limits=True)) as box:
        async with client(box, "pk_live_1", timeout=5) as asked:
            for _ in range(100):
                await asked.chats.get(box.world.sessions[0]["id"])
            with pytest.raises(DeadlineExceeded) as caught:
                await asked.chats.list()
        assert (box.counts.by_status[200], box.counts.by_status[429] <= 1) == (100, True)
    assert isinstance(caught.value.__cause__, RateLimited | None)


# What fails -----------------------------------------------------------------------------------------------


async def test_what_cannot_be_right_is_refused_before_anything_is_sent():
    async with Sandbox(World(1)) as box, client(box) as asked:
        for bad in ("", ".", "..", "a\nb", None, 7):
            for call in (asked.chats.get, asked.chats.delete):
                with pytest.raises(ValueError, match="id of any chat"):
                    await call(bad)
            with pytest.raises(ValueError, match="id of any chat"):
                await asked.messages.create(bad, "Hi")
            with pytest.raises(ValueError, match="id of any chat"):
                asked.messages.list(bad)
            with pytest.raises(ValueError, match="id of any agent"):
                await asked.chats.create(agent_id=bad)
        with pytest.raises(ValueError, match="content"):
            await asked.messages.create("c", " ")
        with pytest.raises(ValueError, match="role"):
            await asked.messages.create("c", "Hi", role="system")
        with pytest.raises(ValueError, match="metadata"):
            await asked.chats.create(agent_id="a", metadata=[])
        with pytest.raises(ValueError, match="user"):
            asked.chats.list(user_id="")
        with pytest.raises(TypeError, match=r"status.*user_id and agent_type"):
            asked.list_sessions(status=1)
        assert box.counts.total == 0


# As any other client --------------------------------------------------------------------------------------


async def test_the_pool_brings_every_chat_with_its_messages():
    async with Sandbox(World(80), faults=Faults.parse("10%")) as box, client(box) as asked:
        pool = SessionPool(asked, concurrency=8)
        async with pool.transcripts() as transcripts:
            got = {each.session.id: [said.id for said in each.messages] async for each in transcripts}
        truth = {
            row["id"]: [said["id"] for said in box.world.messages(row["id"])] for row in box.world.sessions
        }
        assert got == truth


async def test_the_pool_takes_the_filters_of_the_api():
    async with Sandbox(World(40)) as box, client(box) as asked:
        wanted = [chat.id for chat in await rows(asked.chats.list(user_id="user-0"))]
        async with SessionPool(asked).transcripts(user_id="user-0", order="listed") as transcripts:
            got = [each.session.id async for each in transcripts]
        async with SessionPool(asked).sessions(user_id="user-0") as sessions:
            assert [session.id async for session in sessions] == wanted
    assert got == wanted != []


async def test_the_generic_client_gets_the_same_values():
    async with Sandbox(World(10)) as box, client(box) as asked:
        async with Client(Kodey(), "sk_live_1", base_url=box.kodey_url) as generic:
            assert await rows(generic.list_sessions()) == await rows(asked.chats.list())
            chat = box.world.sessions[0]["id"]
            reported = msgspec.json.decode((await asked.chats.get(chat)).raw)
            # Its messages have a list of their own, and are not kept twice.
            assert reported.pop("messages") is not None
            assert msgspec.json.decode((await generic.get_session(chat)).raw) == reported
            assert await rows(generic.list_messages(chat)) == await rows(asked.messages.list(chat))


async def test_a_view_has_the_same_calls():
    async with Sandbox(World(3)) as box, client(box) as asked:
        view = asked.using(timeout=5, lane="interactive")
        assert type(view) is KodeyClient
        assert await rows(view.chats.list()) == await rows(asked.chats.list())
        assert view.chats._client is view


@pytest.mark.parametrize("held", ["empty", "all", "missing"])
@pytest.mark.parametrize("user", ["string", "null", "missing"])
async def test_a_chat_is_the_same_in_the_list_and_by_its_id(held, user):
    answers = Answers(kodey_messages=held, kodey_user=user)
    async with Sandbox(World(10, unknown_fields=True), answers=answers) as box, client(box) as asked:
        for chat in await rows(asked.chats.list()):
            kept = session_row("default", "kodey", chat, "")
            assert not has_changed(kept, await asked.get_session(chat.id))
            await asked.chats.delete(chat.id)
            box.world.add_session("2024-01-15 10:30:00", id=chat.id)
            assert has_changed(kept, await asked.get_session(chat.id))


async def test_unknown_fields_are_kept():
    async with Sandbox(World(10, unknown_fields=True)) as box, client(box) as asked:
        chats = await rows(asked.chats.list())
        assert any(chat.extra for chat in chats)
        assert all(copy.copy(chat) == chat for chat in chats)
        said = [message for chat in chats for message in await rows(asked.messages.list(chat.id))]
        assert any(message.extra for message in said)


def test_key_and_address_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("KODEY_API_KEY", raising=False)
    with pytest.raises(ValueError, match="KODEY_API_KEY"):
        KodeyClient()
    monkeypatch.setenv("KODEY_API_KEY", "sk_live_1")
    assert "https://pooled.api.kodey.ai" in repr(KodeyClient())
    monkeypatch.setenv("KODEY_BASE_URL", "http://localhost:8000/")
    assert "localhost:8000" in repr(KodeyClient())
    assert "elsewhere" in repr(KodeyClient(base_url="https://elsewhere.example"))
    assert "sk_live_1" not in repr(KodeyClient())
