"""`navtalk changes` and `navtalk history` as people and scripts meet them."""

import json
import os
import signal

import pytest
from shell import NO_KEY, navtalk, start_command


async def changes(*arguments):
    done = await navtalk("changes", *arguments, env=NO_KEY)
    assert done.code == 0, done.err
    return done.rows


async def tokens(out):
    return [each["token"] for each in await changes(out)]


async def test_each_line_is_a_session_as_in_the_files_with_its_messages(out):
    lines = [json.loads(line) for line in (out / "transcripts.jsonl").read_bytes().splitlines()]
    printed = await changes(out)
    assert {each["what"] for each in printed} == {"new"}
    assert all(each["changed"] == each["gone"] == [] for each in printed)
    found = [{**each["session"], "messages": each["new"]} for each in printed]
    by_id = {each["id"]: each for each in lines}
    assert {each["id"]: each for each in found} == by_id
    whole = await changes(out, "--transcripts")
    assert {each["session"]["id"]: each["session"] for each in whole} == by_id


@pytest.mark.parametrize("number", [0, 20, 38, 39])
async def test_after_the_token_of_a_line_come_the_lines_behind_it(out, number):
    printed = await changes(out)
    assert await changes(out, "--after", printed[number]["token"]) == printed[number + 1 :]


async def test_a_consumer_is_given_each_change_once_and_status_shows_how_far_it_is(out, box):
    assert len(await changes(out, "--consumer", "it")) == 40
    assert await changes(out, "--consumer", "it") == []
    name = box.world.sessions[3]["id"]
    box.world.change_message(name, box.world.messages(name)[0]["id"], content="corrected")
    box.world.change_session(name, status=2)
    await navtalk("sync", out / "archive.db", "--reconcile", box=box)
    [status] = (await navtalk("status", out, "--json", env=NO_KEY)).rows
    [consumer] = status["consumers"]
    assert (consumer["name"], consumer["project"], consumer["behind"]) == ("it", None, 1)
    assert "Consumer it: 1 session behind, " in (await navtalk("status", out, env=NO_KEY)).out
    [line] = await changes(out, "--consumer", "it")
    assert (line["what"], line["session"]["id"], line["new"], line["gone"]) == ("changed", name, [], [])
    assert [each["content"] for each in line["changed"]] == ["corrected"]
    done = await navtalk("history", out, name, "--json", env=NO_KEY)
    assert [(each["reason"], each["id"]) for each in done.rows] == [("edited", line["changed"][0]["id"])]
    assert "edited" in (await navtalk("history", out, name, env=NO_KEY)).out
    assert (await navtalk("changes", out, "--consumer", "it", "--drop", env=NO_KEY)).code == 0
    assert len(await changes(out, "--consumer", "it")) == 40


async def test_an_acknowledgement_is_no_damage_to_an_export(out, box):
    for arguments in (["--consumer", "it"], ["--consumer", "other"], ["--consumer", "it", "--drop"]):
        assert (await navtalk("changes", out, *arguments, env=NO_KEY)).code == 0
        done = await navtalk("verify", out, env=NO_KEY)
        assert done.code == 0, done.err
    assert (await navtalk("export", out, box=box)).code == 0
    assert (await navtalk("verify", out, env=NO_KEY)).code == 0


async def test_a_closed_pipe_acknowledges_nothing(out):
    reading, writing = os.pipe()
    os.close(reading)
    async with start_command("changes", out, "--consumer", "it", env=NO_KEY, stdout=writing) as process:
        os.close(writing)
        assert await process.wait() == 0
    assert len(await changes(out, "--consumer", "it")) == 40


async def test_to_follow_is_ended_by_a_signal_and_loses_nothing(out, box):
    async with start_command("changes", out, "--consumer", "it", "--follow", env=NO_KEY) as process:
        seen = [json.loads(await process.stdout.readline()) for _ in range(40)]
        added = box.world.add_session(start_time="2025-12-12 10:00:00", status=1)
        await navtalk("sync", out / "archive.db", box=box)
        seen.append(json.loads(await process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
    assert seen[-1]["session"]["id"] == added["id"]
    # The last line may have been written and not yet acknowledged.
    assert await changes(out, "--consumer", "it") in ([], seen[-1:])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--after", "bad"], "'bad' is no token: give that of a line"),
        (["--after", ""], "'' is no token"),
        (["--after", "OTHER"], "is of another archive"),
        (["--consumer", "it", "--after", "OWN"], "Give either --after or --consumer"),
        (["--drop"], "--drop goes with --consumer alone"),
        (["--consumer", "nobody", "--drop"], "The archive has no consumer 'nobody'; it has none."),
    ],
)
async def test_what_cannot_be_right_is_refused_and_changes_nothing(out, box, tmp_path, arguments, said):
    other = tmp_path / "other"
    assert (await navtalk("export", other, box=box)).code == 0
    given = {"OTHER": (await tokens(other))[-1], "OWN": (await tokens(out))[-1]}
    before = (out / "archive.db").read_bytes()
    done = await navtalk("changes", out, *(given.get(each, each) for each in arguments), env=NO_KEY)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert (out / "archive.db").read_bytes() == before


async def test_the_history_of_a_session_that_is_not_there_is_refused(out):
    done = await navtalk("history", out, "nobody", env=NO_KEY)
    assert (done.code, done.err) == (
        2,
        "navtalk: The archive holds no session nobody in the project 'default'.\n",
    )
