"""LlamaCloud's client: every call against the sandbox, and streams that end well, early, or not at all."""

import asyncio
import json
import pickle
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from navtalk_async import LlamaCloudClient, Retry
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of
from navtalk_async.dialects.answers import refuse
from navtalk_async.dialects.llamacloud import (
    LlamaCloudFullSession,
    LlamaCloudSession,
    Stop,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolResult,
    UnknownEvent,
    UserInput,
    event_of,
)
from navtalk_async.errors import (
    AccessDenied,
    AttemptTimeout,
    BadRequest,
    BodyTooLarge,
    BrokenBody,
    ClientClosed,
    ConnectFailed,
    NavTalkError,
    NotFound,
    ServerError,
    StreamBroken,
)
from navtalk_async.models import Request
from navtalk_async.sandbox import Answers, Faults, Sandbox

QUICK = Retry(base_seconds=0.001, cap_seconds=0.01)
NOW = datetime(2026, 4, 22, 12, 34, 41, tzinfo=UTC)
HEAD = b"HTTP/1.1 200 So\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = [
    b'{"type":"user_input","content":"?"}',
    b'{"type":"thinking_delta","content":"Hm"}',
    b'{"type":"thinking","content":"Hm"}',
    b'{"type":"tool_call","arguments":{},"call_id":"c","name":"n"}',
    b'{"type":"tool_result","call_id":"c","name":"n","result":null}',
    b'{"type":"text_delta","content":"\xc3\xbc"}',
    b'{"type":"citation","content":[1]}',
    b'{"type":"text","content":"\xc3\xbc"}',
    b'{"type":"stop","is_error":false,"error":null,"usage":{}}',
]
TYPED = [event_of(event) for event in EVENTS]

eras = pytest.mark.parametrize("shared_access", [True, False], ids=["2.18", "2.7"])


def sent(events):
    return b"".join(b"event: message\ndata: " + event + b"\n\n" for event in events)


