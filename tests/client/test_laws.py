"""What holds of every API alike, as it is asked: paging, errors, retries, the key, and cancellation."""

import asyncio
import json
import pickle

import pytest
from apis import sessions_of, transcripts_of
from changes import FAULT_KINDS, MALFORMED
from hypothesis import given, settings
from hypothesis import strategies as st
from key_leaks import KEYS, error_of
from laws import (
    ONCE,
    PATIENTLY,
    a_page_of,
    a_world,
    answers_of,
    as_set,
    cancelled_after,
    client_of,
    everything,
    in_order,
    longest,
    one_by_one,
    raw,
    rows,
    scope_of,
)
from profiles import examples

from navtalk_async import Retry, SessionPool
from navtalk_async.archive import Archive
from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    BrokenBody,
    DeadlineExceeded,
    DecodeFailed,
    Disconnected,
    NavTalkError,
    NotFound,
    NotJson,
    RateLimited,
    Redirected,
    ServerError,
    WrongShape,
)
from navtalk_async.formats import export
from navtalk_async.ingest import sync
from navtalk_async.sandbox import KINDS, Answers, Faults, Sandbox, World
from navtalk_async.sandbox._api import PAGE_FAULTS

# Paging.


async def assert_paged(api, box, limit):
    reported = await transcripts_of(api, box)
    assert len(reported) == len({each.id for each in reported}) > 5
    async with client_of(api, box) as client:
        sessions = client.list_sessions(**api.filters, **a_page_of(limit, client.dialect.list_sessions))
        first = await sessions
        rest = await rows(sessions.resume(first.token))
        assert raw([*first.items, *rest]) == raw(await rows(sessions)) == [each.session for each in reported]
        most = longest(reported)
        messages = client.list_messages(most.id, **a_page_of(limit, client.dialect.list_messages))
        first = await messages
        rest = await rows(messages.resume(first.token))
        assert raw([*first.items, *rest]) == raw(await rows(messages)) == most.messages
        assert len({each.id for each in [*first.items, *rest]}) == len(most.messages)


@pytest.mark.parametrize("limit", [None, 2])
async def test_every_row_comes_once_and_in_order_whatever_single_thing_the_server_answers(api, limit):
    async with Sandbox(a_world()) as box:
        for answers in one_by_one(api):
            box.answers = answers
            await assert_paged(api, box, limit)


@settings(PATIENTLY, max_examples=examples(15))
@given(data=st.data(), limit=st.sampled_from([None, 1, 3, 7]), seed=st.integers(0, 99))
async def test_every_row_comes_once_and_in_order_whatever_the_server_answers(api, data, limit, seed):
    answers = data.draw(answers_of(api))
    async with Sandbox(a_world(24, seed=seed, unknown_fields=seed % 2 == 1), answers=answers) as box:
        await assert_paged(api, box, limit)


@settings(PATIENTLY, max_examples=examples(8))
@given(data=st.data(), latency=st.sampled_from([0.0, 0.002]))
async def test_a_list_that_is_walked_wide_is_the_list_that_is_walked_page_by_page(api, data, latency):
    answers = data.draw(answers_of(api))
    async with Sandbox(World(150, messages=1), answers=answers, latency=latency) as box:
        reported = await sessions_of(api, box)
        async with client_of(api, box) as client:
            filters = api.filters | a_page_of(5, client.dialect.list_sessions)
            for way in ("auto", "serial"):
                pool = SessionPool(client, listing=way)
                async with pool.sessions(**filters) as listed:
                    assert raw(await rows(listed)) == reported
                async with pool.sessions(order="done", **filters) as done:
                    assert as_set(raw(await rows(done))) == as_set(reported)


@pytest.mark.parametrize("way", ["auto", "serial"])
async def test_transcripts_come_in_the_order_of_the_list_or_as_they_are_done(api, way):
    async with Sandbox(a_world(40)) as box:
        reported = in_order(await transcripts_of(api, box))
        async with client_of(api, box) as client:
            assert await everything(client, api, listing=way) == reported
            assert as_set(await everything(client, api, listing=way, order="done")) == as_set(reported)


async def test_one_session_is_the_same_whether_it_is_listed_or_asked_for(api):
    async with Sandbox(a_world(), answers=Answers(max_page=3)) as box, client_of(api, box) as client:
        for listed in await rows(client.list_sessions(**api.filters)):
            alone = await client.get_session(listed.id)
            there, here = json.loads(listed.raw), json.loads(alone.raw)
            # Some fields only one of the two answers has.
            both = there.keys() & here.keys() - listed.detail_only_fields
            assert len(both) >= 3
            assert {name: there[name] for name in both} == {name: here[name] for name in both}


# Errors.

