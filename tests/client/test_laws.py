"""What holds of every API alike: one suite for all of them, a row each in `apis`."""

import asyncio
import json
import pickle
from datetime import UTC, datetime
from inspect import signature
from tempfile import mkdtemp

import pytest
from apis import APIS, sessions_of, transcripts_of
from archive_contents import assert_matches_api
from changes import FAULT_KINDS, Clock, apply_change, arrived_or_over, changes_of
from command_runs import command_runner, settled
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from key_leaks import KEYS, error_of
from profiles import examples
from shell import KEY

from navtalk_async import Retry, SessionPool
from navtalk_async.archive import Archive
from navtalk_async.client import Client
from navtalk_async.dialects import dialect_of
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
from navtalk_async.verification import verify

PATIENT = Retry(attempts=40, attempts_at_first=40, base_seconds=0.0, cap_seconds=0.0)
ONCE = Retry(attempts=1, attempts_at_first=1)
CONCURRENCY = 4

# An example takes hundreds of requests: too many to look for a smaller one.
PATIENTLY = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(params=APIS, ids=str)
def api(request):
    """Each API in turn."""
    return request.param


@pytest.fixture(autouse=True)
async def untraced():
    """Tens of thousands of requests are too many for every step of theirs to be traced."""
    asyncio.get_running_loop().set_debug(False)


def client_of(api, box, key="k", **options):
    return Client(dialect_of(api.name), key, base_url=box.url_of(api.name), **{"retry": PATIENT} | options)


def a_world(sessions=24, **options):
    """One whose sessions have as many messages as fill some pages, or none."""
    return World(sessions, **{"messages": lambda number: number * 5 % 13, **options})


def answers_of(api):
    """All that the sandbox may answer to what is unknown of *api*, in any combination."""
    fields = {name: st.sampled_from(values) for name, values in api.answers.items()}
    return st.builds(Answers, **fields).filter(api.is_complete)


def one_by_one(api):
    """Every answer to every unknown, while all others are as they usually are."""
    return [Answers(**{name: value}) for name, values in api.answers.items() for value in values]


def a_page_of(limit, ask):
    """The filter for pages of *limit* rows, where the API lets itself be asked for them."""
    return {"limit": limit} if "limit" in signature(ask).parameters else {}


def scope_of(api):
    return {"user_id": api.filters.get("user_id")}


def raw(rows):
    return [json.loads(row.raw) for row in rows]


async def rows(listing):
    return [row async for row in listing]


async def everything(client, api, *, order="listed", **options):
    """What a pool makes of all there is: sessions, and the messages of each."""
    async with SessionPool(client, **options).transcripts(order=order, **api.filters) as transcripts:
        return [(json.loads(each.session.raw), raw(each.messages)) async for each in transcripts]


def longest(told):
    """The session that says most."""
    return max(told, key=lambda each: len(each.messages))


def in_order(told):
    return [(each.session, each.messages) for each in told]


def as_set(pairs):
    return sorted(json.dumps(each, sort_keys=True) for each in pairs)


# Paging.


async def assert_paged(api, box, limit):
    told = await transcripts_of(api, box)
    assert len(told) == len({each.id for each in told}) > 5
    async with client_of(api, box) as client:
        sessions = client.list_sessions(**api.filters, **a_page_of(limit, client.dialect.list_sessions))
        first = await sessions
        rest = await rows(sessions.resume(first.token))
        assert raw([*first.items, *rest]) == raw(await rows(sessions)) == [each.session for each in told]
        most = longest(told)
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
        told = await sessions_of(api, box)
        async with client_of(api, box) as client:
            filters = api.filters | a_page_of(5, client.dialect.list_sessions)
            for way in ("auto", "serial"):
                pool = SessionPool(client, listing=way)
                async with pool.sessions(**filters) as listed:
                    assert raw(await rows(listed)) == told
                async with pool.sessions(order="done", **filters) as done:
                    assert as_set(raw(await rows(done))) == as_set(told)


