"""`navtalk sync --watch`, as a supervisor meets it: a process that goes on."""

import json
import signal

import pytest
from shell import KEY, navtalk, result_of, start_command, stderr_line

from navtalk_async.archive import Archive
from navtalk_async.cli._watch import round_line
from navtalk_async.errors import ServerError, StoreLocked
from navtalk_async.ingest import RoundResult, RunReport
from navtalk_async.sandbox import Sandbox, World


async def sessions(path):
    async with Archive.open(path) as store:
        return [each.session.id async for some in store.transcript_batches("default") for each in some]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
async def test_a_worker_runs_until_a_signal_and_saves_everything(number, code, tmp_path):
    path = tmp_path / "archive.db"
    async with Sandbox(World(30, messages=2)) as box:
        async with start_command("sync", path, "--watch", "10ms", "--progress", "plain", box=box) as worker:
            await stderr_line(worker, r"Round 1: 30 new")
            new = box.world.add_session()
            await stderr_line(worker, r" 1 new,")
            worker.send_signal(number)
            end = await result_of(worker)
        assert end.code == code
        assert "the same command continues from there" in end.err
        assert new["id"] in await sessions(path)


async def test_a_worker_stopped_in_a_round_has_saved_what_it_fetched(tmp_path):
    path = tmp_path / "archive.db"
    async with Sandbox(World(200, messages=2), latency=0.005) as box:
        async with start_command("sync", path, "--watch", "1s", "--concurrency", "4", box=box) as worker:
            await box.arrived(100)
            worker.send_signal(signal.SIGTERM)
            assert (await result_of(worker)).code == 143
        fetched = box.counts.by_kind["messages"]
        done = await navtalk("sync", path, "--concurrency", "4", "--json", box=box)
        assert json.loads(done.out)["run"]["resumed"]
        assert box.counts.by_kind["messages"] - fetched < 400
        assert await sessions(path) == [session["id"] for session in box.world.sessions]


async def test_a_worker_whose_key_is_rotated_in_its_file_uses_the_new_one(tmp_path):
    path, file = tmp_path / "archive.db", tmp_path / "key"
    file.write_text(KEY)
    async with Sandbox(keys={KEY: World(5, 1), "CANARY-another-key": World(5, 1)}) as box:
        options = ("--watch", "10ms", "--progress", "plain", "--api-key-file", file)
        async with start_command("sync", path, *options, box=box, env={"NAVTALK_API_KEY": None}) as worker:
            await stderr_line(worker, r"Round 1: 5 new")
            file.write_text("CANARY-another-key")
            box.keys = {"CANARY-another-key": World(5, 1)}
            await stderr_line(worker, r"failed: BadRequest")
            await stderr_line(worker, r"no changes, ")
            worker.terminate()
            end = await result_of(worker)
        assert end.code == 143
        assert "CANARY" not in end.err


async def test_a_worker_reports_an_object_a_round_with_progress_json(tmp_path):
    async with Sandbox(World(5, messages=2)) as box:
        options = ("--watch", "20ms", "--progress", "json")
        async with start_command("sync", tmp_path / "a.db", *options, box=box) as worker:
            first = json.loads(await stderr_line(worker, '"round"'))
            worker.terminate()
            await result_of(worker)
    assert (first["outcome"], first["inserted"], first["messages_inserted"]) == ("done", 5, 10)


async def test_a_worker_stands_by_and_takes_over_from_one_that_is_killed(address):
    options = ("sync", address, "--watch", "10ms", "--progress", "plain")
    async with Sandbox(World(5, messages=1)) as box, start_command(*options, box=box) as first:
        await stderr_line(first, r"Round 1: 5 new")
        async with start_command(*options, box=box) as second:
            await stderr_line(second, r"Another run is writing to .* Standing by")
            first.kill()
            await result_of(first)
            new = box.world.add_session()
            await stderr_line(second, r"Round 2: 1 new")
            second.terminate()
            assert (await result_of(second)).code == 143
    assert new["id"] in await sessions(address)


@pytest.mark.parametrize(
    "options",
    [("--watch", "soon"), ("--metrics-port", "9108"), ("--watch", "1s", "--json"), ("--overlap", "-1h")],
)
async def test_nonsense_for_a_worker_is_refused_before_any_request(options, tmp_path):
    async with Sandbox(World(5)) as box:
        assert (await navtalk("sync", tmp_path / "a.db", *options, box=box)).code == 2
        assert box.counts.total == 0


async def test_reconcile_finds_sessions_that_were_deleted_long_ago(tmp_path):
    path = tmp_path / "a.db"
    async with Sandbox(World(300, messages=1)) as box:
        await navtalk("sync", path, box=box)
        box.world.remove_session(box.world.sessions[3]["id"])
        plain = json.loads((await navtalk("sync", path, "--json", box=box)).out)
        whole = json.loads((await navtalk("sync", path, "--reconcile", "--json", box=box)).out)
    assert (plain["run"]["vanished"], whole["run"]["vanished"]) == (0, 1)


def test_a_round_is_reported_in_a_sentence():
    done = RoundResult(1200, RunReport(inserted=1, messages_inserted=1, failed=2), None, 0, 0.42, 59.6)
    assert round_line(done) == (
        "Round 1,200: 1 new, 1 new message, 2 sessions failed, in 0.4 s; the next in 60 s."
    )
    locked = RoundResult(1, None, StoreLocked("Another run is writing to a.db."), 0, 0.1, 1.0)
    assert round_line(locked) == "Another run is writing to a.db. Standing by, to take over when it ends."
    failed = RoundResult(7, None, ServerError("The server answered 503."), 3, 1.0, 240.0)
    assert round_line(failed) == (
        "Round 7 failed (3 in a row): ServerError: The server answered 503. Trying again in 240 s."
    )


@pytest.mark.parametrize("command", ["sync", "status", "verify", "doctor --store"])
@pytest.mark.parametrize("address", ["postgresql:/u:secretpw@h/a", "mysql://u:secretpw@h/a"])
async def test_a_malformed_address_is_refused_without_its_password(command, address):
    done = await navtalk(*command.split(), address)
    assert done.code == 2
    assert "secretpw" not in done.err
