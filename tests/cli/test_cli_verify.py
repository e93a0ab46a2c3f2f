"""`navtalk verify` and `navtalk status` as people and scripts meet them."""

import json
import os
import signal
import sqlite3
from contextlib import closing

import pytest
from postgres_box import new_schema, run_sql
from shell import KEY, navtalk, requests_arrived, result_of, start_command

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession
from navtalk_async.sandbox import Sandbox, World

NO_KEY = {"NAVTALK_API_KEY": None}


@pytest.fixture
async def box():
    async with Sandbox(World(40, messages=3)) as box:
        yield box


@pytest.fixture
async def out(box, tmp_path):
    assert (await navtalk("export", tmp_path / "out", box=box)).code == 0
    return tmp_path / "out"


def damage(path, offset=None):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if offset is None else offset] ^= 1
    path.write_bytes(bytes(data))


async def test_a_good_export_needs_no_key_and_is_said_to_be_good(out):
    done = await navtalk("verify", out, env=NO_KEY)
    assert (done.code, done.out) == (0, "")
    assert f"{out}: nothing is wrong. Checked: 2 files" in done.err
    assert "40 sessions with 120 messages" in done.err
    quick = await navtalk("verify", out, "--quick", "--json", "--progress", "none", env=NO_KEY)
    [told] = quick.rows
    assert (quick.code, told["exit_code"], told["findings"], told["quick"]) == (0, 0, [], True)
    assert told["checked"]["files"] == 2


async def test_what_is_wrong_is_told_with_what_to_do_and_exit_code_6_and_mended_by_the_same_export(out, box):
    damage(out / "transcripts.jsonl")
    done = await navtalk("verify", out, "--json", env=NO_KEY)
    assert (done.code, done.rows[0]["exit_code"]) == (6, 6)
    assert {each["where"] for each in done.rows[0]["findings"]} == {"transcripts.jsonl"}
    assert "its SHA-256 is another" in done.err
    assert "The same `navtalk export` writes the files again" in done.err
    assert (await navtalk("export", out, box=box)).code == 0
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0


async def test_the_first_findings_are_told_and_the_others_counted(out):
    change(out / "archive.db", "UPDATE messages SET content = 'x'")
    done = await navtalk("verify", out / "archive.db", "--json", env=NO_KEY)
    assert done.code == 6
    assert len(done.rows[0]["findings"]) == 120
    assert done.err.count("content differ") == 20
    assert "100 more; --json lists them all." in done.err


