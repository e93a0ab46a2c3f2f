"""`navtalk status` as people and scripts meet it."""

import json
import signal

import pytest
from shell import KEY, NO_KEY, navtalk, requests_arrived, result_of, start_command

from navtalk_async.archive import Archive
from navtalk_async.archive.records import FailedSession, ProjectInfo, RunReport
from navtalk_async.cli._inspect import run_states
from navtalk_async.sandbox import Sandbox, World


async def test_status_shows_an_archive_and_changes_nothing(out):
    before = {each.name: (each.read_bytes(), each.stat().st_mtime_ns) for each in out.iterdir()}
    for place in (out, out / "archive.db"):
        done = await navtalk("status", place, env=NO_KEY)
        assert done.code == 0
        assert "default (navtalk, everything): 40 sessions with 120 messages." in done.out
        assert "Finished 1 round, up to" in done.out
        assert "; rounds that find nothing new are not recorded." in done.out
        assert "The last recorded run began" in done.out
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
    assert (project["last_run"]["inserted"], project["idle_runs_recorded"]) == (40, False)
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
            assert project["running"]["state"] == "running"
            assert project["running"]["process"].startswith(f"{process.pid} on ")
            process.send_signal(signal.SIGHUP)
            stopped = await result_of(process)
            assert (stopped.code, "hung up (SIGHUP). Stopped." in stopped.err) == (129, True)
        people = await navtalk("status", tmp_path / "archive.db", env=NO_KEY)
        assert "was stopped" in people.out
        assert "going on" not in people.out


def project_whose_run(*, ended, project="default", began="2026-01-02T00:00:00Z"):
    run = RunReport(began_at=began, ended_at="2026-01-02T00:01:00Z" if ended else None, process="7 on host")
    return ProjectInfo(
        project=project,
        api="navtalk",
        server=None,
        scope="{}",
        watermark=None,
        rounds=0,
        changes=0,
        round=None,
        last_run=run,
    )


@pytest.mark.parametrize(
    ("ended", "is_held", "state"),
    [(False, True, "running"), (True, True, "waiting"), (False, False, "killed"), (True, False, "ended")],
)
def test_the_lock_says_whether_a_run_that_did_not_end_is_going_on(ended, is_held, state):
    [found] = run_states([project_whose_run(ended=ended)], (is_held, 1.0)).values()
    # What holds the archive and has written nothing need not be the process of the last run.
    assert (found["state"], found.get("process")) == (state, None if state == "waiting" else "7 on host")
    assert found.get("last_wrote") == ("1970-01-01T00:00:01Z" if state == "killed" else None)


def test_of_two_projects_in_an_archive_in_use_the_one_that_began_last_is_running():
    killed = project_whose_run(ended=False, project="a", began="2026-01-01T00:00:00Z")
    found = run_states([killed, project_whose_run(ended=False, project="b")], (True, 1.0))
    assert (found["a"]["state"], found["b"]["state"]) == ("killed", "running")


async def test_status_of_another_file_is_a_sentence(tmp_path):
    (tmp_path / "some.db").write_bytes(b"no database " * 100)
    done = await navtalk("status", tmp_path / "some.db", env=NO_KEY)
    assert done.code == 2
    assert "no archive" in done.err
    assert KEY not in json.dumps(done.out)
