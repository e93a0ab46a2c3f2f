"""What type checkers say of calls with options: checked by `tests/test_pool_types.py`, never run.

A line with a comment `error: CODE` has an error of that code for mypy; every other line is right.
"""

from datetime import UTC, datetime
from typing import assert_type

from navtalk_async import (
    Archive,
    Client,
    KodeyClient,
    LexiconClient,
    LlamaCloudClient,
    Message,
    NavTalkClient,
    Role,
    Session,
    SessionPool,
    SessionStatus,
    Transcript,
    export,
    sync,
    watch,
)
from navtalk_async.dialects.kodey import KodeyChat, KodeyMessage
from navtalk_async.dialects.lexicon import LexiconChat, LexiconMessage
from navtalk_async.dialects.llamacloud import LlamaCloudMessage, LlamaCloudSession

SINCE = datetime(2025, 11, 1, tzinfo=UTC)


def session_of(transcript: Transcript) -> Session:
    return transcript.session


async def navtalk(nt: NavTalkClient) -> None:
    pool = SessionPool(nt, concurrency=32)
    assert_type(pool, SessionPool[NavTalkClient])
    async with pool.transcripts(start_time=SINCE, status=SessionStatus.COMPLETED, role=Role.USER) as found:
        async for transcript in found:
            assert_type(transcript, Transcript[Session, Message])
            assert_type(transcript.session, Session)
            assert_type(transcript.messages, list[Message])
    async with pool.sessions(status="completed", end_time="2025-11-12 18:20:38", limit=50) as sessions:
        async for session in sessions:
            assert_type(session, Session)
    pool.transcripts(statuss=1)  # error: call-arg
    pool.transcripts(user_id="ann")  # error: call-arg
    pool.transcripts(order="sorted")  # error: arg-type
    pool.transcripts(on_error="ignore")  # error: arg-type
    pool.sessions(start_time=7)  # error: arg-type
    pool.sessions(role=1)  # error: call-arg
    async for _ in pool.sessions():  # error: attr-defined
        pass


async def options(nt: NavTalkClient, kodey: KodeyClient, lexicon: LexiconClient, archive: Archive) -> None:
    NavTalkClient("key", base_url="https://example.com", concurrency=8, timeout=5.0, trust_env=True)
    NavTalkClient("key", timeouts=5.0)  # error: call-arg
    LlamaCloudClient("key", project="p")  # error: call-arg
    nt.using(lane="interactive", timeout=None)
    nt.using(lane="quick")  # error: arg-type
    nt.using(base_url="https://example.com")  # error: call-arg
    nt.sessions.list(start_time=SINCE, status="completed", limit=10)
    nt.sessions.list(statuss=1)  # error: call-arg
    nt.messages.list("id", rol="user")  # error: call-arg
    kodey.chats.list(user="ann")  # error: call-arg
    lexicon.chats.list_for_user("ann", limits=3)  # error: call-arg
    await sync(nt, archive, status="completed", retry_failed=True)
    await sync(nt, archive, statuss=1)  # error: call-arg
    watch(nt, "archive.db", every=60.0, reconcile=True)
    watch(nt, "archive.db", evry=60.0)  # error: call-arg
    await export(archive, "out", formats=["parquet"], compress="zstd")
    await export(archive, "out", compres="zstd")  # error: call-arg
    archive.changes(after=None, folow=True)  # error: call-arg


async def kodey(client: KodeyClient) -> None:
    pool = SessionPool(client)
    async with pool.transcripts(user_id="ann", order="listed", on_error="yield") as found:
        async for transcript in found:
            assert_type(transcript, Transcript[KodeyChat, KodeyMessage])
            assert_type(session_of(transcript), Session)
    async with pool.sessions(agent_type="support") as chats:
        async for chat in chats:
            assert_type(chat, KodeyChat)
    pool.transcripts(start_time=SINCE)  # error: call-arg
    pool.transcripts(role=0)  # error: call-arg


async def lexicon(client: LexiconClient) -> None:
    pool = SessionPool(client)
    async with pool.transcripts(user_id="ann") as found:
        async for transcript in found:
            assert_type(transcript, Transcript[LexiconChat, LexiconMessage])
    async with pool.sessions(user_id="ann", limit=20) as chats:
        async for chat in chats:
            assert_type(chat, LexiconChat)
    pool.transcripts()  # error: call-arg


async def llamacloud(client: LlamaCloudClient) -> None:
    pool = SessionPool(client)
    async with pool.transcripts(limit=100) as found:
        async for transcript in found:
            assert_type(transcript, Transcript[LlamaCloudSession, LlamaCloudMessage])
    async with pool.sessions() as sessions:
        async for session in sessions:
            assert_type(session, LlamaCloudSession)
    pool.sessions(status=1)  # error: call-arg


class OwnClient(Client):
    """The client of an API that this library does not know."""


async def another_api(client: OwnClient) -> None:
    pool: SessionPool[Client] = SessionPool(client)
    async with pool.transcripts(team="blue", order="listed") as found:
        async for transcript in found:
            assert_type(transcript, Transcript[Session, Message])
    pool.transcripts(order="sorted")  # error: arg-type