REFUSALS = {
    "400": BadRequest,
    "403": AccessDenied,
    "404": NotFound,
    "429": RateLimited,
    "500": ServerError,
    "503": ServerError,
    "redirect": Redirected,
}


def calls(client, api, session_id):
    return {
        "sessions": lambda: rows(client.list_sessions(**api.filters)),
        "session": lambda: client.get_session(session_id),
        "messages": lambda: rows(client.list_messages(session_id)),
    }


async def refused(call):
    with pytest.raises(NavTalkError) as caught:
        await call()
    return caught.value


@pytest.mark.parametrize("fault", REFUSALS)
async def test_a_refusal_is_an_error_of_its_kind_however_it_is_told(api, fault):
    async with Sandbox(a_world()) as box:
        session_id = (await transcripts_of(api, box))[0].id
        for errors in api.answers["errors"]:
            box.answers = Answers(errors=errors)
            async with client_of(api, box, KEYS[0], retry=ONCE, timeout=0.5) as client:
                for call in calls(client, api, session_id).values():
                    box.fail_next(fault, 1000)
                    error = await refused(call)
                    box.forget_planned()
                    if isinstance(error, DeadlineExceeded):
                        # Who is asked too much is waited for, as long as there is time.
                        assert fault == "429"
                        continue
                    assert type(error) is REFUSALS[fault]
                    assert str(302 if fault == "redirect" else fault) in {str(error.status), str(error.code)}
                    assert "CANARY" not in f"{error}{error!r}{vars(error)}"
                    assert error.attempts == 1
                    again = pickle.loads(pickle.dumps(error))
                    assert (type(again), vars(again), str(again)) == (type(error), vars(error), str(error))


async def test_what_is_asked_too_fast_is_waited_out_and_given_up_when_there_is_no_time(api):
    async with Sandbox(a_world(), faults=Faults(retry_after=99)) as box:
        session_id = longest(await transcripts_of(api, box)).id
        async with client_of(api, box, timeout=1) as client:
            for call in calls(client, api, session_id).values():
                box.fail_next("429")
                error = await refused(call)
                assert isinstance(error, (RateLimited, DeadlineExceeded))
        box.faults = Faults(retry_after=0)
        async with client_of(api, box) as client:
            for call in calls(client, api, session_id).values():
                box.fail_next("429", 3)
                assert await call()


async def test_a_wrong_key_is_told_from_everything_else(api):
    async with Sandbox(a_world(), keys={"right"}) as box:
        session_id = longest(await transcripts_of(api, box, "right")).id
        async with client_of(api, box, "wrong") as client:
            for call in calls(client, api, session_id).values():
                error = await refused(call)
                assert type(error) is api.wrong_key
                assert error.status in {400, 401, 403}
        async with client_of(api, box, "right") as client:
            for call in calls(client, api, session_id).values():
                assert await call()


async def test_what_is_not_there_is_not_found(api):
    async with Sandbox(a_world()) as box, client_of(api, box) as client:
        gone = (await transcripts_of(api, box))[0].id
        box.world.remove_session(gone)
        for name, call in calls(client, api, gone).items():
            if name != "sessions":
                assert type(await refused(call)) is NotFound


# Retries.

ENDLESS = {
    "500": ServerError,
    "503": ServerError,
    "reset": Disconnected,
    "drop": Disconnected,
    "cut": BrokenBody,
    "cut-chunked": BrokenBody,
    "garbage": DecodeFailed,
    "html": NotJson,
    "truncated": DecodeFailed,
    "wrong-shape": WrongShape,
    "deep": WrongShape,
}


@settings(PATIENTLY, max_examples=examples(8))
@given(
    data=st.data(),
    chances=st.dictionaries(st.sampled_from(FAULT_KINDS), st.floats(0.0, 0.06), min_size=1, max_size=5),
    seed=st.integers(0, 999),
)
async def test_whatever_goes_wrong_now_and_then_everything_that_is_read_is_the_truth(
    api, data, chances, seed
):
    answers = data.draw(answers_of(api))
    async with Sandbox(a_world(), seed=seed, answers=answers) as box:
        reported = in_order(await transcripts_of(api, box))
        # Three malformed answers in a row are no accident to a client, so chance must not make them.
        rarely = {kind: chance / 10 if kind in MALFORMED else chance for kind, chance in chances.items()}
        box.faults = Faults.parse(",".join(f"{kind}={chance}" for kind, chance in rarely.items()))
        async with client_of(api, box, concurrency=8) as client:
            assert await everything(client, api) == reported
            # Who is asked alone is told the same, and no less certainly.
            first = (await client.list_sessions(**api.filters)).items[0]
            assert (await client.get_session(first.id)).id == first.id


