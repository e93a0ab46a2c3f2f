"""How the command fails: a code, a sentence, and everything saved that it had."""

import asyncio
import json
import re
import shlex

import pytest
from exported import truth, written
from shell import KEY, navtalk

from navtalk_async.archive import Archive
from navtalk_async.sandbox import Faults, Sandbox, World

FAILURES = {
    "400": (4, "Check the key and the parameters"),
    "echo-key": (4, "Check the key and the parameters"),
    "403": (4, "Check in the project's settings"),
    "404": (2, "Check the id"),
    "redirect": (2, "Check the base URL"),
    "500": (5, "500"),
    "429": (5, "429"),
    "hang": (5, "No whole answer"),
    "reset": (5, "try again"),
    "drop": (5, "try again"),
    "cut": (5, "cut off"),
    "garbage": (5, "not JSON"),
    "html": (5, "HTML page"),
    "wrong-shape": (5, "not what the API's reference says"),
    "repeat-cursor": (5, "leads back"),
}


@pytest.mark.parametrize("fault", FAILURES)
async def test_every_failure_is_an_exit_code_and_a_sentence_without_traceback_or_key(fault, tmp_path):
    code, words = FAILURES[fault]
    command = ("sessions",) if fault == "repeat-cursor" else ("export", tmp_path / "out", "-vv")
    async with Sandbox(sessions=3, faults=Faults.parse(f"{fault}=1")) as box:
        done = await navtalk(*command, "--timeout", 1, box=box)
    assert done.code == code
    *_, last = done.err.splitlines()
    assert last.startswith("navtalk: ")
    assert words in done.err
    assert not (tmp_path / "out" / "manifest.json").exists()


async def test_an_export_that_fails_half_way_saves_what_it_fetched_and_says_so(tmp_path):
    async with Sandbox(World(60, messages=1)) as box:
        box.fail_next("403", times=1000, path=box.world.sessions[50]["id"])
        broken = await navtalk("export", tmp_path, "--json", box=box)
        assert (broken.code, broken.rows[0]["exit_code"], broken.rows[0]["complete"]) == (4, 4, False)
        assert broken.rows[0]["error"].startswith("AccessDenied: ")
        assert "same command continues from there" in broken.err
        box.forget_planned()
        done = await navtalk("export", tmp_path, "--json", box=box)
        assert (done.code, done.rows[0]["run"]["resumed"]) == (0, True)
        assert written(tmp_path) == truth(box.world)


async def test_a_refused_key_is_reported_without_a_word_of_trying_again(tmp_path):
    async with Sandbox(World(5), keys={"another-key-altogether"}) as box:
        refused = await navtalk("export", tmp_path, "--progress", "plain", box=box)
    assert refused.code == 4
    assert "trying again" not in refused.err


async def test_a_call_that_gives_up_says_after_how_long_in_round_figures():
    async with Sandbox(sessions=3, faults=Faults.parse("500=1")) as box:
        failed = await navtalk("sessions", "--timeout", "1", box=box)
    assert failed.code == 5
    assert re.search(r"Gave up after (0\.\d+|1|1\.\d) of 1 s", failed.err)


async def test_a_server_that_is_not_there_can_be_tried_later():
    done = await navtalk("sessions", env={"NAVTALK_BASE_URL": "http://127.0.0.1:1"})
    assert done.code == 5
    assert re.match(r"navtalk: No connection to http://127.0.0.1:\d+: nothing listens there", done.err)


@pytest.mark.parametrize("style", [(), ("--json", "--progress", "json")])
async def test_failed_sessions_are_reported_and_can_be_retried(style, tmp_path):
    async with Sandbox(World(20, messages=2)) as box:
        lost = box.world.sessions[7]["id"]
        # It is asked for once: the answer would be the same.
        box.fail_next("400", path=f"messages?sessionId={lost}")
        partial = await navtalk("export", tmp_path, *style, box=box)
        assert partial.code == 3
        assert lost in partial.err
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert (manifest["complete"], [each["id"] for each in manifest["failed"]]) == (False, [lost])
        if style:
            assert [each["id"] for each in partial.rows[0]["kept"]["failed"]] == [lost]
            assert partial.rows[0]["complete"] is False
        assert (await navtalk("export", tmp_path, box=box)).code == 3
        assert (await navtalk("export", tmp_path, "--retry-failed", box=box)).code == 0
        assert written(tmp_path) == truth(box.world)


async def test_an_archive_in_use_is_left_alone(tmp_path):
    async with Sandbox(sessions=3) as box, Archive.open(tmp_path / "archive.db"):
        done = await navtalk("sync", tmp_path / "archive.db", "--json", box=box)
        assert (done.code, done.rows[0]["exit_code"], box.counts.total) == (11, 11, 0)
        assert "Another run is writing" in done.err
        assert "StoreLocked" in done.rows[0]["error"]


async def test_an_archive_of_something_else_is_refused(tmp_path):
    other, broken = tmp_path / "other.db", tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 1000)
    async with Sandbox(sessions=5, keys={KEY: World(5), "second": World(5, messages=1)}) as box:
        assert (await navtalk("sync", other, "--role", "user", box=box)).code == 0
        filters, damaged, beneath = await asyncio.gather(
            navtalk("sync", other, box=box),
            navtalk("sync", broken, box=box),
            navtalk("export", broken / "out", box=box),
        )
        assert [filters.code, damaged.code, beneath.code] == [2, 2, 2]
        box.keys = {KEY: World(5, seed=0), "second": World(0)}
        theirs = await navtalk("sync", other, "--role", "user", box=box, env={"NAVTALK_API_KEY": "second"})
        assert theirs.code == 2
        assert "another project" in theirs.err


async def test_an_archive_that_was_emptied_is_not_begun_anew_where_a_manifest_lists_it(tmp_path):
    place, alone = tmp_path / "archive.db", tmp_path / "alone.db"
    async with Sandbox(sessions=3) as box:
        assert (await navtalk("export", tmp_path, box=box)).code == 0
        place.write_bytes(b"")
        alone.touch()
        box.counts.reset()
        for command in (
            ("export", tmp_path),
            ("sync", place),
            ("sync", place, "--watch", "1s"),
            ("verify", tmp_path, "--repair"),
        ):
            refused = await navtalk(*command, box=box)
            assert refused.code == (6 if "verify" in command else 2), refused.err
            assert "archive.db is empty, and no archive any more" in refused.err
        assert (box.counts.total, place.read_bytes()) == (0, b"")
        assert (await navtalk("sync", alone, box=box)).code == 0


async def test_the_key_comes_from_a_file_or_a_command_rather_than_from_the_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"\n {KEY}\n")
    cat = shlex.join(["cat", str(file)])
    async with Sandbox(sessions=3, keys={KEY}) as box:
        wrong, of_file, of_command = await asyncio.gather(
            navtalk("sessions", box=box, env={"NAVTALK_API_KEY": "wrong"}),
            navtalk("sessions", "--api-key-file", file, box=box, env={"NAVTALK_API_KEY": "wrong"}),
            navtalk(*("sessions", "--api-key-command", cat), box=box, env={"NAVTALK_API_KEY": None}),
        )
    assert [wrong.code, of_file.code, of_command.code] == [4, 0, 0]