@pytest.mark.parametrize("name", ["manifest.json", "transcripts.jsonl", "archive.db"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe\x00nothing of ours", None])
async def test_a_file_that_is_none_is_a_finding_and_never_a_traceback(out, name, content):
    (out / name).unlink()
    if content is not None:
        (out / name).write_bytes(content)
    done = await navtalk("verify", out, env=NO_KEY)
    assert done.code == 6
    assert f"navtalk: {name}: " in done.err


async def test_a_store_that_is_none_is_a_finding(tmp_path):
    (tmp_path / "some.db").write_bytes(b"no database " * 100)
    done = await navtalk("verify", tmp_path / "some.db", env=NO_KEY)
    assert done.code == 6
    assert "some.db" in done.err
    assert "no archive" in done.err


async def test_a_place_that_is_not_there_is_wrong_usage(tmp_path):
    for command in ("verify", "status"):
        done = await navtalk(command, tmp_path / "nowhere", env=NO_KEY)
        assert done.code == 2
        assert "There is nothing at" in done.err
        done = await navtalk(command, tmp_path, env=NO_KEY)
        assert done.code == 2
        for address in ("mysql://user:secret@host/db", "postgresql://user:secret@127.0.0.1:9/db"):
            done = await navtalk(command, address, env=NO_KEY)
            assert done.code in (2, 5)
            assert "secret" not in done.err
    assert list(tmp_path.iterdir()) == []


async def test_a_key_is_asked_for_only_when_the_api_is(out):
    done = await navtalk("verify", out, "--remote", "5%", env=NO_KEY)
    assert done.code == 2
    assert "No API key" in done.err
    assert (await navtalk("verify", out, "--remote", "none", env=NO_KEY)).code == 2


async def test_a_stale_session_is_named_and_a_sync_brings_it_up_to_date(out, box):
    stale = next(each["id"] for each in box.world.sessions if each["status"] == 1)
    box.world.add_message(stale, "too late")
    done = await navtalk("verify", out, "--remote", "100%", "--json", box=box)
    assert done.code == 6
    [finding] = done.rows[0]["findings"]
    assert stale in finding["where"]
    assert finding["what"] == "stale: 1 of its messages is missing here"
    assert f"`navtalk verify {out} --remote 100% --repair`" in done.err
    few = await navtalk("verify", out, "--remote", "5", "--json", box=box)
    assert few.rows[0]["checked"]["asked"] == 2


async def test_a_session_that_the_api_does_not_give_is_named_and_the_others_verified(out, box):
    bad = box.world.sessions[0]["id"]
    box.fail_next("400", 1000, bad)
    done = await navtalk("verify", out, "--remote", "100%", "--json", box=box)
    assert done.code == done.rows[0]["exit_code"] == 3
    assert done.rows[0]["findings"] == []
    assert done.rows[0]["checked"]["unasked"] == 1
    assert done.rows[0]["checked"]["asked"] == len(box.world.sessions) - 1
    assert bad in done.err
    assert "nothing is wrong with what could be checked" in done.err
    damage(out / "transcripts.jsonl")
    assert (await navtalk("verify", out, "--remote", "100%", box=box)).code == 6


async def test_a_server_that_fails_is_told_after_what_was_found(out, box):
    damage(out / "transcripts.jsonl")
    box.fail_next("500", 1000)
    done = await navtalk("verify", out, "--remote", "5%", "--timeout", "1", "--json", box=box)
    assert done.code == 5
    assert done.rows[0]["findings"]
    assert done.rows[0]["error"].startswith("DeadlineExceeded")


async def test_only_a_project_that_is_there_can_be_verified(out):
    assert (await navtalk("verify", out, "--project", "default", env=NO_KEY)).code == 0
    done = await navtalk("verify", out, "--project", "other", env=NO_KEY)
    assert done.code == 2
    assert "'default'" in done.err


# Status.


async def test_status_tells_what_is_there_and_changes_nothing(out):
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in out.iterdir()}
    for place in (out, out / "archive.db"):
        done = await navtalk("status", place, env=NO_KEY)
        assert done.code == 0
        assert "default (navtalk, everything): 40 sessions with 120 messages." in done.out
        assert "Finished 1 round, up to" in done.out
        assert "40 new, 0 changed" in done.out
    assert {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in out.iterdir()} == before


async def test_status_tells_all_as_json(out):
    async with Archive.open(out / "archive.db") as store:
        await store.record_failures(
            "default", [FailedSession(f"id-{number}", "ServerError: 500", 8) for number in range(7)]
        )
    done = await navtalk("status", out, "--json", env=NO_KEY)
    [told] = done.rows
    [project] = told["projects"]
    assert (told["command"], told["exit_code"], project["project"]) == ("status", 0, "default")
    assert (project["counts"]["sessions"], project["counts"]["failed"]) == (40, 7)
    assert project["failed"][0] == {"id": "id-0", "reason": "ServerError: 500", "attempts": 8}
    assert project["filters"] == {}
    assert project["last_run"]["inserted"] == 40
    people = (await navtalk("status", out, env=NO_KEY)).out
    assert people.count("8 attempts: ServerError: 500") == 5
    assert "2 more failed" in people
    assert (await navtalk("status", out, "--project", "other", env=NO_KEY)).code == 2


async def test_status_of_an_archive_that_a_worker_holds_tells_how_far_it_is(tmp_path):
    async with Sandbox(World(200, messages=3), latency=0.02) as box:
        arguments = ("sync", tmp_path / "archive.db", "--concurrency", "2")
        async with start_command(*arguments, box=box) as process:
            await requests_arrived(box, 40, process)
            done = await navtalk("status", tmp_path / "archive.db", "--json", env=NO_KEY)
            assert done.code == 0
            [project] = done.rows[0]["projects"]
            assert project["round"]["began"]
            assert project["counts"]["pending"] > 0
            process.send_signal(signal.SIGTERM)
            await result_of(process)
        people = await navtalk("status", tmp_path / "archive.db", env=NO_KEY)
        assert "was stopped" in people.out
        assert "stopped" in people.out


async def test_status_of_what_is_no_archive_is_a_sentence(tmp_path):
    (tmp_path / "some.db").write_bytes(b"no database " * 100)
    done = await navtalk("status", tmp_path / "some.db", env=NO_KEY)
    assert done.code == 2
    assert "no archive" in done.err
    assert KEY not in json.dumps(done.out)


# Repair.


def change(path, statement):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


HARM = {
    "a text": "UPDATE messages SET content = 'wrong' WHERE rowid IN (SELECT rowid FROM messages LIMIT 2)",
    "a session gone": "DELETE FROM sessions WHERE rowid = 3",
    "messages gone": "DELETE FROM messages WHERE rowid < 10",
}


@pytest.mark.parametrize("harm", HARM)
async def test_what_is_damaged_is_repaired_with_the_files_and_told(out, box, harm):
    good = (out / "transcripts.jsonl").read_bytes()
    change(out / "archive.db", HARM[harm])
    found = await navtalk("verify", out, env=NO_KEY)
    assert found.code == 6
    assert f"`navtalk verify {out} --repair` fetches again" in found.err
    assert "put back" not in found.err
    assert (await navtalk("verify", out, "--repair", env=NO_KEY)).code == 2
    done = await navtalk("verify", out, "--repair", "--json", box=box)
    [told] = done.rows
    assert (done.code, told["findings"]) == (0, [])
    assert told["repaired"] > 0
    assert f"Repaired {told['repaired']} session" in done.err
    assert len(told["repaired_sessions"]) == told["repaired"]
    assert told["repaired_sessions"][0] in done.err
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0
    assert (out / "transcripts.jsonl").read_bytes() == good


@pytest.mark.parametrize("name", ["transcripts.jsonl", "manifest.json"])
async def test_a_file_that_was_damaged_or_lost_is_written_anew(out, box, name):
    for harm in (damage, lambda path: path.unlink()):
        harm(out / name)
        done = await navtalk("verify", out, "--repair", "--json", box=box)
        assert (done.code, done.rows[0]["repaired"]) == (0, 0)
        assert (await navtalk("verify", out, env=NO_KEY)).code == 0


async def test_a_session_that_a_damaged_index_hides_is_not_exported_twice(out, box):
    path = out / "archive.db"
    good = (out / "transcripts.jsonl").read_bytes()
    with closing(sqlite3.connect(path)) as db:
        [(root,)] = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_sessions_1'"
        )
        [(size,)] = db.execute("PRAGMA page_size")
        [(session_id,)] = db.execute("SELECT id FROM sessions ORDER BY start_time DESC LIMIT 1")
    data = bytearray(path.read_bytes())
    data[data.index(session_id.encode(), (root - 1) * size) + 4] ^= 1
    path.write_bytes(data)
    done = await navtalk("export", out, box=box)
    assert done.code == 0
    assert (out / "transcripts.jsonl").read_bytes() == good
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0


