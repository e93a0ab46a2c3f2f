"""`navtalk verify --repair`, and an export that fetches again what is damaged."""

import json
import os
import sqlite3
from contextlib import closing

import pytest
from damaged import change, damage
from postgres_box import new_schema, run_sql
from shell import KEY, NO_KEY, navtalk

from navtalk_async.sandbox import World

HARM = {
    "a text": "UPDATE messages SET content = 'wrong' WHERE rowid IN (SELECT rowid FROM messages LIMIT 2)",
    "a session gone": "DELETE FROM sessions WHERE rowid = 3",
    "messages gone": "DELETE FROM messages WHERE rowid < 10",
}


@pytest.mark.parametrize("harm", HARM)
async def test_damage_is_repaired_with_the_files_and_reported(out, box, harm):
    good = (out / "transcripts.jsonl").read_bytes()
    change(out / "archive.db", HARM[harm])
    found = await navtalk("verify", out, env=NO_KEY)
    assert found.code == 6
    assert f"`navtalk verify {out} --repair` fetches again" in found.err
    assert "put back" not in found.err
    assert (await navtalk("verify", out, "--repair", env=NO_KEY)).code == 2
    done = await navtalk("verify", out, "--repair", "--json", box=box)
    [reported] = done.rows
    assert (done.code, reported["findings"]) == (0, [])
    assert reported["repaired"] > 0
    assert f"Repaired {reported['repaired']} session" in done.err
    assert len(reported["repaired_sessions"]) == reported["repaired"]
    assert reported["repaired_sessions"][0] in done.err
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0
    assert (out / "transcripts.jsonl").read_bytes() == good


@pytest.mark.parametrize("name", ["transcripts.jsonl", "manifest.json"])
async def test_a_damaged_or_lost_file_is_written_again(out, box, name):
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
async def test_a_pipe_instead_of_a_file_is_reported_and_not_read(out, name):
    (out / name).unlink()
    os.mkfifo(out / name)
    found = await navtalk("verify", out, env=NO_KEY)
    assert found.code == 6
    assert f"{name}: cannot be read: it is no file" in found.err


async def test_stale_and_missing_sessions_are_repaired_with_remote(out, box):
    stale = next(each["id"] for each in box.world.sessions if each["status"] == 1)
    box.world.add_message(stale, "too late")
    box.world.add_session()
    done = await navtalk("verify", out, "--remote", "100%", "--repair", "--json", box=box)
    assert (done.code, done.rows[0]["findings"]) == (0, [])
    assert done.rows[0]["repaired"] >= 2
    again = await navtalk("verify", out, "--remote", "100%", "--json", box=box)
    assert (again.code, again.rows[0]["findings"], again.rows[0]["notes"]) == (0, [], [])


async def test_a_session_that_cannot_be_fetched_again_is_named_and_left_out(out, box):
    with closing(sqlite3.connect(out / "archive.db")) as db:
        # The first row of what is harmed, by whichever index the database finds it.
        first = "(SELECT rowid FROM messages LIMIT 1)"
        [(bad,)] = db.execute(f"SELECT session_id FROM messages WHERE rowid = {first}")
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


async def test_an_unreadable_archive_has_no_manifest_and_is_not_repaired(out, box):
    path = out / "archive.db"
    path.write_bytes(path.read_bytes()[:4096] + bytes(4096) * 20)
    assert (await navtalk("export", out, box=box)).code == 2
    assert not (out / "manifest.json").exists()
    done = await navtalk("verify", out, "--repair", box=box)
    assert done.code == 6
    assert "cannot be repaired" in done.err


async def test_a_database_is_repaired_by_its_address(box, postgres):
    address = await new_schema(postgres)
    assert (await navtalk("sync", address, box=box)).code == 0
    await run_sql(address, "UPDATE messages SET content = 'wrong' WHERE position = 1")
    assert (await navtalk("verify", address, env=NO_KEY)).code == 6
    done = await navtalk("verify", address, "--repair", "--json", box=box)
    assert (done.code, done.rows[0]["repaired"], done.rows[0]["findings"]) == (0, 40, [])
    assert (await navtalk("verify", address, "--remote", "5%", box=box)).code == 0


@pytest.mark.slow
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
    assert "(--api)" in first.err
    second = await navtalk("verify", out, "--repair", "--json", *kodey, env=env)
    assert (second.code, second.rows[0]["findings"]) == (0, [])
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0
    # Who names a project is told of no other.
    (out / "transcripts.two.jsonl").unlink()
    assert (await navtalk("verify", out, "--project", "one", env=NO_KEY)).code == 0
    assert (await navtalk("verify", out, "--project", "two", env=NO_KEY)).code == 6


async def test_a_repair_with_the_key_of_another_project_is_refused_with_the_next_step(box, tmp_path):
    out, second = tmp_path / "out", {"NAVTALK_API_KEY": "second"}
    box.keys = {KEY: box.world, "second": World(12, messages=3, seed=1)}
    assert (await navtalk("export", out, box=box)).code == 0
    assert (await navtalk("export", out, "--project", "two", box=box, env=second)).code == 0
    stale = next(each["id"] for each in box.world.sessions if each["status"] == 1)
    box.world.add_message(stale, "too late")
    first = await navtalk("verify", out, "--remote", "100%", "--repair", "--json", box=box)
    [reported] = first.rows
    assert (first.code, reported["repaired_sessions"]) == (6, [stale])
    assert {(each["project"], each["remedy"]) for each in reported["findings"]} == {("two", "key")}
    again = await navtalk("verify", out, "--remote", "100%", box=box)
    assert again.code == 6
    for done in (first, again):
        assert "the key is of another project" in done.err
        assert f"`navtalk verify {out} --project NAME --remote 100%` with the key of that project" in done.err
        assert "--repair" not in done.err
        assert "nothing is wrong" not in done.err
    alone = await navtalk("verify", out, "--remote", "100%", "--repair", box=box)
    assert alone.code == 2
    assert "nothing is wrong" not in alone.err
    right = await navtalk(
        "verify", out, "--project", "two", "--remote", "100%", "--json", box=box, env=second
    )
    assert (right.code, right.rows[0]["findings"], right.rows[0]["notes"]) == (0, [], [])
