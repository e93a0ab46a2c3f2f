"""`navtalk export` and `sync` as people and scripts meet them: processes, against a sandbox over sockets."""

import json
from hashlib import sha256

from exported import truth, written
from shell import navtalk
from snapshots import files_in

from navtalk_async.archive import Archive
from navtalk_async.sandbox import Answers, Faults, Sandbox, World


async def test_an_export_equals_the_api_whatever_fails_and_however_the_api_answers(tmp_path):
    faults = Faults.parse("500=1%,429=1%,reset=1%,cut=1%,garbage=1%")
    answers = Answers(cursor_on_last_page=False, errors="body", max_page=40)
    async with Sandbox(sessions=150, seed=3, faults=faults, answers=answers) as box:
        done = await navtalk("export", tmp_path, "--json", box=box)
        assert done.code == 0
        assert written(tmp_path) == truth(box.world)
        [summary] = done.rows
        assert summary["kept"] == {
            "sessions": 150,
            "messages": box.world.total_messages,
            "pending": 0,
            "failed": [],
            "unfollowed": 0,
            "watched": sum(each["status"] == 0 for each in box.world.sessions),
            "deleted": 0,
            "listed": True,
        }
        assert (summary["exit_code"], summary["complete"]) == (0, True)
        assert summary["run"]["inserted"] == summary["run"]["done"] == 150
        assert 150 < summary["run"]["requests"] <= box.counts.total
        [file] = summary["files"]
        assert file["sha256"] == sha256((tmp_path / "transcripts.jsonl").read_bytes()).hexdigest()
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["files"] == [file]
        assert manifest["complete"] is True


async def test_a_second_export_fetches_only_new_sessions(tmp_path):
    async with Sandbox(World(120, messages=3)) as box:
        first = await navtalk("export", tmp_path, "--format", "jsonl,jsonl", box=box)
        assert (first.code, first.out) == (0, "")
        assert f"{tmp_path}/archive.db holds 120 sessions with 360 messages." in first.err
        assert f"{tmp_path}/transcripts.jsonl: 120 rows" in first.err
        box.counts.reset()
        fresh = box.world.add_session()
        box.world.add_message(fresh["id"], "the news")
        second = await navtalk("export", tmp_path, "--json", box=box)
        assert (second.rows[0]["run"]["inserted"], second.rows[0]["run"]["changed"]) == (1, 0)
        assert box.counts.total < 30
        assert written(tmp_path) == truth(box.world)


async def test_an_export_with_nothing_new_touches_nothing_and_says_so(tmp_path):
    world = World(20, messages=3)
    for status in (0, 0, 1):
        begun = world.add_session(status=status)
        world.add_message(begun["id"], "hello")
    async with Sandbox(world) as box:
        for project in ("one", "two"):
            assert (await navtalk("export", tmp_path, "--project", project, box=box)).code == 0
        # The second project's export is news for the manifest of the first.
        for project in ("one", "two"):
            before = files_in(tmp_path)
            said = (await navtalk("export", tmp_path, "--project", project, box=box)).err
    assert files_in(tmp_path) == before
    assert before.keys() == {"archive.db", "manifest.json", "transcripts.jsonl", "transcripts.two.jsonl"}
    assert f"{tmp_path}/transcripts.two.jsonl: 23 rows" in said
    assert "manifest.json is unchanged (checksums of every file)." in said


async def test_the_embedded_sandbox_needs_no_key_and_is_the_same_every_time(tmp_path):
    alone = {"NAVTALK_API_KEY": None, "NAVTALK_BASE_URL": "http://127.0.0.1:1"}
    first = await navtalk("export", tmp_path, "--sandbox", "--json", env=alone)
    second = await navtalk("export", tmp_path, "--sandbox", "--json", env=alone)
    assert [first.code, second.code] == [0, 0]
    assert first.rows[0]["run"]["inserted"] == first.rows[0]["kept"]["sessions"] >= 500
    assert second.rows[0]["run"]["inserted"] == second.rows[0]["run"]["changed"] == 0
    assert written(tmp_path) == truth(World(600))


async def test_sync_updates_an_archive_and_writes_no_files(tmp_path):
    store = tmp_path / "deep" / "archive.db"
    async with Sandbox(World(50, messages=2)) as box:
        done = await navtalk("sync", store, "--json", "--project", "mine", box=box)
        assert (done.code, done.rows[0]["project"], done.rows[0]["files"]) == (0, "mine", [])
        assert not list(tmp_path.glob("**/*.json*"))
        async with Archive.open(store) as opened:
            assert (await opened.counts("mine")).messages == 100


async def test_filters_select_what_is_exported_and_are_in_the_manifest(tmp_path):
    async with Sandbox(World(100)) as box:
        filters = ("--start", "2025-11-10T02:00:00+02:00", "--status", "failed", "--role", "assistant")
        assert (await navtalk("export", tmp_path, *filters, box=box)).code == 0
        wanted = [
            each
            for each in box.world.sessions
            if each["startTime"] >= "2025-11-10 00:00:00" and each["status"] == 2
        ]
        assert wanted
        assert written(tmp_path) == truth(box.world, wanted, role=1)
        assert json.loads((tmp_path / "manifest.json").read_text())["filters"] == {
            "start": "2025-11-10T00:00:00Z",
            "status": "failed",
            "role": "assistant",
        }


async def test_only_the_named_sessions_are_exported(tmp_path):
    async with Sandbox(World(30)) as box:
        chosen = [box.world.sessions[20], box.world.sessions[4]]
        names = [word for row in chosen for word in ("--session", row["id"])]
        assert (await navtalk("export", tmp_path, *names, box=box)).code == 0
        assert written(tmp_path) == truth(box.world, chosen[::-1])
        again = await navtalk("export", tmp_path, *names[2:], *names[:2], box=box)
        assert again.code == 0