@pytest.mark.parametrize("way", ["auto", "serial"])
async def test_transcripts_come_in_the_order_of_the_list_or_as_they_are_done(api, way):
    async with Sandbox(a_world(40)) as box:
        told = in_order(await transcripts_of(api, box))
        async with client_of(api, box) as client:
            assert await everything(client, api, listing=way) == told
            assert as_set(await everything(client, api, listing=way, order="done")) == as_set(told)


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
        told = in_order(await transcripts_of(api, box))
        box.faults = Faults.parse(",".join(f"{kind}={chance}" for kind, chance in chances.items()))
        async with client_of(api, box, concurrency=8) as client:
            assert await everything(client, api) == told
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
            told = in_order(await transcripts_of(api, box, key))
            async with client_of(api, box, key, on_event=leaks) as client:
                listing = client.list_sessions(**api.filters)
                leaks.see(listing)
                leaks.see(await listing)
                assert await everything(client, api) == told
                leaks.see(client.stats())


@pytest.mark.parametrize("key", KEYS)
async def test_no_archive_and_no_file_holds_the_key(api, key, tmp_path, leaks):
    async with Sandbox(a_world(), faults=Faults(echo_key=0.02), seed=3) as box:
        async with client_of(api, box, key, on_event=leaks) as client:
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


async def cancelled_after(box, more, work):
    """Cancel *work* as soon as so many requests more have arrived; whether it had to be."""
    run = asyncio.create_task(work)
    await arrived_or_over(box, more, run)
    was_cancelled = run.cancel()
    await asyncio.wait([run])
    if not run.cancelled():
        run.result()
    return was_cancelled


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
        told = await transcripts_of(api, box)
        async with client_of(api, box) as client:
            before = asyncio.all_tasks()
            if is_held:
                box.hold()
            await cancelled_after(box, 1 if is_held else more, WAYS[way](client, api, longest(told).id))
            assert [each for each in asyncio.all_tasks() - before if "web_protocol" not in repr(each)] == []
            await until(lambda: box.counts.in_flight == 0)
            box.release()
            assert await everything(client, api) == in_order(told)


async def test_who_is_cancelled_is_not_heard_of_again(api, quiet_loop):
    asyncio.get_running_loop().set_debug(True)
    async with quiet_loop(), Sandbox(a_world(12), answers=Answers(max_page=5)) as box:
        async with client_of(api, box) as client:
            [first, *_] = (await client.list_sessions(**api.filters)).items
            for way in WAYS.values():
                for more in (1, 4):
                    await cancelled_after(box, more, way(client, api, first.id))


# Going on.


async def synced(api, box, address, **options):
    async with client_of(api, box, **options.pop("client", {})) as client, Archive.open(address) as store:
        return await sync(client, store, **scope_of(api), **{"concurrency": CONCURRENCY, **options})


@settings(PATIENTLY, max_examples=examples(10))
@given(more=st.integers(0, 70), again=st.integers(0, 40), max_page=st.sampled_from([None, 6]))
async def test_a_sync_that_is_stopped_at_any_moment_is_gone_on_with(api, tmp_path, more, again, max_page):
    address = f"{mkdtemp(dir=tmp_path)}/archive.db"
    async with Sandbox(a_world(40), answers=Answers(max_page=max_page)) as box:
        told = await transcripts_of(api, box)
        asked = []
        for each in (more, again):
            box.counts.reset()
            await cancelled_after(box, each, synced(api, box, address))
            # Where nothing is left to go on with, the next run is a new round.
            asked = [*asked, +box.counts.messages_by_session] if await is_under_way(address) else []
        box.counts.reset()
        await synced(api, box, address)
        await assert_matches_api(address, told)
        asked.append(+box.counts.messages_by_session)
        for number, before in enumerate(asked):
            later = set().union(*asked[number + 1 :])
            assert len(before.keys() & later) <= CONCURRENCY


async def is_under_way(address):
    """Whether a run has left a round open."""
    async with Archive.open(address) as store:
        return any(each.round for each in await store.projects())


async def test_a_run_that_is_killed_before_it_commits_is_gone_on_with(api, tmp_path):
    async with Sandbox(a_world(40)) as box, command_runner() as commands:
        told = await transcripts_of(api, box)
        whole = await command(api, box, commands, "sync", tmp_path / "whole.db", armed=True)
        assert whole.code == 0, whole.err
        places = {name for name in whole.arrivals if name.endswith(": before commit")}
        assert len(places) >= 3
        for number, name in enumerate(sorted(places)):
            address = tmp_path / f"{number}.db"
            killed = await command(api, box, commands, "sync", address, end=[name, 1])
            assert killed.code == -9, killed.err
            await settled(box)
            again = await command(api, box, commands, "sync", address)
            assert again.code == 0, again.err
            await assert_matches_api(address, told)