@pytest.mark.parametrize("name", ["transcripts.jsonl", "manifest.json"])
async def test_a_pipe_instead_of_a_file_is_told_and_not_waited_for(out, name):
    (out / name).unlink()
    os.mkfifo(out / name)
    found = await navtalk("verify", out, env=NO_KEY)
    assert found.code == 6
    assert f"{name}: cannot be read: it is no file" in found.err


async def test_what_is_stale_or_missing_is_repaired_where_the_api_is_asked(out, box):
    stale = next(each["id"] for each in box.world.sessions if each["status"] == 1)
    box.world.add_message(stale, "too late")
    box.world.add_session()
    done = await navtalk("verify", out, "--remote", "100%", "--repair", "--json", box=box)
    assert (done.code, done.rows[0]["findings"]) == (0, [])
    assert done.rows[0]["repaired"] >= 2
    again = await navtalk("verify", out, "--remote", "100%", "--json", box=box)
    assert (again.code, again.rows[0]["findings"], again.rows[0]["notes"]) == (0, [], [])


async def test_what_cannot_be_fetched_again_is_named_and_left(out, box):
    with closing(sqlite3.connect(out / "archive.db")) as db:
        [(bad,)] = db.execute("SELECT session_id FROM messages LIMIT 1")
    change(out / "archive.db", HARM["a text"])
    box.fail_next("400", 1000, bad)
    done = await navtalk("verify", out, "--repair", box=box)
    assert done.code == 6
    assert bad in done.err
    exported = await navtalk("export", out, box=box)
    assert exported.code == 3
    assert bad in exported.err
    assert "left out of the files" in exported.err
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["complete"], [each["id"] for each in manifest["failed"]]) == (False, [bad])
    assert bad not in (out / "transcripts.jsonl").read_text()


