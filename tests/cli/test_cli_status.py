"""`navtalk status` as people and scripts meet it."""

import json
import signal

from shell import KEY, NO_KEY, navtalk, requests_arrived, result_of, start_command

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession
from navtalk_async.sandbox import Sandbox, World


async def test_status_shows_an_archive_and_changes_nothing(out):
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in out.iterdir()}
    for place in (out, out / "archive.db"):
        done = await navtalk("status", place, env=NO_KEY)
        assert done.code == 0
        assert "default (navtalk, everything): 40 sessions with 120 messages." in done.out
        assert "Finished 1 round, up to" in done.out
        assert ": 40 new." in done.out
    assert {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in out.iterdir()} == before


async def test_status_prints_everything_as_json(out):
    async with Archive.open(out / "archive.db") as store:
        await store.record_failures(
            "default", [FailedSession(f"id-{number}", "ServerError: 500", 8) for number in range(7)]
        )
    done = await navtalk("status", out, "--json", env=NO_KEY)
    [reported] = done.rows
    [project] = reported["projects"]
    assert (reported["command"], reported["exit_code"], project["project"]) == ("status", 0, "default")
    assert (project["counts"]["sessions"], project["counts"]["failed"]) == (40, 7)
    assert project["failed"][0] == {"id": "id-0", "reason": "ServerError: 500", "attempts": 8}
    assert project["filters"] == {}
    assert project["last_run"]["inserted"] == 40
    people = (await navtalk("status", out, env=NO_KEY)).out
    assert people.count("8 attempts: ServerError: 500") == 5
    assert "2 more failed" in people
    assert (await navtalk("status", out, "--project", "other", env=NO_KEY)).code == 2


async def test_status_of_an_archive_in_use_shows_how_far_the_run_is(tmp_path):
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


async def test_status_of_another_file_is_a_sentence(tmp_path):
    (tmp_path / "some.db").write_bytes(b"no database " * 100)
    done = await navtalk("status", tmp_path / "some.db", env=NO_KEY)
    assert done.code == 2
    assert "no archive" in done.err
    assert KEY not in json.dumps(done.out)