# Sync.


async def assert_sound(api, box, store, told):
    """What the store says of itself, of its API and in files is what it holds."""
    async with client_of(api, box) as client:
        report = await verify(store.path, client=client, remote=1)
        assert report.findings == []
        assert report.notes == []
        assert (report.checked.sessions, report.checked.asked) == (
            (await store.counts("default")).sessions,
            len(told),
        )


@settings(PATIENTLY, max_examples=examples(6))
@given(data=st.data(), seed=st.integers(0, 99))
async def test_after_every_sync_the_store_holds_what_the_server_has(api, tmp_path, data, seed):
    clock, address = Clock(), f"{mkdtemp(dir=tmp_path)}/archive.db"
    world = World(12, seed, mean_messages=4, unknown_fields=seed % 2 == 1)
    for hours in range(9):
        begun = world.add_session(start_time=clock.before(hours=3 * hours), status=hours % 2)
        world.add_message(begun["id"], "hello")
    ever = set()
    async with Sandbox(world, seed=seed, answers=data.draw(answers_of(api)), clock=clock) as box:
        for _ in range(3):
            for change in data.draw(changes_of(api.changes)):
                apply_change(world, clock, change, open_only=api.open_only)
            await synced(api, box, address)
            told = await transcripts_of(api, box)
            ever |= {each.id for each in told}
            kept = await assert_matches_api(address, told)
            assert kept.keys() == ever
            for each in told:
                assert_columns(api, kept[each.id], each)
            clock.on(minutes=20)
        async with Archive.open(address) as store:
            await assert_sound(api, box, store, told)


WORDS = {"status": ("active", "completed", "failed"), "role": ("user", "assistant")}
TIMES = {"start_time", "end_time", "created_at", "updated_at"}


def as_column(name, value):
    """The API's *value* as the column *name* has it."""
    if isinstance(value, int) and name in WORDS:
        return dict(enumerate(WORDS[name])).get(value, value)
    if name in TIMES and value is not None:
        moment = datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.isoformat().replace("+00:00", "Z")
    return value


def assert_columns(api, kept, told):
    """Every column of a session and its messages says what the API says."""
    others = ("status", "title", "user_id", "start_time", "end_time", "updated_at", "video_url")
    columns(kept.session, told.session, api.session_columns, others)
    assert kept.session.id == told.id
    assert kept.session.api == api.name
    assert [row.position for row in kept.messages] == list(range(len(told.messages)))
    for row, message in zip(kept.messages, told.messages, strict=True):
        columns(row, message, api.message_columns, ())
        assert row.session_id == told.id


def columns(row, told, fields, others):
    for name, field in fields.items():
        if field in told:
            assert getattr(row, name) == as_column(name, told[field])
    for name in others:
        assert name in fields or getattr(row, name) is None


async def rows_of(address):
    async with Archive.open(address) as store:
        held = [each async for some in store.transcript_batches("default") for each in some]
        [about] = await store.projects()
    return held, about.changes


async def test_a_sync_that_finds_nothing_new_writes_nothing_and_asks_for_little(api, tmp_path):
    clock, address = Clock(), tmp_path / "archive.db"
    async with Sandbox(a_world(40), clock=clock) as box:
        for hours in range(5):
            begun = box.world.add_session(start_time=clock.before(hours=hours), status=0)
            box.world.add_message(begun["id"], "hello", created_at=clock.before(minutes=1))
        for _ in range(3):
            await synced(api, box, address)
            clock.on(minutes=5)
        told = await transcripts_of(api, box)
        before, changes = await rows_of(address)
        box.counts.reset()
        report = await synced(api, box, address)
        assert await rows_of(address) == (before, changes + 1)
        assert not any((report.inserted, report.changed, report.vanished, report.messages_inserted))
        assert not any((report.messages_changed, report.messages_vanished, report.failed))
        read = {each.id for each in told if api.is_always_reread(each.session)}
        assert box.counts.messages_by_session.keys() == read
        await assert_matches_api(address, told)