@pytest.mark.parametrize("options", [(), ("--reconcile",), ("--retry-failed",)])
@pytest.mark.parametrize("harm", HARM)
async def test_an_export_fetches_again_what_is_damaged(out, box, harm, options):
    good = (out / "transcripts.jsonl").read_bytes()
    change(out / "archive.db", HARM[harm])
    done = await navtalk("export", out, *options, box=box)
    assert done.code == 0
    assert options or "fetching again" in done.err
    assert (out / "transcripts.jsonl").read_bytes() == good
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0


async def test_an_archive_that_cannot_be_read_is_not_vouched_for_and_not_repaired(out, box):
    path = out / "archive.db"
    path.write_bytes(path.read_bytes()[:4096] + bytes(4096) * 20)
    assert (await navtalk("export", out, box=box)).code == 2
    assert not (out / "manifest.json").exists()
    done = await navtalk("verify", out, "--repair", box=box)
    assert done.code == 6
    assert "cannot be repaired" in done.err


async def test_verify_says_what_failed_and_is_not_there(box, tmp_path):
    box.fail_next("400", 1000, "/messages")
    assert (await navtalk("export", tmp_path / "out", box=box)).code == 3
    done = await navtalk("verify", tmp_path / "out", env=NO_KEY)
    assert done.code == 0
    assert "40 sessions failed" in done.err
    assert "--retry-failed" in done.err


async def test_an_empty_path_is_wrong_usage(box, tmp_path):
    for command in ("export", "sync", "verify", "status"):
        done = await navtalk(command, "", box=None if command == "status" else box, cwd=tmp_path)
        assert done.code == 2
        assert "The path is empty" in done.err
    assert list(tmp_path.iterdir()) == []
    assert box.counts.total == 0


async def test_what_no_export_wrote_is_refused_before_anything_is_asked(box, tmp_path):
    (tmp_path / "manifest.json").write_text('{"name": "my web app"}')
    done = await navtalk("export", tmp_path, box=box)
    assert done.code == 2
    assert "--overwrite" in done.err
    assert box.counts.total == 0
    assert [each.name for each in tmp_path.iterdir()] == ["manifest.json"]
    assert (await navtalk("export", tmp_path, "--overwrite", box=box)).code == 0


async def test_a_database_is_repaired_by_its_address(box, postgres):
    address = await new_schema(postgres)
    assert (await navtalk("sync", address, box=box)).code == 0
    await run_sql(address, "UPDATE messages SET content = 'wrong' WHERE position = 1")
    assert (await navtalk("verify", address, env=NO_KEY)).code == 6
    done = await navtalk("verify", address, "--repair", "--json", box=box)
    assert (done.code, done.rows[0]["repaired"], done.rows[0]["findings"]) == (0, 40, [])
    assert (await navtalk("verify", address, "--remote", "5%", box=box)).code == 0


async def test_projects_of_several_apis_are_repaired_one_by_one(box, tmp_path):
    out = tmp_path / "out"
    kodey = ("--api", "kodey", "--base-url", box.kodey_url)
    env = {"KODEY_API_KEY": KEY, "NAVTALK_BASE_URL": None}
    assert (await navtalk("export", out, "--project", "one", box=box)).code == 0
    assert (await navtalk("export", out, "--project", "two", *kodey, env=env)).code == 0
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0
    change(out / "archive.db", "UPDATE messages SET content = 'wrong' WHERE position = 1")
    first = await navtalk("verify", out, "--repair", "--json", box=box)
    assert first.code == 6
    assert {each["project"] for each in first.rows[0]["findings"]} == {"two"}
    assert "give --api" in first.err
    second = await navtalk("verify", out, "--repair", "--json", *kodey, env=env)
    assert (second.code, second.rows[0]["findings"]) == (0, [])
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0
    # Who names a project is told of no other.
    (out / "transcripts.two.jsonl").unlink()
    assert (await navtalk("verify", out, "--project", "one", env=NO_KEY)).code == 0
    assert (await navtalk("verify", out, "--project", "two", env=NO_KEY)).code == 6
