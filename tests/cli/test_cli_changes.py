"""`navtalk changes` and `navtalk history` as people and scripts meet them."""

import json
import os
import re
import signal

import pytest
from damaged import change
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


@pytest.mark.parametrize(
    "harm", ["messages SET raw = '{bad'", "messages SET content = x'fffe'", "sessions SET raw = 'x'"]
)
async def test_a_damaged_row_is_refused_and_not_handed_on(out, harm):
    change(out / "archive.db", f"UPDATE {harm}")
    for options in ([], ["--transcripts"], ["--consumer", "it"]):
        done = await navtalk("changes", out, *options, env=NO_KEY)
        assert (done.code, done.out, "is damaged; `navtalk verify" in done.err) == (2, "", True)


async def test_a_damaged_earlier_version_is_refused(out, box):
    name = box.world.sessions[3]["id"]
    box.world.change_message(name, box.world.messages(name)[0]["id"], content="corrected")
    box.world.change_session(name, status=2)
    await navtalk("sync", out / "archive.db", "--reconcile", box=box)
    change(out / "archive.db", "UPDATE message_history SET content = x'fffe'")
    done = await navtalk("history", out, name, "--json", env=NO_KEY)
    assert (done.code, done.out, "is damaged; `navtalk verify" in done.err) == (2, "", True)


async def test_what_is_personal_is_redacted_or_replaced_by_pseudonyms_of_a_key_in_a_file(out, box, tmp_path):
    name = box.world.sessions[3]["id"]
    text = "Mail bob@example.com or call +49 30 901820."
    box.world.change_message(name, box.world.messages(name)[0]["id"], content=text)
    box.world.change_session(name, status=2)
    await navtalk("sync", out / "archive.db", "--reconcile", box=box)
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef\n")
    key.chmod(0o600)

    async def said(*options):
        found = [
            message["content"]
            for line in await changes(out, *options)
            for message in line["session"].get("messages", line.get("new", []))
            if message["content"] and "Mail" in message["content"]
        ]
        return found[-1]

    for lists in ([], ["--transcripts"]):
        assert await said(*lists) == text
        assert await said("--redact", "emails,phones", *lists) == "Mail [email] or call [phone]."
        assert await said("--redact", "emails", *lists) == "Mail [email] or call +49 30 901820."
        keyed = await said("--redact", "emails", "--redact", "phones", "--pseudonymize", key, *lists)
        assert re.fullmatch(r"Mail \[email:[a-p]{16}\] or call \[phone:[a-p]{16}\]\.", keyed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--redact", "names"],
            "'names' is not a kind; choose from emails, phones, cards, ibans, ips, urls, or all.",
        ),
        (["--pseudonymize", "absent"], "absent cannot be read: No such file"),
        (["--pseudonymize", "short"], "short must hold 16 to 65536 bytes."),
        (["--pseudonymize", ""], "The path is empty."),
    ],
)
async def test_an_unknown_kind_and_an_unusable_key_are_refused(out, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    tmp_path.joinpath("short").write_bytes(b"0123456789\n")
    done = await navtalk("changes", out, *options, env=NO_KEY)
    assert (done.code, done.out) == (2, "")
    assert message in done.err


async def test_a_key_that_others_can_read_is_warned_of(out, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef")
    key.chmod(0o644)
    done = await navtalk("changes", out, "--pseudonymize", key, env=NO_KEY)
    assert done.code == 0
    assert "can be read by others; chmod 600 it." in done.err