async def test_what_is_deleted_at_the_api_is_kept_and_marked(api, tmp_path):
    clock, address = Clock(), tmp_path / "archive.db"
    async with Sandbox(World(0), clock=clock) as box:
        for number in range(20):
            begun = box.world.add_session(start_time=clock.before(hours=number), status=0)
            box.world.add_message(begun["id"], "hello")
        await synced(api, box, address)
        told = await transcripts_of(api, box)
        clock.on(minutes=20)
        for each in told[::2]:
            box.world.remove_session(each.id)
        report = await synced(api, box, address)
        gone = {each.id for each in told[::2]}
        assert report.vanished == len(gone) > 2
        kept = await assert_matches_api(address, told[1::2])
        assert {name for name, row in kept.items() if row.session.deleted_at is not None} == gone
        assert {name: raw(row.messages) for name, row in kept.items()} == {
            each.id: each.messages for each in told
        }


async def test_a_file_has_every_column_and_under_extra_everything_else(api, tmp_path):
    async with Sandbox(a_world(unknown_fields=True)) as box:
        told = {each.id: each for each in await transcripts_of(api, box)}
        await synced(api, box, tmp_path / "archive.db")
        async with Archive.open(tmp_path / "archive.db") as store:
            manifest = await export(store, tmp_path / "files")
        assert manifest.complete
        lines = [
            json.loads(each) for each in (tmp_path / "files/transcripts.jsonl").read_bytes().splitlines()
        ]
        assert sorted(each["id"] for each in lines) == sorted(told)
        for line in lines:
            each = told[line["id"]]
            assert_line(line, each.session, api.session_columns)
            for message, said in zip(line["messages"], each.messages, strict=True):
                assert_line(message, said, api.message_columns)


def assert_line(line, told, fields):
    for name, field in fields.items():
        if field in told:
            assert line[name] == as_column(name, told[field])
    assert line.get("extra", {}) == {name: told[name] for name in told.keys() - set(fields.values())}


# The command.

OPTIONS = {"user_id": "--user"}


def environment_of(api, key=KEY):
    return {dialect_of(api.name).key_variable: key}


async def command(api, box, commands, *arguments, scoped=True, env=None, **options):
    """A run of the command on *api* in *box*, or in the sandbox of its own."""
    name, *others = arguments
    where = ["--base-url", box.url_of(api.name)] if box else ["--sandbox"]
    scope = [word for each, value in api.filters.items() for word in (OPTIONS[each], value)] if scoped else []
    run = await commands.run(
        *(name, *others, "--api", api.name, *where, *scope, "--progress", "none"),
        env=environment_of(api) if env is None else env,
        **options,
    )
    assert KEY not in run.out + run.err
    return run


async def test_the_command_exports_verifies_and_shows_what_there_is(api, tmp_path):
    async with Sandbox(a_world(40)) as box, command_runner() as commands:
        told = await transcripts_of(api, box)
        most = longest(told)

        async def done(*arguments, **options):
            run = await command(api, box, commands, *arguments, "--json", **options)
            assert run.code == 0, (arguments, run.err)
            return run.rows

        [plan] = await done("plan")
        assert plan["listed"]["sessions"] == len(told)
        for new in (len(told), 0):
            [summary] = await done("export", tmp_path)
            assert (summary["complete"], summary["run"]["inserted"]) == (True, new)
            assert (summary["kept"]["sessions"], summary["kept"]["messages"]) == (
                len(told),
                sum(len(each.messages) for each in told),
            )
        await assert_matches_api(tmp_path / "archive.db", told)
        await done("verify", tmp_path, "--remote", "100%", scoped=False)
        assert [each["id"] for each in await done("sessions")] == [each.id for each in told]
        [session] = await done("session", most.id, scoped=False)
        assert session["id"] == most.id
        said = await done("messages", most.id, scoped=False)
        assert len(said) == len(most.messages)
        [transcript] = await done("transcript", most.id, scoped=False)
        assert transcript["messages"] == said
        await done("doctor")
        status = await commands.run("status", tmp_path, "--json", env={})
        assert (status.code, status.rows[0]["projects"][0]["api"]) == (0, api.name)


async def test_the_command_says_by_its_code_that_a_key_is_wrong(api, tmp_path):
    async with Sandbox(a_world(), keys={"another"}) as box, command_runner() as commands:
        for arguments in (["export", tmp_path], ["sessions"], ["plan"], ["doctor"]):
            run = await command(api, box, commands, *arguments)
            assert run.code == 4, (arguments, run.err)
            assert "Traceback" not in run.err


async def test_the_command_has_a_sandbox_for_every_api(api):
    async with command_runner() as commands:
        run = await command(api, None, commands, "sessions", "--json", env={})
        assert run.code == 0, run.err
        assert len(run.rows) > 100
