"""What holds of every API alike, as it is kept: by syncs that are stopped, in files, and by the command."""

import json
from datetime import UTC, datetime
from tempfile import mkdtemp

from apis import transcripts_of
from archive_contents import assert_matches_api
from changes import Clock, apply_change, changes_of
from command_runs import command_runner, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import (
    CONCURRENCY,
    PATIENTLY,
    a_world,
    answers_of,
    cancelled_after,
    client_of,
    longest,
    raw,
    scope_of,
)
from profiles import examples
from shell import KEY
from snapshots import stored_at

from navtalk_async.archive import Archive
from navtalk_async.dialects import dialect_of
from navtalk_async.formats import export
from navtalk_async.ingest import sync
from navtalk_async.sandbox import Answers, Sandbox, World
from navtalk_async.verification import verify

# Going on.


async def synced(api, box, address, **options):
    async with client_of(api, box, **options.pop("client", {})) as client, Archive.open(address) as store:
        return await sync(client, store, **scope_of(api), **{"concurrency": CONCURRENCY, **options})


@settings(PATIENTLY, max_examples=examples(10))
@given(more=st.integers(0, 70), again=st.integers(0, 40), max_page=st.sampled_from([None, 6]))
async def test_a_sync_that_is_stopped_at_any_moment_is_gone_on_with(api, tmp_path, more, again, max_page):
    address = f"{mkdtemp(dir=tmp_path)}/archive.db"
    async with Sandbox(a_world(40), answers=Answers(max_page=max_page)) as box:
        reported = await transcripts_of(api, box)
        asked = []
        for each in (more, again):
            box.counts.reset()
            await cancelled_after(box, each, synced(api, box, address))
            # Where nothing is left to go on with, the next run is a new round.
            asked = [*asked, +box.counts.messages_by_session] if await is_under_way(address) else []
        box.counts.reset()
        await synced(api, box, address)
        await assert_matches_api(address, reported)
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
        reported = await transcripts_of(api, box)
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
            await assert_matches_api(address, reported)


# Sync.


async def assert_sound(api, box, store, reported):
    """What the store says of itself, of its API and in files is what it holds."""
    async with client_of(api, box) as client:
        report = await verify(store.path, client=client, remote=1)
        assert report.findings == []
        assert report.notes == []
        assert (report.checked.sessions, report.checked.asked) == (
            (await store.counts("default")).sessions,
            len(reported),
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
            reported = await transcripts_of(api, box)
            ever |= {each.id for each in reported}
            kept = await assert_matches_api(address, reported)
            assert kept.keys() == ever
            for each in reported:
                assert_columns(api, kept[each.id], each)
            clock.on(minutes=20)
        async with Archive.open(address) as store:
            await assert_sound(api, box, store, reported)


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


def assert_columns(api, kept, reported):
    """Every column of a session and its messages says what the API says."""
    others = ("status", "title", "user_id", "start_time", "end_time", "updated_at", "video_url")
    columns(kept.session, reported.session, api.session_columns, others)
    assert kept.session.id == reported.id
    assert kept.session.api == api.name
    assert [row.position for row in kept.messages] == list(range(len(reported.messages)))
    for row, message in zip(kept.messages, reported.messages, strict=True):
        columns(row, message, api.message_columns, ())
        assert row.session_id == reported.id


def columns(row, reported, fields, others):
    for name, field in fields.items():
        if field in reported:
            assert getattr(row, name) == as_column(name, reported[field])
    for name in others:
        assert name in fields or getattr(row, name) is None


async def test_a_sync_that_finds_nothing_new_writes_nothing_and_asks_for_little(api, address):
    clock = Clock()
    async with Sandbox(a_world(40), clock=clock) as box:
        for hours in range(5):
            begun = box.world.add_session(start_time=clock.before(hours=hours), status=0)
            box.world.add_message(begun["id"], "hello", created_at=clock.before(minutes=1))
        for _ in range(3):
            await synced(api, box, address)
            clock.on(minutes=5)
        reported = await transcripts_of(api, box)
        before = await stored_at(address)
        box.counts.reset()
        report = await synced(api, box, address)
        assert await stored_at(address) == before
        assert not any((report.inserted, report.changed, report.vanished, report.messages_inserted))
        assert not any((report.messages_changed, report.messages_vanished, report.failed))
        read = {each.id for each in reported if api.is_always_reread(each.session)}
        assert box.counts.messages_by_session.keys() == read
        await assert_matches_api(address, reported)


async def test_what_is_deleted_at_the_api_is_kept_and_marked(api, tmp_path):
    clock, address = Clock(), tmp_path / "archive.db"
    async with Sandbox(World(0), clock=clock) as box:
        for number in range(20):
            begun = box.world.add_session(start_time=clock.before(hours=number), status=0)
            box.world.add_message(begun["id"], "hello")
        await synced(api, box, address)
        reported = await transcripts_of(api, box)
        clock.on(minutes=20)
        for each in reported[::2]:
            box.world.remove_session(each.id)
        report = await synced(api, box, address)
        gone = {each.id for each in reported[::2]}
        assert report.vanished == len(gone) > 2
        kept = await assert_matches_api(address, reported[1::2])
        assert {name for name, row in kept.items() if row.session.deleted_at is not None} == gone
        assert {name: raw(row.messages) for name, row in kept.items()} == {
            each.id: each.messages for each in reported
        }


async def test_a_file_has_every_column_and_under_extra_everything_else(api, tmp_path):
    async with Sandbox(a_world(unknown_fields=True)) as box:
        reported = {each.id: each for each in await transcripts_of(api, box)}
        await synced(api, box, tmp_path / "archive.db")
        async with Archive.open(tmp_path / "archive.db") as store:
            manifest = await export(store, tmp_path / "files")
        assert manifest.complete
        lines = [
            json.loads(each) for each in (tmp_path / "files/transcripts.jsonl").read_bytes().splitlines()
        ]
        assert sorted(each["id"] for each in lines) == sorted(reported)
        for line in lines:
            each = reported[line["id"]]
            assert_line(line, each.session, api.session_columns)
            for message, said in zip(line["messages"], each.messages, strict=True):
                assert_line(message, said, api.message_columns)


def assert_line(line, reported, fields):
    for name, field in fields.items():
        if field in reported:
            assert line[name] == as_column(name, reported[field])
    assert line.get("extra", {}) == {name: reported[name] for name in reported.keys() - set(fields.values())}


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
        reported = await transcripts_of(api, box)
        most = longest(reported)

        async def done(*arguments, **options):
            run = await command(api, box, commands, *arguments, "--json", **options)
            assert run.code == 0, (arguments, run.err)
            return run.rows

        [plan] = await done("plan")
        assert plan["listed"]["sessions"] == len(reported)
        for new in (len(reported), 0):
            [summary] = await done("export", tmp_path)
            assert (summary["complete"], summary["run"]["inserted"]) == (True, new)
            assert (summary["kept"]["sessions"], summary["kept"]["messages"]) == (
                len(reported),
                sum(len(each.messages) for each in reported),
            )
        await assert_matches_api(tmp_path / "archive.db", reported)
        await done("verify", tmp_path, "--remote", "100%", scoped=False)
        assert [each["id"] for each in await done("sessions")] == [each.id for each in reported]
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