@pytest.mark.parametrize("fault", ENDLESS)
async def test_a_fault_that_never_ends_is_given_up_with_its_own_error(api, fault):
    async with Sandbox(a_world()) as box:
        session_id = (await transcripts_of(api, box))[0].id
        box.faults = Faults.parse(f"{fault}=1")
        stubborn = Retry(attempts=3, attempts_at_first=3, base_seconds=0, cap_seconds=0)
        async with client_of(api, box, retry=stubborn) as client:
            for name, call in calls(client, api, session_id).items():
                if (fault, name) == ("wrong-shape", "session"):
                    # Whose rows may lack nearly everything, an object of another kind is a row.
                    continue
                box.counts.reset()
                error = await refused(call)
                assert isinstance(error, ENDLESS[fault])
                assert error.attempts == 3
                assert box.counts.total >= 3


# The key.


@pytest.mark.parametrize("fault", KINDS)
async def test_no_fault_brings_the_key_to_light(api, fault, leaks):
    faults = Faults(retry_after=99, slow_seconds=99, huge_bytes=4 << 20)
    options = {
        "retry": ONCE,
        "timeout": 0.1 if fault == "429-bare" else 30,
        "attempt_timeout": {"slow": 0.1, "hang": 0.1}.get(fault, 20),
        "body_limit": 1 << 20,
        "on_event": leaks,
    }
    turn = KINDS.index(fault)
    async with Sandbox(a_world(), faults=faults) as box:
        session_id = (await transcripts_of(api, box))[0].id
        for number, name in enumerate(("sessions", "session", "messages")):
            async with client_of(api, box, KEYS[(turn + number) % len(KEYS)], **options) as client:
                leaks.see(client)
                box.fail_next(fault, 100)
                error = await error_of(calls(client, api, session_id)[name](), leaks)
                box.forget_planned()
                leaks.see(client.stats())
                # Of the others, not all can happen to every question.
                if fault not in PAGE_FAULTS and (fault, name) != ("wrong-shape", "session"):
                    assert isinstance(error, NavTalkError)


async def test_no_success_leaves_the_key_behind(api, leaks):
    for key in KEYS:
        async with Sandbox(a_world(), keys={key}) as box:
            reported = in_order(await transcripts_of(api, box, key))
            async with client_of(api, box, key, on_event=[leaks, leaks.tracing]) as client:
                listing = client.list_sessions(**api.filters)
                leaks.see(listing)
                leaks.see(await listing)
                assert await everything(client, api) == reported
                leaks.see(client.stats())


@pytest.mark.parametrize("key", KEYS)
async def test_no_archive_and_no_file_holds_the_key(api, key, tmp_path, leaks):
    async with Sandbox(a_world(), faults=Faults(echo_key=0.02), seed=3) as box:
        async with client_of(api, box, key, on_event=[leaks, leaks.tracing]) as client:
            async with Archive.open(tmp_path / "archive.db") as store:
                for _ in range(8):
                    await error_of(sync(client, store, **scope_of(api)), leaks)
                await export(store, tmp_path)
                leaks.see(await store.failures("default"))
        assert box.counts.faults["echo-key"]
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) >= 3
    assert [file for file in written if b"CANARY" in file.read_bytes()] == []


# Cancellation.


WAYS = {
    "list": lambda client, api, _: rows(client.list_sessions(**api.filters)),
    "messages": lambda client, _, session_id: rows(client.list_messages(session_id)),
    "pool": lambda client, api, _: everything(client, api),
}


@settings(PATIENTLY, max_examples=examples(10))
@given(more=st.integers(1, 40), way=st.sampled_from(sorted(WAYS)), is_held=st.booleans())
async def test_who_is_cancelled_at_any_moment_leaves_nothing_behind_and_a_client_that_works(
    api, until, more, way, is_held
):
    async with Sandbox(a_world(), answers=Answers(max_page=5)) as box:
        reported = await transcripts_of(api, box)
        async with client_of(api, box) as client:
            before = asyncio.all_tasks()
            if is_held:
                box.hold()
            await cancelled_after(box, 1 if is_held else more, WAYS[way](client, api, longest(reported).id))
            assert [each for each in asyncio.all_tasks() - before if "web_protocol" not in repr(each)] == []
            await until(lambda: box.counts.in_flight == 0)
            box.release()
            assert await everything(client, api) == in_order(reported)


async def test_who_is_cancelled_is_not_heard_of_again(api, quiet_loop):
    asyncio.get_running_loop().set_debug(True)
    async with quiet_loop(), Sandbox(a_world(12), answers=Answers(max_page=5)) as box:
        async with client_of(api, box) as client:
            [first, *_] = (await client.list_sessions(**api.filters)).items
            for way in WAYS.values():
                for more in (1, 4):
                    await cancelled_after(box, more, way(client, api, first.id))