def chunked(data):
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class Box:
    """A server that answers everything with the head of a stream and some bytes, and then ends it as told:
    `well`, or by closing the connection, or `never`.
    """

    def __init__(self, data, end="never", head=HEAD, size=1 << 16):
        self.pieces = [data[at : at + size] for at in range(0, len(data), size)]
        self.end = end
        self.head = head
        self.asked = 0
        self.left = asyncio.Event()
        self.serving = set()

    async def serve(self, reader, writer):
        self.serving.add(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            writer.write(self.head)
            for piece in self.pieces:
                writer.write(chunked(piece))
                await writer.drain()
            if self.end == "well":
                writer.write(b"0\r\n\r\n")
            if self.end != "cut":
                while await reader.read(1 << 16):
                    pass
        self.left.set()
        writer.close()


@asynccontextmanager
async def streaming(data, end="never", **options):
    box = Box(data, end, **options)
    server = await asyncio.start_server(box.serve, "127.0.0.1", 0)
    box.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield box
    finally:
        server.close()
    if box.serving:
        await asyncio.wait(box.serving)


def client(box, **options):
    url = getattr(box, "llamacloud_url", None) or box.url
    return LlamaCloudClient("key", base_url=url, **{"retry": QUICK} | options)


def sandbox(**options):
    return Sandbox(**{"sessions": 30, "clock": lambda: NOW} | options)


def say(llama, session_id="s", prompt="?", index_ids=()):
    return llama.sessions.stream(session_id, prompt, index_ids=list(index_ids))


async def first_id(llama):
    page = await anext(aiter(llama.sessions.list(page_size=1).pages()))
    return page.items[0].id


# Every call -----------------------------------------------------------------------------------------------


@eras
async def test_list_gives_every_session_once(shared_access):
    answers = Answers(llamacloud_shared_access=shared_access)
    async with sandbox(answers=answers) as box, client(box) as llama:
        found = [each async for each in llama.sessions.list(page_size=7)]
        assert {each.id for each in found} == {row["id"] for row in box.world.sessions}
        assert len(found) == 30
        assert {type(each) for each in found} == {LlamaCloudSession}
        assert {each.shared_access is not None for each in found} == {shared_access}
        assert box.counts.by_kind["sessions"] == 6


@pytest.mark.parametrize("last_cursor", ["null", "empty", "missing"])
async def test_list_goes_on_from_any_token_and_ends_however_the_end_is_told(last_cursor):
    answers = Answers(last_cursor=last_cursor, cursor_on_last_page=False)
    async with sandbox(answers=answers) as box, client(box) as llama:
        pages = [page async for page in llama.sessions.list(page_size=11).pages()]
        assert [len(page.items) for page in pages] == [11, 11, 8]
        token = pages[0].next.params["page_token"]
        rest = [each async for each in llama.sessions.list(page_size=11, page_token=token)]
        assert rest == pages[1].items + pages[2].items


async def test_list_survives_a_server_that_gives_less_than_asked():
    async with sandbox(answers=Answers(max_page=4)) as box, client(box) as llama:
        assert len([each async for each in llama.sessions.list()]) == 30


@eras
async def test_create_gives_a_session_of_the_indexes_asked_for(shared_access):
    answers = Answers(llamacloud_shared_access=shared_access)
    async with sandbox(answers=answers) as box, client(box) as llama:
        bound = await llama.sessions.create(index_ids=["index-1"], shared_access="query")
        assert (bound.index_ids, bound.job_metadata, bound.title) == (["index-1"], None, None)
        assert bound.shared_access == ("query" if shared_access else None)
        unbound = await llama.sessions.create()
        assert unbound.index_ids is None
        assert {bound.id, unbound.id} <= {row["id"] for row in box.world.sessions}
        assert box.counts.by_kind["create"] == 2


async def test_get_gives_a_session_with_all_its_events():
    async with sandbox() as box, client(box) as llama:
        kinds = set()
        for row in box.world.sessions:
            session = await llama.sessions.get(row["id"])
            assert type(session) is LlamaCloudFullSession
            assert session.id == row["id"]
            spoken = [each.content for each in session.events if isinstance(each, UserInput | Text)]
            assert spoken == [each["content"] for each in box.world.messages(row["id"])]
            assert [json.loads(each.raw) for each in session.events] == json.loads(session.raw)["events"]
            kinds |= {type(each) for each in session.events}
        assert kinds == {UserInput, Text, Thinking, ToolCall, ToolResult, Stop}


async def test_summary_gives_a_session_as_the_list_has_it():
    async with sandbox() as box, client(box) as llama:
        async for listed in llama.sessions.list():
            assert await llama.sessions.summary(listed.id) == listed
            assert await llama.get_session(listed.id) == listed
        assert box.counts.by_kind["summary"] == 60


async def test_generate_title_gives_the_session_with_its_title():
    async with sandbox() as box, client(box) as llama:
        session_id = await first_id(llama)
        titled = await llama.sessions.generate_title(session_id, "Refund  terms")
        assert titled.title == "Refund terms"
        assert titled == await llama.sessions.summary(session_id)


async def test_delete_ends_a_session():
    async with sandbox() as box, client(box) as llama:
        session_id = await first_id(llama)
        assert await llama.sessions.delete(session_id) is None
        for call in (llama.sessions.get, llama.sessions.summary, llama.sessions.delete):
            with pytest.raises(NotFound, match="Session not found"):
                await call(session_id)


@pytest.mark.parametrize("line_ends", ["lf", "crlf", "cr"])
async def test_stream_gives_a_turn_that_is_in_the_session_then(line_ends):
    answers = Answers(llamacloud_line_ends=line_ends)
    async with sandbox(answers=answers) as box, client(box) as llama:
        session = await llama.sessions.create()
        turns = []
        for prompt in ("one", "two", "Wie geht's?\n\u2028日本", "four", "x" * 1000):
            async with say(llama, session.id, prompt, ["index-1", "unknown-1"]) as events:
                turns.append([event async for event in events])
            assert turns[-1][0].content == prompt
            assert isinstance(turns[-1][-1], Stop)
            assert turns[-1][-1].skipped_index_ids == ["unknown-1"]
        events = [event for turn in turns for event in turn]
        whole = [event for event in events if not isinstance(event, TextDelta | ThinkingDelta)]
        assert (await llama.sessions.get(session.id)).events == whole
        said = "".join(event.content for event in events if isinstance(event, TextDelta))
        assert said == "".join(event.content for event in events if isinstance(event, Text))
        assert box.counts.by_kind["stream"] == 5


async def test_a_turn_that_failed_is_an_event_and_no_exception():
    async with sandbox() as box, client(box) as llama:
        session_id = await first_id(llama)
        async with say(llama, session_id, "fail") as events:
            *_, stop = [event async for event in events]
        assert (stop.is_error, stop.error) == (True, "The turn failed")
        every = llama.sessions.stream(session_id, "?", index_ids=["unknown-1"], require_all_indexes=True)
        async with every as events:
            *_, stop = [event async for event in events]
        assert stop.is_error


async def test_the_generic_client_gets_every_event_as_a_message():
    async with sandbox() as box, client(box) as llama:
        async with Client(dialect_of("llamacloud"), "key", base_url=box.llamacloud_url) as any_client:
            async for listed in llama.sessions.list():
                session = await llama.sessions.get(listed.id)
                found = [each async for each in any_client.list_messages(listed.id)]
                assert [each.raw for each in found] == [each.raw for each in session.events]
                assert [each.type for each in found] == [each.type for each in session.events]


async def test_every_call_says_whose_sessions_are_meant(scripted):
    body = json.dumps({"items": [], "events": [], "session_id": "s"}).encode()
    async with scripted(body, 200, "Connection: close") as server:
        async with client(server, project_id="p", organization_id="o") as llama:
            sessions = llama.sessions
            assert [each async for each in llama.using(project_id="q").sessions.list()] == []
            await sessions.get("s")
            await llama.using(organization_id="r", timeout=9.0).sessions.summary("s")
            await sessions.create()
            await sessions.generate_title("s", "x")
            await sessions.delete("s")
            with suppress(StreamBroken):
                async with say(llama) as events:
                    await anext(events)
            assert [each async for each in llama.list_messages("s")] == []
    asked = [head.split(" ")[1].partition("?")[2] for head in server.heads]
    assert asked[0].split("&")[:2] == ["project_id=q", "organization_id=o"]
    assert asked[2] == "project_id=p&organization_id=r"
    assert {asked[1], *asked[3:]} == {"project_id=p&organization_id=o"}
    assert {"Bearer key" in head for head in server.heads} == {True}


async def test_the_key_and_the_address_may_stand_in_the_environment(monkeypatch):
    async with sandbox(keys={"llx"}) as box:
        monkeypatch.setenv("LLAMA_CLOUD_API_KEY", "llx")
        monkeypatch.setenv("LLAMA_CLOUD_BASE_URL", box.llamacloud_url + "/api/v1/")
        async with LlamaCloudClient() as llama:
            assert await first_id(llama)


# Refusals -------------------------------------------------------------------------------------------------


def calls_of(llama, session_id):
    sessions = llama.sessions
    return [
        lambda: sessions.get(session_id),
        lambda: sessions.summary(session_id),
        lambda: sessions.generate_title(session_id, "x"),
        lambda: say(llama, session_id).__aenter__(),
        lambda: sessions.delete(session_id),
    ]


async def test_a_wrong_key_is_refused_by_every_call():
    async with sandbox(keys={"another"}) as box, client(box) as llama:
        others = [lambda: anext(aiter(llama.sessions.list())), llama.sessions.create]
        for call in others + calls_of(llama, "s"):
            with pytest.raises(AccessDenied, match="Invalid authentication token") as refused:
                await call()
            assert not refused.value.may_have_happened


async def test_a_session_that_is_not_there_is_told_by_every_call():
    async with sandbox() as box, client(box) as llama:
        for call in calls_of(llama, "not/there"):
            with pytest.raises(NotFound, match="Session not found"):
                await call()


async def test_a_stream_is_refused_as_it_is_entered_with_the_words_of_the_server():
    async with sandbox() as box, client(box) as llama:
        request = llama.dialect.stream("s", "?", index_ids=[])
        bad = Request(
            path=request.path.replace("/s/", f"/{await first_id(llama)}/"), method="POST", body=b"{}"
        )
        with pytest.raises(BadRequest, match=r"body\.prompt: Field required"):
            async with llama.stream(bad, refuse):
                pytest.fail("it was entered")
        assert llama.stats().in_flight == 0


async def test_what_cannot_be_right_is_refused_before_anything_is_asked():
    async with sandbox() as box, client(box) as llama:
        for ask in (
            lambda: say(llama, "s", ""),
            lambda: say(llama, "s", "x" * 1001),
            lambda: say(llama, "s", "x", ["i"] * 11),
            lambda: say(llama, "..", "x"),
            lambda: llama.sessions.stream("s", "x", index_ids="index-1"),
            lambda: llama.sessions.list(page_size=0),
        ):
            with pytest.raises(ValueError, match=r"\w"):
                ask()
        for call in (llama.sessions.get, llama.sessions.summary, llama.sessions.delete):
            with pytest.raises(ValueError, match="cannot be the id of any session"):
                await call("")
        assert box.counts.total == 0


async def test_a_stream_whose_answer_is_lost_may_have_happened_and_was_asked_for_once():
    async with sandbox() as box, client(box) as llama:
        session_id = await first_id(llama)
        box.fail_next("lost-answer", path="/stream")
        with pytest.raises(NavTalkError) as lost:
            async with say(llama, session_id, "Once?"):
                pytest.fail("it was entered")
        assert lost.value.may_have_happened
        assert box.counts.by_kind["stream"] == 1
        said = [each for each in (await llama.sessions.get(session_id)).events if isinstance(each, UserInput)]
        assert [each.content for each in said].count("Once?") == 1


async def test_a_stream_that_nobody_is_there_for_surely_did_not_happen():
    async with LlamaCloudClient("key", base_url="http://127.0.0.1:9", retry=QUICK) as llama:
        with pytest.raises(ConnectFailed) as failed:
            async with say(llama):
                pytest.fail("it was entered")
        assert not failed.value.may_have_happened


async def test_an_overloaded_server_is_not_asked_twice_for_a_stream():
    async with sandbox(faults=Faults(http_500=1)) as box, client(box) as llama:
        with pytest.raises(ServerError):
            async with say(llama):
                pytest.fail("it was entered")
        assert box.counts.total == 1


# Streams --------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 60), end=st.sampled_from(["well", "cut", "never"]))
@settings(max_examples=examples(15))
def test_a_stream_ends_at_its_stop_however_it_comes(size, end):
    async def walked():
        # Behind the stop, nothing is waited for: with `never`, nothing comes.
        data = b"\xef\xbb\xbf: hello\n\n" + sent(EVENTS) + b": bye\n\n" + sent(EVENTS[:1]) + b"data: "
        async with streaming(data, end, size=size) as box, client(box) as llama:
            async with say(llama) as events:
                assert [event async for event in events] == TYPED
                assert llama.stats().in_flight == 0
                with pytest.raises(StopAsyncIteration):
                    await anext(events)
            assert box.asked == 1

    asyncio.run(walked())


@pytest.mark.parametrize("end", ["well", "cut"])
@pytest.mark.parametrize("count", range(len(EVENTS)))
async def test_a_stream_that_dies_before_its_stop_is_an_error_that_carries_what_came(count, end, quiet_loop):
    data = sent(EVENTS)
    whole = len(sent(EVENTS[:count]))
    half = data[: whole + len(sent(EVENTS[count : count + 1])) // 2]
    for came in (data[:whole], half):
        async with quiet_loop(), streaming(came, end) as box, client(box) as llama:
            got = []
            with pytest.raises(StreamBroken) as broken:
                async with say(llama) as events:
                    async for event in events:
                        got.append(event)
            error = broken.value
            assert got == error.events == TYPED[:count]
            assert error.may_have_happened
            assert error.attempts == 1
            assert (type(error.__cause__) is BrokenBody) == (end == "cut")
            assert "The change may have been made" in str(error)
            assert pickle.loads(pickle.dumps(error)).events == error.events
            assert box.asked == 1
            assert llama.stats().in_flight == 0


@pytest.mark.parametrize("fault", ["cut", "cut-chunked", "reset", "hang"])
async def test_a_stream_of_the_sandbox_that_dies_half_way_carries_what_came(fault):
    async with sandbox() as box, client(box, attempt_timeout=1) as llama:
        session_id = await first_id(llama)
        box.fail_next(fault, path="/stream")
        with pytest.raises(StreamBroken) as broken:
            async with say(llama, session_id, "Half?") as events:
                async for _ in events:
                    pass
        whole = [event.raw for event in (await llama.sessions.get(session_id)).events]
        came = [each.raw for each in broken.value.events if not isinstance(each, TextDelta | ThinkingDelta)]
        begin = whole.index(came[0])
        assert came == whole[begin : begin + len(came)]
        assert begin + len(came) < len(whole)
        assert broken.value.events[0].content == "Half?"
        assert box.counts.by_kind["stream"] == 1


async def test_a_stream_that_falls_silent_is_an_error_that_carries_what_came():
    async with streaming(sent(EVENTS[:3])) as box, client(box, attempt_timeout=1) as llama:
        with pytest.raises(StreamBroken, match="Nothing more of the answer") as broken:
            async with say(llama) as events:
                async for _ in events:
                    pass
        assert broken.value.events == TYPED[:3]
        assert type(broken.value.__cause__) is AttemptTimeout


async def test_an_event_that_never_ends_is_an_error_and_no_flood():
    async with streaming(sent(EVENTS[:2]) + b"data: " + b"x" * (17 << 20), "well") as box:
        async with client(box) as llama:
            with pytest.raises(StreamBroken) as broken:
                async with say(llama) as events:
                    async for _ in events:
                        pass
    assert broken.value.events == TYPED[:2]
    assert type(broken.value.__cause__) is BodyTooLarge


@pytest.mark.parametrize("body", [b"<html></html>", b'{"detail":"no"}', b""])
async def test_an_answer_that_is_no_stream_is_an_error_without_events(body):
    async with streaming(body, "well") as box, client(box) as llama:
        with pytest.raises(StreamBroken, match="before its stop") as broken:
            async with say(llama) as events:
                await anext(events)
    assert broken.value.events == []


async def test_a_stream_that_was_not_entered_says_so_and_asks_nothing():
    async with streaming(sent(EVENTS)) as box, client(box) as llama:
        with pytest.raises(RuntimeError, match="async with"):
            await anext(say(llama))
        assert llama.stats().requests == 0


async def test_a_stream_is_entered_once():
    async with streaming(sent(EVENTS)) as box, client(box) as llama:
        async with say(llama) as events:
            assert [event async for event in events] == TYPED
        with pytest.raises(RuntimeError, match="once"):
            await events.__aenter__()
        assert llama.stats().requests == 1


async def test_what_is_no_event_is_an_unknown_one_and_the_stream_goes_on():
    data = b"data: [DONE]\n\nevent: error\ndata: {}\n\ndata: 7\n\n" + sent(EVENTS[-1:])
    async with streaming(data) as box, client(box) as llama:
        async with say(llama) as events:
            assert [event async for event in events] == [
                UnknownEvent(type=None, raw=b"[DONE]"),
                UnknownEvent(type="error", raw=b"{}"),
                UnknownEvent(type=None, raw=b"7"),
                TYPED[-1],
            ]


async def test_a_stop_of_another_shape_is_the_end_all_the_same():
    data = sent([EVENTS[0], b'{"type":"stop","is_error":"?"}'])
    async with streaming(data) as box, client(box) as llama:
        async with say(llama) as events:
            assert [event.type async for event in events] == ["user_input", "stop"]


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_whoever_leaves_early_ends_the_connection(count, quiet_loop):
    async with quiet_loop(), streaming(sent(EVENTS[:4])) as box, client(box, concurrency=1) as llama:
        async with say(llama) as events:
            assert [await anext(events) for _ in range(count)] == TYPED[:count]
        async with asyncio.timeout(10):
            await box.left.wait()
        with pytest.raises(StopAsyncIteration):
            await anext(events)
        assert llama.stats().in_flight == 0


async def test_an_exception_in_the_body_leaves_the_stream_and_passes():
    async with streaming(sent(EVENTS[:4])) as box, client(box) as llama:
        with pytest.raises(KeyError):
            async with say(llama) as events:
                async for _ in events:
                    raise KeyError
        async with asyncio.timeout(10):
            await box.left.wait()


async def test_who_is_cancelled_while_waiting_leaves_no_connection(quiet_loop):
    async with quiet_loop(), streaming(sent(EVENTS[:2])) as box, client(box) as llama:
        came = asyncio.Event()

        async def walk():
            async with say(llama) as events:
                async for event in events:
                    if event == TYPED[1]:
                        came.set()

        task = asyncio.create_task(walk())
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            await box.left.wait()
        assert llama.stats().in_flight == 0


async def test_a_client_that_is_closed_ends_its_streams():
    async with streaming(sent(EVENTS[:1])) as box, client(box) as llama:
        with pytest.raises(ClientClosed) as closed:
            async with say(llama) as events:
                assert await anext(events) == TYPED[0]
                await llama.aclose()
                await anext(events)
    assert closed.value.may_have_happened


async def test_a_view_of_the_client_streams_as_well_and_keeps_nobody_waiting():
    async with streaming(sent(EVENTS[:2])) as box, client(box, concurrency=1) as llama:
        async with say(llama.using(lane="interactive")) as events:
            assert await anext(events) == TYPED[0]
            assert llama.stats().in_flight == 0
        assert llama.stats().answers == 1


async def test_what_shows_a_stream_shows_no_content():
    async with streaming(sent(EVENTS[:1]), "cut") as box, client(box) as llama:
        with pytest.raises(StreamBroken) as broken:
            async with say(llama, prompt="SECRET") as events:
                assert repr(events) == "<EventStream, 0 events so far>"
                async for _ in events:
                    pass
    assert "SECRET" not in repr(broken.value) + str(broken.value)
